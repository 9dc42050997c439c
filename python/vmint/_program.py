"""The program ``vmint`` that comes with the package."""

from __future__ import annotations

import os
import shutil
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Iterator, Optional


def binary() -> Optional[Path]:
    """The program ``vmint``: what ``VMINT_RUNNER`` names, else the one that was installed with this package, else the one in
    ``PATH``."""
    named = os.environ.get("VMINT_RUNNER")
    if named:
        return Path(named)
    return next((path for path in _candidates() if path.is_file() and not _is_script(path)), None)


def _candidates() -> Iterator[Path]:
    yield Path(sysconfig.get_path("scripts")) / "vmint"
    # Installed for a user, or into a folder, it lies where only the installer's record says.
    try:
        for file in metadata.files("vmint") or ():
            if file.name == "vmint" and file.parent.name == "bin":
                yield Path(str(file.locate()))
    except metadata.PackageNotFoundError:
        pass
    found = shutil.which("vmint")
    if found:
        yield Path(found)


def _is_script(path: Path) -> bool:
    """Whether it is a script of some version before, which is no program that owns machines."""
    with path.open("rb") as file:
        return file.read(2) == b"#!"
