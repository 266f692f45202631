"""What either face allows when: before login, while a call goes on, at its end, after logout.

An illegal call raises with a code, names the call and its state, and changes nothing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from device_sdk import (
    AnswerReason,
    BrokerUnreachable,
    ClientClosed,
    ConnectionState,
    EndReason,
    InvitationApiCallError,
    LocalInvitationError,
    LocalInvitationState,
    Policy,
    RemoteInvitationState,
)
from device_sdk import InvitationApiCallErrorCode as Code
from device_sdk.client.link.base import Will
from device_sdk.testing import MemoryBroker
from tests.peers import PATIENCE, Peer, ring
from tests.unit.conftest import Do, MakePeer

#: What cannot be a body: no CBOR without tags, too long, too deep, no string that can be encoded.
NO_BODIES: list[Any] = [object(), {1}, 2**64, b"x" * 8192, "\ud800", {(1,): 1}]


@pytest.fixture
def door(make_peer: MakePeer) -> Peer:
    return make_peer("front-door")


@pytest.fixture
def kitchen(make_peer: MakePeer) -> Peer:
    return make_peer("kitchen")


def illegal(code: Code, invitation: Any, call: Any, *args: Any) -> Any:
    """It raises with this code, for this call, whose state stays; gives the state it names."""
    before = invitation.state
    with pytest.raises(InvitationApiCallError) as caught:
        call(*args)
    error = caught.value
    assert (error.code, error.call_id) == (code, invitation.call_id)
    assert str(error).startswith(f"{code.name}: ")
    assert invitation.call_id in str(error)
    assert invitation.state is before
    return error.state


# --- before login ------------------------------------------------------------------------------


@pytest.fixture
def stranger(make_peer: MakePeer) -> Peer:
    """A peer that is not logged in."""
    return make_peer("front-door", login=False)


def test_before_login_a_client_knows_nothing(stranger: Peer) -> None:
    """It can be asked all the same."""
    assert stranger.client.connection_state is ConnectionState.DISCONNECTED
    assert stranger.client.stats == {}
    assert stranger.find("no-such-call") is None


def test_before_login_an_invitation_fails_as_an_event(stranger: Peer) -> None:
    """As Agora's does: sending raises nothing, and the end is told."""
    mine = stranger.press("kitchen", "somebody is here")
    assert (mine.state, mine.error, mine.reason, mine.ended) == (
        LocalInvitationState.FAILURE,
        LocalInvitationError.NOT_LOGGEDIN,
        EndReason.NOT_LOGGED_IN,
        True,
    )
    assert stranger.wait(mine, 0)
    told = stranger.expect("local_invitation_failure", mine.call_id)
    assert told.args == (mine, LocalInvitationError.NOT_LOGGEDIN)
    for what in (stranger.send, stranger.cancel):
        assert illegal(Code.ALREADY_END, mine, what, mine) is mine.state
    with pytest.raises(InvitationApiCallError, match="ALREADY_SENT"):
        mine.content = "late"


def test_before_login_call_returns_that_it_failed(stranger: Peer) -> None:
    """The outcome, in a word."""
    outcome = stranger.start_call("kitchen").result(10)
    assert not outcome.accepted
    assert (outcome.peer, outcome.reason) == ("kitchen", EndReason.NOT_LOGGED_IN)


@pytest.mark.parametrize("strategy", ["parallel", "sequential"])
def test_before_login_a_ring_group_ends_at_once(stranger: Peer, do: Do, strategy: str) -> None:
    """Every leg fails, and then the group does."""
    outcome = do(stranger.client.ring, ["kitchen", "bedroom"], strategy=strategy)
    assert not outcome
    assert (outcome.winner, outcome.reason) == (None, EndReason.NOT_LOGGED_IN)
    assert list(outcome.legs) == ["kitchen", "bedroom"]
    group = stranger.expect("ring_group_ended").args[0]
    assert group.ended
    with pytest.raises(InvitationApiCallError, match="ALREADY_END"):
        do(stranger.client.call_manager.cancel_ring, group)


def test_before_login_nobody_can_be_watched(stranger: Peer, do: Do) -> None:
    """It says what to do first."""
    for method in (stranger.client.watch, stranger.client.unwatch):
        with pytest.raises(
            ClientClosed, match=r"front-door is not logged in: call login\(\) first"
        ):
            do(method, "kitchen")


def test_logging_out_before_login_does_nothing(stranger: Peer, kitchen: Peer) -> None:
    """The client may still log in."""
    stranger.logout()
    stranger.login()
    mine = stranger.press("kitchen")
    kitchen.expect("remote_invitation_received", mine.call_id)


# --- logging in --------------------------------------------------------------------------------


