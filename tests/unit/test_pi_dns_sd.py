"""The question to the local network, and answers of any kind."""

from __future__ import annotations

import random
import socket
import struct

from device_sdk.services.doctor import dns_sd

SERVICE = dns_sd.SERVICE


def name(text: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".")) + b"\0"


def record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 0x8001, 120, len(data)) + data


def response(*records: bytes) -> bytes:
    return struct.pack("!6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def test_the_question_is_one_for_the_service():
    packet = dns_sd.question(SERVICE, 7)
    assert packet[:12] == struct.pack("!6H", 7, 0, 1, 0, 0, 0)
    assert packet[12:] == name(SERVICE) + struct.pack("!2H", 12, 0x8001)


def test_an_answer_with_compressed_names_is_understood():
    service = name(SERVICE)
    at = 12
    pointer = struct.pack("!H", 0xC000 | at)
    instance = bytes([5]) + b"House" + pointer
    packet = response(
        record(service, 12, instance),
        record(instance, 33, struct.pack("!3H", 0, 0, 8883) + name("pi.local")),
        record(name("pi.local"), 1, socket.inet_aton("192.0.2.7")),
    )
    (found,) = dns_sd.gather(dns_sd.parse(packet), SERVICE)
    assert found == dns_sd.Announced("House", "pi.local", 8883, ("192.0.2.7",))


def test_any_bytes_are_survived():
    rng = random.Random(5)
    good = response(record(name(SERVICE), 12, bytes([5]) + b"House" + b"\xc0\x0c"))
    for _ in range(3000):
        packet = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            packet[rng.randrange(len(packet))] = rng.randrange(256)
        dns_sd.gather(dns_sd.parse(bytes(packet[: rng.randint(0, len(packet))])), SERVICE)


def test_a_loop_of_pointers_ends():
    assert dns_sd.parse(response(b"\xc0\x0c" + b"\0" * 10)) == []


def test_our_own_question_is_no_answer():
    assert dns_sd.parse(dns_sd.question(SERVICE, 1)) == []
