"""The callee's table, entry by entry, and the record that it moves."""

from __future__ import annotations

import pytest

from device_sdk.core import callee
from device_sdk.core.callee import CalleeCall, On, Phase
from device_sdk.core.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    EndedReason,
    Invite,
    InviteState,
    Offer,
)
from device_sdk.states import EndReason
from device_sdk.states import RemoteInvitationError as Error
from device_sdk.states import RemoteInvitationState as State

EPOCH, CALLER = b"callee01", b"caller01"
CALL = CalleeCall("id", "door", epoch=CALLER, ring_at=62.0, seq=3)
RINGING = Invite(InviteState.RINGING, CALLER, 1, 60_000, b"\x01", "c", None, b"g" * 16, 9)

# Next phase for each phase (columns) and input (rows); "." is illegal, "=" stays.
MATRIX = """
                 NEW       PROBING   SCREENING RINGING   ACCEPTING OVER     CLEARING   REMEMBERED GONE TALKING
RINGING          RINGING   RINGING   =         =         =         =        OVER       OVER       .    =
RINGING_RETAINED PROBING   =         PROBING   =         =         =        OVER       OVER       .    =
ACCEPTED         OVER      OVER      OVER      OVER      OVER      =        OVER       OVER       .    OVER
ENDED            OVER      OVER      OVER      OVER      OVER      =        OVER       OVER       .    OVER
TALKS            OVER      OVER      OVER      OVER      TALKING   =        OVER       OVER       .    =
TALK_OVER        OVER      OVER      OVER      OVER      .         =        OVER       OVER       .    OVER
CLEARED          .         CLEARING  CLEARING  CLEARING  CLEARING  CLEARING =          =          .    CLEARING
ACCEPT           .         .         .         ACCEPTING .         .        .          .          .    .
REFUSE           .         .         .         OVER      .         .        .          .          .    .
LOGOUT           .         GONE      GONE      GONE      OVER      =        =          =          .    .
SCREEN           SCREENING SCREENING .         .         .         .        .          .          .    .
ADMIT            .         .         RINGING   .         .         .        .          .          .    .
TURN_AWAY        OVER      OVER      OVER      .         .         .        .          .          .    .
OVERLOAD         OVER      OVER      OVER       .         .         .        .          .          .    .
DROP             .         .         GONE      .         .         .        .          .          .    .
RING_EXPIRED     .         .         OVER      OVER      .         .        .          .          .    .
ACCEPT_TIMEOUT   .         .         .         .         OVER      .        .          .          .    .
RESEND           .         =         .         =         =         =        .          .          .    =
KEEP_EXPIRED     .         OVER      .         .         .         CLEARING .          .          .    .
FORGET           .         .         .         .         .         .        .          GONE       .    .
CALLER_REPLACED  .         .         OVER      OVER      .         .        .          .          .    .
CALLER_ALIVE     .         RINGING   .         .         .         .        .          .          .    .
HANG_UP          .         .         .         .         .         .        .          .          .    OVER
NOT_TAKEN        .         GONE      GONE      GONE      OVER      GONE     GONE       .          .    .
CLEAR_ACKED      .         .         .         .         .         .        REMEMBERED .          .    .
"""  # noqa: E501 - a table
_COPIES = ("RINGING", "RINGING_RETAINED", "ACCEPTED", "ENDED", "TALKS", "TALK_OVER")
ACTIONS: dict[tuple[str, str], str] = {
    **{(p, "RINGING"): "SAY EXTEND TELL_RECEIVED" for p in ("NEW", "PROBING")},
    **{(p, "RINGING_RETAINED"): "ASK" for p in ("NEW", "PROBING", "SCREENING", "RINGING")},
    **{
        (p, on): "SAY"
        for p in ("NEW", "PROBING", "SCREENING")
        for on in ("ACCEPTED", "TALKS", "TALK_OVER")
    },
    **{("RINGING", on): "SAY TELL_FAILURE" for on in ("TALKS", "TALK_OVER")},
    ("ACCEPTING", "TALKS"): "SAY TELL_ACCEPTED TELL_TALK_STARTED",
    **{
        ("TALKING", on): "SAY TELL_TALK_ENDED"
        for on in ("ACCEPTED", "ENDED", "TALK_OVER", "HANG_UP")
    },
    ("TALKING", "CLEARED"): "CLEAR TELL_TALK_ENDED",
    ("TALKING", "RESEND"): "SAY",
    **{(p, "ENDED"): "SAY TELL_MISSED" for p in ("NEW", "PROBING", "SCREENING")},
    **{(p, "TURN_AWAY"): "SAY TELL_MISSED" for p in ("NEW", "PROBING", "SCREENING")},
    **{(p, "SCREEN"): "EXTEND" for p in ("NEW", "PROBING")},
    ("SCREENING", "RINGING"): "EXTEND",
    ("SCREENING", "CLEARED"): "CLEAR",
    ("SCREENING", "ADMIT"): "SAY TELL_RECEIVED",
    ("SCREENING", "RING_EXPIRED"): "SAY TELL_MISSED",
    ("SCREENING", "CALLER_REPLACED"): "SAY TELL_MISSED",
    ("NEW", "OVERLOAD"): "SAY",
    ("PROBING", "OVERLOAD"): "SAY",
    ("SCREENING", "OVERLOAD"): "SAY",
    ("PROBING", "CLEARED"): "CLEAR",
    ("PROBING", "CALLER_ALIVE"): "TELL_RECEIVED",
    ("PROBING", "RESEND"): "ASK",
    ("PROBING", "KEEP_EXPIRED"): "SAY TELL_MISSED",
    ("RINGING", "RINGING"): "SAY EXTEND",
    ("RINGING", "RESEND"): "ASK",
    ("RINGING", "ACCEPTED"): "SAY TELL_FAILURE",
    ("RINGING", "ENDED"): "SAY TELL_ENDED",
    ("RINGING", "CLEARED"): "CLEAR TELL_CANCELED",
    ("RINGING", "ACCEPT"): "SAY",
    ("RINGING", "REFUSE"): "SAY TELL_REFUSED",
    ("RINGING", "RING_EXPIRED"): "SAY TELL_FAILURE",
    ("RINGING", "CALLER_REPLACED"): "SAY TELL_FAILURE",
    ("RINGING", "LOGOUT"): "TELL_FAILURE",
    ("RINGING", "NOT_TAKEN"): "TELL_FAILURE",
    ("ACCEPTING", "NOT_TAKEN"): "SAY TELL_FAILURE",
    ("ACCEPTING", "RINGING"): "SAY",
    ("ACCEPTING", "RINGING_RETAINED"): "SAY",
    ("ACCEPTING", "ACCEPTED"): "SAY TELL_ACCEPTED",
    ("ACCEPTING", "ENDED"): "SAY TELL_ENDED",
    ("ACCEPTING", "CLEARED"): "CLEAR TELL_CANCELED",
    ("ACCEPTING", "ACCEPT_TIMEOUT"): "SAY TELL_FAILURE",
    ("ACCEPTING", "RESEND"): "SAY",
    ("ACCEPTING", "LOGOUT"): "SAY TELL_FAILURE",
    **{(p, on): "SAY" for p in ("OVER", "CLEARING", "REMEMBERED") for on in _COPIES},
    ("OVER", "RESEND"): "SAY",
    ("OVER", "CLEARED"): "CLEAR",
    ("OVER", "KEEP_EXPIRED"): "CLEAR",
    ("REMEMBERED", "CLEARED"): "CLEAR",
}


