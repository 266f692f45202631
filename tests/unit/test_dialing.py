"""Names that resolve late, addresses that are dead: on loopback, with resolvers of our own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from device_sdk.client.link import dialing
from device_sdk.client.link.dialing import (
    Address,
    ResolveTimeout,
    connect,
    interleaved,
    race,
    resolve,
)

FOUR, SIX = socket.AF_INET, socket.AF_INET6
Listen = Callable[..., Address]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Listens on a port of loopback; ``full``: answers nobody any more, as a dead host."""
    with contextlib.ExitStack() as stack:

        def make(host: str = "127.0.0.1", *, full: bool = False) -> Address:
            server = stack.enter_context(socket.create_server((host, 0), backlog=0 if full else 8))
            address = server.getsockname()
            while full:  # what is not accepted fills its queue; then nothing is answered
                sock = stack.enter_context(socket.socket())
                sock.settimeout(0.2)
                try:
                    sock.connect(address)
                except TimeoutError:
                    break
            return FOUR, address

        yield make


def nobody() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return FOUR, server.getsockname()


Resolver = Callable[..., None]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Stands for the system's: ``asked`` counts, ``answers`` are its addresses once ``free``."""

    class Slow:
        def __init__(self) -> None:
            self.asked: list[str] = []
            self.answers: list[Address] = []
            self.error: Exception | None = None
            self.free = threading.Event()

        def __call__(self, host: str, _port: int, **_more: Any) -> list[Any]:
            self.asked.append(host)
            self.free.wait(10)
            if self.error is not None:
                raise self.error
            return [(family, 1, 6, "", address) for family, address in self.answers]

    made = Slow()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    monkeypatch.setattr(dialing, "_underway", {})
    yield made
    made.free.set()


def test_a_resolver_that_takes_too_long_serves_the_next_attempt(resolver: Any) -> None:
    """However long it takes: it is asked once, and what it says is used once it says it."""
    for _ in range(3):
        with pytest.raises(ResolveTimeout):
            resolve("broker.lan", 1883, timeout=0.01)
    resolver.answers = [(FOUR, ("127.0.0.1", 1883))]
    resolver.free.set()
    assert resolve("broker.lan", 1883) == resolver.answers
    assert resolver.asked == ["broker.lan"]


def test_a_slow_answer_serves_for_a_while_and_a_quick_one_once(
    resolver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a login that ran out of time after it does not begin with the same wait."""
    first, second = [(FOUR, ("127.0.0.1", 1883))], [(FOUR, ("127.0.0.2", 1883))]
    resolver.free.set()
    monkeypatch.setattr(dialing, "_SLOW", -1.0)
    resolver.answers = first
    assert resolve("broker.lan", 1883) == first
    resolver.answers = second
    assert resolve("broker.lan", 1883) == first
    monkeypatch.setattr(dialing, "_SLOW", 60.0)
    assert resolve("broker.lan", 1883) == second


def test_a_slow_answer_grows_old(resolver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver.free.set()
    monkeypatch.setattr(dialing, "_SLOW", -1.0)
    monkeypatch.setattr(dialing, "_KEPT", -1.0)
    resolve("broker.lan", 1883)
    resolver.answers = [(FOUR, ("127.0.0.1", 1883))]
    assert resolve("broker.lan", 1883) == resolver.answers


def test_what_the_resolver_raises_is_raised(resolver: Any) -> None:
    resolver.error = socket.gaierror(-2, "Name or service not known")
    resolver.free.set()
    with pytest.raises(socket.gaierror):
        connect("broker.lan", 1883)


def test_an_address_is_looked_up_nowhere() -> None:
    """It needs no thread."""
    before = threading.active_count()
    assert resolve("127.0.0.1", 1883) == [(FOUR, ("127.0.0.1", 1883))]
    assert resolve("::1", 1883)[0][0] == SIX
    assert threading.active_count() == before
    assert not {host for host, _ in dialing._underway} & {"127.0.0.1", "::1"}


def test_families_take_turns() -> None:
    """RFC 8305, 4: so that one broken family costs one attempt, not all of its addresses."""
    a, b, c = ((SIX, (name, 1, 0, 0)) for name in ("a", "b", "c"))
    x, y = ((FOUR, (name, 1)) for name in ("x", "y"))
    assert interleaved([a, b, b, c, x, y]) == [a, x, b, y, c]
    assert interleaved([]) == []


def test_dead_addresses_do_not_hold_up_the_one_that_lives(listen: Listen) -> None:
    """Two that never answer come first: the third has only their lead to wait for."""
    dead, lives = listen(full=True), listen()
    began = time.monotonic()
    with race([dead, (FOUR, dead[1]), lives]) as sock:
        assert sock.getpeername() == lives[1]
        assert sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert 2 * dialing.LEAD <= time.monotonic() - began < 3


def test_a_slow_address_wins_if_it_answers_first(listen: Listen) -> None:
    """The lead of the others is no reason to give it up."""
    lives, dead = listen(), listen(full=True)
    with race([lives, dead]) as sock:
        assert sock.getpeername() == lives[1]


def test_a_refusal_lets_the_next_one_begin_at_once(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = listen()
    monkeypatch.setattr(dialing, "LEAD", 10.0)  # longer than a busy machine takes
    began = time.monotonic()
    with race([nobody(), nobody(), nobody(), lives]) as sock:
        assert sock.getpeername() == lives[1]
    assert time.monotonic() - began < dialing.LEAD


def test_the_first_failure_is_told_when_all_fail() -> None:
    with pytest.raises(ConnectionRefusedError):
        race([nobody(), nobody()])
    with pytest.raises(OSError, match="no address"):
        race([])


def test_no_answer_has_a_bound(listen: Listen) -> None:
    with pytest.raises(TimeoutError):
        race([listen(full=True)], timeout=0.1)


def test_a_family_that_the_machine_has_not_is_passed_over(listen: Listen) -> None:
    """No route to it, or no such socket: the next one begins at once."""
    lives = listen()
    with race([(SIX, ("2001:db8::1", 9, 0, 0)), (FOUR, ("255.255.255.255", 9)), lives]) as sock:
        assert sock.getpeername() == lives[1]


def test_a_child_process_asks_again(resolver: Any) -> None:
    """The thread that would answer is the parent's, and so is whoever held the lock."""
    answered: list[list[Address]] = []
    asking = threading.Thread(target=lambda: answered.append(resolve("broker.lan", 1883)))
    asking.start()
    while not resolver.asked:
        time.sleep(0.001)
    with dialing._lock:
        dialing._forget_all()
        resolver.answers = [(FOUR, ("10.0.0.1", 1883))]
        resolver.free.set()
        assert resolve("broker.lan", 1883) == resolver.answers
    asking.join(10)
    assert resolver.asked == ["broker.lan", "broker.lan"]
