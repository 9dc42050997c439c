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
    """Requested hardware; ``None`` means the configured default."""

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


def hardware(
    image: Optional[str], memory: Union[None, int, str], cpus: Optional[int], net: Optional[str]
) -> Hardware:
    """Checks the requested hardware; an error for a wrong type names the argument."""
    _expect("image", image, "a str", str)
    _expect("memory", memory, 'a size as a str such as "512M", or bytes as an int', int, str)
    _expect("cpus", cpus, "an int", int)
    _expect("net", net, "a str", str)
    return Hardware(image=image, memory=None if memory is None else str(memory), cpus=cpus, net=net)


def shape(min: int, max: int, standby: int, ttl: Optional[float], max_uses: Optional[int]) -> Shape:
    """How many machines a pool has."""
    for name, value in (("min", min), ("max", max), ("standby", standby)):
        count(name, value)
    count("max_uses", max_uses, optional=True)
    _expect("ttl", ttl, "seconds as a number", int, float)
    return Shape(min=min, max=max, standby=standby, ttl=ttl, max_uses=max_uses)


def count(name: str, value: Optional[int], *, optional: bool = False) -> None:
    """Expects a number of something."""
    if value is None and optional:
        return
    if value is None:
        raise TypeError(f"{name} must be an int, not None")
    _expect(name, value, "an int", int)
    if not 0 <= value < 2**32:
        raise ValueError(f"{name} must be 0 or more, and less than 2**32, not {value}")


def _expect(name: str, value: object, what: str, *types: type) -> None:
    if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
        raise TypeError(f"{name} must be {what}, not {type(value).__name__}")


class Vmint:
    """vmint on this host: a home (``VMINT_HOME`` unless another is named) and what is in it.

    Opening makes the home if need be, and clears up what dead processes left.
    """

    def __init__(
        self,
        home: Optional[PathLike] = None,
        *,
        on_pressure: Optional[str] = None,
        settings_from: Optional[PathLike] = None,
    ) -> None:
        """``on_pressure`` is what to do when the host cannot carry a machine now: ``"wait"``, or ``"fail"``. ``vmint.toml`` is read
        now, and looked for from ``settings_from`` upwards, which is the working directory unless named."""
        self._open(home, _native.Settings.read(Path(settings_from or Path.cwd())), on_pressure)

    def _open(
        self, home: Optional[PathLike], settings: _native.Settings, on_pressure: Optional[str]
    ) -> None:
        folder = None if home is None else Path(home)
        self._native = _native.Host.open(folder, binary(), settings, on_pressure)

    @classmethod
    def _with(cls, settings: _native.Settings, on_pressure: Optional[str]) -> Vmint:
        """The home of the environment, by settings that were read before."""
        self = cls.__new__(cls)
        self._open(None, settings, on_pressure)
        return self

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


Vmint.__module__ = "vmint"

_opened: dict[tuple[int, Optional[str], Optional[str]], Vmint] = {}


def default(vmint: Optional[Vmint] = None) -> Vmint:
    """This one, or the one of this process and its environment. A forked child opens its own."""
    if vmint is not None:
        return vmint
    key = (os.getpid(), os.environ.get("VMINT_HOME"), os.environ.get("VMINT_RUNTIME_DIR"))
    if key not in _opened:
        _opened[key] = Vmint()
    return _opened[key]
