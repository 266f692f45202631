"""Calls that go on, at their edges: decisions read late, cells not taken, clients that end."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from device_sdk import (
    ClientClosed,
    EndReason,
    InvalidArgument,
    InvitationApiCallError,
)
from device_sdk.client.calls import CallBase
from device_sdk.core import caller
from device_sdk.core.effects import SayMessage
from device_sdk.core.talk import Talk
from device_sdk.core.wire import codec, keys, topics
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Presence, Said
from device_sdk.core.wire.talk_cells import MAX_MESSAGE
from device_sdk.errors import DecodeError
from device_sdk.testing import Network, SimulatedPeer
from tests.unit.conftest import Do, MakePeer
from tests.unit.test_talk_calls import Pair

# --- the callee waits for the decision -----------------------------------------------------------


def waiting(*, kitchen_talks: bool = True) -> Pair:
    """The kitchen has accepted and not read the decision; the door's call goes on."""
    pair = Pair(kitchen_talks=kitchen_talks)
    pair.call = pair.door.send("kitchen")
    pair.net.run()
    pair.kitchen.accept("door", pair.call)
    while not pair.door.told("local_invitation_accepted"):
        pair.door.feed(pair.door.inbox.popleft())
    pair.kitchen.inbox.clear()  # the decision is lost
    return pair


def test_messages_that_come_with_the_decision_are_told_after_the_start() -> None:
    """In the order in which they were said; the decision alone was lost."""
    pair = waiting()
    pair.door.say("kitchen", pair.call, 1)
    pair.door.say("kitchen", pair.call, 2)
    del pair.kitchen.inbox[0]  # the first message, too
    pair.net.run()
    names = [str(event.name) for event in pair.kitchen.events][-4:]
    assert names == ["remote_invitation_accepted", "call_started", "call_message", "call_message"]
    assert pair.kitchen.heard() == [1, 2]
    pair.net.advance(3)
    assert not pair.door.engine.caller.calls["kitchen", pair.call].talk.waits


@pytest.mark.parametrize("state", [InviteState.ACCEPTED, InviteState.OVER])
def test_a_decision_with_talk_is_accepted_by_who_cannot(state: InviteState) -> None:
    """Whoever says it: for a callee that never said talk, the call ends with accepted."""
    pair = waiting(kitchen_talks=False)
    invite = pair.door.engine.caller.calls["kitchen", pair.call].cell(b"", 0)
    epoch = pair.door.engine._context.epoch
    cell = Invite(state, epoch, invite.seq + 1, talk=Said(1, None, (b"\x01",)))
    pair.net.broker.publish(f"sig/v1/kitchen/invite/door/{pair.call}", codec.encode(cell))
    pair.net.run()
    assert pair.kitchen.told("remote_invitation_accepted")
    assert not [event for event in pair.kitchen.events if event.name.startswith("call_")]


# --- the caller ----------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", [True, False])
def test_a_call_whose_cells_the_broker_takes_away_is_over_for_both(heard: bool) -> None:
    """As ``device set`` does of one that is no longer allowed: nothing comes through any more."""
    pair = waiting()
    if heard:
        pair.net.advance(3)  # the decision is said again
        assert pair.door.engine.caller.calls["kitchen", pair.call].talk.heard
    broker = pair.net.broker
    for topic in pair.cells():
        broker.publish(topic, b"")
    pair.net.run()
    assert pair.ends(pair.door) == [EndReason.PEER_LOST]
    assert pair.ends(pair.kitchen) == ([EndReason.PEER_LOST] if heard else [])
    pair.net.advance(60)
    assert pair.cells() == []
    assert len(pair.ends(pair.door)) == 1


def test_an_answer_that_is_cleared_says_nothing_elsewhere() -> None:
    """Of a call that still rings, that is over, or that nobody knows."""
    pair = Pair().up()
    ringing = pair.door.send("kitchen")
    pair.net.run()
    pair.door.hang_up("kitchen", pair.call)
    for call in (ringing, pair.call, topics.call_id_from_bytes(bytes(16))):
        pair.net.broker.publish(f"sig/v1/door/answer/kitchen/{call}", b"")
    pair.net.run()
    assert pair.ends(pair.door) == [EndReason.HUNG_UP]
    assert pair.door.engine.caller.calls["kitchen", ringing].phase in caller.UNDECIDED


