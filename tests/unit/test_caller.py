"""The caller's table, entry by entry, and the record that it moves."""

from __future__ import annotations

import pytest

from device_sdk.core import caller
from device_sdk.core.caller import CallerCall, On, Phase
from device_sdk.core.wire import reasons
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
from device_sdk.states import LocalInvitationError as Error
from device_sdk.states import LocalInvitationState as State

EPOCH = b"caller01"
CALL = CallerCall("id", "kitchen", offer=Offer(b"\x01", "c", b"g" * 16, 9), seq=3,
                  ring_at=60.0, ack_at=30.0, resend_at=2.0, resend_delay=2.0)  # fmt: skip

# Next phase for each phase (columns) and input (rows); "." is illegal, "=" stays.
MATRIX = """
                    SENT      RECEIVED  ACCEPTED  ENDED     CLEARING  GONE      TALKING   OVER
ANSWER_RECEIVED     RECEIVED  =         =         =         =         .         =         =
ANSWER_ACCEPTED     ACCEPTED  ACCEPTED  =         =         =         .         =         =
ANSWER_REFUSED      CLEARING  CLEARING  CLEARING  CLEARING  =         .         CLEARING  CLEARING
ANSWER_FAILED       CLEARING  CLEARING  CLEARING  CLEARING  =         .         CLEARING  CLEARING
ANSWER_SEEN         .         .         CLEARING  CLEARING  =         .         CLEARING  CLEARING
ANSWER_TALKING      .         .         TALKING   =         =         .         =         =
ANSWER_OVER         .         .         CLEARING  CLEARING  =         .         CLEARING  CLEARING
CANCEL              ENDED     ENDED     .         .         .         .         .         .
LOGOUT              ENDED     ENDED     .         .         .         .         .         .
ANSWERED_ELSEWHERE  ENDED     ENDED     .         .         .         .         .         .
RING_TIMEOUT        ENDED     ENDED     .         .         .         .         .         .
PEER_OFFLINE        ENDED     .         .         .         .         .         .         .
NO_RESPONSE         ENDED     .         .         .         .         .         .         .
RESEND              =         .         =         =         .         .         =         =
KEEP_EXPIRED        .         .         CLEARING  CLEARING  .         .         .         CLEARING
HANG_UP             .         .         OVER      .         .         .         OVER      .
NOT_TAKEN           GONE      GONE      =         GONE      GONE      .         .         GONE
CLEAR_ACKED         .         .         .         .         GONE      .         .         .
"""
ACTIONS: dict[tuple[str, str], str] = {
    ("SENT", "ANSWER_RECEIVED"): "TELL_RECEIVED",
    ("SENT", "ANSWER_ACCEPTED"): "SAY END_OTHER_LEGS TELL_RECEIVED TELL_ACCEPTED",
    ("SENT", "ANSWER_REFUSED"): "CLEAR TELL_RECEIVED TELL_REFUSED",
    ("SENT", "ANSWER_FAILED"): "CLEAR TELL_RECEIVED TELL_FAILURE",
    ("SENT", "PEER_OFFLINE"): "SAY TELL_FAILURE",
    ("SENT", "NO_RESPONSE"): "SAY TELL_FAILURE",
    ("SENT", "RESEND"): "SAY",
    ("RECEIVED", "ANSWER_ACCEPTED"): "SAY END_OTHER_LEGS TELL_ACCEPTED",
    ("RECEIVED", "ANSWER_REFUSED"): "CLEAR TELL_REFUSED",
    ("RECEIVED", "ANSWER_FAILED"): "CLEAR TELL_FAILURE",
    **{(p, on): "SAY TELL_CANCELED" for p in ("SENT", "RECEIVED")
       for on in ("CANCEL", "LOGOUT", "ANSWERED_ELSEWHERE")},
    **{(p, "RING_TIMEOUT"): "SAY TELL_FAILURE" for p in ("SENT", "RECEIVED")},
    **{(p, "NOT_TAKEN"): "TELL_FAILURE" for p in ("SENT", "RECEIVED")},
    ("ACCEPTED", "ANSWER_SEEN"): "CLEAR TELL_TALK_ENDED",
    ("ACCEPTED", "ANSWER_REFUSED"): "CLEAR TELL_PEER_LOST TELL_TALK_ENDED",
    ("ACCEPTED", "ANSWER_FAILED"): "CLEAR TELL_PEER_LOST TELL_TALK_ENDED",
    ("ACCEPTED", "ANSWER_OVER"): "CLEAR TELL_TALK_ENDED",
    ("ACCEPTED", "HANG_UP"): "SAY TELL_TALK_ENDED",
    **{("TALKING", on): "CLEAR TELL_TALK_ENDED"
       for on in ("ANSWER_SEEN", "ANSWER_REFUSED", "ANSWER_FAILED", "ANSWER_OVER")},
    ("TALKING", "HANG_UP"): "SAY TELL_TALK_ENDED",
    ("TALKING", "RESEND"): "SAY",
    **{("OVER", on): "CLEAR" for on in ("ANSWER_SEEN", "ANSWER_REFUSED", "ANSWER_FAILED",
                                        "ANSWER_OVER", "KEEP_EXPIRED")},
    ("OVER", "RESEND"): "SAY",
    ("ENDED", "ANSWER_OVER"): "CLEAR",
    ("ACCEPTED", "RESEND"): "SAY",
    ("ACCEPTED", "KEEP_EXPIRED"): "CLEAR",
    ("ENDED", "ANSWER_SEEN"): "CLEAR",
    ("ENDED", "ANSWER_REFUSED"): "CLEAR",
    ("ENDED", "ANSWER_FAILED"): "CLEAR",
    ("ENDED", "RESEND"): "SAY",
    ("ENDED", "KEEP_EXPIRED"): "CLEAR",
}  # fmt: skip


