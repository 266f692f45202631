"""However the bytes come, the same is read from them; and one look at the socket is one look."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import WebsocketConnectionError

from device_sdk.client.link.paho import PahoLink
from device_sdk.client.link.paho_client import READ_AHEAD
from device_sdk.client.link.url import BrokerUrl
from device_sdk.core.effects import (
    Disconnected,
    LinkFailed,
    MessageReceived,
    PublishAcked,
    Subscribed,
)
from device_sdk.errors import BrokerUnreachable

URL = BrokerUrl("mqtt", "broker.lan", 1883)


def publish(payload: bytes, mid: int | None) -> bytes:
    body = b"\0\3t/a" + (b"" if mid is None else mid.to_bytes(2, "big")) + payload
    length, left = b"", len(body)
    while left > 127:
        length, left = length + bytes([left & 127 | 128]), left >> 7
    return (b"\x30" if mid is None else b"\x32") + length + bytes([left]) + body


#: Each kind of packet that comes in: short, of a two-byte length, of a three-byte one, of paho's.
PACKETS = [
    b"\x40\x02\x00\x01",
    publish(b"short", 7),
    b"\xd0\x00",
    publish(b"m" * 300, 8),
    b"\x90\x03\x00\x05\x01",
    publish(b"", 9),
    publish(b"unacknowledged", None),
    publish(b"l" * 20_000, 10),
    b"\x40\x02\x00\x02",
]
STREAM = b"".join(PACKETS)
READ = [
    PublishAcked(41),
    MessageReceived("t/a", b"short", False),
    MessageReceived("t/a", b"m" * 300, False),
    Subscribed(("t/#",), ()),
    MessageReceived("t/a", b"", False),
    MessageReceived("t/a", b"unacknowledged", False),
    MessageReceived("t/a", b"l" * 20_000, False),
    PublishAcked(42),
]


class Wire:
    """A socket from which these pieces come, one at each look; then nothing, or what ``end`` is."""

    def __init__(self, pieces: list[bytes], end: bytes | OSError | None = None) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.end = end
        self.looks = 0

    def recv(self, size: int) -> bytes:
        self.looks += 1
        if not self.pieces:
            if isinstance(self.end, bytes):
                return self.end
            raise self.end or BlockingIOError
        piece = self.pieces[0]
        self.pieces[:1] = [piece[size:]] if piece[size:] else []
        return piece[:size]

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.pieces = []


@contextlib.contextmanager
def linked(wire: Wire) -> Iterator[PahoLink]:
    """A link that was greeted, and now reads from ``wire``."""
    link = PahoLink(URL, "kitchen", None, keepalive=15)
    link._tokens |= {1: 41, 2: 42}
    link._filters[5] = ("t/#",)
    link._greeted = True
    link._client._sock = wire
    yield link
    link._client._sock = None


def read_all(link: PahoLink, wire: Wire) -> list[object]:
    happened: list[object] = []
    while wire.pieces:
        link.read()
        happened += link.drain()
    return happened


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_what_comes_in_pieces_is_read_as_one(cuts: list[int]) -> None:
    """Wherever the network cuts."""
    at = [0, *sorted(cuts), len(STREAM)]
    wire = Wire([STREAM[a:b] for a, b in itertools.pairwise(at)])
    with linked(wire) as link:
        assert read_all(link, wire) == READ
        assert link._read == [7, 8, 9, 10]  # to be acknowledged


@pytest.mark.parametrize("cut", range(1, sum(map(len, PACKETS[:6]))))
def test_every_cut_through_a_head_is_survived(cut: int) -> None:
    wire = Wire([STREAM[:cut], STREAM[cut:]])
    with linked(wire) as link:
        assert read_all(link, wire) == READ


def test_an_answer_and_the_acknowledgement_before_it_are_one_look() -> None:
    wire = Wire([b"".join(PACKETS[:6])])
    with linked(wire) as link:
        link.read()
        assert link.drain() == READ[:5]
        assert wire.looks == 1


def test_who_sends_without_end_leaves_time_for_other_things() -> None:
    """One read takes in no more than one look gives, and what it has begun it goes on with."""
    one = publish(b"flood", 7)
    wire = Wire([one * 10_000])
    with linked(wire) as link:
        link.read()
        assert wire.looks == 1
        assert len(link.drain()) == READ_AHEAD // len(one)
        link.read()
        assert wire.looks == 2


@pytest.mark.parametrize("end", [b"", ConnectionResetError("reset")])
def test_an_end_is_told_after_what_came_before_it(end: bytes | OSError) -> None:
    wire = Wire([PACKETS[1]], end)
    with linked(wire) as link:
        link.read()
        link.read()
        assert link.drain() == [READ[1], Disconnected()]
        assert link.fileno() == -1


def test_a_false_alarm_is_none() -> None:
    """A poll may wake for nothing: of TLS, what came was no whole record."""
    wire = Wire([])
    with linked(wire) as link:
        link.read()
        assert link.drain() == []


@pytest.mark.parametrize("packet", [b"\x40\x03\x00\x01\x00", b"\x36\x06\x00\x01t\x00\x07v"])
def test_nothing_is_read_after_what_is_malformed(packet: bytes) -> None:
    wire = Wire([packet + PACKETS[1]])
    with linked(wire) as link:
        link.read()
        (failed,) = link.drain()
        assert isinstance(failed, LinkFailed)
        assert link._client.socket() is None


def test_a_web_server_that_speaks_no_mqtt_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = PahoLink(BrokerUrl("ws", "broker.lan", 80), "kitchen", None, keepalive=15)

    def fail(*_args: object) -> None:
        with socket.socket():
            raise WebsocketConnectionError("no upgrade")

    monkeypatch.setattr(link._client, "connect", fail)
    with pytest.raises(BrokerUnreachable, match="no WebSocket there") as caught:
        link.open()
    assert caught.value.cause == "connection lost"