def matrix(text: str) -> list[tuple[str, str, str]]:
    """The cells of a matrix as (phase, input, next)."""
    head, *rows = text.strip().splitlines()
    phases = head.split()
    return [(p, r.split()[0], n) for r in rows for p, n in zip(phases, r.split()[1:], strict=True)]


@pytest.mark.parametrize(("phase", "on", "then"), matrix(MATRIX))
def test_the_table(phase: str, on: str, then: str) -> None:
    """Every phase and input: where it leads and what is done, or that there is no entry."""
    row = callee.TABLE.get(Phase[phase], {})
    if then == ".":
        assert On[on] not in row
        with pytest.raises(KeyError):
            callee.step(CALL._replace(phase=Phase[phase]), On[on])
        return
    after, todo = row[On[on]]
    assert after.name == (phase if then == "=" else then)
    assert " ".join(do.name for do in todo) == ACTIONS.get((phase, on), "")


def test_the_matrix_here_is_whole() -> None:
    """No phase and no input of the table is missing above."""
    cells = matrix(MATRIX)
    assert {p for p, _, _ in cells} == {p.name for p in Phase}
    assert {on for _, on, _ in cells} == {on.name for on in On}


@pytest.mark.parametrize(
    ("phase", "on", "answer", "number", "state", "error", "reason"),
    [
        ("ACCEPTING", "ACCEPTED", "SEEN", None, "ACCEPTED", "OK", "ACCEPTED"),
        ("ACCEPTING", "ACCEPT_TIMEOUT", "FAILED", 4, "FAILURE", "ACCEPT_FAILURE", "ACCEPT_FAILURE"),
        ("ACCEPTING", "LOGOUT", "FAILED", 4, "FAILURE", "ACCEPT_FAILURE", "LOGGED_OUT"),
        ("RINGING", "CALLER_REPLACED", "FAILED", 6, "FAILURE", "PEER_OFFLINE", "CALLER_LOST"),
        ("RINGING", "RING_EXPIRED", "FAILED", 5, "FAILURE", "INVITATION_EXPIRE", "CALLEE_EXPIRED"),
        ("RINGING", "NOT_TAKEN", "FAILED", 4, "FAILURE", "ACCEPT_FAILURE", "NOT_ALLOWED"),
        ("ACCEPTING", "NOT_TAKEN", "FAILED", 4, "FAILURE", "ACCEPT_FAILURE", "NOT_ALLOWED"),
        ("RINGING", "ACCEPTED", "FAILED", 4, "FAILURE", "ACCEPT_FAILURE", "ACCEPT_FAILURE"),
        ("NEW", "ACCEPTED", "FAILED", 4, "FAILURE", "ACCEPT_FAILURE", "ACCEPT_FAILURE"),
        ("PROBING", "ACCEPTED", "FAILED", 4, "FAILURE", "ACCEPT_FAILURE", "ACCEPT_FAILURE"),
        ("PROBING", "KEEP_EXPIRED", "FAILED", 5, "FAILURE", "INVITATION_EXPIRE", "CALLEE_EXPIRED"),
        ("RINGING", "REFUSE", "REFUSED", 1, "REFUSED", "OK", "DECLINED"),
        ("NEW", "OVERLOAD", "REFUSED", 1, "REFUSED", "OK", "DECLINED"),
        ("NEW", "TURN_AWAY", "REFUSED", 1, "REFUSED", "OK", "DECLINED"),
        ("PROBING", "TURN_AWAY", "REFUSED", 1, "REFUSED", "OK", "DECLINED"),
        ("RINGING", "CLEARED", "SEEN", None, "CANCELED", "OK", "CANCELED"),
        ("ACCEPTING", "CLEARED", "SEEN", None, "CANCELED", "OK", "CANCELED"),
        ("RINGING", "LOGOUT", "RECEIVED", None, "FAILURE", "INVITATION_EXPIRE", "LOGGED_OUT"),
    ],
)
def test_what_each_end_says_and_shows(
    phase: str, on: str, answer: str, number: int | None, state: str, error: str, reason: str
) -> None:
    """The answer and its reason on the wire; state, error and word for the app; no timer left."""
    call, _ = callee.step(CALL._replace(phase=Phase[phase]), On[on])
    assert (call.answer.name, call.answer_reason) == (answer, number)
    assert (call.state.name, call.error.name, call.reason and call.reason.name) == (
        state,
        error,
        reason,
    )
    assert call.due is None


