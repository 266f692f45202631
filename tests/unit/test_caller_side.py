"""The caller's half of the engine: its timers, its resending, what it does for each answer."""

from __future__ import annotations

import pytest

from device_sdk.core import side
from device_sdk.core.effects import Cancel, Logout, Publish, PublishAcked, Send, Watch
from device_sdk.core.events import LocalEvent, PeerLost
from device_sdk.core.settings import MAX_KEPT, Settings
from device_sdk.core.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    Invite,
    InviteState,
    Offer,
    Presence,
)
from device_sdk.core.wire.topics import call_id_from_bytes
from device_sdk.errors import InvalidArgument, InvitationApiCallError
from device_sdk.states import EndReason, InvitationApiCallErrorCode, LocalInvitationError
from tests.rig import CALL, MINE, OTHER, PEER, THEIRS, Rig, answer

RECEIVED, ACCEPTED = answer(AnswerState.RECEIVED), answer(AnswerState.ACCEPTED, response=b"\x61x")
SEEN = answer(AnswerState.SEEN)
REFUSED = answer(AnswerState.REFUSED, reason=AnswerReason.BUSY)
FAILED = answer(AnswerState.FAILED, reason=AnswerReason.ACCEPT_FAILURE)


def call_id(number: int) -> str:
    """A call id for each number."""
    return call_id_from_bytes(number.to_bytes(16, "big"))


def calling(*heard: object, **settings: float) -> Rig:
    """A peer that has sent one call and heard these answers."""
    rig = Rig(settings=Settings(**settings)).connect() if settings else Rig().connect()
    rig.feed(Send(CALL, PEER, Offer(b"\x01", "c", time=7)))
    for cell in heard:
        rig.hear(cell)  # type: ignore[arg-type] # cells
    return rig


def last(rig: Rig) -> LocalEvent:
    """The last event, which is about a call made here."""
    event = rig.events[-1]
    assert isinstance(event, LocalEvent)
    return event


# --- 1 and 2: send, received ---------------------------------------------------------------


def test_send_publishes_ringing_with_the_whole_ring_timeout() -> None:
    """Rule 1: 60 s of ttl, seq 1, and what the app gave."""
    rig = calling()
    assert rig.published == [
        (
            f"sig/v1/peer/invite/me/{CALL}",
            Invite(InviteState.RINGING, MINE, 1, 60_000, b"\x01", "c", time=7),
        )
    ]
    assert rig.events == []


