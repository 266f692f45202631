"""The network thread: what it is woken for, what it is not needed for; the listeners' threads."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from device_sdk import (
    CallEventListener,
    ClientClosed,
    ConnectionState,
    LocalInvitation,
    MissedCall,
    RemoteInvitation,
    SignalingClient,
)
from device_sdk.client.network_thread import NetworkThread
from device_sdk.core.connection import OpenLink
from device_sdk.testing import MemoryBroker
from tests.peers import Held
from tests.unit.conftest import come_to_an_end


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
    monkeypatch.setattr("device_sdk.client.feeding.TICK", 100.0)
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

        def on_missed_call(self, missed: MissedCall) -> None:
            canceled.put(missed.caller_id)  # the end came before the caller was known to be there

    with contextlib.ExitStack() as stack:
        for name in ("kitchen", "bedroom"):
            panel = stack.enter_context(SignalingClient(name, broker=broker))
            panel.call_manager.add_event_listener(Panel())
        door = stack.enter_context(Interrupted("front-door", broker=broker))
        with pytest.raises(KeyboardInterrupt):
            door.ring(["kitchen", "bedroom"]) if several else door.call("kitchen")
        for _ in range(1 + several):
            assert canceled.get(timeout=10) == "front-door"


# --- the threads of listeners --------------------------------------------------------------------


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
def two_clients(*listeners: CallEventListener) -> Iterator[tuple[SignalingClient, SignalingClient]]:
    """A door and a kitchen, where these listen."""
    broker = MemoryBroker()
    with (
        SignalingClient("front-door", broker=broker) as door,
        SignalingClient("kitchen", broker=broker) as kitchen,
    ):
        for listener in listeners:
            kitchen.call_manager.add_event_listener(listener)
        yield door, kitchen


def press(door: SignalingClient) -> LocalInvitation:
    invitation = door.call_manager.create_local_invitation("kitchen")
    door.call_manager.send_local_invitation(invitation)
    return invitation


def test_a_listener_hears_everything_on_its_own_thread() -> None:
    """Each method is called on the listener's one thread, in order."""
    first, second = Heard(), Heard()
    with two_clients(first, second) as (door, kitchen):
        for _ in range(20):
            call = press(door)
            for heard in (first, second):
                assert heard.told.get(timeout=10)[:2] == ("rings", call.call_id)
            door.call_manager.cancel_local_invitation(call)
            for i, heard in enumerate((first, second)):
                what, call_id, thread = heard.told.get(timeout=10)
                assert (what, call_id) == ("over", call.call_id)
                assert thread == kitchen._listeners[i].thread.ident
            assert call.wait(10)


def test_a_listener_that_blocks_holds_up_nobody() -> None:
    """The other listener, the broker and commands go on."""
    first, second = Heard(), Heard()
    with two_clients(first, second) as (door, _):
        first.gate.clear()
        for _ in range(3):
            call = press(door)
            assert second.told.get(timeout=10)[:2] == ("rings", call.call_id)
            door.call_manager.cancel_local_invitation(call)
            assert second.told.get(timeout=10)[:2] == ("over", call.call_id)
        first.gate.set()
        for _ in range(6):
            first.told.get(timeout=10)


def test_a_logout_waits_for_all_blocked_listeners_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for one after the other."""
    monkeypatch.setattr("device_sdk.client.threaded.LOGOUT_TIMEOUT", 0.2)
    blocked = [Heard() for _ in range(20)]
    for one in blocked:
        one.gate.clear()
    with two_clients(*blocked) as (door, kitchen):
        press(door)
        for one in blocked:
            one.told.get(timeout=10)
        began = time.monotonic()
        kitchen.logout()
        assert time.monotonic() - began < 2
        for one in blocked:
            one.gate.set()


def test_an_interrupted_login_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it: no thread goes on logging in, and the same client may try again."""
    broker = MemoryBroker()
    held = Held(broker)
    held.hold()
    door = SignalingClient("front-door", broker=held)
    wait = threading.Event.wait

    def interrupted(self: threading.Event, timeout: float | None = None) -> bool:
        owner = door._owner
        if owner is not None and self is owner.login_ended and timeout is None:
            raise KeyboardInterrupt
        return wait(self, timeout)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Event, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            door.login(keep_trying=True)
    assert door.connection_state is ConnectionState.DISCONNECTED
    held.release()
    come_to_an_end("bellwire-front-door")
    assert not broker.sessions
    with door:
        assert door.connection_state is ConnectionState.CONNECTED


# --- the network thread, by hand -----------------------------------------------------------------


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> Iterator[NetworkThread]:
    """One of a client that has begun to log in; its moves are this test's, on this thread."""
    monkeypatch.setattr(NetworkThread, "start", lambda _self: None)
    client = SignalingClient("front-door", MemoryBroker())
    made = client._begin_login(10, keep_trying=False)
    made._thread = threading.current_thread()
    yield made
    made._end()


def test_what_comes_while_it_re_arms_is_not_waited_for(owner: NetworkThread) -> None:
    """A call to make, or a step that only this thread takes, that came after its turn."""
    now = owner._client._time()
    owner._client._todo.clear()
    owner._rearm(now)
    assert owner._timeout() > 0.5
    owner._pulses.append(lambda: None)
    owner._rearm(now)
    assert owner._timeout() == 0.0
    owner._pulses.clear()
    owner._client._todo.append(OpenLink())
    owner._rearm(now)
    assert owner._timeout() == 0.0


def test_what_was_ready_of_a_link_that_is_gone_is_let_be(owner: NetworkThread) -> None:
    """Its number may be another's by now."""
    read, write = os.pipe()
    os.write(write, b"another's")
    assert not owner._read_and_write([(read, select.POLLIN)])
    assert os.read(read, 64) == b"another's"
    os.close(read)
    os.close(write)


def test_a_child_process_lets_go_of_a_login_that_has_no_link_yet(owner: NetworkThread) -> None:
    """It was forked while the parent logged in."""
    owner._client._forked()
    assert owner._client.connection_state is ConnectionState.ABORTED
    assert owner._done
    with pytest.raises(ClientClosed, match="is a fork"):
        owner._client.login()
