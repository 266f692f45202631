"""Packets that no broker sends: the link that brings one is lost, and the next one taken.

paho-mqtt 2.1.0 raises out of ``loop_read`` for each of these; later ones say so in other ways.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from device_sdk import ConnectionState
from tests.unit.conftest import MakePeer

MALFORMED = ["3200", "320100", "320400ff6162", "9000", "900100", "9003ffff55"]


class RawBroker:
    """Greets, subscribes and acknowledges; sends ``bad`` after the first SUBACK of its life."""

    def __init__(self, bad: bytes) -> None:
        self._bad = bad
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End everything."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while head := stream.read(1):
                length, shift = 0, 0
                while True:
                    byte = stream.read(1)[0]
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                self._answer(connection, head[0], stream.read(length))

    def _answer(self, connection: socket.socket, head: int, body: bytes) -> None:
        kind = head >> 4
        if kind == 1:
            connection.sendall(b"\x20\x02\x00\x00")
        elif kind == 3 and head & 6:
            size = struct.unpack_from("!H", body)[0]
            connection.sendall(b"\x40\x02" + body[2 + size : 4 + size])
        elif kind == 8:
            at, count = 2, 0
            while at < len(body):
                at += 3 + struct.unpack_from("!H", body, at)[0]
                count += 1
            suback = bytes([0x90, 2 + count]) + body[:2] + b"\1" * count
            bad, self._bad = self._bad, b""
            connection.sendall(suback + bad)


@pytest.fixture
def raw() -> Iterator[list[RawBroker]]:
    made: list[RawBroker] = []
    yield made
    for each in made:
        each.close()


@pytest.mark.parametrize("packet", MALFORMED)
def test_the_link_that_brings_it_is_lost_and_the_next_one_taken(
    make_peer: MakePeer, raw: list[RawBroker], packet: str
) -> None:
    """On both faces, with whatever paho-mqtt there is."""
    raw.append(RawBroker(bytes.fromhex(packet)))
    door = make_peer("front-door", raw[0].url, login=False, startup_timeout=0.1)
    door.login(keep_trying=True)
    assert door.client.connection_state is ConnectionState.CONNECTED
    assert raw[0].connections <= 2