def test_a_calls_own_ring_timeout_replaces_the_setting() -> None:
    """It is in the ttl, and ends the call."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER, ring_timeout=3))
    assert rig.said == [Invite(InviteState.RINGING, MINE, 1, 3000)]
    rig.until(1003)
    assert rig.told == ["local_invitation_failure"]


@pytest.mark.parametrize(
    ("first", "names"),
    [
        (RECEIVED, []), (ACCEPTED, ["local_invitation_accepted"]),
        (REFUSED, ["local_invitation_refused"]), (FAILED, ["local_invitation_failure"]),
    ],
)  # fmt: skip
def test_any_first_answer_is_also_the_receipt(first: object, names: list[str]) -> None:
    """Rule 2: received_by_peer once, before whatever else that answer means."""
    rig = calling(first, RECEIVED)
    assert rig.told == ["local_invitation_received_by_peer", *names]


# --- 3: the caller decides, once -----------------------------------------------------------


def test_an_accepted_answer_is_decided_accepted() -> None:
    """The cell says accepted, the app gets the response."""
    rig = calling(RECEIVED, ACCEPTED)
    assert rig.said == [Invite(InviteState.ACCEPTED, MINE, 2)]
    assert last(rig).call.response == b"\x61x"


@pytest.mark.parametrize("final", [REFUSED, FAILED])
def test_a_refusal_needs_no_word_of_mine(final: object) -> None:
    """Rules 3 and 5: the invite is cleared at once."""
    rig = calling(RECEIVED, final)
    assert rig.published == [(f"sig/v1/peer/invite/me/{CALL}", None)]


def test_cancel_is_told_once_the_broker_has_it() -> None:
    """AGORA's order: CANCELED at once for the record, Canceled to the app with the broker's ack."""
    rig = calling(RECEIVED)
    rig.feed(Cancel(PEER, CALL))
    assert rig.said == [Invite(InviteState.ENDED, MINE, 2, None, b"\x01", "c", reason=1, time=7)]
    assert rig.new == []
    rig.ack()
    assert rig.told[-1] == "local_invitation_canceled"
    rig.ack()
    assert rig.told.count("local_invitation_canceled") == 1


def test_cancel_without_a_link_is_told_at_once() -> None:
    """Nobody can acknowledge; the resync says it."""
    rig = calling(RECEIVED)
    rig.drop()
    rig.feed(Cancel(PEER, CALL))
    assert (rig.said, rig.new) == ([], ["local_invitation_canceled"])
    rig.connect()
    assert any(isinstance(c, Invite) and c.state is InviteState.ENDED for c in rig.said)


def test_cancel_whose_ack_the_link_took_along_is_told_when_it_breaks() -> None:
    """Nobody waits for an acknowledgement that cannot come; told once."""
    rig = calling(RECEIVED)
    rig.feed(Cancel(PEER, CALL))
    rig.drop()
    assert rig.new == ["local_invitation_canceled"]
    rig.connect()
    rig.ack()
    assert rig.told.count("local_invitation_canceled") == 1


def test_cancel_that_the_broker_never_acknowledges_is_told_all_the_same() -> None:
    """Rule 9: after ``resend_first``, once; whoever canceled does not wait for ever."""
    rig = calling(RECEIVED)
    rig.feed(Cancel(PEER, CALL))
    pressed = rig.now
    rig.until(pressed + 1.9)
    assert "local_invitation_canceled" not in rig.told
    rig.until(pressed + 2.0)
    assert rig.told.count("local_invitation_canceled") == 1
    assert last(rig).call.reason is EndReason.CANCELED
    rig.until(pressed + 100)
    rig.ack()
    assert rig.told.count("local_invitation_canceled") == 1


def test_cancel_that_the_callee_answers_first_is_told_with_that() -> None:
    """The callee has seen the end, so the broker had it."""
    rig = calling(RECEIVED)
    rig.feed(Cancel(PEER, CALL))
    rig.hear(SEEN)
    assert rig.new == ["local_invitation_canceled"]


def test_the_ring_timeout_expires_the_call() -> None:
    """60 s after the send, answered *received* or not: ended expired."""
    rig = calling(RECEIVED)
    assert rig.until(1059.9) == []
    said = rig.until(1060)
    assert [(at, c.state, c.reason) for at, c in said if isinstance(c, Invite)] == [
        (1060, InviteState.ENDED, 3)
    ]
    assert last(rig).call.error is LocalInvitationError.INVITATION_EXPIRE


@pytest.mark.parametrize(
    ("presence", "error", "reason"),
    [
        (Presence(True, THEIRS), LocalInvitationError.PEER_NO_RESPONSE, EndReason.NO_RESPONSE),
        (Presence(False, THEIRS), LocalInvitationError.PEER_OFFLINE, EndReason.PEER_OFFLINE),
        (None, LocalInvitationError.PEER_OFFLINE, EndReason.PEER_OFFLINE),
    ],
)
def test_the_ack_timeout_asks_presence(
    presence: Presence | None, error: LocalInvitationError, reason: EndReason
) -> None:
    """30 s without any answer: peer offline if presence is offline or absent, else no response."""
    rig = calling()
    rig.confirm()
    if presence is not None:
        rig.hear_presence(presence, retained=True)
    rig.until(1029.9)
    assert "local_invitation_failure" not in rig.told
    rig.until(1030)
    assert (last(rig).call.error, last(rig).call.reason) == (error, reason)


@pytest.mark.parametrize("seen", [True, False])
def test_without_a_link_of_my_own_it_is_no_response(seen: bool) -> None:
    """What was known of the peer may be old: never *offline* while the own link is down."""
    rig = calling()
    if seen:
        rig.confirm()
        rig.hear_presence(Presence(False, THEIRS))
    rig.drop()
    rig.until(1030)
    assert last(rig).call.reason is EndReason.NO_RESPONSE


def test_a_call_made_without_a_link_rings_when_it_is_back() -> None:
    """As long as its time to ring lasts; the callee's time to answer begins when it can hear."""
    rig = Rig().connect()
    rig.drop()
    rig.feed(Send(CALL, PEER, ack_timeout=5))
    assert rig.until(1040) == []
    rig.connect()
    assert [c.ttl for c in rig.said if isinstance(c, Invite)] == [20_000]
    rig.until(1044.9)
    assert rig.told == []
    rig.until(1045)
    assert last(rig).call.reason is EndReason.NO_RESPONSE


