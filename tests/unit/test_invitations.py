"""Invitations, events and outcomes as an application holds them: what may be set, and what is told.

How an invitation goes on is told over both faces in ``test_faces``.
"""

from __future__ import annotations

from typing import Any

import pytest

from device_sdk.client.invitations import (
    Event,
    LocalInvitationBase,
    MissedCall,
    Outcome,
    RemoteInvitationBase,
)
from device_sdk.core.callee import CalleeCall
from device_sdk.core.events import Name
from device_sdk.core.wire import codec, keys
from device_sdk.core.wire.cells import Offer
from device_sdk.errors import InvalidArgument, InvitationApiCallError
from device_sdk.states import (
    EndReason,
    InvitationApiCallErrorCode,
    LocalInvitationError,
    LocalInvitationState,
    RemoteInvitationError,
    RemoteInvitationState,
)

CALL = "AAAAAAAAAAAAAAAAAAAAAA"


def local() -> LocalInvitationBase:
    return LocalInvitationBase("kitchen", CALL)


def remote(**more: Any) -> RemoteInvitationBase:
    """One that rings, unless told otherwise."""
    more.setdefault("state", RemoteInvitationState.INVITATION_RECEIVED)
    return RemoteInvitationBase(CalleeCall(CALL, "front-door", **more))


# --- the caller's end --------------------------------------------------------------------------


def test_a_new_invitation_is_idle_and_says_nothing() -> None:
    """It knows whom it is for and its call id, and nothing else."""
    mine = local()
    assert (mine.callee_id, mine.call_id, mine.group) == ("kitchen", CALL, None)
    assert mine.state is LocalInvitationState.IDLE
    assert mine.error is LocalInvitationError.OK
    assert (mine.reason, mine.response, mine.content, mine.channel_id) == (None,) * 4
    assert not mine.ended


def test_a_leg_knows_its_group() -> None:
    """So that who holds the group finds its legs."""
    assert LocalInvitationBase("kitchen", CALL, b"group").group == b"group"


@pytest.mark.parametrize("value", ["words", b"\0", {"a": [1, None]}, 0, None, object()])
def test_content_is_kept_as_it_was_set(value: Any) -> None:
    """Whether it can be said is asked when it is sent; until then it may be changed."""
    mine = local()
    mine.content = "something else"
    mine.content = value
    assert mine.content is value


@pytest.mark.parametrize("value", ["", "a" * keys.MAX_CHANNEL, "ü" * 32, None])
def test_a_channel_is_a_short_string_or_none(value: str | None) -> None:
    """64 bytes of UTF-8 at most."""
    mine = local()
    mine.channel_id = value
    assert mine.channel_id == value


@pytest.mark.parametrize("value", ["a" * (keys.MAX_CHANNEL + 1), "ü" * 33, b"bytes", 7, ["a"]])
def test_what_no_channel_can_be_is_named_and_changes_nothing(value: Any) -> None:
    """Bytes are counted, not characters."""
    mine = local()
    mine.channel_id = "before"
    with pytest.raises(InvalidArgument, match="channel_id") as caught:
        mine.channel_id = value
    assert caught.value.argument == "channel_id"
    assert mine.channel_id == "before"


@pytest.mark.parametrize("name", ["state", "error", "reason", "response", "ended"])
def test_what_the_call_decides_cannot_be_set(name: str) -> None:
    """An attribute that is set by mistake would be believed."""
    with pytest.raises(AttributeError):
        setattr(local(), name, None)


def test_a_local_invitation_shows_itself_in_a_log() -> None:
    """Which call, to whom, and where it is."""
    assert repr(local()) == f"<LocalInvitation {CALL} to 'kitchen' IDLE>"


# --- the callee's end --------------------------------------------------------------------------


def test_a_remote_invitation_shows_what_the_caller_said() -> None:
    """The body decoded, the rest as it came."""
    theirs = remote(offer=Offer(codec.encode_body({"who": "a parcel"}), "hall", b"g" * 16, 1700))
    assert (theirs.caller_id, theirs.call_id) == ("front-door", CALL)
    assert theirs.content == {"who": "a parcel"}
    assert (theirs.channel_id, theirs.group, theirs.time) == ("hall", b"g" * 16, 1700)
    assert theirs.state is RemoteInvitationState.INVITATION_RECEIVED
    assert (theirs.error, theirs.reason) == (RemoteInvitationError.OK, None)
    assert not theirs.ended


