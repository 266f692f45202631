"""Calls that go on after *accepted*, on every broker: one end of each face, either way round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from device_sdk import CallState, InvalidArgument, TooManyMessages
from tests.broker_support.left import Standing, cells_of, nothing_is_left
from tests.integration.conftest import MakePeer, forgetful
from tests.peers import FACES, Loop, OffsetClock, Peer, Told, ring, talk
from tests.proxy import DOWN, Proxy
from tests.servers import BrokerProcess

#: How long the other one, or the own link, may be gone in the test of that.
GRACE = 5.0


@pytest.fixture
def other(face: str) -> str:
    """The face of the callee: not the caller's."""
    return FACES[1 - FACES.index(face)]


@pytest.fixture
def door(make_peer: MakePeer) -> Peer:
    return make_peer("front-door", talk=True)


@pytest.fixture
def kitchen(make_peer: MakePeer, other: str) -> Peer:
    return make_peer("kitchen", face=other, talk=True)


@pytest.fixture
def proxy(broker: BrokerProcess, loop: Loop) -> Iterator[Proxy]:
    with Proxy(broker.port, loop) as made:
        yield made


def messages(peer: Peer, count: int, call_id: str) -> list[Any]:
    """The first ``count`` messages that it was told in that call."""

    def done(told: list[Told]) -> list[Any] | None:
        found = [t.args[1] for t in told if t.name == "call_message" and t.call_id == call_id]
        return found if len(found) >= count else None

    return peer.heard.wait_until(done, 15, f"{peer.peer_id}: {count} messages") or []


def ended(call: Any, *peers: Peer, timeout: float = 10) -> set[str]:
    """Wait until each of them was told the one end of the call; why it is over."""
    told = [peer.expect("call_ended", call.call_id, timeout=timeout) for peer in peers]
    for peer, each in zip(peers, told, strict=True):
        assert peer.names(call.call_id)[-1] == "call_ended"
        assert peer.names(call.call_id).count("call_ended") == 1
        assert (each.state, each.args[0].reason) == ("OVER", each.args[1])
    return {str(each.args[1]) for each in told}


@pytest.fixture
def cells(broker: BrokerProcess, realm: str) -> Iterator[Standing]:
    """The cells of this test's calls that stand at the broker."""
    with closing(Standing(broker, *cells_of(realm))) as standing:
        yield standing


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", [True, False])
def test_messages_go_both_ways_in_order(
    make_peer: MakePeer, cells: Standing, face: str, other: str, *, same: bool
) -> None:
    """Said at once, from both ends; each is told once, in order, then one end."""
    door = make_peer("front-door", talk=True)
    kitchen = make_peer("kitchen", face=face if same else other, talk=True)
    mine, theirs = talk(door, kitchen)
    assert (mine.peer, theirs.peer) == ("kitchen", "front-door")
    for number in range(30):
        door.send_message(mine, {"text": f"to the kitchen {number}"})
        kitchen.send_message(theirs, [number, None, b"\x00", 1.5])
    assert messages(door, 30, mine.call_id) == [[n, None, b"\x00", 1.5] for n in range(30)]
    assert messages(kitchen, 30, mine.call_id) == [
        {"text": f"to the kitchen {n}"} for n in range(30)
    ]
    assert (mine.state, theirs.state) == (CallState.UP, CallState.UP)
    door.hang_up(mine)
    assert ended(mine, door, kitchen) == {"hung up"}
    assert door.names(mine.call_id) == [
        "local_invitation_received_by_peer", "local_invitation_accepted", "call_started",
        *["call_message"] * 30, "call_ended",
    ]  # fmt: skip
    cells.until_none(15)


def test_the_callee_hangs_up(cells: Standing, door: Peer, kitchen: Peer) -> None:
    """With a last message, which is told before the end."""
    mine, theirs = talk(door, kitchen)
    kitchen.send_message(theirs, "bye")
    kitchen.hang_up(theirs)
    assert ended(mine, door, kitchen) == {"hung up"}
    assert door.names(mine.call_id)[-2:] == ["call_message", "call_ended"]
    cells.until_none(15)


