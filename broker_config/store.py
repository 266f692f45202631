"""What survives the broker: retained messages, persistent sessions and wills, in SQLite (WAL).

The event loop only notes what is to be written. All that is noted while one commit runs goes into
the next: a group commit without a timer. The writing thread is the only one with the database.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .handler import SignalingHandler
    from .session import Outgoing, SignalingSession

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE retained (topic TEXT PRIMARY KEY, data BLOB NOT NULL, qos INTEGER NOT NULL,
    at REAL NOT NULL, place INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE session (client TEXT PRIMARY KEY, owner TEXT, gone REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE subscription (client TEXT NOT NULL, filter TEXT NOT NULL, qos INTEGER NOT NULL,
    PRIMARY KEY (client, filter)) WITHOUT ROWID;
CREATE TABLE queue (row INTEGER PRIMARY KEY, client TEXT NOT NULL, topic TEXT NOT NULL,
    data BLOB NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL, packet_id INTEGER,
    received INTEGER NOT NULL DEFAULT 0);
CREATE TABLE incoming (client TEXT NOT NULL, packet_id INTEGER NOT NULL,
    PRIMARY KEY (client, packet_id)) WITHOUT ROWID;
CREATE TABLE will (client TEXT PRIMARY KEY, topic TEXT NOT NULL, data BLOB NOT NULL,
    qos INTEGER NOT NULL, retain INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE seen (user TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""
#: For those who look from outside: who is connected, and which registry the broker goes by.
_OUTWARD = """
CREATE TABLE IF NOT EXISTS online (user TEXT PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS applied (one INTEGER PRIMARY KEY CHECK (one = 1), registry TEXT);
DELETE FROM online;
DELETE FROM applied;
"""
#: In the queue's column ``retain``: not a message but a filter whose retained ones are to be sent.
OWED = 2
#: Before this the clock is not set (2025-01-01): an age by it means nothing.
CLOCK_IS_SET = 1735689600.0
#: Seconds between attempts to write what could not be written.
_RETRY = 1.0

Synchronous = Literal["normal", "full"]


class StoreError(Exception):
    """The database cannot be used; the text says which and why."""


@dataclass(slots=True)
class Loaded:
    """What was found: rows in the order of their tables' columns, retained in publishing order."""

    retained: list[tuple[str, bytes, int, float]]
    sessions: list[tuple[str, str | None, float]]
    subscriptions: list[tuple[str, str, int]]
    queue: list[tuple[int, str, str, bytes, int, int, int | None, int]]
    incoming: list[tuple[str, int]]
    wills: list[tuple[str, str, bytes, int, int]]
    seen: dict[str, float]
    #: Where an unusable database was put, if there was one.
    set_aside: Path | None = None


@dataclass(slots=True)
class _Batch:
    ticket: int
    retained: dict[str, tuple[str, bytes, int, float, int] | None] = field(default_factory=dict)
    rows: dict[int, list[Any]] = field(default_factory=dict)
    operations: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    waiting: dict[SignalingHandler, None] = field(default_factory=dict)
    futures: list[asyncio.Future[None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.retained or self.rows or self.operations)


class Store:
    """Writes behind the broker's back and says when it is done.

    ``synchronous``: "normal" keeps everything committed through any end of the process (SIGKILL
    included); "full" also through a power cut, at the price of an fsync for each group.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous = "normal") -> None:
        self.path = path
        self._synchronous = synchronous
        #: Grows with everything noted: equal marks mean that nothing was noted in between.
        self.mark = 0
        #: While the disk does not take it: nothing more is accepted that would have to be kept.
        self.refusing = False
        self.commits = 0
        self.failures = 0
        self.seconds = 0.0
        self._batch = _Batch(1)
        self._under_way: _Batch | None = None
        self._row = 0
        self._place = 0
        self._seen: dict[str, float] = {}
        self._online: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._database: sqlite3.Connection | None = None

    # --- opening and closing ----------------------------------------------------------------

    def open(self) -> Loaded:
        """Open the database, or set it aside and make a new one; give what is in it.

        Raises :class:`StoreError` when neither is possible.
        """
        set_aside = None
        try:
            loaded = self._open()
        except (sqlite3.OperationalError, OSError) as error:
            raise StoreError(f"cannot open {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            set_aside = self._set_aside(str(error))
            try:
                loaded = self._open()
            except (sqlite3.Error, OSError) as again:
                raise StoreError(f"cannot make {self.path}: {again}") from again
        loaded.set_aside = set_aside
        self._row = max((row[0] for row in loaded.queue), default=0)
        self._seen = loaded.seen
        return loaded

    def _open(self) -> Loaded:
        database = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        try:
            return self._read(database)
        except BaseException:
            database.close()
            raise

    def _read(self, database: sqlite3.Connection) -> Loaded:
        self.path.chmod(0o600)
        version = database.execute("PRAGMA user_version").fetchone()[0]
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise sqlite3.DatabaseError(
                f"it is of version {version}, this broker reads up to {SCHEMA_VERSION}"
            )
        if not version:
            if tables:
                raise sqlite3.DatabaseError("it is a database of something else")
            database.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={self._synchronous}")
        database.executescript(f"BEGIN;{_OUTWARD}COMMIT;")
        rows = database.execute
        retained = rows(
            "SELECT topic, data, qos, at, place FROM retained ORDER BY place"
        ).fetchall()
        self._place = retained[-1][4] if retained else 0
        loaded = Loaded(
            [row[:4] for row in retained],
            rows("SELECT client, owner, gone FROM session").fetchall(),
            rows("SELECT client, filter, qos FROM subscription").fetchall(),
            rows(
                "SELECT row, client, topic, data, qos, retain, packet_id, received"
                " FROM queue ORDER BY row"
            ).fetchall(),
            rows("SELECT client, packet_id FROM incoming").fetchall(),
            rows("SELECT client, topic, data, qos, retain FROM will").fetchall(),
            dict(rows("SELECT user, at FROM seen").fetchall()),
        )
        self._database = database
        return loaded

    def _set_aside(self, why: str) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = self.path.with_name(f"{self.path.name}.unusable-{stamp}")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        logger.error(
            "%s cannot be used: %s. It was set aside as %s and an empty one takes its place; "
            "retained messages come back as devices reconnect",
            self.path, why, aside,
        )  # fmt: skip
        return aside

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to write; everything else is called from ``loop``'s thread."""
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()
        if self._batch:
            loop.call_soon(self._hand_over)  # noted while what was kept was taken up

    async def close(self) -> None:
        """Write what was noted, then close the database."""
        while not self.refusing and (self._under_way or self._batch):
            try:
                await self.kept()
            except StoreError:
                break
        if self._thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        if self._database is not None:
            self._database.close()
            self._database = None

    # --- what is noted ----------------------------------------------------------------------

    @property
    def ticket(self) -> int:
        """The commit with which everything noted until now is kept: it may be done already."""
        return self._batch.ticket if self._batch else self._batch.ticket - 1

    def _touch(self) -> _Batch:
        self.mark += 1
        batch = self._batch
        if not batch and self._under_way is None and self._loop is not None:
            # At the end of this turn of the event loop: what else it notes goes along.
            self._loop.call_soon(self._hand_over)
        return batch

    def _note(self, statement: str, *values: Any) -> None:
        self._touch().operations.append((statement, values))

    def retain(self, topic: str, data: bytes, qos: int) -> None:
        """Keep ``topic``'s retained message."""
        self._place += 1
        self._touch().retained[topic] = (topic, data, qos, time.time(), self._place)

    def clear(self, topic: str) -> None:
        """Forget ``topic``'s retained message."""
        self._touch().retained[topic] = None

    def enqueue(self, session: SignalingSession, message: Outgoing) -> int:
        """Keep a message until its receiver has it; gives its row."""
        self._row += 1
        self._touch().rows[self._row] = [
            self._row, session.client_id, message.topic, message.data, message.qos,
            int(message.retain), None,
        ]  # fmt: skip
        return self._row

    def owe(self, session: SignalingSession, topic_filter: str, qos: int) -> int:
        """Keep that a subscription's retained messages are to be sent; gives its row."""
        self._row += 1
        self._touch().rows[self._row] = [
            self._row, session.client_id, topic_filter, b"", qos, OWED, None
        ]  # fmt: skip
        return self._row

    def sent(self, row: int, packet_id: int) -> int:
        """The message of ``row`` goes out under ``packet_id``, now and whenever again.

        Gives the commit that keeps this.
        """
        batch = self._touch()
        if row in batch.rows:
            batch.rows[row][6] = packet_id
        else:
            batch.operations.append(("UPDATE queue SET packet_id=? WHERE row=?", (packet_id, row)))
        return self.ticket

    def released(self, row: int) -> int:
        """The receiver has the QoS 2 message of ``row``; gives the commit that keeps this."""
        self._note("UPDATE queue SET received=1 WHERE row=?", row)
        return self.ticket

    def done(self, row: int) -> None:
        """The message of ``row`` needs no keeping any more."""
        batch = self._touch()
        if batch.rows.pop(row, None) is None:
            batch.operations.append(("DELETE FROM queue WHERE row=?", (row,)))

    def received(self, session: SignalingSession, packet_id: int) -> int:
        """A QoS 2 message came from ``session``; gives the commit that keeps this."""
        self._note("INSERT OR REPLACE INTO incoming VALUES (?, ?)", session.client_id, packet_id)
        return self.ticket

    def forgotten(self, session: SignalingSession, packet_id: int) -> int:
        """A QoS 2 message will not come from ``session`` again; gives the commit of this."""
        self._note(
            "DELETE FROM incoming WHERE client=? AND packet_id=?", session.client_id, packet_id
        )
        return self.ticket

    def subscribe(self, session: SignalingSession, topic_filter: str, qos: int) -> None:
        """Keep a subscription."""
        self._note(
            "INSERT OR REPLACE INTO subscription VALUES (?, ?, ?)",
            session.client_id, topic_filter, qos,
        )  # fmt: skip

    def unsubscribe(self, session: SignalingSession, topic_filter: str) -> None:
        """Forget a subscription."""
        self._note(
            "DELETE FROM subscription WHERE client=? AND filter=?", session.client_id, topic_filter
        )

    def session(self, session: SignalingSession, *, connected: bool = False) -> None:
        """Keep a persistent session, and since when it is without a connection."""
        self._note(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?)",
            session.client_id, session.owner, 0.0 if connected else time.time(),
        )  # fmt: skip

    def drop(self, client_id: str) -> None:
        """Forget a session with all that belongs to it."""
        batch = self._touch()
        for row in [row for row, values in batch.rows.items() if values[1] == client_id]:
            del batch.rows[row]
        for table in ("session", "subscription", "queue", "incoming"):
            batch.operations.append((f"DELETE FROM {table} WHERE client=?", (client_id,)))  # noqa: S608 - four constants

    def will(self, session: SignalingSession) -> None:
        """Keep a will, to be published if the broker does not live to do so."""
        self._note(
            "INSERT OR REPLACE INTO will VALUES (?, ?, ?, ?, ?)",
            session.client_id, session.will_topic, bytes(session.will_message or b""),
            session.will_qos, int(bool(session.will_retain)),
        )  # fmt: skip

    def no_will(self, client_id: str) -> None:
        """Forget a will."""
        self._note("DELETE FROM will WHERE client=?", client_id)

    def seen(self, user: str) -> None:
        """Note that ``user`` was here; at most once an hour, the figure is for people."""
        now = time.time()
        if not 0 <= now - self._seen.get(user, 0.0) < 3600:
            self._seen[user] = now
            self._note("INSERT OR REPLACE INTO seen VALUES (?, ?)", user, now)

    def came(self, user: str) -> None:
        """Note that ``user`` has one connection more."""
        self._online[user] += 1
        self.seen(user)
        if self._online[user] == 1:
            self._note("INSERT OR REPLACE INTO online VALUES (?, ?)", user, time.time())

    def went(self, user: str) -> None:
        """Note that ``user`` has one connection less; without any it was last seen now."""
        self._online[user] -= 1
        if self._online[user] <= 0:
            del self._online[user]
            self._seen[user] = time.time()
            self._note("INSERT OR REPLACE INTO seen VALUES (?, ?)", user, self._seen[user])
            self._note("DELETE FROM online WHERE user=?", user)

    def applied(self, digest: str) -> None:
        """Note which registry the broker goes by, for who has changed it and waits."""
        self._note("INSERT OR REPLACE INTO applied VALUES (1, ?)", digest)

    # --- when it is kept --------------------------------------------------------------------

    def tell(self, handler: SignalingHandler, ticket: int) -> None:
        """Call ``handler.committed`` (or ``refused``) when ``ticket`` is done."""
        if ticket >= self._batch.ticket:
            self._batch.waiting[handler] = None
        elif self._under_way is not None and ticket >= self._under_way.ticket:
            self._under_way.waiting[handler] = None
        else:
            handler.committed(ticket)

    async def kept(self) -> None:
        """Wait until everything noted so far is committed; raises :class:`StoreError`."""
        if not self._batch and self._under_way is None:
            return
        assert self._loop is not None  # noqa: S101 - something was noted, so it was started
        future: asyncio.Future[None] = self._loop.create_future()
        self._batch.futures.append(future)
        if not self._batch:
            self._note("SELECT 1")
        await future

    def _hand_over(self) -> None:
        if self._under_way is not None or not self._batch:
            return
        batch, self._batch = self._batch, _Batch(self._batch.ticket + 1)
        self._under_way = batch
        self._inbox.put(batch)

    def _run(self) -> None:
        loop = self._loop
        while (batch := self._inbox.get()) is not None and loop is not None:
            error: sqlite3.Error | None = None
            started = time.perf_counter()
            try:
                self._write(batch)
            except sqlite3.Error as failed:
                error = failed
            took = time.perf_counter() - started
            loop.call_soon_threadsafe(self._written, batch, error, took)

    def _write(self, batch: _Batch) -> None:
        database = self._database
        if database is None:
            return
        database.execute("BEGIN IMMEDIATE")
        try:
            for statement, group in groupby(batch.operations, key=lambda operation: operation[0]):
                if statement.startswith("SELECT"):
                    continue
                database.executemany(statement, [values for _, values in group])
            if batch.rows:
                database.executemany(
                    "INSERT OR REPLACE INTO queue VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                    batch.rows.values(),
                )
            kept = [row for row in batch.retained.values() if row is not None]
            if kept:
                database.executemany("INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?, ?)", kept)
            cleared = [(topic,) for topic, row in batch.retained.items() if row is None]
            if cleared:
                database.executemany("DELETE FROM retained WHERE topic=?", cleared)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _written(self, batch: _Batch, error: sqlite3.Error | None, took: float) -> None:
        waiting, futures = batch.waiting, batch.futures
        batch.waiting, batch.futures = {}, []
        if error is None:
            if self.refusing:
                logger.warning("%s takes writes again", self.path)
            self._under_way, self.refusing = None, False
            self.commits += 1
            self.seconds += took
            for handler in waiting:
                handler.committed(batch.ticket)
            for future in futures:
                if not future.done():
                    future.set_result(None)
            self._hand_over()
            return
        if not self.refusing:
            logger.error(
                "cannot write %s: %s. Publishes that would have to be kept are refused until it "
                "can be written; is the disk full?", self.path, error,
            )  # fmt: skip
        again, self.refusing = self.refusing, True
        self.failures += 1
        futures = futures + self._batch.futures
        self._batch.futures = []
        if not again:
            # Those who noted something since wait for a later commit that may be far: refuse them
            # too. What is taken from now on clears and forgets, and is acknowledged in the end.
            waiting = waiting | self._batch.waiting
            self._batch.waiting = {}
        for handler in waiting:
            handler.refused()
        for future in futures:
            if not future.done():
                future.set_exception(StoreError(f"cannot write {self.path}: {error}"))
        if self._loop is not None:
            # What subscribers have seen is to be kept in the end: the same again, until it goes.
            self._loop.call_later(_RETRY, self._inbox.put, batch)
