#!/bin/sh
set -eu
test "$(./adder.sh 1 2 3)" = 6
test "$(./adder.sh -4 4)" = 0
test "$(./adder.sh)" = 0
! ./adder.sh one 2>/dev/null || exit 1
! ./adder.sh 1-1 2>/dev/null || exit 1
echo "5 tests passed"
