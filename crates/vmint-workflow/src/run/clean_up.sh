# The last command of a job: see set_up.rs.
if [ -n "$VMINT_HOOK" ]; then
	echo 'The script `cleanup` of vmint.toml:'
	sh -e "$VMINT_OWN/hook.sh" || exit
fi
while read -r name value unit; do
	case $name in
	MemTotal:) total=$value ;;
	MemAvailable:) echo "Memory: $((value / 1024)) of $((total / 1024)) MiB are left" ;;
	esac
done </proc/meminfo
set -- $(df -P -k / 2>/dev/null)
# The fourth value of the last line.
while [ $# -gt 6 ]; do shift; done
case ${4-x} in
*[!0-9]*) ;;
*) echo "Disk: $(($4 / 1024)) of $(($2 / 1024)) MiB are left" ;;
esac
