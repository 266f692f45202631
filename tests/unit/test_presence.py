"""Whose presence is watched and for how long; and telling a newer login from what is left over."""

from __future__ import annotations

import pytest

from device_sdk.cells import Presence
from device_sdk.presence import Known, OwnPresence, Verdict, Watches

MINE, OTHER, THIRD = b"mine1234", b"other123", b"third123"


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
    assert watches.of("a") == Known(None, b"", current=True)
    watches.confirmed("not watched")
    assert "not watched" not in watches.known


def test_hearing_of_a_peer_nobody_watches_is_told_apart() -> None:
    """None instead of what was known before."""
    watches = Watches(600)
    assert watches.heard("a", Presence(True, OTHER)) is None
    watches.enter("a")
    assert watches.heard("a", Presence(True, OTHER)) == Known()
    assert watches.heard("a", Presence(True, OTHER)) == Known(True, OTHER, current=True)


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

ON, OFF = True, False


@pytest.mark.parametrize(
    ("readings", "verdict"),
    [
        # (online, epoch, retained, settled) one after the other; the verdict on the last.
        ([(ON, MINE, False, False)], "ECHO"),
        ([(ON, MINE, True, False)], "NOTHING"),
        ([(ON, MINE, False, True)], "ECHO"),
        ([(OFF, MINE, False, True)], "SAY_AGAIN"),
        ([(OFF, MINE, True, True)], "SAY_AGAIN"),
        # before the first connection has settled everything foreign is a former life's
        ([(ON, OTHER, True, False)], "NOTHING"),
        ([(ON, OTHER, False, False)], "SAY_AGAIN"),
        ([(OFF, OTHER, False, False)], "SAY_AGAIN"),
        ([(OFF, OTHER, True, False), (ON, OTHER, True, True)], "SAY_AGAIN"),
        ([(ON, OTHER, True, False), (OFF, OTHER, False, True)], "SAY_AGAIN"),
        # later an unknown one that is online is a newer login
        ([(ON, OTHER, False, True)], "ABORT"),
        ([(ON, OTHER, True, True)], "ABORT"),
        # one that is offline may be a late will; coming back on another connection it is alive
        ([(OFF, OTHER, False, True)], "SAY_AGAIN"),
        ([(OFF, OTHER, True, True)], "SAY_AGAIN"),
        ([(OFF, OTHER, False, True), (OFF, OTHER, False, True)], "SAY_AGAIN"),
        ([(OFF, OTHER, False, True), (OFF, OTHER, True, True)], "ABORT"),
        ([(OFF, OTHER, False, True), (OFF, THIRD, True, True)], "SAY_AGAIN"),
        ([(OFF, OTHER, False, True), (ON, OTHER, False, True)], "ABORT"),
    ],
)
def test_the_verdict_on_ones_own_presence(
    readings: list[tuple[bool, bytes, bool, bool]], verdict: str
) -> None:
    """docs/protocol.md, Newer logins: each kind of reading, alone and after another."""
    own = OwnPresence(MINE)
    for online, epoch, retained, settled in readings:
        got = own.read(Presence(online, epoch), retained=retained, settled=settled)
    assert got.name == verdict


@pytest.mark.parametrize(
    ("readings", "verdict"),
    [
        # (online, retained, settled) of another epoch, after the first connection broke unsettled
        ([(ON, True, False)], "NOTHING"),
        ([(OFF, True, False)], "NOTHING"),
        ([(OFF, False, False)], "SAY_AGAIN"),
        ([(OFF, True, False), (OFF, False, True)], "SAY_AGAIN"),
        ([(OFF, True, False), (OFF, True, True)], "ABORT"),
        ([(ON, True, False), (OFF, True, False)], "ABORT"),
        ([(OFF, True, False), (ON, False, True)], "ABORT"),
    ],
)
def test_a_first_connection_that_broke_leaves_suspects(
    readings: list[tuple[bool, bool, bool]], verdict: str
) -> None:
    """Who is read then may have broken it: alive when it comes back, never at the first sight."""
    own = OwnPresence(MINE)
    for online, retained, settled in readings:
        got = own.read(Presence(online, OTHER), retained=retained, settled=settled, first=False)
    assert got.name == verdict


@pytest.mark.parametrize("settled", [True, False])
def test_an_absent_presence_of_mine_is_said_again(settled: bool) -> None:
    """Somebody cleared it."""
    own = OwnPresence(MINE)
    assert own.read(None, retained=False, settled=settled) is Verdict.SAY_AGAIN


def test_a_clone_of_it_is_independent() -> None:
    """A suspect of the copy is none of the original."""
    own = OwnPresence(MINE)
    other = own.clone()
    other.read(Presence(False, OTHER), retained=False, settled=True)
    assert (own.suspects, other.suspects) == (frozenset(), frozenset({OTHER}))