@pytest.mark.parametrize("phase", ["NEW", "PROBING", "RINGING", "ACCEPTING"])
@pytest.mark.parametrize(
    ("number", "state", "error", "reason"),
    [
        (1, State.CANCELED, Error.OK, EndReason.CANCELED),
        (2, State.CANCELED, Error.OK, EndReason.ANSWERED_ELSEWHERE),
        (3, State.FAILURE, Error.INVITATION_EXPIRE, EndReason.EXPIRED),
        (4, State.FAILURE, Error.INVITATION_EXPIRE, EndReason.PEER_OFFLINE),
        (5, State.FAILURE, Error.INVITATION_EXPIRE, EndReason.NO_RESPONSE),
        (6, State.FAILURE, Error.PEER_OFFLINE, EndReason.CALLER_RESTARTED),
        (77, State.FAILURE, Error.INVITATION_EXPIRE, EndReason.EXPIRED),
        (None, State.FAILURE, Error.INVITATION_EXPIRE, EndReason.EXPIRED),
    ],
)
def test_how_the_callers_end_shows(
    phase: str, number: int | None, state: State, error: Error, reason: EndReason
) -> None:
    """Rule 5, in every phase, whatever was pressed here; the answer is *seen* without a body."""
    before = CALL._replace(phase=Phase[phase], response=b"\x61x")
    call, _ = callee.step(before, On.ENDED, Invite(InviteState.ENDED, CALLER, 2, reason=number))
    assert (call.state, call.error, call.reason) == (state, error, reason)
    assert (call.answer, call.answer_reason, call.response) == (AnswerState.SEEN, None, None)


