"""How a client comes to its end when something else fails, its loop, or its process.

What ends a client at all is in test_supervision; here is that nothing is left waiting when it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

from device_sdk import (
    CallEventListener,
    ClientClosed,
    ConnectionChange,
    ConnectionState,
    EndReason,
    SignalingClient,
    aio,
)
from device_sdk.client import supervisor
from device_sdk.client.invitations import Event, MissedCall
from device_sdk.client.link.base import Will
from device_sdk.client.loop_listeners import ListenerTask
from device_sdk.client.network_thread import ListenerThread, NetworkThread
from device_sdk.client.supervisor import ForkedError
from device_sdk.core.events import ConnectionStateChanged, Name
from device_sdk.testing import MemoryBroker, MemoryLink
from tests.peers import PATIENCE, Heard, Held, Loop, ThreadedPeer
from tests.unit.conftest import Do, MakePeer, come_to_an_end


def fail(*_args: Any) -> Any:
    raise RuntimeError("injected")


# --- what fails while a client fails -------------------------------------------------------------


def test_what_fails_while_a_client_fails_leaves_nobody_waiting(
    make_peer: MakePeer, do: Do, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each step of the end is tried, and what it raised is logged; groups end, too."""
    door = make_peer("front-door")
    group = do(door.client.call_manager.ring, ["kitchen", "bedroom"])
    client = door.client
    deliver, failed = client._deliver, []

    def once_each(event: Any) -> None:
        if event.name is not Name.RING_GROUP_ENDED and event.name not in failed:
            failed.append(event.name)
            raise RuntimeError("injected, too")
        deliver(event)

    monkeypatch.setattr(client, "_deliver", once_each)
    monkeypatch.setattr(client, "_drop_underway", fail)
    assert client.pulse(fail)
    door.expect("ring_group_ended")
    assert group.ended
    assert client.connection_state is ConnectionState.ABORTED
    assert failed == [Name.CONNECTION_STATE_CHANGED]
    door.logout()
    assert caplog.text.count("while it failed, this did, too") == 2


def test_a_sequential_ring_ends_with_its_client(make_peer: MakePeer, do: Do) -> None:
    """The next leg cannot be sent any more, and so is none that has to end."""
    door = make_peer("front-door")
    make_peer("kitchen")
    group = do(door.client.call_manager.ring, ["kitchen", "bedroom"], strategy="sequential")
    door.expect("local_invitation_received_by_peer")
    assert door.client.pulse(fail)
    door.expect("ring_group_ended")
    assert group.outcome.reason is EndReason.CLIENT_FAILED
    assert list(group.outcome.legs) == list(group.legs) == ["kitchen"]


