"""Counts words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [word.lower() for word in WORD.findall(text)]


def top(texts: Iterable[str], count: int) -> list[tuple[str, int]]:
    """The most frequent words; those that are equally frequent in the order of the alphabet."""
    if count < 1:
        raise ValueError(f"count must be 1 or more, not {count}")
    seen: Counter[str] = Counter()
    for text in texts:
        seen.update(words(text))
    # Not most_common(): it leaves ties in the order in which they came, which a set's order would decide.
    return sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:count]