def test_a_call_made_without_a_link_ends_when_its_time_is_over() -> None:
    rig = Rig().connect()
    rig.drop()
    rig.feed(Send(CALL, PEER))
    rig.until(1059.9)
    assert rig.told == []
    rig.until(1060)
    assert last(rig).call.reason is EndReason.EXPIRED


def test_a_subscription_not_yet_confirmed_proves_nothing() -> None:
    """No presence read and none promised: no response."""
    rig = calling()
    rig.until(1030)
    assert last(rig).call.reason is EndReason.NO_RESPONSE


def test_the_receipt_stops_the_ack_timeout() -> None:
    """After *received* only the ring timeout runs."""
    rig = calling(RECEIVED)
    rig.until(1059)
    assert rig.told == ["local_invitation_received_by_peer"]


def test_the_first_decision_stands() -> None:
    """Accept crossing cancel: canceled, and the callee is told so, not accepted."""
    rig = calling(RECEIVED)
    rig.feed(Cancel(PEER, CALL))
    rig.hear(ACCEPTED)
    assert rig.said == []
    rig.ack()
    assert rig.told[1:] == ["local_invitation_canceled"]
    with pytest.raises(InvitationApiCallError) as caught:
        rig.feed(Cancel(PEER, CALL))
    assert caught.value.code is InvitationApiCallErrorCode.ALREADY_END


def test_one_winner_in_a_ring_group() -> None:
    """The first accepted decides; all other legs of that group end *answered elsewhere*."""
    rig = Rig().connect()
    group, third = b"g" * 16, call_id_from_bytes(b"3" * 16)
    rig.feed(Send(CALL, PEER, Offer(group=group)))
    rig.feed(Send(OTHER, "other", Offer(group=group)))
    rig.feed(Send(third, "other", Offer(group=b"h" * 16)))
    rig.hear(ACCEPTED)
    rig.ack()
    says = {t: (c.state, c.reason) for t, c in rig.published if isinstance(c, Invite)}
    assert says == {}  # all was said with the answer
    assert rig.told == [
        "local_invitation_received_by_peer",
        "local_invitation_accepted",
        "local_invitation_canceled",
    ]
    assert last(rig).call.reason is EndReason.ANSWERED_ELSEWHERE
    assert last(rig).call.call_id == OTHER
    rig.hear(ACCEPTED, peer="other", call=OTHER)
    assert "local_invitation_accepted" not in rig.new
    rig.hear(ACCEPTED, peer="other", call=third)
    assert "local_invitation_accepted" in rig.new


# --- 4: saying again -----------------------------------------------------------------------


def test_ringing_is_said_again_until_received() -> None:
    """After 2, 4, 8, 16 s, then the ack timeout; each with its own seq and less ttl."""
    said = calling().until(1029)
    assert [at - 1000 for at, _ in said] == [2, 6, 14]
    assert [(c.seq, c.ttl) for _, c in said if isinstance(c, Invite)] == [
        (2, 58_000), (3, 54_000), (4, 46_000),
    ]  # fmt: skip
    assert calling(RECEIVED).until(1059) == []


def test_resending_stops_doubling_at_30_s() -> None:
    """After 2, 4, 8, 16, 30, 30, … seconds."""
    rig = calling(RECEIVED, ACCEPTED)
    said = rig.until(1000 + 2 + 4 + 8 + 16 + 30 + 30)
    assert [at - 1000 for at, _ in said] == [2, 6, 14, 30, 60, 90]


@pytest.mark.parametrize("final", [REFUSED, FAILED, SEEN])
def test_a_decision_is_said_until_a_final_answer(final: object) -> None:
    """Rules 4 and 5: then the invite is cleared and nothing is said any more."""
    rig = calling(RECEIVED, ACCEPTED)
    rig.until(1002)
    rig.hear(final)  # type: ignore[arg-type] # a cell
    assert (f"sig/v1/peer/invite/me/{CALL}", None) in rig.published
    rig.ack()
    assert rig.until(1500) == []
    assert rig.engine.caller.calls == {}