def test_messages_as_large_as_can_be(door: Peer, kitchen: Peer) -> None:
    """8,190 bytes encoded, several at once, each in a cell of its own; one byte more is refused."""
    mine, theirs = talk(door, kitchen)
    largest = [bytes([number]) * (8190 - 3) for number in range(4)]
    for peer, call in ((door, mine), (kitchen, theirs)):
        with pytest.raises(InvalidArgument, match="at most 8190"):
            peer.send_message(call, bytes(8190 - 2))
        for message in largest:
            peer.send_message(call, message)
    for peer in (door, kitchen):
        assert messages(peer, 4, mine.call_id) == largest


def test_64_messages_may_wait(make_peer: MakePeer, kitchen: Peer, proxy: Proxy) -> None:
    """One more is an error that changes nothing; all come once the other's word gets through."""
    door = make_peer("front-door", url=proxy.url, talk=True)
    mine, _ = talk(door, kitchen)
    proxy.hold(DOWN)
    for number in range(64):
        door.send_message(mine, number)
    with pytest.raises(TooManyMessages, match="64 messages wait"):
        door.send_message(mine, "one too many")
    proxy.release()
    assert messages(kitchen, 64, mine.call_id) == list(range(64))


# --- ends ----------------------------------------------------------------------------------------


def test_hang_ups_that_cross(
    make_peer: MakePeer, cells: Standing, kitchen: Peer, proxy: Proxy
) -> None:
    """Each is the other's final answer: one end for both."""
    door = make_peer("front-door", url=proxy.url, talk=True)
    mine, theirs = talk(door, kitchen)
    proxy.hold(DOWN)
    kitchen.hang_up(theirs)
    door.hang_up(mine)
    proxy.release()
    assert ended(mine, door, kitchen) == {"hung up"}
    cells.until_none(15)


@pytest.mark.parametrize("who", ["caller", "callee"])
def test_talk_on_one_side_only(make_peer: MakePeer, cells: Standing, other: str, who: str) -> None:
    """The call is over with accepted, as if there were no talk at all."""
    door = make_peer("front-door", talk=who == "caller")
    kitchen = make_peer("kitchen", face=other, talk=who == "callee")
    mine, theirs = ring(door, kitchen)
    kitchen.accept(theirs)
    door.expect("local_invitation_accepted", mine.call_id)
    kitchen.expect("remote_invitation_accepted", mine.call_id)
    cells.until_none(15)
    assert (mine.call, theirs.call) == (None, None)
    assert "call_started" not in [*door.names(), *kitchen.names()]


def test_only_the_winner_of_a_ring_group_talks(
    make_peer: MakePeer, cells: Standing, other: str
) -> None:
    """The others are told that it was taken elsewhere."""
    door = make_peer("front-door", talk=True)
    panels = [make_peer(f"panel-{n}", face=other, talk=True) for n in range(3)]
    names = [panel.peer_id for panel in panels]
    group = door.ring_all(names)
    rung = [panel.expect("remote_invitation_received").invitation for panel in panels]
    panels[1].accept(rung[1])
    call = door.expect("call_started").args[0]
    assert door.wait(group)
    assert group.outcome.winner == names[1]
    assert group.outcome.call is call
    panels[1].expect("call_started", rung[1].call_id)
    door.send_message(call, "hello")
    assert messages(panels[1], 1, rung[1].call_id) == ["hello"]
    for panel, invitation in zip(panels, rung, strict=True):
        if panel is not panels[1]:
            panel.expect("remote_invitation_canceled", invitation.call_id)
            assert "call_started" not in panel.names()
    door.hang_up(call)
    assert ended(call, door, panels[1]) == {"hung up"}
    cells.until_none(15)


@pytest.mark.parametrize("who", ["front-door", "kitchen"])
def test_who_logs_out_ends_its_calls(cells: Standing, door: Peer, kitchen: Peer, who: str) -> None:
    """Both are told so, and nothing is left."""
    mine, _ = talk(door, kitchen)
    (door if who == "front-door" else kitchen).logout()
    assert ended(mine, door, kitchen) == {"logged out"}
    cells.until_none(15)


def test_time_is_up(make_peer: MakePeer, cells: Standing, kitchen: Peer) -> None:
    """After the ``talk_limit`` of the side whose it is."""
    door = make_peer("front-door", talk=True, talk_limit=0.3)
    mine, _ = talk(door, kitchen)
    assert ended(mine, door, kitchen) == {"time is up"}
    cells.until_none(15)


