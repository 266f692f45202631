"""A connection without a socket: bytes in, bytes out, in one thread and one turn."""

from __future__ import annotations

from typing import Any

from amqtt.contexts import BrokerConfig, ListenerConfig

from broker_config.adapters import SignalingStreamReader, SignalingStreamWriter
from broker_config.broker import SignalingBroker
from broker_config.limits import Limits


class MemoryReader(SignalingStreamReader):
    """Gives the chunks it was made of, then the end."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = list(chunks)

    async def read_some(self) -> bytes:
        while self._chunks:
            chunk = self._chunks.pop(0)
            if chunk:
                return chunk
        return b""


class MemoryWriter(SignalingStreamWriter):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.is_closed = False
        self.written = bytearray()

    @property
    def unsent(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        if not self.is_closed:
            self.written += data

    def get_peer_info(self) -> tuple[str, int]:
        return "memory", 0

    def get_ssl_info(self) -> None:
        return None

    def end(self, *, abort: bool = False) -> None:
        self.is_closed = True

    def abandon(self) -> None:
        self.is_closed = True


def unserved_broker(limits: Limits | None = None) -> SignalingBroker:
    """A broker that listens nowhere; call it in a running event loop."""
    config = BrokerConfig(
        listeners={"default": ListenerConfig(bind=None)},
        plugins={"broker_config.auth.AnyonePlugin": {}},
    )
    broker = SignalingBroker(config, limits=limits)
    servers: dict[str, Any] = broker._servers
    servers["default"] = None
    return broker


async def converse(broker: SignalingBroker, chunks: list[bytes]) -> bytes:
    """Serve one connection from these bytes to its end; gives what it answered."""
    writer = MemoryWriter()
    await broker._client_connected("default", MemoryReader(chunks), writer)
    return bytes(writer.written)
