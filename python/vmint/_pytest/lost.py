"""Tests whose machine was lost are run again, if that was asked for.

Lost is: the test failed by :class:`VmLost` or :class:`LeaseLost` itself, and the store says that one of its machines ended by
a fault of vmint, of QEMU or of the host. A machine that its guest has shut down, or whose kernel panicked, was not lost in this
sense: the test may have done it. A test that failed by anything else is never run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Optional

import pytest
from _pytest.runner import runtestprotocol

from .._errors import LeaseLost, VmLost

if TYPE_CHECKING:
    from .session import Session

FAULTS = frozenset({"runner_died", "hypervisor_died", "host_rebooted", "timed_out", "fault"})
"""Causes in the event log for which the test is not to blame."""


def tells_of_loss(error: Optional[BaseException]) -> bool:
    """Whether a test failed by the loss of a machine: by that error, or one that was raised ``from`` it."""
    while error is not None:
        if isinstance(error, (VmLost, LeaseLost)):
            return True
        error = error.__cause__
    return False


def _ends(events: list[dict[str, Any]], machines: set[str]) -> list[dict[str, Any]]:
    return [
        event
        for event in events
        if event["of"] == "machine"
        and event["machine"] in machines
        and event["from"] in ("starting", "running", "paused", "stopping")
        and event["to"] in ("stopped", "failed", "removing", None)
    ]


def has_ended(events: list[dict[str, Any]], machines: set[str]) -> bool:
    """Whether one of the machines has ended, in whatever way."""
    return bool(_ends(events, machines))


def by_fault(events: list[dict[str, Any]], machines: set[str]) -> bool:
    """Whether one of the machines has ended by a fault."""
    return any(event["cause"] in FAULTS for event in _ends(events, machines))


def run(
    item: pytest.Item,
    nextitem: Optional[pytest.Item],
    reruns: int,
    session: Callable[[], Optional[Session]],
) -> None:
    """Runs a test, and again as long as its machine is lost; reports each."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(reruns + 1)):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        known = session()
        again = left > 0 and known is not None and known.was_lost(item)
        for report in reports:
            if again and report.failed:
                report.outcome = "rerun"  # type: ignore[assignment]
            elif again and report.when == "call":
                continue
            item.ihook.pytest_runtest_logreport(report=report)
        if not again:
            break
        assert known is not None
        known.figures.reruns += 1
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def finish_fixture(item: pytest.Item, name: str) -> None:
    """Takes a fixture down, and with it all that were built on it, so that the next test sets them up anew."""
    info: Any = getattr(item, "_fixtureinfo", None)
    request: Any = getattr(item, "_request", None)
    for definition in info.name2fixturedefs.get(name, ()) if info is not None else ():
        definition.finish(request)