def test_a_decision_waits_for_a_callee_that_is_away() -> None:
    """Not on a timer while presence says offline; at once when it comes online."""
    rig = calling(RECEIVED)
    rig.confirm()
    rig.hear_presence(Presence(False, THEIRS))
    rig.feed(Cancel(PEER, CALL))
    assert len(rig.said) == 1
    assert rig.until(1600) == []
    rig.hear_presence(Presence(True, b"newepoch"))
    assert [c.state for c in rig.said if isinstance(c, Invite)] == [InviteState.ENDED]
    assert [at - 1600 for at, _ in rig.until(1607)] == [2, 6]


def test_a_callee_that_goes_away_stops_the_timer_of_a_decision() -> None:
    """Presence offline after the decision: it waits in the broker."""
    rig = calling(RECEIVED, ACCEPTED)
    rig.hear_presence(Presence(False, THEIRS))
    assert rig.until(1600) == []


def test_a_callee_that_was_never_there_is_told_when_it_first_comes() -> None:
    """Absent counts as away: its first live *online* has everything said again."""
    rig = calling()
    rig.confirm()
    rig.feed(Cancel(PEER, CALL))
    assert rig.until(1500) == []
    rig.hear_presence(Presence(True, THEIRS))
    assert [c.state for c in rig.said if isinstance(c, Invite)] == [InviteState.ENDED]


def test_the_first_reading_of_a_peer_that_is_there_repeats_nothing() -> None:
    """The retained presence that answers the subscription is no coming back."""
    rig = calling()
    rig.confirm()
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    assert rig.said == []


def test_ringing_goes_on_being_said_while_the_callee_is_away() -> None:
    """Presence may be wrong; and a callee that comes back is told at once."""
    rig = calling()
    rig.confirm()
    rig.hear_presence(Presence(False, THEIRS), retained=True)
    assert [at - 1000 for at, _ in rig.until(1007)] == [2, 6]
    rig.hear_presence(Presence(True, b"newepoch"))
    assert [c.state for c in rig.said if isinstance(c, Invite)] == [InviteState.RINGING]


def test_a_decision_is_kept_for_a_day_from_when_it_was_made() -> None:
    """missed_call_ttl, then the cell is cleared though nobody saw it."""
    rig = calling(missed_call_ttl=100)
    rig.hear(RECEIVED)
    rig.hear_presence(Presence(False, THEIRS))
    rig.until(1050)
    rig.feed(Cancel(PEER, CALL))
    assert rig.until(1149) == []
    assert rig.until(1150) == [(1150, None)]
    assert Settings().missed_call_ttl == 24 * 3600


# --- 5: after the decision -----------------------------------------------------------------


@pytest.mark.parametrize("final", [FAILED, REFUSED])
def test_a_peer_lost_after_accept_is_told(final: object) -> None:
    """Rule 5: accepted here, failed there; told once, with the callee's reason."""
    rig = calling(RECEIVED, ACCEPTED, final, final)
    lost = [e for e in rig.events if isinstance(e, PeerLost)]
    assert [e.reason for e in lost] == [EndReason.ACCEPT_FAILURE]
    assert lost[0].call.reason is EndReason.ACCEPTED


def test_a_clear_is_repeated_until_the_broker_has_it() -> None:
    """It is part of the resync; after the ack the call is forgotten."""
    rig = calling(RECEIVED, REFUSED)
    rig.drop()
    rig.connect()
    assert (f"sig/v1/peer/invite/me/{CALL}", None) in rig.published
    rig.ack()
    rig.drop()
    rig.connect()
    assert all(CALL not in topic for topic, _ in rig.published)


# --- 6: answers for unknown calls, ask ------------------------------------------------------


@pytest.mark.parametrize("final", [REFUSED, FAILED, SEEN])
def test_a_final_answer_to_an_unknown_call_clears_its_invite(final: object) -> None:
    """Once each time, awaited, and told to nobody."""
    rig = Rig().connect()
    rig.hear(final)  # type: ignore[arg-type] # a cell
    assert rig.published == [(f"sig/v1/peer/invite/me/{CALL}", None)]
    rig.ack()
    assert (rig.engine.caller.calls, rig.events) == ({}, [])


