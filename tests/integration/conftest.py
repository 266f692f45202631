"""What the integration tests share: both faces behind one way to drive them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_config.admin import serve
from tests.peers import AsyncioPeer, Loop, Peer, ThreadedPeer
from tests.servers import BrokerProcess, BundledBroker, Mosquitto

_numbers = itertools.count()


MakePeer = Callable[..., Peer]


@pytest.fixture
def realm() -> str:
    """Each test has one of its own."""
    return f"t{next(_numbers)}"


@pytest.fixture
def make_peer(broker: BrokerProcess, face: str, loop: Loop, realm: str) -> Iterator[MakePeer]:
    """Makes peers of this face at this broker, in the test's realm; logs them out."""
    nodes = itertools.cycle(broker.urls)
    with contextlib.ExitStack() as stack:

        def make(peer_id: str, *, login: bool = True, url: Any = None, **options: Any) -> Peer:
            options.setdefault("realm", realm)
            options.setdefault("subscribe_qos", broker.subscribe_qos)
            where = next(nodes) if url is None else url
            # mosquitto closes the older of two connections of one client id, in any realm.
            peer: Peer
            if options.pop("face", face) == "threaded":
                peer = ThreadedPeer(peer_id, where, **options)
            else:
                peer = AsyncioPeer(peer_id, where, loop=loop, **options)
            stack.callback(peer.logout)
            if login:
                peer.login()
            return peer

        yield make


@pytest.fixture
def broker_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets ``bellwire-broker run`` be called in this process, for what ends before it serves.

    Its logging would be the whole suite's from then on, on a stream that ends with this test.
    """
    monkeypatch.setattr(serve, "start_logging", lambda *_: None)
    handlers, on_hangup = list(logging.getLogger().handlers), signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, on_hangup)
    assert logging.getLogger().handlers == handlers


def forgetful(broker: BrokerProcess, folder: Path) -> BrokerProcess:
    """A broker of the same kind that may be killed, with nothing kept."""
    return BundledBroker() if broker.name == "bundled" else Mosquitto(folder)
