"""Machines, pools and leases, for programs that ``await``.

A call that is cancelled is cancelled in vmint too: a command is killed in its machine, who waits for a machine leaves the line, and a
machine that nobody was given is taken back. No thread waits on behalf of a call, so that any number of them may wait in line at
once.

Both of asyncio and trio can await them, by whichever runs; so anyio can on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Union

from . import _native
from ._await import done as _done
from ._errors import LeaseLost
from ._host import Life, PathLike, Vmint, count, default, warn_of
from ._host import hardware as asked_hardware
from ._host import shape as asked_shape
from ._result import Asked, Result, Word
from ._vm import Core, FileIn, Input

if TYPE_CHECKING:
    from ._native import Machine as NativeMachine

__all__ = ["Lease", "Machine", "Pool", "Vm"]




class Vm(Core):
    """A machine in which commands can be run. See :class:`vmint.Machine` and :class:`vmint.Lease`."""

    async def exec(
        self,
        *command: Union[Word, Sequence[Word]],
        check: bool = False,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[Word] = None,
        user: Optional[str] = None,
        timeout: Optional[float] = None,
        input: Optional[Input] = None,
    ) -> Result:
        """Runs a command to its end; see :meth:`vmint.Machine.exec`."""
        __tracebackhide__ = True  # in pytest's reports
        asked = Asked(command, env, cwd, user, timeout, input, check)
        return asked.result(await _done(self._native.exec(asked)))

    async def copy_in(self, source: PathLike, target: str) -> None:
        """Copies a file or folder into the machine."""
        await _done(self._copy_in(source, target))

    async def copy_out(self, source: str, target: PathLike) -> None:
        """Copies a file or folder of the machine to this host."""
        await _done(self._copy_out(source, target))

    async def write(self, path: str, content: Input) -> None:
        """Writes a file in the machine; its folder is made if need be."""
        with FileIn(path, content) as source:
            await _done(self._copy_in(source, path))

    async def read(self, path: str) -> bytes:
        """The content of a file in the machine."""
        return (await self.exec(["cat", "--", path], check=True)).stdout

    async def snapshot(self, name: str) -> dict[str, Any]:
        """Freezes this moment of the machine under a name; the machine goes on."""
        return await _done(self._native.snapshot(name))

    async def fork(self, name: str) -> dict[str, Any]:
        """Starts another machine from this moment of it. It stays until it is removed."""
        return (await _done(self._native.fork(name)))[0]

    async def reset(self) -> None:
        """Makes the machine fresh: a new fork in its place. Nothing that was in it is left."""
        await _done(self._native.reset())


class Machine(Vm):
    """A machine of one's own. It ends with this process, unless it was made with ``keep``."""

    _native: _native.Machine

    def __init__(self, name: str, *, vmint: Optional[Vmint] = None) -> None:
        """A machine that exists."""
        self._native = default(vmint)._native.attach(name)

    @classmethod
    def _of(cls, native: NativeMachine) -> Machine:
        self = cls.__new__(cls)
        self._native = native
        return self

    @classmethod
    async def create(
        cls,
        *,
        image: Optional[str] = None,
        memory: Union[None, int, str] = None,
        cpus: Optional[int] = None,
        net: Optional[str] = None,
        name: Optional[str] = None,
        snapshot: Optional[str] = None,
        cold: bool = False,
        keep: bool = False,
        vmint: Optional[Vmint] = None,
    ) -> Machine:
        """Makes and starts a machine: a fork of the image's template, or of a snapshot, or with ``cold`` booted.

        ``net`` is ``none``, ``nat``, or ``allow:`` and a list of what it may reach: ``allow:pypi.org,*.example.com``.
        """
        hardware = asked_hardware(image, memory, cpus, net)
        host = default(vmint)._native
        life: Life = "kept" if keep else "ephemeral"
        return cls._of(await _done(host.start(hardware, life=life, name=name, snapshot=snapshot, cold=cold)))

    def info(self) -> dict[str, Any]:
        """What is known of it."""
        return self._native.info()

    async def start(self) -> None:
        """Starts it, if it is down."""
        await _done(self._native.start())

    async def stop(self, *, force: bool = False) -> None:
        """Stops it, if it is up: asks its init, or with ``force`` does not ask. One that is not kept goes away."""
        await _done(self._native.stop(force=force))

    async def restore(self, snapshot: str) -> None:
        """Brings it to the moment of a snapshot."""
        await _done(self._native.restore(snapshot))

    async def remove(self) -> None:
        """Destroys it. One that is gone is left at that."""
        await _done(self._native.remove())

    async def __aenter__(self) -> Machine:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.remove()