def test_ringing_takes_over_what_the_invite_says() -> None:
    """Content, channel, group, time and the caller's epoch."""
    call, _ = callee.step(callee.new("id", "door", RINGING), On.RINGING, RINGING)
    assert (call.state, call.epoch) == (State.INVITATION_RECEIVED, CALLER)
    assert call.offer == Offer(b"\x01", "c", b"g" * 16, 9)


def test_a_later_copy_without_content_takes_nothing_away() -> None:
    """What a retained copy said stays where the live one or the end is silent."""
    probing, _ = callee.step(callee.new("id", "door", RINGING), On.RINGING_RETAINED, RINGING)
    bare = Invite(InviteState.ENDED, CALLER, 2, reason=EndedReason.CANCELED)
    call, _ = callee.step(probing, On.ENDED, bare)
    assert call.offer == Offer(b"\x01", "c", b"g" * 16, 9)


def test_a_ringing_call_keeps_its_content_but_learns_a_new_epoch() -> None:
    """What rings is what was shown; the epoch decides about presence only."""
    other = RINGING._replace(content=b"\x02", epoch=b"caller02")
    ringing = CALL._replace(phase=Phase.RINGING, offer=Offer(b"\x01"))
    call, _ = callee.step(ringing, On.RINGING, other)
    assert (call.offer.content, call.epoch) == (b"\x01", b"caller02")


def test_accepting_carries_the_response_and_stops_the_ringing() -> None:
    """ACCEPT_SENT_TO_LOCAL; nothing expires any more but the accept itself."""
    call, _ = callee.step(CALL._replace(phase=Phase.RINGING), On.ACCEPT, response=b"\x61x")
    assert (call.state, call.answer, call.response) == (
        State.ACCEPT_SENT_TO_LOCAL,
        AnswerState.ACCEPTED,
        b"\x61x",
    )
    assert call.ring_at is None


@pytest.mark.parametrize(
    ("refusal", "word"),
    [(AnswerReason.DECLINED, EndReason.DECLINED), (AnswerReason.BUSY, EndReason.BUSY),
     (AnswerReason.DO_NOT_DISTURB, EndReason.DO_NOT_DISTURB)],
)  # fmt: skip
@pytest.mark.parametrize(
    ("phase", "on"),
    [("RINGING", "REFUSE"), ("NEW", "TURN_AWAY"), ("NEW", "OVERLOAD"), ("PROBING", "OVERLOAD")],
)
def test_a_refusal_says_why(phase: str, on: str, refusal: AnswerReason, word: EndReason) -> None:
    """Declined, busy or do not disturb, by the app or by a policy."""
    call, _ = callee.step(CALL._replace(phase=Phase[phase]), On[on], RINGING, refusal, b"\x61x")
    assert (call.answer_reason, call.reason) == (refusal, word)
    assert call.response == (b"\x61x" if on == "REFUSE" else None)


