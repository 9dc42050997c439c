if [ -n "$VMINT_HOOK" ]; then
	echo 'The script `setup` of vmint.toml:'
	cd "$VMINT_WORKSPACE" && exec sh -e "$VMINT_OWN/hook.sh"
fi
