#!/bin/sh
set -eu
test "$(./greeter.sh)" = 'Hello, world'
test "$(LANGUAGE=de_AT ./greeter.sh Resi)" = 'Hallo, Resi'
test "$(LANGUAGE=fr ./greeter.sh)" = 'Bonjour, world'
echo "3 tests passed"
