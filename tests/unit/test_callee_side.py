"""The callee's half of the engine: ringing, asking, deadlines, answers, caps and memory."""

from __future__ import annotations

from typing import Any

import pytest

from device_sdk.core import side
from device_sdk.core.admission import Held, Screen
from device_sdk.core.callee import CalleeCall
from device_sdk.core.effects import (
    Accept,
    AskPolicy,
    Logout,
    PolicyVerdict,
    Publish,
    Refuse,
    Subscribe,
    Watch,
)
from device_sdk.core.events import RemoteEvent
from device_sdk.core.settings import MAX_KEPT, MAX_REMEMBERED, Settings
from device_sdk.errors import InvitationApiCallError
from device_sdk.states import EndReason, RemoteInvitationError
from device_sdk.wire import topics
from device_sdk.wire.cells import Answer, AnswerReason, AnswerState, Invite, InviteState, Presence
from device_sdk.wire.topics import call_id_from_bytes
from tests.rig import ACCEPTED, CALL, MINE, OTHER, PEER, THEIRS, Rig, answer, ended, ringing

RECEIVED = Answer(AnswerState.RECEIVED, MINE, 1)
TOPIC = f"sig/v1/peer/answer/me/{CALL}"


def called(*, screen: Screen | None = None, **settings: Any) -> Rig:
    """A peer where one call rings."""
    rig = Rig(settings=Settings(**settings), screen=screen).connect()
    rig.hear(ringing())
    return rig


def states(rig: Rig) -> list[tuple[str, int | None] | None]:
    """The answers said with the last input: state and reason; None is a clear."""
    return [
        (c.state.name, c.reason) if isinstance(c, Answer) else None
        for c in rig.said
        if c is None or isinstance(c, Answer)
    ]


def last(rig: Rig) -> RemoteEvent:
    """The last event, which is about a call that came in."""
    event = rig.events[-1]
    assert isinstance(event, RemoteEvent)
    return event


def many(number: int) -> str:
    """A call id for each number."""
    return call_id_from_bytes(number.to_bytes(16, "big"))


# --- 1: ringing, live and retained ----------------------------------------------------------


def test_a_live_invite_rings_at_once() -> None:
    """Rule 1: received is published, the app is told, in that order."""
    rig = Rig().connect()
    rig.hear(ringing(content=b"\x01", channel="c"))
    assert rig.published == [(TOPIC, RECEIVED)]
    assert rig.told == ["remote_invitation_received"]
    assert (last(rig).call.offer.content, last(rig).call.offer.channel) == (b"\x01", "c")


@pytest.mark.parametrize(("ttl", "retained"), [(60_000, True), (0, False), (0, True)])
def test_a_retained_invite_is_asked_about(ttl: int, retained: bool) -> None:
    """No ring; asked at once and again after 1, 2, 4, 8, 16, 30, 30 s."""
    rig = Rig().connect()
    rig.hear(ringing(ttl), retained=retained)
    assert rig.said == [Answer(AnswerState.RECEIVED, MINE, 1, ask=True)]
    said = rig.until(1000 + 91)
    assert [at - 1000 for at, _ in said] == [1, 3, 7, 15, 31, 61, 91]
    assert all(isinstance(c, Answer) and c.ask for _, c in said)
    assert rig.told == []


def test_an_asked_caller_that_lives_rings() -> None:
    """One round trip later; nothing is asked any more."""
    rig = Rig().connect()
    rig.hear(ringing(content=b"\x01"), retained=True)
    rig.hear(ringing(50_000, asker=MINE))
    assert rig.told == ["remote_invitation_received"]
    assert last(rig).call.offer.content == b"\x01"
    assert [at for at, _ in rig.until(1053)] == [1052]


@pytest.mark.parametrize("asker", [None, b"former00"])
@pytest.mark.parametrize("online", [True, False])
def test_what_a_bridge_hands_on_is_no_answer(asker: bytes | None, online: bool) -> None:
    """The cell that was asked about comes again, without RETAIN: asked again, and nothing rings.

    Nor does it by a presence, which a bridge may hand on as late; the caller's answer rings.
    """
    rig = Rig(there=False).connect()
    rig.hear(ringing(), retained=True)
    rig.hear_presence(Presence(online, THEIRS), retained=True)
    rig.hear(ringing(asker=asker))
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    rig.until(1070)
    assert rig.told == []
    rig.hear_presence(Presence(True, THEIRS))
    rig.hear(ringing(asker=MINE))
    assert rig.told == ["remote_invitation_received"]


