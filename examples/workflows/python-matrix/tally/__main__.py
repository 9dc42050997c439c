"""`python -m tally 3 <text` prints the three most frequent words."""

from __future__ import annotations

import sys

from tally import top


def main(args: list[str]) -> int:
    count = int(args[0]) if args else 10
    for word, times in top(sys.stdin, count):
        print(f"{times:6} {word}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
