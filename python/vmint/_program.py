"""The program `vmint` that comes with the package."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Optional


def binary() -> Optional[Path]:
    """The program `vmint`: what ``VMINT_RUNNER`` names, else the one in this package, else the one in ``PATH``."""
    named = os.environ.get("VMINT_RUNNER")
    if named:
        return Path(named)
    own = Path(__file__).parent / "_bin" / "vmint"
    if own.is_file():
        return own
    # The script that pip makes of this package is no program that owns machines.
    found = shutil.which("vmint")
    return Path(found) if found and not _is_script(Path(found)) else None


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def main() -> None:
    """Becomes the program."""
    program = binary()
    if program is None:
        sys.exit("vmint: this package was built without the program vmint, and there is none in PATH")
    os.execv(program, ["vmint", *sys.argv[1:]])