def test_only_the_first_ring_of_two_peers_is_asked_about() -> None:
    """Presence stays subscribed after a call: each later ring saves the round trip."""
    rig = Rig(there=False).connect()
    rig.hear(ringing())
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    rig.hear(ended())
    rig.hear(None, kind="invite")
    rig.now += Settings().presence_linger / 2
    rig.hear(ringing(), call=OTHER)
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [False]
    assert rig.told.count("remote_invitation_received") == 2


def test_what_was_read_before_the_link_broke_is_no_presence_of_now() -> None:
    """A subscription may be granted before what stands there comes: until then, in doubt."""
    rig = called()
    rig.there = False
    rig.drop()
    rig.connect()
    rig.confirm()
    rig.hear(ringing(), call=OTHER)
    assert rig.told == ["remote_invitation_received"]
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    assert rig.told == ["remote_invitation_received"] * 2


def test_a_dead_caller_never_rings() -> None:
    """Asked for a day, then a missed call and *callee expired*."""
    rig = Rig(settings=Settings(missed_call_ttl=100)).connect()
    rig.hear(ringing(), retained=True)
    rig.until(1100)
    assert states(rig) == [("FAILED", 5)]
    assert rig.told == ["missed_call"]


def test_a_caller_that_comes_online_is_asked_at_once() -> None:
    """Its presence changing live is the moment to ask, not the next timer."""
    rig = Rig().connect()
    rig.hear(ringing(), retained=True)
    rig.hear_presence(Presence(False, THEIRS), retained=True)
    rig.until(1040)
    rig.hear_presence(Presence(True, b"newepoch"))
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]


def test_without_the_retain_flag_is_no_proof_of_life() -> None:
    """Nothing is known of the caller: asked, and its presence subscribed; a bridge hands on ghosts.

    It was online long ago, or is now with another epoch, or offline with this one: no ring.
    """
    rig = Rig(there=False).connect()
    rig.hear(ringing())
    assert rig.said == [Answer(AnswerState.RECEIVED, MINE, 1, ask=True)]
    assert Subscribe(("sig/v1/peer/presence",)) in rig.effects
    rig.hear_presence(Presence(False, THEIRS), retained=True)
    rig.hear_presence(Presence(True, b"newepoch"), retained=True)
    rig.until(1060)
    assert rig.told == []


def test_a_caller_read_online_rings_for_what_came_live() -> None:
    """One round trip to the broker; until the time that the invite said, and 2 s."""
    rig = Rig(there=False).connect()
    rig.hear(ringing(60_000, content=b"\x01"))
    rig.now += 0.001
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    assert (rig.said, rig.new) == ([], ["remote_invitation_received"])
    assert last(rig).call.offer.content == b"\x01"
    assert [at for at, _ in rig.until(1062)] == [1062]


def test_a_caller_read_online_too_late_rings_nothing() -> None:
    """After 2 s, or on another connection, its end may have been missed: only asking helps."""
    for lost in (False, True):
        rig = Rig(there=False).connect()
        rig.hear(ringing(60_000))
        if lost:
            rig.drop()
            rig.connect()
        else:
            rig.until(1002)
        rig.hear_presence(Presence(True, THEIRS), retained=True)
        assert rig.told == []


def test_what_came_retained_rings_for_no_presence() -> None:
    """The store may be older than the caller's end of it: only its own word counts."""
    rig = Rig(there=False).connect()
    rig.hear(ringing(), retained=True)
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    assert rig.told == []


def test_a_policy_is_asked_when_the_presence_is_read() -> None:
    """Refused before anything rings."""
    rig = Rig(there=False, screen=lambda *_: AnswerReason.BUSY).connect()
    rig.hear(ringing())
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    assert (states(rig), rig.told) == ([("REFUSED", 2)], ["missed_call"])