def test_a_login_that_fails_may_be_tried_again(make_peer: MakePeer, memory: MemoryBroker) -> None:
    """It raises what the link raised, and leaves the client as it was."""
    faults = [BrokerUnreachable("unknown host", "no such host")] * 2

    def make_link(will: Will) -> Any:
        link = memory(will)
        if faults:
            fault = faults.pop()

            def fail() -> None:
                link.close(clean=True)
                raise fault

            link.open = fail  # type: ignore[method-assign]  # the point
        return link

    peer = make_peer("front-door", make_link, login=False)
    for _ in range(2):
        with pytest.raises(BrokerUnreachable, match="no such host") as caught:
            peer.login()
        assert caught.value.cause == "unknown host"
        assert peer.client.connection_state is ConnectionState.DISCONNECTED
    peer.login()
    assert peer.client.connection_state is ConnectionState.CONNECTED


def test_logging_in_twice_is_refused(door: Peer) -> None:
    """And nothing happens to the login that there is."""
    with pytest.raises(ClientClosed, match="front-door is logged in already"):
        door.login()
    assert door.client.connection_state is ConnectionState.CONNECTED
    assert door.client.stats["connects"] == 1


# --- while a call goes on ----------------------------------------------------------------------


def test_what_was_not_sent_cannot_be_canceled(door: Peer) -> None:
    mine = door.create("kitchen")
    assert illegal(Code.NOT_STARTED, mine, door.cancel, mine) is LocalInvitationState.IDLE


def test_what_was_sent_is_not_sent_again(door: Peer, kitchen: Peer) -> None:
    """Nor changed: its words are on their way."""
    mine, _ = ring(door, kitchen, "somebody is here")
    assert illegal(Code.ALREADY_SENT, mine, door.send, mine) is mine.state
    for name in ("content", "channel_id"):
        assert illegal(Code.ALREADY_SENT, mine, setattr, mine, name, "late") is mine.state
    assert (mine.content, mine.channel_id) == ("somebody is here", None)


@pytest.mark.parametrize("body", NO_BODIES, ids=lambda body: type(body).__name__)
def test_what_cannot_be_said_is_refused_at_once(door: Peer, kitchen: Peer, body: Any) -> None:
    """On sending, accepting and refusing; the call can go on with other words."""
    mine = door.create("kitchen")
    mine.content = body
    assert illegal(Code.INVALID_ARGUMENT, mine, door.send, mine) is LocalInvitationState.IDLE
    mine.content = "words"
    door.send(mine)
    theirs = kitchen.expect("remote_invitation_received", mine.call_id).invitation
    for answer in (kitchen.accept, kitchen.refuse):
        assert illegal(Code.INVALID_ARGUMENT, theirs, answer, theirs, body) is theirs.state
    theirs.response = body
    illegal(Code.INVALID_ARGUMENT, theirs, kitchen.accept, theirs)
    kitchen.accept(theirs, "words")
    assert door.expect("local_invitation_accepted", mine.call_id).args == (mine, "words")


def test_a_ring_group_that_cannot_say_its_words_rings_nobody(
    door: Peer, kitchen: Peer, do: Do
) -> None:
    """Asked before any leg is sent."""
    with pytest.raises(InvitationApiCallError, match="INVALID_ARGUMENT"):
        do(door.client.ring, ["kitchen"], object())
    mine, _ = ring(door, kitchen)
    assert kitchen.names() == ["remote_invitation_received"]
    assert door.names(mine.call_id) == door.names()


@pytest.mark.parametrize("how", ["accept", "refuse", "cancel"])
def test_after_its_end_an_invitation_does_nothing_more(door: Peer, kitchen: Peer, how: str) -> None:
    """However it ended, at both ends."""
    mine, theirs = ring(door, kitchen)
    if how == "cancel":
        door.cancel(mine)
    else:
        getattr(kitchen, how)(theirs)
    assert door.wait(mine)
    assert kitchen.wait(theirs)
    assert mine.ended
    assert theirs.ended
    illegal(Code.ALREADY_END, mine, door.send, mine)
    illegal(Code.ALREADY_END, mine, door.cancel, mine)
    illegal(Code.ALREADY_END, theirs, kitchen.accept, theirs)
    illegal(Code.ALREADY_END, theirs, kitchen.refuse, theirs)
    illegal(Code.ALREADY_END, theirs, setattr, theirs, "response", "late")


def test_all_who_wait_for_an_end_are_let_go(door: Peer, kitchen: Peer) -> None:
    """Whether they began before it or after, and none of them before."""
    mine, theirs = ring(door, kitchen)
    assert not door.wait(mine, 0)
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(door.wait, mine) for _ in range(3)]
        waiting += [pool.submit(kitchen.wait, theirs) for _ in range(3)]
        assert not door.wait(mine, 0.05)
        assert not any(one.done() for one in waiting)
        door.cancel(mine)
        assert all(one.result() for one in waiting)
    assert door.wait(mine, 0)
    assert kitchen.wait(theirs, 0)


