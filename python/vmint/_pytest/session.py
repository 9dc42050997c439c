"""What one process has to do with machines: pools, leases, and what they cost."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Union

import pytest

from .. import _native
from .._errors import LeaseLost, NotFound, Pressure, VmintError
from .._host import Hardware, Shape, Vmint
from .._program import binary
from .._sync import Lease, Machine, Pool
from .._native import steady, wall
from . import evidence, keeper, lost, marks, owner, settings
from .figures import Figures
from .settings import Wanted

STANDBYS = 4
"""Forks that each machine of the session's pool keeps parked at most: so many that the next tests of a burst of short ones find theirs."""

RUN = pytest.StashKey[str]()


def run_of(config: pytest.Config) -> str:
    """The name of this run; the same in all workers."""
    told: Optional[dict[str, Any]] = getattr(config, "workerinput", None)
    if told is not None and "vmint_run" in told:
        return str(told["vmint_run"])
    if RUN not in config.stash:
        config.stash[RUN] = owner.new_run()
    return config.stash[RUN]


def workers_of(config: pytest.Config) -> int:
    """How many workers run tests."""
    told: Optional[dict[str, Any]] = getattr(config, "workerinput", None)
    return 1 if told is None else int(told["workercount"])


@dataclass
class Use:
    """What a test uses."""

    before: str
    """The host, when the test began."""
    machines: list[Union[Lease, Machine]] = field(default_factory=list)
    in_vmint: float = 0.0
    """Seconds of the test's call that were spent on making machines."""
    reruns: list[str] = field(default_factory=list)
    """Why it was run again, each time, with the console of what it had lost."""


@dataclass
class Source:
    """A pool to lend from, and the seconds in which its template was booted."""

    pool: Pool
    boot: Optional[float]


