"""Bytes to amqtt's packets and back: strict, synchronous, bounded.

amqtt reads a packet field by field from the stream, takes what it cannot decode for text, and
allows any length. Here the frame is cut out first, against a limit, and then decoded as a whole:
every byte sequence gives a packet or one :class:`ProtocolViolation` naming the statement of
MQTT 3.1.1 that it breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amqtt.errors import MQTTError
from amqtt.mqtt import packet_class
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.packet import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MQTTFixedHeader,
    MQTTPacket,
    PacketIdVariableHeader,
)
from amqtt.mqtt.publish import PublishPacket, PublishPayload, PublishVariableHeader
from amqtt.mqtt.subscribe import SubscribePacket, SubscribePayload
from amqtt.mqtt.unsubscribe import UnsubscribePacket, UnubscribePayload

Packet = MQTTPacket[Any, Any, Any]
Frame = tuple[int, int, bytes]

PROTOCOL_LEVEL = 4
#: In place of a packet type: a PUBLISH over the limit, of which only topic and packet id were read.
OVERSIZE = 16
_PUBLISH_HEADER = PUBLISH << 4
#: Bytes of a buffer that were handled before they are thrown away.
_COMPACT = 1 << 16


class ProtocolViolation(MQTTError):
    """The client broke MQTT; the connection ends [MQTT-4.8.0-1]."""


class UnsupportedProtocol(ProtocolViolation):
    """CONNECT asks for another version than 3.1.1; it gets return code 1 [MQTT-3.1.2-2]."""


class FrameBuffer:
    """Cuts a byte stream into frames ``(packet type, flags, body)`` of at most ``limit`` bytes.

    A PUBLISH of more, up to ``dropped`` bytes, is read away and gives an ``OVERSIZE`` frame.
    """

    __slots__ = ("_buffer", "_need", "_over", "_skip", "_start", "dropped", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.dropped = 0
        self._buffer = bytearray()
        self._start = 0
        self._need = 2
        self._skip = 0
        self._over: Frame | None = None

    def __len__(self) -> int:
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        self._buffer += data

    def frames(self) -> Iterator[Frame]:
        """Take the complete frames out; raises :class:`ProtocolViolation` on an overlong one."""
        while (frame := self.cut()) is not None:
            yield frame

    def cut(self) -> Frame | None:
        """Take the next frame out, if it is complete; raises :class:`ProtocolViolation`."""
        if self._over is not None:
            return self._read_away()
        buffer, start = self._buffer, self._start
        size = len(buffer)
        if size - start < self._need:
            # Not looked at again before it can be whole: bytes that drip cost nothing to wait for.
            return None
        length = buffer[start + 1]
        at = start + 2
        if length >= 0x80:
            length &= 0x7F
            for shift in (7, 14, 21):
                if at >= size:
                    self._need = at - start + 1
                    return None
                head = buffer[at]
                at += 1
                length |= (head & 0x7F) << shift
                if head < 0x80:
                    break
            else:
                raise ProtocolViolation("[MQTT-2.2.3] remaining length of over 4 bytes")
        end = at + length
        if length > self.limit:
            if buffer[start] >> 4 != PUBLISH or length > self.dropped:
                raise ProtocolViolation(f"a packet of {length} bytes; {self.limit} are allowed")
            # Topic and packet id are kept, the rest is not.
            head = min(end, at + 4 + int.from_bytes(buffer[at : at + 2], "big"))
            if size < at + 2 or size < head:
                self._need = (head if size >= at + 2 else at + 2) - start
                return None
            self._over = (OVERSIZE, buffer[start] & 0x0F, bytes(buffer[at:head]))
            self._skip = end - start
            return self._read_away()
        if end > size:
            self._need = end - start
            return None
        frame = (buffer[start] >> 4, buffer[start] & 0x0F, bytes(buffer[at:end]))
        self._need = 2
        self._advance(end)
        return frame

    def _read_away(self) -> Frame | None:
        away = min(self._skip, len(self))
        self._skip -= away
        self._advance(self._start + away)
        if self._skip:
            return None
        frame, self._over, self._need = self._over, None, 2
        return frame

    def _advance(self, start: int) -> None:
        if start == len(self._buffer):
            self._buffer.clear()
            self._start = 0
        elif start > _COMPACT:
            del self._buffer[:start]
            self._start = 0
        else:
            self._start = start


def _string(body: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    if at + 2 > len(body) or end > len(body):
        raise ProtocolViolation("a string runs past the end of its packet")
    try:
        text = body[at + 2 : end].decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolViolation("[MQTT-1.5.3-1] a string that is not UTF-8") from None
    if "\x00" in text:
        raise ProtocolViolation("[MQTT-1.5.3-2] a string with U+0000")
    return text, end


def _binary(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    if at + 2 > len(body) or end > len(body):
        raise ProtocolViolation("a field runs past the end of its packet")
    return body[at + 2 : end], end


def _packet_id(body: bytes, at: int = 0) -> int:
    if at + 2 > len(body):
        raise ProtocolViolation("a packet without its packet identifier")
    number = int.from_bytes(body[at : at + 2], "big")
    if not number:
        raise ProtocolViolation("[MQTT-2.3.1-1] packet identifier 0")
    return number


def _decode_publish(flags: int, body: bytes) -> PublishPacket:
    qos = (flags >> 1) & 3
    if qos == 3:
        raise ProtocolViolation("[MQTT-3.3.1-4] PUBLISH with QoS 3")
    if not qos and flags & 8:
        raise ProtocolViolation("[MQTT-3.3.1-2] DUP on a PUBLISH with QoS 0")
    topic, at = _string(body, 0)
    if not topic:
        raise ProtocolViolation("[MQTT-4.7.3-1] PUBLISH to an empty topic")
    if "+" in topic or "#" in topic:
        raise ProtocolViolation("[MQTT-3.3.2-2] PUBLISH to a topic with a wildcard")
    packet_id = None
    if qos:
        packet_id = _packet_id(body, at)
        at += 2
    return PublishPacket(
        MQTTFixedHeader(PUBLISH, flags, len(body)),
        PublishVariableHeader(topic, packet_id),
        PublishPayload(body[at:]),
    )


def _decode_connect(flags: int, body: bytes) -> ConnectPacket:
    if flags:
        raise ProtocolViolation("[MQTT-2.2.2-2] CONNECT with flags in its fixed header")
    name, at = _string(body, 0)
    if name not in ("MQTT", "MQIsdp"):
        raise ProtocolViolation(f"[MQTT-3.1.2-1] protocol name {name[:16]!r}")
    if len(body) < at + 4:
        raise ProtocolViolation("CONNECT ends within its header")
    level, bits = body[at], body[at + 1]
    if name != "MQTT" or level != PROTOCOL_LEVEL:
        raise UnsupportedProtocol(
            f"protocol {name!r} level {level}; 3.1.1 (level 4) is spoken here"
        )
    header = ConnectVariableHeader(bits, int.from_bytes(body[at + 2 : at + 4], "big"), name, level)
    if header.reserved_flag:
        raise ProtocolViolation("[MQTT-3.1.2-3] CONNECT with its reserved flag set")
    if header.will_qos == 3 or (not header.will_flag and (header.will_qos or bits & 0x20)):
        raise ProtocolViolation(
            "[MQTT-3.1.2-11] [MQTT-3.1.2-14] CONNECT with impossible will flags"
        )
    if header.password_flag and not header.username_flag:
        raise ProtocolViolation("[MQTT-3.1.2-22] CONNECT with a password and no user name")
    payload = ConnectPayload()
    payload.client_id, at = _string(body, at + 4)
    payload.client_id_is_random = not payload.client_id
    if header.will_flag:
        payload.will_topic, at = _string(body, at)
        payload.will_message, at = _binary(body, at)
        if not payload.will_topic or "+" in payload.will_topic or "#" in payload.will_topic:
            raise ProtocolViolation("[MQTT-4.7.1-1] [MQTT-4.7.3-1] a will topic that is no topic")
    if header.username_flag:
        payload.username, at = _string(body, at)
    if header.password_flag:
        secret, at = _binary(body, at)
        # A password is binary data; as text that loses nothing it fits amqtt's session.
        payload.password = secret.decode("utf-8", "surrogateescape")
    if at != len(body):
        raise ProtocolViolation("CONNECT with more bytes than its flags announce")
    return ConnectPacket(MQTTFixedHeader(CONNECT, flags, len(body)), header, payload)


def _decode_subscribe(flags: int, body: bytes) -> SubscribePacket:
    if flags != 2:
        raise ProtocolViolation("[MQTT-3.8.1-1] SUBSCRIBE with wrong flags")
    packet_id, at = _packet_id(body), 2
    topics: list[tuple[str, int]] = []
    while at < len(body):
        topic_filter, at = _string(body, at)
        if at >= len(body) or body[at] > 2:
            raise ProtocolViolation("[MQTT-3.8.3-4] SUBSCRIBE with a QoS that is none")
        topics.append((topic_filter, body[at]))
        at += 1
    if not topics:
        raise ProtocolViolation("[MQTT-3.8.3-3] SUBSCRIBE without a filter")
    return SubscribePacket(
        MQTTFixedHeader(SUBSCRIBE, flags, len(body)),
        PacketIdVariableHeader(packet_id),
        SubscribePayload(topics),
    )


def _decode_unsubscribe(flags: int, body: bytes) -> UnsubscribePacket:
    if flags != 2:
        raise ProtocolViolation("[MQTT-3.10.1-1] UNSUBSCRIBE with wrong flags")
    packet_id, at = _packet_id(body), 2
    topics: list[str] = []
    while at < len(body):
        topic_filter, at = _string(body, at)
        topics.append(topic_filter)
    if not topics:
        raise ProtocolViolation("[MQTT-3.10.3-2] UNSUBSCRIBE without a filter")
    return UnsubscribePacket(
        MQTTFixedHeader(UNSUBSCRIBE, flags, len(body)),
        PacketIdVariableHeader(packet_id),
        UnubscribePayload(topics),
    )


def decode(packet_type: int, flags: int, body: bytes) -> Packet:
    """Make amqtt's packet of one frame that a client sent.

    Raises :class:`ProtocolViolation`, and nothing else, when a client may not send it.
    """
    if packet_type == PUBLISH:
        return _decode_publish(flags, body)
    if packet_type in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        if len(body) != 2 or flags != (2 if packet_type == PUBREL else 0):
            raise ProtocolViolation("[MQTT-2.2.2-2] [MQTT-3.6.1-1] a malformed acknowledgement")
        header = MQTTFixedHeader(packet_type, flags, 2)
        return packet_class(header)(header, PacketIdVariableHeader(_packet_id(body)))
    if packet_type in (PINGREQ, DISCONNECT):
        if body or flags:
            raise ProtocolViolation("[MQTT-3.14.1-1] PINGREQ or DISCONNECT with flags or a body")
        header = MQTTFixedHeader(packet_type)
        return packet_class(header)(header)
    if packet_type == SUBSCRIBE:
        return _decode_subscribe(flags, body)
    if packet_type == UNSUBSCRIBE:
        return _decode_unsubscribe(flags, body)
    if packet_type == CONNECT:
        return _decode_connect(flags, body)
    raise ProtocolViolation(f"[MQTT-2.2.1] packet type {packet_type} is not a client's to send")


def encode_remaining_length(length: int) -> bytes:
    """The variable-length form of a packet's remaining length [MQTT-2.2.3]."""
    if length < 0x80:
        return bytes((length,))
    out = bytearray()
    while length:
        length, low = divmod(length, 0x80)
        out.append(low | 0x80 if length else low)
    return bytes(out)


def encode_topic(topic: str) -> bytes:
    """A topic with its length before it, as a PUBLISH carries it."""
    data = topic.encode("utf-8")
    return len(data).to_bytes(2, "big") + data


def encode_publish(
    topic: bytes, data: bytes, qos: int, packet_id: int | None, *, retain: bool, dup: bool = False
) -> bytes:
    """A whole PUBLISH; ``topic`` comes from :func:`encode_topic`, once for all receivers."""
    first = _PUBLISH_HEADER | (dup << 3) | (qos << 1) | retain
    if packet_id is None:
        length = len(topic) + len(data)
        return b"%c%b%b%b" % (first, encode_remaining_length(length), topic, data)
    length = len(topic) + len(data) + 2
    return b"%c%b%b%b%b" % (
        first,
        encode_remaining_length(length),
        topic,
        packet_id.to_bytes(2, "big"),
        data,
    )


def encode_ack(packet_type: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK."""
    flags = 2 if packet_type == PUBREL else 0
    return bytes((packet_type << 4 | flags, 2, packet_id >> 8, packet_id & 0xFF))
