"""Workers of xdist, the end of a session, and its summary.

A worker counts for itself, and hands its figures over when it ends. The process that was started by the user adds them up, removes
the session's pools, and counts what is left.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import pytest

from .figures import Figures

if TYPE_CHECKING:
    from .._host import Vmint
    from .session import Session

GATHERED = pytest.StashKey["Gathered"]()
SUMMARY = pytest.StashKey[list[str]]()


class Gathered:
    """What workers have handed over."""

    def __init__(self) -> None:
        self.figures: list[dict[str, Any]] = []
        self.workers = 0
        self.crashed = 0


def tell(node: Any) -> None:
    """Tells a worker whose it is."""
    from .session import run_of

    gathered = node.config.stash.setdefault(GATHERED, Gathered())
    gathered.workers = node.workerinput["workercount"]
    node.workerinput["vmint_run"] = run_of(node.config)


def gather(node: Any) -> None:
    """Takes over what a worker has counted. One that crashed has handed over nothing."""
    gathered = node.config.stash.setdefault(GATHERED, Gathered())
    output = getattr(node, "workeroutput", None)
    if output is None:
        gathered.crashed += 1
    elif "vmint" in output:
        gathered.figures.append(output["vmint"])


def finish(config: pytest.Config, session: Optional[Session]) -> None:
    """The end of the session. What fails in it is told, and never costs the tests' own report."""
    try:
        _finish(config, session)
    except Exception as e:
        config.stash[SUMMARY] = ["vmint", f"the session's end could not be settled: {type(e).__name__}: {e}"]


def _finish(config: pytest.Config, session: Optional[Session]) -> None:
    """The end of the session: in a worker, and then in the process that was started by the user."""
    if session is not None and session.is_open:
        session.close()
    else:
        session = None
    output = getattr(config, "workeroutput", None)
    if output is not None:
        if session is not None:
            output["vmint"] = session.figures.data()
        return
    gathered = config.stash.get(GATHERED, None)
    parts = [] if gathered is None else gathered.figures
    if session is None and not parts and not (gathered is not None and gathered.crashed and _home_exists()):
        # Nobody has used a machine: nothing is opened.
        return
    total = Figures() if session is None else session.figures
    for part in parts:
        total.add(part)
    from .._host import Vmint
    from .session import run_of

    vmint = Vmint() if session is None else session.vmint
    workers = 1 if gathered is None else gathered.workers
    failures = remove_all(vmint, run_of(config))
    if not total.tests and not total.acquiring and not total.making:
        return
    remains = left(vmint, run_of(config), total) + failures
    fresh = resets(vmint, total)
    lines = total.lines(workers, fresh, remains)
    path = config.getoption("vmint_figures", default=None)
    if path:
        text = json.dumps(total.summary(workers, fresh, remains), indent=2)
        try:
            Path(path).write_text(text + "\n", encoding="utf-8")
        except OSError as e:
            lines.append(f"the figures could not be written: {e}")
    if gathered is not None and gathered.crashed:
        lines.append(f"workers that died, and whose figures are missing here: {gathered.crashed}")
    names = sorted(set(total.accelerators))
    title = f"vmint ({', '.join(names)})" if names else "vmint"
    config.stash[SUMMARY] = [title, *lines]


def _home_exists() -> bool:
    """Whether there is a store at all, which a worker that crashed may have used. Does not make one."""
    named = os.environ.get("VMINT_HOME")
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    home = Path(named) if named else Path(state) / "vmint"
    return (home / "vmint.db").exists()


def remove_all(vmint: Vmint, run: str) -> list[str]:
    """Removes the pools and machines of this run; says what did not go."""
    from .._errors import NotFound, VmintError
    from .._sync import Machine

    failures = []
    for pool in [pool["name"] for pool in vmint.pools() if pool["name"].startswith(run)]:
        try:
            vmint._native.remove_pool(pool, True, 60.0).wait()
        except NotFound:
            pass
        except VmintError as e:
            failures.append(f"pool {pool}: {e}")
    for machine in [m["id"] for m in vmint.machines() if m["name"].startswith(run)]:
        try:
            Machine(machine, vmint=vmint).remove()
        except NotFound:
            pass
        except VmintError as e:
            failures.append(f"machine {machine}: {e}")
    return failures


def left(vmint: Vmint, run: str, figures: Figures) -> list[str]:
    """What the store still has of this session: its pools, its machines, and its leases."""
    used = set(figures.machines)
    found = [f"pool {pool['name']}" for pool in vmint.pools() if pool["name"].startswith(run)]
    for machine in vmint.machines():
        pool = machine.get("pool")
        # A machine of a pool that was there before stays there.
        own = machine["id"] in used if pool is None else pool.startswith(run)
        if own or machine["name"].startswith(run):
            found.append(f"machine {machine['name']}")
    for lease in vmint.leases():
        process = lease["owner"].get("process", {})
        if lease["pool"].startswith(run) or process.get("pid") in figures.processes:
            found.append(f"lease {lease['id']} of machine {lease['machine']}")
    return found


def resets(vmint: Vmint, figures: Figures) -> int:
    """How often machines of this session were made fresh, by the event log."""
    used = set(figures.machines)
    events = vmint.events(figures.first_event or 0, 10_000_000)
    return sum(
        event["of"] == "machine"
        and event["machine"] in used
        and event["to"] == "starting"
        and event["from"] is not None
        and str(event["detail"]).startswith("reset")
        for event in events
    )


def tell_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints it."""
    lines = config.stash.get(SUMMARY, None)
    if lines is None:
        return
    terminalreporter.section(lines[0])
    for line in lines[1:]:
        terminalreporter.line(line)
