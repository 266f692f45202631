"""How logins begin and end, listeners come and go, and what a fork or a sleep leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from typing import Any

import pytest

from device_sdk import (
    BellwireError,
    CallEventListener,
    ClientClosed,
    ConnectionState,
    EndReason,
    LoginTimeout,
    SignalingClient,
    aio,
)
from device_sdk.client.loop_listeners import EVENTS_KEPT
from device_sdk.testing import MemoryBroker
from tests.peers import PATIENCE, Held, Loop, Peer, ThreadedPeer, ring
from tests.unit.conftest import Do, MakePeer

# --- a login that is given up --------------------------------------------------------------------


def test_a_logout_ends_a_login(make_peer: MakePeer, memory: MemoryBroker) -> None:
    """Whoever waits for the login is told, and the client is done."""
    held = Held(memory)
    held.hold()
    door = make_peer("front-door", held, login=False)
    told: list[BaseException] = []

    def log_in() -> None:
        try:
            door.login()
        except BellwireError as error:
            told.append(error)

    thread = threading.Thread(target=log_in)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while door.client.connection_state is not ConnectionState.CONNECTING:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    door.logout()
    thread.join(PATIENCE)
    held.release()
    assert not thread.is_alive()
    assert isinstance(told[0], ClientClosed)
    with pytest.raises(ClientClosed, match="logged out"):
        door.login()


def test_a_cancelled_login_ends(memory: MemoryBroker, loop: Loop) -> None:
    """The asyncio face: it does not go on and become online; it may be tried again."""
    held = Held(memory)

    async def lives() -> None:
        client = aio.SignalingClient("front-door", held)
        for _ in range(2):
            held.hold()
            login = asyncio.create_task(client.login())
            await asyncio.sleep(0)
            login.cancel()
            with pytest.raises(asyncio.CancelledError):
                await login
            assert client.connection_state is ConnectionState.DISCONNECTED
            held.release()
        await client.login()
        # Those that were given up let go of theirs in their own time.
        mine = {name for name, session in memory.sessions.items() if session.filters}
        assert len(mine) == 1
        await client.logout()
        assert not mine & memory.sessions.keys(), "the last logout ended another login than its own"

    loop.run(lives())


def test_leaving_the_loop_does_not_wait_for_a_link_that_is_being_opened(
    memory: MemoryBroker,
) -> None:
    """The asyncio face: a stuck look-up holds up neither the loop's end nor the interpreter's."""
    held = Held(memory)
    held.hold()

    async def leave() -> None:
        with pytest.raises(LoginTimeout):
            await aio.SignalingClient("front-door", held).login(0.05)

    begun = time.monotonic()
    asyncio.run(leave())
    took = time.monotonic() - begun
    opening = [t for t in threading.enumerate() if t.name == "bellwire-front-door-connect"]
    held.release()
    for thread in opening:
        thread.join(PATIENCE)
    assert took < PATIENCE / 2
    assert opening, "nothing was being opened"
    assert not memory.sessions, "what came of it was not closed"


def test_a_sequential_ring_ends_when_a_newer_login_takes_over(
    make_peer: MakePeer, do: Do, memory: MemoryBroker
) -> None:
    """The next leg cannot be sent, and so is none that has to end."""
    make_peer("kitchen")
    door = make_peer("front-door")
    group = do(door.client.call_manager.ring, ["kitchen", "bedroom"], strategy="sequential")
    door.expect("local_invitation_received_by_peer")
    with ThreadedPeer("front-door", memory):
        door.expect_state("ABORTED")
        door.expect("ring_group_ended")
    assert group.ended
    # By whichever word came first: the newer login's own, or the kitchen's that it saw that one.
    assert group.outcome.reason in (EndReason.LOGGED_OUT, EndReason.CALLER_LOST)


# --- listeners and iterators ---------------------------------------------------------------------


def test_a_listener_that_is_added_again_is_told_one_thing_at_a_time(
    make_peer: MakePeer,
) -> None:
    """What came before its removal first, however long that takes."""
    door = make_peer("front-door")
    gate, running, most = threading.Event(), [], []

    def heard(self: Any, *_args: Any) -> Any:
        running.append(self)
        most.append(len(running))
        if door.face == "threaded":
            gate.wait(PATIENCE)
            running.pop()
            return None

        async def wait() -> None:
            while not gate.is_set():
                await asyncio.sleep(0.001)
            running.pop()

        return wait()

    slow: Any = type("Slow", (CallEventListener,), {"on_local_invitation_canceled": heard})()
    door.listen(slow)
    for again in range(3):
        call = door.press("kitchen")
        door.cancel(call)
        door.expect("local_invitation_canceled", call.call_id)  # so it was told to the slow one
        if again < 2:
            door.unlisten(slow)
            door.listen(slow)
    gate.set()
    door.logout()
    assert most == [1, 1, 1]


def test_events_end_with_the_client_and_hold_so_many(memory: MemoryBroker, loop: Loop) -> None:
    """An iterator that nobody reads does not grow for ever, and says so when somebody does."""

    async def lives() -> None:
        client = aio.SignalingClient("front-door", memory)
        unread, forgotten = client.events(), client.events()
        async with client:
            del forgotten
            assert len(client._streams) == 1
            event = await anext(unread)
            for _ in range(EVENTS_KEPT + 5):
                client._deliver(event)
            for _ in range(EVENTS_KEPT):
                await anext(unread)
            with pytest.raises(BellwireError, match="was not read"):
                await anext(unread)
            reading = client.events()
        names = [event.name async for event in reading]
        assert names[-1] == "connection_state_changed"
        assert [event async for event in client.events()] == []

    loop.run(lives())


def test_events_end_when_a_newer_login_takes_over(memory: MemoryBroker, loop: Loop) -> None:
    """After the event that says so."""

    async def lives() -> None:
        client = aio.SignalingClient("front-door", memory)
        events = client.events()
        await client.login()
        newer = aio.SignalingClient("front-door", memory)
        await newer.login()
        told = [event async for event in events]
        assert told[-1].state is ConnectionState.ABORTED
        await newer.logout()
        await client.logout()

    loop.run(lives())


# --- another process, another time ---------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_client_in_a_forked_child_has_ended(memory: MemoryBroker) -> None:
    """Commands say so, waits go on, and the parent's connection stays what it is."""
    with SignalingClient("kitchen", memory) as kitchen, SignalingClient("door", memory) as door:
        invitation = door.call_manager.create_local_invitation("kitchen")
        door.call_manager.send_local_invitation(invitation)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            said = "nothing"
            with contextlib.suppress(BaseException):
                try:
                    door.call("kitchen", timeout=1)
                except ClientClosed as error:
                    said = f"{invitation.wait(1)} {invitation.reason} {error}"
                door.logout()
            os.write(write, said.encode())
            os._exit(0)
        os.waitpid(child, 0)
        said = os.read(read, 1000).decode()
        os.close(read)
        os.close(write)
        assert said.startswith("True client failed door failed and is done: ForkedError")
        assert door.connection_state is ConnectionState.CONNECTED
        door.call_manager.cancel_local_invitation(invitation)
        assert invitation.wait(PATIENCE)
        assert kitchen.connection_state is ConnectionState.CONNECTED


