"""What ends a client and what does not: an exception in each place, on both faces.

``OUTCOMES`` is the table of docs/reliability.md; test_pi_supervision has the services' part of it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_sdk import (
    AnswerReason,
    BrokerUnreachable,
    CallEventListener,
    ClientClosed,
    ConnectionState,
    EndReason,
    LoginError,
    Policy,
)
from device_sdk.client.clocks import since_start
from device_sdk.client.link.base import Will
from device_sdk.core.wire import codec
from device_sdk.testing import MemoryBroker
from tests.peers import PATIENCE, Heard, Loop, Peer, ring
from tests.unit.conftest import Do, MakePeer, come_to_an_end

#: Place → whether the client ends of it (else only what is named in the document is lost).
OUTCOMES = {
    "clock": True,
    "engine": True,
    "codec, writing": True,
    "codec, reading": False,
    "wall clock": False,
    "log handler": False,
    "policy": False,
    "listener": False,
    "link, opening": False,
    "link, reading": False,
    "link, writing": False,
    "thread start": False,
}
RELIABILITY = Path(__file__).parents[2] / "docs" / "reliability.md"


class Injected(RuntimeError):
    """What the tests raise."""


class Faulty:
    """A function that raises, or returns ``bad``, once it is told to."""

    def __init__(self, function: Callable[..., Any], bad: Any = None) -> None:
        self._function, self._bad = function, bad
        self.faulty = False

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not self.faulty:
            return self._function(*args, **options)
        if self._bad is None:
            raise Injected("injected")
        return self._bad


class FaultyLinks:
    """A link factory whose links raise in the methods named in ``faulty``, which they forget."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self.faulty: set[str] = set()
        self.raised = 0

    def __call__(self, will: Will) -> Any:
        link = self._broker(will)
        for name in ("open", "read", "write", "tick", "publish", "drain", "acknowledge", "fileno"):
            setattr(link, name, self._wrapped(name, getattr(link, name)))
        return link

    def _wrapped(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if name in self.faulty:
                self.faulty.discard(name)
                self.raised += 1
                raise Injected(name)
            return method(*args, **options)

        return call


@pytest.fixture
def kitchen(make_peer: MakePeer) -> Peer:
    return make_peer("kitchen")


def works(door: Peer, kitchen: Peer) -> None:
    """A call comes about between the two, as if nothing had been."""
    mine, theirs = ring(door, kitchen)
    kitchen.accept(theirs)
    assert door.expect("local_invitation_accepted", mine.call_id)


def ends(peer: Peer, do: Do) -> None:
    """The client is done: told, with the cause, and nobody waits for it in vain."""
    peer.expect_state("ABORTED")
    assert peer.client.connection_state is ConnectionState.ABORTED
    assert peer.client.failure is not None
    with pytest.raises(ClientClosed, match=re.escape(f"{peer.peer_id} failed and is done")) as e:
        peer.press("bedroom")
    assert e.value.__cause__ is peer.client.failure
    with pytest.raises(ClientClosed, match="failed and is done"):
        do(peer.client.ring, ["bedroom", "hall"])
    with pytest.raises(ClientClosed, match="failed and is done"):
        peer.login()
    peer.logout()
    come_to_an_end(f"bellwire-{peer.peer_id}")


# --- what ends a client --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, math.nan], ids=["raises", "no number"])
def test_a_clock_that_fails_ends_the_client(
    make_peer: MakePeer, kitchen: Peer, do: Do, bad: Any
) -> None:
    """No deadline would ever come; everyone who waits is told, with the cause."""
    clock = Faulty(since_start, bad)
    door = make_peer("front-door", clock=clock, keepalive=1)
    mine, theirs = ring(door, kitchen)
    group = do(door.client.call_manager.ring, ["kitchen", "bedroom"])
    incoming = kitchen.press("front-door")
    coming = door.expect("remote_invitation_received", incoming.call_id).invitation
    calling = door.start_call("kitchen")
    kitchen.expect("remote_invitation_received", nth=3)
    clock.faulty = True
    assert calling.result(PATIENCE).reason is EndReason.CLIENT_FAILED
    for waiting in (mine, coming):
        assert door.wait(waiting, PATIENCE)
        assert waiting.reason is EndReason.CLIENT_FAILED
    door.expect("ring_group_ended")
    assert group.ended
    assert group.outcome.reason is EndReason.CLIENT_FAILED
    ends(door, do)
    # The will has said that it is gone: who rings for it stops.
    assert theirs.state.name == "INVITATION_RECEIVED"


@pytest.mark.parametrize("by", ["its owner", "a command"])
def test_an_engine_that_fails_ends_the_client(
    make_peer: MakePeer, kitchen: Peer, do: Do, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Nobody knows what state it is in; whoever gave the command is told, too."""
    door = make_peer("front-door")
    monkeypatch.setattr(door.client._session.engine, "handle", Faulty(lambda: None))
    door.client._session.engine.handle.faulty = True
    if by == "a command":
        with pytest.raises(ClientClosed, match="front-door failed and is done: Injected: injected"):
            door.press("kitchen")
    else:
        kitchen.press("front-door")
    ends(door, do)
    assert isinstance(door.client.failure, Injected)


def test_a_codec_that_cannot_write_ends_the_client(
    make_peer: MakePeer, do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be said is lost, and with it what the engine took for said."""
    door = make_peer("front-door")
    encode = Faulty(codec.encode)
    encode.faulty = True
    with monkeypatch.context() as patched:
        patched.setattr(codec, "encode", encode)
        with pytest.raises(ClientClosed, match="Injected"):
            door.press("kitchen")
    ends(door, do)


def test_a_login_whose_owner_fails_ends_with_the_cause(
    make_peer: MakePeer, memory: MemoryBroker
) -> None:
    """It raises at once what the owner raised."""
    clock = Faulty(since_start)

    def opens_and_fails(will: Will) -> Any:
        link = memory(will)
        connect = link.open

        def opened() -> None:
            connect()
            clock.faulty = True

        link.open = opened  # type: ignore[method-assign]  # the point
        return link

    door = make_peer("front-door", opens_and_fails, clock=clock, login=False)
    with pytest.raises(ClientClosed, match="front-door failed and is done: Injected"):
        door.login()


def test_a_login_that_cannot_begin_says_so(make_peer: MakePeer) -> None:
    """And leaves the client as it was: it may be tried again."""
    clock = Faulty(since_start)
    door = make_peer("front-door", clock=clock, login=False)
    clock.faulty = True
    with pytest.raises(LoginError, match="the login could not begin: injected"):
        door.login()
    clock.faulty = False
    door.login()


# --- what does not -------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -1.0, -100_000.0, 2.0**70, "noon"])
def test_a_wall_clock_that_fails_costs_only_the_time(
    make_peer: MakePeer, kitchen: Peer, bad: Any
) -> None:
    """It is advice for people: cells go without it, and quiet hours are not."""
    wall = Faulty(lambda: 1e9, bad)
    wall.faulty = True
    quiet = Policy.make(quiet=["00:00-24:00"])
    door = make_peer("front-door", wall=wall, policy=quiet)
    _, theirs = ring(door, kitchen)
    assert theirs.time is None
    ring(kitchen, door)


@contextlib.contextmanager
def handler(handle: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """A handler of the library's log, for all levels."""

    class Calls(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            handle(record)

    log, made = logging.getLogger("bellwire"), Calls()
    level = log.level
    log.addHandler(made)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(made)


@pytest.mark.parametrize("error", [Injected, SystemExit])
def test_a_log_handler_that_fails_costs_its_record(
    make_peer: MakePeer, kitchen: Peer, error: type[BaseException], capsys: Any
) -> None:
    """It is shown on standard error, as logging itself does."""

    def fail(_record: logging.LogRecord) -> None:
        raise error("injected")

    with handler(fail):
        door = make_peer("front-door")
        works(door, kitchen)
        door.logout()
    assert "injected" in capsys.readouterr().err


def test_a_log_handler_may_ask_another_client(make_peer: MakePeer, kitchen: Peer) -> None:
    """No lock is held when a record is made: two clients that ask each other do not wait."""
    door = make_peer("front-door")
    at_once = threading.Barrier(2)
    asked: list[Any] = []

    def ask(_record: logging.LogRecord) -> None:
        if door.face == "threaded" and len(asked) < 20:
            with contextlib.suppress(threading.BrokenBarrierError):
                at_once.wait(0.2)
        for peer in (door, kitchen):
            asked.append(peer.client.stats)
            if door.face == "threaded":
                asked.append(peer.find("no-such-call"))

    with handler(ask):
        works(door, kitchen)
        works(kitchen, door)
    assert asked


@pytest.mark.parametrize("does", [Injected("injected"), SystemExit(3), "nonsense", True, 4])
def test_a_policy_that_fails_lets_it_ring(
    make_peer: MakePeer, kitchen: Peer, caplog: pytest.LogCaptureFixture, does: Any
) -> None:
    """It raises, exits, or gives what is no answer: rather heard too often than not heard."""

    class Bad(Policy):
        def screen(self, *_args: Any, **_options: Any) -> Any:
            if isinstance(does, BaseException):
                raise does
            return does

    door = make_peer("front-door", policy=Bad(do_not_disturb=True))
    works(kitchen, door)
    door.logout()  # what is noted under the guard is logged after it
    assert "the policy 'Bad' raised; it rings" in caplog.text


def test_a_policy_that_blocks_holds_only_the_calls_that_wait_for_it(
    make_peer: MakePeer, kitchen: Peer
) -> None:
    """It runs under no lock and in no callback: all else goes on, and it may ask the client."""
    blocked, release = threading.Event(), threading.Event()
    seen: list[Any] = []

    class Slow(Policy):
        def screen(self, caller: str, **told: Any) -> AnswerReason | None:
            seen.append((caller, told["open_calls"], door.client.stats, threading.get_ident()))
            blocked.set()
            assert release.wait(PATIENCE)
            return AnswerReason.BUSY if told["open_calls"] else None

    door = make_peer("front-door", policy=Slow())
    first = kitchen.press("front-door")
    assert blocked.wait(PATIENCE)
    second = kitchen.press("front-door")
    works(door, kitchen)  # it calls, is answered, and hears of it
    assert "remote_invitation_received" not in door.names(first.call_id)
    release.set()
    door.expect("remote_invitation_received", first.call_id)
    kitchen.expect("local_invitation_refused", second.call_id)
    assert [(caller, count) for caller, count, *_ in seen] == [("kitchen", 0), ("kitchen", 1)]
    assert threading.main_thread().ident not in [thread for *_, thread in seen]


def test_no_thread_for_a_policy_lets_it_ring(
    make_peer: MakePeer,
    kitchen: Peer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Refuses(Policy):
        def screen(self, *_args: Any, **_told: Any) -> AnswerReason | None:
            return AnswerReason.DECLINED

    start = threading.Thread.start

    def none(self: threading.Thread) -> None:
        if self.name.endswith("-policy"):
            raise RuntimeError("can't start new thread")
        start(self)

    door = make_peer("front-door", policy=Refuses())
    monkeypatch.setattr(threading.Thread, "start", none)
    works(kitchen, door)
    door.logout()
    assert "the policy could not be asked; it rings" in caplog.text


def test_a_policy_of_quiet_hours_that_is_a_subclass_is_told_the_local_time(
    make_peer: MakePeer, kitchen: Peer
) -> None:
    """As the policy itself is; a year that there is not is no time to compare with."""
    times: list[Any] = []

    class Asked(Policy):
        def screen(self, caller: str, **told: Any) -> AnswerReason | None:
            times.append(told["now"])
            return super().screen(caller, **told)

    for wall, year in ((lambda: 1_800_000_000.0, 2027), (lambda: 1e12, None)):
        door = make_peer("front-door", policy=Asked(quiet=["00:00-00:01"]), wall=wall)
        works(kitchen, door)
        door.logout()
        assert [now and now.year for now in times] == [year]
        times.clear()


def test_a_logout_does_not_wait_for_a_policy_that_blocks(
    make_peer: MakePeer, kitchen: Peer
) -> None:
    """What it says afterwards is nobody's."""
    blocked, release, over = threading.Event(), threading.Event(), threading.Event()

    class Stuck(Policy):
        def screen(self, *_args: Any, **_told: Any) -> AnswerReason | None:
            blocked.set()
            release.wait(PATIENCE)
            over.set()
            return None

    door = make_peer("front-door", policy=Stuck())
    mine = kitchen.press("front-door")
    assert blocked.wait(PATIENCE)
    door.logout()
    release.set()
    assert over.wait(PATIENCE)
    assert door.names(mine.call_id) == []
    kitchen.cancel(mine)


@pytest.mark.parametrize("error", [Injected, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_listener_that_fails_hears_the_next(
    make_peer: MakePeer, kitchen: Peer, error: type[BaseException], caplog: Any
) -> None:
    """Whatever it raises; it is logged with the call."""
    heard: list[str] = []

    class Bad(CallEventListener):
        def on_remote_invitation_received(self, invitation: Any) -> None:
            heard.append(invitation.call_id)
            raise error("injected")

    door = make_peer("front-door")
    kitchen.listen(Bad())
    calls = [ring(door, kitchen)[0].call_id for _ in range(2)]
    kitchen.logout()
    assert heard == calls
    assert caplog.text.count("raised in on_remote_invitation_received") == 2


@pytest.mark.parametrize("how", ["awaits one cancelled", "cancels itself", "exits"])
def test_a_listener_that_is_cancelled_hears_the_next(
    make_peer: MakePeer, loop: Loop, memory: MemoryBroker, how: str
) -> None:
    """The asyncio face: only the one call is over."""
    import asyncio

    from tests.peers import AsyncioPeer

    heard: list[str] = []

    class Bad(CallEventListener):
        async def on_remote_invitation_received(self, invitation: Any) -> None:  # type: ignore[override]  # as documented
            heard.append(invitation.call_id)
            if how == "exits":
                raise SystemExit(1)
            task = asyncio.current_task()
            if how == "awaits one cancelled":
                task = asyncio.create_task(asyncio.sleep(60))
            assert task is not None
            task.cancel()
            await (task if how == "awaits one cancelled" else asyncio.sleep(60))

    kitchen = AsyncioPeer("kitchen", memory, loop=loop)
    kitchen.listen(Bad())
    with kitchen:
        door = make_peer("front-door")
        calls = [ring(door, kitchen)[0].call_id for _ in range(3)]
    assert heard == calls


@pytest.mark.parametrize("method", ["read", "drain", "publish", "acknowledge", "tick", "fileno"])
def test_a_link_that_fails_is_lost_and_the_next_one_taken(
    make_peer: MakePeer, kitchen: Peer, memory: MemoryBroker, method: str
) -> None:
    """As if the connection had broken."""
    links = FaultyLinks(memory)
    door = make_peer("front-door", links, keepalive=1)
    links.faulty.add(method)
    theirs = kitchen.press("front-door")
    door.expect_state("RECONNECTING")
    door.expect_state("CONNECTED", nth=2)
    door.expect("remote_invitation_received", theirs.call_id)
    assert links.raised == 1
    works(door, kitchen)


@pytest.mark.parametrize("logged_in", [False, True])
def test_a_link_that_fails_while_it_opens_is_one_that_does_not_come_about(
    make_peer: MakePeer, kitchen: Peer, memory: MemoryBroker, logged_in: bool
) -> None:
    """The login says why; once logged in the next one is tried."""
    links = FaultyLinks(memory)
    door = make_peer("front-door", links, login=logged_in, keepalive=1)
    links.faulty.add("open")
    if logged_in:
        links.faulty.add("read")
        kitchen.press("front-door")
        door.expect_state("CONNECTED", nth=2)
        assert links.raised == 2
    else:
        with pytest.raises(BrokerUnreachable, match="failed while it was opened: Injected: open"):
            door.login()
        door.login()
    works(door, kitchen)


def test_no_thread_for_a_connection_is_tried_again(
    make_peer: MakePeer, kitchen: Peer, memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that has none just now may have one in a while."""
    links = FaultyLinks(memory)
    door = make_peer("front-door", links)
    start, refused = threading.Thread.start, []

    def no_more(self: threading.Thread) -> None:
        if not refused and self.name.endswith("-connect"):
            refused.append(self.name)
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", no_more)
    links.faulty.add("read")
    kitchen.press("front-door")
    door.expect_state("CONNECTED", nth=2)
    assert refused
    works(door, kitchen)


def test_no_thread_for_a_login_or_a_listener_is_said(
    memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threaded face: to whoever wanted it, and nothing is half done."""
    from tests.peers import ThreadedPeer

    door = ThreadedPeer("front-door", memory)

    def none(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    other = Heard()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        with pytest.raises(LoginError, match="could not begin: can't start new thread"):
            door.login()
        with pytest.raises(RuntimeError, match="can't start new thread"):
            door.listen(other)
    with door:
        door.listen(other)
        assert door.client.connection_state is ConnectionState.CONNECTED


def test_a_codec_that_cannot_read_costs_the_message(
    make_peer: MakePeer, kitchen: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is dropped and counted, as what no codec could read is: a peer must not end another."""
    door = make_peer("front-door")
    decode = Faulty(codec.decode_invite)
    decode.faulty = True
    with monkeypatch.context() as patched:
        patched.setattr(codec, "decode_invite", decode)
        mine = door.press("kitchen")
        deadline = threading.Event()
        while not kitchen.client.stats["drops"].get("defect"):
            assert not deadline.wait(0.01)
    door.cancel(mine)
    works(door, kitchen)


# --- the document --------------------------------------------------------------------------------


def test_the_document_has_the_table() -> None:
    """Each place is in docs/reliability.md, and in the half where it belongs."""
    text = RELIABILITY.read_text()
    table = text[text.index("<!-- table:supervision -->") : text.index("<!-- /table:supervision")]
    said = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 2 and cells[0] not in ("raises in", "") and set(cells[0]) != {"-"}:
            said[cells[0]] = cells[1].startswith("the client ends")
    assert said == OUTCOMES