class Session:
    """Opened when the first test asks for a machine."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.run = run_of(config)
        self.figures = Figures()
        self._sources: dict[Wanted, Source] = {}
        self._uses: dict[pytest.Item, Use] = {}
        self._settings: Optional[_native.Settings] = None
        # A monkeypatched environment or a chdir is a test's business.
        self._folder = config.rootpath.absolute()
        self._worker: Optional[Lease] = None
        self._worker_fixture: Any = None
        self._clean: dict[Wanted, Lease] = {}

    # The home and its pools

    @functools.cached_property
    def vmint(self) -> Vmint:
        vmint = Vmint._with(self.settings, settings.on_pressure(self.config))
        self.figures.first_event = vmint._native.last_event()
        self.figures.processes.append(os.getpid())
        program = binary()
        assert program is not None, "opening vmint has found it"
        keeper.start(self.run, program)
        remove_dead(vmint)
        return vmint

    @property
    def settings(self) -> _native.Settings:
        """What ``vmint.toml`` and the environment said when they were read, once: from pytest's rootdir upwards."""
        if self._settings is None:
            self._settings = _native.Settings.read(self._folder)
        return self._settings

    def read_settings(self, items: Sequence[pytest.Item]) -> None:
        """At the session's start, before a test does anything: reads them, and what tests want by them."""
        kinds = {settings.of_config(self.config)}
        kinds.update(settings.of_item(item) for item in items if marks.uses_machines(item))
        for wanted in kinds:
            self.settings.complete(wanted.hardware())

    @property
    def is_open(self) -> bool:
        """Whether anything was asked of vmint yet."""
        return "vmint" in vars(self)

    def _source(self, wanted: Wanted) -> Source:
        if wanted not in self._sources:
            vmint = self.vmint
            began = steady()
            pool = self._named_pool(vmint, wanted) or self._session_pool(vmint, wanted)
            spec = pool.status()["spec"]
            boot, accelerator = vmint._native.template(
                Hardware(image=spec["image"], memory=str(spec["memory"]), cpus=spec["cpus"], net=spec["net"])
            )
            self.figures.preparing += steady() - began
            self.figures.pools.append(pool.name)
            self.figures.accelerators.append(accelerator)
            self._sources[wanted] = Source(pool, None if boot is None else boot / 1e3)
        return self._sources[wanted]

    def _named_pool(self, vmint: Vmint, wanted: Wanted) -> Optional[Pool]:
        """The pool of the settings, unless the test wants another machine than that pool's."""
        if wanted.pool is None:
            return None
        pool = Pool(wanted.pool, vmint=vmint)
        spec = pool.status()["spec"]
        for key, value in wanted.hardware().items():
            if key == "memory" and isinstance(value, str):
                value = _native.bytes(value)
            if value is not None and value != spec[key]:
                return None
        return pool

    def _session_pool(self, vmint: Vmint, wanted: Wanted) -> Pool:
        """The session's pool of such machines, made by whichever worker comes first."""
        name = f"{self.run}-{wanted.digest()}"
        workers = workers_of(self.config)
        shape = Shape(min=workers, max=4 * workers, standby=STANDBYS, ttl=None, max_uses=None)
        try:
            # What could not be made is tried again when a test asks for it, and then it counts.
            vmint._native.create_pool(name, wanted.hardware(), shape).wait()
        except VmintError as e:
            if e.kind != "already_exists":
                raise
        return Pool(name, vmint=vmint)

    # Leases

    def _acquire(self, label: str, wanted: Wanted) -> Lease:
        with self._pressure():
            source = self._source(wanted)
            began = steady()
            keep_lost = None
            if settings.keep_failed(self.config):
                keep_lost = evidence.name_of_copy(label.rpartition("::")[2])
            lease = source.pool.acquire(label=label[:200], timeout=settings.timeout(self.config), keep_lost=keep_lost)
        self.figures.acquiring.append(steady() - began)
        self.figures.boots.append(source.boot)
        self.figures.machines.append(lease.id)
        return lease

    @contextmanager
    def _pressure(self) -> Iterator[None]:
        try:
            yield
        except Pressure as e:
            if settings.on_pressure(self.config) != "skip":
                raise
            pytest.skip(f"vmint: {e.message}")

    def _release(self, lease: Lease) -> None:
        began = steady()
        try:
            lease.release()
        except (LeaseLost, NotFound):
            # Its machine was lost, or the pool is gone. If the test has needed it since, it has said so.
            self._forget_left(lease)
        self.figures.releasing.append(steady() - began)

    def _forget_left(self, lease: Lease) -> None:
        """Removes what was kept of a machine that died, if no failed test has shown it."""
        if not settings.keep_failed(self.config):
            return
        with contextlib.suppress(VmintError):
            left = evidence.left_of(lease)
            if left is not None and left not in self.figures.kept:
                Machine(left, vmint=self.vmint).remove()

    @contextmanager
    def lease(self, item: pytest.Item, wanted: Wanted) -> Iterator[Lease]:
        """A machine for one test."""
        with self._counted(item):
            lease = self._acquire(item.nodeid, wanted)
        self._uses_too(item, lease, "vm")
        try:
            yield lease
        finally:
            self._release(lease)

    @contextmanager
    def leases(self, item: pytest.Item, wanted: Wanted) -> Iterator[Callable[[int], list[Lease]]]:
        """Several machines for one test."""
        lent: list[Lease] = []

        def vms(count: int) -> list[Lease]:
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"vms takes a number of machines, 1 or more, not {count!r}")
            with self._counted(item):
                self._make_room(wanted, len(lent) + count)
                new = []
                for _ in range(count):
                    lease = self._acquire(item.nodeid, wanted)
                    lent.append(lease)
                    new.append(lease)
                    self._uses_too(item, lease, "vms")
            return new

        try:
            yield vms
        finally:
            for lease in lent:
                self._release(lease)

    def _make_room(self, wanted: Wanted, count: int) -> None:
        """Has the session's own pool have so many machines for each worker: two tests that hold some each must not wait for each other."""
        pool = self._source(wanted).pool
        if not pool.name.startswith(self.run):
            return
        workers = workers_of(self.config)
        if pool.status()["spec"]["max"] < (count + 3) * workers:
            pool.resize(max=(count + 3) * workers)

    @contextmanager
    def _counted(self, item: pytest.Item) -> Iterator[None]:
        """What a test waits for during its call is not its own time."""
        began = steady()
        try:
            yield
        finally:
            self._use(item).in_vmint += steady() - began

    def _uses_too(self, item: pytest.Item, machine: Union[Lease, Machine], fixture: str) -> None:
        self._use(item).machines.append(machine)
        # It may have asked for it only now.
        marks.mark(item, frozenset({fixture}))

    @contextmanager
    def worker_lease(self, wanted: Wanted, fixture: Any) -> Iterator[Lease]:
        """The machine of this worker, as this fixture."""
        self._worker_fixture = fixture
        self._worker = lease = self._acquire("worker_vm", wanted)
        try:
            yield lease
        finally:
            self._worker = None
            self._release(lease)

    @contextmanager
    def clean_lease(self, item: pytest.Item, wanted: Wanted) -> Iterator[Lease]:
        """A machine of this worker that is made fresh after the test."""
        lease = self._clean.pop(wanted, None)
        if lease is None or has_ended(lease):
            lease = self._acquire("clean_worker_vm", wanted)
        self._uses_too(item, lease, "clean_worker_vm")
        try:
            yield lease
        finally:
            began = steady()
            try:
                lease.reset()
                self._clean[wanted] = lease
            except LeaseLost:
                # The next test gets another one.
                pass
            except VmintError:
                self._release(lease)
                raise
            self.figures.resetting.append(steady() - began)

    @contextmanager
    def factory(self, item: pytest.Item, wanted: Wanted) -> Iterator[Callable[..., Machine]]:
        """Makes machines for one test."""
        made: list[Machine] = []

        def fresh_vm(
            *,
            image: Optional[str] = None,
            memory: Union[None, int, str] = None,
            cpus: Optional[int] = None,
            net: Optional[str] = None,
            snapshot: Optional[str] = None,
            cold: bool = False,
        ) -> Machine:
            vmint = self.vmint
            name = f"{self.run}-gw{os.getpid()}-{len(self.figures.making)}"
            began = steady()
            with self._pressure():
                machine = Machine._create(
                    "owned",
                    image or wanted.image,
                    memory or wanted.memory,
                    cpus or wanted.cpus,
                    net or wanted.net,
                    name,
                    snapshot,
                    cold,
                    vmint,
                )
            self._made(item, began)
            made.append(machine)
            self._uses_too(item, machine, "fresh_vm")
            self.figures.machines.append(machine.id)
            self.figures.accelerators.append(machine.info()["accelerator"])
            return machine

        try:
            yield fresh_vm
        finally:
            for machine in reversed(made):
                began = steady()
                machine.remove()
                self.figures.making[-1] += steady() - began

    def _made(self, item: pytest.Item, began: float) -> None:
        took = steady() - began
        self.figures.making.append(took)
        self._use(item).in_vmint += took

    def close(self) -> None:
        """The end of the session in this process."""
        for lease in self._clean.values():
            self._release(lease)
        self._clean.clear()

    # Tests

    def _use(self, item: pytest.Item) -> Use:
        if item not in self._uses:
            self._uses[item] = Use(evidence.host())
        return self._uses[item]

    def begin(self, item: pytest.Item) -> None:
        """A test begins."""
        self._uses.pop(item, None)
        if self.figures.began is None and marks.uses_machines(item):
            self.figures.began = wall()
        if marks.uses_machines(item):
            self._use(item)
        self.renew_worker(item)

    def renew_worker(self, item: pytest.Item) -> None:
        """Has the worker's machine made anew if it is gone."""
        if self._worker is not None and has_ended(self._worker):
            lost.finish_fixture(self._worker_fixture, item)

    def end(self, item: pytest.Item) -> None:
        """A test has ended, with all of its reports."""
        if self._uses.pop(item, None) is not None:
            self.figures.ended = wall()

    def _machines(self, item: pytest.Item) -> list[Union[Lease, Machine]]:
        """What the test has really used. The worker's machine is that of all tests that have it, however they got it."""
        use = self._uses.get(item)
        machines = [] if use is None else list(use.machines)
        request: Any = getattr(item, "_request", None)
        asked = getattr(request, "_fixture_defs", {}) if request else {}
        if self._worker is not None and ("worker_vm" in marks.fixtures(item) or "worker_vm" in asked):
            machines.append(self._worker)
        return machines

    def report(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """A phase of a test has ended."""
        machines = self._machines(item)
        if not machines and item not in self._uses:
            return
        use = self._use(item)
        if call.when == "call":
            self.figures.tests += 1
            self.figures.in_tests += max(0.0, call.duration - use.in_vmint)
        elif call.when == "setup":
            # What came before the call is no part of it.
            use.in_vmint = 0.0
        if use.reruns and call.when != "teardown":
            report.sections += [("vmint: run again, because its machine was lost", why) for why in use.reruns]
            item.user_properties.append(("vmint_reruns", len(use.reruns)))
            if call.when == "setup":
                use.reruns = []
        if report.failed and call.when != "teardown":
            # To say more must never cost what there is to say.
            try:
                self._attach(item, use, machines, report)
            except Exception as e:
                report.sections.append(("vmint", f"no more is known of the machines: {e}"))

    def may_run_again(self, item: pytest.Item, error: BaseException) -> bool:
        """Whether a test that failed so is to be run again: its machine was lost, and it is proven that the guest had no part in it."""
        limit = settings.rerun_lost(self.config)
        machines = self._machines(item)
        if not limit or not machines or not lost.tells_of_loss(error):
            return False
        use = self._use(item)
        if len(use.reruns) >= limit or not self._ended_by_fault(machines):
            return False
        consoles = [(machine.id, evidence.console(machine)) for machine in machines]
        if any(lost.has_panicked(text) for _, text in consoles):
            return False
        self.figures.reruns += 1
        told = [f"console of machine {name}:\n{text}" for name, text in consoles]
        use.reruns.append("\n".join([f"{type(error).__name__}: {error}", *told]))
        # They are given back by their fixtures.
        use.machines.clear()
        return True

    def _ended_by_fault(self, machines: list[Union[Lease, Machine]]) -> bool:
        used = {machine.id for machine in machines}
        until = steady() + 1.0
        while True:
            events = self.vmint.events(self.figures.first_event or 0, 1_000_000)
            if lost.has_ended(events, used) or steady() > until:
                return lost.by_fault(events, used)
            # The runner, or whoever finds that it has died, writes it down.
            evidence.pause(0.02)
            self.vmint.sweep()

    def _attach(
        self, item: pytest.Item, use: Use, machines: list[Union[Lease, Machine]], report: pytest.TestReport
    ) -> None:
        host = f"when the test began: {use.before}\nwhen it failed:      {evidence.host()}"
        report.sections.append(("vmint: memory of the host", host))
        for machine in machines:
            report.sections.append((f"vmint: console of machine {machine.id}", evidence.console(machine)))
        if not settings.keep_failed(self.config):
            return
        for machine in machines:
            kept = evidence.keep(machine, item)
            if isinstance(kept, str):
                self.figures.kept.append(kept)
                text = f"vmint shell {kept}\nvmint rm --force {kept}    when it is not needed any more"
                if evidence.left_of(machine) is not None:
                    text = f"It has died; its disk is kept. vmint start {kept}    boots from it\n{text}"
            else:
                text = f"machine {machine.id} could not be kept: {kept}"
            report.sections.append(("vmint: the machine as it was when the test failed", text))


def has_ended(lease: Lease) -> bool:
    """Whether the lease is over, or its machine is going, which the ledger may not know yet."""
    try:
        return lease.record()["ended"] is not None or lease.info()["state"] not in ("starting", "running")
    except VmintError:
        return True


def remove_dead(vmint: Vmint) -> None:
    """Removes the pools and machines of sessions that have died, and whose keepers have too."""
    for pool in vmint.pools():
        if owner.is_dead(pool["name"]):
            # Another session may be faster.
            with contextlib.suppress(NotFound):
                vmint._native.remove_pool(pool["name"], True, 60.0).wait()
    for machine in vmint.machines():
        if owner.is_dead(machine["name"]):
            with contextlib.suppress(NotFound):
                Machine(machine["id"], vmint=vmint).remove()
