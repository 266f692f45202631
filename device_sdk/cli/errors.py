"""What a command ends with: the exit codes, and the errors that carry one."""

from __future__ import annotations

from enum import IntEnum

from ..errors import BellwireError


class ExitCode(IntEnum):
    """Exit codes; scripts rely on them."""

    OK = 0
    LOST = 1
    USAGE = 2
    REFUSED = 10
    NOT_ANSWERED = 11
    NOT_REACHED = 12
    CANCELED = 13
    BROKER = 14
    NOT_ALLOWED = 15
    DEFECT = 70


class CommandError(BellwireError):
    """The command ends here with ``code``; the text is one line: what, why, what to do."""

    def __init__(self, code: ExitCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class UsageError(CommandError):
    """The command was called, or configured, in a way that cannot be."""

    def __init__(self, text: str) -> None:
        super().__init__(ExitCode.USAGE, text)


class Interrupted(BaseException):
    """SIGINT or SIGTERM came while nothing else could take note of it."""
