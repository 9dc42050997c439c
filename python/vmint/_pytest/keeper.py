"""Removes a session's pools when the session's process has died, by whatever signal.

Started by whoever makes the first pool of a run, in a session of its own, so that no signal meant for pytest reaches it. Waits on a
pidfd, and ends when the process has ended: with nothing left to do, if that has removed its pools.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from . import owner


def start(run: str, program: Path) -> None:
    """Starts the keeper of a run. A second one ends by itself."""
    # By way of a shell that ends at once: the keeper is nobody's child, so that nobody has to wait for it.
    command = [sys.executable, "-m", "vmint._pytest.keeper", run, os.fspath(program)]
    subprocess.run(
        ["sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", *command],
        start_new_session=True,
        check=True,
    )


def main(run: str, program: str) -> None:
    alone = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        # In the abstract namespace: it is gone with this process.
        alone.bind(f"\0vmint-{run}-{os.getuid()}")
    except OSError:
        return
    _wait(run)
    for kind, arguments in (("pool", ["pool", "ls"]), ("machine", ["ls", "--all"])):
        listed = subprocess.run([program, *arguments, "--format", "json"], capture_output=True, check=True)
        for one in json.loads(listed.stdout):
            # The pools' machines go with their pools.
            if one["name"].startswith(run):
                remove = ["pool", "rm"] if kind == "pool" else ["rm"]
                subprocess.run([program, *remove, "--force", one["name"]], check=False)


def _wait(run: str) -> None:
    """Until the process of a run has ended."""
    try:
        watched = os.pidfd_open(owner.pid(run))
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        # A kernel before 5.3.
        while not owner.is_dead(run):
            time.sleep(0.2)
        return
    # Only now: before the descriptor was opened, another process could have taken the number.
    if not owner.is_dead(run):
        select.select([watched], [], [])


if __name__ == "__main__":
    main(*sys.argv[1:])
