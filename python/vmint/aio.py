"""Machines, pools and leases, for programs that ``await``.

A call that is cancelled is cancelled in vmint, too: a command is killed in its machine, a waiting caller leaves the queue, and vmint takes
back a machine that nobody received. No thread waits on behalf of a call, so any number of calls may wait at once.

Both asyncio and trio can await them, whichever runs; so can anyio on either.
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
        """Takes a snapshot of the machine under this name; the machine keeps running."""
        return await _done(self._native.snapshot(name))

    async def fork(self, name: str) -> dict[str, Any]:
        """Starts another machine from the current state of this one. It stays until it is removed."""
        return (await _done(self._native.fork(name)))[0]

    async def reset(self) -> None:
        """Replaces the machine with a fresh fork. Nothing of its content is left."""
        await _done(self._native.reset())


class Machine(Vm):
    """A separate machine. It ends with this process, unless it was created with ``keep``."""

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
        """Returns everything known about the machine."""
        return self._native.info()

    async def start(self) -> None:
        """Starts the machine if it is stopped."""
        await _done(self._native.start())

    async def stop(self, *, force: bool = False) -> None:
        """Stops the machine if it is running: asks its init, or cuts the power with ``force``. A machine without ``keep`` is removed."""
        await _done(self._native.stop(force=force))

    async def restore(self, snapshot: str) -> None:
        """Brings the machine back to a snapshot."""
        await _done(self._native.restore(snapshot))

    async def remove(self) -> None:
        """Destroys the machine; does nothing if it is already gone."""
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

    A call after the lease has ended raises :class:`LeaseLost`, which says why. It never reaches the machine of the
    next holder.
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
        """Returns the record of the lease, also after it has ended: ``ended`` then says how."""
        return self._native.record()

    def info(self) -> dict[str, Any]:
        """Returns everything known about the machine."""
        return self._native.info()

    def renew(self) -> dict[str, Any]:
        """Renews the lease: its ``ttl`` starts again."""
        return self._native.renew()

    async def release(self) -> None:
        """Releases the machine, which vmint then replaces for the next holder. Calling it again raises
        :class:`LeaseLost` and is harmless."""
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
        """A pool that exists, or that ``vmint.toml`` declares; in that case it is created now if it is missing."""
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
        """Creates a pool, and returns when it is filled. Warns of a machine that could not be made: the pool tries
        again when machines are acquired."""
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
        keep_lost: Optional[str] = None,
    ) -> Lease:
        """Acquires a machine that is ready, or the next one that becomes ready; callers queue in order. Raises
        :class:`TimedOut` after ``timeout`` seconds. Without ``wait``, raises :class:`Refused` if all machines that the
        pool may have are leased. After ``ttl`` seconds the lease ends unless it is renewed. If the machine dies while it
        is lent, its disk and logs are kept as a stopped machine with the name ``keep_lost``, as ``record()["kept"]``
        then says."""
        return Lease(await _done(self._native.acquire(label, timeout, ttl, wait, keep_lost)))

    async def resize(self, *, min: Optional[int] = None, max: Optional[int] = None) -> None:
        """Changes the number of machines; opens the pool again if it was drained."""
        count("min", min, optional=True)
        count("max", max, optional=True)
        warn_of(self.name, await _done(self._host.resize_pool(self.name, min, max)))

    async def drain(self, *, timeout: Optional[float] = None) -> None:
        """Stops handing out machines. With ``timeout``, waits up to that long for them to go."""
        await _done(self._host.drain_pool(self.name, timeout))

    async def remove(self, *, force: bool = False, timeout: float = 60.0) -> None:
        """Removes the pool with all of its machines: leased ones when their leases end, or at once with ``force``."""
        await _done(self._host.remove_pool(self.name, force, timeout))

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.name}>"