def answered(pair: Pair, answer: Answer) -> None:
    """The kitchen's cell says that, whoever wrote it."""
    topic = f"sig/v1/door/answer/kitchen/{pair.call}"
    pair.net.broker.publish(topic, codec.encode(answer))
    pair.net.run()


def test_over_for_a_call_that_only_rings_is_as_final_as_failed() -> None:
    """A callee that has it from a former login says so."""
    pair = Pair()
    pair.call = pair.door.send("kitchen")
    pair.net.run()
    epoch = pair.kitchen.engine._context.epoch
    answered(pair, Answer(AnswerState.OVER, epoch, 9, talk=Said(0, None, ())))
    assert pair.door.told("local_invitation_failure")
    assert not pair.door.told("call_ended")


def test_a_caller_that_is_not_there_by_its_presence_has_half_a_minute() -> None:
    """Its decision was read, its presence says another login: it ends if it stays so."""
    pair = Pair()
    pair.call = pair.door.send("kitchen")
    pair.net.run()
    stranger = Presence(False, bytes(8), 1)
    pair.net.broker.publish("sig/v1/door/presence", codec.encode(stranger))
    pair.door.inbox.clear()  # it cannot say that it is there
    pair.kitchen.accept("door", pair.call)
    pair.net.advance(29)
    assert pair.kitchen.told("call_started")
    assert not pair.kitchen.told("call_ended")
    pair.net.advance(2)
    assert pair.ends(pair.kitchen) == [EndReason.PEER_LOST]


@pytest.mark.parametrize("gone", ["door", "kitchen"])
def test_a_login_that_is_given_up_ends_what_goes_on(gone: str) -> None:
    """A newer login of the same peer ends it here: told once, as logged out."""
    pair = Pair().up()
    peer: SimulatedPeer = getattr(pair, gone)
    side = peer.engine.caller if gone == "door" else peer.engine.callee
    side.abort()
    peer.perform()
    assert pair.ends(peer) == [EndReason.LOGGED_OUT]


# --- what the broker does not take ---------------------------------------------------------------


@pytest.mark.parametrize("who", ["door", "kitchen"])
@pytest.mark.parametrize("speaks", [True, False])
def test_a_cell_of_a_talk_that_is_not_taken_ends_it(who: str, speaks: bool) -> None:
    """It is told once; where its messages may be why, the last word is tried without them."""
    pair = Pair().up()
    one, other = (pair.door, pair.kitchen) if who == "door" else (pair.kitchen, pair.door)
    side = one.engine.caller if who == "door" else one.engine.callee
    key = (other.name, pair.call)
    cell = (side.kind, key)
    other.inbox.clear()
    if speaks:
        one.say(other.name, pair.call, "too much")
        other.inbox.clear()
    one.engine._context.outbox.aside[cell] = None
    side.set_aside(key, pair.net.clock())
    one.perform()
    assert pair.ends(one) == [EndReason.NOT_ALLOWED]
    assert (cell in one.engine._context.outbox.aside) is not speaks
    side.set_aside(key, pair.net.clock())
    one.perform()
    pair.net.advance(60)
    assert pair.ends(one) == [EndReason.NOT_ALLOWED]
    assert other.heard() == []


# --- values --------------------------------------------------------------------------------------


def test_a_late_will_of_another_login_and_a_shorter_deadline_stand() -> None:
    """Neither makes the end come later, or at all."""
    net = Network()
    settings = net.peer("door").engine._context.settings
    talk = Talk(can=True, up=True, heard=True)
    assert talk.seen(1, settings, online=False, same=False) is talk
    gone = talk.seen(1, settings, online=False, same=True)
    assert gone.seen(2, settings, online=None, same=False) is gone


