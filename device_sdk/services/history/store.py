"""The history's file: one row a call, at most so many, in SQLite. Blocks; one thread at a time.

The order of rows is that in which calls came; the time of day is for people only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import BellwireError

#: The longest content that is kept; characters.
MAX_TEXT = 200
#: How long a writer or reader waits for the other; seconds.
_PATIENCE = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    call_id TEXT NOT NULL UNIQUE,
    at INTEGER,
    caller TEXT NOT NULL DEFAULT '',
    callee TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT 'ringing',
    answered_by TEXT NOT NULL DEFAULT '',
    opened INTEGER NOT NULL DEFAULT 0,
    seconds REAL,
    text TEXT NOT NULL DEFAULT ''
)
"""


class HistoryOutcome(StrEnum):
    """How a call ended, or that it has not yet."""

    RINGING = "ringing"
    ANSWERED = "answered"
    REFUSED = "refused"
    MISSED = "missed"
    CANCELED = "canceled"
    ANSWERED_ELSEWHERE = "answered_elsewhere"
    FAILED = "failed"
    #: The service ended while it rang, and came back too late to hear.
    UNKNOWN = "unknown"


class HistoryRow(NamedTuple):
    """One call. ``at``: seconds since 1970, None where no clock was set; ``seconds``: it went on.

    ``opened``: whether the door was opened in it; ``text``: what its content had for people.
    """

    call_id: str
    at: int | None
    caller: str
    callee: str
    outcome: HistoryOutcome
    answered_by: str = ""
    opened: bool = False
    seconds: float | None = None
    text: str = ""


_COLUMNS = HistoryRow._fields


class HistoryFilter(NamedTuple):
    """Which rows: of calls made from ``since`` on and before ``until``, by or to ``peer``."""

    since: float | None = None
    until: float | None = None
    peer: str | None = None
    outcomes: tuple[HistoryOutcome, ...] = ()
    limit: int = 100


ALL_ROWS = HistoryFilter()


class HistoryError(BellwireError, OSError):
    """The file cannot be used; the message names it, and says what to do.

    ``damaged``: it is no history, or a broken one, and never will be.
    """

    def __init__(self, text: str, *, damaged: bool = False) -> None:
        super().__init__(text)
        self.damaged = damaged


class HistoryStore:
    """The open file. ``keep``: how many rows; the oldest go. Raises :class:`HistoryError`."""

    def __init__(self, file: Path, keep: int = 1000) -> None:
        import sqlite3  # megabytes that only who keeps a history is worth

        self.file, self._keep = file, keep
        with _explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            # Written by one thread, but not by the one that opened it.
            self._base = sqlite3.connect(file, timeout=_PATIENCE, check_same_thread=False)
            try:
                with self._base:
                    self._base.execute(_SCHEMA)
            except BaseException:
                self._base.close()
                raise

    def insert(self, row: HistoryRow) -> None:
        """Add a call, the oldest beyond so many go; one that is there already rings again."""
        marks = ", ".join("?" * len(_COLUMNS))
        insert = f"INSERT INTO calls ({', '.join(_COLUMNS)}) VALUES ({marks})"  # noqa: S608 # no foreign text
        again = "ON CONFLICT (call_id) DO UPDATE SET outcome = excluded.outcome"
        with _explained(self.file), self._base:
            self._base.execute(f"{insert} {again}", row)
            self._base.execute(
                "DELETE FROM calls WHERE number <= (SELECT max(number) FROM calls) - ?",
                (self._keep,),
            )

    def update(self, call_id: str, columns: Mapping[str, Any]) -> None:
        """Change what ``columns`` name of a call, if it is there."""
        change = ", ".join(f"{name} = ?" for name in columns)
        with _explained(self.file), self._base:
            self._base.execute(
                f"UPDATE calls SET {change} WHERE call_id = ?",  # noqa: S608 # names are the writer's
                (*columns.values(), call_id),
            )

    def give_up_ringing(self) -> None:
        """What still rings in the file rang for a former life: how that ended nobody knows."""
        with _explained(self.file), self._base:
            self._base.execute(
                "UPDATE calls SET outcome = ? WHERE outcome = ?",
                (HistoryOutcome.UNKNOWN, HistoryOutcome.RINGING),
            )

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def read_history(file: Path, wanted: HistoryFilter = ALL_ROWS) -> list[HistoryRow]:
    """The newest ``wanted.limit`` rows that are wanted, the newest first.

    From any thread, while another writes. Raises :class:`HistoryError`, also where there is none.
    """
    with _explained(file):
        there = file.exists()  # raises where this user may not look
    if not there:
        raise HistoryError(f"{file}: there is no history yet: no call was kept there")
    if file.is_dir():
        raise HistoryError(f"{file}: this is a directory; name a file")
    import sqlite3  # as above

    query, values = _query(wanted)
    with _explained(file):
        base = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)
        with contextlib.closing(base):
            return [_row(each) for each in base.execute(query, values)]


def _query(wanted: HistoryFilter) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    if wanted.since is not None:
        parts.append("at >= ?")
        values.append(wanted.since)
    if wanted.until is not None:
        parts.append("at < ?")
        values.append(wanted.until)
    if wanted.peer is not None:
        parts.append("? IN (caller, callee, answered_by)")
        values.append(wanted.peer)
    if wanted.outcomes:
        parts.append(f"outcome IN ({', '.join('?' * len(wanted.outcomes))})")
        values += wanted.outcomes
    where = f" WHERE {' AND '.join(parts)}" if parts else ""
    columns = ", ".join(_COLUMNS)
    query = f"SELECT {columns} FROM calls{where} ORDER BY number DESC LIMIT ?"  # noqa: S608 # no foreign text
    return query, [*values, wanted.limit]


def _row(each: Sequence[Any]) -> HistoryRow:
    call_id, at, caller, callee, outcome, by, opened, seconds, text = each
    known = outcome if outcome in set(HistoryOutcome) else HistoryOutcome.UNKNOWN
    return HistoryRow(
        call_id, at, caller, callee, HistoryOutcome(known), by, bool(opened), seconds, text
    )


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    import sqlite3  # as above

    try:
        yield
    except sqlite3.OperationalError as error:
        # An empty file, or another program's database.
        what = f"is no history ({error})" if "no such" in str(error) else str(error)
        raise HistoryError(f"{file}: {what}") from error
    except sqlite3.DatabaseError as error:
        text = f"{file} is no history, or damaged ({error}): move it away, and a new one is begun"
        raise HistoryError(text, damaged=True) from error
    except OSError as error:
        raise HistoryError(f"{file}: {error.strerror or error}") from error
