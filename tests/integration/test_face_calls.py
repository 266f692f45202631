"""Both faces on both brokers: every event in its order, every illegal call with its code."""

from __future__ import annotations

from typing import Any

import pytest

from device_sdk import (
    AnswerReason,
    ClientClosed,
    InvalidArgument,
    InvitationApiCallError,
    InvitationApiCallErrorCode,
    LocalInvitationError,
    LocalInvitationState,
    RemoteInvitationError,
    RemoteInvitationState,
)
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Invite, InviteState, Presence
from tests.broker_support.raw import Raw
from tests.integration.conftest import MakePeer
from tests.peers import Heard, OffsetClock, Peer, ring
from tests.servers import BrokerProcess

Code = InvitationApiCallErrorCode


@pytest.fixture
def door(make_peer: MakePeer) -> Peer:
    return make_peer("front-door")


@pytest.fixture
def kitchen(make_peer: MakePeer) -> Peer:
    return make_peer("kitchen")


def raised(code: Code, call: Any, *args: Any) -> None:
    with pytest.raises(InvitationApiCallError) as caught:
        call(*args)
    assert caught.value.code is code


# --- the order of events ---------------------------------------------------------------------


def test_accept(door: Peer, kitchen: Peer) -> None:
    """Received, ReceivedByPeer; then Accepted at the caller, then at the callee."""
    mine, theirs = ring(door, kitchen, "somebody is here")

    class Looks(Heard):
        def on_remote_invitation_accepted(self, _invitation: Any) -> None:
            self._note("looked at the caller's", mine)

    looks = Looks()
    kitchen.listen(looks)
    assert mine.state is LocalInvitationState.RECEIVED_BY_REMOTE
    assert theirs.state is RemoteInvitationState.INVITATION_RECEIVED
    assert (theirs.caller_id, theirs.content) == ("front-door", "somebody is here")
    kitchen.accept(theirs, "coming")
    at_door = door.expect("local_invitation_accepted", mine.call_id)
    kitchen.expect("remote_invitation_accepted", mine.call_id)
    assert at_door.args[1] == "coming"
    looks.wait_until(lambda told: told, 5, "accepted")
    assert [told.state for told in looks.told] == ["ACCEPTED_BY_REMOTE"]
    assert mine.state is LocalInvitationState.ACCEPTED_BY_REMOTE
    assert theirs.state is RemoteInvitationState.ACCEPTED
    assert (mine.response, theirs.response) == ("coming", "coming")
    assert door.names(mine.call_id) == [
        "local_invitation_received_by_peer",
        "local_invitation_accepted",
    ]
    assert kitchen.names(mine.call_id) == [
        "remote_invitation_received",
        "remote_invitation_accepted",
    ]


def test_accept_shows_at_once(door: Peer, kitchen: Peer) -> None:
    _, theirs = ring(door, kitchen)
    seen = []
    kitchen.accept(theirs)
    seen.append(theirs.state)
    assert seen[0] in (RemoteInvitationState.ACCEPT_SENT_TO_LOCAL, RemoteInvitationState.ACCEPTED)


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (AnswerReason.DECLINED, "declined"),
        (AnswerReason.BUSY, "busy"),
        (AnswerReason.DO_NOT_DISTURB, "do not disturb"),
    ],
)
def test_refuse(door: Peer, kitchen: Peer, reason: AnswerReason, word: str) -> None:
    """Refused at the callee, then at the caller, who is told why."""
    mine, theirs = ring(door, kitchen)
    kitchen.refuse(theirs, {"later": True}, reason)
    at_kitchen = kitchen.expect("remote_invitation_refused", mine.call_id)
    at_door = door.expect("local_invitation_refused", mine.call_id)
    assert at_door.args[1] == {"later": True}
    assert at_kitchen.state == "REFUSED"
    assert mine.state is LocalInvitationState.REFUSED_BY_REMOTE
    assert str(mine.reason) == str(theirs.reason) == word


