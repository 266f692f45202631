"""Who may ring at a callee: its screen, a policy that is waited for, caps against floods."""

from __future__ import annotations

from typing import Any

import pytest

from device_sdk.core.admission import Held
from device_sdk.core.callee import CalleeCall
from device_sdk.core.effects import (
    AskPolicy,
    Logout,
    PolicyVerdict,
    Refuse,
)
from device_sdk.core.settings import MAX_KEPT, Settings
from device_sdk.core.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    Invite,
    InviteState,
    Presence,
)
from tests.rig import (
    CALL,
    MINE,
    OTHER,
    PEER,
    THEIRS,
    Rig,
    called,
    ended,
    many,
    ringing,
    states,
)

RECEIVED = Answer(AnswerState.RECEIVED, MINE, 1)
TOPIC = f"sig/v1/peer/answer/me/{CALL}"


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
