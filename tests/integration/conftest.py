"""What the integration tests share: both faces behind one way to drive them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import AsyncioPeer, Loop, Peer, ThreadedPeer
from tests.servers import BrokerProcess, BundledBroker, Mosquitto

_numbers = itertools.count()


MakePeer = Callable[..., Peer]


@pytest.fixture
def make_peer(broker: BrokerProcess, face: str, loop: Loop) -> Iterator[MakePeer]:
    """Makes peers of this face at this broker, each test in a realm of its own; logs them out."""
    realm = f"t{next(_numbers)}"
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


def forgetful(broker: BrokerProcess, folder: Path) -> BrokerProcess:
    """A broker of the same kind that may be killed, with nothing kept."""
    return BundledBroker() if broker.name == "bundled" else Mosquitto(folder)
