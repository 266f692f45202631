"""amqtt's stream adapters with two things added: read what has come, write without waiting."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

from amqtt.adapters import (
    StreamReaderAdapter,
    StreamWriterAdapter,
    WebSocketsReader,
    WebSocketsWriter,
)
from websockets.exceptions import ConnectionClosed

CHUNK = 65536
#: How long a closing connection may take to send what is still written, in seconds.
LINGER = 2.0


class SignalingStreamReader(StreamReaderAdapter):
    """Reads whatever has arrived, not field by field."""

    async def read_some(self) -> bytes:
        """What has come, at least a byte; empty when the connection is over."""
        try:
            return await self._reader.read(CHUNK)
        except OSError:
            # A reset or a timed-out peer is an end like another; TLS errors are OSErrors too.
            return b""

    def allow(self, size: int) -> None:
        """Nothing to do: a stream has no messages."""


def _unsent(transport: Any) -> int:
    """Bytes in a transport's buffer; none in one that has ended.

    asyncio's TLS transport takes itself apart as it closes, and raises AttributeError from then
    on: a peer that sends close_notify with its last bytes brings that about.
    """
    with contextlib.suppress(AttributeError):
        return int(transport.get_write_buffer_size())
    return 0


class SignalingStreamWriter(StreamWriterAdapter):
    """Writes at once; never waits for a peer that doesn't read."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer)
        # Asked at the start: a TLS transport that has ended raises at this, too.
        self._ssl_info: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        self._peer_info = super().get_peer_info()

    def get_peer_info(self) -> tuple[str, int] | None:
        """Where the client is."""
        return self._peer_info

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """The TLS session, if there is one."""
        return self._ssl_info

    @property
    def unsent(self) -> int:
        """Bytes written and not yet taken by the peer's side."""
        return _unsent(self._writer.transport)

    def write(self, data: bytes) -> None:
        """Send ``data``, unless the connection is over: asyncio would log each such attempt."""
        if not self._writer.transport.is_closing():
            super().write(data)

    def end(self, *, abort: bool = False) -> None:
        """Close without waiting; ``abort`` throws away what the peer has not taken."""
        if self.is_closed:
            return
        self.is_closed = True
        transport = self._writer.transport
        if abort:
            transport.abort()
            return
        transport.close()
        if self.unsent or self.get_ssl_info() is not None:
            asyncio.get_running_loop().call_later(LINGER, transport.abort)

    def abandon(self) -> None:
        """Drop the connection, whatever is still to be sent."""
        self.is_closed = True
        self._writer.transport.abort()


class SignalingWebSocketsReader(WebSocketsReader):
    """Reads one WebSocket message."""

    async def read_some(self) -> bytes:
        """The bytes of the next message; empty when the connection is over."""
        while True:
            try:
                message = await self._protocol.recv()
            except (ConnectionClosed, OSError):
                return b""
            if isinstance(message, str):
                return b""  # [MQTT-6.0.0-1]: MQTT comes in binary frames, or the connection ends
            if message:
                return bytes(message)

    def allow(self, size: int) -> None:
        """Take messages of ``size`` bytes: packets need not be one to a message [MQTT-6.0.0-4]."""
        self._protocol.protocol.max_size = size


class SignalingWebSocketsWriter(WebSocketsWriter):
    """Collects what is written and sends it in the order written, from one task at a time."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)
        self.is_closed = False
        self._unsent = bytearray()
        self._sender: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._ssl_info: ssl.SSLObject | None = protocol.transport.get_extra_info("ssl_object")

    def get_peer_info(self) -> tuple[str, int] | None:
        """Where the client is; nowhere when it has gone already."""
        address = self._protocol.remote_address
        return (address[0], address[1]) if address else None

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """The TLS session, if there is one."""
        return self._ssl_info

    @property
    def unsent(self) -> int:
        """Bytes written and not yet taken by the peer's side."""
        return len(self._unsent) + _unsent(self._protocol.transport)

    def write(self, data: bytes) -> None:
        """Send ``data`` after what was written before."""
        if self.is_closed:
            return
        self._unsent += data
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while self._unsent:
                data = bytes(self._unsent)
                self._unsent.clear()
                await self._protocol.send(data)

    async def drain(self) -> None:
        """Wait until what was written is sent."""
        if self._sender is not None:
            await self._sender

    def end(self, *, abort: bool = False) -> None:
        """Close without waiting; ``abort`` throws away what the peer has not taken."""
        if self.is_closed:
            return
        self.is_closed = True
        if abort:
            self._protocol.transport.abort()
            return
        self._closer = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError, TimeoutError):
            async with asyncio.timeout(LINGER):
                await self.drain()
                await self._protocol.close()
        self._protocol.transport.abort()

    def abandon(self) -> None:
        """Drop the connection, whatever is still to be sent."""
        self.is_closed = True
        for task in (self._sender, self._closer):
            if task is not None:
                task.cancel()
        self._protocol.transport.abort()

    async def close(self) -> None:
        """Close the connection, after what was written."""
        self.end()
        await self.ended()

    async def ended(self) -> None:
        """Wait until the last words are sent: the server closes once its handler returns."""
        if self._closer is not None:
            await self._closer


Reader = SignalingStreamReader | SignalingWebSocketsReader
Writer = SignalingStreamWriter | SignalingWebSocketsWriter
