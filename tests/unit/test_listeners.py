"""Listeners, the same on both faces: in order, one at a time, none in the way of another.

Nothing is logged in here: an invitation that is sent before login fails with an event, and an event
is all that is wanted.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from device_sdk import CallEventListener, InvalidArgument, LoginError, aio
from device_sdk.client.invitations import Event
from device_sdk.client.loop_listeners import ListenerTask
from device_sdk.client.network_thread import ListenerThread
from device_sdk.core.events import Name
from tests.peers import Heard, Loop, Peer, raising
from tests.unit.conftest import MakePeer

PATIENCE = 10.0


@pytest.fixture
def door(make_peer: MakePeer) -> Peer:
    """A peer of this face that never logs in."""
    return make_peer("front-door", login=False)


class Gated(Heard):
    """Begins to hear of a failure, waits for its gate, and ends."""

    def __init__(self, peer: Peer, loop: Loop) -> None:
        super().__init__()
        self._threaded, self._loop = peer.face == "threaded", loop
        self._gate: Any = threading.Event() if self._threaded else loop.call(asyncio.Event)

    def on_local_invitation_failure(self, invitation: Any, _error: Any) -> Awaitable[None] | None:
        """Wait here, or give what waits."""
        self._note("begins", invitation)
        if not self._threaded:
            return self._later(invitation)
        assert self._gate.wait(PATIENCE)
        self._note("ends", invitation)
        return None

    async def _later(self, invitation: Any) -> None:
        await self._gate.wait()
        self._note("ends", invitation)

    def open(self) -> None:
        if self._threaded:
            self._gate.set()
        else:
            self._loop.call(self._gate.set)


def told(heard: Heard, count: int) -> list[tuple[str, str]]:
    """Wait until it was told so often: what, and of which call."""
    return heard.wait_until(
        lambda all_: len(all_) >= count and [(t.name, t.call_id) for t in all_],
        PATIENCE,
        f"the {count}th",
    )


def failures(heard: Heard, count: int) -> list[str]:
    """Wait until it was told so often, of failures only: the calls."""
    assert {name for name, _ in told(heard, count)} == {"local_invitation_failure"}
    return [call for _, call in told(heard, count)]


# --- the class ---------------------------------------------------------------------------------


def test_there_is_a_method_for_every_event_and_no_other() -> None:
    """Named ``on_`` and the event."""
    methods = {name for name in vars(CallEventListener) if name.startswith("on_")}
    assert methods == {f"on_{name}" for name in Name}


@pytest.mark.parametrize("name", Name)
def test_what_is_not_overridden_does_nothing(name: Name) -> None:
    """One overrides what one wants to hear, and nothing else."""
    method = getattr(CallEventListener(), f"on_{name}")
    assert method(*[None] * len(inspect.signature(method).parameters)) is None


# --- both faces --------------------------------------------------------------------------------


def test_each_event_is_heard_to_the_end_before_the_next(door: Peer, loop: Loop) -> None:
    """In the order of events, also where a method takes its time."""
    slow = Gated(door, loop)
    door.listen(slow)
    calls = [door.press("kitchen").call_id for _ in range(10)]
    told(slow, 1)
    slow.open()
    assert told(slow, 20) == [(what, call) for call in calls for what in ("begins", "ends")]


def test_a_listener_that_waits_holds_nobody_up(door: Peer, loop: Loop) -> None:
    """Not the one who calls, and not the listener that came after it."""
    slow = Gated(door, loop)
    door.unlisten(door.heard)
    door.listen(slow)
    door.listen(door.heard)
    calls = [door.press("kitchen").call_id for _ in range(3)]
    assert failures(door.heard, 3) == calls
    assert told(slow, 1) == [("begins", calls[0])]
    slow.open()


def test_a_listener_that_raises_is_logged_with_its_call_and_told_the_next(
    door: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its fault is its own: the others hear what they would have heard."""
    door.unlisten(door.heard)
    bad = raising()
    door.listen(bad)
    door.listen(door.heard)
    calls = [door.press("kitchen").call_id for _ in range(2)]
    assert failures(door.heard, 2) == calls
    door.logout()  # which waits until the other one has been told as well
    logged = [r for r in caplog.records if r.name == "bellwire" and r.levelno == logging.ERROR]
    assert [call in r.getMessage() for call, r in zip(calls, logged, strict=True)] == [True] * 2
    for record in logged:
        assert "raised in on_local_invitation_failure" in record.getMessage()
        assert repr(bad) in record.getMessage()
        assert record.exc_info is not None


def test_added_twice_is_once(door: Peer) -> None:
    """What is told twice rings twice."""
    door.listen(door.heard)
    calls = [door.press("kitchen").call_id for _ in range(2)]
    assert failures(door.heard, 2) == calls


def test_a_removed_listener_hears_what_was_and_nothing_new(door: Peer, loop: Loop) -> None:
    """What happened before its removal it hears to the end, however late."""
    slow = Gated(door, loop)
    door.listen(slow)
    before = [door.press("kitchen").call_id for _ in range(2)]
    told(slow, 1)
    door.unlisten(slow)
    after = door.press("kitchen").call_id
    slow.open()
    assert [call for what, call in told(slow, 4) if what == "ends"] == before
    assert failures(door.heard, 3) == [*before, after]
    door.logout()
    assert len(slow.told) == 4


