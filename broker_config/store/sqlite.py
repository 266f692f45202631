"""The journal's operations as tables of SQLite (WAL), and what is found in them again."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from ..core.journal import Kept, Operation

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
#: Before this the clock is not set (2025-01-01): an age by it means nothing.
CLOCK_IS_SET = 1735689600.0
_STATEMENTS = {
    "subscribe": "INSERT OR REPLACE INTO subscription VALUES (?, ?, ?)",
    "unsubscribe": "DELETE FROM subscription WHERE client=? AND filter=?",
    "sent": "UPDATE queue SET packet_id=? WHERE row=?",
    "released": "UPDATE queue SET received=1 WHERE row=?",
    "finished": "DELETE FROM queue WHERE row=?",
    "received": "INSERT OR REPLACE INTO incoming VALUES (?, ?)",
    "freed": "DELETE FROM incoming WHERE client=? AND packet_id=?",
    "will": "INSERT OR REPLACE INTO will VALUES (?, ?, ?, ?, ?)",
    "applied": "INSERT OR REPLACE INTO applied VALUES (1, ?)",
    "no will": "DELETE FROM will WHERE client=?",
}
_FORGET = [
    f"DELETE FROM {table} WHERE client=?"  # noqa: S608 - four constants
    for table in ("session", "subscription", "queue", "incoming")
]
_SESSION = "INSERT OR REPLACE INTO session VALUES (?, ?, ?)"
_QUEUED = "INSERT OR REPLACE INTO queue VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_RETAINED = "INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?, ?)"
#: Rows of one statement at most; SQLite takes 999 values in any version.
_ROWS = 64

#: A statement with its values.
Step = tuple[str, tuple[Any, ...]]

Synchronous = Literal["normal", "full"]


class StoreError(Exception):
    """The database cannot be used; the text says which and why."""


def age(at: float, wall: float) -> float:
    """Seconds since ``at``; what was written under an unset clock, or is read under one, is new."""
    return max(0.0, wall - at) if min(at, wall) > CLOCK_IS_SET else 0.0


def _many(insert: str, rows: list[tuple[Any, ...]]) -> Iterator[Step]:
    """``insert`` for all ``rows`` in few statements: the interpreter is fought for at each."""
    head, _, row = insert.partition("(")
    for at in range(0, len(rows), _ROWS):
        part = rows[at : at + _ROWS]
        yield head + ",".join([f"({row}"] * len(part)), tuple(chain.from_iterable(part))


class Database:
    """One file.

    ``synchronous``: "normal" keeps what is committed through any end of the process (SIGKILL
    included); "full" also through a power cut, at the price of an fsync for each group.
    """

    def __init__(self, path: Path, synchronous: Synchronous = "normal") -> None:
        self.path = path
        self._synchronous = synchronous
        self._place = 0
        self._online: Counter[str] = Counter()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> Kept:
        """Open the database, or set it aside and make a new one; give what is in it.

        Raises :class:`StoreError` when neither is possible.
        """
        try:
            return self._open()
        except (sqlite3.OperationalError, OSError) as error:
            raise StoreError(f"cannot open {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._set_aside(str(error))
        try:
            return self._open()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot make {self.path}: {error}") from error

    def _open(self) -> Kept:
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        try:
            kept = self._read(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return kept

    def _read(self, database: sqlite3.Connection) -> Kept:
        self.path.chmod(0o600)
        rows = database.execute
        version = rows("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise sqlite3.DatabaseError(
                f"it is of version {version}, this broker reads version {SCHEMA_VERSION}"
            )
        if not version:
            if rows("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise sqlite3.DatabaseError("it is a database of something else")
            database.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        verdict = rows("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))
        rows("PRAGMA journal_mode=WAL")
        rows(f"PRAGMA synchronous={self._synchronous}")
        database.executescript(f"BEGIN;{_OUTWARD}COMMIT;")
        wall = time.time()
        retained = rows("SELECT * FROM retained ORDER BY place").fetchall()
        self._place = retained[-1][4] if retained else 0
        return Kept(
            [(*row[:3], age(row[3], wall)) for row in retained],
            [(*row[:2], age(row[2], wall)) for row in rows("SELECT * FROM session")],
            rows("SELECT * FROM subscription").fetchall(),
            rows("SELECT * FROM queue ORDER BY row").fetchall(),
            rows("SELECT * FROM incoming").fetchall(),
            rows("SELECT * FROM will").fetchall(),
        )

    def _set_aside(self, why: str) -> None:
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

    def prepare(self, operations: list[Operation]) -> list[Step]:
        """The statements that do ``operations``, for :meth:`write`; in the event loop's thread.

        What comes and goes within ``operations`` is never written.
        """
        wall = time.time()
        retained: dict[str, tuple[Any, ...] | None] = {}
        rows: dict[int, list[Any]] = {}
        others: list[Step] = []
        for name, key, *more in operations:
            if name == "retain":
                self._place += 1
                retained[key] = (key, *more, wall, self._place)
            elif name == "clear":
                retained[key] = None
            elif name == "queue":
                rows[key] = [key, *more, None]
            elif name == "sent" and more[0] in rows:
                rows[more[0]][6] = key
            elif name == "finished" and key in rows:
                del rows[key]
            elif name == "session":
                owner, connected = more
                others.append((_SESSION, (key, owner, 0.0 if connected else wall)))
            elif name in ("came", "went"):
                others += self._seen(key, 1 if name == "came" else -1, wall)
            elif name == "forget":
                for row in [row for row, each in rows.items() if each[1] == key]:
                    del rows[row]
                others += [(statement, (key,)) for statement in _FORGET]
            else:
                if name == "released" and key in rows:
                    others.append((_QUEUED, (*rows.pop(key), 0)))
                others.append((_STATEMENTS[name], (key, *more)))
        others += _many(_QUEUED, [(*row, 0) for row in rows.values()])
        others += _many(_RETAINED, [row for row in retained.values() if row is not None])
        cleared = [topic for topic, row in retained.items() if row is None]
        return others + [("DELETE FROM retained WHERE topic=?", (topic,)) for topic in cleared]

    def write(self, steps: list[Step]) -> None:
        """Do all of it in one transaction, or raise sqlite3.Error and have done nothing."""
        database = self._connection
        if database is None:
            return
        if len(steps) == 1:  # a transaction of its own
            database.execute(*steps[0])
            return
        database.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in steps:
                database.execute(statement, values)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _seen(self, user: str, more: int, wall: float) -> list[Step]:
        """What is written when ``user`` has a connection more or less, for people to look at."""
        self._online[user] += more
        seen = [("INSERT OR REPLACE INTO seen VALUES (?, ?)", (user, wall))]
        if not self._online[user]:
            del self._online[user]
            return [*seen, ("DELETE FROM online WHERE user=?", (user,))]
        if self._online[user] == more == 1:
            return [*seen, ("INSERT OR REPLACE INTO online VALUES (?, ?)", (user, wall))]
        return []

    def close(self) -> None:
        """Close it; what was written is kept."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
