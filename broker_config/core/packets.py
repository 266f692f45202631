"""Bytes to packets and back (MQTT 3.1.1, chapters 2 and 3): strict, bounded, without I/O.

Every byte sequence gives packets or one :class:`ProtocolViolation` that names the statement of
MQTT 3.1.1 which it breaks.
"""

from __future__ import annotations

from dataclasses import dataclass

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)
#: CONNACK return codes [MQTT-3.2.2-3].
ACCEPTED, UNACCEPTABLE_PROTOCOL, IDENTIFIER_REJECTED, UNAVAILABLE, _, NOT_AUTHORIZED = range(6)
#: SUBACK's code for a filter that was refused [MQTT-3.9.3-2].
REFUSED = 0x80
PINGRESP_BYTES = b"\xd0\x00"


class ProtocolViolation(Exception):
    """The client broke MQTT; the connection ends [MQTT-4.8.0-1]."""


class UnsupportedProtocol(ProtocolViolation):
    """CONNECT asks for another version than 3.1.1; it gets return code 1 [MQTT-3.1.2-2]."""


class Publish:
    """A PUBLISH, or a will; ``wire_topic`` is the topic as packets carry it, with its length."""

    __slots__ = ("data", "dup", "packet_id", "qos", "retain", "topic", "wire_topic")

    def __init__(
        self, topic: str, wire_topic: bytes, data: bytes, qos: int, packet_id: int, flags: int = 0
    ) -> None:
        self.topic = topic
        self.wire_topic = wire_topic
        self.data = data
        self.qos = qos
        self.packet_id = packet_id
        self.retain = flags & 1 == 1
        self.dup = flags & 8 == 8


@dataclass(slots=True)
class Connect:
    """A CONNECT."""

    client_id: str
    clean: bool
    keep_alive: int
    #: What is published when the client ends without a goodbye.
    will: Publish | None = None
    user: str | None = None
    password: bytes | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A SUBSCRIBE or (without QoS) an UNSUBSCRIBE: filters in the order they came."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


