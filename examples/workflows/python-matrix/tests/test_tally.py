from __future__ import annotations

import locale
import subprocess
import sys

import pytest

from tally import top, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("One two, TWO.", ["one", "two", "two"]),
        ("don't stop", ["don't", "stop"]),
        ("4 x 4 = 16", ["x"]),
        ("Straße, naïve, 東京", ["straße", "naïve", "東京"]),
    ],
)
def test_words_are_found(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_ties_are_in_the_order_of_the_alphabet_whatever_the_order_of_the_texts() -> None:
    # A set of strings is in another order for each PYTHONHASHSEED.
    texts = {"pear apple fig", "fig apple", "kiwi", "plum", "lime"}
    assert top(texts, 4) == [("apple", 2), ("fig", 2), ("kiwi", 1), ("lime", 1)]


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        top(["a"], 0)


def test_the_program_reads_utf8_in_every_locale() -> None:
    locale.setlocale(locale.LC_ALL, "")
    done = subprocess.run(
        [sys.executable, "-m", "tally", "1"],
        input="Weiß weiß\nrot\n".encode(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == "     2 weiß\n"