# --- 2: ringing again ----------------------------------------------------------------------


def test_a_live_copy_says_received_again_and_extends() -> None:
    """Rule 2: the deadline is now + ttl + 2 s; told once."""
    rig = called()
    rig.now += 10
    rig.hear(ringing(60_000))
    assert states(rig) == [("RECEIVED", None)]
    assert rig.told == ["remote_invitation_received"]
    assert rig.until(1071.9) == []
    assert [at for at, _ in rig.until(1072)] == [1072]


def test_what_a_bridge_hands_on_does_not_extend() -> None:
    """Its caller is gone: whatever it said is asked about; once it is back, its answer extends."""
    for asker in (None, MINE):
        rig = called()
        rig.hear_presence(Presence(False, THEIRS))
        rig.hear(ringing(asker=asker))
        assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
        assert [at for at, _ in rig.until(1011)] == [1010]
    rig = called()
    rig.hear_presence(Presence(False, THEIRS))
    rig.hear_presence(Presence(True, THEIRS))
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    rig.hear(ringing(30_000, asker=MINE))
    assert [at for at, _ in rig.until(1033)] == [1032]


def test_a_caller_that_answers_though_it_was_read_offline_is_read_once_more() -> None:
    """A will that came late, and to me alone, is corrected by nobody but the broker's store."""
    rig = Rig().connect()
    rig.feed(Watch(PEER))
    rig.hear_presence(Presence(False, THEIRS))
    rig.hear(ringing())
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    reading = Subscribe((f"sig/v1/{PEER}/presence",))
    assert reading not in rig.effects  # nothing speaks against what was read yet
    rig.hear(ringing(asker=MINE))
    assert reading in rig.effects
    assert "remote_invitation_received" not in rig.told
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    rig.hear(ringing(asker=MINE))
    assert rig.told[-1] == "remote_invitation_received"


def test_a_will_that_came_late_does_not_shorten_a_ring() -> None:
    """It is asked about; the answer has the presence read once more, and is asked for again."""
    rig = called()
    rig.hear_presence(Presence(False, THEIRS))
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    rig.hear(ringing(55_000, asker=MINE))
    assert Subscribe((f"sig/v1/{PEER}/presence",)) in rig.effects
    rig.now += 1
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    rig.hear(ringing(54_000, asker=MINE))
    assert [at for at, _ in rig.until(1058)] == [1057]


def test_a_retained_copy_of_what_rings_is_asked_about_and_does_not_extend() -> None:
    """After a reconnect the store may be old: the deadline stays until the caller speaks."""
    rig = called()
    rig.now += 30
    rig.hear(ringing(60_000), retained=True)
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    assert [at for at, _ in rig.until(1063)] == [1062]


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


# --- policies and caps ---------------------------------------------------------------------


@pytest.mark.parametrize("acked", [True, False])
def test_a_late_copy_that_is_not_answered_at_once_is_answered_all_the_same(acked: bool) -> None:
    """Of a login that was taken over, perhaps: who said it does not say it again, and it stands."""
    rig = called()
    for _ in range(3):
        rig.hear(ringing())
    rig.feed(Refuse(PEER, CALL))
    rig.hear(None, kind="invite")
    if acked:
        rig.ack()
    rig.hear(ringing())
    assert rig.said == []
    ((at, said), *_) = rig.until(1005)
    assert (at <= 1002, said) == (
        True,
        Answer(AnswerState.REFUSED, MINE, 5, None, AnswerReason.DECLINED),
    )


@pytest.mark.parametrize("doubted", [True, False])
def test_a_screen_turns_away_before_anything_rings(doubted: bool) -> None:
    """Refused with its reason, and told as missed; what may be a dead call is asked about first."""
    seen: list[tuple[CalleeCall, int]] = []

    def screen(call: CalleeCall, underway: int) -> AnswerReason | None:
        seen.append((call, underway))
        return AnswerReason.DO_NOT_DISTURB

    rig = Rig(screen=screen).connect()
    if doubted:
        rig.hear(ringing(content=b"\x01", channel="c", time=7), retained=True)
        assert (seen, rig.told) == ([], [])
        states(rig)
    rig.hear(ringing(content=b"\x01", channel="c", time=7, asker=MINE if doubted else None))
    assert (states(rig), rig.told) == ([("REFUSED", 3)], ["missed_call"])
    call, underway = seen[0]
    assert (call.caller, call.offer.content, call.offer.channel, call.offer.time, underway) == (
        PEER, b"\x01", "c", 7, 0,
    )  # fmt: skip


