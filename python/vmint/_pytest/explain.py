"""``--vmint-explain``: which machine each test would get, and why. No test is run, and no machine, pool or template is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from . import marks, settings
from .settings import HARDWARE

if TYPE_CHECKING:
    from .session import Session

HOW = {
    "vm": "a fresh machine, lent from {pool}",
    "vms": "fresh machines, lent from {pool}",
    "clean_worker_vm": "the worker's machine, lent from {pool}, made fresh after the test",
    "worker_vm": "the worker's machine, lent from {pool} for the whole session, as the tests before have left it",
    "fresh_vm": "machines of its own, made when it asks for them",
}


def tell(session: pytest.Session, known: Session) -> None:
    """Prints it."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    reporter.section("machines of the tests")
    without = 0
    for item in session.items:
        used = sorted(marks.fixtures(item))
        if not used:
            without += 1
            continue
        reporter.line(item.nodeid)
        for fixture in used:
            reporter.line(f"  {fixture}: {_machine(item, fixture, known)}")
    reporter.line(f"tests that ask for no machine by their arguments: {without}")


def _machine(item: pytest.Item, fixture: str, known: Session) -> str:
    config = item.config
    wanted = settings.of_config(config) if fixture == "worker_vm" else settings.of_item(item)
    if wanted.pool is None:
        pool = "a pool of the session's own"
    else:
        pool = f"pool {wanted.pool} ({settings.source(config, 'pool')}) if its machines are such, else from one of the session's own"
    image, memory, cpus, net = known.settings.complete(wanted.hardware())
    values = {"image": image, "memory": f"{memory >> 20} MiB", "cpus": str(cpus), "net": net}
    why = [f"{name} {values[name]} ({_why(item, fixture, name)})" for name in HARDWARE]
    return f"{HOW[fixture].format(pool=pool)}: {', '.join(why)}"


def _why(item: pytest.Item, fixture: str, name: str) -> str:
    if fixture != "worker_vm" and any(name in mark.kwargs for mark in item.iter_markers("vmint")):
        return "mark"
    if getattr(settings.of_config(item.config), name) is not None:
        return settings.source(item.config, name)
    return "vmint.toml or default"
