"""The pytest plugin: a fresh machine for every test.

Fixtures:

* ``vm``: a fresh machine for each test.
* ``worker_vm``: one machine for each worker, for the whole session. Tests that use it see what the others left.
* ``clean_worker_vm``: one machine for each worker, made fresh after each test. It is not the one of ``worker_vm``.
* ``fresh_vm``: a factory of one-off machines, of other images or sizes; all are destroyed after the test.
* ``vms``: a factory of several fresh machines for one test: ``one, two = vms(2)``.

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
    settings.check(config)
    if config.option.vmint_explain and hasattr(config.option, "dist"):
        # Nothing is run: workers of xdist would have nothing to do.
        config.option.dist, config.option.tx = "no", []


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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Reads the settings, if a test that is to be run needs them: what tests do to the working directory and to the environment is no
    concern of theirs."""
    config = session.config
    if config.option.collectonly or not any(map(marks.uses_machines, session.items)):
        return
    from ._errors import VmintError

    try:
        _session(config).read_settings(session.items)
    except VmintError as e:
        raise pytest.UsageError(f"vmint: {e}") from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Optional[bool]:
    if not session.config.option.vmint_explain or session.config.option.collectonly:
        return None
    from ._pytest import explain

    explain.tell(session, _session(session.config))
    return True


# Fixtures


@pytest.fixture
def vm(request: pytest.FixtureRequest) -> Iterator[Lease]:
    """A fresh machine for this test."""
    with _session(request.config).lease(request.node, settings.of_item(request.node)) as lease:
        yield lease


@pytest.fixture
def vms(request: pytest.FixtureRequest) -> Iterator[Callable[[int], list[Lease]]]:
    """Acquires several fresh machines for this test: ``one, two = vms(2)``. All are of the same kind as ``vm``."""
    with _session(request.config).leases(request.node, settings.of_item(request.node)) as lend:
        yield lend


@pytest.fixture(scope="session")
def worker_vm(request: pytest.FixtureRequest) -> Iterator[Lease]:
    """The machine of this worker, for the whole session."""
    with _session(request.config).worker_lease(
        settings.of_config(request.config), getattr(request, "_fixturedef", None)
    ) as lease:
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


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, None]:
    yield
    session = _known(item.config)
    if session is not None:
        session.end(item)


def _or_anew(item: pytest.Item, step: Callable[[], object]) -> Generator[None, Any, None]:
    """A step of a test; and once more, if its machine is lost in it, from its setup on."""
    outcome = yield
    session = _known(item.config)
    if session is None:
        return
    while outcome.excinfo is not None and session.may_run_again(item, outcome.excinfo[1]):
        from ._pytest import lost

        try:
            lost.begin_anew(item, session)
            step()
        except BaseException as error:
            _force(outcome, error)
        else:
            outcome.force_result(None)


def _force(outcome: Any, error: BaseException) -> None:
    if hasattr(outcome, "force_exception"):
        outcome.force_exception(error)
    else:
        # Before pluggy 1.1.
        outcome._result, outcome._excinfo = None, (type(error), error, error.__traceback__)


# Last, that is, nearest to the step itself: what else is wrapped around it sees one step.


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, None]:
    if marks.uses_machines(item) or _known(item.config) is not None:
        _session(item.config).begin(item)
    yield from _or_anew(item, lambda: None)


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    yield from _or_anew(item, item.runtest)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    outcome = yield
    session = _known(item.config)
    if session is not None:
        session.report(item, call, outcome.get_result())


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
    if session.config.option.collectonly or session.config.option.vmint_explain:
        return
    from ._pytest import workers

    workers.finish(session.config, _known(session.config))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    from ._pytest import workers

    workers.tell_summary(terminalreporter, config)
