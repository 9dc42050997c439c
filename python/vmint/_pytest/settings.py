"""Options, ini options and marks, and what they say together: a mark wins over an option, an option over the ini file, that over
``vmint.toml``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional

import pytest

if TYPE_CHECKING:
    from .._host import Hardware

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
    add("cpus", "the machines' processors", metavar="N", type=int)
    add("net", "the machines' network: none, nat, or allow:DOMAIN[,DOMAIN...]", metavar="NET")
    add(
        "on-pressure",
        "when the host cannot carry a machine now: wait (default), skip the test, or fail",
        choices=POLICIES,
    )
    add("timeout", "how many seconds to wait for a machine (default: 120)", metavar="SECONDS", type=float)
    add(
        "rerun-lost",
        "run a test again, so often at most, whose machine was lost by a fault of vmint or the host",
        metavar="N",
        type=int,
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
    parser.addini("vmint_keep_failed", "The same as --vmint-keep-failed.", type="bool", default=False)


def _given(config: pytest.Config, name: str) -> Any:
    value = config.getoption(f"vmint_{name}", default=None)
    if value is None:
        value = config.getini(f"vmint_{name}")
    return None if value in (None, "") else value


def of_config(config: pytest.Config) -> Wanted:
    cpus = _given(config, "cpus")
    return Wanted(
        image=_given(config, "image"),
        memory=_given(config, "memory"),
        cpus=None if cpus is None else int(cpus),
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
    return replace(base, **said)


def on_pressure(config: pytest.Config) -> str:
    value = _given(config, "on_pressure") or "wait"
    if value not in POLICIES:
        raise pytest.UsageError(f"vmint_on_pressure is {value!r}: it is one of {', '.join(POLICIES)}")
    return str(value)


def timeout(config: pytest.Config) -> float:
    return float(_given(config, "timeout") or 120)


def rerun_lost(config: pytest.Config) -> int:
    return int(_given(config, "rerun_lost") or 0)


def keep_failed(config: pytest.Config) -> bool:
    return bool(_given(config, "keep_failed"))