def test_a_remote_invitation_without_words_has_none() -> None:
    """A caller need not say anything; an encoded None is None as well."""
    assert remote().content is None
    assert remote(offer=Offer(codec.encode_body(None))).content is None
    assert (remote().channel_id, remote().group, remote().time) == (None, None, None)


def test_a_response_can_be_set_while_it_rings() -> None:
    """And changed."""
    theirs = remote()
    assert theirs.response is None
    theirs.response = "in a minute"
    theirs.response = ["or", 2]
    assert theirs.response == ["or", 2]


@pytest.mark.parametrize(
    "state", [s for s in RemoteInvitationState if s.name != "INVITATION_RECEIVED"]
)
def test_a_response_cannot_be_set_once_it_is_answered(state: RemoteInvitationState) -> None:
    """The error names the call and the state it is in; the response stays."""
    theirs = remote(state=state)
    with pytest.raises(InvitationApiCallError, match="until the invitation is answered") as caught:
        theirs.response = "late"
    assert (caught.value.call_id, caught.value.state) == (CALL, state)
    assert caught.value.code.name == "ALREADY_ACCEPT"
    assert theirs.response is None


@pytest.mark.parametrize("name", ["state", "error", "reason", "ended"])
def test_what_the_caller_decides_cannot_be_set(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(remote(), name, None)


def test_a_failed_one_says_why() -> None:
    """State, error and reason are those of the call."""
    theirs = remote(
        state=RemoteInvitationState.FAILURE,
        error=RemoteInvitationError.INVITATION_EXPIRE,
        reason=EndReason.EXPIRED,
    )
    assert theirs.error is RemoteInvitationError.INVITATION_EXPIRE
    assert theirs.reason is EndReason.EXPIRED


def test_a_remote_invitation_shows_itself_in_a_log() -> None:
    """Which call, from whom, and where it is."""
    assert repr(remote()) == f"<RemoteInvitation {CALL} from 'front-door' INVITATION_RECEIVED>"


# --- outcomes and events -----------------------------------------------------------------------


@pytest.mark.parametrize("state", LocalInvitationState)
def test_an_outcome_is_true_if_it_was_accepted(state: LocalInvitationState) -> None:
    """``if client.call(…):`` does what it says, though an outcome has fields."""
    outcome = Outcome(CALL, "kitchen", state, None, LocalInvitationError.OK)
    accepted = state is LocalInvitationState.ACCEPTED_BY_REMOTE
    assert (bool(outcome), outcome.accepted) == (accepted, accepted)


def test_an_outcome_is_what_the_invitation_says() -> None:
    """Call, peer, state, reason, error and response."""
    mine = local()
    assert mine.outcome == Outcome(
        CALL, "kitchen", LocalInvitationState.IDLE, None, LocalInvitationError.OK, None
    )


def test_a_missed_call_knows_at_least_who_called() -> None:
    """What the caller did not tell is None."""
    missed = MissedCall("front-door", CALL, EndReason.CANCELED)
    assert (missed.caller_id, missed.call_id, missed.reason) == ("front-door", CALL, "canceled")
    assert (missed.time, missed.content, missed.channel_id) == (None, None, None)


def test_an_event_needs_no_more_than_its_name_and_what_the_listener_gets() -> None:
    """All else is None, or an empty string where it is always one."""
    event = Event(Name.PRESENCE_CHANGED, ("kitchen", True))
    assert (event.name, event.args) == ("presence_changed", ("kitchen", True))
    assert (event.peer, event.call_id, event.detail) == ("", "", "")
    rest = (event.invitation, event.missed, event.state, event.reason, event.error)
    assert rest == (None,) * 5
    assert (event.response, event.content) == (None, None)


def test_an_error_names_the_state_even_if_that_is_the_first() -> None:
    error = InvitationApiCallError(
        InvitationApiCallErrorCode.NOT_STARTED, "it was not sent yet",
        call_id="abc", state=LocalInvitationState.IDLE,
    )  # fmt: skip
    assert str(error) == "NOT_STARTED: it was not sent yet (call abc, IDLE)"
