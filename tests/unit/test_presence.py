"""Whose presence is watched and for how long; how a newer login is told from what is left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.core.presence import Known, OwnPresence, PresenceVerdict, Watches
from device_sdk.core.wire.cells import Presence

MINE, OTHER = b"mine1234", b"other123"


# --- watches -------------------------------------------------------------------------------


def test_a_peer_is_subscribed_with_its_first_call_and_stays_a_while() -> None:
    """Two calls subscribe once; after the last one it lingers, and a new call keeps it."""
    watches = Watches(600)
    assert (watches.enter("a"), watches.enter("a")) == (True, False)
    watches.leave("a", 10)
    assert watches.deadline() is None
    watches.leave("a", 20)
    assert watches.deadline() == 620
    assert watches.expire(619) == []
    assert watches.enter("a") is False
    assert watches.deadline() is None
    watches.leave("a", 30)
    assert watches.expire(630) == ["a"]
    assert watches.enter("a") is True


def test_what_the_app_watches_stays_until_it_says_otherwise() -> None:
    """No call ends it; unwatching during a call does not either."""
    watches = Watches(600)
    assert watches.watch("a") is True
    watches.enter("a")
    watches.leave("a", 0)
    assert watches.deadline() is None
    watches.enter("a")
    watches.unwatch("a", 5)
    assert watches.deadline() is None
    watches.leave("a", 7)
    assert watches.deadline() == 607


def test_watching_a_peer_that_lingers_keeps_it() -> None:
    """No second subscription, no expiry."""
    watches = Watches(600)
    watches.enter("a")
    watches.leave("a", 0)
    assert watches.watch("a") is False
    assert watches.deadline() is None
    watches.unwatch("a", 1)
    watches.unwatch("never seen", 1)
    assert watches.deadline() == 601


def test_the_oldest_of_too_many_idle_peers_go() -> None:
    """The bound holds at the next expiry, the oldest first."""
    watches = Watches(10, most=2)
    for i, peer in enumerate("abcd"):
        watches.enter(peer)
        watches.leave(peer, i)
    assert watches.expire(0) == ["a", "b"]


def test_a_refused_presence_of_a_peer_that_lingers_is_let_go() -> None:
    """No other has to give its place, and no more than so many linger from then on."""
    watches = Watches(600)
    for peer in ("a", "b", "c"):
        watches.enter(peer)
        watches.leave(peer, 0.0)
    assert watches.make_room("b") is None
    assert set(watches.known) == {"a", "c"}
    watches.enter("d")
    watches.leave("d", 1.0)
    assert watches.expire(1.0) == ["a"]


def test_away_is_known_as_of_now_only() -> None:
    """Offline, or absent though the broker confirmed; not from before a broken link."""
    watches = Watches(600)
    assert not watches.of("a").away
    watches.enter("a")
    assert not watches.of("a").away
    watches.confirmed("a")
    assert watches.of("a").away
    watches.heard("a", Presence(True, OTHER))
    assert not watches.of("a").away
    watches.heard("a", Presence(False, OTHER))
    assert watches.of("a").away
    watches.disconnected()
    assert not watches.of("a").away
    watches.heard("a", None)
    assert watches.of("a") == Known(None, b"", current=True, read=True)
    watches.confirmed("not watched")
    assert "not watched" not in watches.known


def test_hearing_of_a_peer_nobody_watches_is_told_apart() -> None:
    """None instead of what was known before."""
    watches = Watches(600)
    assert watches.heard("a", Presence(True, OTHER)) is None
    watches.enter("a")
    assert watches.heard("a", Presence(True, OTHER)) == Known()
    assert watches.heard("a", Presence(True, OTHER)) == Known(True, OTHER, current=True, read=True)


def test_a_clone_is_independent() -> None:
    """Changing one leaves the other."""
    watches = Watches(600)
    watches.enter("a")
    other = watches.clone()
    other.enter("b")
    other.leave("a", 0)
    assert (list(watches.known), watches.deadline()) == (["a"], None)
    assert (list(other.known), other.deadline()) == (["a", "b"], 600)


# --- one's own -----------------------------------------------------------------------------

ON, OFF, ASK = "online", "offline", "ask"


def heard(
    own: OwnPresence,
    what: str,
    epoch: bytes = OTHER,
    generation: int = 0,
    *,
    age: int = 0,
    retained: bool = False,
    settled: bool = True,
    first: bool = False,
    my_age: int = 1000,
) -> str:
    presence = Presence(what == ON, epoch, None, what == ASK, generation, age)
    verdict = own.read(presence, retained=retained, settled=settled, first=first, age=my_age)
    return verdict.name


def ranked(generation: int) -> OwnPresence:
    own = OwnPresence(MINE)
    own.generation = generation
    return own


@pytest.mark.parametrize(
    ("what", "more", "verdict", "generation"),
    [
        # my own
        (ON, {"epoch": MINE, "settled": False}, "ECHO", 5),
        (ON, {"epoch": MINE}, "ECHO", 5),
        (ON, {"epoch": MINE, "retained": True}, "NOTHING", 5),
        (OFF, {"epoch": MINE}, "REPUBLISH", 5),
        (OFF, {"epoch": MINE, "retained": True}, "REPUBLISH", 5),
        (ASK, {"epoch": MINE}, "NOTHING", 5),
        # what is found before the first echo is older, whatever it says
        (ON, {"generation": 7, "retained": True, "settled": False}, "NOTHING", 8),
        (ON, {"generation": 7, "settled": False}, "REPUBLISH", 8),
        (OFF, {"generation": 7, "settled": False}, "REPUBLISH", 8),
        (ON, {"generation": 3, "retained": True, "settled": False}, "NOTHING", 5),
        (ON, {"generation": 2**53 - 1, "retained": True, "settled": False}, "NOTHING", 2**53 - 1),
        # and so is what a slow broker's store says later on the first connection
        (ON, {"generation": 7, "retained": True, "first": True}, "REPUBLISH", 8),
        # a will proves nothing of anybody
        (OFF, {"generation": 7}, "REPUBLISH", 5),
        (OFF, {"generation": 7, "retained": True}, "REPUBLISH", 5),
        (ASK, {"generation": 7, "retained": True}, "REPUBLISH", 5),
        # the higher rank goes on: by generation, then by epoch
        (ON, {"generation": 6}, "ABORT", 5),
        (ON, {"generation": 6, "retained": True}, "ABORT", 5),
        (ASK, {"generation": 6}, "ABORT", 5),
        (ON, {"generation": 5}, "ABORT", 5),
        (ON, {"generation": 5, "epoch": b"aaaaaaaa"}, "DOUBT", 5),
        (ON, {"generation": 4}, "DOUBT", 5),
        (ASK, {"generation": 4}, "DOUBT", 5),
        # but over one that is older for certain mine is raised
        (ON, {"generation": 6, "age": 1000}, "ABORT", 5),
        (ON, {"generation": 6, "age": 1001}, "REPUBLISH", 7),
        (ON, {"generation": 6, "age": 1001, "retained": True}, "REPUBLISH", 7),
        (ASK, {"generation": 6, "age": 1001}, "REPUBLISH", 7),
        (ON, {"generation": 4, "age": 1001}, "REPUBLISH", 5),
    ],
)
def test_the_verdict_on_ones_own_presence(
    what: str, more: dict[str, Any], verdict: str, generation: int
) -> None:
    """docs/protocol.md, Newer logins: each kind of reading, at generation 5 and an age of 1 s."""
    own = ranked(5)
    assert heard(own, what, **more) == verdict
    assert own.generation == generation


def test_the_wills_of_others_never_end_a_login() -> None:
    """Nor are they remembered: a link that breaks at bad moments is no newer login."""
    own = OwnPresence(MINE)
    for i in range(1000):
        epoch = i.to_bytes(8, "big")
        for retained in (False, True, True):
            assert heard(own, OFF, epoch, retained=retained) == "REPUBLISH"
    assert vars(own) == {"_epoch": MINE, "generation": 0}


@given(
    st.lists(
        st.tuples(
            st.sampled_from((ON, OFF, ASK)), st.integers(0, 3), st.integers(0, 3000),
            st.booleans(), st.booleans(), st.booleans(),
        )
    )
)  # fmt: skip
def test_a_rank_only_grows_and_ends_only_below_another(readings: list[tuple[Any, ...]]) -> None:
    """Whatever is read: so of several the one whose rank is the highest never ends."""
    own = OwnPresence(MINE)
    for what, generation, age, retained, settled, first in readings:
        before = own.generation
        verdict = heard(own, what, OTHER, generation, age=age, retained=retained,
                        settled=settled, first=first)  # fmt: skip
        assert own.generation >= before
        if verdict == "ABORT":
            assert (generation, OTHER) > (own.generation, MINE)
            return


@pytest.mark.parametrize("settled", [True, False])
def test_an_absent_presence_of_mine_is_said_again(settled: bool) -> None:
    """Somebody cleared it."""
    own = OwnPresence(MINE)
    verdict = own.read(None, retained=False, settled=settled, first=False, age=0)
    assert verdict is PresenceVerdict.REPUBLISH


def test_a_clone_of_it_is_independent() -> None:
    """What the copy reads raises it alone."""
    own = OwnPresence(MINE)
    other = own.clone()
    heard(other, ON, generation=3, settled=False)
    assert (own.generation, other.generation) == (0, 4)