def test_what_is_still_to_be_told_when_a_step_fails_is_told(
    make_peer: MakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first event of several cannot be told: the others are."""
    door = make_peer("front-door")
    client, refused = door.client, []
    deliver = client._deliver

    def first(event: Any) -> None:
        if not refused:
            refused.append(event)
            fail()
        deliver(event)

    monkeypatch.setattr(client, "_deliver", first)
    with client._guard:  # the core has told two things, and nobody of them yet
        client._core_events.extend(
            ConnectionStateChanged(ConnectionState.RECONNECTING, ConnectionChange.INTERRUPTED, each)
            for each in ("one", "two")
        )
    assert client.pulse(fail)
    door.expect_state("ABORTED")
    assert [told.args[0].name for told in door.heard.told][-2:] == ["RECONNECTING", "ABORTED"]


def test_no_call_of_the_owner_comes_after_its_end(make_peer: MakePeer) -> None:
    """The first pulse ends the client; the second, which waits for its turn, is not made."""
    door = make_peer("front-door")
    called: list[int] = []
    both = threading.Event()

    def first() -> None:
        both.wait(PATIENCE)
        fail()

    assert door.client.pulse(first)
    assert door.client.pulse(lambda: called.append(2))
    both.set()
    door.expect_state("ABORTED")
    door.logout()
    assert called == []
    assert not door.client.pulse(fail), "there is nobody to call it"


def test_nobody_calls_for_a_client_whose_loop_is_closed(memory: MemoryBroker) -> None:
    """The asyncio face: a watchdog that asks is told so, on whatever thread it asks."""

    async def leaves() -> aio.SignalingClient:
        client = aio.SignalingClient("front-door", memory)
        await client.login()
        return client

    client = asyncio.run(leaves())
    owner: Any = client._owner
    owner._link.close(clean=False)
    assert not client.pulse(fail)


@pytest.mark.parametrize("does", ["send", "watch", "call"])
def test_a_client_whose_loop_is_closed_is_done(memory: MemoryBroker, does: str) -> None:
    """Logged in by one ``asyncio.run()``, used by the next: nobody would hear the answer."""
    client = aio.SignalingClient("front-door", memory)
    asyncio.run(client.login())

    async def use() -> None:
        if does == "send":
            client.send(client.create("kitchen"))
        elif does == "watch":
            client.watch("kitchen")
        else:
            await client.call("kitchen")

    with pytest.raises(ClientClosed, match=r"another event loop, which is closed: log in and call"):
        asyncio.run(use())
    assert client.connection_state is ConnectionState.ABORTED
    assert not memory.sessions


def test_a_client_of_another_loop_is_not_touched(memory: MemoryBroker, loop: Loop) -> None:
    """A program with two loops: it is told where to call it; the client goes on."""
    client = loop.call(lambda: aio.SignalingClient("front-door", memory))
    loop.run(client.login())

    async def use() -> None:
        client.watch("kitchen")

    with pytest.raises(RuntimeError, match="is logged in on another event loop: call it there"):
        asyncio.run(use())
    assert client.connection_state is ConnectionState.CONNECTED
    loop.run(client.logout())


@pytest.mark.parametrize("rested", [True, False])
def test_a_logout_on_another_loop_says_goodbye(
    memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch, rested: bool
) -> None:
    """What closes an application may run after what it did, whatever waited for its loop then."""
    monkeypatch.setattr("device_sdk.aio.LOGOUT_TIMEOUT", 0.05)
    client = aio.SignalingClient("front-door", memory)

    async def log_in() -> None:
        await client.login()
        while rested and client._owner is not None and client._owner._resting is not None:
            await asyncio.sleep(0)

    asyncio.run(log_in())
    asyncio.run(client.logout())
    assert client.connection_state is ConnectionState.DISCONNECTED
    assert client.failure is None
    assert not memory.sessions


def test_what_is_meant_for_the_loop_reaches_it(memory: MemoryBroker) -> None:
    """The asyncio face: sys.exit() in a callback ends the client, and then the loop."""
    clients: list[aio.SignalingClient] = []

    async def lives() -> None:
        client = aio.SignalingClient("front-door", memory)
        clients.append(client)
        await client.login()

        def leave() -> None:
            raise SystemExit(7)

        client.pulse(leave)
        await asyncio.sleep(PATIENCE)

    with pytest.raises(SystemExit):
        asyncio.run(lives())
    assert clients[0].connection_state is ConnectionState.ABORTED
    assert isinstance(clients[0].failure, SystemExit)


# --- logging out ---------------------------------------------------------------------------------


class Deaf(MemoryLink):
    """A link to a broker that, once ``deaf``, takes everything and acknowledges nothing."""

    deaf = False

    def publish(self, topic: str, payload: bytes, token: int | None) -> None:
        super().publish(topic, payload, None if self.deaf else token)


def test_a_logout_does_not_wait_long_for_a_broker_that_says_nothing(
    make_peer: MakePeer, memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The goodbye is on the wire; what acknowledges it is not waited for."""
    links: list[Deaf] = []

    def make(will: Will) -> Deaf:
        links.append(Deaf(memory, memory._lock, will))
        return links[-1]

    for module in ("threaded", "network_thread"):
        monkeypatch.setattr(f"device_sdk.client.{module}.LOGOUT_TIMEOUT", 0.05)
    monkeypatch.setattr("device_sdk.aio.LOGOUT_TIMEOUT", 0.05)
    door = make_peer("front-door", make)
    links[0].deaf = True
    begun = time.monotonic()
    door.logout()
    assert time.monotonic() - begun < PATIENCE / 2
    assert door.client.connection_state is ConnectionState.DISCONNECTED
    come_to_an_end("bellwire-front-door")  # whose thread closes the link, in its own time
    assert not memory.sessions


def test_a_listener_may_log_out(make_peer: MakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for by itself; whatever else there was to hear is heard."""
    for module in ("client.threaded", "aio"):  # how long it would wait for itself
        monkeypatch.setattr(f"device_sdk.{module}.LOGOUT_TIMEOUT", 3 * PATIENCE)
    done = threading.Event()
    door = make_peer("front-door")

    def out(_self: Any, _invitation: Any) -> Any:
        if door.face == "threaded":
            door.client.logout()
            done.set()
            return None

        async def leave() -> None:
            await door.client.logout()
            done.set()

        return leave()

    leaves: Any = type("Leaves", (CallEventListener,), {"on_local_invitation_canceled": out})()
    door.listen(leaves)
    door.cancel(door.press("kitchen"))
    assert done.wait(PATIENCE), "it waits for itself"
    door.expect_state("DISCONNECTED")


def test_with_takes_a_client_that_is_logged_in(memory: MemoryBroker, loop: Loop) -> None:
    """It is not logged in a second time; at the end it is logged out."""
    threaded = SignalingClient("front-door", memory)
    threaded.login()
    with threaded as client:
        assert client.connection_state is ConnectionState.CONNECTED
    assert threaded.connection_state is ConnectionState.DISCONNECTED

    async def lives() -> None:
        client = aio.SignalingClient("front-door", memory)
        await client.login()
        async with client as same:
            assert same.connection_state is ConnectionState.CONNECTED
        assert client.connection_state is ConnectionState.DISCONNECTED

    loop.run(lives())


# --- giving up a call or a ring ------------------------------------------------------------------


def test_an_interrupt_while_it_waits_cancels_a_ring(
    memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threaded face: Ctrl-C, once all of them ring."""
    panel = ThreadedPeer("kitchen", memory)
    with panel, SignalingClient("front-door", memory) as door:

        def interrupted(_group: Any, _timeout: float | None = None) -> bool:
            panel.expect("remote_invitation_received")
            raise KeyboardInterrupt

        monkeypatch.setattr("device_sdk.client.threaded.RingGroup.wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            door.ring(["kitchen", "bedroom"])
        panel.expect("remote_invitation_canceled")


@pytest.mark.parametrize("several", [False, True])
def test_a_task_that_is_cancelled_cancels_what_rings(
    memory: MemoryBroker, loop: Loop, several: bool
) -> None:
    """The asyncio face of the same, of a call and of a ring."""
    with ThreadedPeer("kitchen", memory) as kitchen:

        async def lives() -> None:
            async with aio.SignalingClient("front-door", memory) as door:
                names = ["kitchen", "bedroom"]
                task = asyncio.ensure_future(door.ring(names) if several else door.call("kitchen"))
                await asyncio.to_thread(kitchen.expect, "remote_invitation_received")
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await asyncio.to_thread(kitchen.expect, "remote_invitation_canceled")

        loop.run(lives())


# --- a fork --------------------------------------------------------------------------------------


def test_a_client_is_done_in_a_child_process(
    memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a fork, where its thread is not: waits end, and the connection is let be.

    A real fork is in test_face_lives.
    """
    heard = Heard()
    client = SignalingClient("front-door", memory)
    client.call_manager.add_event_listener(heard)
    client.login()
    invitation = client.create("kitchen")
    client.send(invitation)
    owner = client._owner
    assert owner is not None
    link = owner._link
    assert link is not None
    connection: Any = link._link
    names = set(memory.sessions)
    forgotten: list[object] = []
    monkeypatch.setattr(owner, "forget", lambda: forgotten.append(owner))
    with owner._guard:  # its thread takes no turn: in a child it is not there
        client._forked()
        assert forgotten == [owner]
        assert isinstance(client.failure, ForkedError)
        assert invitation.wait(1)
        assert invitation.reason is EndReason.CLIENT_FAILED
        with pytest.raises(ClientClosed, match="is a fork of the one that logged in"):
            client.login()
        assert set(memory.sessions) == names, "the parent's connection was ended"
        client._forked()  # of a child's child: it is done already
        assert forgotten == [owner]
        NetworkThread.forget(owner)
        assert link.fileno() == -1
        owner.finish()
    owner.join(PATIENCE)
    connection.close(clean=False)
    client.logout()


def test_a_loops_client_is_done_in_a_child_process(memory: MemoryBroker, loop: Loop) -> None:
    """The asyncio face; the loop, too, is the parent's."""

    async def lives() -> None:
        client = aio.SignalingClient("front-door", memory)
        await client.login()
        names = set(memory.sessions)
        assert client._owner is not None
        connection: Any = client._owner._link._link  # type: ignore[union-attr]  # it is logged in
        client._forked()
        assert isinstance(client.failure, ForkedError)
        assert client.connection_state is ConnectionState.ABORTED
        assert set(memory.sessions) == names
        with pytest.raises(ClientClosed, match="is a fork"):
            client.watch("kitchen")
        client._owner.finish()
        connection.close(clean=False)
        await client.logout()

    loop.run(lives())


def test_a_loops_client_is_done_in_a_child_of_its_login(memory: MemoryBroker, loop: Loop) -> None:
    """It was forked before there was a link."""
    held = Held(memory)
    held.hold()

    async def lives() -> None:
        client = aio.SignalingClient("front-door", held)
        login = asyncio.ensure_future(client.login())
        await asyncio.sleep(0)
        client._forked()
        assert client.connection_state is ConnectionState.ABORTED
        assert client._owner is not None
        client._owner._opening = None  # its thread is the parent's alone
        login.cancel()
        with pytest.raises(asyncio.CancelledError):
            await login
        held.release()

    loop.run(lives())


def test_a_fork_comes_about_whatever_a_client_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client there is has its turn."""

    class Child:
        turns = 0

        def _forked(self) -> None:
            type(self).turns += 1
            fail()

    children = [Child(), Child()]
    monkeypatch.setattr(supervisor, "_clients", children)
    supervisor._in_child()
    assert Child.turns == 2


def test_a_listener_hears_in_a_child_that_logs_in() -> None:
    """Its thread was left behind in the parent, with what it was to hear: it is started anew."""
    heard = Heard()
    listener = ListenerThread(heard, "listener")
    listener.put(None)
    listener.thread.join(PATIENCE)
    before = listener.thread
    listener.start_again()
    assert listener.thread is not before
    assert listener.thread.name == "listener"
    again = listener.thread
    listener.start_again()
    assert listener.thread is again, "one that runs was started anew"
    listener.put(None)
    listener.thread.join(PATIENCE)
    assert not listener.thread.is_alive()


# --- a listener's task ---------------------------------------------------------------------------


def test_a_listener_is_told_when_its_loop_ends() -> None:
    """It is cancelled, once, as any task is."""
    told: list[str] = []

    class Slow(CallEventListener):
        async def on_missed_call(self, missed: Any) -> None:  # type: ignore[override]  # as documented
            told.append("begins")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                told.append("cancelled")
                raise

    async def lives() -> None:
        task = ListenerTask(Slow())
        missed = MissedCall("front-door", "call", None)
        for _ in range(2):
            task.put(Event(Name.MISSED_CALL, (missed,), missed=missed))
        while not told:
            await asyncio.sleep(0)

    asyncio.run(lives())
    assert told == ["begins", "cancelled"]


def test_an_iterator_that_is_closed_ends(memory: MemoryBroker, loop: Loop) -> None:
    """``aclosing``: it gets nothing more, and whoever reads it is let go."""

    async def lives() -> None:
        client = aio.SignalingClient("front-door", memory)
        events: Any = client.events()
        async with contextlib.aclosing(events):
            reading = asyncio.ensure_future(anext(events, "the end"))
            await asyncio.sleep(0)
        assert await reading == "the end"
        async with client:
            assert [event async for event in events] == []

    loop.run(lives())
