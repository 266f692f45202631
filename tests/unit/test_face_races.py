"""What happens at the same time, or in between: a second thread, a clock, a group's last leg.

The application's clock runs in the middle of a command, under no guard: whatever it does is what
another thread may do there.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from device_sdk import (
    ClientClosed,
    ConnectionState,
    EndReason,
    InvalidArgument,
    InvitationApiCallError,
    LocalInvitationState,
    LoginError,
    Policy,
    SignalingClient,
)
from device_sdk import InvitationApiCallErrorCode as Code
from device_sdk.client.ring_plan import RingPlan
from device_sdk.core.events import PeerLost
from device_sdk.testing import MemoryBroker
from tests.peers import ThreadedPeer, ring
from tests.unit.conftest import Do, MakePeer


class Meanwhile:
    """A clock that runs ``does`` once, the next time it is asked after that was set."""

    def __init__(self) -> None:
        self.does: Callable[[], object] | None = None

    def __call__(self) -> float:
        does, self.does = self.does, None
        if does is not None:
            does()
        return time.monotonic()


def of_my_thread(clock: Meanwhile, does: Callable[[], object]) -> None:
    """Let ``clock`` do this where this thread asks it."""
    mine = threading.get_ident()

    def once() -> None:
        if threading.get_ident() == mine:
            does()
        else:
            clock.does = once

    clock.does = once


# --- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("logged_in", [False, True])
def test_an_invitation_that_two_threads_send_at_once_is_sent_once(
    memory: MemoryBroker, logged_in: bool
) -> None:
    """The later one is told so, and the call goes on: it was IDLE again, and its end never told."""
    clock = Meanwhile()
    door = ThreadedPeer("front-door", memory, clock=clock)
    with door if logged_in else contextlib.nullcontext():
        invitation = door.create("kitchen")
        of_my_thread(clock, lambda: door.send(invitation))
        with pytest.raises(InvitationApiCallError) as caught:
            door.send(invitation)
        if logged_in:
            assert caught.value.code is Code.ALREADY_SENT
            assert invitation.state is LocalInvitationState.SENT_TO_REMOTE
            door.cancel(invitation)
        else:
            assert caught.value.code is Code.ALREADY_END
        assert door.wait(invitation)
        name = "local_invitation_canceled" if logged_in else "local_invitation_failure"
        door.expect(name, invitation.call_id)
    door.logout()
    assert door.names(invitation.call_id).count(name) == 1


def test_of_two_threads_that_log_in_at_once_one_is_told(memory: MemoryBroker) -> None:
    """And the login of the other goes on."""
    clock = Meanwhile()
    client = SignalingClient("front-door", memory, clock=clock)
    of_my_thread(clock, client.login)
    with pytest.raises(ClientClosed, match="is logged in already"):
        client.login()
    assert client.connection_state is ConnectionState.CONNECTED
    client.logout()


@pytest.mark.parametrize("missing", ["thread", "descriptor"])
def test_a_login_that_cannot_begin_is_told_to_be_over(
    memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A listener that was told CONNECTING would show it for ever."""
    door = ThreadedPeer("front-door", memory)

    def none(*_args: object) -> Any:
        raise RuntimeError("can't start new thread") if missing == "thread" else OSError(24, "none")

    with monkeypatch.context() as patched:
        if missing == "thread":
            patched.setattr("threading.Thread.start", none)
        else:
            patched.setattr("os.pipe", none)
        with pytest.raises(LoginError, match="the login could not begin"):
            door.login()
    with door:
        door.expect_state("CONNECTED")
    states = [told.args[0].name for told in door.heard.told]
    before = ["CONNECTING", "DISCONNECTED"] if missing == "thread" else []
    assert states == [*before, "CONNECTING", "CONNECTED", "DISCONNECTED"]