def test_removing_a_stranger_does_nothing(door: Peer) -> None:
    """Nor twice."""
    door.unlisten(Heard())
    other = Heard()
    door.listen(other)
    door.unlisten(other)
    door.unlisten(other)
    call = door.press("kitchen").call_id
    assert failures(door.heard, 1) == [call]
    assert other.told == []


def test_a_listener_that_is_added_again_hears_again(door: Peer) -> None:
    """From then on, and nothing of the time between."""
    other = Heard()
    door.listen(other)
    door.unlisten(other)
    door.press("kitchen")
    door.listen(other)
    last = door.press("kitchen").call_id
    assert failures(other, 1) == [last]


def test_a_listener_hears_nothing_of_what_was_before_it(door: Peer) -> None:
    first = door.press("kitchen").call_id
    other = Heard()
    door.listen(other)
    second = door.press("kitchen").call_id
    assert failures(door.heard, 2) == [first, second]
    assert failures(other, 1) == [second]


def test_a_listener_may_add_remove_and_send(door: Peer) -> None:
    """All from within its method, without being in its own way."""
    other = Heard()

    class Busy(CallEventListener):
        def on_local_invitation_failure(self, _invitation: Any, _error: Any) -> Any:
            manager = door.client.call_manager
            manager.remove_event_listener(self)
            manager.add_event_listener(other)
            return manager.send_local_invitation(manager.create_local_invitation("bedroom"))

    door.listen(Busy())
    first = door.press("kitchen").call_id
    again = failures(other, 1)[0]
    assert failures(door.heard, 2) == [first, again]


def test_a_coroutine_is_for_the_loop(door: Peer) -> None:
    """Asyncio awaits it; on threads nobody would, so it is refused, by name."""
    heard: list[Any] = []

    class Later(CallEventListener):
        async def on_local_invitation_failure(self, invitation: Any, _error: Any) -> None:
            heard.append(invitation.call_id)

    if door.face == "asyncio":
        door.listen(Later())
        call = door.press("kitchen").call_id
        assert failures(door.heard, 1) == [call]
        door.logout()
        assert heard == [call]
    else:
        with pytest.raises(InvalidArgument, match=r"^listener: on_local_invitation_failure"):
            door.listen(Later())


def test_listeners_have_threads_of_their_own_or_share_the_loop(door: Peer) -> None:
    """The threaded face: one for each, never the caller's. The asyncio face: the loop's."""
    other = Heard()
    door.listen(other)
    door.press("kitchen")
    told(door.heard, 1)
    told(other, 1)
    threads = {door.heard.told[0].thread, other.told[0].thread}
    if door.face == "asyncio":
        assert threads == {"loop"}
    else:
        assert threads == {"bellwire-front-door-listener"}
        running = [one.thread for one in door.client._listeners]
        assert len(running) == 2
        assert all(thread.is_alive() and thread.daemon for thread in running)


def test_logging_out_ends_the_threads_of_listeners(make_peer: MakePeer) -> None:
    """Nothing of a client is left when its logout returns."""
    gate = make_peer("gate", login=False)  # a name that no other test's threads have
    gate.press("kitchen")
    gate.logout()
    assert not [t for t in threading.enumerate() if t.name.startswith("bellwire-gate")]
    assert len(gate.heard.told) == 1


# --- the thread of one listener ----------------------------------------------------------------


def event(peer: str, call_id: str = "") -> Event:
    """Any event would do."""
    return Event(Name.PRESENCE_CHANGED, (peer, True), peer=peer, call_id=call_id)


def test_the_thread_tells_everything_before_its_end() -> None:
    """None is the end: what was put before is told, what is put after is not."""
    heard = Heard()
    thread = ListenerThread(heard, "a-name")
    for peer in ("a", "b", None, "c"):
        thread.put(None if peer is None else event(peer))
    thread.thread.join(PATIENCE)
    assert not thread.thread.is_alive()
    assert [t.args for t in heard.told] == [("a", True), ("b", True)]
    assert {t.thread for t in heard.told} == {"a-name"}


def test_the_thread_outlives_what_its_listener_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Logged with the call, or a dash where an event is of none."""
    thread = ListenerThread(raising(), "a-name")
    for call_id in ("some-call", ""):
        thread.put(event("a", call_id))
    thread.put(None)
    thread.thread.join(PATIENCE)
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["call some-call", "call -"]


def test_a_client_that_is_dropped_leaves_no_task_behind() -> None:
    """Whoever makes a new client for each attempt is told of nothing that was destroyed."""

    async def attempt() -> set[asyncio.Task[Any]]:
        before = asyncio.all_tasks()
        client = aio.SignalingClient("front-door", "mqtt://127.0.0.1:1")
        client.call_manager.add_event_listener(Heard())
        with pytest.raises(LoginError):
            await client.login(timeout=5)
        left = asyncio.all_tasks() - before  # one that tells of the connection's state, perhaps
        return (await asyncio.wait(left, timeout=PATIENCE))[1] if left else set()

    assert asyncio.run(attempt()) == set()


def test_what_is_told_before_there_is_a_loop_is_heard_once_there_is() -> None:
    heard = Heard()
    teller = ListenerTask(heard)
    teller.put(Event(Name.PRESENCE_CHANGED, ("study", True)))

    async def login() -> None:
        teller.start()
        while not teller.done:
            await asyncio.sleep(0)

    asyncio.run(login())
    assert heard.names() == ["presence_changed"]
