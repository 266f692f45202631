"""One connection: a transport's bytes into the router, and what the router wants done with it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ..core.limits import Limits
from ..core.session import ClientLink

#: How long a closing connection may take to send what is still written, in seconds.
LINGER = 2.0


class Host(Protocol):
    """What a connection needs of the broker that serves it."""

    loop: asyncio.AbstractEventLoop
    limits: Limits

    def arrived(self, connection: Connection, address: str) -> ClientLink | None:
        """Its link; None when it is not let in."""

    def read(self, connection: Connection, data: bytes) -> None:
        """Bytes came."""

    def drained(self, connection: Connection) -> None:
        """The other side has taken what was written."""

    def departed(self, connection: Connection) -> None:
        """The connection is over, whatever its transport says."""


class Connection:
    """What both kinds have in common. Everything runs in the event loop's thread."""

    link: ClientLink | None = None
    #: Authenticates the client; cancelled when the client has gone.
    task: asyncio.Task[None] | None = None

    def __init__(self, host: Host) -> None:
        self.host = host
        self.transport: Any = None
        #: The TLS session, if there is one: asked for once, a transport that has ended raises.
        self.ssl_object: ssl.SSLObject | None = None
        self.reading = True
        self.ended = False

    def made(self, transport: Any, peer: Any) -> ClientLink | None:
        """The transport is there; gives the connection's link, if it is let in."""
        self.transport = transport
        self.ssl_object = transport.get_extra_info("ssl_object")
        # What the core paces by is below what it is told of again.
        transport.set_write_buffer_limits(high=min(65536, self.host.limits.write_buffer // 2))
        self.link = self.host.arrived(self, peer[0] if peer else "an unknown address")
        return self.link

    @property
    def unsent(self) -> int:
        """Bytes written and not yet taken by the other side; none of a transport that has ended.

        asyncio's TLS transport takes itself apart as it closes, and raises AttributeError from
        then on: a peer that sends close_notify with its last bytes brings that about.
        """
        with contextlib.suppress(AttributeError):
            return int(self.transport.get_write_buffer_size())
        return 0

    def perform(self, link: ClientLink) -> int:
        """Do what ``link`` wants done; gives the number of bytes written."""
        link.marked = False
        out, size = link.out, 0
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            link.out = []
            size = len(data)
            if not self.ended:
                self.write(data)
        if link.closed:
            self.finish(abort=link.abort)
        elif link.reading != self.reading:
            self.reading = link.reading
            self.read_on(self.reading)
        return size

    def gone(self) -> None:
        """The transport is closed."""
        self.ended = True
        if self.task is not None:
            self.task.cancel()
        self.host.departed(self)

    def write(self, data: bytes) -> None:
        """Send ``data``; never waits."""
        raise NotImplementedError

    def read_on(self, on: bool) -> None:
        """Read, or leave what comes to the kernel."""
        raise NotImplementedError

    def finish(self, *, abort: bool) -> None:
        """Close; ``abort`` throws away what the other side has not taken."""
        raise NotImplementedError

    def drop(self) -> None:
        """Close at once, whatever is unsent."""
        self.ended = True
        self._abort()

    def _abort(self) -> None:
        """Abort the transport, also one that has taken itself apart (see :attr:`unsent`)."""
        with contextlib.suppress(AttributeError):
            self.transport.abort()


class StreamConnection(Connection, asyncio.Protocol):
    """MQTT over TCP or TLS."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or end at once when it is not let in."""
        if self.made(transport, transport.get_extra_info("peername")) is None:
            self.drop()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.link is not None:
            self.host.read(self, data)

    def resume_writing(self) -> None:
        """The transport's buffer is empty again."""
        self.host.drained(self)

    def eof_received(self) -> None:
        """The client has ended: it is gone, whatever its transport still has to do."""
        self.gone()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """An end like another, whatever its cause."""
        self.gone()

    def write(self, data: bytes) -> None:
        """Send ``data``, unless the connection is over: asyncio would log each such attempt."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def read_on(self, on: bool) -> None:
        """Read, or do not."""
        if not self.transport.is_closing():
            (self.transport.resume_reading if on else self.transport.pause_reading)()

    def finish(self, *, abort: bool) -> None:
        """Close."""
        if self.ended:
            return
        self.ended = True
        if abort:
            self._abort()
            return
        self.transport.close()
        # Over TLS the other side's goodbye is waited for, too: not for ever.
        self.host.loop.call_later(LINGER, self.drop)


class WebSocketConnection(Connection):
    """MQTT over WebSocket: binary frames, of which packets do not respect the borders."""

    def __init__(self, host: Host, socket: ServerConnection) -> None:
        super().__init__(host)
        self._socket = socket
        self._unsent = bytearray()
        self._wake = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()

    async def serve(self) -> None:
        """Serve it to its end."""
        if self.made(self._socket.transport, self._socket.remote_address) is None:
            self.drop()
            return
        reader = asyncio.create_task(self._read())
        try:
            # Written from one task at a time, in the order written.
            while not self.ended or self._unsent:
                await self._wake.wait()
                self._wake.clear()
                while self._unsent:
                    data = bytes(self._unsent)
                    self._unsent.clear()
                    async with asyncio.timeout(LINGER if self.ended else None):
                        await self._socket.send(data)
                self.host.drained(self)
            async with asyncio.timeout(LINGER):
                await self._socket.close()
        except (ConnectionClosed, OSError, TimeoutError):
            pass
        finally:
            reader.cancel()
            self.gone()
            self.drop()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                await self._may_read.wait()
                message = await self._socket.recv()
                if isinstance(message, str):
                    break  # [MQTT-6.0.0-1]: MQTT comes in binary frames, or the connection ends
                if message:
                    self.host.read(self, message)
        self.ended = True
        self._wake.set()

    def perform(self, link: ClientLink) -> int:
        """What ``link`` wants done; one that is let in may send many packets in a message."""
        if link.open:
            self._socket.protocol.max_size = self.host.limits.packet_bytes_dropped
        return super().perform(link)

    @property
    def unsent(self) -> int:
        """Bytes written and not yet taken by the other side."""
        return len(self._unsent) + super().unsent

    def write(self, data: bytes) -> None:
        """Send ``data`` after what was written before."""
        self._unsent += data
        self._wake.set()

    def read_on(self, on: bool) -> None:
        """Take frames, or let them wait."""
        (self._may_read.set if on else self._may_read.clear)()

    def finish(self, *, abort: bool) -> None:
        """Close."""
        if abort:
            self._unsent.clear()
            self._abort()
        self.ended = True
        self._wake.set()
