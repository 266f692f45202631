"""The network thread: what it is woken for, what it is not needed for, and who stands in for it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from device_sdk import CallEventListener, LocalInvitation, RemoteInvitation, SignalingClient
from device_sdk.testing import MemoryBroker


def test_a_command_is_on_the_wire_when_it_returns() -> None:
    """Nobody has to be woken for it: the thread that gives a command writes what it says."""
    broker = MemoryBroker()
    with SignalingClient("front-door", broker=broker) as door:
        for i in range(20):
            invitation = door.call_manager.create_local_invitation("kitchen")
            invitation.content = i
            door.call_manager.send_local_invitation(invitation)
            assert any(invitation.call_id in topic for topic in broker.retained)


def test_a_deadline_that_a_command_sets_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the network thread waits for a later one, or for none, when the command comes."""
    monkeypatch.setattr("device_sdk.face.TICK", 100.0)
    ended = threading.Event()

    class Heard(CallEventListener):
        def on_local_invitation_failure(self, invitation: LocalInvitation, error: object) -> None:
            ended.set()

    with SignalingClient("front-door", broker=MemoryBroker(), keepalive=400) as door:
        door.call_manager.add_event_listener(Heard())
        for _ in range(2):  # with the first its presence is subscribed, and the answer wakes all
            invitation = door.call_manager.create_local_invitation("kitchen")
            door.call_manager.send_local_invitation(invitation, ring_timeout=0.2)
            assert invitation.wait(20), "it waits for the keep-alive instead"
            assert ended.wait(5)
            ended.clear()


@pytest.mark.parametrize("several", [False, True])
def test_an_interrupt_while_it_is_sent_cancels_what_rings(several: bool) -> None:
    """Ctrl-C has no good moment; nobody may ring for a caller that is gone."""

    class Interrupted(SignalingClient):
        sent = 0

        def send(self, *args: Any, **options: Any) -> None:
            super().send(*args, **options)
            self.sent += 1
            if self.sent == 1 + several:
                raise KeyboardInterrupt

    broker = MemoryBroker()
    canceled: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Panel(CallEventListener):
        def on_remote_invitation_canceled(self, invitation: RemoteInvitation) -> None:
            canceled.put(invitation.caller_id)

    with contextlib.ExitStack() as stack:
        for name in ("kitchen", "bedroom"):
            panel = stack.enter_context(SignalingClient(name, broker=broker))
            panel.call_manager.add_event_listener(Panel())
        door = stack.enter_context(Interrupted("front-door", broker=broker))
        with pytest.raises(KeyboardInterrupt):
            door.ring(["kitchen", "bedroom"]) if several else door.call("kitchen")
        for _ in range(1 + several):
            assert canceled.get(timeout=10) == "front-door"


# --- a listener's thread in the network thread's place -------------------------------------------


class Heard(CallEventListener):
    """Notes what rings and what ends, with the thread; can be made to block."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[tuple[str, str, int]] = queue.SimpleQueue()
        self.gate = threading.Event()
        self.gate.set()

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        self.told.put(("rings", invitation.call_id, threading.get_ident()))
        self.gate.wait(20)

    def on_remote_invitation_canceled(self, invitation: RemoteInvitation) -> None:
        self.told.put(("over", invitation.call_id, threading.get_ident()))


@contextlib.contextmanager
def house(*listeners: CallEventListener) -> Iterator[tuple[SignalingClient, SignalingClient]]:
    """A door and a kitchen, where these listen, long enough for the first of them to lead."""
    broker = MemoryBroker()
    with (
        SignalingClient("front-door", broker=broker) as door,
        SignalingClient("kitchen", broker=broker) as kitchen,
    ):
        for listener in listeners:
            kitchen.call_manager.add_event_listener(listener)
        yield door, kitchen


def leads(client: SignalingClient) -> CallEventListener | None:
    """The listener whose thread waits for the network, within a while."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with client._guard:
            for one in client._listeners:
                if one.leads is not None:
                    return one.listener
        time.sleep(0.001)
    return None


def press(door: SignalingClient) -> LocalInvitation:
    invitation = door.call_manager.create_local_invitation("kitchen")
    door.call_manager.send_local_invitation(invitation)
    return invitation


def test_a_listener_that_leads_hears_everything_on_its_own_thread() -> None:
    """Whoever waited for it, each method is called on the listener's one thread, in order."""
    first, second = Heard(), Heard()
    with house(first, second) as (door, kitchen):
        for _ in range(20):
            assert leads(kitchen)
            call = press(door)
            for heard in (first, second):
                assert heard.told.get(timeout=10)[:2] == ("rings", call.call_id)
            door.call_manager.cancel_local_invitation(call)
            for i, heard in enumerate((first, second)):
                what, call_id, thread = heard.told.get(timeout=10)
                assert (what, call_id) == ("over", call.call_id)
                assert thread == kitchen._listeners[i].thread.ident
            assert call.wait(10)


def test_a_listener_that_leads_and_then_blocks_holds_up_nobody() -> None:
    """It hands the lead back first: the other listener, the broker and commands go on."""
    first, second = Heard(), Heard()
    with house(first, second) as (door, kitchen):
        assert leads(kitchen) is first
        first.gate.clear()
        for _ in range(3):
            call = press(door)
            assert second.told.get(timeout=10)[:2] == ("rings", call.call_id)
            door.call_manager.cancel_local_invitation(call)
            assert second.told.get(timeout=10)[:2] == ("over", call.call_id)
        assert leads(kitchen) is second, "who is idle leads"
        first.gate.set()
        for _ in range(6):
            first.told.get(timeout=10)


def test_a_listener_that_leads_hears_what_a_command_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that another thread puts wakes it from its wait for the network."""
    monkeypatch.setattr("device_sdk.face.TICK", 100.0)
    ended = threading.Event()

    class Refused(CallEventListener):
        def on_remote_invitation_refused(self, invitation: RemoteInvitation) -> None:
            ended.set()

    heard = Heard()
    with house(Refused(), heard) as (door, kitchen):
        press(door)
        _, call_id, _ = heard.told.get(timeout=10)
        ringing = kitchen.call_manager.get(call_id)
        assert isinstance(ringing, RemoteInvitation)
        assert leads(kitchen)
        kitchen.call_manager.refuse_remote_invitation(ringing)
        assert ended.wait(10)


def test_a_listener_that_leads_can_be_removed() -> None:
    """Its thread ends, and somebody waits for the network in its place."""
    first, second = Heard(), Heard()
    with house(first, second) as (door, kitchen):
        leader = leads(kitchen)
        assert leader is not None
        thread = next(t.thread for t in kitchen._listeners if t.listener is leader)
        kitchen.call_manager.remove_event_listener(leader)
        thread.join(10)
        assert not thread.is_alive()
        call = press(door)
        other = second if leader is first else first
        assert other.told.get(timeout=10)[:2] == ("rings", call.call_id)
        assert (first.told if leader is first else second.told).empty()


def test_a_defect_while_a_listener_leads_is_told_as_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the network thread, which says so, not the listener's."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with house(Heard()) as (_, kitchen):
        assert leads(kitchen)
        owner, listener = kitchen._owner, kitchen._listeners[0]
        assert owner is not None
        with kitchen._guard:
            monkeypatch.setattr(owner, "_turn", lambda _: 1 / 0)
            owner.wake()
        owner._thread.join(10)
        assert not owner._thread.is_alive()
        assert listener.thread.is_alive()
    assert "kitchen: the network thread failed; this is a defect" in caplog.text
