"""Calls that go on after *accepted*: two engines in memory (docs/protocol.md, Talk)."""

from __future__ import annotations

import pytest

from device_sdk.core.effects import MessageReceived
from device_sdk.core.settings import Settings
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import AnswerState, InviteState, Presence
from device_sdk.errors import InvitationApiCallError, TooManyMessages
from device_sdk.states import EndReason
from device_sdk.testing import Network, SimulatedPeer

SETTINGS = Settings(talk_limit=180)


class Pair:
    """A door and a kitchen; :meth:`up` brings a call up between them."""

    def __init__(self, *, door_talks: bool = True, kitchen_talks: bool = True) -> None:
        self.net = Network()
        self.door = self.net.peer("door", settings=SETTINGS, talk=door_talks)
        self.kitchen = self.net.peer("kitchen", settings=SETTINGS, talk=kitchen_talks)
        self.net.run()
        self.call = ""

    def up(self) -> Pair:
        self.call = self.door.send("kitchen")
        self.net.run()
        self.kitchen.accept("door", self.call, "coming")
        self.net.run()
        return self

    def cells(self) -> list[str]:
        """What is retained besides presence."""
        return [topic for topic in self.net.broker.retained if not topic.endswith("presence")]

    def ends(self, peer: SimulatedPeer) -> list[EndReason]:
        return [event.reason for event in peer.told("call_ended")]  # type: ignore[union-attr]


@pytest.fixture
def pair() -> Pair:
    return Pair().up()


def test_messages_go_both_ways_in_order_and_are_acknowledged(pair: Pair) -> None:
    """And nothing waits afterwards."""
    for n in range(3):
        pair.door.say("kitchen", pair.call, {"text": n})
        pair.kitchen.say("door", pair.call, n)
    pair.net.run()
    assert pair.kitchen.heard() == [{"text": 0}, {"text": 1}, {"text": 2}]
    assert pair.door.heard() == [0, 1, 2]
    assert not pair.door.engine.caller.calls["kitchen", pair.call].talk.waits
    assert not pair.kitchen.engine.callee.calls["door", pair.call].talk.waits


@pytest.mark.parametrize("who", ["door", "kitchen"])
def test_either_side_hangs_up_and_nothing_is_left(pair: Pair, who: str) -> None:
    """Each is told one end; its last words come before."""
    one, other = (pair.door, pair.kitchen) if who == "door" else (pair.kitchen, pair.door)
    one.say(other.name, pair.call, "bye")
    one.hang_up(other.name, pair.call)
    pair.net.run()
    assert other.heard() == ["bye"]
    assert [e.name for e in other.events][-2:] == ["call_message", "call_ended"]
    assert pair.ends(pair.door) == pair.ends(pair.kitchen) == [EndReason.HUNG_UP]
    assert pair.cells() == []
    with pytest.raises(InvitationApiCallError, match="ALREADY_END"):
        one.say(other.name, pair.call, "still there?")


def test_crossing_hang_ups_are_one_end_each(pair: Pair) -> None:
    """Both are final; each clears its own."""
    pair.door.hang_up("kitchen", pair.call)
    pair.kitchen.hang_up("door", pair.call)
    pair.net.run()
    assert pair.ends(pair.door) == pair.ends(pair.kitchen) == [EndReason.HUNG_UP]
    assert pair.cells() == []


@pytest.mark.parametrize(("door", "kitchen"), [(False, False), (True, False), (False, True)])
def test_where_one_cannot_the_call_ends_with_accepted(door: bool, kitchen: bool) -> None:
    """As without any talk: nothing of it is told, and the cells are cleared."""
    pair = Pair(door_talks=door, kitchen_talks=kitchen).up()
    assert pair.door.told("local_invitation_accepted")
    assert pair.kitchen.told("remote_invitation_accepted")
    for peer in (pair.door, pair.kitchen):
        assert not [e for e in peer.events if e.name.startswith("call_")]
    assert pair.cells() == []


def test_what_the_caller_says_at_once_goes_with_its_decision() -> None:
    """Before *talking* has come; it is handled once."""
    pair = Pair()
    pair.call = pair.door.send("kitchen")
    pair.net.run()
    pair.kitchen.accept("door", pair.call)
    while not pair.door.told("call_started"):
        for peer in (pair.door, pair.kitchen):
            if peer.inbox:
                peer.feed(peer.inbox.popleft())
    pair.door.say("kitchen", pair.call, "hello")
    pair.net.run()
    assert pair.kitchen.heard() == ["hello"]


def test_a_hang_up_that_overtakes_the_decision_says_both() -> None:
    """The callee is told that it was accepted, that it went on, and that it is over."""
    pair = Pair()
    pair.call = pair.door.send("kitchen")
    pair.net.run()
    pair.kitchen.accept("door", pair.call)
    while not pair.door.told("call_started"):
        pair.door.feed(pair.door.inbox.popleft())
    pair.kitchen.inbox.clear()  # the decision is lost
    pair.door.hang_up("kitchen", pair.call)
    pair.net.run()
    names = [str(e.name) for e in pair.kitchen.events][-3:]
    assert names == ["remote_invitation_accepted", "call_started", "call_ended"]
    assert pair.cells() == []


