#!/usr/bin/env python3
"""spool.py FOLDER: stores what it reads as the next message of a spool, all of it or nothing.

Exit code 0: stored, and on the disk; 75 (EX_TEMPFAIL): no room now, nothing was stored; 73 (EX_CANTCREAT): no room ever.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def store(folder: Path, data: bytes) -> Path:
    """Writes to a hidden file first: a reader of the spool never sees half a message."""
    last = max((int(p.stem) for p in folder.glob("*.msg")), default=0)
    new = folder / f".{os.getpid()}.new"
    final = folder / f"{last + 1:08}.msg"
    try:
        with new.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        new.rename(final)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return final


def main(folder: str) -> int:
    try:
        print(store(Path(folder), sys.stdin.buffer.read()))
    except OSError as e:
        print(f"spool: {folder}: {e.strerror}", file=sys.stderr)
        return 75 if e.errno in NO_ROOM else 73
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
