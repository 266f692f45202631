"""``bellwire-broker doctor``: what will go wrong, before it does. Reads, changes nothing."""

from __future__ import annotations

import datetime as dt
import errno
import json
import shlex
import socket
import sqlite3
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from device_sdk.core.wire.topics import CallTopic, PresenceTopic, escape, parse, unescape

from ..access import naming, pki
from ..access.pki import local_name
from ..access.registry import Device, RegistryError, load
from ..store.sqlite import CLOCK_IS_SET
from . import outside
from .running import broker_process
from .settings import BrokerSettings, split_address

#: Days before its end from which a certificate is worth a word.
_SOON = 30
#: Seconds after which a call cell is a leftover: the longest of calls has ended and been cleared.
_LEFTOVER = 3600.0
#: Part of a bound from which it is worth a word.
_FULL = 0.8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it is well, and what to do if not.

    What is ``news`` is well, and worth a line all the same.
    """

    well: bool
    what: str
    news: bool = False


def _renew(settings: BrokerSettings) -> str:
    return shlex.join(["bellwire-broker", "renew", str(settings.directory)])


def certificates(settings: BrokerSettings, now: dt.datetime) -> list[Finding]:
    """What is to be said of the CA and of the broker's certificate."""
    found = []
    for name, path in (
        ("ca", settings.path(settings.tls.ca_file)),
        ("server", settings.path(settings.tls.cert_file)),
    ):
        cure = _renew(settings) if name == "server" else "a new CA, and every device needs it"
        try:
            start, end = pki.expiry(path)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            found.append(Finding(False, f"{path} cannot be read: {why}; {cure}"))
            continue
        days = (end - now).days
        if now < start:
            found.append(Finding(False, f"{path} is valid from {start:%Y-%m-%d} only: the clock?"))
        elif now > end:
            what = f"{path} ended on {end:%Y-%m-%d}, no device connects any more: {cure}"
            found.append(Finding(False, what))
        elif days < _SOON:
            found.append(Finding(False, f"{path} ends in {days} days: {cure}"))
        else:
            found.append(Finding(True, f"{path} is valid for {days} days"))
    try:
        names = set(pki.extra_names(settings.path(settings.tls.cert_file)))
    except (OSError, ValueError):
        return found
    here = local_name()
    if here not in names:
        what = f"{settings.path(settings.tls.cert_file)} is not for {here}, as this host is called"
        found.append(Finding(True, f"{what}: {_renew(settings)}", news=True))
    return found


