"""Group commit: all that is noted while one commit runs goes into the next, without a timer."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from pathlib import Path
from typing import Protocol

from ..core.journal import Kept, Operation
from .sqlite import Database, Step, Synchronous

logger = logging.getLogger(__name__)

#: Seconds between attempts to write what could not be written.
_RETRY = 1.0


class Keeper(Protocol):
    """Who is told, in the event loop's thread."""

    def committed(self, mark: int) -> None:
        """All operations up to the ``mark``-th are kept."""

    def failed(self) -> None:
        """They could not be kept; it is tried again."""


class Store:
    """Writes behind the broker's back and says when it is done. Its thread has the database."""

    def __init__(self, path: Path, *, synchronous: Synchronous = "normal") -> None:
        self.path = path
        self.database = Database(path, synchronous)
        #: While the disk takes nothing.
        self.refusing = False
        self.commits = 0
        self.failures = 0
        self.seconds = 0.0
        self._noted: list[Operation] = []
        self._mark = 0
        self._busy = False
        self._keeper: Keeper | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = asyncio.Event()
        self._inbox: queue.SimpleQueue[list[Step] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> Kept:
        """What a former broker left; raises StoreError."""
        return self.database.open()

    def start(self, loop: asyncio.AbstractEventLoop, keeper: Keeper) -> None:
        """Begin to write; everything else is called from ``loop``'s thread."""
        self._loop, self._keeper = loop, keeper
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def write(self, operations: list[Operation]) -> None:
        """Keep these, after all that came before."""
        self._noted += operations
        self._hand_over()

    def _hand_over(self) -> None:
        if self._noted and not self._busy:
            self._busy = True
            self._idle.clear()
            operations, self._noted = self._noted, []
            self._mark += len(operations)
            self._inbox.put(self.database.prepare(operations))

    def _run(self) -> None:
        loop = self._loop
        while (steps := self._inbox.get()) is not None and loop is not None:
            error: Exception | None = None
            started = time.perf_counter()
            try:
                self.database.write(steps)
            except Exception as failed:  # noqa: BLE001 - told to the loop, which would wait for ever else
                error = failed
            took = time.perf_counter() - started
            loop.call_soon_threadsafe(self._written, steps, error, took)

    def _written(self, steps: list[Step], error: Exception | None, took: float) -> None:
        assert self._keeper is not None  # noqa: S101 - given before the thread was started
        if error is None:
            if self.refusing:
                logger.warning("%s takes writes again", self.path)
            self._busy = self.refusing = False
            self.commits += 1
            self.seconds += took
            self._idle.set()
            self._keeper.committed(self._mark)
            self._hand_over()
            return
        if not self.refusing:
            logger.error(
                "cannot write %s: %s. Publishes that would have to be kept are refused until it "
                "can be written; is the disk full?", self.path, error,
                exc_info=None if isinstance(error, sqlite3.Error) else error,
            )  # fmt: skip
        self.refusing = True
        self.failures += 1
        self._idle.set()
        self._keeper.failed()
        if self._loop is not None:
            # What subscribers have seen is to be kept in the end: the same again, until it goes.
            self._loop.call_later(_RETRY, self._inbox.put, steps)

    async def close(self) -> None:
        """Write what was noted, then close the database."""
        while self._busy and not self.refusing:
            await self._idle.wait()
        if self._thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self.database.close()
