"""The pin that opens a door: off at first, off at the end, and off if its service should hang."""

from __future__ import annotations

import contextlib
import threading

from ...client.logs import Log
from ..gpio.pins import Output
from ..logic.door import OPEN_LIMIT

log = Log("bellwire.pi")

#: The pin is switched off by a thread of its own where the loop has not by then; seconds.
GUARD = OPEN_LIMIT + 1.0


class DoorPin:
    """Switched by the loop; a guard beside it switches off what the loop leaves on too long."""

    def __init__(self, output: Output, guard: float = GUARD) -> None:
        self._output, self._after = output, guard
        self._lock = threading.Lock()
        self._guard: threading.Timer | None = None

    def open(self) -> str:
        """Switch it on; why that cannot be done, else "". Never raises."""
        try:
            with self._lock:
                if self._guard is None:  # it counts from when the pin went on, whatever follows
                    guard = threading.Timer(self._after, self._forced)
                    guard.daemon = True
                    guard.start()
                    self._guard = guard
                self._output.set(True)
        except Exception as error:  # noqa: BLE001 - a driver's error: the door stays closed
            log.error("the door's pin cannot be switched", error=error)
            # Where it cannot be switched off either the guard tries again, and the next turn of
            # the loop ends the service; but who asked is answered first, and it is on record.
            with contextlib.suppress(Exception):
                self.set(False)
            return "the door's pin cannot be switched"
        return ""

    def set(self, on: bool) -> None:
        """Switch it off; on is :meth:`open`'s alone. Raises what the driver does."""
        if not on:
            with self._lock:
                self._output.set(False)
                if self._guard is not None:
                    self._guard.cancel()
                    self._guard = None

    def _forced(self) -> None:
        log.error("the door was open for %g s: its service hangs; switched off", self._after)
        try:
            self.set(False)
        except Exception as error:  # noqa: BLE001 - nobody is left to tell but the log
            log.error("the door's pin cannot be switched off", error=error)
