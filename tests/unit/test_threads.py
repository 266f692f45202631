"""The network thread: what it is woken for, and what it is not needed for."""

from __future__ import annotations

import contextlib
import queue
import threading
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