def test_a_screen_is_told_how_many_are_underway() -> None:
    """So that it can say busy."""
    rig = called(screen=lambda _, underway: AnswerReason.BUSY if underway else None)
    rig.hear(ringing(), call=OTHER)
    assert states(rig) == [("REFUSED", 2)]


# --- a policy that is waited for -----------------------------------------------------------


def held(**settings: Any) -> Rig:
    """A callee whose policy is asked about every call."""
    return Rig(screen=lambda *_: Held.HELD, settings=Settings(**settings)).connect()


def asked(rig: Rig) -> list[tuple[str, int]]:
    """Whom the policy is asked about by the last input, and how many are open."""
    return [(e.call.call_id, e.open_calls) for e in rig.effects if isinstance(e, AskPolicy)]


def test_nothing_is_said_until_the_policy_has_answered() -> None:
    """Then it rings, for what is left of the caller's time."""
    rig = held()
    rig.hear(ringing(ttl=8000))
    assert (asked(rig), states(rig), rig.told) == ([(CALL, 0)], [], [])
    rig.now += 3
    rig.feed(PolicyVerdict(PEER, CALL))
    assert (states(rig), rig.told) == ([("RECEIVED", None)], ["remote_invitation_received"])
    rig.until(1009.9)
    assert rig.told == ["remote_invitation_received"]
    rig.until(1010)
    assert rig.new == ["remote_invitation_failure"]


@pytest.mark.parametrize("refusal", [AnswerReason.BUSY, AnswerReason.DO_NOT_DISTURB])
def test_a_policy_that_says_no_turns_it_away(refusal: AnswerReason) -> None:
    rig = held()
    rig.hear(ringing())
    rig.feed(PolicyVerdict(PEER, CALL, refusal))
    assert (states(rig), rig.told) == ([("REFUSED", refusal)], ["missed_call"])


def test_one_call_at_a_time_is_asked_about() -> None:
    """So each is asked with all that rings by then; a copy asks nothing again."""
    rig = held()
    rig.hear(ringing())
    rig.hear(ringing())
    rig.hear(ringing(), call=OTHER)
    assert asked(rig) == []
    rig.feed(PolicyVerdict(PEER, CALL))
    assert asked(rig) == [(OTHER, 1)]
    rig.feed(PolicyVerdict(PEER, CALL, AnswerReason.BUSY))  # not asked for
    assert (rig.said, asked(rig)) == ([], [])


def test_a_policy_that_never_answers_rings_nobody_and_holds_nobody() -> None:
    """The caller learns it when its time is over; the next is asked about once it answers."""
    rig = held()
    rig.hear(ringing(ttl=8000))
    rig.until(1010)
    assert (states(rig), rig.told) == ([("FAILED", 5)], ["missed_call"])
    rig.hear(ringing(), call=OTHER)
    assert asked(rig) == []
    rig.feed(PolicyVerdict(PEER, CALL))
    assert asked(rig) == [(OTHER, 0)]


@pytest.mark.parametrize(
    ("cell", "answers", "told"),
    [
        (Invite(InviteState.ENDED, THEIRS, 2, reason=1), [("SEEN", None)], ["missed_call"]),
        (Invite(InviteState.ACCEPTED, THEIRS, 2), [("FAILED", 4)], []),
        (None, [None], []),
    ],
)
def test_what_its_caller_decides_meanwhile_is_over_unheard(
    cell: Invite | None, answers: list[Any], told: list[str]
) -> None:
    """A verdict that comes after rings nobody."""
    rig = held()
    rig.hear(ringing())
    rig.hear(cell, kind="invite")
    assert (states(rig), rig.told) == (answers, told)
    rig.feed(PolicyVerdict(PEER, CALL))
    assert (rig.said, rig.told) == ([], told)


