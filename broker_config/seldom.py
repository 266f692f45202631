"""Log lines that anybody may cause: each at most once a minute, with how many were left out."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .limits import Allowance

#: Seconds between two lines of one key; keys remembered; lines a second of all keys, and at once.
_EVERY = 60.0
_KEYS = 1000
_RATE, _BURST = 1.0, 30
#: Characters shown of what a client sent.
_SHOWN = 64


def short(value: object) -> str:
    """``value`` as a log line shows what a client sent: escaped, and of bounded length."""
    text = value if isinstance(value, str) else str(value)
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text)} characters)"


class Seldom:
    """Logs for those who would fill the disk with it. ``clock`` gives seconds that never jump."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._said: dict[object, float] = {}
        self._left_out: dict[object, int] = {}
        self._allowance = Allowance(_RATE, _BURST, clock())
        #: Lines that were left out, in all.
        self.suppressed = 0

    def warning(self, key: object, text: str, *values: object) -> None:
        """Log at warning level, unless there was a line of this ``key`` within the minute.

        A value that is a function is called for what it gives, only if the line is logged.
        """
        now = self._clock()
        if now - self._said.get(key, -_EVERY) < _EVERY or self._allowance.owed(now):
            self.suppressed += 1
            if key in self._left_out or len(self._left_out) < _KEYS:
                self._left_out[key] = self._left_out.get(key, 0) + 1
            return
        self._allowance.take(now)
        while len(self._said) >= _KEYS:
            del self._said[next(iter(self._said))]
        self._said.pop(key, None)
        self._said[key] = now
        values = tuple(value() if callable(value) else value for value in values)
        more = self._left_out.pop(key, 0)
        if more:
            text += " (and %d times more since the last such line)"
            values = (*values, more)
        self._logger.warning(text, *values)