def test_a_policy_that_answers_when_the_client_is_done_is_let_be(
    make_peer: MakePeer, do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turn comes after the end of what it was asked for."""

    class Asked(Policy):
        def screen(self, *_args: Any, **_told: Any) -> None:
            return None

    door, kitchen = make_peer("front-door"), make_peer("kitchen", policy=Asked())
    asked: list[Any] = []
    ask = kitchen.client._ask_policy
    monkeypatch.setattr(
        kitchen.client, "_ask_policy", lambda *what: asked.append(what) or ask(*what)
    )
    ring(door, kitchen)
    (session, question), *_ = asked
    kitchen.logout()
    before = kitchen.names()
    do(kitchen.client._take_verdict, session, question.call, None)
    assert kitchen.names() == before
    assert kitchen.client.failure is None


# --- what an ended call leaves -------------------------------------------------------------------


def test_who_let_go_of_a_call_is_told_all_the_same_that_nobody_is_there(
    make_peer: MakePeer, do: Do
) -> None:
    """With an invitation that says what was called, and that it has ended: nobody waits for it."""
    door, kitchen = make_peer("front-door"), make_peer("kitchen")
    mine = door.create("kitchen")
    mine.content, mine.channel_id = {"who": "postman"}, "porch"
    door.send(mine)
    call_id = mine.call_id
    theirs = kitchen.expect("remote_invitation_received", call_id).invitation
    kitchen.accept(theirs)
    door.expect("local_invitation_accepted", call_id)
    record = mine._record  # the kitchen's word is put below where the core would put it
    door.watch("kitchen")
    door.expect("presence_changed")  # and so it hears of nothing else any more
    door.heard.told.clear()
    del mine, theirs
    kitchen.heard.told.clear()
    gc.collect()
    assert door.find(call_id) is None

    def lost() -> None:
        with door.client._guard:
            door.client._core_events.append(PeerLost(record, EndReason.ACCEPT_FAILURE))
            door.client._perform()

    do(lost)
    told = door.expect("local_invitation_peer_lost", call_id)
    invitation, reason = told.args
    assert reason is EndReason.ACCEPT_FAILURE
    assert (invitation.callee_id, invitation.content) == ("kitchen", {"who": "postman"})
    assert invitation.channel_id == "porch"
    assert invitation.ended
    assert door.wait(invitation, 1)
    with pytest.raises(InvitationApiCallError, match="ALREADY_END"):
        door.send(invitation)


# --- ring groups ---------------------------------------------------------------------------------


def test_a_content_that_changes_while_a_group_rings_changes_nothing(
    make_peer: MakePeer, do: Do
) -> None:
    """Each leg carries what it was when it was given; one that cannot be sent ended the client."""
    door, kitchen, bedroom = make_peer("front-door"), make_peer("kitchen"), make_peer("bedroom")
    content: dict[str, Any] = {"who": ["postman"]}
    group = do(
        door.client.call_manager.ring, ["kitchen", "bedroom"], content, strategy="sequential"
    )
    theirs = kitchen.expect("remote_invitation_received").invitation
    content["who"].append(object())
    kitchen.refuse(theirs)
    assert bedroom.expect("remote_invitation_received").invitation.content == {"who": ["postman"]}
    assert door.client.connection_state is ConnectionState.CONNECTED
    do(door.client.call_manager.cancel_ring, group)


def test_a_leg_of_no_group_ends_by_itself(make_peer: MakePeer, do: Do) -> None:
    """An invitation that was given a group of the app's own is a call as any other."""
    door, kitchen = make_peer("front-door"), make_peer("kitchen")
    leg = do(door.client.create, "kitchen", b"sixteen bytes id")
    do(door.client.send, leg)
    theirs = kitchen.expect("remote_invitation_received", leg.call_id).invitation
    assert theirs.group == b"sixteen bytes id"
    kitchen.refuse(theirs)
    assert door.wait(leg)
    assert "ring_group_ended" not in door.names()


@pytest.mark.parametrize("group", [b"", b"short", b"x" * 17, "sixteen bytes id", 16])
def test_a_group_is_sixteen_bytes(make_peer: MakePeer, do: Do, group: Any) -> None:
    """Others would be no cell, or end the client when it was sent."""
    door = make_peer("front-door")
    with pytest.raises(InvalidArgument, match=r"^group: 16 random bytes"):
        do(door.client.create, "kitchen", group)
    assert door.client.connection_state is ConnectionState.CONNECTED


@pytest.mark.parametrize("name", ["callee_id", "call_id", "group"])
def test_what_makes_a_call_what_it_is_cannot_be_set(make_peer: MakePeer, name: str) -> None:
    """An invitation that was to call somebody else would be found by nobody any more."""
    invitation = make_peer("front-door", login=False).create("kitchen")
    with pytest.raises(AttributeError):
        setattr(invitation, name, "bedroom")


def test_a_group_that_is_over_cannot_be_canceled() -> None:
    """What it ended with stays what it ended with."""
    plan = RingPlan(["kitchen"])
    plan.sending(*plan.start())
    plan.never_rang("kitchen")
    assert plan.over
    assert plan.cancel() == []
    assert not plan.outcome().canceled


def test_a_group_shows_how_it_stands(make_peer: MakePeer, do: Do) -> None:
    door = make_peer("front-door")
    group = do(door.client.call_manager.ring, ["kitchen", "bedroom"])
    assert repr(group) == "<RingGroup kitchen, bedroom: ringing>"
    do(door.client.call_manager.cancel_ring, group)
    door.expect("ring_group_ended")
    assert repr(group) == "<RingGroup kitchen, bedroom: canceled>"


def test_a_group_rings_without_a_time_of_day(make_peer: MakePeer, do: Do) -> None:
    """Every leg, as a single call does."""
    door = make_peer("front-door", wall=lambda: -1.0)
    panels = [make_peer("kitchen"), make_peer("bedroom")]
    do(door.client.call_manager.ring, ["kitchen", "bedroom"])
    for panel in panels:
        assert panel.expect("remote_invitation_received").invitation.time is None
