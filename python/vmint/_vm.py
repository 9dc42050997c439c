"""What a machine of one's own and a leased one have in common, with and without ``await``."""

from __future__ import annotations

import posixpath
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Union

from . import _native
from ._host import PathLike

if TYPE_CHECKING:
    from ._native import Operation

Input = Union[str, bytes]


class Core:
    """The native handle, and its operations as they are built from Python's words."""

    _native: Union[_native.Machine, _native.Lease]

    @property
    def id(self) -> str:
        """The machine's id: no other machine ever has it."""
        return self._native.machine_id

    @property
    def name(self) -> str:
        """The machine's name, as in `vmint ls`."""
        return self._native.name

    def console(self) -> str:
        """All that the machine has said on its console."""
        return self._native.console()

    def _copy_in(self, source: PathLike, target: str) -> Operation[None]:
        return self._native.copy_in(Path(source), target)

    def _copy_out(self, source: str, target: PathLike) -> Operation[None]:
        return self._native.copy_out(source, target)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.name}>"


class FileIn:
    """A file with this content, to be copied into a machine."""

    def __init__(self, path: str, content: Input) -> None:
        if not posixpath.basename(path):
            raise ValueError(f"{path!r} is not a file path in the machine")
        self.folder = tempfile.TemporaryDirectory(prefix="vmint-")
        self.source = Path(self.folder.name) / posixpath.basename(path)
        self.source.write_bytes(content.encode() if isinstance(content, str) else content)

    def __enter__(self) -> Path:
        return self.source

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()
