"""What is sent to others beside the loop: a lane for each address, bounded in number and time.

An address that hangs holds up nothing but its own lane, in which newer messages push out older
ones; what could not be begun in its time is dropped and said: a ring that is told late is no ring.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from ...client.logs import Log

log = Log("bellwire.pi")

#: What waits for one address.
MAX_WAITING = 8


class _Job(NamedTuple):
    what: str
    run: Callable[[], None]
    until: float


class Lanes:
    """Runs jobs of one key one after the other, of several keys beside each other; any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._empty = threading.Condition(self._lock)
        self._waiting: dict[Hashable, deque[_Job]] = {}
        self._closed = False

    def put(self, key: Hashable, what: str, run: Callable[[], None], timeout: float) -> None:
        """Have ``run`` run in the lane of ``key``, within ``timeout`` s or not at all.

        ``what`` names it in the log. Never waits, never raises.
        """
        dropped = None
        with self._lock:
            if self._closed:
                return
            lane = self._waiting.get(key)
            begins = lane is None
            if lane is None:
                lane = self._waiting[key] = deque()
            elif len(lane) >= MAX_WAITING:
                dropped = lane.popleft()
            lane.append(_Job(what, run, self._clock() + timeout))
        if dropped is not None:
            log.warning("%s: %d wait already: the oldest is dropped", dropped.what, MAX_WAITING)
        if begins:
            try:
                threading.Thread(
                    target=self._serve, args=(key,), name="bellwire-hook", daemon=True
                ).start()
            except RuntimeError as error:  # the bell goes on without it
                with self._lock:
                    self._waiting.pop(key, None)
                log.warning("%s cannot be begun: %s", what, error)

    def close(self, until: float = -math.inf) -> None:
        """Begin nothing more, once all is sent or ``until`` by the clock has come.

        What runs still ends by its own bound, or with the process.
        """
        with self._empty:
            self._empty.wait_for(lambda: not self._waiting, max(0.0, until - self._clock()))
            self._closed = True
            for lane in self._waiting.values():
                lane.clear()

    def _serve(self, key: Hashable) -> None:
        """The lane's thread: as long as something waits in it."""
        while True:
            with self._lock:
                lane = self._waiting[key]
                if not lane:
                    del self._waiting[key]
                    self._empty.notify_all()
                    return
                job = lane.popleft()
            if self._clock() > job.until:
                log.warning("%s: too late, the one before took too long: it is dropped", job.what)
                continue
            try:
                job.run()
            except BaseException as error:  # noqa: BLE001 - the lane's supervisor: a sender that exits would make its address deaf
                log.error("%s failed", job.what, error=error)
