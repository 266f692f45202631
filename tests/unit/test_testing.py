"""The broker in memory, the clock by hand and the network: what users' tests stand on."""

from __future__ import annotations

from typing import Any

import pytest

from device_sdk.core.effects import Aborted, Finished, Ready
from device_sdk.core.wire.cells import AnswerReason
from device_sdk.testing import ManualClock, MemoryBroker, MemorySession, Network, matches


def test_a_manual_clock_stands_until_moved() -> None:
    """Calling it gives the time."""
    clock = ManualClock(5)
    assert clock() == 5
    clock.advance(2.5)
    assert clock() == 7.5


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True), ("a/b", "a/c", False), ("a/+", "a/b", True), ("a/+", "a", False),
        ("a/+", "a/b/c", False), ("a/#", "a/b/c", True), ("a/#", "a", True), ("#", "a/b", True),
        ("+/+", "a/b", True), ("+", "a/b", False), ("a/+/c", "a/b/c", True), ("a", "a/b", False),
        ("a/b/#", "a", False), ("+/b", "/b", True), ("a/+", "a/", True),
    ],
)  # fmt: skip
def test_filters_match_as_mqtt_says(topic_filter: str, topic: str, expected: bool) -> None:
    """MQTT 3.1.1, section 4.7, the parent level of ``#`` included."""
    assert matches(topic_filter, topic) is expected


def session(broker: MemoryBroker, name: str, log: list[Any], **more: Any) -> MemorySession:
    """A connection that notes what it gets."""
    made = MemorySession(name, lambda *m: log.append(m), lambda: log.append("closed"), **more)
    broker.connect(made)
    return made


def test_the_broker_retains_delivers_and_clears() -> None:
    """Retained with the flag on subscribing, live without; empty clears and is delivered."""
    broker, log = MemoryBroker(), []
    broker.publish("a/b", b"1")
    one = session(broker, "one", log)
    broker.subscribe(one, ["a/+", "a/+", "x"])
    broker.publish("a/b", b"")
    broker.publish("y", b"2")
    assert log == [("a/b", b"1", True), ("a/b", b"", False)]
    assert broker.retained == {"y": b"2"}
    broker.unsubscribe(one, ["a/+"])
    broker.publish("a/b", b"3")
    assert len(log) == 2


def test_the_broker_publishes_the_will_when_a_connection_breaks_or_is_taken_over() -> None:
    """Not when it is closed in due form."""
    broker, log = MemoryBroker(), []
    one = session(broker, "one", log, will=("w", b"1"))
    broker.disconnect(one)
    assert broker.retained == {}
    session(broker, "one", log, will=("w", b"2"))
    three = session(broker, "one", log, will=("w", b"3"))
    assert (broker.retained, log) == ({"w": b"2"}, ["closed"])
    broker.drop(three)
    broker.drop(three)
    assert (broker.retained, broker.sessions) == ({"w": b"3"}, {})


def pair(**more: Any) -> tuple[Network, Any, Any]:
    """A door and a kitchen on one network, both there."""
    net = Network(**more)
    door, kitchen = net.peer("door"), net.peer("kitchen")
    net.run()
    return net, door, kitchen


def test_a_call_from_ring_to_accept() -> None:
    """AGORA's order of events on both ends, nothing left in the broker but two presences."""
    net, door, kitchen = pair()
    call = door.send("kitchen", {"who": "somebody"})
    net.run()
    kitchen.accept("door", call, "hello")
    net.run()
    assert [e.name for e in door.events] == [
        "local_invitation_received_by_peer", "local_invitation_accepted",
    ]  # fmt: skip
    assert [e.name for e in kitchen.events] == [
        "remote_invitation_received", "remote_invitation_accepted",
    ]  # fmt: skip
    assert sorted(net.broker.retained) == ["sig/v1/door/presence", "sig/v1/kitchen/presence"]


