"""Which tests use machines: they get the mark ``vm``, and those with machines of their own making ``vm_cold`` too.

So ``-m "not vm"`` is the fast tier, and ``-m "vm and not vm_cold"`` is what pools serve.
"""

from __future__ import annotations

import pytest

LENT = frozenset({"vm", "worker_vm", "clean_worker_vm"})
MADE = frozenset({"fresh_vm"})


def register(config: pytest.Config) -> None:
    for line in (
        "vm: the test uses a machine; set by its fixtures",
        "vm_cold: the test makes machines of its own; set by its fixtures",
        "vmint(image, memory, cpus, net): what the machine of the test shall be",
    ):
        config.addinivalue_line("markers", line)


def uses_machines(item: pytest.Item) -> bool:
    """Whether the test asks for a machine, itself or through other fixtures."""
    return not (LENT | MADE).isdisjoint(getattr(item, "fixturenames", ()))


def apply(items: list[pytest.Item]) -> None:
    for item in items:
        if uses_machines(item):
            item.add_marker(pytest.mark.vm)
            if not MADE.isdisjoint(getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.vm_cold)
