"""What the report of a failed test gets: the machine's console, what the host had, and how to get into a copy of the machine."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING, Optional, Union

import pytest

from .._errors import VmintError
from .._native import printable_lines

if TYPE_CHECKING:
    from .. import Lease, Machine

LINES = 40
"""So many of the console's last lines are shown."""


def host() -> str:
    """Memory and pressure of this host, in a line."""
    return f"{_memory()}; {_pressure()}"


def _memory() -> str:
    kib = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("MemAvailable", "MemTotal"):
                kib[name] = int(rest.split()[0])
    return f"{kib['MemAvailable'] / 2**20:.2f} of {kib['MemTotal'] / 2**20:.2f} GiB available"


def _pressure() -> str:
    try:
        with open("/proc/pressure/memory", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return "memory pressure is not measured by this kernel"
    return ", ".join(f"memory pressure {line[0]} {line[1]} {line[2]}" for line in lines)


def pause(seconds: float) -> None:
    """Waits, by no clock that a test could have stopped."""
    time.sleep(seconds)


def console(machine: Union[Lease, Machine]) -> str:
    """The end of what the machine has said on its console, printable."""
    try:
        lines = machine.console().splitlines()
    except (VmintError, OSError) as e:
        return f"(not to be had any more: {e})"
    omitted = [f"... {len(lines) - LINES} lines before"] if len(lines) > LINES else []
    return printable_lines("\n".join(omitted + lines[-LINES:])) or "(empty)"


def name_of_copy(test: str) -> str:
    """A name for what is kept of a test's machine."""
    slug = re.sub("[^a-z0-9]+", "-", test.lower()).strip("-")[:40].strip("-")
    return f"kept-{slug}-{secrets.token_hex(2)}"


def keep(machine: Union[Lease, Machine], item: pytest.Item) -> Union[str, VmintError]:
    """Branches the machine as it is now, while the test's own is still held. The copy is an ordinary machine, which belongs to no
    pool and no process; its name is returned. Of one that has died, its disk is kept, if it had one."""
    try:
        return str(machine.fork(name_of_copy(item.name))["name"])
    except VmintError as e:
        return left_of(machine) or e


def left_of(machine: Union[Lease, Machine]) -> Optional[str]:
    """The stopped machine that a lent machine was kept as when it died."""
    lease_record = getattr(machine, "record", None)
    if lease_record is None:
        return None
    kept = lease_record().get("kept")
    return None if kept is None else str(kept)