def test_a_caller_that_dies_meanwhile_is_asked_about_and_never_rings() -> None:
    rig = held()
    rig.hear(ringing())
    rig.hear_presence(Presence(False, THEIRS))
    assert [cell.ask for cell in rig.said if isinstance(cell, Answer)] == [True]
    rig.feed(PolicyVerdict(PEER, CALL))
    assert rig.told == []


def test_a_caller_that_is_another_meanwhile_is_asked() -> None:
    """Without a word to the app: what was screened is in doubt, and screened anew, if ever."""
    rig = held()
    rig.hear(ringing())
    rig.hear_presence(Presence(True, b"another!"))
    assert [c.ask for c in rig.said if isinstance(c, Answer)] == [True]
    assert rig.told == []


def test_a_resync_says_nothing_of_what_waits_for_the_policy() -> None:
    """Its retained copy puts it in doubt, as any; a live one has the policy asked anew."""
    rig = held()
    rig.hear(ringing())
    rig.drop()
    rig.connect()
    assert [cell for cell in rig.said if isinstance(cell, Answer)] == []
    rig.hear(ringing(), retained=True)
    assert [cell.ask for cell in rig.said if isinstance(cell, Answer)] == [True]


def test_a_logout_leaves_it_for_the_next_login() -> None:
    rig = held()
    rig.hear(ringing())
    rig.feed(Logout())
    assert ([cell for cell in rig.said if isinstance(cell, Answer)], rig.told) == ([], [])


def test_what_a_flood_is_refused_is_paced_with_a_policy_too() -> None:
    """As if it had not come: a caller that gets no answer says its cell again."""
    rig = held()
    said = 0
    for i in range(80):
        rig.hear(ringing(), call=many(i))
        rig.feed(PolicyVerdict(PEER, many(i), AnswerReason.BUSY))
        said += len(rig.said)
    assert (said, len(rig.told)) == (64, 64)


def test_over_the_cap_of_one_caller_it_is_busy() -> None:
    """Eight underway from one caller; the ninth is refused busy, others may still call."""
    rig = Rig().connect()
    for i in range(8):
        rig.hear(ringing(), call=many(i))
        assert states(rig) == [("RECEIVED", None)]
    rig.hear(ringing(), call=many(8))
    assert (states(rig), rig.new) == ([("REFUSED", 2)], [])
    rig.hear(ringing(), call=many(9), peer="another")
    assert states(rig) == [("RECEIVED", None)]
    assert rig.engine.stats.counters["turned_away"] == 1


def test_what_is_asked_about_takes_no_place_of_a_live_call() -> None:
    """Eight dead calls of a doorbell that lost power stand there: its ninth, live, still rings."""
    rig = Rig().connect()
    for i in range(9):
        rig.hear(ringing(epoch=b"former-e"), call=many(i), retained=True)
        assert states(rig) == [("REFUSED", 2) if i == 8 else ("RECEIVED", None)]
    rig.hear_presence(Presence(True, THEIRS))
    rig.hear(ringing(), call=many(9))
    assert (states(rig), rig.new) == ([("RECEIVED", None)], ["remote_invitation_received"])


def test_a_call_that_was_asked_about_rings_within_the_caps_only() -> None:
    """Live at last, it finds eight that ring: busy, and nobody is told."""
    rig = Rig().connect()
    rig.hear(ringing(), call=many(9), retained=True)
    for i in range(8):
        rig.hear(ringing(), call=many(i))
    rig.hear(ringing(asker=MINE), call=many(9))
    assert (states(rig), rig.new) == ([("REFUSED", 2)], [])


def test_what_waited_for_the_policy_and_is_in_doubt_is_within_the_caps_too() -> None:
    """A caller that puts each of its calls in doubt is asked about eight of them."""
    rig = held()
    for i in range(20):
        rig.hear(ringing(), call=many(i))
        rig.hear(ringing(), call=many(i), retained=True)
    assert sum(rig.engine.callee.admission.probed.values()) == 8