def test_a_message_of_the_core_that_is_too_large_is_an_error_that_changes_nothing() -> None:
    """The faces refuse it before; an engine alone does, too."""
    pair = Pair().up()
    with pytest.raises(InvalidArgument, match="8191 bytes encoded"):
        pair.door.feed(SayMessage("kitchen", pair.call, True, bytes(MAX_MESSAGE + 1)))
    assert pair.door.engine.caller.calls["kitchen", pair.call].talk.messages.count == 0


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({5: [1, 2], 12: 1}, "2 messages, the last numbered 1"),
        ({12: -1}, "key 12 is no unsigned integer"),
        ({13: "1"}, "key 13 is no unsigned integer"),
        ({13: keys.MAX_UINT + 1}, "key 13 is no unsigned integer"),
        ({5: {"text": 1}, 12: 1}, "key 5 is no array of at most 64 messages"),
        ({5: [0] * 65, 12: 65}, "key 5 is no array of at most 64 messages"),
    ],
)
def test_a_cell_of_a_talk_with_one_fault_is_refused(more: dict[int, Any], why: str) -> None:
    """By its sentence; without the fault it is read."""
    sound = {0: 1, 1: 5, 2: bytes(8), 3: 1, 11: 1}
    assert codec.decode_answer(cbor2.dumps(sound)).state is AnswerState.TALKING
    with pytest.raises(DecodeError, match=why):
        codec.decode_answer(cbor2.dumps({**sound, **more}, canonical=True))


# --- the clients ---------------------------------------------------------------------------------


def test_a_client_that_fails_ends_its_calls_and_every_wait(make_peer: MakePeer, do: Do) -> None:
    """With its own reason, told once; both ends' invitations show the call."""
    door, kitchen = make_peer("door", talk=True), make_peer("kitchen", talk=True)
    invitation = do(door.client.create, "kitchen")
    assert invitation.call is None
    do(door.client.send, invitation)
    ringing = kitchen.expect("remote_invitation_received").invitation
    assert ringing.call is None
    do(ringing.accept)
    started = door.expect("call_started")
    assert kitchen.expect("call_started").args == (ringing.call,)
    call: CallBase = started.args[0]
    assert invitation.call is call
    assert repr(call) == f"<Call {invitation.call_id} with 'kitchen' UP>"

    def broken() -> None:
        raise RuntimeError("injected")

    assert door.client.pulse(broken)
    ended = door.expect("call_ended")
    assert ended.args == (call, EndReason.CLIENT_FAILED)
    assert do(call.wait, 5)
    with pytest.raises(InvitationApiCallError, match="ALREADY_END"):
        do(call.send, 1)


def test_a_call_of_a_closed_client_that_was_not_told_to_end_says_so(
    make_peer: MakePeer, do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is closed between the look at the call and the command."""
    door, kitchen = make_peer("door", talk=True), make_peer("kitchen", talk=True)
    invitation = do(door.client.create, "kitchen")
    do(door.client.send, invitation)
    do(kitchen.expect("remote_invitation_received").invitation.accept)
    call: CallBase = door.expect("call_started").args[0]

    def closed(_what: Any) -> None:
        raise ClientClosed("it is closed")

    def over(_what: Any) -> None:
        call._reason = EndReason.CLIENT_FAILED
        raise ClientClosed("it is closed")

    with monkeypatch.context() as patch:
        patch.setattr(door.client, "_command", closed)
        with pytest.raises(ClientClosed):
            do(call.send, 1)
        patch.setattr(door.client, "_command", over)
        with pytest.raises(InvitationApiCallError, match="ALREADY_END"):
            do(call.send, 1)


def test_an_event_of_a_call_that_the_client_does_not_know_is_let_be(
    make_peer: MakePeer, do: Do
) -> None:
    """It has ended by the client's failure; what the engine still says of it is late."""
    door, kitchen = make_peer("door", talk=True), make_peer("kitchen", talk=True)
    invitation = do(door.client.create, "kitchen")
    do(door.client.send, invitation)
    do(kitchen.expect("remote_invitation_received").invitation.accept)
    door.expect("call_started")
    kitchen.expect("call_started")
    with door.client._guard:
        door.client._talks.clear()
    do(invitation.call.hang_up)
    assert kitchen.expect("call_ended").args[1] is EndReason.HUNG_UP
    assert "call_ended" not in door.heard.names()