def test_an_invitation_shows_at_once_what_the_app_has_decided(door: Peer, kitchen: Peer) -> None:
    """Before anybody else knows of it."""
    mine, theirs = ring(door, kitchen)
    kitchen.accept(theirs, "coming")
    assert theirs.state in (
        RemoteInvitationState.ACCEPT_SENT_TO_LOCAL,
        RemoteInvitationState.ACCEPTED,
    )
    assert theirs.response == "coming"
    mine, theirs = ring(door, kitchen)
    door.cancel(mine)
    assert mine.state is LocalInvitationState.CANCELED


def test_a_call_is_found_while_it_goes_on_and_as_long_as_somebody_holds_it(
    door: Peer, kitchen: Peer
) -> None:
    """The same object, not one like it."""
    mine, theirs = ring(door, kitchen)
    assert door.find(mine.call_id) is mine
    assert kitchen.find(mine.call_id) is theirs
    kitchen.refuse(theirs)
    assert door.wait(mine)
    assert door.find(mine.call_id) is mine
    assert door.find(door.create("kitchen").call_id) is None, "it was not sent"


def test_a_ring_group_has_one_winner_and_ends_once(
    door: Peer, kitchen: Peer, make_peer: MakePeer, do: Do
) -> None:
    """The other leg is answered elsewhere; there is nothing left to cancel."""
    bedroom = make_peer("bedroom")
    group = do(door.client.call_manager.ring, ["kitchen", "bedroom"], "somebody is here")
    assert not group.ended
    theirs = kitchen.expect("remote_invitation_received").invitation
    bedroom.expect("remote_invitation_received")
    kitchen.accept(theirs, "coming")
    assert door.expect("ring_group_ended").args == (group,)
    assert (group.winner, group.outcome.response) == ("kitchen", "coming")
    assert group.outcome.legs["bedroom"].reason is EndReason.ANSWERED_ELSEWHERE
    assert bedroom.expect("remote_invitation_canceled").args[0].reason == "answered elsewhere"
    with pytest.raises(InvitationApiCallError, match="ALREADY_END: the ring group has ended"):
        do(door.client.call_manager.cancel_ring, group)


def test_a_canceled_ring_group_rings_nobody_any_more(
    door: Peer, kitchen: Peer, make_peer: MakePeer, do: Do
) -> None:
    """Not the next in a sequence either."""
    bedroom = make_peer("bedroom")
    manager = door.client.call_manager
    group = do(manager.ring, ["kitchen", "bedroom"], strategy="sequential")
    kitchen.expect("remote_invitation_received")
    do(manager.cancel_ring, group)
    door.expect("ring_group_ended")
    kitchen.expect("remote_invitation_canceled")
    assert (group.outcome.canceled, group.outcome.reason) == (True, EndReason.CANCELED)
    assert list(group.legs) == ["kitchen"]
    bedroom.logout()
    assert bedroom.names() == []


# --- how a peer takes calls --------------------------------------------------------------------


def test_busy_and_free(door: Peer, kitchen: Peer, do: Do) -> None:
    """Refused without ringing, and told as missed; then as before."""
    do(kitchen.client.busy)
    mine = door.press("kitchen")
    door.expect("local_invitation_refused", mine.call_id)
    assert mine.reason is EndReason.BUSY
    assert kitchen.expect("missed_call").args[0].call_id == mine.call_id
    do(kitchen.client.free)
    ring(door, kitchen)
    assert kitchen.names() == ["missed_call", "remote_invitation_received"]


def test_a_policy_may_be_changed_while_it_is_logged_in(door: Peer, kitchen: Peer, do: Do) -> None:
    """What rings already rings on."""
    first, theirs = ring(door, kitchen)
    do(kitchen.client.set_policy, Policy.make(do_not_disturb=True))
    second = door.press("kitchen")
    door.expect("local_invitation_refused", second.call_id)
    assert second.reason is EndReason.DO_NOT_DISTURB
    kitchen.accept(theirs)
    door.expect("local_invitation_accepted", first.call_id)


# --- after logout ------------------------------------------------------------------------------


def test_after_logout_a_client_is_done(door: Peer, kitchen: Peer, do: Do) -> None:
    """Every call says so, and what to do; nothing else happens."""
    mine, _ = ring(door, kitchen)
    new = door.create("kitchen")
    door.logout()
    assert door.client.connection_state is ConnectionState.DISCONNECTED
    said = r"front-door is logged out; make a new client"
    for call in (
        door.login,
        lambda: door.send(new),
        lambda: door.watch("kitchen"),
        lambda: do(door.client.unwatch, "kitchen"),
        lambda: do(door.client.ring, ["kitchen"]),
        lambda: door.start_call("kitchen").result(10),
    ):
        with pytest.raises(ClientClosed, match=said):
            call()
    assert new.state is LocalInvitationState.IDLE
    assert (mine.state, mine.ended) == (LocalInvitationState.CANCELED, True)
    illegal(Code.ALREADY_END, mine, door.cancel, mine)
    kitchen.expect("remote_invitation_canceled", mine.call_id)
    door.logout()  # twice is harmless


