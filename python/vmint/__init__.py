"""vmint: a real virtual machine for every test, in milliseconds.

    import vmint

    with vmint.Machine.create(image="tiny", memory="128M") as vm:  # one machine of one's own
        print(vm.exec("uname -r", check=True).text)

    pool = vmint.Pool("web")  # made by `vmint pool create web ...` or by `vmint.Pool.create("web", ...)`
    with pool.acquire(label="my test") as vm:  # a fresh machine that is already up
        vm.exec(["systemctl", "restart", "nginx"], check=True)

The same with ``await`` is in :mod:`vmint.aio`. The pytest plugin comes with the package: its fixtures are ``vm``, ``worker_vm``,
``clean_worker_vm`` and ``fresh_vm``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import aio as aio
    from ._errors import (
        CommandFailed,
        CommandNotStarted,
        CommandTimedOut,
        LeaseLost,
        NotFound,
        NotOwner,
        PoolClosed,
        Pressure,
        Refused,
        StaleGeneration,
        TimedOut,
        VmintError,
        VmLost,
    )
    from ._host import Vmint
    from ._program import binary
    from ._result import Result
    from ._sync import Lease, Machine, Pool

    __version__: str

# What is named here is imported when it is first used: pytest loads the plugin in every session, also in those that have
# nothing to do with machines, and the program `vmint` is started through this package.
_HOMES = {
    "CommandFailed": "_errors",
    "CommandNotStarted": "_errors",
    "CommandTimedOut": "_errors",
    "Lease": "_sync",
    "LeaseLost": "_errors",
    "Machine": "_sync",
    "NotFound": "_errors",
    "NotOwner": "_errors",
    "Pool": "_sync",
    "PoolClosed": "_errors",
    "Pressure": "_errors",
    "Refused": "_errors",
    "Result": "_result",
    "StaleGeneration": "_errors",
    "TimedOut": "_errors",
    "VmLost": "_errors",
    "Vmint": "_host",
    "VmintError": "_errors",
    "binary": "_program",
}

__all__ = [
    "CommandFailed",
    "CommandNotStarted",
    "CommandTimedOut",
    "Lease",
    "LeaseLost",
    "Machine",
    "NotFound",
    "NotOwner",
    "Pool",
    "PoolClosed",
    "Pressure",
    "Refused",
    "Result",
    "StaleGeneration",
    "TimedOut",
    "VmLost",
    "Vmint",
    "VmintError",
    "aio",
    "binary",
]


# A checker of types must not see this: to it, every name would be there.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return importlib.import_module("vmint._native").__version__
        if name == "aio":
            return importlib.import_module("vmint.aio")
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'vmint' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"vmint.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
