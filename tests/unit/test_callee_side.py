"""The callee's half of the engine: answers, deadlines, ends, memory; what a link does to it."""

from __future__ import annotations

import pytest

from device_sdk.core import side
from device_sdk.core.effects import (
    Accept,
    Logout,
    Publish,
    Refuse,
    Subscribe,
)
from device_sdk.core.settings import MAX_REMEMBERED
from device_sdk.core.wire import topics
from device_sdk.core.wire.cells import Answer, AnswerReason, AnswerState, Invite, Presence
from device_sdk.errors import InvitationApiCallError
from device_sdk.states import EndReason, RemoteInvitationError
from tests.rig import (
    ACCEPTED,
    CALL,
    MINE,
    OTHER,
    PEER,
    THEIRS,
    Rig,
    answer,
    called,
    ended,
    last,
    many,
    ringing,
    states,
)

RECEIVED = Answer(AnswerState.RECEIVED, MINE, 1)
TOPIC = f"sig/v1/peer/answer/me/{CALL}"


# --- 3: accept -----------------------------------------------------------------------------


def test_accept_is_said_and_waits_for_the_caller() -> None:
    """Accepted with the response; the app hears *accepted* only when the caller decided."""
    rig = called()
    rig.feed(Accept(PEER, CALL, b"\x61x"))
    assert rig.said == [Answer(AnswerState.ACCEPTED, MINE, 2, b"\x61x")]
    assert rig.new == []
    rig.hear(ACCEPTED)
    assert (states(rig), rig.new) == ([("SEEN", None)], ["remote_invitation_accepted"])
    assert last(rig).call.reason is EndReason.ACCEPTED


def test_accept_is_said_again_within_its_timeout() -> None:
    """After 1 and 3 s; at 5 s: failed, accept failure."""
    rig = called()
    rig.feed(Accept(PEER, CALL))
    said = [(at - 1000, c.state.name) for at, c in rig.until(1005) if isinstance(c, Answer)]
    assert said == [(1, "ACCEPTED"), (3, "ACCEPTED"), (5, "FAILED")]
    assert last(rig).call.error is RemoteInvitationError.ACCEPT_FAILURE


@pytest.mark.parametrize(
    ("reason", "name"),
    [(1, "remote_invitation_canceled"), (2, "remote_invitation_canceled"),
     (3, "remote_invitation_failure")],
)  # fmt: skip
def test_after_accept_the_callers_word_counts(reason: int, name: str) -> None:
    """Accept crossing cancel: canceled, whatever was pressed here."""
    rig = called()
    rig.feed(Accept(PEER, CALL))
    rig.hear(ended(reason))
    assert (states(rig), rig.new) == ([("SEEN", None)], [name])


@pytest.mark.parametrize("retained", [True, False])
def test_a_ringing_copy_after_accept_gets_the_accept_again(retained: bool) -> None:
    """The caller has not had it yet; the deadline of the accept stays."""
    rig = called()
    rig.feed(Accept(PEER, CALL))
    rig.now += 0.5
    rig.hear(ringing(), retained=retained)
    assert states(rig) == [("ACCEPTED", None)]
    rig.until(1005)
    assert rig.told[-1] == "remote_invitation_failure"


# --- 4: refuse -----------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [AnswerReason.DECLINED, AnswerReason.BUSY,
                                    AnswerReason.DO_NOT_DISTURB])  # fmt: skip
def test_refuse_is_final_here(reason: AnswerReason) -> None:
    """Told at once, whatever the caller says later."""
    rig = called()
    rig.feed(Refuse(PEER, CALL, b"\x61x", reason))
    assert rig.said == [Answer(AnswerState.REFUSED, MINE, 2, b"\x61x", reason)]
    assert rig.new == ["remote_invitation_refused"]
    rig.hear(ended(1))
    assert (states(rig), rig.new) == ([("REFUSED", reason)], [])


# --- 5: the caller's end -------------------------------------------------------------------


@pytest.mark.parametrize("retained", [True, False])
@pytest.mark.parametrize(
    ("reason", "missed"), [(1, 1), (2, 0), (3, 1), (4, 1), (5, 1), (6, 1), (99, 1), (None, 1)]
)
def test_an_end_of_what_never_rang_is_a_missed_call(
    reason: int | None, missed: int, retained: bool
) -> None:
    """Told once, with caller and time; answered elsewhere is none."""
    rig = Rig().connect()
    for _ in range(2):
        rig.hear(ended(reason, time=7, content=b"\x01"), retained=retained)
        assert states(rig) == [("SEEN", None)]
    assert rig.told == ["missed_call"] * missed
    if missed:
        assert (last(rig).call.caller, last(rig).call.offer.time) == (PEER, 7)


