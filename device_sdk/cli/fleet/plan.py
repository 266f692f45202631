"""Who is in a fleet, whom each calls, and whether this machine can carry it."""

from __future__ import annotations

import csv
import io
import re
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...client.link.text_file import TextFileError, read_secret, read_text
from ...client.link.url import BrokerUrl, Tls
from ...core.wire import topics
from ...errors import InvalidArgument

#: Panels that one doorbell rings: a real one has few, and each is watched by it for a while.
FEW = 3
#: Descriptors of a process beside its devices': pipes, the ping-pong, the sweep, modules.
_SPARE = 256
_LARGEST_TABLE = 1 << 24
#: Panels that are in a process with few devices, and the part of all calls that is made there.
_APART, _APART_CALLS = 5, 0.4


class Peer(NamedTuple):
    """A device: its secret, if it has one, and whom it calls."""

    name: str
    password: str | None = None
    calls: tuple[str, ...] = ()


class Broker(NamedTuple):
    """How to get in: what all processes of a fleet are told."""

    urls: tuple[BrokerUrl, ...]
    realm: str
    keepalive: int
    subscribe_qos: int
    accept_timeout: float
    tls: Tls | None = None


class Share(NamedTuple):
    """What one process has to do; ``pair`` plays ping-pong, beside the few devices if there are."""

    broker: Broker
    peers: tuple[Peer, ...]
    pair: tuple[Peer, Peer] | None
    #: Calls a second.
    rate: float
    #: Of calls in peace, and as many after a storm, up to two.
    seconds: float
    #: For how long a storm of logins is waited for.
    login_timeout: float
    #: The seconds over which devices boot, when the power comes.
    boot_spread: float = 0.0
    #: Whether it has few devices, so that it serves them at once while others log thousands in.
    apart: bool = False


def anonymous(devices: int, panels: int) -> list[Peer]:
    """Doorbells and panels of a broker that lets anybody in; the last two are the pair."""
    names = [f"fleet-panel-{number}" for number in range(panels)]
    peers = [Peer(name) for name in names]
    for number in range(devices - panels):
        calls = dict.fromkeys(names[(number + more) % panels] for more in range(FEW))
        peers.append(Peer(f"fleet-door-{number}", calls=tuple(calls)))
    return [*peers, Peer("fleet-ping-door", calls=("fleet-ping-panel",)), Peer("fleet-ping-panel")]


def registered(table: Path, secrets: Path) -> list[Peer]:
    """The devices of the CSV file that registered them; the last two are the pair.

    Raises :class:`InvalidArgument`.
    """
    rows = _rows(table)
    called: dict[str, list[str]] = {}
    for number, (name, row) in enumerate(rows.items()):
        wanted = [each.strip() for each in row.get("may_call", "").split(";") if each.strip()]
        found = _matching(wanted, rows, number, name)
        called[name] = list(dict.fromkeys(found))[:FEW]
    caller = next((name for name in reversed(rows) if called[name]), None)
    if caller is None:
        raise InvalidArgument("--from", f"{table}: nobody in it may call anybody (may_call)")
    pair = (caller, called[caller][0])
    peers = [
        Peer(name, _secret(secrets, name), tuple(c for c in called[name] if c not in pair))
        for name in rows if name not in pair
    ]  # fmt: skip
    if not any(peer.calls for peer in peers):
        raise InvalidArgument(
            "--from",
            f"{table}: beside {pair[0]} and {pair[1]}, which play ping-pong, nobody is left"
            " who may call somebody; register more",
        )
    ping = Peer(pair[0], _secret(secrets, pair[0]), (pair[1],))
    return [*peers, ping, Peer(pair[1], _secret(secrets, pair[1]))]


def _rows(table: Path) -> dict[str, dict[str, str]]:
    try:
        text = read_text(table, _LARGEST_TABLE).removeprefix("\ufeff")
    except (TextFileError, ValueError) as error:
        raise InvalidArgument("--from", str(error)) from None
    first = text.lstrip("\r\n").partition("\n")[0]
    comma = ";" if ";" in first and "," not in first else ","
    try:
        lines = [
            [cell.strip() for cell in row]
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#")
        ]
    except csv.Error as error:
        raise InvalidArgument("--from", f"{table}: {error}") from None
    columns = [cell.lower() for cell in lines[0]] if lines else []
    if "name" not in columns or len(lines) < 2:
        raise InvalidArgument(
            "--from", f"{table}: no table of devices (its first line is name,may_call,…)"
        )
    rows = {}
    for cells in lines[1:]:
        row = dict(zip(columns, cells, strict=False))
        try:
            rows[topics.check_peer_id(row.get("name", ""))] = row
        except InvalidArgument as error:
            raise InvalidArgument("--from", f"{table}: {error}") from None
    return rows


