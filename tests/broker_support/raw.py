"""A blocking MQTT 3.1.1 client that does exactly what it is told, and nothing by itself."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.bench.broker_wire import publish, remaining, text

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x20, 0x30, 0x40, 0x50, 0x60, 0x70
SUBACK, UNSUBACK, PINGRESP = 0x90, 0xB0, 0xD0
TIMEOUT = 5.0


@dataclass(frozen=True)
class Message:
    """A PUBLISH as it came."""

    topic: str
    data: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int


@dataclass(frozen=True)
class Will:
    """What a client leaves behind."""

    topic: str
    data: bytes
    qos: int = 1
    retain: bool = False


class Raw:
    """One connection. ``patient``: the broker answers out of order, so silence is waited for."""

    def __init__(
        self,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        patient: bool = False,
        name: str = "localhost",
        source: str = "",
    ) -> None:
        self.socket: socket.socket = socket.create_connection(
            ("127.0.0.1", port), TIMEOUT, (source, 0) if source else None
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=name)
        self.patient = patient
        self._buffer = b""
        self._seen: list[tuple[int, bytes]] = []
        self._packet_id = 0
        self.session_present = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Cut the connection without a goodbye."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, timeout: float = TIMEOUT) -> tuple[int, bytes] | None:
        """The next packet: its first byte and its body; None when the connection is over."""
        deadline = time.monotonic() + timeout
        while True:
            frame = self._cut()
            if frame is not None:
                return frame
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no packet came in time")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._buffer += data

    def _cut(self) -> tuple[int, bytes] | None:
        buffer, length, at = self._buffer, 0, 1
        while at < len(buffer) and at <= 4:
            length |= (buffer[at] & 127) << 7 * (at - 1)
            at += 1
            if not buffer[at - 1] & 128:
                if len(buffer) < at + length:
                    return None
                self._buffer = buffer[at + length :]
                return buffer[0], buffer[at : at + length]
        return None

    def expect(self, kind: int, timeout: float = TIMEOUT) -> bytes:
        """The body of the next packet of this kind; messages on the way are kept."""
        for index, (first, body) in enumerate(self._seen):
            if first & 0xF0 == kind:
                del self._seen[index]
                return body
        deadline = time.monotonic() + timeout
        while True:
            packet = self.read(max(0.01, deadline - time.monotonic()))
            if packet is None:
                raise ConnectionError(f"closed while waiting for 0x{kind:02x}")
            if packet[0] & 0xF0 == kind:
                return packet[1]
            self._seen.append(packet)

    def connect(
        self,
        client_id: str,
        *,
        clean: bool = True,
        user: str | None = None,
        password: str | None = None,
        will: Will | None = None,
        keep_alive: int = 60,
    ) -> int:
        """CONNECT; gives the CONNACK's code, or -1 when the connection was just closed."""
        flags, tail = (2 if clean else 0), b""
        if will is not None:
            flags |= 4 | will.qos << 3 | will.retain << 5
            tail += text(will.topic) + len(will.data).to_bytes(2, "big") + will.data
        if user is not None:
            flags |= 0x80
            tail += text(user)
        if password is not None:
            flags |= 0x40
            tail += text(password)
        head = b"\0\4MQTT\4" + bytes((flags,)) + keep_alive.to_bytes(2, "big")
        body = head + text(client_id) + tail
        try:
            self.send(b"\x10" + remaining(len(body)) + body)
            answer = self.expect(CONNACK)
        except ConnectionError:
            return -1
        self.session_present = bool(answer[0])
        return answer[1]

    def _next_id(self) -> int:
        self._packet_id += 1
        return self._packet_id

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """SUBSCRIBE; gives the SUBACK's codes."""
        body = self._next_id().to_bytes(2, "big")
        body += b"".join(text(each) + bytes((qos,)) for each in filters)
        self.send(b"\x82" + remaining(len(body)) + body)
        return list(self.expect(SUBACK)[2:])

    def unsubscribe(self, topic_filter: str) -> None:
        body = self._next_id().to_bytes(2, "big") + text(topic_filter)
        self.send(b"\xa2" + remaining(len(body)) + body)
        self.expect(UNSUBACK)

    def publish(
        self, topic: str, data: bytes, *, qos: int = 1, retain: bool = False, wait: bool = True
    ) -> int:
        """PUBLISH, and wait for its acknowledgement (QoS 1); gives the packet id."""
        packet_id = self._next_id()
        self.send(publish(topic, data, packet_id, qos=qos, retain=retain))
        if qos == 1 and wait:
            self.expect(PUBACK)
        return packet_id

    def message(self, timeout: float = TIMEOUT, *, ack: bool = True) -> Message:
        """The next message; acknowledged unless told otherwise."""
        for index, (first, body) in enumerate(self._seen):
            if first & 0xF0 == PUBLISH:
                del self._seen[index]
                return self._message(first, body, ack)
        deadline = time.monotonic() + timeout
        while True:
            packet = self.read(max(0.01, deadline - time.monotonic()))
            if packet is None:
                raise ConnectionError("closed while waiting for a message")
            if packet[0] & 0xF0 == PUBLISH:
                return self._message(*packet, ack)
            self._seen.append(packet)

    def _message(self, first: int, body: bytes, ack: bool) -> Message:
        qos, length = first >> 1 & 3, int.from_bytes(body[:2], "big")
        at, packet_id = 2 + length, 0
        if qos:
            packet_id, at = int.from_bytes(body[at : at + 2], "big"), at + 2
            if ack and qos == 1:
                self.ack(PUBACK, packet_id)
        return Message(
            body[2 : 2 + length].decode(),
            body[at:],
            qos,
            bool(first & 1),
            bool(first & 8),
            packet_id,
        )

    def ack(self, kind: int, packet_id: int) -> None:
        flags = 2 if kind == PUBREL else 0
        self.send(bytes((kind | flags, 2)) + packet_id.to_bytes(2, "big"))

    def gather(self, *, ack: bool = True) -> list[Message]:
        """All messages that are on their way: those before the answer to a PINGREQ."""
        self.send(b"\xc0\0")
        self.expect(PINGRESP)
        while self.patient:
            try:
                packet = self.read(0.5)
            except TimeoutError:
                break
            if packet is None:
                break
            self._seen.append(packet)
        seen, self._seen = self._seen, []
        found = []
        for first, body in seen:
            if first & 0xF0 == PUBLISH:
                found.append(self._message(first, body, ack))
            else:
                self._seen.append((first, body))
        return found

    def disconnect(self) -> None:
        """Say goodbye and wait until the broker has closed."""
        self.send(b"\xe0\0")
        self.closed()
        self.close()

    def closed(self, timeout: float = TIMEOUT) -> bool:
        """Whether the broker closes the connection in time."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                packet = self.read(max(0.01, deadline - time.monotonic()))
            except TimeoutError:
                return False
            except OSError:
                return True
            if packet is None:
                return True
            self._seen.append(packet)


def topics(messages: Iterable[Message]) -> list[str]:
    """The topics of messages, in order."""
    return [message.topic for message in messages]
