# The last command of a job: see set_up.rs.
if [ -n "$VMINT_HOOK" ]; then
	echo 'The script `cleanup` of vmint.toml:'
	sh -e "$VMINT_TEMP/_vmint/hook.sh" || exit
fi
while read -r name value unit; do
	case $name in
	MemTotal:) total=$value ;;
	MemAvailable:) echo "Memory: $((value / 1024)) of $((total / 1024)) MiB are left" ;;
	esac
done </proc/meminfo
df -P -k / 2>/dev/null | while read -r device blocks used left rest; do
	case $left in
	*[!0-9]*) ;;
	*) echo "Disk: $((left / 1024)) of $((blocks / 1024)) MiB are left" ;;
	esac
done
