set +f
IFS=' 
	'
mkdir -p -- "$VMINT_BIN" "${VMINT_SESSION%/*}"
printf '{"run":"%s"}\n' "$VMINT_RUN" >"$VMINT_SESSION"
if [ -z "${VMINT_OWNER-}" ] || [ "$VMINT_OWNER" = root ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		cp -- "$VMINT_TEMP/_vmint/sudo" "$VMINT_BIN/sudo"
		chmod 755 "$VMINT_BIN/sudo"
		echo 'The image has no sudo, and steps run as root: `sudo COMMAND` runs COMMAND.'
	fi
fi
if [ -n "$VMINT_HOOK" ]; then
	echo 'The script `setup` of vmint.toml:'
	cd "$VMINT_WORKSPACE" && exec sh -e "$VMINT_TEMP/_vmint/hook.sh"
fi
