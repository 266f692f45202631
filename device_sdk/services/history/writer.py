"""What a service gives its calls to: never waits for the card, never raises, bounded.

A thread of its own writes. What cannot be written is said, once an hour, and lost; the
service goes on. A damaged file is put aside, and a new one is begun.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...client.clocks import unix_time
from ...client.display import at_time, shown
from ...client.logs import Log
from .store import (
    ALL_ROWS,
    MAX_TEXT,
    HistoryError,
    HistoryFilter,
    HistoryOutcome,
    HistoryRow,
    HistoryStore,
    read_history,
)

log = Log("bellwire.pi")

#: Changes that wait to be written; more push the oldest out.
MAX_WAITING = 256
#: How long closing waits for what is not written yet; seconds.
CLOSE_TIMEOUT = 3.0
#: Until a file that could not be opened is tried again; seconds.
_RETRY = 30.0
#: The same trouble is said again after this long; seconds.
_COMPLAINT = 3600.0

#: What is written by and by.
Change = Callable[[HistoryStore], None]


class History:
    """The history of one service; its methods are for any thread and return at once.

    ``file`` None, or ``keep`` 0: nothing is kept, and there is nothing to read. ``wall`` tells the
    time of day, which is kept for people and decides nothing.
    """

    def __init__(
        self, file: Path | None, keep: int = 1000, wall: Callable[[], float] = time.time
    ) -> None:
        self._file = file if keep else None
        self._keep, self._wall = keep, wall
        self._waiting: deque[Change] = deque(maxlen=MAX_WAITING)
        self._news = threading.Condition()
        self._closed = False
        self._lost = 0
        self._complaint, self._quiet_until = "", 0.0
        self._store: HistoryStore | None = None
        self._open_at = 0.0
        self._thread: threading.Thread | None = None
        if self._file is not None:
            self._thread = threading.Thread(
                target=self._write, name="bellwire-history", daemon=True
            )
            self._thread.start()

    @property
    def kept(self) -> bool:
        """Whether anything is kept at all."""
        return self._file is not None

    def rang(self, call_id: str, caller: str, callee: str, text: object = None) -> None:
        """A call came in, or is made; ``text``: its content. A second time for it is no new row."""
        what = "" if text is None else shown(text, MAX_TEXT)
        at, outcome = unix_time(self._wall), HistoryOutcome.RINGING
        if not at_time(at):  # a clock that was never set
            at = None
        row = HistoryRow(call_id, at, caller, callee, outcome, text=what)
        self._put(lambda store: store.insert(row))

    def ended(self, call_id: str, outcome: HistoryOutcome, answered_by: str = "") -> None:
        """The invitation is over; ``answered_by``: which peer, or who at the page, answered it."""
        self._change(call_id, outcome=outcome, answered_by=answered_by)

    def missed(self, call_id: str, caller: str, callee: str, text: object = None) -> None:
        """A call was made while this peer was away, or busy."""
        self.rang(call_id, caller, callee, text)
        self.ended(call_id, HistoryOutcome.MISSED)

    def opened(self, call_id: str) -> None:
        """The door was opened in that call."""
        self._change(call_id, opened=True)

    def talked(self, call_id: str, seconds: float) -> None:
        """The call that went on is over, after so long."""
        self._change(call_id, seconds=round(max(0.0, seconds), 1))

    def read(self, wanted: HistoryFilter = ALL_ROWS) -> list[HistoryRow]:
        """The rows as they are in the file, the newest first; none where nothing can be read."""
        if self._file is None or not self._file.exists():
            return []
        try:
            return read_history(self._file, wanted)
        except HistoryError as error:
            self._complain(str(error))
            return []

    def flush(self, timeout: float = CLOSE_TIMEOUT) -> bool:
        """Wait until all is written, or lost; whether it is. Blocks."""
        with self._news:
            return self._news.wait_for(lambda: not self._waiting, timeout)

    def close(self) -> None:
        """Write what waits, within :data:`CLOSE_TIMEOUT`, and close the file."""
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT)

    def _change(self, call_id: str, **columns: Any) -> None:
        self._put(lambda store: store.update(call_id, columns))

    def _put(self, change: Change) -> None:
        if self._file is None:
            return
        with self._news:
            self._lost += len(self._waiting) == MAX_WAITING
            self._waiting.append(change)
            self._news.notify()

    # --- on the writer's thread --------------------------------------------------------------

    def _write(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    break
                change = self._waiting[0]
                lost, self._lost = self._lost, 0
            if lost:
                log.warning("the history is too slow: %d changes are lost", lost)
            try:
                self._apply(change)
            except Exception as error:  # noqa: BLE001 - this thread's supervisor: the service goes on
                self._complain(str(error) or type(error).__name__)
            with self._news:
                # Pushed out meanwhile, it is no longer the first.
                if self._waiting and self._waiting[0] is change:
                    self._waiting.popleft()
                self._news.notify_all()
        if self._store is not None:
            self._store.close()

    def _apply(self, change: Change) -> None:
        store = self._opened()
        if store is None:
            return
        try:
            change(store)
        except HistoryError as error:
            if not error.damaged:
                raise
            store.close()
            self._store = None
            self._put_aside(error)
            store = self._opened()
            if store is not None:
                change(store)

    def _opened(self) -> HistoryStore | None:
        """The open file; None where it cannot be opened, and was tried a moment ago."""
        assert self._file is not None  # noqa: S101 # else there is no thread
        if self._store is None and time.monotonic() >= self._open_at:
            self._open_at = time.monotonic() + _RETRY
            try:
                self._store = self._begun(self._file)
            except HistoryError as error:
                if not error.damaged:
                    raise
                self._put_aside(error)
                self._store = self._begun(self._file)
            self._open_at = 0.0
        return self._store

    def _begun(self, file: Path) -> HistoryStore:
        store = HistoryStore(file, self._keep)
        try:
            store.give_up_ringing()
        except BaseException:
            store.close()
            raise
        return store

    def _put_aside(self, error: HistoryError) -> None:
        assert self._file is not None  # noqa: S101 # as above
        aside = self._file.with_name(self._file.name + ".damaged")
        self._file.replace(aside)
        with contextlib.suppress(OSError):
            self._file.with_name(self._file.name + "-journal").unlink()
        self._open_at = 0.0
        log.warning("%s; it is now %s", error, aside)

    def _complain(self, problem: str) -> None:
        now = time.monotonic()
        if problem != self._complaint or now >= self._quiet_until:
            self._complaint, self._quiet_until = problem, now + _COMPLAINT
            log.warning("the history is not written or read: %s", problem)