def matrix(text: str) -> list[tuple[str, str, str]]:
    """The cells of a matrix as (phase, input, next)."""
    head, *rows = text.strip().splitlines()
    phases = head.split()
    return [(p, r.split()[0], n) for r in rows for p, n in zip(phases, r.split()[1:], strict=True)]


@pytest.mark.parametrize(("phase", "on", "then"), matrix(MATRIX))
def test_the_table(phase: str, on: str, then: str) -> None:
    """Every phase and input: where it leads and what is done, or that there is no entry."""
    row = caller.TABLE.get(Phase[phase], {})
    if then == ".":
        assert On[on] not in row
        with pytest.raises(KeyError):
            caller.step(CALL._replace(phase=Phase[phase]), On[on])
        return
    after, todo = row[On[on]]
    assert after.name == (phase if then == "=" else then)
    assert " ".join(do.name for do in todo) == ACTIONS.get((phase, on), "")


def test_the_matrix_here_is_whole() -> None:
    """No phase and no input of the table is missing above."""
    cells = matrix(MATRIX)
    assert {p for p, _, _ in cells} == {p.name for p in Phase}
    assert {on for _, on, _ in cells} == {on.name for on in On}


@pytest.mark.parametrize("phase", [Phase.SENT, Phase.RECEIVED])
@pytest.mark.parametrize(
    ("on", "answer", "state", "error", "reason"),
    [
        (On.ANSWER_ACCEPTED, Answer(AnswerState.ACCEPTED, EPOCH, 1, b"\x61x"),
         State.ACCEPTED_BY_REMOTE, Error.OK, EndReason.ACCEPTED),
        (On.ANSWER_REFUSED, Answer(AnswerState.REFUSED, EPOCH, 1, b"\x61x", AnswerReason.BUSY),
         State.REFUSED_BY_REMOTE, Error.OK, EndReason.BUSY),
        (On.ANSWER_FAILED, Answer(AnswerState.FAILED, EPOCH, 1, None, AnswerReason.CALLEE_EXPIRED),
         State.FAILURE, Error.INVITATION_EXPIRE, EndReason.CALLEE_EXPIRED),
        (On.ANSWER_FAILED, Answer(AnswerState.FAILED, EPOCH, 1, None, AnswerReason.ACCEPT_FAILURE),
         State.FAILURE, Error.PEER_NO_RESPONSE, EndReason.ACCEPT_FAILURE),
        (On.ANSWER_FAILED, Answer(AnswerState.FAILED, EPOCH, 1, None, AnswerReason.CALLER_LOST),
         State.FAILURE, Error.PEER_NO_RESPONSE, EndReason.CALLER_LOST),
        (On.CANCEL, None, State.CANCELED, Error.OK, EndReason.CANCELED),
        (On.LOGOUT, None, State.CANCELED, Error.OK, EndReason.CANCELED),
        (On.ANSWERED_ELSEWHERE, None, State.CANCELED, Error.OK, EndReason.ANSWERED_ELSEWHERE),
        (On.RING_TIMEOUT, None, State.FAILURE, Error.INVITATION_EXPIRE, EndReason.EXPIRED),
    ],
)  # fmt: skip
def test_what_a_decision_shows(
    phase: Phase, on: On, answer: Answer | None, state: State, error: Error, reason: EndReason
) -> None:
    """Rule 3 of the caller with AGORA's numbers: state, error, reason, and no timer left."""
    call, _ = caller.step(CALL._replace(phase=phase), on, answer)
    assert (call.state, call.error, call.reason) == (state, error, reason)
    assert (call.ring_at, call.ack_at, call.resend_at) == (None, None, None)
    assert call.response == (answer.response if answer else None)
    assert call.cancel_pending == (state is State.CANCELED)