@pytest.mark.parametrize("gone", ["door", "kitchen"])
def test_who_loses_its_link_ends_it_in_bounded_time(pair: Pair, gone: str) -> None:
    """The one that is left after 10 s, the one that is gone after 30."""
    one, other = (pair.door, pair.kitchen) if gone == "door" else (pair.kitchen, pair.door)
    one.disconnect()
    pair.net.advance(9.9)
    assert not other.told("call_ended")
    pair.net.advance(0.2)
    assert pair.ends(other) == [EndReason.PEER_LOST]
    assert not one.told("call_ended")
    pair.net.advance(20)
    assert pair.ends(one) == [EndReason.PEER_LOST]
    one.connect()
    pair.net.advance(40)
    assert pair.ends(one) == pair.ends(other) == [EndReason.PEER_LOST]
    assert pair.cells() == []


@pytest.mark.parametrize("gone", ["door", "kitchen"])
def test_a_short_break_costs_nothing(pair: Pair, gone: str) -> None:
    """What was said meanwhile is handled once the link is back."""
    one, other = (pair.door, pair.kitchen) if gone == "door" else (pair.kitchen, pair.door)
    one.disconnect()
    other.say(one.name, pair.call, "are you there?")
    one.say(other.name, pair.call, "wait")
    pair.net.advance(5)
    one.connect()
    pair.net.advance(5)
    assert (one.heard(), other.heard()) == (["are you there?"], ["wait"])
    assert not one.told("call_ended")
    assert not other.told("call_ended")


@pytest.mark.parametrize("who", ["door", "kitchen"])
def test_a_restart_ends_it_and_handles_nothing(pair: Pair, who: str) -> None:
    """What was underway to the life that is gone opens no door."""
    one, other = (pair.door, pair.kitchen) if who == "door" else (pair.kitchen, pair.door)
    session, one._session = one._session, None
    assert session is not None
    pair.net.broker.sessions.pop(session.client_id)  # nobody reads there
    other.say(one.name, pair.call, {"do": "open"})
    one.restart()
    pair.net.advance(40)
    assert one.heard() == []
    assert pair.ends(other) == [EndReason.RESTARTED]
    assert not [e for e in one.events if e.name.startswith("call_")]
    assert pair.cells() == []


@pytest.mark.parametrize("who", ["door", "kitchen"])
def test_an_older_login_of_the_other_is_doubt(pair: Pair, who: str) -> None:
    """A bridge hands on without the RETAIN flag what is old: the other has 10 s to say its own."""
    one, other = (pair.door, pair.kitchen) if who == "door" else (pair.kitchen, pair.door)
    topic = topics.presence("sig", other.name)
    older = MessageReceived(topic, codec.encode(Presence(True, b"long ago")))
    one.feed(older)
    pair.net.advance(5)
    one.feed(MessageReceived(topic, pair.net.broker.retained[topic]))
    other.say(one.name, pair.call, "still here")
    pair.net.advance(20)
    assert one.heard() == ["still here"]
    assert not one.told("call_ended")
    one.feed(older)
    pair.net.advance(10)
    assert pair.ends(one) == pair.ends(other) == [EndReason.PEER_LOST]


def test_time_is_up(pair: Pair) -> None:
    """By the limit of whoever's is shorter."""
    pair.net.advance(181)
    assert pair.ends(pair.door) == pair.ends(pair.kitchen) == [EndReason.TIME_UP]
    assert pair.cells() == []


@pytest.mark.parametrize("who", ["door", "kitchen"])
def test_a_logout_ends_it(pair: Pair, who: str) -> None:
    """Before the goodbye: nothing is left."""
    one, other = (pair.door, pair.kitchen) if who == "door" else (pair.kitchen, pair.door)
    one.logout()
    pair.net.advance(2)
    assert pair.ends(one) == pair.ends(other) == [EndReason.LOGGED_OUT]
    assert pair.cells() == []


def test_a_broker_that_forgot_all_costs_nothing(pair: Pair) -> None:
    """Both say again what is true."""
    pair.net.broker.retained.clear()
    pair.door.disconnect()
    pair.kitchen.disconnect()
    pair.net.broker.retained.clear()
    pair.door.say("kitchen", pair.call, 1)
    pair.door.connect()
    pair.kitchen.connect()
    pair.net.advance(40)
    assert pair.kitchen.heard() == [1]
    assert not pair.door.told("call_ended")
    assert len(pair.cells()) == 2


def test_more_than_fits_waits_and_too_much_is_refused(pair: Pair) -> None:
    """The error changes nothing: the other 64 arrive."""
    pair.kitchen.disconnect()
    for n in range(64):
        pair.door.say("kitchen", pair.call, bytes(1000) + bytes([n]))
    with pytest.raises(TooManyMessages, match="64 messages wait"):
        pair.door.say("kitchen", pair.call, "one more")
    pair.kitchen.connect()
    pair.net.advance(3)
    assert [m[-1] for m in pair.kitchen.heard()] == [*range(64)]


def test_the_cells_carry_what_the_text_says(pair: Pair) -> None:
    """States, and the count and got of both sides."""
    pair.door.say("kitchen", pair.call, "a")
    pair.net.run()
    invite = codec.decode_invite(
        pair.net.broker.retained[f"sig/v1/kitchen/invite/door/{pair.call}"]
    )
    answer = codec.decode_answer(
        pair.net.broker.retained[f"sig/v1/door/answer/kitchen/{pair.call}"]
    )
    assert (invite.state, answer.state) == (InviteState.ACCEPTED, AnswerState.TALKING)
    assert invite.talk is not None
    assert answer.talk is not None
    assert (invite.talk.count, answer.talk.got, answer.talk.messages) == (1, 1, ())