# --- who is gone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["front-door", "kitchen"])
def test_who_comes_back_in_time_is_in_the_call_still(
    make_peer: MakePeer, proxy: Proxy, other: str, who: str
) -> None:
    """What was said meanwhile comes then, each once."""
    urls = {who: proxy.url}
    door = make_peer("front-door", url=urls.get("front-door"), talk=True)
    kitchen = make_peer("kitchen", url=urls.get("kitchen"), face=other, talk=True)
    mine, theirs = talk(door, kitchen)
    away = door if who == "front-door" else kitchen
    proxy.refuse()
    proxy.reset()
    away.expect_state("RECONNECTING")
    door.send_message(mine, "to the kitchen")
    kitchen.send_message(theirs, "to the door")
    proxy.refuse(False)
    assert messages(kitchen, 1, mine.call_id) == ["to the kitchen"]
    assert messages(door, 1, mine.call_id) == ["to the door"]
    door.hang_up(mine)
    assert ended(mine, door, kitchen) == {"hung up"}


@pytest.mark.parametrize("who", ["front-door", "kitchen"])
def test_who_is_gone_too_long_has_left(
    make_peer: MakePeer, cells: Standing, proxy: Proxy, other: str, who: str
) -> None:
    """Each side finds it out by itself, and nothing is left once the link is back."""
    urls = {who: proxy.url}
    clock = OffsetClock()
    options: dict[str, Any] = {
        "talk": True, "peer_lost_grace": GRACE, "link_lost_grace": GRACE, "clock": clock,
    }  # fmt: skip
    door = make_peer("front-door", url=urls.get("front-door"), **options)
    kitchen = make_peer("kitchen", url=urls.get("kitchen"), face=other, **options)
    mine, theirs = talk(door, kitchen)
    away, stays, call = (door, kitchen, theirs) if who == "front-door" else (kitchen, door, mine)
    stays.watch(who)
    proxy.refuse()
    proxy.reset()
    away.expect_state("RECONNECTING")
    stays.heard.wait_until(
        lambda told: (who, False) in [t.args for t in told], 10, f"{who} offline"
    )
    stays.send_message(call, "?")
    clock.ahead += GRACE
    assert ended(mine, door, kitchen) == {"peer lost"}
    proxy.refuse(False)
    cells.until_none(15)
    assert [*door.names(), *kitchen.names()].count("call_message") == 0


@pytest.mark.parametrize("who", ["front-door", "kitchen"])
def test_a_later_login_is_not_in_the_call(
    make_peer: MakePeer, cells: Standing, proxy: Proxy, other: str, who: str
) -> None:
    """The other is told that it restarted; what was said to the one before is handled by nobody."""
    urls = {who: proxy.url}
    door = make_peer("front-door", url=urls.get("front-door"), talk=True)
    kitchen = make_peer("kitchen", url=urls.get("kitchen"), face=other, talk=True)
    mine, theirs = talk(door, kitchen)
    older, stays = (door, kitchen) if who == "front-door" else (kitchen, door)
    call = theirs if who == "front-door" else mine
    proxy.refuse()
    proxy.reset()
    older.expect_state("RECONNECTING")
    stays.send_message(call, {"do": "open"})
    newer = make_peer(who, talk=True)
    assert ended(call, stays) == {"restarted"}
    cells.until_none(15)
    assert newer.names() == []
    again, _ = talk(newer, stays) if who == "front-door" else talk(stays, newer)
    assert again.call_id != call.call_id
    older.logout()


def test_a_call_outlives_a_broker_that_is_killed(
    make_peer: MakePeer, broker: BrokerProcess, other: str, tmp_path: Path
) -> None:
    """And forgets all: what was said while it was away comes when it is back, each once."""
    with forgetful(broker, tmp_path) as own:
        door = make_peer("front-door", url=own.url, talk=True)
        kitchen = make_peer("kitchen", url=own.url, face=other, talk=True)
        mine, theirs = talk(door, kitchen)
        door.send_message(mine, 1)
        assert messages(kitchen, 1, mine.call_id) == [1]
        own.kill()
        for peer in (door, kitchen):
            peer.expect_state("RECONNECTING")
        door.send_message(mine, 2)
        kitchen.send_message(theirs, 3)
        own.start()
        assert messages(kitchen, 2, mine.call_id) == [1, 2]
        assert messages(door, 1, mine.call_id) == [3]
        kitchen.hang_up(theirs)
        assert ended(mine, door, kitchen) == {"hung up"}
        nothing_is_left(own, door.client.realm)
        for peer in (door, kitchen):
            peer.logout()
