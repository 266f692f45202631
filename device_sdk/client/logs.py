"""Log records that harm nobody: a handler is the application's code, and may raise or block.

A record that is made while the session is guarded waits in a :class:`Records` until that is over.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections import deque


def log_safely(
    log: logging.Logger, level: int, text: str, *args: object, error: object = None
) -> None:
    """Log, with the traceback of ``error`` if that is one; what a handler raises costs its record.

    It is shown on standard error unless ``logging.raiseExceptions`` is false, as ``logging`` does.
    """
    info = error if isinstance(error, BaseException) else None
    try:
        log.log(level, text, *args, exc_info=info)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a handler that exits ends nothing but its record
        if logging.raiseExceptions:
            with contextlib.suppress(Exception):  # no standard error to show it on
                traceback.print_exc(file=sys.stderr)


class Log:
    """A logger whose methods do not raise."""

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(name)

    def log(self, level: int, text: str, *args: object, error: object = None) -> None:
        """As :meth:`logging.Logger.log`; ``error`` brings its traceback."""
        log_safely(self._log, level, text, *args, error=error)

    def info(self, text: str, *args: object) -> None:
        """As :meth:`logging.Logger.info`."""
        self.log(logging.INFO, text, *args)

    def warning(self, text: str, *args: object) -> None:
        """As :meth:`logging.Logger.warning`."""
        self.log(logging.WARNING, text, *args)

    def error(self, text: str, *args: object, error: object = None) -> None:
        """As :meth:`logging.Logger.error`."""
        self.log(logging.ERROR, text, *args, error=error)


class Records:
    """Records of one logger that wait to be said, in order; any thread may add, any may say."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._waiting: deque[tuple[int, str, tuple[object, ...], object]] = deque()

    def add(self, level: int, text: str, *args: object, error: object = None) -> None:
        """Keep a record; runs nobody's code, so that a guard may be held."""
        if self._log.isEnabledFor(level):
            self._waiting.append((level, text, args, error))

    def flush(self) -> None:
        """Say what waits; hold no guard."""
        while self._waiting:
            try:
                level, text, args, error = self._waiting.popleft()
            except IndexError:  # another thread said it
                return
            log_safely(self._log, level, text, *args, error=error)