def test_over_the_cap_of_all_callers_it_is_busy() -> None:
    """Sixty-four underway in all; each end makes room."""
    rig = Rig().connect()
    for i in range(64):
        rig.hear(ringing(), call=many(i), peer=f"p{i // 8}")
    rig.hear(ringing(), call=many(64), peer="another")
    assert states(rig) == [("REFUSED", 2)]
    rig.hear(ended(), call=many(0), peer="p0")
    rig.hear(ringing(), call=many(65), peer="another")
    assert states(rig) == [("RECEIVED", None)]


def test_a_flood_over_the_cap_is_answered_so_many_times_a_second() -> None:
    """All are counted; what this peer may publish is left for those who may ring."""
    rig = Rig().connect()
    for i in range(8):
        rig.hear(ringing(), call=many(i))
    refused = 0
    for i in range(8, 200):
        rig.hear(ringing(), call=many(i))
        refused += states(rig) == [("REFUSED", 2)]
    assert refused == 64
    rig.now += 0.25
    for i in range(200, 300):
        rig.hear(ringing(), call=many(i))
        refused += ("REFUSED", 2) in states(rig)
    assert refused == 64 + 5
    assert rig.engine.stats.counters["turned_away"] == 292
    rig.hear(ringing(), call=many(300), peer="another")
    assert states(rig) == [("RECEIVED", None)]


def test_a_flood_of_ends_is_answered_but_not_kept() -> None:
    """Over 256 kept calls a final answer is said once and remembered, with no timer."""
    rig = Rig().connect()
    for i in range(MAX_KEPT + 20):
        rig.now += 0.1
        rig.hear(ended(), call=many(i), peer=f"p{i}")
        assert [c for topic, c in rig.published if many(i) in topic]
    assert len(rig.engine.callee.calls) == MAX_KEPT
    assert len(rig.engine.callee.remembered) == 20


def test_a_flood_of_ends_is_answered_and_told_so_many_times_a_second() -> None:
    """10,000 ended cells of one peer: 64 missed calls at once, then 20 a second; others in full."""
    rig = Rig().connect()
    said = 0
    for i in range(10_000):
        rig.hear(ended(3), call=many(i), peer="mallory")
        said += len(rig.said)
    assert (said, len(rig.told)) == (64, 64)
    assert rig.engine.stats.drops == {"too many": 10_000 - 64}
    rig.hear(ended(3), call=many(10_001), peer="door")
    assert states(rig) == [("SEEN", None)]
    rig.hear(ringing(), call=many(10_002), peer="door")
    assert rig.new == ["remote_invitation_received"]
    rig.now += 0.5
    for i in range(9_000, 10_000):
        rig.hear(ended(3), call=many(i), peer="mallory")
        said += len(rig.said)
    assert said == 74


@pytest.mark.parametrize("cell", [ringing(0), ringing(), ended(1)], ids=["ttl 0", "rings", "ended"])
def test_copies_of_one_invite_are_answered_once_a_second(cell: Invite) -> None:
    """After a first word and two more at once; thousands of copies are a flood."""
    rig = Rig().connect()
    said = 0
    for _ in range(1000):
        rig.hear(cell)
        said += len([c for c in rig.said if isinstance(c, Answer)])
    assert said == 3
    rig.now += 5
    rig.hear(cell)
    assert len(rig.said) >= 1


def test_rings_that_end_by_themselves_do_not_pile_up() -> None:
    """Over 256 kept calls what rang and ended is remembered too: the caller says it again."""
    rig = Rig().connect()
    for i in range(MAX_KEPT + 40):
        rig.hear(ringing(), call=many(i), peer=f"p{i}")
        rig.hear(ended(1), call=many(i), peer=f"p{i}")
        assert len(rig.engine.callee.calls) <= MAX_KEPT
    assert len(rig.engine.callee.remembered) >= 40


def test_a_remembered_call_is_not_screened_again() -> None:
    """Its answer stands."""
    answers = iter([None])
    rig = called(screen=lambda *_: next(answers))
    rig.feed(Refuse(PEER, CALL))
    rig.hear(ringing())
    assert states(rig) == [("REFUSED", 1)]


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
