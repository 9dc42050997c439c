"""What the example's tests share."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--test-seconds",
        type=float,
        default=float(os.environ.get("TEST_SECONDS", "0")),
        metavar="S",
        help="let each test take so long in its machine, to measure what vmint adds (default: TEST_SECONDS, or 0)",
    )


@pytest.fixture
def pause(request: pytest.FixtureRequest) -> str:
    """What a test does in its machine first: it takes as long as `--test-seconds` says."""
    seconds = request.config.getoption("--test-seconds")
    return f"sleep {seconds}\n" if seconds else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Who looks comes right behind who spoils.
    def place(item: pytest.Item) -> tuple[int, str, bool]:
        parameters = item.callspec.params  # type: ignore[attr-defined]
        return parameters["round"], parameters["how"], "spoils" not in item.name

    items.sort(key=place)
