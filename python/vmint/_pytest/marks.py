"""Which tests use machines: they get the mark ``vm``, and those with machines of their own making ``vm_cold`` too.

So ``-m "not vm"`` is the fast tier, and ``-m "vm and not vm_cold"`` is what pools serve. A test that gets a machine by
``request.getfixturevalue`` is known when it does, and is treated as the others from then on.
"""

from __future__ import annotations

import pytest

from . import settings

LENT = frozenset({"vm", "vms", "worker_vm", "clean_worker_vm"})
MADE = frozenset({"fresh_vm"})
HONOUR = frozenset({"vm", "vms", "clean_worker_vm", "fresh_vm"})
"""The fixtures whose machines are what the mark ``vmint`` of the test says."""


def register(config: pytest.Config) -> None:
    for line in (
        "vm: the test uses a machine; set by its fixtures",
        "vm_cold: the test makes machines of its own; set by its fixtures",
        "vmint(image, memory, cpus, net): what the machine of the test shall be",
    ):
        config.addinivalue_line("markers", line)


def fixtures(item: pytest.Item) -> frozenset[str]:
    """Our fixtures that the test asks for, itself or through other fixtures."""
    return (LENT | MADE).intersection(getattr(item, "fixturenames", ()))


def uses_machines(item: pytest.Item) -> bool:
    """Whether the test asks for a machine, itself or through other fixtures."""
    return bool(fixtures(item))


def mark(item: pytest.Item, used: frozenset[str]) -> None:
    """Marks a test that uses these of our fixtures."""
    if used and item.get_closest_marker("vm") is None:
        item.add_marker(pytest.mark.vm)
    if not MADE.isdisjoint(used) and item.get_closest_marker("vm_cold") is None:
        item.add_marker(pytest.mark.vm_cold)


def apply(items: list[pytest.Item]) -> None:
    """Marks all tests, and refuses a mark ``vmint`` that cannot be honoured."""
    for item in items:
        used = fixtures(item)
        mark(item, used)
        if item.get_closest_marker("vmint") is None:
            continue
        settings.of_item(item)
        if "worker_vm" in used and HONOUR.isdisjoint(used):
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.vmint says what the machine of a test shall be, and worker_vm is one machine for all "
                "tests of a worker: use clean_worker_vm or vm, or say it for the session with --vmint-image and the like"
            )