def test_a_machine_that_slept_finds_its_calls_over_and_its_link_replaced(
    make_peer: MakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deadlines go on in sleep, and a link that the broker has given up is not waited for."""
    slept = [0.0]

    def clock() -> float:
        return time.monotonic() + slept[0]

    monkeypatch.setattr("device_sdk.client.feeding.since_start", clock)
    door = make_peer("front-door")
    kitchen: Peer = make_peer("kitchen", clock=clock)
    mine, theirs = ring(door, kitchen)
    slept[0] = 100.0
    assert kitchen.wait(theirs, 5), "it rings on"
    kitchen.expect_state("RECONNECTING", timeout=5)
    kitchen.expect_state("CONNECTED", nth=2)
    assert mine is not None


def test_a_deadline_that_passed_in_sleep_is_kept_at_the_next_tick(
    memory: MemoryBroker, loop: Loop
) -> None:
    """The asyncio face: the loop's own timers stand still in sleep, and would be late by it."""
    slept = [0.0]

    async def lives() -> None:
        client = aio.SignalingClient("door", memory, clock=lambda: time.monotonic() + slept[0])
        await client.login()
        invitation = client.create("kitchen")
        client.send(invitation, 60, 60)
        driver = client._owner
        assert driver is not None
        assert driver._link is not None
        driver._readable(driver._link)  # so that nothing else is to be told with the tick
        slept[0] = 100.0
        driver._tick(driver._link)
        assert invitation.ended, "it waits for the loop's timer"
        await client.logout()

    loop.run(lives())