def test_an_asked_call_that_turns_out_ended_is_missed_once() -> None:
    """Found retained, then the caller's answer: it is over."""
    rig = Rig().connect()
    rig.hear(ringing(), retained=True)
    rig.hear(ended(6))
    rig.hear(ended(6))
    assert rig.told == ["missed_call"]


def test_an_end_while_ringing_ends_the_ringing() -> None:
    """Not a missed call: it rang."""
    rig = called()
    rig.hear(ended(1))
    assert rig.told == ["remote_invitation_received", "remote_invitation_canceled"]


@pytest.mark.parametrize("accepting", [True, False])
def test_a_cleared_invite_is_canceled(accepting: bool) -> None:
    """No end was seen; the answer cell goes too, and the call is remembered as seen."""
    rig = called()
    if accepting:
        rig.feed(Accept(PEER, CALL))
    rig.hear(None, kind="invite")
    assert (states(rig), rig.new) == ([None], ["remote_invitation_canceled"])
    rig.ack()
    rig.hear(ringing())
    assert "remote_invitation_received" not in rig.new
    assert states(rig) == [("SEEN", None)]


def test_a_cleared_invite_of_an_asked_call_is_told_to_nobody() -> None:
    """It never rang, and nothing says that it should have."""
    rig = Rig().connect()
    rig.hear(ringing(), retained=True)
    rig.hear(None, kind="invite")
    assert (states(rig), rig.told) == ([None], [])


def test_a_cleared_invite_of_an_unknown_call_is_nothing() -> None:
    """Nothing said, nothing told, nothing kept."""
    rig = Rig().connect()
    rig.hear(None, kind="invite")
    assert (rig.effects, rig.engine.callee.calls) == ([], {})


@pytest.mark.parametrize("before", ["unknown", "asked", "ringing"])
def test_accepted_that_i_do_not_wait_for_fails(before: str) -> None:
    """A previous login of mine answered: the caller learns that nobody is there."""
    rig = Rig().connect()
    if before != "unknown":
        rig.hear(ringing(), retained=before == "asked")
    rig.hear(ACCEPTED)
    assert states(rig) == [("FAILED", 4)]
    assert rig.new == (["remote_invitation_failure"] if before == "ringing" else [])


# --- 6: time and the caller's presence -----------------------------------------------------


def test_ringing_past_its_deadline_expires() -> None:
    """Ttl + 2 s: failed, callee expired."""
    rig = called()
    assert rig.until(1061.9) == []
    rig.until(1062)
    assert states(rig) == [("FAILED", 5)]
    assert last(rig).call.error is RemoteInvitationError.INVITATION_EXPIRE


@pytest.mark.parametrize("retained", [True, False])
def test_a_caller_gone_offline_has_ten_seconds(retained: bool) -> None:
    """Its will with the invite's epoch: the deadline shrinks, and is never moved out."""
    rig = called()
    rig.hear_presence(Presence(False, THEIRS), retained=retained)
    rig.now += 5
    rig.hear_presence(Presence(False, THEIRS), retained=retained)
    assert [at for at, _ in rig.until(1011)] == [1010]
    late = called()
    late.until(1055)
    late.hear_presence(Presence(False, THEIRS))
    assert next(at for at, _ in late.until(1070)) == 1062


def test_a_caller_back_in_time_rings_on() -> None:
    """Its resync extends the deadline again."""
    rig = called()
    rig.hear_presence(Presence(False, THEIRS))
    rig.now += 5
    rig.hear_presence(Presence(True, THEIRS))
    rig.hear(ringing(55_000))
    assert [at for at, _ in rig.until(1063)] == [1062]


def test_a_late_will_of_another_epoch_is_nothing() -> None:
    """Offline, but not the login that calls."""
    rig = called()
    rig.hear_presence(Presence(False, b"oldepoch"))
    assert [at for at, _ in rig.until(1063)] == [1062]


@pytest.mark.parametrize("retained", [True, False])
def test_another_login_of_the_caller_is_doubt(retained: bool) -> None:
    """It may be older than the invite, a bridge's without the flag, too: ask, ring 10 s at most."""
    rig = called()
    rig.hear_presence(Presence(True, b"another!"), retained=retained)
    assert [(c.state, c.ask) for c in rig.said if isinstance(c, Answer)] == [
        (AnswerState.RECEIVED, True)
    ]
    assert [at for at, _ in rig.until(1011)] == [1010]
    assert states(rig)[-1:] == [("FAILED", 6)]
    assert last(rig).call.error is RemoteInvitationError.PEER_OFFLINE


