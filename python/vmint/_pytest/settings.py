"""Options, ini options and marks, and what they say together: a mark wins over an option, an option over the ini file, that over
``vmint.toml``."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar

import pytest

if TYPE_CHECKING:
    from .._host import Hardware

T = TypeVar("T")

HARDWARE = ("image", "memory", "cpus", "net")
POLICIES = ("wait", "skip", "fail")


@dataclass(frozen=True)
class Wanted:
    """What the machine of a test shall be; ``None`` is the default of ``vmint.toml``."""

    image: Optional[str] = None
    memory: Optional[str] = None
    cpus: Optional[int] = None
    net: Optional[str] = None
    pool: Optional[str] = None
    """A pool that exists, if one is to be used."""

    def hardware(self) -> Hardware:
        return {"image": self.image, "memory": self.memory, "cpus": self.cpus, "net": self.net}

    def digest(self) -> str:
        """Six digits, the same for the same hardware."""
        return hashlib.sha256(json.dumps(self.hardware()).encode()).hexdigest()[:6]


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("vmint", "machines for tests")

    def add(name: str, help: str, **how: Any) -> None:
        group.addoption(
            f"--vmint-{name}", dest=f"vmint_{name.replace('-', '_')}", default=None, help=help, **how
        )
        parser.addini(f"vmint_{name.replace('-', '_')}", f"The same as --vmint-{name}.", default=None)

    add("pool", "lend machines from this pool, instead of making one for the session", metavar="NAME")
    add("image", "the machines' image", metavar="NAME")
    add("memory", "the machines' memory, such as 256M", metavar="SIZE")
    add("cpus", "the machines' processors", metavar="N")
    add("net", "the machines' network: none, nat, or allow:DOMAIN[,DOMAIN...]", metavar="NET")
    add(
        "on-pressure",
        "when the host cannot carry a machine now: wait (default), skip the test, or fail",
        metavar="POLICY",
    )
    add("timeout", "how many seconds to wait for a machine (default: 120)", metavar="SECONDS")
    add(
        "rerun-lost",
        "run a test again, so often at most, whose machine was lost by a fault of vmint or the host",
        metavar="N",
    )
    group.addoption(
        "--vmint-figures",
        dest="vmint_figures",
        metavar="FILE",
        help="write the figures of the session's summary into this file, as JSON",
    )
    group.addoption(
        "--vmint-keep-failed",
        dest="vmint_keep_failed",
        action="store_true",
        default=None,
        help="keep a copy of the machine of a failed test, as it was when the test failed",
    )
    group.addoption(
        "--vmint-explain",
        dest="vmint_explain",
        action="store_true",
        default=False,
        help="run no test, but show which machine each would get, and why",
    )
    parser.addini("vmint_keep_failed", "The same as --vmint-keep-failed.", type="bool", default=False)


def _given(config: pytest.Config, name: str) -> Any:
    value = config.getoption(f"vmint_{name}", default=None)
    if value is None:
        value = config.getini(f"vmint_{name}")
    return None if value in (None, "") else value


def source(config: pytest.Config, name: str) -> str:
    """Where a value was given."""
    if config.getoption(f"vmint_{name}", default=None) is not None:
        return f"--vmint-{name.replace('_', '-')}"
    return f"{'ini file' if config.inipath is None else config.inipath.name}"


def _read(config: pytest.Config, name: str, kind: Callable[[Any], T], what: str) -> Optional[T]:
    """A value that is said to be ``what``. A wrong one ends the session at its start."""
    value = _given(config, name)
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        option = f"--vmint-{name.replace('_', '-')}"
        raise pytest.UsageError(
            f"{option} must be {what}, not {value!r} (in {source(config, name)})"
        ) from None


def _number(text: Any) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _positive(text: Any) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _seconds(text: Any) -> float:
    value = float(text)
    if not value > 0 or math.isinf(value):
        raise ValueError
    return value


def _policy(text: Any) -> str:
    if text not in POLICIES:
        raise ValueError
    return str(text)


def check(config: pytest.Config) -> None:
    """Reads all options once, so that a wrong one is told before any test is run."""
    of_config(config)
    on_pressure(config)
    timeout(config)
    rerun_lost(config)
    figures = config.getoption("vmint_figures", default=None)
    if figures is not None:
        folder = Path(figures).absolute().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise pytest.UsageError(f"--vmint-figures must be a file in a folder that exists, not {figures!r}")


def of_config(config: pytest.Config) -> Wanted:
    return Wanted(
        image=_given(config, "image"),
        memory=_given(config, "memory"),
        cpus=_read(config, "cpus", _positive, "a number of processors"),
        net=_given(config, "net"),
        pool=_given(config, "pool"),
    )


def of_item(item: pytest.Item) -> Wanted:
    """What the test's marks say, the nearest one last, over what the session's settings say."""
    base = of_config(item.config)
    said: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("vmint"))):
        unknown = set(mark.kwargs) - set(HARDWARE)
        if unknown or mark.args:
            wrong = ", ".join(sorted(unknown)) or repr(mark.args[0])
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.vmint takes {', '.join(HARDWARE)} by name, and not {wrong}"
            )
        said.update(mark.kwargs)
    if not said:
        return base
    if said.get("memory") is not None:
        said["memory"] = str(said["memory"])
    for name, kind in (("image", str), ("cpus", int), ("net", str)):
        value = said.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.vmint: {name} must be of type {kind.__name__}, not {type(value).__name__}"
            )
    return replace(base, **said)


def on_pressure(config: pytest.Config) -> str:
    return _read(config, "on_pressure", _policy, "one of " + ", ".join(POLICIES)) or "wait"


def timeout(config: pytest.Config) -> float:
    return _read(config, "timeout", _seconds, "a number of seconds above 0") or 120.0


def rerun_lost(config: pytest.Config) -> int:
    """How often a test is run again at most whose machine was lost."""
    return _read(config, "rerun_lost", _number, "a number of reruns, 0 or more") or 0


def keep_failed(config: pytest.Config) -> bool:
    return bool(_given(config, "keep_failed"))
