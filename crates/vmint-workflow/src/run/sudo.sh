#!/bin/sh
# Stands in for sudo in a machine whose steps are root, and whose image has none.
[ "$(id -u)" = 0 ] || {
	echo "sudo: the image has no sudo: add \"sudo\" to its packages in vmint.toml" >&2
	exit 1
}
while [ $# -gt 0 ]; do
	case $1 in
	-E | -H | -n | -S | -k | -K | --preserve-env | --preserve-env=* | --set-home | --non-interactive) shift ;;
	--) shift; break ;;
	-u | --user)
		[ "${2-}" = root ] || {
			echo "sudo: the image has no sudo, and its stand-in only knows root; install sudo, or use su" >&2
			exit 1
		}
		shift 2
		;;
	-v | --validate) exit 0 ;;
	-*)
		echo "sudo: the image has no sudo, and its stand-in does not know $1; add \"sudo\" to the image's packages" >&2
		exit 1
		;;
	*=*) export "$1"; shift ;;
	*) break ;;
	esac
done
[ $# -gt 0 ] || { echo "usage: sudo COMMAND" >&2; exit 1; }
exec "$@"
