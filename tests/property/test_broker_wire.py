"""Any bytes give packets or one ProtocolViolation, however they are cut."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker_config.core.packets import (
    Frames,
    ProtocolViolation,
    decode,
    encode_ack,
    encode_length,
    encode_publish,
    encode_topic,
)
from tests.bench.broker_wire import connect, publish, remaining, subscribe

LIMIT = 1024
GOOD = st.sampled_from(
    [
        connect("kitchen", user="kitchen", password="secret"),
        publish("a/b", b"\xff\x00", 7, retain=True),
        subscribe("a/+", "b/#", packet_id=9),
        encode_ack(0x4, 65535),
        encode_ack(0x6, 1),
        b"\xc0\0",
        b"\xe0\0",
        b"\xa2\x06\x00\x05\x00\x02a/",
    ]
)


def _take(buffer: Frames) -> list[tuple[int, bytes]]:
    return list(iter(buffer.next, None))


@given(st.binary(max_size=300))
@example(b"\x10\xff\xff\xff\xff\x01")
@example(b"\x30\x05\x00\x10ab")
def test_any_bytes_are_packets_or_a_violation(data: bytes) -> None:
    buffer = Frames(LIMIT)
    buffer.feed(data)
    with contextlib.suppress(ProtocolViolation):
        for frame in iter(buffer.next, None):
            decode(*frame)
    assert len(buffer) <= len(data)


@given(st.integers(0, 15), st.integers(0, 15), st.binary(max_size=80))
def test_any_frame_is_a_packet_or_a_violation(kind: int, flags: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        decode(kind << 4 | flags, body)


@given(st.lists(GOOD, max_size=6), st.data())
def test_frames_come_out_whole_however_cut(packets: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(packets)
    buffer = Frames(LIMIT)
    found = []
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        buffer.feed(stream[at : at + size])
        found += _take(buffer)
        at += size
    again = [bytes((first,)) + remaining(len(body)) + body for first, body in found]
    assert again == packets
    assert len(buffer) == 0


@given(st.integers(0, 268_435_455))
def test_remaining_length_is_what_the_other_side_counts(length: int) -> None:
    assert encode_length(length) == remaining(length)


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0#+"), min_size=1, max_size=40
    ),
    st.binary(max_size=200),
    st.integers(0, 2),
    st.booleans(),
)
def test_a_publish_survives_the_way(topic: str, data: bytes, qos: int, retain: bool) -> None:
    packet_id = 77 if qos else 0
    buffer = Frames(LIMIT)
    buffer.feed(encode_publish(encode_topic(topic), data, qos, packet_id, retain=retain))
    (frame,) = _take(buffer)
    packet: Any = decode(*frame)
    assert (packet.topic, packet.data, packet.qos) == (topic, data, qos)
    assert (packet.retain, packet.packet_id) == (retain, packet_id)


def test_an_overlong_packet_is_refused_by_its_header() -> None:
    """Before a byte of its body is waited for."""
    buffer = Frames(LIMIT)
    buffer.feed(b"\x30" + remaining(LIMIT + 1))
    with pytest.raises(ProtocolViolation, match="1025 bytes"):
        _take(buffer)


@pytest.mark.parametrize(
    ("frame", "statement"),
    [
        ((3, 0b0110, b"\0\1a\0\1"), "MQTT-3.3.1-4"),
        ((3, 0b1000, b"\0\1a"), "MQTT-3.3.1-2"),
        ((3, 0, b"\0\0"), "MQTT-4.7.3-1"),
        ((3, 0, b"\0\1#"), "MQTT-3.3.2-2"),
        ((3, 2, b"\0\1a\0\0"), "MQTT-2.3.1-1"),
        ((3, 0, b"\0\2\xc3\x28"), "MQTT-1.5.3-1"),
        ((3, 0, b"\0\3\xed\xa0\x80"), "MQTT-1.5.3-1"),
        ((3, 0, b"\0\1\0"), "MQTT-1.5.3-2"),
        ((8, 0, b"\0\1\0\1a\0"), "MQTT-3.8.1-1"),
        ((8, 2, b"\0\1"), "MQTT-3.8.3-3"),
        ((8, 2, b"\0\1\0\1a\3"), "MQTT-3.8.3-4"),
        ((10, 2, b"\0\1"), "MQTT-3.10.3-2"),
        ((6, 0, b"\0\1"), "MQTT-3.6.1-1"),
        ((14, 1, b""), "MQTT-3.14.1-1"),
        ((1, 0, b"\0\4MQTT\4\3\0\0\0\1a"), "MQTT-3.1.2-3"),
        ((1, 0, b"\0\4MQTT\4\x42\0\0\0\1a\0\1x"), "MQTT-3.1.2-22"),
        ((1, 0, b"\0\4MQTT\4\x1e\0\0\0\1a\0\1w\0\1m"), "MQTT-3.1.2-14"),
        ((1, 0, b"\0\4HTTP\4\2\0\0\0\1a"), "MQTT-3.1.2-1"),
        ((2, 0, b"\0\0"), "MQTT-2.2.1"),
    ],
)
def test_a_violation_names_its_statement(frame: tuple[int, int, bytes], statement: str) -> None:
    kind, flags, body = frame
    with pytest.raises(ProtocolViolation, match=statement.replace(".", r"\.")):
        decode(kind << 4 | flags, body)