@pytest.mark.parametrize(
    ("on", "error", "reason"),
    [(On.PEER_OFFLINE, Error.PEER_OFFLINE, EndReason.PEER_OFFLINE),
     (On.NO_RESPONSE, Error.PEER_NO_RESPONSE, EndReason.NO_RESPONSE),
     (On.NOT_TAKEN, Error.PEER_NO_RESPONSE, EndReason.NOT_ALLOWED)],
)  # fmt: skip
def test_what_silence_shows(on: On, error: Error, reason: EndReason) -> None:
    """Without any answer: FAILURE with PEER_OFFLINE or PEER_NO_RESPONSE."""
    call, _ = caller.step(CALL, on)
    assert (call.state, call.error, call.reason) == (State.FAILURE, error, reason)


def test_the_first_word_of_the_callee_stops_two_timers() -> None:
    """RECEIVED_BY_REMOTE: no resending, no acknowledgement awaited; the ringing goes on."""
    call, _ = caller.step(CALL, On.ANSWER_RECEIVED, Answer(AnswerState.RECEIVED, EPOCH, 1))
    assert call.state is State.RECEIVED_BY_REMOTE
    assert (call.ack_at, call.resend_at, call.ring_at) == (None, None, 60.0)


@pytest.mark.parametrize("phase", [Phase.ACCEPTED, Phase.ENDED])
@pytest.mark.parametrize("on", [On.ANSWER_REFUSED, On.ANSWER_FAILED, On.ANSWER_SEEN])
def test_a_decision_stands(phase: Phase, on: On) -> None:
    """A final answer after the decision moves the phase, never what the app was told."""
    decided = CALL._replace(phase=phase, state=State.CANCELED, reason=EndReason.CANCELED)
    call, _ = caller.step(decided, on, Answer(AnswerState.FAILED, EPOCH, 1, reason=4))
    assert call.phase is Phase.CLEARING
    assert (call.state, call.reason, call.error) == (State.CANCELED, EndReason.CANCELED, Error.OK)


