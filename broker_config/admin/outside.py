"""What is known of a broker from outside: its database, read while it runs or after its end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from device_sdk.core.wire.topics import CallTopic, parse

from ..access.registry import RegistryError, load
from .running import broker_process
from .settings import BrokerSettings

#: Seconds that a running broker gets to read a changed registry, and between two looks.
PATIENCE = 5.0
_LOOK = 0.05


@dataclass(slots=True)
class KnownDevices:
    """What the store says; empty where there is none."""

    #: Escaped peer ids: when they were last seen (Unix seconds), and since when they are online.
    seen: dict[str, float] = field(default_factory=dict)
    online: dict[str, float] = field(default_factory=dict)
    #: Digest of the registry that the broker goes by; None when it does not say.
    applied: str | None = None
    #: Retained topics with their times and sizes.
    retained: list[tuple[str, float, int]] = field(default_factory=list)
    #: The owner of each persistent session, escaped.
    sessions: list[str | None] = field(default_factory=list)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        yield database


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master")}


def look(settings: BrokerSettings, *, cells: bool = True) -> KnownDevices:
    """Read the broker's database; raises sqlite3.Error when it cannot be read."""
    known = KnownDevices()
    path = settings.path(settings.storage.file)
    if not settings.storage.file or not path.exists():
        return known
    running = broker_process(settings.directory) is not None
    with _opened(path) as database:
        tables = _tables(database)
        known.seen = dict(database.execute("SELECT user, at FROM seen"))
        if cells:
            rows = database.execute("SELECT topic, at, length(data) FROM retained")
            known.retained = rows.fetchall()
            known.sessions = [row[0] for row in database.execute("SELECT owner FROM session")]
        if "online" in tables and running:
            known.online = dict(database.execute("SELECT user, since FROM online"))
        if "applied" in tables and running:
            row = database.execute("SELECT registry FROM applied").fetchone()
            known.applied = row[0] if row else None
    return known


def applied(settings: BrokerSettings, digest: str, patience: float = PATIENCE) -> bool | None:
    """Wait until the running broker goes by the registry of ``digest``; None if it cannot say.

    Or by the registry as it is now: of two commands at once the later one's has the earlier one's
    change in it, and the broker may never read the earlier one's by itself.
    """
    if not settings.storage.file:
        return None
    until = time.monotonic() + patience
    while True:
        try:
            if look(settings, cells=False).applied in (digest, _digest_now(settings)):
                return True
        except sqlite3.Error:
            return None
        if broker_process(settings.directory) is None:
            return None
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK)


def _digest_now(settings: BrokerSettings) -> str:
    try:
        return load(settings.registry).digest
    except RegistryError:
        return ""  # somebody's hand is in it: the broker will say so


def cells_of(settings: BrokerSettings, name: str, known: KnownDevices) -> list[str]:
    """The retained call cells that ``name`` has written, and those addressed to it."""
    found = []
    for topic, _, _ in known.retained:
        cell = parse(settings.realm, topic)
        if isinstance(cell, CallTopic) and name in (cell.owner, cell.writer):
            found.append(topic)
    return found


def forget(settings: BrokerSettings, topics: list[str]) -> None:
    """Clear retained messages of a broker that does not run; raises sqlite3.Error."""
    path = settings.path(settings.storage.file)
    with closing(sqlite3.connect(path, timeout=PATIENCE)) as database, database:
        database.executemany("DELETE FROM retained WHERE topic=?", [(each,) for each in topics])
