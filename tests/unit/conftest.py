"""What unit tests share: peers of both faces on a broker in memory, a broker's core; no network."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from device_sdk.testing import MemoryBroker
from tests.broker_support.life import Life
from tests.peers import PATIENCE, AsyncioPeer, Loop, Peer, ThreadedPeer

MakePeer = Callable[..., Peer]


@pytest.fixture
def life() -> Iterator[Life]:
    """One life of a broker's core, in which nothing failed but what a test expects."""
    made = Life()
    yield made
    assert made.core.stats.cut["error"] == 0
    assert made.core.stats.dropped["delivery failed"] == 0


@pytest.fixture
def memory() -> MemoryBroker:
    """A broker of this test's own."""
    return MemoryBroker()


@pytest.fixture
def make_peer(face: str, loop: Loop, memory: MemoryBroker) -> Iterator[MakePeer]:
    """Makes peers of this face, logged in unless told otherwise; logs them out."""
    with ExitStack() as stack:

        def make(peer_id: Any, broker: Any = memory, *, login: bool = True, **options: Any) -> Peer:
            peer: Peer = (
                ThreadedPeer(peer_id, broker, **options)
                if face == "threaded"
                else AsyncioPeer(peer_id, broker, loop=loop, **options)
            )
            stack.callback(peer.logout)
            if login:
                peer.login()
            return peer

        yield make


Do = Callable[..., Any]


@pytest.fixture
def do(face: str, loop: Loop) -> Do:
    """Calls a method of a client as its face wants it: here, or on the loop and awaited."""

    async def awaited(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        return await result if inspect.isawaitable(result) else result

    def call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if face == "threaded":
            return function(*args, **options)
        return loop.run(awaited(function, *args, **options))

    return call


def come_to_an_end(name: str) -> None:
    """Every thread whose name begins so comes to its end; it may be about to."""
    for thread in threading.enumerate():
        if thread.name.startswith(name):
            thread.join(PATIENCE)
            assert not thread.is_alive(), thread
