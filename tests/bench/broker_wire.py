"""A client that costs next to nothing: raw MQTT 3.1.1 over asyncio, for loading brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def remaining(length: int) -> bytes:
    out = bytearray()
    while True:
        length, low = divmod(length, 128)
        out.append(low | 128 if length else low)
        if not length:
            return bytes(out)


def text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def connect(client_id: str, *, user: str = "", password: str = "", keep_alive: int = 600) -> bytes:
    flags, tail = 2, b""
    if user:
        flags |= 0xC0
        tail = text(user) + text(password)
    body = b"\0\4MQTT\4" + bytes((flags,)) + keep_alive.to_bytes(2, "big") + text(client_id) + tail
    return b"\x10" + remaining(len(body)) + body


def publish(
    topic: str, data: bytes, packet_id: int, *, qos: int = 1, retain: bool = False
) -> bytes:
    body = text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + data
    return bytes((0x30 | qos << 1 | retain,)) + remaining(len(body)) + body


def subscribe(*filters: str, packet_id: int = 1, qos: int = 1) -> bytes:
    body = packet_id.to_bytes(2, "big") + b"".join(text(each) + bytes((qos,)) for each in filters)
    return b"\x82" + remaining(len(body)) + body


class Client(asyncio.Protocol):
    """Answers QoS 1 by itself; hands ``(type and flags, body)`` of each packet on."""

    def __init__(self, on_packet: Callable[[int, bytes], None]) -> None:
        self.on_packet = on_packet
        self.transport: asyncio.Transport
        self._buffer = b""
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # a TCP connection's is a Transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        at, size, acks = 0, len(data), []
        while size - at >= 2:
            length, head = data[at + 1], at + 2
            if length & 128:
                if size - at < 3:
                    break
                length, head = (length & 127) | data[at + 2] << 7, at + 3
            if head + length > size:
                break
            first, body = data[at], data[head : head + length]
            at = head + length
            if first & 0xF0 == 0x30 and first & 6:
                topic = int.from_bytes(body[:2], "big")
                acks.append(b"\x40\x02" + body[2 + topic : 4 + topic])
            self.on_packet(first, body)
        if acks:
            self.transport.write(b"".join(acks))
        self._buffer = data[at:]


async def open_client(
    host: str, port: int, hello: bytes, on_packet: Callable[[int, bytes], None], **options: object
) -> Client:
    """Connect, send CONNECT, wait for CONNACK; raises ConnectionError when refused."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[int] = loop.create_future()

    def first(kind: int, body: bytes) -> None:
        if kind == 0x20 and not answer.done():
            client.on_packet = on_packet
            answer.set_result(body[1])
        else:
            on_packet(kind, body)

    _, client = await loop.create_connection(lambda: Client(first), host, port, **options)  # type: ignore[arg-type] # passed on as they are
    client.transport.write(hello)
    await asyncio.wait((answer, client.lost), return_when=asyncio.FIRST_COMPLETED)
    if not answer.done() or answer.result():
        raise ConnectionError(f"not let in: {answer.result() if answer.done() else client.lost}")
    return client