@pytest.mark.parametrize("open_", [RECEIVED, ACCEPTED, answer(AnswerState.RECEIVED, ask=True)])
def test_an_open_answer_to_an_unknown_call_ends_it(open_: object) -> None:
    """Ended, caller restarted, said again until the callee has seen it; told to nobody."""
    rig = Rig().connect()
    rig.hear(open_)  # type: ignore[arg-type] # a cell
    assert rig.said == [Invite(InviteState.ENDED, MINE, 1, reason=6)]
    assert [at - 1000 for at, _ in rig.until(1006)] == [2, 6]
    rig.hear(SEEN)
    assert (rig.said, rig.events) == ([None], [])


def test_ask_is_answered_at_once() -> None:
    """Whatever the cell says now, exactly once each time; not a timer."""
    ask = answer(AnswerState.RECEIVED, ask=True)
    rig = calling(RECEIVED)
    rig.now += 10
    rig.hear(ask)
    assert [(c.state, c.ttl, c.asker) for c in rig.said if isinstance(c, Invite)] == [
        (InviteState.RINGING, 50_000, THEIRS)
    ]
    assert rig.until(1059) == []
    rig.feed(Cancel(PEER, CALL))
    rig.hear(ask)
    assert [(c.state, c.asker) for c in rig.said if isinstance(c, Invite)] == [
        (InviteState.ENDED, None)
    ]


def test_only_what_answers_a_question_says_whose_it_was() -> None:
    """Neither a first ring, nor what is said again by a timer or with a resync."""
    rig = calling()
    rig.hear(answer(AnswerState.RECEIVED, ask=True))
    assert [c.asker for c in rig.said if isinstance(c, Invite)] == [THEIRS]
    rig.drop()
    rig.connect()
    assert [c.asker for c in rig.said if isinstance(c, Invite)] == [None]


def test_ask_with_accept_says_accepted_only_once() -> None:
    """The decision is the answer to the question."""
    rig = calling(RECEIVED)
    rig.hear(answer(AnswerState.ACCEPTED, ask=True))
    assert len(rig.said) == 1


def test_ask_after_clearing_says_nothing() -> None:
    """What is over is over."""
    rig = calling(RECEIVED, REFUSED)
    rig.hear(answer(AnswerState.RECEIVED, ask=True))
    assert rig.said == []


@pytest.mark.parametrize("heard", [(), (RECEIVED,)])
def test_seen_of_what_still_rings_is_dropped(heard: tuple[object, ...]) -> None:
    """A callee cannot have seen an end that there is not: counted, no state changes."""
    rig = calling(*heard)
    before = dict(rig.engine.caller.calls)
    rig.hear(SEEN)
    assert rig.engine.stats.drops == {"out of place": 1}
    assert rig.engine.caller.calls == before


# --- 7: a previous login ----------------------------------------------------------------------


def test_cells_of_a_former_life_are_ended_or_kept() -> None:
    """Ringing becomes caller restarted; a final one keeps its word; seq goes on."""
    rig = Rig().connect(settled=False)
    rig.hear_own(Invite(InviteState.RINGING, b"former00", 5, 9000))
    rig.hear_own(Invite(InviteState.ACCEPTED, b"former00", 2), call=OTHER)
    assert rig.said == []
    rig.settle()
    assert rig.said == [
        Invite(InviteState.ENDED, MINE, 6, reason=6),
        Invite(InviteState.ACCEPTED, MINE, 3),
    ]
    rig.hear(SEEN)
    rig.hear(SEEN, call=OTHER)
    rig.ack()
    assert (rig.engine.caller.calls, rig.events) == ({}, [])


def test_the_calls_of_a_former_life_cannot_be_canceled() -> None:
    """This app did not make them."""
    rig = Rig().connect(settled=False)
    rig.hear_own(Invite(InviteState.RINGING, b"former00", 5, 9000))
    with pytest.raises(InvitationApiCallError):
        rig.feed(Cancel(PEER, CALL))


