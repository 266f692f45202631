"""``bellwire-broker doctor``: what will go wrong, before it does. Reads, changes nothing."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import time
import urllib.request
from dataclasses import dataclass
from typing import Any

from device_sdk.topics import CallTopic, escape, parse

from .house import broker_process, devices
from .pki import expiry
from .registry import RegistryError
from .settings import Settings, split_address
from .store import CLOCK_IS_SET

#: Days before its end from which a certificate is worth a word.
_SOON = 30
#: Seconds after which a call cell is a leftover: the longest of calls has ended and been cleared.
_LEFTOVER = 3600.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it is well, and what to do if not."""

    well: bool
    what: str


def _certificates(settings: Settings) -> list[Finding]:
    found = []
    now = dt.datetime.now(dt.UTC)
    for name in (settings.tls.ca, settings.tls.certificate):
        path = settings.path(name)
        try:
            start, end = expiry(path)
        except (OSError, ValueError) as error:
            found.append(Finding(False, f"{path} cannot be read: {error}"))
            continue
        days = (end - now).days
        again = "bellwire-broker renew" if name == settings.tls.certificate else "a new CA"
        if now < start:
            found.append(Finding(False, f"{path} is valid from {start:%Y-%m-%d} only: the clock?"))
        elif days < _SOON:
            found.append(Finding(False, f"{path} ends in {days} days: {again}"))
        else:
            found.append(Finding(True, f"{path} is valid for {days} days"))
    return found


def _database(settings: Settings) -> tuple[list[Finding], dict[str, float]]:
    path = settings.path(settings.storage.file)
    found = [
        Finding(False, f"{aside} was set aside as unusable; delete it when it is no longer wanted")
        for aside in sorted(path.parent.glob(f"{path.name}.unusable-*"))
        if not aside.name.endswith(("-wal", "-shm"))
    ]
    if not path.exists():
        return [*found, Finding(True, f"{path} is not there yet: the broker has not run")], {}
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            seen = dict(database.execute("SELECT user, at FROM seen").fetchall())
            rows = database.execute("SELECT topic, at FROM retained").fetchall()
        finally:
            database.close()
    except sqlite3.Error as error:
        return [*found, Finding(False, f"{path} cannot be read: {error}")], {}
    before = time.time() - _LEFTOVER
    left = [
        topic
        for topic, at in rows
        if CLOCK_IS_SET < at < before and isinstance(parse(settings.realm, topic), CallTopic)
    ]
    if left:
        hours = settings.storage.cell_hours
        found.append(
            Finding(
                False,
                f"{len(left)} call cells are over an hour old, the first {left[0]!r}; "
                f"they are cleared after {hours:g} hours",
            )
        )
    else:
        found.append(Finding(True, f"{path}: {len(rows)} retained messages, no leftovers"))
    return found, seen


def _devices(settings: Settings, seen: dict[str, float]) -> list[Finding]:
    try:
        known = devices(settings.directory)
    except RegistryError as error:
        return [Finding(False, str(error))]
    found = [
        Finding(False, f"device {device.name!r} has never connected")
        for device in known
        if escape(device.name) not in seen
    ]
    open_file = settings.registry.stat().st_mode & 0o077
    if open_file:
        found.append(Finding(False, f"{settings.registry} is readable by others: chmod 600"))
    if not found:
        found.append(Finding(True, f"{len(known)} devices, all of which have connected"))
    return found


def examine(settings: Settings) -> list[Finding]:
    """Everything worth knowing about a broker's directory, in the order of its looking."""
    found = []
    clock_well = time.time() > CLOCK_IS_SET
    found.append(Finding(clock_well, "the clock is set" if clock_well else "the clock is not set"))
    if settings.listen.mqtts or settings.listen.wss:
        found += _certificates(settings)
    seen: dict[str, float] = {}
    if settings.storage.file:
        stored, seen = _database(settings)
        found += stored
    if not settings.anonymous:
        found += _devices(settings, seen)
    process = broker_process(settings.directory)
    if process is None:
        found.append(Finding(False, f"no broker serves {settings.directory} now"))
    else:
        found.append(Finding(True, f"a broker serves it as process {process}"))
    return found


def ask(settings: Settings) -> dict[str, Any]:
    """The running broker's own figures; raises OSError when it does not answer."""
    if not settings.metrics.listen:
        raise OSError("metrics.listen is empty in broker.toml, so there is nowhere to ask")
    host, port = split_address(settings.metrics.listen)
    host = host or "127.0.0.1"
    literal = f"[{host}]" if ":" in host else host
    with urllib.request.urlopen(f"http://{literal}:{port}/status", timeout=5) as answer:
        figures = json.load(answer)
    if not isinstance(figures, dict):
        raise OSError("what answers there is no bellwire-broker")
    return figures
