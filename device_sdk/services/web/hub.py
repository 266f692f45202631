"""The newest state of a page, for any number of browsers: who is slow misses what is old, no more.

Threads: the event loop of the server; :meth:`Hub.put` is called from any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

#: A sign of life this often, so that a page knows within 5 s that it hears nothing; seconds.
BEAT = 1.5
#: Pages that are heard at once.
MAX_PAGES = 200


class Hub:
    """A register, and who waits for its next value. ``unix``: the time that beats tell."""

    def __init__(self, unix: Callable[[], float] = time.time) -> None:
        self._unix = unix
        self._loop: asyncio.AbstractEventLoop | None = None
        self._latest = b""
        self._number = 0
        self._changed = asyncio.Event()
        self._closed = False
        self.pages = 0

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """That loop turns now; called on it."""
        self._loop = loop

    def put(self, latest: bytes) -> None:
        """Let every page have ``latest``, one line of JSON; from any thread."""
        self._call(lambda: self._put(latest))

    def close(self) -> None:
        """End what every page hears; from any thread."""
        self._call(self._close)

    async def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events: the state now and at each change, and beats between."""
        self.pages += 1
        try:
            heard = -1
            yield f"event: beat\ndata: {self._unix():.1f}\n\n".encode()
            while not self._closed:
                if heard != self._number and self._latest:
                    heard = self._number
                    yield b"data: " + self._latest + b"\n\n"
                    continue  # there may be a newer one already
                changed = self._changed
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT):
                        await changed.wait()
                        continue
                yield f"event: beat\ndata: {self._unix():.1f}\n\n".encode()
        finally:
            self.pages -= 1

    def _put(self, latest: bytes) -> None:
        self._latest = latest
        self._number += 1
        self._wake()

    def _close(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _call(self, what: Callable[[], None]) -> None:
        if self._loop is None:
            what()  # nothing turns yet
            return
        with contextlib.suppress(RuntimeError):  # it is closed: nobody hears any more
            self._loop.call_soon_threadsafe(what)
