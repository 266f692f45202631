"""Asks the local network for brokers: one-shot multicast DNS (RFC 6762, 5.1), DNS-SD (RFC 6763).

A question from a port of our own is answered to that port, so nothing has to run beforehand.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from dataclasses import dataclass

SERVICE = "_secure-mqtt._tcp.local"
_GROUP = ("224.0.0.251", 5353)
_PTR, _SRV, _A = 12, 33, 1
#: Compression pointers followed at most: a loop of them is somebody's attempt.
_MAX_JUMPS = 32


@dataclass(frozen=True, slots=True)
class Announced:
    """A broker that announces itself."""

    name: str
    host: str
    port: int
    addresses: tuple[str, ...] = ()


def browse(
    timeout: float = 2.0, *, service: str = SERVICE, interface: str | None = None
) -> list[Announced]:
    """The brokers that answer within ``timeout`` seconds; none without a network. Never raises.

    ``interface`` is the address of the one to ask on; None for the system's choice.
    """
    query = question(service, secrets.randbits(16))
    records: list[tuple[str, int, object]] = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            if interface is not None:
                address = socket.inet_aton(interface)
                asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, address)
            asker.sendto(query, _GROUP)
            end = time.monotonic() + timeout
            while (left := end - time.monotonic()) > 0:
                asker.settimeout(left)
                records += parse(asker.recv(9000))
    except OSError:
        pass  # the time is over, or there is no network to ask
    return gather(records, service)


def question(service: str, number: int) -> bytes:
    """A query for the instances of ``service``, answers to be sent to the asker alone."""
    name = b"".join(bytes([len(part)]) + part.encode() for part in service.split(".")) + b"\0"
    unicast_in = 0x8001
    return struct.pack("!6H", number, 0, 1, 0, 0, 0) + name + struct.pack("!2H", _PTR, unicast_in)


def gather(records: list[tuple[str, int, object]], service: str) -> list[Announced]:
    """The services that ``records`` describe."""
    names = [value for owner, kind, value in records if kind == _PTR and _same(owner, service)]
    found = {}
    for name in names:
        for owner, kind, value in records:
            if kind == _SRV and isinstance(value, tuple) and _same(owner, str(name)):
                host, port = value
                addresses = tuple(
                    dict.fromkeys(str(a) for o, k, a in records if k == _A and _same(o, host))
                )
                label = str(name).removesuffix("." + service)
                found[str(name).lower()] = Announced(label, host, port, addresses)
    return list(found.values())


def parse(packet: bytes) -> list[tuple[str, int, object]]:
    """The PTR, SRV and A records of a response; nothing of one that is malformed."""
    try:
        return _parse(packet)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError):
        return []


def _parse(packet: bytes) -> list[tuple[str, int, object]]:
    _, flags, questions, *counts = struct.unpack_from("!6H", packet)
    if not flags & 0x8000:
        return []
    at = 12
    for _ in range(questions):
        at = _name(packet, at)[1] + 4
    records: list[tuple[str, int, object]] = []
    for _ in range(sum(counts)):
        owner, at = _name(packet, at)
        kind, _, _, size = struct.unpack_from("!HHIH", packet, at)
        at += 10
        if at + size > len(packet):
            raise ValueError("a record beyond the end")
        if kind == _PTR:
            records.append((owner, kind, _name(packet, at)[0]))
        elif kind == _SRV:
            port = struct.unpack_from("!3H", packet, at)[2]
            records.append((owner, kind, (_name(packet, at + 6)[0], port)))
        elif kind == _A and size == 4:
            records.append((owner, kind, socket.inet_ntoa(packet[at : at + 4])))
        at += size
    return records


def _name(packet: bytes, at: int) -> tuple[str, int]:
    """The name at ``at`` and where it ends."""
    labels: list[str] = []
    end, jumps = -1, 0
    while length := packet[at]:
        if length & 0xC0 == 0xC0:
            end = at + 2 if end < 0 else end
            at = struct.unpack_from("!H", packet, at)[0] & 0x3FFF
            jumps += 1
            if jumps > _MAX_JUMPS:
                raise ValueError("too many pointers")
            continue
        labels.append(packet[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), end if end >= 0 else at + 1


def _same(one: str, other: str) -> bool:
    return one.rstrip(".").lower() == other.rstrip(".").lower()