def test_what_a_newer_login_ends_says_so(make_peer: MakePeer) -> None:
    """Rather than that it was logged out, which it was not."""
    older = make_peer("kitchen")
    newer, door = make_peer("kitchen"), make_peer("front-door")
    older.expect_state("ABORTED")
    assert older.client.connection_state is ConnectionState.ABORTED
    for call in (older.login, lambda: older.press("front-door")):
        with pytest.raises(ClientClosed, match="a newer login of kitchen took over"):
            call()
    mine = door.press("kitchen")
    newer.expect("remote_invitation_received", mine.call_id)


# --- what an invitation can do by itself --------------------------------------------------------


@pytest.mark.parametrize("way", ["accept", "refuse", "cancel"])
def test_an_invitation_has_the_methods_of_its_end(
    door: Peer, kitchen: Peer, do: Do, way: str
) -> None:
    """The same on both kinds of client: accept, refuse, cancel, and a wait that gives in."""
    mine, theirs = ring(door, kitchen)
    assert not do(mine.wait, 0.01)
    assert not do(theirs.wait, timeout=0.01)
    if way == "accept":
        do(theirs.accept, "coming")
    elif way == "refuse":
        do(theirs.refuse, "not now", AnswerReason.BUSY)
    else:
        do(mine.cancel)
    assert do(mine.wait, PATIENCE)
    assert do(theirs.wait)
    assert do(mine.wait, 0)
    assert bool(mine.outcome) is (way == "accept")
    assert mine.outcome.response == {"accept": "coming", "refuse": "not now"}.get(way)
    for end in (theirs.accept, theirs.refuse, mine.cancel):
        with pytest.raises(InvitationApiCallError):
            do(end)


def test_a_ring_group_is_waited_for_alike(door: Peer, kitchen: Peer, do: Do) -> None:
    group = do(door.client.call_manager.ring, ["kitchen"])
    theirs = kitchen.expect("remote_invitation_received").invitation
    assert not do(group.wait, 0.01)
    do(theirs.accept)
    assert do(group.wait, PATIENCE)
    assert group.outcome.winner == "kitchen"


# --- nobody there -------------------------------------------------------------------------------


def test_a_callee_that_is_offline_is_told_at_once(
    door: Peer, kitchen: Peer, make_peer: MakePeer
) -> None:
    """Long before the call fails; it rings all the same when the callee comes back, once told."""
    kitchen.logout()
    mine = door.press("kitchen", "somebody is here")
    assert door.expect("local_invitation_peer_offline", mine.call_id).args == (mine,)
    assert mine.state is LocalInvitationState.SENT_TO_REMOTE
    again = make_peer("kitchen")
    again.expect("remote_invitation_received", mine.call_id)
    door.expect("local_invitation_received_by_peer", mine.call_id)
    assert door.names(mine.call_id).count("local_invitation_peer_offline") == 1
    door.cancel(mine)


def test_a_callee_that_never_was_there_is_told_soon(door: Peer) -> None:
    """The broker says nothing of it: then there is nobody, and the call says so at its end."""
    mine = door.press("nobody", ring_timeout=5)
    door.expect("local_invitation_peer_offline", mine.call_id, timeout=4.9)
    assert door.wait(mine)
    assert (mine.error, mine.reason) == (LocalInvitationError.PEER_OFFLINE, EndReason.PEER_OFFLINE)


def test_a_callee_that_rings_is_not_told_offline(door: Peer, kitchen: Peer) -> None:
    mine, theirs = ring(door, kitchen)
    kitchen.refuse(theirs)
    assert door.wait(mine)
    assert "local_invitation_peer_offline" not in door.names(mine.call_id)


def test_a_policy_of_one_call_at_a_time_is_busy_until_the_app_is_free(
    door: Peer, make_peer: MakePeer
) -> None:
    """Only the app knows when the talk is over that a call began."""
    kitchen = make_peer("kitchen", policy=Policy(busy_when_ringing=True))
    _, theirs = ring(door, kitchen)
    kitchen.accept(theirs)
    kitchen.expect("remote_invitation_accepted")
    for _ in range(2):
        refused = door.press("kitchen")
        assert door.wait(refused)
        assert refused.reason is EndReason.BUSY
    kitchen.client.free()
    ring(door, kitchen)
    kitchen.client.busy()
    refused = door.press("kitchen")
    assert door.wait(refused)
    assert refused.reason is EndReason.BUSY
