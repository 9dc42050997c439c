"""Every test has a home of its own, and leaves nothing in it.

A home begins with an image and a template, as links to those of a seed, which is made once. Where the tests of the Rust workspace
have made such a seed, it is used.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
import vmint

TARGET = Path(__file__).parents[2] / "target"
GONE_WITHIN = 10.0


def run(*arguments: str, env: Optional[dict[str, str]] = None) -> str:
    """Calls the program that is in the package."""
    program = vmint.binary()
    assert program is not None
    done = subprocess.run([program, *arguments], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"vmint {arguments}: {done.stderr}"
    return done.stdout


def link_tree(source: Path, target: Path) -> None:
    """Large files are linked; the database is copied; locks and sockets are a home's own."""
    target.mkdir(mode=0o700)
    for entry in source.iterdir():
        if entry.is_symlink():
            continue
        if entry.is_dir():
            link_tree(entry, target / entry.name)
        elif entry.name in ("vmint.db", "vmint.db-wal"):
            shutil.copy2(entry, target / entry.name)
        elif entry.name != "lock" and not entry.name.endswith((".lock", "-shm")):
            os.link(entry, target / entry.name)


@pytest.fixture(scope="session")
def seed() -> Path:
    others = sorted(TARGET.glob("tmp/vmint-seed/*/tiny"), key=lambda path: path.stat().st_mtime)
    if others:
        return others[-1]
    own = TARGET / "python" / "seed"
    if not (own / "done").exists():
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        environment = {**os.environ, "VMINT_HOME": str(own / "home")}
        run("run", "--memory", "128M", "--", "true", env=environment)
        (own / "done").touch()
    return own / "home"


class Home:
    """A ``VMINT_HOME``, and what processes there are of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def processes(self) -> list[str]:
        """All processes but this one that have to do with this home: hypervisors, runners, and who was started in it."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (folder / "cmdline").read_bytes()
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if folder.name == str(os.getpid()) or b"multiprocessing.resource_tracker" in arguments:
                # This process, and Python's own helper, which it keeps.
                continue
            if os.fsencode(f"VMINT_HOME={self.root}\0") in environment or os.fsencode(self.root) in arguments:
                found.append(arguments.replace(b"\0", b" ").decode(errors="replace")[:200])
        return found

    def json(self, *arguments: str) -> Any:
        return json.loads(run(*arguments, "--format", "json"))

    def left(self) -> list[str]:
        """What there is of machines, pools and leases."""
        names = [f"machine {one['name']}" for one in self.json("ls", "--all")]
        names += [f"pool {one['name']}" for one in self.json("pool", "ls")]
        names += [f"lease {one}" for one in self.json("lease", "ls")]
        return names + [f"process {one}" for one in self.processes()]


def assert_empty(home: Home) -> None:
    """Nothing is left, as soon as who cleared up has ended too."""
    left: list[str] = []

    def is_empty() -> bool:
        left[:] = home.left()
        return not left

    try:
        wait_until(is_empty, "the home is empty")
    except AssertionError as e:
        raise AssertionError(f"{e}; left: {left}") from None


def wait_until(condition: Callable[[], Any], what: str, within: float = GONE_WITHIN) -> float:
    """Waits for a condition; returns how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"{what}: not within {within} s"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture
def home(seed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """The ``VMINT_HOME`` of the test and of the processes that it starts."""
    folder = TARGET / "python" / "homes"
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="h-", dir=folder)) / "home"
    # A socket's path may not be long.
    runtime = tempfile.mkdtemp(prefix="vp-")
    link_tree(seed, root)
    monkeypatch.setenv("VMINT_HOME", str(root))
    monkeypatch.setenv("VMINT_RUNTIME_DIR", runtime)
    monkeypatch.delenv("VMINT_RUNNER", raising=False)
    home = Home(root)
    yield home
    try:
        assert_empty(home)
    finally:
        for pool in home.json("pool", "ls"):
            run("pool", "rm", "--force", pool["name"])
        for machine in home.json("ls", "--all"):
            run("rm", "--force", machine["name"])
    shutil.rmtree(root.parent)
    shutil.rmtree(runtime)


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a ``VMINT_HOME`` that does not exist."""
    root = tmp_path / "no-such-home"
    monkeypatch.setenv("VMINT_HOME", str(root))
    monkeypatch.delenv("VMINT_RUNNER", raising=False)
    return root