class Frames:
    """Cuts a byte stream into ``(first byte, body)`` of at most ``limit`` bytes."""

    __slots__ = ("_at", "_data", "_need", "_rest", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data = b""
        self._at = 0
        self._rest: bytearray | None = None
        self._need = 0

    def __len__(self) -> int:
        return len(self._data) - self._at + len(self._rest or b"")

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        if self._at < len(self._data):
            data = self._data[self._at :] + data
        elif self._rest is not None:
            self._rest += data
            if len(self._rest) < self._need:
                # Not looked at again before it can be whole: bytes that drip cost nothing.
                return
            data = bytes(self._rest)
            self._rest = None
        self._data, self._at = data, 0

    def next(self) -> tuple[int, bytes] | None:
        """The next whole packet; raises :class:`ProtocolViolation` on an overlong one."""
        data, start = self._data, self._at
        left = len(data) - start
        if left < 2:
            self._wait(left, 2)
            return None
        length = data[start + 1]
        at = start + 2
        if length & 0x80:
            length &= 0x7F
            for shift in (7, 14, 21):
                if at >= len(data):
                    self._wait(left, left + 1)
                    return None
                digit = data[at]
                at += 1
                length |= (digit & 0x7F) << shift
                if digit < 0x80:
                    break
            else:
                raise ProtocolViolation("[MQTT-2.2.3] remaining length of over 4 bytes")
        if length > self.limit:
            raise ProtocolViolation(f"a packet of {length} bytes; {self.limit} are allowed")
        end = at + length
        if end > len(data):
            self._wait(left, end - start)
            return None
        self._at = end
        return data[start], data[at:end]

    def _wait(self, left: int, need: int) -> None:
        if left:
            self._rest, self._need = bytearray(self._data[self._at :]), need
        self._data, self._at = b"", 0

    @property
    def ahead(self) -> int:
        """Bytes in which there may be a whole packet."""
        return len(self._data) - self._at


def _string(body: bytes, at: int) -> tuple[str, int]:
    data, end = _binary(body, at)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation("[MQTT-1.5.3-1] a string that is not UTF-8") from None
    if "\0" in text:
        raise ProtocolViolation("[MQTT-1.5.3-2] a string with U+0000")
    return text, end


def _binary(body: bytes, at: int) -> tuple[bytes, int]:
    start = at + 2
    if start <= len(body):
        end = start + (body[at] << 8 | body[at + 1])
        if end <= len(body):
            return body[start:end], end
    raise ProtocolViolation("a field runs past the end of its packet")


def packet_id(body: bytes, at: int = 0) -> int:
    """The packet identifier at ``at``."""
    if at + 2 > len(body):
        raise ProtocolViolation("a packet without its packet identifier")
    number = body[at] << 8 | body[at + 1]
    if not number:
        raise ProtocolViolation("[MQTT-2.3.1-1] packet identifier 0")
    return number


def decode_publish(flags: int, body: bytes) -> Publish:
    """A PUBLISH."""
    topic, at = _string(body, 0)
    if not topic:
        raise ProtocolViolation("[MQTT-4.7.3-1] PUBLISH to an empty topic")
    if "+" in topic or "#" in topic:
        raise ProtocolViolation("[MQTT-3.3.2-2] PUBLISH to a topic with a wildcard")
    qos = flags >> 1 & 3
    if not qos:
        if flags & 8:
            raise ProtocolViolation("[MQTT-3.3.1-2] DUP on a PUBLISH with QoS 0")
        return Publish(topic, body[:at], body[at:], 0, 0, flags)
    if qos == 3:
        raise ProtocolViolation("[MQTT-3.3.1-4] PUBLISH with QoS 3")
    return Publish(topic, body[:at], body[at + 2 :], qos, packet_id(body, at), flags)


def decode_ack(kind: int, flags: int, body: bytes) -> int:
    """The packet identifier of PUBACK, PUBREC, PUBREL or PUBCOMP."""
    if len(body) != 2 or flags != (2 if kind == PUBREL else 0):
        raise ProtocolViolation("[MQTT-2.2.2-2] [MQTT-3.6.1-1] a malformed acknowledgement")
    return packet_id(body)


def decode_connect(flags: int, body: bytes) -> Connect:
    """A CONNECT; raises :class:`UnsupportedProtocol` when it is none of MQTT 3.1.1."""
    if flags:
        raise ProtocolViolation("[MQTT-2.2.2-2] CONNECT with flags in its fixed header")
    name, at = _string(body, 0)
    if name not in ("MQTT", "MQIsdp"):
        raise ProtocolViolation(f"[MQTT-3.1.2-1] protocol name {name[:16]!r}")
    if len(body) < at + 4:
        raise ProtocolViolation("CONNECT ends within its header")
    level, bits = body[at], body[at + 1]
    if name != "MQTT" or level != 4:
        raise UnsupportedProtocol(
            f"protocol {name!r} level {level}; 3.1.1 (level 4) is spoken here"
        )
    if bits & 1:
        raise ProtocolViolation("[MQTT-3.1.2-3] CONNECT with its reserved flag set")
    will_qos = bits >> 3 & 3
    if will_qos == 3 or (not bits & 4 and bits & 0x38):
        raise ProtocolViolation(
            "[MQTT-3.1.2-11] [MQTT-3.1.2-14] CONNECT with impossible will flags"
        )
    if bits & 0x40 and not bits & 0x80:
        raise ProtocolViolation("[MQTT-3.1.2-22] CONNECT with a password and no user name")
    keep_alive = body[at + 2] << 8 | body[at + 3]
    client_id, at = _string(body, at + 4)
    connect = Connect(client_id, bool(bits & 2), keep_alive)
    if bits & 4:
        start = at
        topic, at = _string(body, at)
        wire_topic = body[start:at]
        data, at = _binary(body, at)
        if not topic or "+" in topic or "#" in topic:
            raise ProtocolViolation("[MQTT-4.7.1-1] [MQTT-4.7.3-1] a will topic that is no topic")
        connect.will = Publish(topic, wire_topic, data, will_qos, 0, bits >> 5 & 1)
    if bits & 0x80:
        connect.user, at = _string(body, at)
    if bits & 0x40:
        connect.password, at = _binary(body, at)
    if at != len(body):
        raise ProtocolViolation("CONNECT with more bytes than its flags announce")
    return connect


def decode_subscribe(kind: int, flags: int, body: bytes) -> Subscribe:
    """A SUBSCRIBE or an UNSUBSCRIBE."""
    asks = kind == SUBSCRIBE
    if flags != 2:
        raise ProtocolViolation("[MQTT-3.8.1-1] [MQTT-3.10.1-1] (UN)SUBSCRIBE with wrong flags")
    number, at = packet_id(body), 2
    filters: list[tuple[str, int]] = []
    while at < len(body):
        topic_filter, at = _string(body, at)
        qos = 0
        if asks:
            if at >= len(body) or body[at] > 2:
                raise ProtocolViolation("[MQTT-3.8.3-4] SUBSCRIBE with a QoS that is none")
            qos = body[at]
            at += 1
        filters.append((topic_filter, qos))
    if not filters:
        raise ProtocolViolation("[MQTT-3.8.3-3] [MQTT-3.10.3-2] (UN)SUBSCRIBE without a filter")
    return Subscribe(number, tuple(filters))


def decode(first: int, body: bytes) -> Publish | Connect | Subscribe | int | None:
    """What one frame of a client says; None for PINGREQ and DISCONNECT, which say no more.

    Raises :class:`ProtocolViolation`, and nothing else, when a client may not send it.
    """
    kind, flags = first >> 4, first & 15
    if kind == PUBLISH:
        return decode_publish(flags, body)
    if PUBACK <= kind <= PUBCOMP:
        return decode_ack(kind, flags, body)
    if kind in (SUBSCRIBE, UNSUBSCRIBE):
        return decode_subscribe(kind, flags, body)
    if kind in (PINGREQ, DISCONNECT):
        if body or flags:
            raise ProtocolViolation("[MQTT-3.14.1-1] PINGREQ or DISCONNECT with flags or a body")
        return None
    if kind == CONNECT:
        return decode_connect(flags, body)
    raise ProtocolViolation(f"[MQTT-2.2.1] packet type {kind} is not a client's to send")


def encode_length(length: int) -> bytes:
    """The variable-length form of a packet's remaining length [MQTT-2.2.3]."""
    if length < 0x80:
        return bytes((length,))
    if length < 0x4000:
        return bytes((length & 0x7F | 0x80, length >> 7))
    return bytes((length & 0x7F | 0x80,)) + encode_length(length >> 7)


def frame(first: int, body: bytes) -> bytes:
    """A whole packet."""
    return bytes((first,)) + encode_length(len(body)) + body


def encode_topic(topic: str) -> bytes:
    """A topic with its length before it, as a PUBLISH carries it."""
    data = topic.encode()
    return len(data).to_bytes(2, "big") + data


def message(topic: str, data: bytes, qos: int, *, retain: bool) -> Publish:
    """What no client has just sent."""
    return Publish(topic, encode_topic(topic), data, qos, 0, int(retain))


def encode_publish(
    wire_topic: bytes, data: bytes, qos: int, number: int, *, retain: bool, dup: bool = False
) -> bytes:
    """A whole PUBLISH; ``wire_topic`` comes from :func:`encode_topic`."""
    body = wire_topic + number.to_bytes(2, "big") + data if qos else wire_topic + data
    return frame(0x30 | dup << 3 | qos << 1 | retain, body)


def encode_ack(kind: int, number: int) -> bytes:
    """PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK."""
    return bytes((kind << 4 | (2 if kind == PUBREL else 0), 2, number >> 8, number & 0xFF))


def encode_connack(code: int, *, session_present: bool = False) -> bytes:
    """CONNACK."""
    return frame(CONNACK << 4, bytes((session_present, code)))


def encode_suback(number: int, codes: list[int]) -> bytes:
    """SUBACK: a code for each filter, in order [MQTT-3.8.4-5]."""
    return frame(SUBACK << 4, number.to_bytes(2, "big") + bytes(codes))