@pytest.mark.parametrize("retained", [True, False])
def test_doubt_is_lifted_by_an_answer_of_who_is_read_online_again(retained: bool) -> None:
    """An answer alone may be an old one of a bridge's, too: ask again, and read what stands there.

    A caller asked twice says its presence before it answers; then the deadline is its ttl again.
    """
    rig = called()
    rig.hear_presence(Presence(True, b"another!"), retained=retained)
    rig.hear(ringing(asker=MINE))
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    assert Subscribe((topics.presence("sig", PEER),)) in rig.effects
    rig.hear_presence(Presence(True, THEIRS))
    rig.hear(ringing(asker=MINE))
    assert [at for at, _ in rig.until(1063) if at > 1002] == [1062]


def test_a_caller_that_is_itself_again_is_asked_how_long_it_rings() -> None:
    """Where the first question met nobody: an older login's word was in between, and is put right.

    Then the call that rang out is no caller's that was lost.
    """
    rig = called()
    rig.hear_presence(Presence(True, b"another!"))
    rig.now += 2
    rig.said.clear()
    rig.hear_presence(Presence(True, THEIRS))
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    rig.until(1011)
    assert states(rig)[-1:] == [("FAILED", 5)]


def test_another_login_of_the_caller_does_not_end_what_was_accepted() -> None:
    """The decision, or the end of the wait for it, is near: a word of the broker's ends nothing."""
    rig = called()
    rig.feed(Accept(PEER, CALL))
    rig.hear_presence(Presence(True, b"another!"))
    assert states(rig) == []
    rig.until(1006)
    assert states(rig)[-1:] == [("FAILED", 4)]


def test_the_caller_online_as_it_was_is_nothing() -> None:
    """Same epoch: nothing to say, nothing to do."""
    rig = called()
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    rig.hear_presence(None)
    assert rig.said == []
    assert [at for at, _ in rig.until(1063)] == [1062]


# --- 7: seen, saying again, clearing, remembering -------------------------------------------


def test_final_answers_are_said_until_the_invite_is_cleared() -> None:
    """After 2, 4, 8, 16, 30, 30 s; then the answer is cleared too."""
    rig = called()
    rig.feed(Refuse(PEER, CALL))
    said = rig.until(1091)
    assert [at - 1000 for at, _ in said] == [2, 6, 14, 30, 60, 90]
    rig.hear(None, kind="invite")
    assert rig.published == [(TOPIC, None)]
    rig.ack()
    assert rig.until(1500) == []


def test_final_answers_nobody_reads_are_kept_for_a_day() -> None:
    """missed_call_ttl after the end, the cell is cleared."""
    rig = called(missed_call_ttl=50)
    rig.feed(Refuse(PEER, CALL))
    said = rig.until(1050)
    assert said[-1] == (1050, None)


@pytest.mark.parametrize("copy", [ringing(), ACCEPTED, ended()])
@pytest.mark.parametrize("retained", [True, False])
def test_a_remembered_call_gets_its_answer_again(copy: Invite, retained: bool) -> None:
    """Any invite for it that is not empty; then it is said again until that is cleared."""
    rig = called()
    rig.feed(Refuse(PEER, CALL, reason=AnswerReason.BUSY))
    rig.hear(None, kind="invite")
    rig.ack()
    rig.now += 500
    rig.hear(copy, retained=retained)
    assert (states(rig), rig.new) == ([("REFUSED", 2)], [])
    assert [at - 1500 for at, _ in rig.until(1502)] == [2]
    rig.hear(None, kind="invite")
    assert states(rig) == [None]


def test_a_cleared_copy_of_a_remembered_call_is_cleared() -> None:
    """In case the answer still stands there."""
    rig = called()
    rig.feed(Refuse(PEER, CALL))
    rig.hear(None, kind="invite")
    rig.ack()
    rig.hear(None, kind="invite")
    assert rig.published == [(TOPIC, None)]


def test_a_call_is_remembered_for_ten_minutes() -> None:
    """From the acknowledged clear; then its id is as good as new."""
    rig = called()
    rig.feed(Refuse(PEER, CALL))
    rig.hear(None, kind="invite")
    rig.ack()
    rig.until(1599.9)
    assert len(rig.engine.callee.remembered) == 1
    rig.until(1600)
    assert rig.engine.callee.remembered == {}
    rig.hear(ringing())
    assert rig.new == ["remote_invitation_received"]