def _matching(
    patterns: Sequence[str], rows: dict[str, dict[str, str]], start: int, me: str
) -> list[str]:
    """Some of those that ``patterns`` allow, beginning at another place for each device."""
    found: list[str] = []
    every = list(rows)
    turned = every[start % len(every) :] + every[: start % len(every)]
    for pattern in patterns:
        if pattern in rows:
            found.append(pattern)
            continue
        group = pattern.removeprefix("@") if pattern.startswith("@") else None
        shape = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
        for name in turned:
            if len(found) >= 2 * FEW:
                break
            fits = rows[name].get("group") == group if group else shape.fullmatch(name)
            if name != me and fits:
                found.append(name)
    return [name for name in found if name != me]


def _secret(folder: Path, name: str) -> str:
    try:
        return read_secret(folder / f"{topics.escape(name)}.secret")
    except TextFileError as error:
        raise InvalidArgument(
            "--secrets", f"{error}; a device with a certificate cannot be in a fleet"
        ) from None


def shares(
    broker: Broker,
    peers: Sequence[Peer],
    processes: int,
    *,
    rate: float,
    seconds: float,
    login_timeout: float,
    boot_spread: float = 0.0,
) -> list[Share]:
    """A share for each process: who calls is where the first whom it calls is.

    Of a large fleet few devices are in one process more: first alone at the broker, then, at the
    same rate, among all. And a process logs its thousands in for seconds, in which it serves none
    of those that are back already: so how long calls take meanwhile is measured where that is
    nobody's time but the broker's.
    """
    *fleet, ping_door, ping_panel = peers
    place: dict[str, int] = {}
    called = {name for peer in fleet for name in peer.calls}
    panels = [each.name for each in fleet if each.name in called]
    apart = panels[:_APART] if len(panels) >= 16 * _APART else []
    place |= dict.fromkeys(apart, processes)
    for number, peer in enumerate(each for each in fleet if each.name in called or not each.calls):
        place.setdefault(peer.name, number % processes)
    for peer in fleet:
        if peer.name not in place:
            place[peer.name] = place[peer.calls[0]]
    parts: list[list[Peer]] = [[] for _ in range(processes + bool(apart))]
    for peer in fleet:
        mine = place[peer.name]
        calls = tuple(name for name in peer.calls if place[name] == mine)
        parts[mine].append(peer._replace(calls=calls))
    callers = [sum(bool(peer.calls) for peer in part) for part in parts[:processes]]
    rates = [rate * count / max(1, sum(callers)) for count in callers]
    if apart:
        rates = [*(each * (1 - _APART_CALLS) for each in rates), rate * _APART_CALLS]
    return [
        Share(
            broker,
            tuple(part),
            (ping_door, ping_panel) if number == len(parts) - 1 else None,
            rates[number],
            seconds,
            login_timeout,
            boot_spread,
            number == processes,
        )
        for number, part in enumerate(parts)
    ]


def room_for(devices: int, processes: int, urls: Sequence[BrokerUrl]) -> None:
    """Raise this process's bound of open files; :class:`InvalidArgument` where it does not do."""
    wanted = -(-devices // processes) + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        least = -(-devices // max(1, hard - _SPARE))
        more = f", or spread them: --processes {least}" if hard > 2 * _SPARE else ""
        raise InvalidArgument(
            "--devices",
            f"{devices} of them take {wanted} open files in a process, and the limit is {hard}:"
            f" sudo prlimit --pid $$ --nofile={wanted}{more}",
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    ports = _local_ports() * len({(url.host, url.port) for url in urls})
    if devices > ports:
        raise InvalidArgument(
            "--devices",
            f"this machine has {ports} ports for connections to {len(urls)} broker(s), too few"
            f" for {devices}: sudo sysctl net.ipv4.ip_local_port_range='1024 65535'",
        )


def _local_ports() -> int:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(high) - int(low) + 1
    except (OSError, ValueError):
        return 1 << 16
