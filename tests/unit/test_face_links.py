"""Links that take their time: to open, to take what is written, to say a word of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from device_sdk import ClientClosed, SignalingClient, aio
from device_sdk.client.link.base import Will
from device_sdk.testing import MemoryBroker, MemoryLink
from tests.peers import PATIENCE, Held, Loop, ring
from tests.unit.conftest import MakePeer


class Full(MemoryLink):
    """A link whose socket takes nothing at once: what is published waits for :meth:`write`."""

    def __init__(self, broker: MemoryBroker, will: Will) -> None:
        super().__init__(broker, broker._lock, will)
        self._waiting: list[tuple[str, bytes, int | None]] = []
        self.written = 0

    def publish(self, topic: str, payload: bytes, token: int | None) -> None:
        self._waiting.append((topic, payload, token))

    def wants_write(self) -> bool:
        return bool(self._waiting)

    def write(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.written += len(waiting)
        for each in waiting:
            super().publish(*each)


def test_what_a_socket_does_not_take_at_once_is_written_when_it_does(
    make_peer: MakePeer, memory: MemoryBroker
) -> None:
    """Nothing of it waits for the next thing that happens."""
    links: list[Full] = []

    def make(will: Will) -> Full:
        links.append(Full(memory, will))
        return links[-1]

    door, kitchen = make_peer("front-door", make, keepalive=60), make_peer("kitchen")
    mine, theirs = ring(door, kitchen)
    kitchen.accept(theirs)
    kitchen.expect("remote_invitation_accepted", mine.call_id)
    assert links[0].written >= 3  # that it is online, that it rings, that it decided


class Answers(MemoryLink):
    """A link that has something to write of its own once it has read, as TLS has, or to a ping."""

    def __init__(self, broker: MemoryBroker, will: Will) -> None:
        super().__init__(broker, broker._lock, will)
        self.asked = False
        self.answered = threading.Event()

    def ask(self) -> None:
        """Something comes that no one but the link has to know of."""
        self.asked = True
        self._writer.send(b"\0")

    def wants_write(self) -> bool:
        return self.asked and not self.answered.is_set()

    def write(self) -> None:
        self.answered.set()


def test_what_a_link_has_to_say_of_its_own_is_written(
    make_peer: MakePeer, memory: MemoryBroker
) -> None:
    """Though nothing has happened that the session knows of."""
    links: list[Answers] = []

    def make(will: Will) -> Answers:
        links.append(Answers(memory, will))
        return links[-1]

    make_peer("front-door", make, keepalive=400)
    links[0].ask()
    assert links[0].answered.wait(PATIENCE)


def test_a_connection_that_takes_a_while_is_taken(memory: MemoryBroker, loop: Loop) -> None:
    """The asyncio face: though the loop has been at rest since the login began."""
    held = Held(memory)
    held.hold()

    async def lives() -> None:
        client = aio.SignalingClient("front-door", held)
        login = asyncio.ensure_future(client.login())
        await asyncio.sleep(0)
        assert client._owner is not None
        while client._owner._resting is not None:
            await asyncio.sleep(0.001)
        held.release()
        await login
        await client.logout()

    loop.run(lives())


def test_a_connection_that_comes_when_the_client_failed_is_closed(
    memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threaded face: what it opened on a thread of its own is nobody's."""
    held = Held(memory)
    held.hold()
    client = SignalingClient("front-door", held)
    feeds: list[object] = []
    feed = client._feed

    def failing(session: Any, what: Any, *more: Any) -> None:
        feeds.append(what)
        if type(what).__name__ == "LinkOpened":
            raise RuntimeError("injected")
        feed(session, what, *more)

    monkeypatch.setattr(client, "_feed", failing)
    threading.Timer(0.05, held.release).start()
    with pytest.raises(ClientClosed, match="RuntimeError: injected"):
        client.login()
    deadline = time.monotonic() + PATIENCE
    while memory.sessions:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    client.logout()