def test_at_most_4096_calls_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first (shown with a bound of 16)."""
    assert MAX_REMEMBERED == 4096
    monkeypatch.setattr(side, "MAX_REMEMBERED", 16)
    rig = Rig().connect()
    for i in range(17):
        rig.hear(ended(2), call=many(i))
        rig.hear(None, kind="invite", call=many(i))
        rig.ack()
    remembered = [call_id for _, call_id in rig.engine.callee.remembered]
    assert remembered == [many(i) for i in range(1, 17)]


def test_a_clear_is_repeated_until_the_broker_has_it() -> None:
    """It is part of the resync."""
    rig = called()
    rig.feed(Refuse(PEER, CALL))
    rig.hear(None, kind="invite")
    rig.drop()
    rig.connect()
    assert (TOPIC, None) in rig.published
    rig.ack()
    rig.drop()
    rig.connect()
    assert all(CALL not in topic for topic, _ in rig.published)


def test_a_copy_while_clearing_gets_the_answer_again() -> None:
    """The caller said it again before it heard: the answer stands again until cleared."""
    rig = called()
    rig.feed(Refuse(PEER, CALL))
    rig.hear(None, kind="invite")
    rig.hear(ringing())
    assert states(rig) == [("REFUSED", 1)]
    rig.ack()
    assert rig.engine.callee.calls[PEER, CALL].phase.name == "OVER"


# --- the link ------------------------------------------------------------------------------


def test_the_resync_says_every_live_answer_once() -> None:
    """Ringing says received, asked asks, over says its final answer; nothing while offline."""
    rig = called()
    rig.hear(ringing(), call=OTHER, retained=True)
    rig.hear(ringing(), call=many(7))
    rig.feed(Refuse(PEER, many(7)))
    rig.drop()
    assert [at for at, _ in rig.until(1010)] == []
    rig.connect()
    said = {t.rsplit("/", 1)[1]: c for t, c in rig.published if isinstance(c, Answer)}
    assert {k: (c.state.name, c.ask) for k, c in said.items()} == {
        CALL: ("RECEIVED", False), OTHER: ("RECEIVED", True), many(7): ("REFUSED", False),
    }  # fmt: skip
    assert rig.told.count("remote_invitation_received") == 2


def test_a_refusal_without_a_link_is_said_with_the_resync() -> None:
    """Told at once here, said when it can be."""
    rig = called()
    rig.drop()
    rig.feed(Refuse(PEER, CALL))
    assert (rig.said, rig.new) == ([], ["remote_invitation_refused"])
    rig.connect()
    assert ("REFUSED", 1) in states(rig)


# --- a previous login -------------------------------------------------------------------------


def test_a_received_of_a_former_life_is_asked_about() -> None:
    """After a second, if the invite itself has not come with the inbox by then."""
    rig = Rig().connect(settled=False)
    rig.hear_own(answer(AnswerState.RECEIVED, epoch=b"former00", seq=7))
    assert rig.said == []
    assert rig.until(1001) == [(1001, Answer(AnswerState.RECEIVED, MINE, 8, ask=True))]
    rig.hear(ringing(asker=MINE))
    assert rig.told == ["remote_invitation_received"]


def test_an_accepted_of_a_former_life_fails() -> None:
    """The caller may have decided for it, and nobody here waits for that any more."""
    rig = Rig().connect(settled=False)
    rig.hear_own(answer(AnswerState.ACCEPTED, epoch=b"former00", seq=7))
    assert rig.said == []
    rig.settle()
    assert rig.said == [Answer(AnswerState.FAILED, MINE, 8, None, AnswerReason.ACCEPT_FAILURE)]
    rig.hear(ringing())
    assert (states(rig), rig.told) == ([("FAILED", 4)], [])


def test_a_final_answer_of_a_former_life_stands() -> None:
    """Said again, and again, until the invite is cleared."""
    rig = Rig().connect(settled=False)
    rig.hear_own(answer(AnswerState.REFUSED, epoch=b"former00", seq=7, reason=2))
    assert rig.said == []
    rig.settle()
    assert rig.said == [Answer(AnswerState.REFUSED, MINE, 8, None, 2)]
    rig.hear(ringing(), retained=True)
    assert (states(rig), rig.told) == ([("REFUSED", 2)], [])
    rig.hear(None, kind="invite")
    assert states(rig) == [None]


# --- the app's illegal calls, logging out ---------------------------------------------------


@pytest.mark.parametrize("command", [Accept(PEER, CALL), Refuse(PEER, CALL)])
@pytest.mark.parametrize(
    ("before", "code"),
    [("unknown", 3), ("asked", 3), ("accepting", 4), ("refused", 3), ("canceled", 3)],
)
def test_illegal_answers(command: Accept | Refuse, before: str, code: int) -> None:
    """ALREADY_ACCEPT while the accept is underway, ALREADY_END otherwise; nothing changes."""
    rig = Rig().connect()
    if before != "unknown":
        rig.hear(ringing(), retained=before == "asked")
    if before == "accepting":
        rig.feed(Accept(PEER, CALL))
    elif before == "refused":
        rig.feed(Refuse(PEER, CALL))
    elif before == "canceled":
        rig.hear(ended(1))
    calls = dict(rig.engine.callee.calls)
    with pytest.raises(InvitationApiCallError) as caught:
        rig.feed(command)
    assert caught.value.code == code
    assert (rig.effects, rig.engine.callee.calls) == ([], calls)


def test_logging_out_leaves_what_rings_for_the_next_login() -> None:
    """The app is told, the caller is not: no final answer."""
    rig = called()
    rig.feed(Logout())
    assert states(rig) == []
    assert last(rig).call.reason is EndReason.LOGGED_OUT
    assert rig.new == ["remote_invitation_failure"]


def test_logging_out_after_accept_is_an_accept_failure() -> None:
    """Somebody waits there: the caller learns that nobody is here any more."""
    rig = called()
    rig.feed(Accept(PEER, CALL))
    rig.feed(Logout())
    assert states(rig) == [("FAILED", 4)]
    assert rig.new == ["remote_invitation_failure"]


def test_nothing_rings_while_logging_out() -> None:
    """An invite that comes before the broker's last word stays for the next login."""
    rig = Rig().connect()
    rig.feed(Logout())
    rig.hear(ringing())
    assert (states(rig), rig.told) == ([], [])


