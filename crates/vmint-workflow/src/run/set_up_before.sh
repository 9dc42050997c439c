# The first command of a job: see set_up.rs.
if [ "$VMINT_BEGINS" = used ]; then
	# What the job before has left running goes, as on GitHub; it is known by a variable that all of its steps had.
	for environment in $(grep -l RUNNER_TRACKING_ID=vmint_ /proc/[0-9]*/environ 2>/dev/null); do
		pid=${environment#/proc/}
		kill -KILL "${pid%/environ}" 2>/dev/null
	done
	rm -rf -- "$VMINT_WORKSPACE"
	mkdir -p -- "$VMINT_WORKSPACE"
	[ -z "${VMINT_OWNER-}" ] || chown -- "$VMINT_OWNER" "$VMINT_WORKSPACE"
	for left in "$VMINT_TEMP"/* "$VMINT_TEMP"/.[!.]*; do
		case $left in
		*/_vmint | */_github_workflow) ;;
		*) rm -rf -- "$left" ;;
		esac
	done
fi
