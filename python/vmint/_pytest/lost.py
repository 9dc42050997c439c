"""Tests whose machine was lost are run again, if that was asked for.

Lost is: the test failed by :class:`VmLost` or :class:`LeaseLost` and nothing else, and it is proven that its guest had no part in
the end of one of its machines: the store says that vmint, QEMU or the host ended it from outside, and its console, as far as it
was kept, has no panic on it. What is not proven is a failure. A test that failed by anything else is never run again.

The test is run again *within* its setup or its call: its own fixtures are taken down and set up anew. So whatever else looks at a
test's run (reruns and flakiness of other plugins, time limits, JUnit, xdist) sees one test with one outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

import pytest

from .._errors import LeaseLost, VmLost

if TYPE_CHECKING:
    from .session import Session

FAULTS = frozenset({"runner_died", "hypervisor_died", "host_rebooted"})
"""Causes in the event log in which a guest has no part."""

PANIC = ("Kernel panic - not syncing", "vmint-agent: fatal")
"""What a guest says that ends itself."""


def tells_of_loss(error: Optional[BaseException]) -> bool:
    """Whether a test failed by the loss of a machine and nothing else: by that error, by one that was raised ``from`` it, or by a
    group of such."""
    while error is not None:
        if isinstance(error, (VmLost, LeaseLost)):
            return True
        inner = getattr(error, "exceptions", None)
        if isinstance(inner, (tuple, list)) and inner:
            told = [tells_of_loss(one) for one in inner if not _is_cancellation(one)]
            if told:
                return all(told)
        error = error.__cause__
    return False


def _is_cancellation(error: BaseException) -> bool:
    """What tasks end with whose neighbour has failed."""
    return isinstance(error, asyncio.CancelledError) or type(error).__name__ == "Cancelled"


def _ends(events: list[dict[str, Any]], machines: set[str]) -> Iterator[dict[str, Any]]:
    for event in events:
        if (
            event["of"] == "machine"
            and event["machine"] in machines
            and event["from"] in ("starting", "running", "paused", "stopping")
            and event["to"] in ("stopped", "failed", "removing", None)
        ):
            yield event


def has_ended(events: list[dict[str, Any]], machines: set[str]) -> bool:
    """Whether one of the machines has ended, in whatever way."""
    return any(True for _ in _ends(events, machines))


def by_fault(events: list[dict[str, Any]], machines: set[str]) -> bool:
    """Whether a machine has ended, and each that has by a fault in which its guest had no part."""
    causes = []
    for event in _ends(events, machines):
        # What failed before anything ran in it was not the guest's.
        early = event["cause"] == "fault" and event["from"] == "starting"
        # Its holder's or vmint's own orders are no loss, and no doubt either.
        if event["cause"] not in ("requested", "completed"):
            causes.append(early or event["cause"] in FAULTS)
    return bool(causes) and all(causes)


def has_panicked(console: str) -> bool:
    """Whether a console tells of the guest's own end."""
    return any(words in console for words in PANIC)


class _Parents:
    """Stands for a next test that needs what is around this one, and nothing of this one."""

    def __init__(self, item: pytest.Item) -> None:
        self.chain = item.listchain()[:-1]

    def listchain(self) -> list[Any]:
        return self.chain


def begin_anew(item: pytest.Item, session: Session) -> None:
    """Takes down what was set up for this test alone, and sets it up again. Whatever fails in that is raised, unless it tells of
    the loss itself."""
    state: Any = item.session._setupstate
    try:
        state.teardown_exact(_Parents(item))
    except Exception as error:
        if not tells_of_loss(error):
            raise
    session.renew_worker(item)
    item._initrequest()  # type: ignore[attr-defined]
    state.setup(item)


def finish_fixture(definition: Any, item: pytest.Item) -> None:
    """Takes a fixture down, and with it all that were built on it, so that the next test sets them up anew."""
    definition.finish(getattr(item, "_request", None))