def test_cells_of_a_former_life_are_kept_for_a_day_from_when_they_were_found() -> None:
    """No wall clock: missed_call_ttl runs from the login."""
    rig = Rig(settings=Settings(missed_call_ttl=50)).connect(settled=False)
    rig.confirm()
    rig.hear_own(Invite(InviteState.ENDED, b"former00", 5, reason=1))
    said = rig.until(1050)
    assert said[-1] == (1050, None)


def test_own_cells_of_this_life_are_no_find() -> None:
    """The echo of what I write while the outbox is subscribed changes nothing."""
    rig = Rig().connect(settled=False)
    rig.feed(Send(CALL, PEER))
    cell = rig.said[0]
    assert isinstance(cell, Invite)
    rig.hear_own(cell)
    assert (rig.said, list(rig.engine.caller.calls)) == ([], [(PEER, CALL)])


# --- the app's illegal calls, floods, logging out -------------------------------------------


def test_sending_a_call_twice_is_already_sent() -> None:
    """Nothing changes, nothing is published."""
    rig = calling()
    with pytest.raises(InvitationApiCallError) as caught:
        rig.feed(Send(CALL, PEER))
    assert (caught.value.code, caught.value.call_id) == (5, CALL)
    assert rig.effects == []


def test_calling_oneself_is_refused() -> None:
    """Naming the argument."""
    with pytest.raises(InvalidArgument, match="callee_id"):
        Rig().connect().feed(Send(CALL, "me"))


def test_canceling_what_is_unknown_is_already_end() -> None:
    """Or over, which is the same here."""
    with pytest.raises(InvitationApiCallError) as caught:
        Rig().connect().feed(Cancel(PEER, CALL))
    assert caught.value.code is InvitationApiCallErrorCode.ALREADY_END


def test_logging_out_cancels_what_is_undecided() -> None:
    """Both phases; what is decided stays as it is."""
    rig = calling(RECEIVED)
    rig.feed(Send(OTHER, "other"))
    rig.feed(Logout())
    ends = [c for c in rig.said if isinstance(c, Invite)]
    assert [(c.state, c.reason) for c in ends] == [(InviteState.ENDED, 1)] * 2
    rig.ack()
    assert rig.told[1:] == ["local_invitation_canceled"] * 2


def test_a_newer_login_fails_my_calls_without_a_word() -> None:
    """NOT_LOGGEDIN for the undecided ones; the cells are the newer login's now."""
    rig = calling(RECEIVED)
    rig.hear_presence(Presence(True, b"newlogin"), "me")
    assert [e for e in rig.effects if isinstance(e, Publish)] == []
    assert last(rig).call.error is LocalInvitationError.NOT_LOGGEDIN


def test_a_flood_of_answers_to_unknown_calls_is_answered_but_not_kept() -> None:
    """Over 256 kept calls each is cleared, once: no cell of mine is left standing there."""
    rig = Rig().connect()
    for i in range(MAX_KEPT + 20):
        rig.now += 0.1
        rig.hear(RECEIVED, call=call_id(i))
        (said,) = [c for topic, c in rig.published if topic.endswith(call_id(i))]
        assert (said is None) == (i >= MAX_KEPT)
    assert len(rig.engine.caller.calls) == MAX_KEPT
    rig.hear(SEEN, call=call_id_from_bytes(b"z" * 16))
    assert rig.said == [None]
    assert len(rig.engine.caller.calls) == MAX_KEPT


@pytest.mark.parametrize("state", [RECEIVED, SEEN])
def test_a_flood_of_invented_answers_is_answered_so_many_times_a_second(state: object) -> None:
    """64 at once, then 20 a second; a cell of mine is not written for each of them."""
    rig = Rig().connect()
    said = 0
    for i in range(1300):
        assert isinstance(state, Answer)
        rig.hear(state, call=call_id(i))
        said += len(rig.said)
    assert said == 64
    assert rig.engine.stats.drops == {"too many": 1300 - 64}


