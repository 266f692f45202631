"""Long work in slices: one slice in each turn of the event loop, those who want one by turns."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: One slice of somebody's work, a fraction of a millisecond; whether more is left to do.
Slice = Callable[[], bool]


class Turns:
    """However many have long work to do, the event loop is kept by one slice at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Slice] = deque()
        self._wanted: set[Slice] = set()

    def want(self, work: Slice) -> None:
        """Have ``work`` called, again and again as long as it says that there is more."""
        if work in self._wanted:
            return
        if not self._wanted:
            self._loop.call_soon(self._turn)
        self._wanted.add(work)
        self._waiting.append(work)

    def _turn(self) -> None:
        work = self._waiting.popleft()
        self._wanted.discard(work)
        more = False
        try:
            more = work()
        except Exception:  # one client's failure keeps nobody else's work waiting
            logger.exception("a slice of work failed")
        if more and work not in self._wanted:
            self._wanted.add(work)
            self._waiting.append(work)
        if self._waiting:
            self._loop.call_soon(self._turn)
