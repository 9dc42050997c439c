"""What is cancelled or interrupted leaves nothing that nobody holds, in a process that lives on."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import vmint
import vmint.aio

from conftest import Home, wait_until

STEP = 0.015
"""By how much longer each time something is left to itself."""


def machines(home: Home) -> list[str]:
    return [one["name"] for one in home.json("ls", "--all")]


def cancelled(home: Home, begin: Callable[[], Awaitable[Any]], by_asyncio: bool, stays: list[str]) -> int:
    """Cancels it after ever longer times, until it is done before; returns how often."""

    async def in_asyncio(limit: float) -> bool:
        try:
            await asyncio.wait_for(begin(), limit)
        except asyncio.TimeoutError:
            return False
        return True

    async def in_trio(limit: float) -> bool:
        with trio.move_on_after(limit) as scope:
            await begin()
        return not scope.cancelled_caught

    for times in itertools.count():
        limit = times * STEP
        done = asyncio.run(in_asyncio(limit)) if by_asyncio else trio.run(in_trio, limit)
        if done:
            return times
        wait_until(lambda: machines(home) == stays, f"only {stays} after {limit} s")
    raise AssertionError("never done")


@pytest.mark.parametrize("by_asyncio", [True, False], ids=["asyncio", "trio"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_machine_whose_making_is_cancelled_is_taken_back(home: Home, keep: bool, by_asyncio: bool) -> None:
    def begin() -> Awaitable[Any]:
        return vmint.aio.Machine.create(memory="128M", name="box", keep=keep)

    assert cancelled(home, begin, by_asyncio, []) >= 2
    assert machines(home) == ["box"]
    vmint.Machine("box").remove()


def test_a_fork_whose_making_is_cancelled_is_taken_back(home: Home) -> None:
    with vmint.Machine.create(memory="128M", name="source") as source:
        assert cancelled(home, lambda: source.aio.fork("child"), True, ["source"]) >= 2
        assert sorted(machines(home)) == ["child", "source"]
        vmint.Machine("child").remove()
        assert source.exec("echo up").text == "up\n"


@pytest.mark.parametrize("what", ["create", "fork"])
def test_a_signal_that_raises_takes_the_machine_back(home: Home, what: str) -> None:
    class Interrupted(BaseException):
        pass

    def handler(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    source = vmint.Machine.create(memory="128M", name="source")
    try:
        for times in itertools.count():
            signal.setitimer(signal.ITIMER_REAL, 0.02 + times * STEP)
            try:
                if what == "create":
                    vmint.Machine.create(memory="128M", name="box", keep=True)
                else:
                    source.fork("box")
                break
            except Interrupted:
                wait_until(lambda: machines(home) == ["source"], "it is taken back")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        assert times >= 2
    finally:
        signal.signal(signal.SIGALRM, before)
    vmint.Machine("box").remove()
    source.remove()


def test_what_came_too_late_to_be_given_to_anybody_is_taken_back(home: Home) -> None:
    async def story() -> None:
        making = asyncio.ensure_future(vmint.aio.Machine.create(memory="128M", name="box", keep=True))
        await asyncio.sleep(0.01)
        # The machine comes up while the loop stands still, and its answer finds the task cancelled.
        end = time.monotonic() + 20
        while not any(one["state"] == "running" for one in home.json("ls", "--all")):
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.2)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

    asyncio.run(story())
    wait_until(lambda: machines(home) == [], "it is taken back")


def test_without_asyncio_and_trio_it_is_said_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="asyncio or by trio"):
        vmint.aio.Machine.create(memory="128M").send(None)


def test_trio_runs_commands_and_waits_in_line(home: Home) -> None:
    pool = vmint.Pool.create("py", memory="128M", min=1, max=1)

    async def one(number: int, said: list[str]) -> None:
        async with await vmint.aio.Pool("py").acquire() as lease:
            said.append((await lease.exec(f"echo {number}", check=True)).text.strip())

    async def story() -> list[str]:
        said: list[str] = []
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(one, number, said)
        return said

    assert sorted(trio.run(story)) == ["0", "1", "2"]
    pool.remove(force=True)
