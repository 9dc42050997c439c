"""What can go wrong, in two families that have no common member.

:class:`VmintError` is a failure of vmint, of the host, or of how vmint was called. :class:`CommandFailed` is a failure of
a command in a machine. A failure of the one is never reported as the other.
"""

from __future__ import annotations

import signal as _signal
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from ._result import Result


class VmintError(Exception):
    """A failure of vmint or of the host.

    ``kind`` is one word to decide by, the same as in the program's JSON; ``hint`` says what to do, if anything is known.
    """

    def __init__(self, message: str, kind: str = "internal", hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.kind, self.hint)


class VmLost(VmintError):
    """The machine ended while it was used."""


class LeaseLost(VmintError):
    """The lease has ended: it was released, its time was up, or its machine was lost."""


class StaleGeneration(VmintError):
    """The handle is of an older generation: the machine was reset since."""


class NotOwner(VmintError):
    """The lease is somebody else's."""


class NotFound(VmintError):
    """The named thing does not exist."""


class Refused(VmintError):
    """A limit or the host's resources forbid it."""


class Pressure(Refused):
    """The host does not have enough memory right now."""


class TimedOut(VmintError, TimeoutError):
    """vmint did not finish in time. A command that runs too long is :class:`CommandTimedOut`."""


class PoolClosed(VmintError):
    """The pool is drained or being removed."""


_CLASSES: dict[str, type[VmintError]] = {
    "machine_lost": VmLost,
    "lease_lost": LeaseLost,
    "stale_generation": StaleGeneration,
    "not_owner": NotOwner,
    "not_found": NotFound,
    "refused": Refused,
    "pressure": Pressure,
    "timed_out": TimedOut,
    "pool_closed": PoolClosed,
}


def from_fault(kind: str, message: str, hint: Optional[str]) -> Exception:
    """The exception for a failure of this kind; the native module calls this."""
    if kind in ("command_not_found", "command_not_executable"):
        return CommandNotStarted(message, 127 if kind == "command_not_found" else 126)
    return _CLASSES.get(kind, VmintError)(message, kind, hint)


class CommandFailed(Exception):
    """A command in a machine ended with another exit code than 0."""

    def __init__(self, command: str, result: Result) -> None:
        super().__init__(command, result)
        self.command = command
        self.result = result

    @property
    def exit_code(self) -> int:
        """The command's exit code; 128 + N if signal N killed it."""
        return self.result.exit_code

    def _how(self) -> str:
        number = self.result.signal
        if number is None:
            return f"exit code {self.result.exit_code}"
        try:
            return f"killed by {_signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"

    def __str__(self) -> str:
        # A traceback is shown on a terminal, which must not obey what a guest has written.
        from ._native import printable_lines

        lines = [f"{self.command}: {self._how()}"]
        for name, text in (("stdout", self.result.text), ("stderr", self.result.error)):
            if text.strip():
                tail = text[-2000:].rstrip("\n")
                lines.append(f"{name}:\n{tail}")
        return printable_lines("\n".join(lines))


class CommandTimedOut(CommandFailed, TimeoutError):
    """A command ran past its time limit, and was killed in the machine. Raised with and without ``check``."""

    def __init__(self, command: str, result: Result, timeout: float) -> None:
        super().__init__(command, result)
        self.args = (command, result, timeout)
        self.timeout = timeout

    def _how(self) -> str:
        return f"killed after its time limit of {self.timeout:g} s"


class CommandNotStarted(CommandFailed):
    """A program does not exist in the machine (exit code 127) or cannot be executed (126). Raised with and without
    ``check``."""

    def __init__(self, message: str, exit_code: int) -> None:
        from ._result import Result

        super().__init__(message, Result(exit_code, b"", b""))
        self.args = (message, exit_code)

    def __str__(self) -> str:
        return self.command


# As users import them.
for _class in (*_CLASSES.values(), VmintError, CommandFailed, CommandTimedOut, CommandNotStarted):
    _class.__module__ = "vmint"