def test_a_newer_login_takes_what_rings_without_a_word() -> None:
    """The app is told; the answer cells are the newer login's now."""
    rig = called()
    rig.hear(ringing(), call=OTHER)
    rig.feed(Accept(PEER, OTHER))
    rig.hear_presence(Presence(True, b"newlogin"), "me")
    assert [e for e in rig.effects if isinstance(e, Publish)] == []
    assert rig.new == ["remote_invitation_failure"] * 2
    assert last(rig).call.reason is EndReason.LOGGED_OUT


# --- what is suppressed for a while is said after it -------------------------------------------


def test_a_caller_that_flaps_is_asked_once_more_when_it_is_quiet_again() -> None:
    """Each of its wills shortens the ring; the last one is asked about, too, if a little later."""
    rig = called()
    for _ in range(4):  # away and back within a moment: two questions at once, then no more
        rig.hear_presence(Presence(False, THEIRS))
        rig.hear_presence(Presence(True, THEIRS))
        rig.hear(ringing(asker=MINE))
    rig.hear_presence(Presence(False, THEIRS))
    rig.hear_presence(Presence(True, THEIRS))
    said = rig.until(rig.now + 5)
    assert [cell.ask for _, cell in said if isinstance(cell, Answer)] == [True]
    rig.hear(ringing(asker=MINE))
    rig.until(rig.now + 30)
    assert rig.told == ["remote_invitation_received"]


def test_a_probe_does_not_wait_long_for_a_caller_that_flaps() -> None:
    """Its probes are 30 s apart by then: they begin anew, with the one after 1 s."""
    rig = Rig(there=False).connect()
    rig.hear(ringing(), retained=True)
    rig.until(rig.now + 100)
    for _ in range(4):
        rig.hear_presence(Presence(False, THEIRS))
        rig.hear_presence(Presence(True, THEIRS))
    said = rig.until(rig.now + 1.1)
    assert [cell.ask for _, cell in said if isinstance(cell, Answer)] == [True]


# --- what ends where nobody waits for it any more ----------------------------------------------


def test_a_newer_login_leaves_what_is_over_here() -> None:
    """The app was told its end before: of what was refused there is nothing to tell again."""
    rig = called()
    rig.feed(Refuse(PEER, CALL))
    told = list(rig.told)
    rig.hear_presence(Presence(True, b"newerone", generation=1), rig.me)
    assert rig.engine.closed
    assert rig.told == told
