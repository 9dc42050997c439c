"""Whose a session's pools are.

The pools and machines of a session are named after the process that runs it: boot, process id, start time, and a random part. So anybody can
tell from a name alone whether its session lives. They are removed at the session's end; by the keeper, when the
process of the session dies; and by the next session, when the keeper was killed too.
"""

from __future__ import annotations

import os
import re
import secrets
from typing import Optional

_NAME = re.compile(
    r"pytest-(?P<boot>[0-9a-f]{6})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{4}(-[0-9a-f]{6}|-gw[0-9]+-[0-9]+)?"
)


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read(6)


def _start(pid: int) -> Optional[str]:
    """When a process was started, in ticks since the boot; ``None`` if there is none, or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name of the program is in brackets, and may hold anything.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def new_run() -> str:
    """The name of a run of this process. The names of its pools and machines begin with it."""
    pid = os.getpid()
    return f"pytest-{_boot()}-{pid}-{_start(pid)}-{secrets.token_hex(2)}"


def pid(run: str) -> int:
    """The process of a run."""
    found = _NAME.fullmatch(run)
    assert found is not None, run
    return int(found["pid"])


def is_dead(name: str) -> bool:
    """Whether this is a run, or a pool or a machine of one, whose process has died."""
    found = _NAME.fullmatch(name)
    return found is not None and (found["boot"] != _boot() or found["start"] != _start(int(found["pid"])))
