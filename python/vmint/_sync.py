"""Machines, pools and leases, for programs that wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Union

from . import _native
from ._errors import LeaseLost
from ._host import Life, PathLike, Vmint, count, default, warn_of
from ._host import hardware as asked_hardware
from ._host import shape as asked_shape
from ._result import Asked, Result, Word
from ._vm import Core, FileIn, Input

if TYPE_CHECKING:
    from . import aio as _aio


class Vm(Core):
    """A machine in which commands can be run."""

    def exec(
        self,
        *command: Union[Word, Sequence[Word]],
        check: bool = False,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[Word] = None,
        user: Optional[str] = None,
        timeout: Optional[float] = None,
        input: Optional[Input] = None,
    ) -> Result:
        """Runs a command to its end.

        One string is a line for the machine's shell; a list, or several words, are a program and its arguments.
        After ``timeout`` seconds the command and its children are killed, and :class:`CommandTimedOut` is raised.
        With ``check``, another exit code than 0 raises :class:`CommandFailed`.
        """
        __tracebackhide__ = True  # in pytest's reports
        asked = Asked(command, env, cwd, user, timeout, input, check)
        return asked.result(self._native.exec(asked).wait())

    def copy_in(self, source: PathLike, target: str) -> None:
        """Copies a file or folder into the machine, as ``docker cp`` does: into ``target`` if that is a folder or ends in
        a slash, else under that name."""
        self._copy_in(source, target).wait()

    def copy_out(self, source: str, target: PathLike) -> None:
        """Copies a file or folder of the machine to this host, by the same rules."""
        self._copy_out(source, target).wait()

    def write(self, path: str, content: Input) -> None:
        """Writes a file in the machine; its folder is made if need be."""
        with FileIn(path, content) as source:
            self._copy_in(source, path).wait()

    def read(self, path: str) -> bytes:
        """The content of a file in the machine."""
        return self.exec(["cat", "--", path], check=True).stdout

    def snapshot(self, name: str) -> dict[str, Any]:
        """Takes a snapshot of the machine under this name; the machine keeps running."""
        return self._native.snapshot(name).wait()

    def fork(self, name: str) -> dict[str, Any]:
        """Starts another machine from the current state of this one. It stays until it is removed."""
        return self._native.fork(name).wait()[0]

    def reset(self) -> None:
        """Replaces the machine with a fresh fork. Nothing of its content is left."""
        self._native.reset().wait()


class Machine(Vm):
    """A separate machine. It ends with this process, unless it was created with ``keep``."""

    _native: _native.Machine

    def __init__(self, name: str, *, vmint: Optional[Vmint] = None) -> None:
        """A machine that exists."""
        self._native = default(vmint)._native.attach(name)

    @classmethod
    def create(
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
        return cls._create(
            "kept" if keep else "ephemeral", image, memory, cpus, net, name, snapshot, cold, vmint
        )

    @classmethod
    def _create(
        cls,
        life: Life,
        image: Optional[str],
        memory: Union[None, int, str],
        cpus: Optional[int],
        net: Optional[str],
        name: Optional[str],
        snapshot: Optional[str],
        cold: bool,
        vmint: Optional[Vmint],
    ) -> Machine:
        hardware = asked_hardware(image, memory, cpus, net)
        host = default(vmint)._native
        self = cls.__new__(cls)
        self._native = host.start(hardware, life=life, name=name, snapshot=snapshot, cold=cold).wait()
        return self

    @property
    def aio(self) -> _aio.Machine:
        """The same machine, to be awaited."""
        from . import aio

        return aio.Machine._of(self._native)

    def info(self) -> dict[str, Any]:
        """Returns everything known about the machine."""
        return self._native.info()

    def start(self) -> None:
        """Starts the machine if it is stopped."""
        self._native.start().wait()

    def stop(self, *, force: bool = False) -> None:
        """Stops the machine if it is running: asks its init, or cuts the power with ``force``. A machine without ``keep`` is removed."""
        self._native.stop(force=force).wait()

    def restore(self, snapshot: str) -> None:
        """Brings the machine back to a snapshot."""
        self._native.restore(snapshot).wait()

    def remove(self) -> None:
        """Destroys the machine; does nothing if it is already gone."""
        self._native.remove().wait()

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.remove()


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

    @property
    def aio(self) -> _aio.Lease:
        """The same lease, to be awaited."""
        from . import aio

        return aio.Lease(self._native)

    def record(self) -> dict[str, Any]:
        """Returns the record of the lease, also after it has ended: ``ended`` then says how."""
        return self._native.record()

    def info(self) -> dict[str, Any]:
        """Returns everything known about the machine."""
        return self._native.info()

    def renew(self) -> dict[str, Any]:
        """Renews the lease: its ``ttl`` starts again."""
        return self._native.renew()

    def release(self) -> None:
        """Releases the machine, which vmint then replaces for the next holder. Calling it again raises
        :class:`LeaseLost` and is harmless."""
        self._native.release().wait()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        try:
            self.release()
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
    def create(
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
        warn_of(name, default(vmint)._native.create_pool(name, hardware, shape).wait())
        return cls(name, vmint=vmint)

    @property
    def name(self) -> str:
        """Its name."""
        return self._native.name

    def status(self) -> dict[str, Any]:
        """The pool, and ``counts``: how many of its machines are in which state."""
        return self._native.status()

    def acquire(
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
        return Lease(self._native.acquire(label, timeout, ttl, wait, keep_lost).wait())

    def resize(self, *, min: Optional[int] = None, max: Optional[int] = None) -> None:
        """Changes the number of machines; opens the pool again if it was drained."""
        count("min", min, optional=True)
        count("max", max, optional=True)
        warn_of(self.name, self._host.resize_pool(self.name, min, max).wait())

    def drain(self, *, timeout: Optional[float] = None) -> None:
        """Stops handing out machines. With ``timeout``, waits up to that long for them to go."""
        self._host.drain_pool(self.name, timeout).wait()

    def remove(self, *, force: bool = False, timeout: float = 60.0) -> None:
        """Removes the pool with all of its machines: leased ones when their leases end, or at once with ``force``."""
        self._host.remove_pool(self.name, force, timeout).wait()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.name}>"


# As users import them.
for _class in (Vm, Machine, Lease, Pool):
    _class.__module__ = "vmint"