@pytest.mark.parametrize("phase", ["OVER", "CLEARING", "REMEMBERED"])
@pytest.mark.parametrize("on", ["RINGING", "RINGING_RETAINED", "ACCEPTED", "ENDED"])
def test_what_is_over_stays_what_it_was(phase: str, on: str) -> None:
    """A late copy, whatever it says, gets the final answer again and changes nothing."""
    over = CALL._replace(
        phase=Phase[phase],
        answer=AnswerState.REFUSED,
        answer_reason=AnswerReason.BUSY,
        state=State.REFUSED,
        reason=EndReason.BUSY,
    )
    call, _ = callee.step(over, On[on], RINGING)
    assert call.cell(EPOCH) == over.cell(EPOCH)
    assert (call.phase, call.state, call.reason) == (Phase.OVER, State.REFUSED, EndReason.BUSY)


@pytest.mark.parametrize(
    ("invite", "retained", "on"),
    [
        (RINGING, False, On.RINGING),
        (RINGING, True, On.RINGING_RETAINED),
        (RINGING._replace(ttl=0), False, On.RINGING_RETAINED),
        (Invite(InviteState.ACCEPTED, CALLER, 1), True, On.ACCEPTED),
        (Invite(InviteState.ACCEPTED, CALLER, 1), False, On.ACCEPTED),
        (Invite(InviteState.ENDED, CALLER, 1), True, On.ENDED),
        (None, False, On.CLEARED),
        (None, True, On.CLEARED),
    ],
)
def test_how_an_invite_is_heard(invite: Invite | None, retained: bool, on: On) -> None:
    """Only a live ringing with time left can ring."""
    assert callee.heard(invite, retained=retained) is on


@pytest.mark.parametrize("state", AnswerState)
def test_found_answers_of_a_former_life(state: AnswerState) -> None:
    """A final one stands as it was, accepted goes on to failed, received is asked about."""
    call = callee.found("id", "door", Answer(state, b"former00", 7, b"\x61x", 2))
    assert call.seq == 7
    if state in (AnswerState.TALKING, AnswerState.OVER):
        assert (call.phase, call.answer) == (Phase.OVER, AnswerState.OVER)
        assert call.talk.reason == (
            EndReason.RESTARTED if state is AnswerState.TALKING else EndReason.HUNG_UP
        )
    elif state.final:
        assert (call.phase, call.answer, call.answer_reason, call.response) == (
            Phase.OVER,
            state,
            AnswerReason.BUSY,
            b"\x61x",
        )
    elif state is AnswerState.ACCEPTED:
        assert (call.phase, call.answer, call.answer_reason, call.response) == (
            Phase.OVER,
            AnswerState.FAILED,
            AnswerReason.ACCEPT_FAILURE,
            None,
        )
    else:
        assert (call.phase, call.answer, call.response) == (
            Phase.PROBING,
            AnswerState.RECEIVED,
            None,
        )


def test_found_reasons_of_a_later_version_are_left_out() -> None:
    """A number nobody here knows is not repeated."""
    assert (
        callee.found("i", "d", Answer(AnswerState.FAILED, b"x" * 8, 1, None, 99)).answer_reason
        is None
    )


def test_the_answer_cell() -> None:
    """State, response, reason and ask as they are now."""
    call = CALL._replace(
        answer=AnswerState.REFUSED, answer_reason=AnswerReason.BUSY, response=b"\x01"
    )
    assert call.cell(EPOCH) == Answer(AnswerState.REFUSED, EPOCH, 3, b"\x01", 2, False)
    assert CALL.cell(EPOCH, ask=True) == Answer(AnswerState.RECEIVED, EPOCH, 3, ask=True)


def test_due_is_the_earliest_deadline() -> None:
    """Of all four; None when there is none."""
    call = CALL._replace(ring_at=9.0, accept_at=8.0, resend_at=7.0, keep_at=6.0)
    assert call.due == 6.0
    assert call._replace(keep_at=None).due == 7.0
    assert CALL._replace(ring_at=None).due is None
    assert call.key == ("door", "id")
