#!/usr/bin/env python3
"""scrub.py DEVICE: reads a whole disk and prints, as JSON, which sectors cannot be read.

Exit code 0: all can be read; 1: some cannot; 2: this is no disk that can be read at all.
"""

from __future__ import annotations

import errno
import json
import os
import sys

SECTOR = 512
PAGE = 4096
CHUNK = 64 * PAGE


def bad_sectors(device: int, size: int) -> list[int]:
    """A chunk at a time; one that fails is read again page by page, as the kernel's cache does it anyway."""
    bad: list[int] = []
    for start in range(0, size, CHUNK):
        if readable(device, start, min(CHUNK, size - start)):
            continue
        for page in range(start, min(start + CHUNK, size), PAGE):
            if not readable(device, page, min(PAGE, size - page)):
                bad += range(page // SECTOR, (page + PAGE) // SECTOR)
    return bad


def readable(device: int, offset: int, length: int) -> bool:
    try:
        return len(os.pread(device, length, offset)) == length
    except OSError as e:
        if e.errno == errno.EIO:
            return False
        raise


def main(path: str) -> int:
    try:
        device = os.open(path, os.O_RDONLY)
        size = os.lseek(device, 0, os.SEEK_END)
        bad = bad_sectors(device, size)
    except OSError as e:
        print(f"scrub: {path}: {e.strerror}", file=sys.stderr)
        return 2
    print(json.dumps({"device": path, "sectors": size // SECTOR, "bad": bad}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
