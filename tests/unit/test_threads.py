"""The network thread: what it is woken for, and what it is not needed for."""

from __future__ import annotations

import threading

import pytest

from device_sdk import CallEventListener, LocalInvitation, SignalingClient
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