@pytest.mark.parametrize(
    ("number", "refusal", "failure"),
    [
        (1, EndReason.DECLINED, EndReason.ACCEPT_FAILURE),
        (2, EndReason.BUSY, EndReason.ACCEPT_FAILURE),
        (3, EndReason.DO_NOT_DISTURB, EndReason.ACCEPT_FAILURE),
        (4, EndReason.DECLINED, EndReason.ACCEPT_FAILURE),
        (5, EndReason.DECLINED, EndReason.CALLEE_EXPIRED),
        (6, EndReason.DECLINED, EndReason.CALLER_LOST),
        (99, EndReason.DECLINED, EndReason.ACCEPT_FAILURE),
        (0, EndReason.DECLINED, EndReason.ACCEPT_FAILURE),
        (None, EndReason.DECLINED, EndReason.ACCEPT_FAILURE),
    ],
)
def test_reasons_of_answers(number: int | None, refusal: EndReason, failure: EndReason) -> None:
    """Unknown, absent or misplaced: declined for a refusal, accept failure for a failure."""
    assert reasons.answered(AnswerState.REFUSED, number).word is refusal
    assert reasons.answered(AnswerState.FAILED, number).word is failure


# --- the cell ------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.SENT, Phase.RECEIVED])
def test_the_ringing_cell(phase: Phase) -> None:
    """The ttl is what is left of the ringing, never below 0; everything that was sent is in it."""
    call = CALL._replace(phase=phase)
    expected = Invite(InviteState.RINGING, EPOCH, 3, 48_500, b"\x01", "c", None, b"g" * 16, 9)
    assert call.cell(EPOCH, 11.5) == expected
    assert call.cell(EPOCH, 61.0).ttl == 0


def test_the_accepted_cell_says_no_more() -> None:
    """The callee has the rest already."""
    assert CALL._replace(phase=Phase.ACCEPTED).cell(EPOCH, 1.0) == Invite(
        InviteState.ACCEPTED, EPOCH, 3
    )


@pytest.mark.parametrize("word", reasons.BY_WORD)
def test_the_ended_cell_says_why(word: EndReason) -> None:
    """Each of the caller's six reasons, with what a missed call shows."""
    call = CALL._replace(phase=Phase.ENDED, reason=word)
    number = EndedReason[word.name]
    expected = Invite(InviteState.ENDED, EPOCH, 3, None, b"\x01", "c", number, b"g" * 16, 9)
    assert call.cell(EPOCH, 1.0) == expected


# --- a previous login, a newer login ----------------------------------------------------------


def test_found_ringing_is_ended_caller_restarted() -> None:
    """Rule 7: what still rang is over; the app of this life is told nothing."""
    cell = Invite(InviteState.RINGING, b"former00", 5, 1000, b"\x02", "d", None, None, 8)
    call = caller.found("id", "kitchen", cell)
    assert (call.phase, call.reason, call.previous_login) == (
        Phase.ENDED,
        EndReason.CALLER_RESTARTED,
        True,
    )
    assert (call.seq, call.offer.content, call.offer.channel, call.offer.time) == (
        5,
        b"\x02",
        "d",
        8,
    )


@pytest.mark.parametrize("number", [*EndedReason, 42, None])
def test_found_ended_keeps_its_reason(number: int | None) -> None:
    """A decision stands; a reason of a later version is read as expired."""
    call = caller.found("id", "kitchen", Invite(InviteState.ENDED, b"former00", 5, reason=number))
    known = {int(n): EndReason[n.name] for n in EndedReason}
    assert call.phase is Phase.ENDED
    assert call.reason is known.get(number or 0, EndReason.EXPIRED)


def test_found_accepted_stays_accepted() -> None:
    """The callee may still wait for that word."""
    call = caller.found("id", "kitchen", Invite(InviteState.ACCEPTED, b"former00", 5))
    assert (call.phase, call.previous_login) == (Phase.ACCEPTED, True)


def test_logged_out() -> None:
    """After a newer login: FAILURE NOT_LOGGEDIN, and the call is gone."""
    call = caller.logged_out(CALL)
    assert (call.phase, call.state, call.error) == (Phase.GONE, State.FAILURE, Error.NOT_LOGGEDIN)
    assert call.reason is EndReason.LOGGED_OUT


def test_due_is_the_earliest_deadline() -> None:
    """Of all four; None when there is none."""
    assert CALL.due == 2.0
    assert CALL._replace(resend_at=None).due == 30.0
    assert CALL._replace(resend_at=None, ack_at=None, keep_at=50.0).due == 50.0
    assert CallerCall("id", "kitchen").due is None
    assert CALL.key == ("kitchen", "id")
