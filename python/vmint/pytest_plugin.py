"""The pytest plugin: a fresh machine for every test.

Fixtures:

* ``vm``: a fresh machine for each test.
* ``worker_vm``: one machine for each worker, for the whole session. Tests that use it see what the others left.
* ``clean_worker_vm``: one machine for each worker, made fresh after each test. It is not the one of ``worker_vm``.
* ``fresh_vm``: a factory of one-off machines, of other images or sizes; all are destroyed after the test.

This module is loaded in every session of pytest, so it imports nothing of vmint until a test asks for a machine.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Callable, Optional

import pytest

from ._pytest import marks, settings

if TYPE_CHECKING:
    from . import Lease, Machine
    from ._pytest.session import Session

SESSION = pytest.StashKey["Session"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    marks.register(config)


def _session(config: pytest.Config) -> Session:
    """What this process has to do with machines; made when the first test asks for one."""
    if SESSION not in config.stash:
        from ._pytest.session import Session

        config.stash[SESSION] = Session(config)
    return config.stash[SESSION]


def _known(config: pytest.Config) -> Optional[Session]:
    return config.stash.get(SESSION, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Before -m deselects.
    marks.apply(items)


# Fixtures


@pytest.fixture
def vm(request: pytest.FixtureRequest) -> Iterator[Lease]:
    """A fresh machine for this test."""
    with _session(request.config).lease(request.node, settings.of_item(request.node)) as lease:
        yield lease


@pytest.fixture(scope="session")
def worker_vm(request: pytest.FixtureRequest) -> Iterator[Lease]:
    """The machine of this worker, for the whole session."""
    with _session(request.config).worker_lease(settings.of_config(request.config)) as lease:
        yield lease


@pytest.fixture
def clean_worker_vm(request: pytest.FixtureRequest) -> Iterator[Lease]:
    """A machine of this worker that is made fresh after each test."""
    with _session(request.config).clean_lease(request.node, settings.of_item(request.node)) as lease:
        yield lease


@pytest.fixture
def fresh_vm(request: pytest.FixtureRequest) -> Iterator[Callable[..., Machine]]:
    """Makes machines for this test alone: ``fresh_vm(image=..., memory=..., cpus=..., net=..., cold=True)``."""
    with _session(request.config).factory(request.node, settings.of_item(request.node)) as factory:
        yield factory


# Running tests


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: Optional[pytest.Item]) -> Optional[bool]:
    reruns = settings.rerun_lost(item.config)
    if not reruns or not marks.uses_machines(item):
        return None
    from ._pytest import lost

    lost.run(item, nextitem, reruns, lambda: _known(item.config))
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if marks.uses_machines(item):
        _session(item.config).begin(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    outcome = yield
    session = _known(item.config)
    if session is not None and marks.uses_machines(item):
        session.report(item, call, outcome.get_result())


def pytest_report_teststatus(report: pytest.TestReport) -> Optional[tuple[str, str, Any]]:
    if report.outcome == "rerun":  # type: ignore[comparison-overlap]
        return "rerun", "R", ("MACHINE LOST, RERUN", {"yellow": True})
    return None


# The session, its workers, and its end


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist starts a worker."""
    from ._pytest import workers

    workers.tell(node)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """A worker of xdist has ended."""
    from ._pytest import workers

    workers.gather(node)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    from ._pytest import workers

    workers.finish(session.config, _known(session.config))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    from ._pytest import workers

    workers.tell_summary(terminalreporter, config)
