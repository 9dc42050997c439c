#!/bin/sh
# greeter.sh [NAME]: greets, in the language of $LANGUAGE.
set -eu
case ${LANGUAGE:-en} in
de*) greeting=Hallo ;;
fr*) greeting=Bonjour ;;
*) greeting=Hello ;;
esac
echo "$greeting, ${1:-world}"
