"""The client's side of MQTT 3.1.1, as far as a fleet needs it: bytes, no state but the reader's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

CONNACK, PUBLISH, PUBACK, SUBACK = 0x20, 0x30, 0x40, 0x90
PING = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
_RETAIN = 0x01
#: What a packet may claim to have (2.2.3).
_LONGEST = 4


class MalformedPacket(ValueError):
    """What came is no MQTT: the connection is to be given up."""


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _packet(first: int, body: bytes) -> bytes:
    left, head = len(body), bytearray((first,))
    while True:
        left, low = left >> 7, left & 0x7F
        head.append(low | 0x80 if left else low)
        if not left:
            return bytes(head) + body


def connect(
    client_id: str,
    keepalive: int,
    *,
    will: tuple[str, bytes] | None = None,
    username: str | None = None,
    password: str | None = None,
) -> bytes:
    """CONNECT with a clean session; the will is retained, QoS 1."""
    flags, more = 0x02, b""
    if will is not None:
        flags |= 0x04 | 0x08 | 0x20
        more += _text(will[0].encode()) + _text(will[1])
    if username is not None:
        flags |= 0x80
        more += _text(username.encode())
    if password is not None:
        flags |= 0x40
        more += _text(password.encode())
    head = _text(b"MQTT") + bytes((4, flags)) + keepalive.to_bytes(2, "big")
    return _packet(0x10, head + _text(client_id.encode()) + more)


def publish(topic: str, payload: bytes, packet_id: int, *, retain: bool) -> bytes:
    """PUBLISH, QoS 1."""
    body = _text(topic.encode()) + packet_id.to_bytes(2, "big") + payload
    return _packet(PUBLISH | 0x02 | retain, body)


def subscribe(filters: Iterable[str], packet_id: int, qos: int) -> bytes:
    """SUBSCRIBE, all in one packet."""
    wanted = b"".join(_text(each.encode()) + bytes((qos,)) for each in filters)
    return _packet(0x82, packet_id.to_bytes(2, "big") + wanted)


def unsubscribe(filters: Iterable[str], packet_id: int) -> bytes:
    """UNSUBSCRIBE, all in one packet."""
    return _packet(
        0xA2, packet_id.to_bytes(2, "big") + b"".join(_text(f.encode()) for f in filters)
    )


def puback(packet_id: int) -> bytes:
    """PUBACK."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def read_publish(first: int, body: bytes) -> tuple[str, bytes, bool, int]:
    """Topic, payload, RETAIN flag and packet id (0 with QoS 0) of a PUBLISH."""
    start = 2 + int.from_bytes(body[:2], "big")
    packet_id = 0
    try:
        topic = body[2:start].decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket(f"a topic that is no UTF-8: {error}") from None
    if first & 0x06:
        packet_id = int.from_bytes(body[start : start + 2], "big")
        start += 2
    if start > len(body):
        raise MalformedPacket("a PUBLISH that ends within its head")
    return topic, body[start:], bool(first & _RETAIN), packet_id


class Reader:
    """Takes what a socket gives apart: first byte and body of each packet."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The packets that are whole by now; raises :class:`MalformedPacket`."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while at + 2 <= end:
            length, shift, start = 0, 0, at + 1
            while True:
                if start == end:
                    break
                byte = data[start]
                start += 1
                length |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift == 7 * _LONGEST:
                    raise MalformedPacket("a length of over four bytes")
            if data[start - 1] >= 0x80 or start + length > end:
                break
            yield data[at], data[start : start + length]
            at = start + length
        self._rest = data[at:]
