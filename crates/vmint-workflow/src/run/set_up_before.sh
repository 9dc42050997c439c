# The first command of a job: see set_up.rs.
if [ "$VMINT_BEGINS" = used ]; then
	# What the job before has left running goes, as on GitHub; it is known by a variable that all of its steps had.
	for environment in /proc/[0-9]*/environ; do
		pid=${environment#/proc/}
		pid=${pid%/environ}
		[ "$pid" = $$ ] && continue
		if tr '\000' '\n' <"$environment" 2>/dev/null | grep -q '^RUNNER_TRACKING_ID=vmint_'; then
			kill -KILL "$pid" 2>/dev/null
		fi
	done
	rm -rf -- "$VMINT_WORKSPACE"
	for left in "$VMINT_TEMP"/* "$VMINT_TEMP"/.[!.]*; do
		case $left in
		*/_vmint | */_github_workflow) ;;
		*) rm -rf -- "$left" ;;
		esac
	done
fi
