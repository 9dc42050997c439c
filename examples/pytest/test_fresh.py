"""A hundred tests, each with a machine of its own.

Half of them leave their machine in a state in which nobody would want to find it. The other half look for it, and see nothing: a
machine that was given back is not cleaned but made anew.
"""

from __future__ import annotations

import pytest
import vmint

# Each spoils its machine in a way of its own.
SPOIL = {
    "kill": "kill -9 -1",
    "fill-memory-disk": "dd if=/dev/zero of=/tmp/fill bs=64k 2>/dev/null; test $(df -k /tmp | awk 'END { print $4 }') -lt 128",
    "rewrite-etc": "echo 'root:x:0:0:evil:/:/bin/false' >/etc/passwd; echo 6.6.6.6 evil >/etc/hosts; rm -f /etc/group",
    "leave-processes": "for n in 1 2 3 4 5; do sleep 9999 >/dev/null 2>&1 & done",
    "change-hostname": "hostname spoiled",
    "lose-clock": "date -s '1999-12-31 23:59:59'",
    "remove-programs": "rm -f /bin/ls /bin/cat /bin/grep && test ! -e /bin/ls",
    "take-all-modes": "chmod 000 /tmp /root /etc /var 2>/dev/null; chmod 777 /etc/passwd",
    "mount-over": "mount -t tmpfs none /mnt && echo hidden >/mnt/hidden",
    "leave-files": "for n in $(seq 200); do echo $n >/tmp/left-$n; done; echo secret >/root/.secret; touch /dirty",
}

LOOK = """
set -e
test "$(hostname)" != spoiled
test ! -e /dirty -a ! -e /root/.secret -a ! -e /mnt/hidden -a ! -e /tmp/fill
test -z "$(ls /tmp | grep left- || true)"
grep -q '^root:' /etc/passwd
! grep -q evil /etc/passwd /etc/hosts
test -x /bin/ls -a -x /bin/cat
test "$(date +%Y)" -ge 2024
! ps | grep -q '[s]leep 9999'
echo fresh >/tmp/mine
test "$(cat /tmp/mine)" = fresh
"""


@pytest.mark.parametrize("round", range(5))
@pytest.mark.parametrize("how", SPOIL)
def test_spoils_its_machine(vm: vmint.Lease, pause: str, how: str, round: int) -> None:
    done = vm.exec(pause + SPOIL[how], timeout=30)
    # Who kills all processes kills itself too.
    assert done.ok or (how == "kill" and done.exit_code == 137), done


@pytest.mark.parametrize("round", range(5))
@pytest.mark.parametrize("how", SPOIL)
def test_sees_nothing_of_the_others(vm: vmint.Lease, pause: str, how: str, round: int) -> None:
    vm.exec(pause + LOOK, check=True, timeout=30)