def _database(settings: BrokerSettings) -> tuple[list[Finding], outside.KnownDevices]:
    path = settings.path(settings.storage.file)
    found = [
        Finding(False, f"{aside} was set aside as unusable; delete it when it is no longer wanted")
        for aside in sorted(path.parent.glob(f"{path.name}.unusable-*"))
        if not aside.name.endswith(("-wal", "-shm"))
    ]
    if not path.exists():
        what = f"{path} is not there yet: the broker has not run"
        return [*found, Finding(True, what)], outside.KnownDevices()
    try:
        known = outside.look(settings)
    except sqlite3.Error as error:
        return [*found, Finding(False, f"{path} cannot be read: {error}")], outside.KnownDevices()
    before = time.time() - _LEFTOVER
    left = [
        topic
        for topic, at, _ in known.retained
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
        what = f"{path}: {len(known.retained)} retained messages, no leftovers"
        found.append(Finding(True, what))
    return [*found, *_shares(settings, known)], known


def _shares(settings: BrokerSettings, known: outside.KnownDevices) -> list[Finding]:
    """Bounds that are nearly reached, of all and of each device, with who it is."""
    limits = settings.limits
    counts, sizes = Counter[str](), Counter[str]()
    for topic, _, size in known.retained:
        parsed = parse(settings.realm, topic)
        if parsed is not None:
            writer = parsed.peer if isinstance(parsed, PresenceTopic) else parsed.writer
            counts[writer] += 1
            sizes[writer] += size + len(topic)
    sessions = Counter(unescape(owner) or owner for owner in known.sessions if owner)
    found = []
    for used, what, all_of, each_of in (
        (counts, "retained messages", "retained", "retained_per_device"),
        (sizes, "bytes of retained messages", "retained_bytes", "retained_bytes_per_device"),
        (sessions, "sessions", "persistent_sessions", "persistent_sessions_per_device"),
    ):
        total, most = used.total(), getattr(limits, all_of)
        if most and total >= _FULL * most and used:
            who, count = used.most_common(1)[0]
            cure = _cure(settings, what, who)
            told = f"{total} of {most} {what} (limits.{all_of}); {count} are of {who!r}: {cure}"
            found.append(Finding(False, f"soon no more are taken: {told}"))
        share = getattr(limits, each_of)
        for who, count in used.most_common():
            if not share or count < _FULL * share:
                break
            cure = _cure(settings, what, who)
            told = f"{count} of {share} {what} (limits.{each_of}): {cure}"
            found.append(Finding(False, f"{who!r} has nearly all of its share, {told}"))
    return found


def _cure(settings: BrokerSettings, what: str, who: str) -> str:
    if what == "sessions":
        days = settings.limits.session_expiry / 86400
        return f"unused ones are forgotten after {days:g} days (limits.session_expiry)"
    return naming.command("device", "clear", who, directory=settings.directory)


def _devices(settings: BrokerSettings, seen: Mapping[str, float]) -> list[Finding]:
    try:
        registry = load(settings.registry)
    except RegistryError as error:
        return [Finding(False, str(error))]
    known = registry.devices
    found = [*rules(known, settings.directory)]
    new = [name for name in known if escape(name) not in seen]
    if new:
        found.append(Finding(True, f"not connected yet: {', '.join(sorted(new))}", news=True))
    if settings.registry.stat().st_mode & 0o077:
        found.append(Finding(False, f"{settings.registry} is readable by others: chmod 600"))
    if not known and not settings.anonymous:
        where = shlex.quote(str(settings.directory))
        what = f"no devices yet: `bellwire-broker device add NAME --dir {where}`"
        return [*found, Finding(True, what, news=True)]
    if all(finding.well for finding in found):
        found.append(Finding(True, f"{len(known)} devices, {len(known) - len(new)} have connected"))
    return found


def rules(known: Mapping[str, Device], directory: Path) -> Iterator[Finding]:
    """What the registry allows and nobody will have meant so, each with the command for it."""
    calls = naming.calls(known)
    callers = naming.turned(calls)
    for name, device in sorted(known.items()):
        for pattern in device.may_call:
            why = naming.stands_for_nobody(known, name, pattern)
            if why is not None:
                yield Finding(False, f"{name!r} may call {pattern!r}, but {why}")
        if not calls[name] and not device.watches and not callers[name]:
            cure = naming.command("device", "set", "OTHER", "--may-call", name, directory=directory)
            yield Finding(
                False, f"nobody may call {name!r}, and it may call nobody; for a panel: {cure}"
            )
        other = naming.clash(known, name)
        if other is not None and other > name:
            yield Finding(False, f"{name!r} and {other!r} look the same: remove one of them")
    bells = sorted(name for name in known if calls[name] and not callers[name])
    if bells:
        shown = f"nobody may call {', '.join(bells)}: right for a doorbell, not for a panel"
        yield Finding(True, shown, news=True)


def _serving(settings: BrokerSettings, known: outside.KnownDevices) -> list[Finding]:
    """Whether it runs, goes by what is written, and has room; else, whether it could."""
    process = broker_process(settings.directory)
    if process is None:
        where = shlex.quote(str(settings.directory))
        kept = settings.storage.file
        if kept and not settings.path(kept).exists():
            not_running = Finding(True, f"next: `bellwire-broker run {where}`", news=True)
        else:
            cure = f"`bellwire-broker run {where}`, or `systemctl start bellwire-broker`"
            not_running = Finding(False, f"no broker serves {where} now: {cure}")
        return [
            not_running,
            *(Finding(False, taken) for taken in _taken(settings)),
        ]
    found = [Finding(True, f"a broker serves it as process {process}"), *unhealthy(settings)]
    if known.applied is not None and not settings.anonymous:
        try:
            if load(settings.registry).digest != known.applied:
                what = (
                    "has not read the registry as it is now, and goes by the old one; see its log"
                )
                found.append(Finding(False, f"process {process} {what}"))
        except RegistryError:
            pass  # said elsewhere
    room = _descriptors(process)
    if room is not None and room < settings.limits.connections:
        what = f"limits.connections is {settings.limits.connections}, but process {process} may "
        cure = "LimitNOFILE= in its unit, or a lower limit"
        found.append(Finding(True, f"{what}open {room} files only: {cure}", news=True))
    return found


def unhealthy(settings: BrokerSettings) -> Iterator[Finding]:
    """What the running broker says is wrong with it: a full disk, say."""
    if settings.metrics.listen:
        try:
            urllib.request.urlopen(f"http://{_window(settings)}/healthz", timeout=5).close()
        except HTTPError as error:
            with error:
                said = error.read(1000).decode(errors="replace").strip()
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                yield Finding(False, f"the broker says of itself: {said}; see its log")
        except OSError:
            return  # it listens elsewhere since its settings were changed: `status` says so


def _descriptors(process: int) -> int | None:
    try:
        limits = Path(f"/proc/{process}/limits").read_text("ascii")
    except OSError:
        return None
    line = next((line for line in limits.splitlines() if line.startswith("Max open files")), "")
    soft = line.split()[3:4]
    return int(soft[0]) if soft and soft[0].isdecimal() else None


def _taken(settings: BrokerSettings) -> Iterator[str]:
    """Ports of the settings at which something else listens."""
    addresses = (
        ("listen.mqtts", settings.listen.mqtts),
        ("listen.wss", settings.listen.wss),
        ("listen.mqtt", settings.listen.mqtt),
        ("metrics.listen", settings.metrics.listen),
    )
    for key, address in addresses:
        if not address:
            continue
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    yield f"{key}: port {port} is in use by something else; end it, or change {key}"


def examine(settings: BrokerSettings) -> list[Finding]:
    """Everything worth knowing about a broker's directory, in the order of its looking."""
    found = []
    clock_well = time.time() > CLOCK_IS_SET
    found.append(Finding(clock_well, "the clock is set" if clock_well else "the clock is not set"))
    if settings.listen.mqtts or settings.listen.wss:
        found += certificates(settings, dt.datetime.now(dt.UTC))
    known = outside.KnownDevices()
    if settings.storage.file:
        stored, known = _database(settings)
        found += stored
    if not settings.anonymous:
        found += _devices(settings, known.seen)
    return [*found, *_serving(settings, known)]


def ask(settings: BrokerSettings) -> dict[str, Any]:
    """The running broker's own figures; raises OSError when it does not answer."""
    if not settings.metrics.listen:
        raise OSError("metrics.listen is empty in broker.toml, so there is nowhere to ask")
    with urllib.request.urlopen(f"http://{_window(settings)}/status", timeout=5) as answer:
        figures = json.load(answer)
    if not isinstance(figures, dict):
        raise OSError("what answers there is no bellwire-broker")
    return figures


def _window(settings: BrokerSettings) -> str:
    host, port = split_address(settings.metrics.listen)
    host = host or "127.0.0.1"
    literal = f"[{host}]" if ":" in host else host
    return f"{literal}:{port}"
