"""What is published is what paho would write, whole, however little the socket takes at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.client.link.paho import PahoLink
from device_sdk.client.link.url import BrokerUrl
from device_sdk.core.effects import Disconnected


class Wire:
    """A socket that takes so many bytes at each call; 0: it would block, None: it is broken."""

    def __init__(self, *takes: int | None) -> None:
        self.takes = list(takes)
        self.written = b""
        self.calls = 0

    def send(self, data: bytes) -> int:
        self.calls += 1
        take = self.takes.pop(0) if self.takes else len(data)
        if take is None:
            raise BrokenPipeError
        if take == 0:
            raise BlockingIOError
        self.written += data[:take]
        return len(data[:take])

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass


@contextlib.contextmanager
def linked(wire: Wire, scheme: str = "mqtt") -> Iterator[PahoLink]:
    """A link that was greeted, and writes to ``wire``."""
    link = PahoLink(BrokerUrl(scheme, "broker.lan", 1883), "kitchen", None, keepalive=15)
    link._greeted = True
    link._client._sock = wire
    yield link
    link._client._sock = None


def by_paho(topic: str, payload: bytes, *, retain: bool) -> bytes:
    wire = Wire()
    with linked(wire) as link:
        link._client._send_publish(1, topic.encode(), payload, 1, retain)
    return wire.written


@given(st.sampled_from(["t/a", "sig/v1/küche/invite/b/c", "x" * 300]), st.booleans(), st.data())
def test_a_publish_is_byte_for_byte_what_paho_writes(
    topic: str, retain: bool, data: st.DataObject
) -> None:
    """On both sides of each length that takes a byte more."""
    head = 4 + len(topic.encode())
    edges = [size - head + by for size in (128, 16_384) for by in (-1, 0, 1)]
    lengths = st.sampled_from([each for each in edges if each >= 0]) | st.integers(0, 20_480)
    payload = b"v" * data.draw(lengths)
    wire = Wire()
    with linked(wire) as link:
        link.publish(topic, payload, None, retain=retain)
        assert not link.wants_write()
    assert wire.written == by_paho(topic, payload, retain=retain)
    assert wire.calls == 1


@pytest.mark.parametrize("takes", [(0, 0), (5, 0), (0, 5, 0), (5, 3, 0)])
def test_what_the_socket_does_not_take_goes_out_later_and_in_order(takes: tuple[int, ...]) -> None:
    wire = Wire(*takes)
    with linked(wire) as link:
        link.publish("t/a", b"first", 1)
        assert link.wants_write()
        link.publish("t/b", b"second", 2)
        while link.wants_write():
            link.write()
        assert link._tokens == {1: 1, 2: 2}
        both = by_paho("t/a", b"first", retain=True), by_paho("t/b", b"second", retain=True)
        assert wire.written == both[0] + both[1].replace(b"\x00\x01second", b"\x00\x02second")


def test_a_publish_into_a_broken_connection_is_its_end() -> None:
    wire = Wire(None, None)
    with linked(wire) as link:
        link.publish("t/a", b"x", 7)
        assert link._tokens == {}
        assert link.drain() == [Disconnected()]
        link.publish("t/a", b"y", 8)  # without a socket it is nothing
        assert link._tokens == {}
        assert link.drain() == []


def test_a_websocket_has_frames_of_its_own() -> None:
    """Whatever it takes is a frame, so paho counts what went out."""
    wire = Wire(3)
    with linked(wire, "ws") as link:
        link.publish("t/a", b"x", 7)
        assert wire.written == by_paho("t/a", b"x", retain=True)
