"""A TCP proxy between a peer and its broker that knows MQTT's packets and plays a bad network.

Everything happens on the proxy's own event loop; the methods may be called from any thread and
return once what they say is in force. Directions: ``UP`` to the broker, ``DOWN`` to the peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from tests.peers import Loop

T = TypeVar("T")

UP, DOWN = "up", "down"
CONNECT, CONNACK, PUBLISH, PUBACK, PINGREQ = 1, 2, 3, 4, 12


@dataclass
class Packet:
    """One MQTT control packet as it stands on the wire, and when it was read."""

    data: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> int:
        return self.data[0] >> 4

    def _body(self) -> int:
        at = 1
        while self.data[at] & 0x80:
            at += 1
        return at + 1

    @property
    def topic(self) -> str:
        """Of a PUBLISH."""
        at = self._body()
        length = int.from_bytes(self.data[at : at + 2], "big")
        return self.data[at + 2 : at + 2 + length].decode()

    @property
    def qos(self) -> int:
        """Of a PUBLISH."""
        return self.data[0] >> 1 & 3

    @property
    def payload(self) -> bytes:
        """Of a PUBLISH."""
        at = self._body()
        length = int.from_bytes(self.data[at : at + 2], "big")
        return self.data[at + 2 + length + (2 if self.qos else 0) :]

    def acknowledgement(self) -> bytes:
        """The PUBACK of a PUBLISH with QoS 1."""
        at = self._body()
        length = int.from_bytes(self.data[at : at + 2], "big")
        return b"\x40\x02" + self.data[at + 2 + length : at + 4 + length]


def split(buffer: bytearray) -> Iterator[Packet]:
    """Take whole packets off the front of ``buffer``."""
    while len(buffer) >= 2:
        length, at = 0, 1
        while True:
            if at >= len(buffer):
                return
            byte = buffer[at]
            length |= (byte & 127) << 7 * (at - 1)
            at += 1
            if not byte & 128:
                break
        if len(buffer) < at + length:
            return
        data = bytes(buffer[: at + length])
        del buffer[: at + length]
        yield Packet(data)


@dataclass
class _Connection:
    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    silent: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def writer(self, direction: str) -> asyncio.StreamWriter:
        return self.broker if direction == UP else self.client


class Proxy:
    """Stands at ``url`` for the broker on ``upstream`` (a port); ``seed`` for what is random.

    The broker sees the peer at the address ``source``.
    """

    def __init__(
        self, upstream: int, loop: Loop, *, seed: int = 0, source: str = "127.0.0.1"
    ) -> None:
        self._upstream = upstream
        self._source = source
        self._loop = loop
        self._random = random.Random(seed)
        self._connections: list[_Connection] = []
        self._gates: dict[str, asyncio.Event] = {}
        self._swallow = {UP: 0, DOWN: 0}
        self._delay: tuple[float, float] | None = None
        self._death = 0.0
        self._duplicate = False
        self._refuse = self._stopped = False
        self._forbidden: tuple[str, int] | None = None
        self._bridged = ""
        self._news = threading.Condition()
        #: What came in, by direction and kind; publishes also by topic kind (invite, answer, …).
        self.came: Counter[tuple[str, int]] = Counter()
        self.topics: Counter[tuple[str, str]] = Counter()
        self.swallowed: list[str] = []
        self.killed: list[str] = []
        #: All packets that came in: direction, packet.
        self.packets: list[tuple[str, Packet]] = []
        self.accepted = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._loop.run(self._start())
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._loop.run(self._stop())

    async def _start(self) -> None:
        for direction in (UP, DOWN):
            self._gates[direction] = asyncio.Event()
            self._gates[direction].set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._stopped = True  # also for whoever is on the way to the broker now
        # One that is accepted as the server closes would never get its transport, and its socket
        # would be found unclosed in a later test: accept nobody more, and let those have theirs.
        for sock in self._server.sockets:
            self._loop.loop.remove_reader(sock.fileno())
        await asyncio.sleep(0)
        self._server.close()
        tasks = [task for connection in self._connections for task in connection.tasks]
        for connection in list(self._connections):
            self._end(connection)
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._server.wait_closed()

    # --- the faults ----------------------------------------------------------------------------

    def hold(self, direction: str) -> None:
        """Let nothing through that way, on this connection and later ones, until released."""
        self._loop.call(self._gates[direction].clear)

    def release(self) -> None:
        """Let everything through again, in order."""
        self._loop.call(lambda: [gate.set() for gate in self._gates.values()])

    def reset(self) -> None:
        """RST on every connection, both ways."""
        self._loop.call(lambda: [self._end(c) for c in list(self._connections)])

    def silence(self) -> None:
        """Half-open: the connections of now forward nothing any more and are not closed."""

        def apply() -> None:
            for connection in self._connections:
                connection.silent = True

        self._loop.call(apply)

    def slow(self, delay: float, jitter: float, death: float) -> None:
        """Every packet takes ``delay`` ± ``jitter`` s; of connections ``death`` a second die."""

        def apply() -> None:
            self._delay, self._death = (delay, jitter), death
            for connection in self._connections:
                connection.tasks.append(asyncio.create_task(self._maybe_die(connection)))

        self._loop.call(apply)

    def swallow(self, direction: str, count: int) -> None:
        """Swallow the next ``count`` PUBLISH packets that way, and acknowledge them."""
        self._loop.call(self._swallow.__setitem__, direction, count)

    def duplicate(self) -> None:
        """Every PUBLISH twice from now on; to the peer once more a while later."""

        def apply() -> None:
            self._duplicate = True

        self._loop.call(apply)

    def forbid(self, kind: str, times: int) -> None:
        """Close the connection on the next ``times`` publishes of a topic kind, as a broker does.

        They do not reach the broker; 0 times allows them again.
        """
        self._loop.call(setattr, self, "_forbidden", (kind, times) if times else None)

    def bridge(self, peer: str) -> None:
        """Hand on what others than ``peer`` wrote without its RETAIN flag, as a bridge does."""
        self._loop.call(setattr, self, "_bridged", peer)

    def refuse(self, refuse: bool = True) -> None:
        """Close new connections at once."""

        def apply() -> None:
            self._refuse = refuse

        self._loop.call(apply)

    # --- what has happened ---------------------------------------------------------------------

    def wait(self, done: Callable[[Proxy], bool], what: str, timeout: float = 10) -> None:
        """Wait until ``done`` of what came in; raises ``AssertionError``."""
        deadline = time.monotonic() + timeout
        with self._news:
            while not done(self):
                left = deadline - time.monotonic()
                assert left > 0, f"{what} did not come within {timeout:.1f} s: {self.topics}"
                self._news.wait(left)

    # --- inside --------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._news:
            self.accepted += 1
            self._news.notify_all()
        if self._refuse:
            writer.transport.abort()
            return
        try:
            from_broker, to_broker = await asyncio.open_connection(
                "127.0.0.1", self._upstream, local_addr=(self._source, 0)
            )
        except OSError:
            writer.transport.abort()
            return
        except BaseException:  # the loop ends meanwhile
            writer.transport.abort()
            raise
        if self._stopped:
            for one in (writer, to_broker):
                one.transport.abort()
            return
        for one in (writer, to_broker):
            sock: socket.socket = one.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(writer, to_broker)
        self._connections.append(connection)
        for direction, source in ((UP, reader), (DOWN, from_broker)):
            connection.tasks.append(asyncio.create_task(self._pump(connection, direction, source)))
        if self._death:
            connection.tasks.append(asyncio.create_task(self._maybe_die(connection)))

    async def _maybe_die(self, connection: _Connection) -> None:
        while connection in self._connections:
            await asyncio.sleep(1)
            if self._random.random() < self._death:
                self._end(connection)

    async def _pump(
        self, connection: _Connection, direction: str, source: asyncio.StreamReader
    ) -> None:
        queue: asyncio.Queue[tuple[float, Packet | None]] = asyncio.Queue()
        forward = asyncio.create_task(self._forward(connection, direction, queue))
        connection.tasks.append(forward)
        buffer = bytearray()
        due = 0.0
        while True:
            try:
                data = await source.read(65536)
            except OSError:
                data = b""
            now = asyncio.get_running_loop().time()
            if self._delay is not None:
                delay, jitter = self._delay
                # A packet does not overtake the one before it: this is TCP.
                due = max(due, now + delay + self._random.uniform(-jitter, jitter))
            if not data:
                queue.put_nowait((due, None))
                return
            buffer += data
            for packet in split(buffer):
                self._note(direction, packet)
                queue.put_nowait((due, packet))

    def _note(self, direction: str, packet: Packet) -> None:
        self.packets.append((direction, packet))
        with self._news:
            self.came[direction, packet.kind] += 1
            if packet.kind == PUBLISH:
                self.topics[direction, packet.topic.split("/")[3]] += 1
            self._news.notify_all()

    def _treat(self, connection: _Connection, direction: str, packet: Packet) -> list[bytes]:
        if packet.kind != PUBLISH:
            return [packet.data]
        if self._swallow[direction] > 0:
            self._swallow[direction] -= 1
            with self._news:
                self.swallowed.append(packet.topic)
                self._news.notify_all()
            if packet.qos == 1:
                back = connection.writer(DOWN if direction == UP else UP)
                if not back.is_closing():
                    back.write(packet.acknowledgement())
            return []
        if direction == DOWN and self._bridged and f"/{self._bridged}/presence" not in packet.topic:
            packet = Packet(bytes([packet.data[0] & ~1]) + packet.data[1:])
        if not self._duplicate:
            return [packet.data]
        again = bytes([packet.data[0] | 8]) + packet.data[1:]
        if direction == DOWN:
            connection.tasks.append(asyncio.create_task(self._later(connection, again)))
        return [packet.data, again]

    def _kills(self, packet: Packet) -> bool:
        """Whether this is a publish at which the connection is closed; counts it."""
        if packet.kind != PUBLISH or self._forbidden is None:
            return False
        kind, times = self._forbidden
        if packet.topic.split("/")[3:4] != [kind]:
            return False
        self._forbidden = (kind, times - 1) if times > 1 else None
        with self._news:
            self.killed.append(packet.topic)
            self._news.notify_all()
        return True

    async def _later(self, connection: _Connection, data: bytes) -> None:
        await asyncio.sleep(0.3)
        if not connection.client.is_closing() and not connection.silent:
            connection.client.write(data)

    async def _forward(
        self,
        connection: _Connection,
        direction: str,
        queue: asyncio.Queue[tuple[float, Packet | None]],
    ) -> None:
        writer = connection.writer(direction)
        while True:
            due, packet = await queue.get()
            left = due - asyncio.get_running_loop().time()
            if left > 0:
                await asyncio.sleep(left)
            await self._gates[direction].wait()
            if connection.silent:
                continue
            if packet is None:
                self._end(connection, reset=False)
                return
            if direction == UP and self._kills(packet):
                self._end(connection, reset=False)
                return
            try:
                writer.write(b"".join(self._treat(connection, direction, packet)))
                await writer.drain()
            except OSError:
                self._end(connection, reset=False)
                return

    def _end(self, connection: _Connection, *, reset: bool = True) -> None:
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        for writer in (connection.client, connection.broker):
            if reset:
                sock: socket.socket = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()
        current = asyncio.current_task()
        for task in connection.tasks:
            if task is not current:
                task.cancel()
