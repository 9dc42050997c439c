"""What one process has to do with machines: pools, leases, and what they cost."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Union

import pytest

from .. import _native
from .._errors import LeaseLost, NotFound, Pressure, VmintError
from .._host import Hardware, Shape, Vmint
from .._program import binary
from .._sync import Lease, Machine, Pool
from . import evidence, keeper, lost, owner, settings
from .figures import Figures
from .settings import Wanted

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
    was_lost: bool = False


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
        self._lost: set[str] = set()
        self._worker: Optional[Lease] = None
        self._clean: dict[Wanted, Lease] = {}

    # The home and its pools

    @functools.cached_property
    def vmint(self) -> Vmint:
        vmint = Vmint(on_pressure=settings.on_pressure(self.config))
        self.figures.first_event = vmint._native.last_event()
        self.figures.processes.append(os.getpid())
        program = binary()
        assert program is not None, "opening vmint has found it"
        keeper.start(self.run, program)
        remove_dead(vmint)
        return vmint

    @property
    def is_open(self) -> bool:
        """Whether anything was asked of vmint yet."""
        return "vmint" in vars(self)

    def _source(self, wanted: Wanted) -> Source:
        if wanted not in self._sources:
            vmint = self.vmint
            began = time.perf_counter()
            pool = self._named_pool(vmint, wanted) or self._session_pool(vmint, wanted)
            spec = pool.status()["spec"]
            boot, accelerator = vmint._native.template(
                Hardware(image=spec["image"], memory=str(spec["memory"]), cpus=spec["cpus"], net=spec["net"])
            )
            self.figures.preparing += time.perf_counter() - began
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
        shape = Shape(min=workers, max=4 * workers, standby=1, ttl=None, max_uses=None)
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
            began = time.perf_counter()
            lease = source.pool.acquire(label=label[:200], timeout=settings.timeout(self.config))
        self.figures.acquiring.append(time.perf_counter() - began)
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
        began = time.perf_counter()
        try:
            lease.release()
        except (LeaseLost, NotFound):
            # Its machine was lost, or the pool is gone. If the test has needed it since, it has said so.
            pass
        self.figures.releasing.append(time.perf_counter() - began)

    @contextmanager
    def lease(self, item: pytest.Item, wanted: Wanted) -> Iterator[Lease]:
        """A machine for one test."""
        lease = self._acquire(item.nodeid, wanted)
        self._use(item).machines.append(lease)
        try:
            yield lease
        finally:
            self._release(lease)

    @contextmanager
    def worker_lease(self, wanted: Wanted) -> Iterator[Lease]:
        """The machine of this worker."""
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
        self._use(item).machines.append(lease)
        try:
            yield lease
        finally:
            began = time.perf_counter()
            try:
                lease.reset()
                self._clean[wanted] = lease
            except LeaseLost:
                # The next test gets another one.
                pass
            except VmintError:
                self._release(lease)
                raise
            self.figures.resetting.append(time.perf_counter() - began)

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
            began = time.perf_counter()
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
            self._use(item).machines.append(machine)
            self.figures.machines.append(machine.id)
            self.figures.accelerators.append(machine.info()["accelerator"])
            return machine

        try:
            yield fresh_vm
        finally:
            for machine in reversed(made):
                began = time.perf_counter()
                machine.remove()
                self.figures.making[-1] += time.perf_counter() - began

    def _made(self, item: pytest.Item, began: float) -> None:
        took = time.perf_counter() - began
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
        """A test that uses machines begins."""
        now = time.time()
        if self.figures.began is None:
            self.figures.began = now
        self._lost.discard(item.nodeid)
        self._uses.pop(item, None)
        self._use(item)
        if self._worker is not None and has_ended(self._worker):
            lost.finish_fixture(item, "worker_vm")

    def report(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """A phase of such a test has ended."""
        use = self._use(item)
        machines = list(use.machines)
        if self._worker is not None and "worker_vm" in getattr(item, "fixturenames", ()):
            machines.append(self._worker)
        if call.when == "call":
            self.figures.tests += 1
            self.figures.in_tests += max(0.0, call.duration - use.in_vmint)
        if report.failed and call.when != "teardown":
            error = None if call.excinfo is None else call.excinfo.value
            if lost.tells_of_loss(error) and self._ended_by_fault(machines):
                self._lost.add(item.nodeid)
            self._attach(item, use, machines, report)
        if call.when == "teardown":
            self.figures.ended = time.time()
            self._uses.pop(item, None)

    def _ended_by_fault(self, machines: list[Union[Lease, Machine]]) -> bool:
        used = {machine.id for machine in machines}
        until = time.monotonic() + 1.0
        while True:
            events = self.vmint.events(self.figures.first_event or 0, 1_000_000)
            if lost.has_ended(events, used) or time.monotonic() > until:
                return lost.by_fault(events, used)
            # The runner, or whoever finds that it has died, writes it down.
            time.sleep(0.02)
            self.vmint.sweep()

    def was_lost(self, item: pytest.Item) -> bool:
        """Whether the test failed because a machine of its was lost by a fault that was not its own."""
        return item.nodeid in self._lost

    def _attach(
        self, item: pytest.Item, use: Use, machines: list[Union[Lease, Machine]], report: pytest.TestReport
    ) -> None:
        host = f"when the test began: {use.before}\nwhen it failed:      {evidence.host()}"
        report.sections.append(("vmint: memory of the host", host))
        for machine in machines:
            report.sections.append((f"vmint: console of machine {machine.id}", evidence.console(machine)))
        if not settings.keep_failed(self.config) or self.was_lost(item):
            return
        for machine in machines:
            kept = evidence.keep(machine, item)
            if isinstance(kept, str):
                self.figures.kept.append(kept)
                text = f"vmint shell {kept}\nvmint rm --force {kept}    when it is not needed any more"
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
