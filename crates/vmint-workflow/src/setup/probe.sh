# Makes the folders of a session, and says what this machine is and has. See probe.rs for what it is given and prints.
set -f
umask 022
newline='
'
tab=$(printf '\t')
IFS=$newline
for folder in ${VMINT_FOLDERS-}; do
	mkdir -p -- "$folder" || exit 3
	if [ -n "${VMINT_OWNER-}" ]; then
		chown -- "$VMINT_OWNER" "$folder" || exit 3
	fi
done

# Values are of one line: what follows a line break would be taken for another value.
say() {
	value=$2
	case $value in
	*"$newline"*) value=${value%%"$newline"*} ;;
	esac
	printf '%s=%s\n' "$1" "$value"
}

of_release() {
	[ -r /etc/os-release ] && sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" /etc/os-release
}

user=$(id -un 2>/dev/null || id -u)
home=${HOME-}
if [ -z "$home" ] && [ -r /etc/passwd ]; then
	home=$(sed -n "s/^$user:[^:]*:[^:]*:[^:]*:[^:]*:\([^:]*\):.*/\1/p" /etc/passwd)
fi

printf 'vmint-probe 1\n'
say boot_id "$(cat /proc/sys/kernel/random/boot_id)"
say user "$user"
say uid "$(id -u)"
say home "${home:-/}"
say path "$PATH"
say machine "$(uname -m)"
say system "$(uname -s)"
say distribution "$(of_release ID)"
say release "$(of_release VERSION_ID)"

# By hand: `command -v` of busybox names its applets without a path, and that of other shells their own words.
find_in_path() {
	IFS=:
	for folder in $PATH; do
		if [ -f "${folder:-.}/$1" ] && [ -x "${folder:-.}/$1" ]; then
			found=${folder:-.}/$1
			IFS=$newline
			return 0
		fi
	done
	IFS=$newline
	return 1
}

for program in ${VMINT_PROGRAMS-}; do
	if find_in_path "$program"; then
		say program "$program$tab$found$tab$(readlink -f -- "$found" 2>/dev/null)"
	fi
done
printf 'vmint-probe end\n'
