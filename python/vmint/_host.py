"""vmint on this host, opened once for each process and home."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Literal, Optional, TypedDict, Union

from . import _native
from ._program import binary

PathLike = Union[str, "os.PathLike[str]"]


Life = Literal["ephemeral", "owned", "kept"]
"""How long a machine stays: until it stops; until it is removed, and it stops with this process; until it is removed."""


class Hardware(TypedDict):
    """What a machine shall be; ``None`` is the settings' default."""

    image: Optional[str]
    memory: Optional[str]
    cpus: Optional[int]
    net: Optional[str]


class Shape(TypedDict):
    """How many machines a pool has."""

    min: int
    max: int
    standby: int
    ttl: Optional[float]
    max_uses: Optional[int]


class Changed(TypedDict):
    """A pool as it became, and what could not be made."""

    status: dict[str, Any]
    failed: list[dict[str, Any]]


def warn_of(pool: str, changed: Changed) -> None:
    """Says what could not be made."""
    for fault in changed["failed"]:
        warnings.warn(f"a machine of pool {pool} could not be made: {fault['message']}", stacklevel=3)


def size(memory: Union[None, int, str]) -> Optional[str]:
    """Memory as the library reads it: ``"512M"``, or bytes."""
    return None if memory is None else str(memory)


class Vmint:
    """vmint on this host: a home (``VMINT_HOME`` unless another is named) and what is in it.

    Opening makes the home if need be, and clears up what dead processes left. ``vmint.toml`` is looked for from the
    working directory upwards.
    """

    def __init__(self, home: Optional[PathLike] = None, *, on_pressure: Optional[str] = None) -> None:
        """``on_pressure`` is what to do when the host cannot carry a machine now: ``"wait"``, or ``"fail"``."""
        folder = None if home is None else Path(home)
        self._native = _native.Host.open(folder, binary(), Path.cwd(), on_pressure)

    @property
    def home(self) -> Path:
        """Its folder."""
        return Path(self._native.home)

    def machines(self) -> list[dict[str, Any]]:
        """The records of all machines, the oldest first."""
        return self._native.machines()

    def pools(self) -> list[dict[str, Any]]:
        """All pools, with how many of their machines are in which state."""
        return self._native.pools()

    def leases(self) -> list[dict[str, Any]]:
        """All leases that have not ended."""
        return self._native.leases()

    def release_lease(self, lease_id: str, *, force: bool = False) -> dict[str, Any]:
        """Ends a lease by its id. One that is held by neither this process nor one that it descends from raises
        :class:`NotOwner`, unless forced."""
        return self._native.release_lease(lease_id, force=force)

    def events(self, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """What happened, behind the event of number ``after``."""
        return self._native.events(after, limit)

    def sweep(self) -> list[str]:
        """Clears up what dead processes left; says what was found."""
        return self._native.sweep()

    def __repr__(self) -> str:
        return f"Vmint({str(self.home)!r})"


_opened: dict[tuple[int, Optional[str], Optional[str]], Vmint] = {}


def default(vmint: Optional[Vmint] = None) -> Vmint:
    """This one, or the one of this process and its environment. A forked child opens its own."""
    if vmint is not None:
        return vmint
    key = (os.getpid(), os.environ.get("VMINT_HOME"), os.environ.get("VMINT_RUNTIME_DIR"))
    if key not in _opened:
        _opened[key] = Vmint()
    return _opened[key]
