"""How an operation of the library is awaited: by asyncio, or by trio, whichever runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar

if TYPE_CHECKING:
    from . import _native

T = TypeVar("T")


async def done(operation: _native.Operation[T]) -> T:
    """The result of an operation. Cancelled at any moment, nothing is left that was made for it."""
    value, claim = await (_by_trio(operation) if _in_trio() else _by_asyncio(operation))
    # Only now: what nobody was given is taken back when its claim goes.
    claim()
    return value


def _in_trio() -> bool:
    # Who uses trio has imported it.
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


async def _by_asyncio(operation: _native.Operation[T]) -> tuple[T, _native.Claim]:
    try:
        event_loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("vmint.aio is awaited by asyncio or by trio, and neither is running") from None
    future: asyncio.Future[tuple[T, _native.Claim]] = event_loop.create_future()

    def settle(
        future: asyncio.Future[tuple[T, _native.Claim]],
        value: T,
        claim: Optional[_native.Claim],
        error: Optional[BaseException],
    ) -> None:
        if future.done():
            return
        if claim is None:
            assert error is not None
            future.set_exception(error)
        else:
            future.set_result((value, claim))

    task = operation.start(event_loop, future, settle)
    try:
        return await future
    finally:
        task.cancel()


class _Trio:
    """What of an event loop the library needs: to be told from another thread."""

    def __init__(self, token: Any) -> None:
        self.token = token

    def call_soon_threadsafe(self, callback: Callable[..., object], *arguments: Any) -> None:
        self.token.run_sync_soon(callback, *arguments)


class _Answer(Generic[T]):
    """What an operation has come to."""

    def __init__(self, event: Any) -> None:
        self.event = event
        self.value: Optional[tuple[T, _native.Claim]] = None
        self.error: Optional[BaseException] = None


async def _by_trio(operation: _native.Operation[T]) -> tuple[T, _native.Claim]:
    import trio

    answer: _Answer[T] = _Answer(trio.Event())

    def settle(
        answer: _Answer[T], value: T, claim: Optional[_native.Claim], error: Optional[BaseException]
    ) -> None:
        answer.error = error
        if claim is not None:
            answer.value = (value, claim)
        answer.event.set()

    task = operation.start(_Trio(trio.lowlevel.current_trio_token()), answer, settle)
    try:
        await answer.event.wait()
    finally:
        task.cancel()
    if answer.error is not None:
        raise answer.error
    assert answer.value is not None
    return answer.value
