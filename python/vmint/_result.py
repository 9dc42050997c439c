"""The result of a command in a machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union

from ._errors import CommandFailed, CommandTimedOut

Word = Union[str, bytes, "os.PathLike[str]"]
"""An argument of a command."""

Raw = tuple[Optional[int], Optional[int], bytes, bytes]


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said."""

    exit_code: int
    """Its exit code; 128 + N if signal N killed it."""
    stdout: bytes
    stderr: bytes
    signal: Optional[int] = None
    """The signal that killed it, if one did."""

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def error(self) -> str:
        """Standard error as text."""
        return self.stderr.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0


class Asked:
    """A command to run, as the native module reads it."""

    def __init__(
        self,
        command: tuple[Union[Word, Sequence[Word]], ...],
        env: Optional[Mapping[str, str]],
        cwd: Optional[Word],
        user: Optional[str],
        timeout: Optional[float],
        input: Optional[Union[str, bytes]],
        check: bool,
    ) -> None:
        self.argv = _argv(command)
        self.env = [(os.fsencode(k), os.fsencode(v)) for k, v in (env or {}).items()]
        self.cwd = None if cwd is None else os.fsencode(cwd)
        self.user = user
        if timeout is not None and not timeout > 0:
            raise ValueError(f"a time limit of {timeout} s: it must be more than 0")
        self.timeout = timeout
        self.input = input.encode() if isinstance(input, str) else input
        self.check = check

    def __str__(self) -> str:
        if self.argv[:2] == [b"sh", b"-c"] and len(self.argv) == 3:
            return os.fsdecode(self.argv[2])
        return shlex.join(os.fsdecode(word) for word in self.argv)

    def result(self, raw: Raw) -> Result:
        """What the native module says, as a result or an exception."""
        __tracebackhide__ = True  # in pytest's reports
        code, signal, stdout, stderr = raw
        if code is None and signal is None:
            assert self.timeout is not None, "only a time limit ends a command so"
            raise CommandTimedOut(str(self), Result(124, stdout, stderr), self.timeout)
        result = Result(128 + signal if signal is not None else code or 0, stdout, stderr, signal)
        if self.check and not result.ok:
            raise CommandFailed(str(self), result)
        return result


def _argv(command: tuple[Union[Word, Sequence[Word]], ...]) -> list[bytes]:
    if not command:
        raise TypeError("no command was given")
    if len(command) == 1:
        only = command[0]
        if isinstance(only, (str, bytes)):
            return [b"sh", b"-c", os.fsencode(only)]
        if not isinstance(only, os.PathLike):
            words = list(only)
            if not words:
                raise TypeError("no command was given")
            return [os.fsencode(word) for word in words]
    for word in command:
        if not isinstance(word, (str, bytes, os.PathLike)):
            raise TypeError(f"{word!r} is no word of a command")
    return [os.fsencode(word) for word in command]  # type: ignore[arg-type]


# As users import it.
Result.__module__ = "vmint"
