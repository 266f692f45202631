"""The one loop of a service: what is posted, what is due, the watchdog's beat, in that order."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue

from ...client.clocks import since_start
from .sd_notify import Notifier

#: Looked at least this often, so that a lost wake-up is a hiccup and not a hang; seconds.
_LONGEST = 60.0


class Loop:
    """Runs everything on the thread that calls :meth:`run`; :meth:`post` is for all others.

    Its clock counts sleep, as the client's does: what is over for the caller is over here.
    """

    def __init__(self, notifier: Notifier, clock: Callable[[], float] | None = None) -> None:
        self._notifier = notifier
        self._clock = since_start if clock is None else clock
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._exit: int | None = None
        #: Has what it is given called by way of the other loops that must turn: the watchdog is fed
        #: only if they do, and this one.
        self.pulse: Callable[[Callable[[], None]], None] = _at_once

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return self._clock()

    def post(self, call: Callable[[], None]) -> None:
        """Have ``call`` called by the loop; from any thread, never blocks."""
        self._queue.put(call)

    def stop(self, code: int = 0) -> None:
        """End :meth:`run` with ``code``; from any thread or signal handler; the first wins."""
        if self._exit is None:
            self._exit = code
        self._queue.put(None)

    def run(self, tick: Callable[[], None], deadline: Callable[[], float | None]) -> int:
        """Turn until stopped; the exit code. ``tick`` is called after whatever happened.

        An exception of a call ends the loop with it: systemd starts a service whose state nobody
        knows afresh.
        """
        beat_at = self._clock()
        while self._exit is None:
            now = self._clock()
            if self._notifier.interval is not None and now >= beat_at:
                self.pulse(self._notifier.beat)
                beat_at = now + self._notifier.interval
            due = deadline()
            wait = _LONGEST if due is None else min(max(0.0, due - now), _LONGEST)
            if self._notifier.interval is not None:
                wait = min(wait, max(0.0, beat_at - now))
            try:
                call = self._queue.get(timeout=wait) if wait > 0 else self._queue.get_nowait()
            except Empty:
                call = None
            while call is not None:
                call()
                try:
                    call = self._queue.get_nowait()
                except Empty:
                    call = None
            tick()
        return self._exit


def _at_once(beat: Callable[[], None]) -> None:
    beat()
