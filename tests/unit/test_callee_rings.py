"""What makes a call ring at its callee: live, retained, asked about, said again."""

from __future__ import annotations

import pytest

from device_sdk.core.effects import (
    Subscribe,
    Watch,
)
from device_sdk.core.settings import Settings
from device_sdk.core.wire.cells import Answer, AnswerReason, AnswerState, Presence
from tests.rig import (
    CALL,
    MINE,
    OTHER,
    PEER,
    THEIRS,
    Rig,
    called,
    ended,
    last,
    ringing,
    states,
)

RECEIVED = Answer(AnswerState.RECEIVED, MINE, 1)
TOPIC = f"sig/v1/peer/answer/me/{CALL}"


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
