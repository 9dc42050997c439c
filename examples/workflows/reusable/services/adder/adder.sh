#!/bin/sh
# adder.sh NUMBER...: prints their sum.
set -eu
sum=0
for n; do
    case $n in
    '' | *[!0-9-]* | ?*-*)
        echo "adder: not a number: $n" >&2
        exit 2
        ;;
    esac
    sum=$((sum + n))
done
echo "$sum"