def test_more_finished_calls_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first (shown with a bound of 3), and nothing raises."""
    monkeypatch.setattr(side, "MAX_REMEMBERED", 3)
    rig = Rig().connect()
    for i in range(5):
        rig.hear(SEEN, call=call_id(i))
        rig.ack()
    kept = [call_id for _, call_id in rig.engine.caller.remembered]
    assert kept == [call_id(i) for i in range(2, 5)]


def test_asking_is_answered_once_a_second_for_each_call() -> None:
    """11,000 times 8 KB is no answer to 11,000 questions; a question later is answered again."""
    rig = calling(RECEIVED)
    said = 0
    for _ in range(11_000):
        rig.hear(answer(AnswerState.RECEIVED, ask=True))
        said += len([cell for cell in rig.said if isinstance(cell, Invite)])
    assert said == 2
    rig.now += 2
    rig.hear(answer(AnswerState.RECEIVED, ask=True))
    assert len([cell for cell in rig.said if isinstance(cell, Invite)]) == 1


def test_1000_cells_of_a_former_life_are_said_with_the_resync() -> None:
    """While they are read nothing is said; 256 are kept, the others wait for the next login."""
    rig = Rig().connect(settled=False)
    for i in range(1000):
        rig.hear_own(
            Invite(InviteState.RINGING, b"former00", 5, 9000),
            call=call_id(i),
        )
        assert rig.said == []
    rig.settle()
    assert len([c for c in rig.said if isinstance(c, Invite)]) == MAX_KEPT


def test_the_round_trip_is_counted() -> None:
    """From the send to the callee's first word, into the bucket that it fits."""
    rig = calling()
    rig.now += 0.015
    rig.hear(RECEIVED)
    assert rig.engine.stats.snapshot()["round_trip_ms"]["20"] == 1


def test_what_was_cleared_stays_over_whatever_a_late_copy_says() -> None:
    """For ten minutes an open answer to it gets the clear again, never another end."""
    rig = calling(RECEIVED, REFUSED)
    rig.ack()
    rig.until(1599)
    rig.hear(RECEIVED)
    assert rig.said == [None]
    rig.ack()
    rig.until(2300)
    rig.hear(RECEIVED)
    assert [c.state for c in rig.said if isinstance(c, Invite)] == [InviteState.ENDED]


# --- a callee that is not there ------------------------------------------------------------

OFFLINE = "local_invitation_peer_offline"


def test_a_callee_whose_presence_says_offline_is_told_at_once_and_once() -> None:
    """Long before the call fails, and not again however often it comes and goes."""
    rig = calling()
    rig.hear_presence(Presence(False, THEIRS), retained=True)
    assert rig.told == [OFFLINE]
    rig.hear_presence(Presence(True, THEIRS))
    rig.hear_presence(Presence(False, THEIRS))
    assert rig.told == [OFFLINE]


def test_a_callee_of_which_the_broker_says_nothing_is_told_a_second_later() -> None:
    """At a deadline of its own: nothing else need happen by then."""
    rig = calling()
    rig.confirm()
    rig.until(1000.999)
    assert rig.told == []
    rig.until(1001.0)
    assert rig.told == [OFFLINE]


def test_a_callee_that_is_known_to_be_away_is_told_with_the_send() -> None:
    rig = Rig().connect()
    rig.feed(Watch(PEER))
    rig.hear_presence(Presence(False, THEIRS), retained=True)
    rig.feed(Send(CALL, PEER))
    assert rig.new == [OFFLINE]


@pytest.mark.parametrize("cell", [RECEIVED, ACCEPTED, REFUSED])
def test_a_callee_that_answered_is_not_told_offline(cell: Answer) -> None:
    """Whatever its presence says then: it is one more late will, or what decides the call."""
    rig = calling()
    rig.confirm()
    rig.hear(cell)
    rig.until(1002.0)
    rig.hear_presence(Presence(False, THEIRS), retained=True)
    assert OFFLINE not in rig.told


def test_a_callee_that_comes_within_the_second_is_not_told_offline() -> None:
    rig = calling()
    rig.confirm()
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    rig.until(1002.0)
    assert OFFLINE not in rig.told


def test_without_a_link_nobody_is_told_offline() -> None:
    """What the broker said before counts no more; on the next link it has its second again."""
    rig = calling()
    rig.confirm()
    rig.drop()
    rig.until(1005.0)
    assert OFFLINE not in rig.told
    rig.connect()
    rig.confirm()
    rig.until(1005.5)
    assert OFFLINE not in rig.told
    rig.until(1006.0)
    assert rig.told == [OFFLINE]