class Lease(Vm):
    """The right to one machine of a pool, for as long as this process lives and does not release it.

    What is done with it after it has ended raises :class:`LeaseLost`, which says why. It never reaches the machine as
    it is lent to somebody else.
    """

    def __init__(self, native: _native.Lease) -> None:
        self._native: _native.Lease = native

    @property
    def lease_id(self) -> str:
        """The lease's id, as in `vmint lease ls`."""
        return self._native.lease_id

    @property
    def generation(self) -> int:
        """The generation of the machine that the lease is of; a reset raises it."""
        return self._native.generation

    def record(self) -> dict[str, Any]:
        """What the ledger has of the lease, also when it has ended: ``ended`` then says how."""
        return self._native.record()

    def info(self) -> dict[str, Any]:
        """What is known of the machine."""
        return self._native.info()

    def renew(self) -> dict[str, Any]:
        """Begins the lease's ``ttl`` anew."""
        return self._native.renew()

    async def release(self) -> None:
        """Gives the machine back, which is then made fresh for the next one. A second time raises
        :class:`LeaseLost`, and does no harm."""
        await _done(self._native.release())

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        try:
            await self.release()
        except LeaseLost:
            # It has ended before. Whoever used it since knows; whoever did not has missed nothing.
            pass

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.lease_id} of machine {self.id}>"


class Pool:
    """Machines of one template, kept ready."""

    def __init__(self, name: str, *, vmint: Optional[Vmint] = None) -> None:
        """A pool that exists, or that ``vmint.toml`` declares: then it is made now if need be."""
        self._host = default(vmint)._native
        self._native = self._host.pool(name)

    @classmethod
    async def create(
        cls,
        name: str,
        *,
        image: Optional[str] = None,
        memory: Union[None, int, str] = None,
        cpus: Optional[int] = None,
        net: Optional[str] = None,
        min: int = 2,
        max: int = 8,
        standby: int = 1,
        ttl: Optional[float] = None,
        max_uses: Optional[int] = None,
        vmint: Optional[Vmint] = None,
    ) -> Pool:
        """Makes a pool, and returns when it is filled. A machine that could not be made is warned of: the pool tries
        again as machines are asked for."""
        hardware = asked_hardware(image, memory, cpus, net)
        shape = asked_shape(min, max, standby, ttl, max_uses)
        warn_of(name, await _done(default(vmint)._native.create_pool(name, hardware, shape)))
        return cls(name, vmint=vmint)

    @property
    def name(self) -> str:
        """Its name."""
        return self._native.name

    def status(self) -> dict[str, Any]:
        """The pool, and ``counts``: how many of its machines are in which state."""
        return self._native.status()

    async def acquire(
        self,
        *,
        label: Optional[str] = None,
        timeout: float = 60.0,
        ttl: Optional[float] = None,
        wait: bool = True,
    ) -> Lease:
        """Lends a machine: one that is ready, or else the first that gets ready or can be made, first come first
        served. After ``timeout`` seconds :class:`TimedOut` is raised. Without ``wait``, :class:`Refused` is raised when
        all machines that the pool may have are lent. After ``ttl`` seconds the lease ends unless it is renewed."""
        return Lease(await _done(self._native.acquire(label, timeout, ttl, wait)))

    async def resize(self, *, min: Optional[int] = None, max: Optional[int] = None) -> None:
        """Changes how many machines it has; opens it again if it was drained."""
        count("min", min, optional=True)
        count("max", max, optional=True)
        warn_of(self.name, await _done(self._host.resize_pool(self.name, min, max)))

    async def drain(self, *, timeout: Optional[float] = None) -> None:
        """Has it lend nothing more. With ``timeout``, waits so long until its machines are gone."""
        await _done(self._host.drain_pool(self.name, timeout))

    async def remove(self, *, force: bool = False, timeout: float = 60.0) -> None:
        """Removes it with all of its machines: those that are lent when their leases end, or with ``force`` at once."""
        await _done(self._host.remove_pool(self.name, force, timeout))

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.name}>"
