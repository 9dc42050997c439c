# Makes the folders of a session, and says what this machine is and has. See probe.rs for what it is given and prints.
# Under emulation a process costs five milliseconds; so whatever the shell itself can do, it does.
set -f
umask 022
newline='
'
tab='	'
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

# The first line of a file of the kernel's; nothing if there is none.
line_of() {
	line=
	[ -r "$1" ] && IFS= read -r line <"$1"
}

# The agent names who runs this. To read a file line by line is to call the kernel for each byte.
user=${USER-}
home=${HOME-}
uid=
[ "$user" = root ] && uid=0
if [ -z "$uid" ] || [ -n "${VMINT_OWNER-}" ]; then
	uid=${uid:-$(id -u)}
	user=
	# Who runs the steps, or this.
	while IFS=: read -r name _ number _ _ folder _; do
		case ${VMINT_OWNER-} in
		'') [ "$number" = "$uid" ] || continue ;;
		*) [ "$name" = "${VMINT_OWNER%%:*}" ] || [ "$number" = "${VMINT_OWNER%%:*}" ] || continue ;;
		esac
		user=$name
		[ -z "${VMINT_OWNER-}" ] && [ -n "$home" ] || home=$folder
		break
	done 2>/dev/null </etc/passwd
fi

printf 'vmint-probe 1\n'
line_of /proc/sys/kernel/random/boot_id
say boot_id "$line"
say user "${user:-${uid:-0}}"
say uid "${uid:-0}"
say home "${home:-/}"
say path "$PATH"
line_of /proc/sys/kernel/arch
[ -n "$line" ] || line=$(uname -m)
say machine "$line"
line_of /proc/sys/kernel/ostype
say system "$line"
# Made to be read by shells.
ID=
VERSION_ID=
[ -r /etc/os-release ] && . /etc/os-release
say distribution "$ID"
say release "$VERSION_ID"

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
		real=
		# Of these the folder matters that they really lie in.
		case $program in
		java | ruby | go) real=$(readlink -f -- "$found" 2>/dev/null) ;;
		esac
		say program "$program$tab$found$tab$real"
	fi
done
printf 'vmint-probe end\n'