def test_who_is_asked_again_says_that_it_is_there() -> None:
    """What the callee read of it may be a will that the broker stored late: nobody corrects that.

    First its presence, then the cell, so that the callee knows when it reads that; no more often
    than the cell; and not of a call that is decided.
    """
    ask = answer(AnswerState.RECEIVED, ask=True)
    rig = calling()
    rig.hear(ask)
    assert [type(cell) for cell in rig.said] == [Invite]
    rig.hear(ask)
    assert [type(cell) for cell in rig.said] == [Presence, Invite]
    presence, invite = rig.said
    assert isinstance(presence, Presence)
    assert isinstance(invite, Invite)
    assert presence.online
    assert invite.asker == ask.epoch
    rig.hear(ask)
    assert rig.said == []
    rig.now += 1
    rig.hear(ask)
    assert [type(cell) for cell in rig.said] == [Presence, Invite]
    rig.now += 1
    rig.feed(Cancel(PEER, CALL))
    rig.hear(ask)
    assert [type(cell) for cell in rig.said] == [Invite]


@pytest.mark.parametrize("late", [False, True])
def test_who_leaves_says_nothing_of_being_there(late: bool) -> None:
    """Its presence offline is the last word, whoever asks meanwhile, of a call sent late, too."""
    ask = answer(AnswerState.RECEIVED, ask=True)
    rig = calling(ask, ask)
    rig.feed(Logout())
    if late:
        rig.feed(Send(OTHER, PEER))
        rig.hear(ask, call=OTHER)
    rig.now += 0.5
    rig.hear(ask, call=OTHER if late else CALL)
    assert not any(isinstance(cell, Presence) and cell.online for cell in rig.said)
    assert [type(cell) for cell in rig.said] == ([Invite] if late else [])


# --- what is suppressed for a while is said after it -------------------------------------------


@pytest.mark.parametrize("decided", [False, True])
def test_a_callee_that_flaps_hears_it_when_it_is_quiet_again(decided: bool) -> None:
    """Its coming back is answered twice at once; the next time 2 s later, not after 30."""
    rig = calling()
    rig.confirm()
    rig.hear_presence(Presence(True, THEIRS))
    if decided:
        rig.hear(RECEIVED)
        rig.feed(Cancel(PEER, CALL))
    rig.until(rig.now + 25)  # said again after 2, 4, 8 s: the next time is far
    for _ in range(4):
        rig.hear_presence(Presence(False, THEIRS))
        rig.hear_presence(Presence(True, THEIRS))
    said = rig.until(rig.now + 2.1)
    assert [cell.state for _, cell in said if isinstance(cell, Invite)] == [
        InviteState.ENDED if decided else InviteState.RINGING
    ]


# --- acknowledgements that come late -----------------------------------------------------------


def test_an_acknowledgement_of_a_call_that_is_gone_is_nothing() -> None:
    """Brokers may acknowledge a cancel after the clear that followed it."""
    rig = calling(RECEIVED)
    rig.feed(Cancel(PEER, CALL))
    (cancel,) = rig.tokens
    rig.hear(SEEN)
    (clear,) = [token for token in rig.tokens if token != cancel]
    rig.feed(PublishAcked(clear))
    assert rig.engine.caller.calls == {}
    assert rig.feed(PublishAcked(cancel)) == []
    assert rig.told == ["local_invitation_received_by_peer", "local_invitation_canceled"]


def test_a_second_acknowledged_clear_leaves_the_next_call_of_that_id_alone() -> None:
    """A clear said twice is acknowledged twice; the app may have sent a call with its id since."""
    rig = calling(REFUSED)
    rig.engine.caller.say((PEER, CALL), rig.now)  # as after a broker that did not acknowledge
    rig.feed(Watch("other"))
    first, second = rig.tokens
    rig.feed(PublishAcked(first))
    rig.feed(Send(CALL, PEER))
    assert rig.feed(PublishAcked(second)) == []
    assert (PEER, CALL) in rig.engine.caller.calls


def test_a_newer_login_leaves_what_is_decided_here() -> None:
    """The app was told its end before: of what was canceled there is nothing to tell again."""
    rig = calling(RECEIVED)
    rig.feed(Cancel(PEER, CALL))
    rig.ack()
    told = list(rig.told)
    rig.hear_presence(Presence(True, b"newerone", generation=1), rig.me)
    assert rig.engine.closed
    assert rig.told == told
