"""Both faces on the broker in memory that ships for users' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from device_sdk.client.link.base import Will
from device_sdk.testing import MemoryBroker, MemoryLink
from tests.peers import AsyncioPeer, Loop, Peer, ThreadedPeer

Make = Callable[..., Peer]


@pytest.fixture
def memory() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def make(face: str, loop: Loop, memory: MemoryBroker) -> Iterator[Make]:
    with ExitStack() as stack:

        def make_one(peer_id: str, broker: Any = memory, **options: Any) -> Peer:
            peer: Peer = (
                ThreadedPeer(peer_id, broker, **options)
                if face == "threaded"
                else AsyncioPeer(peer_id, broker, loop=loop, **options)
            )
            stack.callback(peer.logout)
            peer.login()
            return peer

        yield make_one


def test_calls(make: Make, memory: MemoryBroker) -> None:
    """Accept, refuse, cancel; afterwards nothing but presence is retained."""
    door, kitchen = make("front-door"), make("kitchen.1")  # an id that a topic escapes
    for how in ("accept", "refuse", "cancel"):
        mine = door.press("kitchen.1", how)
        theirs = kitchen.expect("remote_invitation_received", mine.call_id).invitation
        if how == "cancel":
            door.cancel(mine)
        else:
            getattr(kitchen, how)(theirs, "answer")
        assert door.wait(mine)
        assert kitchen.wait(theirs)
    door.expect("local_invitation_canceled")
    assert [n for n in door.names() if "received" not in n] == [
        "local_invitation_accepted",
        "local_invitation_refused",
        "local_invitation_canceled",
    ]
    door.logout()
    kitchen.logout()
    assert memory.sessions == {}


def test_a_lost_link_comes_back(make: Make, memory: MemoryBroker) -> None:
    """A session that is kicked reconnects, and the call goes on where it was."""
    door, kitchen = make("front-door"), make("kitchen")
    mine = door.press("kitchen")
    theirs = kitchen.expect("remote_invitation_received", mine.call_id).invitation
    (session,) = (s for s in memory.sessions.values() if s.client_id.startswith("front-door:"))
    with memory._lock:
        memory.drop(session)
        memory.retained.clear()
        session.closed()
    door.expect_state("RECONNECTING")
    kitchen.accept(theirs)
    door.expect("local_invitation_accepted", mine.call_id)
    kitchen.expect("remote_invitation_accepted", mine.call_id)


def test_a_newer_login_takes_over(make: Make) -> None:
    older = make("kitchen")
    newer = make("kitchen")
    older.expect_state("ABORTED")
    door = make("front-door")
    mine = door.press("kitchen")
    newer.expect("remote_invitation_received", mine.call_id)


class Unacknowledged(MemoryBroker):
    """A broker that does what it is asked, and acknowledges no publish."""

    def __call__(self, will: Will) -> MemoryLink:
        link = super().__call__(will)
        publish = link.publish
        link.publish = lambda topic, payload, _token: publish(topic, payload, None)  # type: ignore[method-assign]  # the point
        return link


def test_a_cancel_that_is_never_acknowledged_is_told(make: Make) -> None:
    """Whoever waits for the end of the call, or logs out, does not wait for the broker's word."""
    door = make("front-door", Unacknowledged())
    mine = door.press("kitchen")
    door.cancel(mine)
    assert door.wait(mine, 5)
    door.expect("local_invitation_canceled", mine.call_id)


def test_a_cancel_that_was_not_acknowledged_is_told_when_the_client_ends(make: Make) -> None:
    """By a newer login, or by logging out: nobody waits for a call of a client that is done."""
    broker = Unacknowledged()
    older = make("front-door", broker)
    mine = older.press("kitchen")
    older.cancel(mine)
    newer = make("front-door", broker)
    older.expect_state("ABORTED")
    assert older.wait(mine, 5)
    older.expect("local_invitation_canceled", mine.call_id)
    theirs = newer.press("kitchen")
    newer.cancel(theirs)
    newer.logout()
    assert newer.wait(theirs, 5)
    newer.expect("local_invitation_canceled", theirs.call_id)


def test_a_closed_link_is_inert(memory: MemoryBroker) -> None:
    link = memory(Will("sig/v1/kitchen/presence", b"will"))
    assert isinstance(link, MemoryLink)
    link.open()
    assert link.fileno() >= 0
    assert not link.wants_write()
    link.subscribe(("a/+",))
    link.publish("a/b", b"x", 7)
    link.unsubscribe(("a/+",))
    link.publish("a/b", b"y", None)
    link.read()
    link.write()
    link.tick()
    assert [type(one).__name__ for one in link.drain()] == [
        "Connected",
        "Subscribed",
        "MessageReceived",
        "PublishAcked",
    ]
    link.close(clean=False)
    assert memory.retained["sig/v1/kitchen/presence"] == b"will"
    assert link.fileno() == -1
    link.publish("a/b", b"z", 8)
    link.subscribe(("a/+",))
    link.read()
    assert link.drain() == []
    assert memory.retained["a/b"] == b"y"