def test_cancel(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    door.cancel(mine)
    assert mine.state is LocalInvitationState.CANCELED
    kitchen.expect("remote_invitation_canceled", mine.call_id)
    door.expect("local_invitation_canceled", mine.call_id)
    assert theirs.state is RemoteInvitationState.CANCELED
    assert str(theirs.reason) == "canceled"


def test_nobody_acts(make_peer: MakePeer, kitchen: Peer) -> None:
    """INVITATION_EXPIRE on both sides."""
    clock = OffsetClock()
    door = make_peer("front-door", ring_timeout=30, clock=clock)
    mine, theirs = ring(door, kitchen)
    clock.ahead += 30
    assert door.expect("local_invitation_failure", mine.call_id).args[1] is (
        LocalInvitationError.INVITATION_EXPIRE
    )
    assert kitchen.expect("remote_invitation_failure", mine.call_id).args[1] is (
        RemoteInvitationError.INVITATION_EXPIRE
    )
    assert (mine.state.name, theirs.state.name) == ("FAILURE", "FAILURE")


def test_ring_timeout_of_one_call(make_peer: MakePeer, kitchen: Peer) -> None:
    clock = OffsetClock()
    door = make_peer("front-door", clock=clock)
    mine = door.create("kitchen")
    door.send(mine, 30)
    kitchen.expect("remote_invitation_received", mine.call_id)
    clock.ahead += 30
    door.expect("local_invitation_failure", mine.call_id)
    assert str(mine.reason) == "expired"


def test_nobody_there(make_peer: MakePeer) -> None:
    """PEER_OFFLINE, for a peer that never was and for one that logged out."""
    clock = OffsetClock()
    door = make_peer("front-door", ack_timeout=30, clock=clock)
    make_peer("kitchen").logout()
    for callee in ("kitchen", "nobody"):
        mine = door.press(callee)
        door.expect("local_invitation_peer_offline", mine.call_id)  # its presence was read
        clock.ahead += 30
        told = door.expect("local_invitation_failure", mine.call_id)
        assert told.args[1] is LocalInvitationError.PEER_OFFLINE


def test_there_but_silent(make_peer: MakePeer, broker: BrokerProcess) -> None:
    """PEER_NO_RESPONSE: presence says online, no answer comes."""
    door = make_peer("front-door", ack_timeout=0.3)
    with Raw(broker.port) as silent:
        assert silent.connect("kitchen") == 0
        online = codec.encode(Presence(True, b"an epoch"))
        silent.publish(topics.presence(door.client.realm, "kitchen"), online, retain=True)
        mine = door.press("kitchen")
        told = door.expect("local_invitation_failure", mine.call_id)
        assert told.args[1] is LocalInvitationError.PEER_NO_RESPONSE
        silent.publish(topics.presence(door.client.realm, "kitchen"), b"", retain=True)


def test_a_missed_call_is_told_at_the_next_login(make_peer: MakePeer) -> None:
    door = make_peer("front-door", ack_timeout=0.2)
    mine = door.press("kitchen", "parcel")
    door.expect("local_invitation_failure", mine.call_id)
    kitchen = make_peer("kitchen")
    missed = kitchen.expect("missed_call").args[0]
    assert (missed.caller_id, missed.call_id, missed.content) == (
        "front-door",
        mine.call_id,
        "parcel",
    )
    assert kitchen.names() == ["missed_call"]


def test_a_callee_that_logs_in_while_it_rings_rings(make_peer: MakePeer, door: Peer) -> None:
    mine = door.press("kitchen", "still here")
    kitchen = make_peer("kitchen")
    theirs = kitchen.expect("remote_invitation_received", mine.call_id).invitation
    assert theirs.content == "still here"
    kitchen.accept(theirs)
    door.expect("local_invitation_accepted", mine.call_id)


def test_logout_cancels_what_is_underway(door: Peer, kitchen: Peer) -> None:
    mine, _ = ring(door, kitchen)
    door.logout()
    door.expect("local_invitation_canceled", mine.call_id, timeout=0.1)
    kitchen.expect("remote_invitation_canceled", mine.call_id)


def test_connection_states_of_a_login_and_a_logout(make_peer: MakePeer) -> None:
    peer = make_peer("front-door")
    assert peer.client.connection_state.name == "CONNECTED"
    peer.logout()
    assert peer.client.connection_state.name == "DISCONNECTED"
    changes = [t.args for t in peer.heard.told if t.name == "connection_state_changed"]
    assert [(s.name, str(c)) for s, c in changes] == [
        ("CONNECTING", "login"),
        ("CONNECTED", "login success"),
        ("DISCONNECTED", "logout"),
    ]


def test_watching_presence(make_peer: MakePeer, door: Peer) -> None:
    door.watch("kitchen")
    kitchen = make_peer("kitchen")
    door.expect("presence_changed", timeout=5)
    kitchen.logout()

    def went(told: list[Any]) -> bool:
        return ("kitchen", False) in [t.args for t in told]

    door.heard.wait_until(went, 5, "kitchen offline")
    seen = [t.args for t in door.heard.told if t.name == "presence_changed"]
    assert seen[-2:] == [("kitchen", True), ("kitchen", False)]


# --- illegal calls -----------------------------------------------------------------------------


def test_cancel_before_send(door: Peer) -> None:
    raised(Code.NOT_STARTED, door.cancel, door.create("kitchen"))


def test_send_twice(door: Peer, kitchen: Peer) -> None:
    mine, _ = ring(door, kitchen)
    raised(Code.ALREADY_SENT, door.send, mine)
    assert mine.state is LocalInvitationState.RECEIVED_BY_REMOTE


def test_content_and_channel_of_a_sent_invitation(door: Peer, kitchen: Peer) -> None:
    mine, _ = ring(door, kitchen, "one")
    for name in ("content", "channel_id"):
        raised(Code.ALREADY_SENT, setattr, mine, name, "two")
    assert mine.content == "one"


def test_an_ended_invitation_does_nothing_more(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    kitchen.refuse(theirs)
    door.expect("local_invitation_refused", mine.call_id)
    raised(Code.ALREADY_END, door.send, mine)
    raised(Code.ALREADY_END, door.cancel, mine)
    raised(Code.ALREADY_END, kitchen.accept, theirs)
    raised(Code.ALREADY_END, kitchen.refuse, theirs)
    raised(Code.ALREADY_END, setattr, theirs, "response", "late")


def test_answering_while_accept_is_underway(kitchen: Peer, broker: BrokerProcess) -> None:
    """ALREADY_ACCEPT from accept to the caller's decision, which this caller never takes."""
    call_id = topics.call_id_from_bytes(b"a call of raw MQ")
    topic = topics.cell(kitchen.client.realm, "invite", "kitchen", "front-door", call_id)
    with Raw(broker.port) as caller:
        assert caller.connect("front-door") == 0
        ringing = Invite(InviteState.RINGING, b"an epoch", 1, ttl=60_000)
        presence = topics.presence(kitchen.client.realm, "front-door")
        caller.publish(presence, codec.encode(Presence(True, b"an epoch")), retain=True)
        caller.publish(topic, codec.encode(ringing), retain=True)
        theirs = kitchen.expect("remote_invitation_received", call_id).invitation
        kitchen.accept(theirs)
        assert theirs.state is RemoteInvitationState.ACCEPT_SENT_TO_LOCAL
        raised(Code.ALREADY_ACCEPT, kitchen.accept, theirs)
        raised(Code.ALREADY_ACCEPT, kitchen.refuse, theirs)
        raised(Code.ALREADY_ACCEPT, setattr, theirs, "response", "late")
        caller.publish(topic, b"", retain=True)
        kitchen.expect("remote_invitation_canceled", call_id)


def test_accepting_what_the_caller_canceled(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    door.cancel(mine)
    kitchen.expect("remote_invitation_canceled", mine.call_id)
    raised(Code.ALREADY_END, kitchen.accept, theirs)


def test_bad_arguments(door: Peer, kitchen: Peer) -> None:
    for callee in ("", "x" * 65, "a\nb", None, 7):
        with pytest.raises(InvalidArgument, match="callee_id"):
            door.create(callee)  # type: ignore[arg-type]  # the point
    with pytest.raises(InvalidArgument, match="call itself"):
        door.create("front-door")
    mine = door.create("kitchen")
    with pytest.raises(InvalidArgument, match="channel_id"):
        mine.channel_id = "ü" * 33
    with pytest.raises(InvalidArgument, match="ring_timeout"):
        door.send(mine, -1)
    assert mine.state is LocalInvitationState.IDLE
    _, theirs = ring(door, kitchen)
    with pytest.raises(InvalidArgument, match="reason"):
        kitchen.refuse(theirs, None, AnswerReason.CALLER_LOST)


# --- before login, after logout --------------------------------------------------------------


def test_before_login(make_peer: MakePeer) -> None:
    """An invitation fails with NOT_LOGGEDIN, as an event; everything else says to log in."""
    door = make_peer("front-door", login=False)
    mine = door.press("kitchen")
    assert (mine.state, mine.error) == (
        LocalInvitationState.FAILURE,
        LocalInvitationError.NOT_LOGGEDIN,
    )
    assert door.wait(mine, 0.5)
    door.login()  # the asyncio face tells its listeners once its loop runs
    told = door.expect("local_invitation_failure", mine.call_id)
    assert told.args[1] is LocalInvitationError.NOT_LOGGEDIN
    raised(Code.ALREADY_END, door.send, mine)


def test_watching_before_login(make_peer: MakePeer) -> None:
    with pytest.raises(ClientClosed, match="login"):
        make_peer("front-door", login=False).watch("kitchen")


def test_after_logout(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    new = door.create("kitchen")
    door.logout()
    kitchen.expect("remote_invitation_canceled", mine.call_id)
    kitchen.logout()
    with pytest.raises(ClientClosed, match="logged out"):
        door.send(new)
    with pytest.raises(ClientClosed, match="logged out"):
        door.login()
    raised(Code.ALREADY_END, door.cancel, mine)
    raised(Code.ALREADY_END, kitchen.accept, theirs)
    door.logout()  # twice is harmless


def test_login_twice(door: Peer) -> None:
    with pytest.raises(ClientClosed, match="logged in already"):
        door.login()


# --- bodies ----------------------------------------------------------------------------------

KINDS: list[Any] = [
    0,
    -(2**63),
    2**64 - 1,
    1.5,
    float("inf"),
    "",
    "grüß dich 🚪",
    b"",
    b"\x00\xff" * 100,
    True,
    False,
    [],
    [1, [2, [3, "x"]]],
    {},
    {"a": 1, "b": [True, None], 3: b"x"},
]


def test_every_kind_of_body_both_ways(door: Peer, kitchen: Peer) -> None:
    for value in KINDS:
        mine, theirs = ring(door, kitchen, value)
        assert (type(theirs.content), theirs.content) == (type(value), value)
        kitchen.accept(theirs, value)
        told = door.expect("local_invitation_accepted", mine.call_id)
        assert (type(told.args[1]), told.args[1]) == (type(value), value)


def test_no_body_is_none(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    assert theirs.content is None
    kitchen.accept(theirs)
    assert door.expect("local_invitation_accepted", mine.call_id).args[1] is None


def test_bodies_of_8_kib_and_one_more(door: Peer, kitchen: Peer) -> None:
    largest, too_large = b"x" * (8192 - 3), b"x" * (8192 - 2)  # three bytes of CBOR head
    mine = door.create("kitchen")
    mine.content = too_large
    raised(Code.INVALID_ARGUMENT, door.send, mine)
    assert mine.state is LocalInvitationState.IDLE
    mine.content = largest
    door.send(mine)  # nothing was changed by the refusal: it can still be sent
    theirs = kitchen.expect("remote_invitation_received", mine.call_id).invitation
    assert theirs.content == largest
    raised(Code.INVALID_ARGUMENT, kitchen.accept, theirs, too_large)
    raised(Code.INVALID_ARGUMENT, kitchen.refuse, theirs, too_large)
    kitchen.accept(theirs, largest)
    assert door.expect("local_invitation_accepted", mine.call_id).args[1] == largest


def test_bodies_that_cannot_be_encoded(door: Peer, kitchen: Peer) -> None:
    for value in (object(), {1, 2}, {(1,): 2}, 2**64, lambda: None):
        mine = door.create("kitchen")
        mine.content = value
        raised(Code.INVALID_ARGUMENT, door.send, mine)
    _, theirs = ring(door, kitchen)
    raised(Code.INVALID_ARGUMENT, kitchen.accept, theirs, object())


def test_response_set_beforehand(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    theirs.response = "in a minute"
    kitchen.accept(theirs)
    assert door.expect("local_invitation_accepted", mine.call_id).args[1] == "in a minute"


def test_channel(door: Peer, kitchen: Peer) -> None:
    mine = door.create("kitchen")
    mine.channel_id = "ü" * 32
    door.send(mine)
    theirs = kitchen.expect("remote_invitation_received", mine.call_id).invitation
    assert theirs.channel_id == "ü" * 32


# --- many calls --------------------------------------------------------------------------------


def test_many_calls_at_once_to_the_same_and_to_several(make_peer: MakePeer) -> None:
    """Each ends as its callee chose, whatever the others do; each side told one end of each."""
    door = make_peer("front-door")
    panels = [make_peer(f"panel-{i}", max_calls_per_caller=20) for i in range(3)]
    calls = [(door.press(panel.peer_id, i), panel, i) for i in range(12) for panel in panels]
    for mine, panel, i in calls:
        theirs = panel.expect("remote_invitation_received", mine.call_id).invitation
        assert theirs.content == i
        if i % 3 == 0:
            panel.accept(theirs, i)
        elif i % 3 == 1:
            panel.refuse(theirs)
    for mine, _, i in calls:
        if i % 3 == 2:
            door.cancel(mine)
    ends = {0: "accepted", 1: "refused", 2: "canceled"}
    for mine, panel, i in calls:
        door.expect(f"local_invitation_{ends[i % 3]}", mine.call_id)
        panel.expect(f"remote_invitation_{ends[i % 3]}", mine.call_id)
        for peer in (door, panel):
            # Behind a bridge a presence may come late, and "offline" be told before it: no end.
            told = [
                n
                for n in peer.names(mine.call_id)
                if n.rpartition("_")[2] in (*ends.values(), "failure")
            ]
            assert len(told) == 1
    assert len({mine.call_id for mine, _, _ in calls}) == 36


def test_both_call_each_other(door: Peer, kitchen: Peer) -> None:
    """Two calls, opposite ways, at the same time: they know nothing of each other."""
    to_kitchen, to_door = door.press("kitchen"), kitchen.press("front-door")
    kitchen.accept(kitchen.expect("remote_invitation_received").invitation)
    door.refuse(door.expect("remote_invitation_received").invitation)
    door.expect("local_invitation_accepted", to_kitchen.call_id)
    kitchen.expect("local_invitation_refused", to_door.call_id)


def test_over_the_cap_of_one_caller_is_busy(make_peer: MakePeer, kitchen: Peer) -> None:
    door = make_peer("front-door")
    calls = [door.press("kitchen") for _ in range(9)]
    door.expect("local_invitation_refused", calls[8].call_id)
    assert str(calls[8].reason) == "busy"
    for call in calls[:8]:  # once the caller's presence was read
        kitchen.expect("remote_invitation_received", call.call_id)
    assert len([n for n in kitchen.names() if n == "remote_invitation_received"]) == 8


def test_looking_up_by_call_id(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    assert door.find(mine.call_id) is mine
    assert kitchen.find(mine.call_id) is theirs
    assert door.find("no-such-call") is None
    kitchen.accept(theirs)
    door.expect("local_invitation_accepted", mine.call_id)
    assert door.find(mine.call_id) is mine  # as long as somebody holds it


# --- waiting ----------------------------------------------------------------------------------


def test_wait(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    assert not door.wait(mine, 0.05)
    kitchen.accept(theirs)
    assert door.wait(mine)
    assert kitchen.wait(theirs)
    assert mine.ended
    assert theirs.ended
    assert door.wait(mine, 0)


def test_call_and_its_outcome(make_peer: MakePeer, kitchen: Peer) -> None:
    clock = OffsetClock()
    door = make_peer("front-door", clock=clock)
    calling = door.start_call("kitchen", "hello", channel_id="c")
    theirs = kitchen.expect("remote_invitation_received").invitation
    assert (theirs.content, theirs.channel_id) == ("hello", "c")
    kitchen.accept(theirs, "hi")
    outcome = calling.result(10)
    assert outcome
    assert outcome.accepted
    assert (outcome.call_id, outcome.peer, outcome.response) == (theirs.call_id, "kitchen", "hi")
    calling = door.start_call("kitchen")
    kitchen.refuse(kitchen.expect("remote_invitation_received", nth=2).invitation)
    outcome = calling.result(10)
    assert not outcome
    assert str(outcome.reason) == "declined"
    calling = door.start_call("kitchen", timeout=30)
    theirs = kitchen.expect("remote_invitation_received", nth=3).invitation
    door.expect("local_invitation_received_by_peer", theirs.call_id)
    clock.ahead += 30
    assert str(calling.result(10).reason) == "expired"


def test_stats(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    kitchen.accept(theirs)
    door.expect("local_invitation_accepted", mine.call_id)
    kitchen.expect("remote_invitation_accepted", mine.call_id)
    at_door, at_kitchen = door.client.stats, kitchen.client.stats
    assert at_door["calls"]["local"] == {"accepted": 1}
    assert at_kitchen["calls"]["remote"] == {"accepted": 1}
    assert (at_door["sent"], at_kitchen["rang"], at_door["connects"]) == (1, 1, 1)
    assert sum(at_door["round_trip_ms"].values()) == 1