def test_refuse_cancel_and_busy() -> None:
    """The other three ends, seen from both sides."""
    net, door, kitchen = pair()
    one, two = door.send("kitchen"), door.send("kitchen")
    net.run()
    kitchen.refuse("door", one, AnswerReason.BUSY)
    door.cancel("kitchen", two)
    net.run()
    assert [e.call.reason for e in door.told("local_invitation_refused")] == ["busy"]
    assert len(door.told("local_invitation_canceled")) == 1
    assert len(kitchen.told("remote_invitation_canceled")) == 1


def test_nobody_there_and_nobody_acts() -> None:
    """30 s to peer offline, 60 s to expired on both ends, with time moved by hand."""
    net, door, kitchen = pair()
    door.send("nobody")
    door.send("kitchen")
    net.advance(29.9)
    assert door.told("local_invitation_failure") == []
    net.advance(0.1)
    assert [e.call.error.name for e in door.told("local_invitation_failure")] == ["PEER_OFFLINE"]
    net.advance(30)
    assert [e.call.error.name for e in door.told("local_invitation_failure")][1:] == [
        "INVITATION_EXPIRE"
    ]
    assert [e.call.error.name for e in kitchen.told("remote_invitation_failure")] == [
        "INVITATION_EXPIRE"
    ]


def test_a_killed_callee_rings_again_if_the_caller_still_calls() -> None:
    """Same call id, within one run."""
    net, door, kitchen = pair()
    call = door.send("kitchen")
    net.run()
    kitchen.restart()
    net.run()
    assert [e.call.call_id for e in kitchen.told("remote_invitation_received")] == [call]


def test_a_killed_caller_never_rings_anybody_again() -> None:
    """Its restart ends the call; a callee that comes later misses it."""
    net, door, kitchen = pair()
    door.send("kitchen")
    net.run()
    door.restart()
    net.run()
    failure = kitchen.told("remote_invitation_failure")
    assert [e.call.error.name for e in failure] == ["PEER_OFFLINE"]
    assert (kitchen.notes, door.events) == ([Ready()], [])


def test_a_broken_link_heals() -> None:
    """Accepted while the caller was away; both learn of it."""
    net, door, kitchen = pair()
    call = door.send("kitchen")
    net.run()
    door.disconnect()
    kitchen.accept("door", call)
    net.run()
    door.connect()
    net.run()
    assert len(door.told("local_invitation_accepted")) == 1
    assert len(kitchen.told("remote_invitation_accepted")) == 1


def test_the_newer_of_two_logins_wins() -> None:
    """The older is told to stay away; the newer stays, and is not disturbed."""
    net, _, _ = pair()
    first = net.peers.pop("door")
    second = net.peer("door")
    net.peers["door (older)"] = first
    net.run()
    assert first.notes[-1] == Aborted()
    assert not first.connected
    assert second.connected
    assert second.engine.stats.counters["connects"] == 1


def test_logging_out_closes_in_due_form() -> None:
    """Presence offline stays; no will."""
    net, door, _ = pair()
    door.logout()
    net.run()
    assert Finished() in door.notes
    assert not door.connected
    door.connect()
    assert not door.connected


def test_watching_and_another_realm() -> None:
    """Presence as it changes; realms are apart."""
    net, door, kitchen = pair(realm="home")
    door.watch("kitchen")
    net.run()
    kitchen.disconnect()
    net.run()
    assert [e.online for e in door.told("presence_changed")] == [True, False]
    assert all(topic.startswith("home/") for topic in net.broker.retained)


def test_the_same_seed_gives_the_same_run() -> None:
    """Nothing depends on anything outside."""
    calls = [pair(seed=5)[1].send("kitchen") for _ in range(2)]
    assert calls[0] == calls[1]


def test_two_logins_that_start_together_settle_on_one() -> None:
    """Before either has heard a word: one gives up, and the other stays."""
    net = Network()
    first = net.peer("door")
    net.peers["door (older)"] = net.peers.pop("door")
    second = net.peer("door")
    net.run()
    assert sum(isinstance(n, Aborted) for n in first.notes + second.notes) == 1
    assert first.connected != second.connected
