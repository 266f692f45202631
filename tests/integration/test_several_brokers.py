"""Several brokers to choose from: dead, stopped and silent ones are left for one that serves.

The brokers here know nothing of each other; calls across the nodes of a cluster are in
``tests/faults``.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from device_sdk.core.rotation import PATIENCE_FIRST, spread
from device_sdk.errors import BrokerUnreachable, LoginTimeout
from tests.commands import Command
from tests.integration.conftest import MakePeer
from tests.servers import BundledBroker, free_port


@pytest.fixture
def pair() -> Iterator[tuple[BundledBroker, BundledBroker]]:
    """Two brokers; a test may do to them what it likes."""
    with BundledBroker() as one, BundledBroker() as two:
        yield one, two


@pytest.fixture
def broker(pair: tuple[BundledBroker, BundledBroker]) -> BundledBroker:
    """For ``make_peer``; the tests say the URLs."""
    return pair[0]


def name_for(*urls: str) -> str:
    """A peer that tries ``urls`` in this order: another one for each first of them."""
    port = urls[0].rpartition(":")[2]
    return next(
        name for n in itertools.count() if spread(urls, name := f"peer-{port}-{n}") == urls
    )  # pragma: no branch


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """The URL of a port that answers no SYN: its queue is full, and nobody takes from it."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"mqtt://127.0.0.1:{server.getsockname()[1]}"


def test_a_broker_that_dies_is_left_and_not_returned_to(
    make_peer: MakePeer, pair: tuple[BundledBroker, BundledBroker]
) -> None:
    """Its peers are at the other one within a second, and stay when it is there again."""
    one, two = pair
    peer = make_peer(name_for(one.url, two.url), login=False, url=[two.url, one.url])
    peer.login()
    assert peer.client.broker == one.url
    one.kill()
    peer.expect_state("CONNECTED", nth=2, timeout=2)
    assert peer.client.broker == two.url
    one.start()
    caller = make_peer("caller", url=two.url)
    call = caller.press(peer.peer_id)
    peer.accept(peer.expect("remote_invitation_received").invitation)
    caller.expect("local_invitation_accepted", call.call_id)
    assert peer.client.broker == two.url
    two.kill()
    peer.expect_state("CONNECTED", nth=3, timeout=2)
    assert peer.client.broker == one.url


@pytest.mark.parametrize("face", ["threaded"])
def test_a_login_where_the_first_is_dead_stopped_or_silent(
    make_peer: MakePeer, pair: tuple[BundledBroker, BundledBroker]
) -> None:
    """A dead one costs nothing, others their patience: less than a login has."""
    one, two = pair
    dead = f"mqtt://127.0.0.1:{free_port()}"

    def log_in(bad: str) -> tuple[str, float]:
        peer = make_peer(name_for(bad, two.url), login=False, url=f"{bad}, {two.url}")
        began = time.monotonic()
        peer.login()
        return peer.client.broker, time.monotonic() - began

    one.signal(signal.SIGSTOP)
    with black_hole() as silent, ThreadPoolExecutor() as threads:
        bounds = {dead: 1.0, one.url: PATIENCE_FIRST + 1, silent: PATIENCE_FIRST + 1}
        for (bad, bound), (at, took) in zip(
            bounds.items(), threads.map(log_in, bounds), strict=True
        ):
            assert at == two.url
            assert took < bound, (bad, took)
    one.signal(signal.SIGCONT)


def test_a_login_that_no_broker_wants(make_peer: MakePeer) -> None:
    """Every one of them is named, with what is wrong there."""
    dead, other = (f"mqtt://127.0.0.1:{free_port()}" for _ in range(2))
    with black_hole() as silent:
        peer = make_peer(name_for(dead, silent, other), login=False, url=[dead, silent, other])
        with pytest.raises(LoginTimeout, match="none of 2 brokers") as late:
            peer.login(1)
        with pytest.raises(BrokerUnreachable, match="none of 2 brokers") as caught:
            make_peer("me", login=False, url=[dead, other]).login()
    assert f"{dead}: connection refused" in str(late.value)
    assert f"{silent}: no connection within 1 s" in str(late.value)
    assert all(f"{url}: connection refused" in str(caught.value) for url in (dead, other))


def test_the_commands_take_several(pair: tuple[BundledBroker, BundledBroker]) -> None:
    """``listen``, ``call``, ``watch`` and ``trace`` go on at the other one, and name it."""
    one, two = pair
    dead = f"mqtt://127.0.0.1:{free_port()}"
    flags = ("--broker", dead, "--broker", two.url)
    both = {"BELLWIRE_BROKER": f"{one.url}, {two.url}"}
    with (
        Command("watch", "kitchen", environ=both) as watch,
        Command("trace", *flags) as trace,
        Command("listen", "--peer", "kitchen", "--accept", *flags) as kitchen,
    ):
        for command, at in ((trace, two.url), (kitchen, two.url)):
            command.line(at)
        watch.line("watching at ")
        one.kill()
        watch.line("kitchen is online")
        with Command("call", "kitchen", "--peer", "door", *flags) as door:
            assert door.end() == 0
            assert two.url in door.lines[0]
        trace.line("accepted")
