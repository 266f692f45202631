"""The broker's core, moment by moment: bytes, verdicts, commits and time in; bytes out.

No socket, no disk, no sleep: what other tests show with real ones is pinned here in milliseconds.
"""

from __future__ import annotations

import pytest

from broker_config.core import packets as mqtt
from broker_config.core.limits import Limits
from broker_config.core.session import Session
from tests.bench.broker_wire import connect, publish, remaining, subscribe, text
from tests.broker_support.life import (
    BACK,
    HELLO,
    Life,
    hello,
    kinds,
    payloads,
    puback,
)
from tests.broker_support.memory import taken

# --- kept, then acknowledged --------------------------------------------------------------------


def test_puback_comes_after_its_commit(life: Life) -> None:
    door = life.client("door")
    life.send(door, publish("x", b"x", 7, retain=True))
    assert taken(door) == b""
    life.commit()
    assert taken(door) == puback(7)


def test_what_need_not_be_kept_is_acknowledged_at_once_but_in_order(life: Life) -> None:
    """[MQTT-4.6.0-2]."""
    door = life.client("door")
    life.send(door, publish("x", b"x", 1))
    assert taken(door) == puback(1)
    life.send(door, publish("x", b"x", 2, retain=True) + publish("x", b"x", 3))
    assert taken(door) == b""
    life.commit()
    assert taken(door) == puback(2) + puback(3)


def test_a_commit_counts_for_what_was_noted_before_it(life: Life) -> None:
    door = life.client("door")
    life.send(door, publish("x", b"x", 1, retain=True))
    mark = life.core.journal.noted
    life.send(door, publish("y", b"x", 2, retain=True))
    life.core.committed(mark, life.core.now)
    assert taken(door) == puback(1)


def test_connack_comes_when_its_will_is_kept(life: Life) -> None:
    door = life.link(hello("door", will=b"gone"))
    assert taken(door) == b""
    life.commit()
    assert taken(door) == HELLO
    assert "door" in life.disk.wills


def test_suback_comes_when_it_is_kept_and_before_what_it_calls_for(life: Life) -> None:
    door = life.client("door")
    life.send(door, publish("x", b"x", 7, retain=True))
    life.commit()
    panel = life.client("panel", clean=False)
    life.send(panel, subscribe("#"))
    assert taken(panel) == b""
    life.commit()
    assert kinds(taken(panel)) == [mqtt.SUBACK, mqtt.PUBLISH]


def test_a_full_disk_ends_who_waits_for_it_and_refuses_what_would_be_kept(life: Life) -> None:
    """What need not be kept goes on, and what frees room."""
    door, other = life.client("door"), life.subscriber("other")
    life.send(door, publish("x", b"x", 7, retain=True))
    life.core.failed(life.core.now)
    assert door.closed
    door = life.link(hello("door"))
    assert taken(door) == HELLO
    life.send(door, publish("y", b"live", 1))
    assert taken(door) == puback(1)
    assert payloads(other) == [b"x", b"live"]
    life.send(door, publish("x", b"", 2, retain=True))
    life.core.failed(life.core.now)
    assert not door.closed
    assert taken(door) == b""  # acknowledged when it is written
    life.send(door, publish("y", b"y", 3, retain=True))
    assert door.closed


# --- QoS 2 --------------------------------------------------------------------------------------


def test_pubrec_and_pubcomp_come_after_their_commits(life: Life) -> None:
    door = life.client("door", clean=False)
    life.send(door, publish("x", b"x", 7, qos=2))
    assert taken(door) == b""
    life.commit()
    assert taken(door) == mqtt.encode_ack(mqtt.PUBREC, 7)
    life.send(door, mqtt.encode_ack(mqtt.PUBREL, 7))
    assert taken(door) == b""
    life.commit()
    assert taken(door) == mqtt.encode_ack(mqtt.PUBCOMP, 7)


def test_a_qos_2_id_goes_out_once_it_is_kept(life: Life) -> None:
    """Else a crash would give it to another message, which its receiver takes for this one."""
    panel = life.subscriber("panel", qos=2, clean=False)
    door = life.client("door")
    life.send(door, publish("x", b"first", 1, qos=2))
    assert taken(panel) == b""
    assert Life(life.disk).core.sessions["panel"].inflight == {}
    life.commit()
    assert payloads(panel) == [b"first"]
    again = Life(life.disk)
    assert list(again.core.sessions["panel"].inflight) == [1]
    panel = again.client("panel", clean=False)
    door = again.client("door")
    again.send(door, publish("x", b"second", 1, qos=2))
    again.commit()
    assert set(again.core.sessions["panel"].inflight) == {1, 2}


def test_a_message_that_comes_twice_is_passed_on_once_over_a_crash(life: Life) -> None:
    door = life.client("door", clean=False)
    life.send(door, publish("x", b"x", 7, qos=2))
    life.commit()
    again = Life(life.disk)
    panel = again.subscriber("panel")
    door = again.client("door", clean=False)
    again.send(door, publish("x", b"x", 7, qos=2))
    assert payloads(panel) == []
    assert taken(door) == mqtt.encode_ack(mqtt.PUBREC, 7)
    again.send(door, mqtt.encode_ack(mqtt.PUBREL, 7))
    again.send(door, publish("x", b"new", 7, qos=2))
    assert payloads(panel) == [b"new"]


def test_what_is_sent_again_after_a_crash_comes_in_the_order_it_was_sent_in(life: Life) -> None:
    """[MQTT-4.6.0-1]: also what waited while older retained messages were still going out."""
    door = life.client("door")
    for number, topic in enumerate("abcd", 1):
        life.send(door, publish(topic, b"old", number, retain=True))
    life.commit()
    panel = life.subscriber("panel", clean=False)
    life.send(door, publish("d", b"new", 9, retain=True))  # d's old one is still to be sent
    for number in (1, 2):
        life.send(panel, puback(number))
    life.commit()
    again = Life(life.disk)
    panel = again.link(hello("panel", clean=False))
    again.commit()
    assert payloads(panel) == [b"old", b"old", b"new"]


# --- sessions -----------------------------------------------------------------------------------


def test_a_newer_connection_takes_over_and_the_will_comes_first(life: Life) -> None:
    """[MQTT-3.1.4-2]."""
    watcher = life.subscriber("watcher")
    old = life.client("door", will=b"gone")
    new = life.link(hello("door", will=b"gone"))
    life.commit()
    assert old.closed
    assert old.abort
    assert taken(new) == HELLO
    life.send(new, publish("p/door", b"here", 1, retain=True))
    assert payloads(watcher) == [b"gone", b"here"]


def test_an_older_connect_that_is_let_in_late_takes_over_nobody(life: Life) -> None:
    core = life.core
    old, new = (core.opened(None, "somewhere", core.now) for _ in range(2))
    core.received(old, hello("door"), core.now)
    core.received(new, hello("door"), core.now)
    core.asked.clear()
    core.admit(new, None, None, "spare", core.now)
    core.admit(old, None, None, "spare", core.now)
    assert old.closed
    assert core.sessions["door"].link is new


def test_an_older_connect_is_the_older_one_where_the_newer_has_come_and_gone(life: Life) -> None:
    """However long it waited to be let in: its will is not the last word."""
    core = life.core
    old, new, other = (core.opened(None, "somewhere", core.now) for _ in range(3))
    core.received(old, hello("door", will=b"old"), core.now)
    core.received(other, hello("desk"), core.now)
    core.received(new, hello("door", will=b"new"), core.now)
    core.asked.clear()
    core.admit(new, None, None, "spare", core.now)
    life.commit()
    core.lost(new, core.now)
    core.admit(old, None, None, "spare", core.now)
    life.commit()
    core.lost(old, core.now)
    assert core.retained.messages["p/door"].data == b"new"
    core.lost(other, core.now)
    assert core._waiting == {}


def test_what_comes_while_nobody_is_there_waits_and_the_oldest_gives_way(life: Life) -> None:
    panel = life.subscriber("panel", clean=False)
    life.core.lost(panel, life.core.now)
    door = life.client("door")
    for number in range(1, 8):
        life.send(door, publish("x", b"%d" % number, number))
    life.commit()
    for each in (life, Life(life.disk)):
        panel = each.link(hello("panel", clean=False))
        each.commit()
        received = []
        while some := payloads(panel):
            received += some
            for number in list(each.core.sessions["panel"].inflight):
                each.send(panel, puback(number))
        assert received == [b"3", b"4", b"5", b"6", b"7"]
        each.core.lost(panel, each.core.now)


def test_what_was_not_acknowledged_comes_again_with_dup_and_its_id(life: Life) -> None:
    """[MQTT-4.4.0-1], also in the next life."""
    panel = life.subscriber("panel", clean=False)
    life.send(life.client("door"), publish("x", b"ding", 1))
    life.commit()
    first = taken(panel)
    again = Life(life.disk)
    panel = again.link(hello("panel", clean=False))
    again.commit()
    assert taken(panel) == BACK + bytes((first[0] | 8,)) + first[1:]


def test_who_is_owed_retained_messages_gets_them_in_the_next_life(life: Life) -> None:
    """SUBACK was the promise; a crash in the midst of them does not break it."""
    door = life.client("door")
    for number in range(1, 8):
        life.send(door, publish(f"x/{number}", b"%d" % number, number, retain=True))
    life.commit()
    panel = life.client("panel", clean=False)
    life.send(panel, subscribe("#"))
    life.commit()
    assert payloads(panel) == [b"1", b"2", b"3"]
    again = Life(life.disk)
    panel = again.link(hello("panel", clean=False))
    again.commit()
    received: set[bytes] = set()
    while some := payloads(panel):
        received |= {*some}
        for number in list(again.core.sessions["panel"].inflight):
            again.send(panel, puback(number))
    assert received == {b"%d" % number for number in range(1, 8)}


# --- wills --------------------------------------------------------------------------------------


def test_wills_of_those_who_do_not_return_after_a_crash_are_published(life: Life) -> None:
    for name in ("gone", "back", "gone-again"):
        life.client(name, will=b"off")
    again = Life(life.disk)
    watcher = again.subscriber("watcher")
    again.client("back", will=b"off")
    again.at(14.9)
    assert payloads(watcher) == []
    again.at(15.1)
    assert payloads(watcher) == [b"off", b"off"]
    assert sorted(again.core.retained.messages) == ["p/gone", "p/gone-again"]
    again.commit()
    assert list(again.disk.wills) == ["back"]


@pytest.mark.parametrize(
    ("client_id", "verdict"),
    [("door", 0), ("door:a", 0), ("door.a", 0), ("door.a:b", 0), ("doors", 2), ("x.door", 2)],
)
def test_a_client_id_is_its_users_own(life: Life, client_id: str, verdict: int) -> None:
    """The user name, alone or with more behind a ':' or '.', which nobody's name holds."""
    link = life.core.opened(None, "somewhere", life.core.now)
    life.core.received(link, hello(client_id), life.core.now)
    life.core.admit(life.core.asked.pop(), "door", None, "spare", life.core.now)
    life.commit()
    assert taken(link) == mqtt.encode_connack(verdict)


def test_a_device_that_is_back_under_another_client_id_is_back(life: Life) -> None:
    link = life.link(hello("door:first").replace(b"\x02\0\0", b"\x02\0\0"))
    life.commit()
    assert taken(link) == HELLO
    life.disk.wills["door:first"] = ("p/door", b"off", 1, 1)
    again = Life(life.disk)
    body = b"\0\4MQTT\4\x2e\0\0" + text("door:second") + text("p/door") + text("off")
    again.link(b"\x10" + remaining(len(body)) + body)
    again.commit()
    again.at(16)
    assert again.core.retained.messages == {}


@pytest.mark.parametrize("end", ["lost", "protocol", "keep-alive", "goodbye"])
def test_a_will_is_published_unless_the_end_was_clean(life: Life, end: str) -> None:
    """[MQTT-3.1.2-8] [MQTT-3.14.4-3]."""
    watcher = life.subscriber("watcher")
    door = life.client("door", will=b"gone", keep=10)
    if end == "lost":
        life.core.lost(door, life.core.now)
    elif end == "keep-alive":
        life.at(14.9)
        assert not door.closed
        life.at(15.1)
    else:
        life.send(door, b"\xe0\0" if end == "goodbye" else b"\xff\0")
    assert door.closed
    assert payloads(watcher) == ([] if end == "goodbye" else [b"gone"])
    life.commit()
    assert "door" not in life.disk.wills


# --- verdicts that come late --------------------------------------------------------------------


def test_packets_wait_for_a_verdict_in_order(life: Life) -> None:
    door, panel = life.client("door"), life.subscriber("panel")
    life.rules.later = True
    life.send(door, publish("a", b"1", 1) + publish("b", b"2", 2) + b"\xc0\0")
    assert (taken(door), payloads(panel)) == (b"", [])
    ((key, action, topic),) = life.rules.asked
    assert (action, topic) == ("publish", "a")
    life.rules.later = False
    life.core.verdict(key, True, life.core.now)
    life.turn()
    assert taken(door) == puback(1) + puback(2) + mqtt.PINGRESP_BYTES
    assert payloads(panel) == [b"1", b"2"]


def test_a_verdict_for_one_who_has_gone_is_for_nobody(life: Life) -> None:
    door, panel = life.client("door"), life.subscriber("panel")
    life.rules.later = True
    life.send(door, publish("a", b"1", 1))
    life.core.lost(door, life.core.now)
    life.core.verdict(life.rules.asked[0][0], True, life.core.now)
    assert payloads(panel) == []


def test_what_came_before_the_end_is_handled_after_it(life: Life) -> None:
    """Who publishes, says goodbye and closes has said it, however long the verdict takes."""
    door, panel = life.client("door", will=b"gone"), life.subscriber("panel")
    life.rules.later = True
    life.send(door, publish("a", b"1", 1) + publish("b", b"2", 2) + b"\xe0\0")
    life.core.lost(door, life.core.now)
    life.rules.later = False
    life.core.verdict(life.rules.asked[0][0], True, life.core.now)
    life.turn()
    assert payloads(panel) == [b"1", b"2"]
    assert door not in life.core.links


def test_what_is_forbidden_is_acknowledged_and_dropped(life: Life) -> None:
    """[MQTT-3.3.5-2]."""
    door, panel = life.client("door"), life.subscriber("panel")
    life.send(door, publish("forbidden", b"x", 1, retain=True) + publish("fine", b"y", 2))
    assert taken(door) == puback(1) + puback(2)
    assert payloads(panel) == [b"y"]
    assert life.core.retained.messages == {}
    assert life.core.stats.denied["publish"] == 1


# --- fairness -----------------------------------------------------------------------------------


def test_a_publisher_waits_for_a_full_receiver_and_not_for_ever(life: Life) -> None:
    panel, door = life.subscriber("panel"), life.client("door")
    life.send(door, b"".join(publish("x", b"x", number) for number in range(1, 20)))
    assert door.waits
    assert len(kinds(taken(door))) == 8  # three on their way, five waiting
    life.at(1.1)
    assert panel.closed
    assert life.core.stats.cut["does not read"] == 1
    life.turn()
    assert len(kinds(taken(door))) == 11


def test_it_goes_on_when_the_receiver_has_taken_half(life: Life) -> None:
    panel, door = life.subscriber("panel"), life.client("door")
    life.send(door, b"".join(publish("x", b"x", number) for number in range(1, 12)))
    session = life.core.sessions["panel"]
    while session.inflight:
        life.send(panel, puback(next(iter(session.inflight))))
    assert not panel.closed
    assert len(kinds(taken(door))) == 11
    assert len(payloads(panel)) == 11


def test_nobody_waits_for_himself(life: Life) -> None:
    door = life.subscriber("door")
    life.send(door, b"".join(publish("x", b"x", number) for number in range(1, 60)))
    assert not door.waits
    assert kinds(taken(door)).count(mqtt.PUBACK) == 59


def test_a_clients_packets_take_turns(life: Life) -> None:
    """However many come at once: others are heard after 32 of them."""
    greedy = life.client("greedy")
    life.core.received(greedy, b"\xc0\0" * 100, life.core.now)
    assert len(taken(greedy)) == 64
    life.core.tick(life.core.now)
    assert len(taken(greedy)) == 64


def test_a_large_subscription_takes_turns() -> None:
    """200,000 places are looked at bit by bit, and the order of publishing holds."""
    life = Life(limits=Limits(inflight=100_000, retained_per_device=100_000))
    for number in range(6000):
        life.core.retained.set(f"x/{number}", b"x", 1, "", 0.0)
    panel = life.client("panel")
    life.core.received(panel, subscribe("#"), life.core.now)
    turns = 0
    received: list[bytes] = []
    while len(received) < 6000:
        turns += 1
        life.core.tick(life.core.now)
        frames = mqtt.Frames(1 << 24)
        frames.feed(taken(panel))
        received += [body[2:8] for first, body in iter(frames.next, None) if first >> 4 == 3]
    assert turns > 90
    assert received[0].startswith(b"x/0")
    assert received[-1] == b"x/5999"


def test_who_says_nothing_is_closed_on(life: Life) -> None:
    silent = life.core.opened(None, "somewhere", life.core.now)
    life.at(4.9)
    assert not silent.closed
    life.at(5.1)
    assert silent.closed
    assert life.core.stats.refused["no CONNECT in time"] == 1


def test_a_device_shares_its_rate_among_its_connections() -> None:
    limits = Limits(publishes_per_second=10.0, publish_burst=5)
    life = Life(limits=limits, keeps=False)
    tools = [life.client(f"door:{number}") for number in range(2)]
    for tool in tools:
        life.send(tool, b"".join(publish("x", b"x", number) for number in range(1, 6)))
    # Two of the burst went into the logins; each says one more than it may before it waits.
    assert [len(kinds(taken(tool))) for tool in tools] == [4, 1]
    life.at(2.0)
    life.turn()
    assert sum(len(kinds(taken(tool))) for tool in tools) == 5


def test_a_stopped_brokers_wills_are_left_to_the_next_life(life: Life) -> None:
    watcher = life.subscriber("watcher")
    life.client("door", will=b"off")
    life.core.shut_down(life.core.now)
    life.commit()
    assert payloads(watcher) == []
    assert list(life.disk.wills) == ["door"]


def test_a_fault_is_its_clients_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In a packet, in a timer, in its turn: the others are served, and it is told."""
    life = Life()
    for number, name in enumerate(("acknowledged", "pump")):
        broken, well = life.client("broken", keep=10), life.client("well")
        session = life.core.sessions["broken"]
        with monkeypatch.context() as patch:
            patch.setattr(Session, name, lambda _self, *_: 1 // 0)
            if name == "pump":
                life.core.later(broken)
                life.core.later(well)
                patch.setattr(Session, name, lambda self, bad=session: 1 // (self is not bad))
                life.core.tick(life.core.now)
            else:
                life.send(broken, puback(1))
        assert broken.closed
        assert life.core.stats.cut["error"] == number + 1
        life.send(well, b"\xc0\0")
        assert taken(well) == mqtt.PINGRESP_BYTES
    life.core.at(1.0, lambda _: 1 // 0, None)  # type: ignore[arg-type, return-value]
    life.core.at(1.0, life.core._no_connect, life.core.opened(None, "x", life.core.now))
    life.at(1.1)
    assert life.core.stats.refused["no CONNECT in time"] == 1
    assert sum("ZeroDivisionError" in str(each.exc_info) for each in caplog.records) == 3


def test_what_is_one_too_many_is_not_passed_on(life: Life) -> None:
    """Of QoS 2 messages that are not released."""
    life.core.limits = Limits(inflight_incoming=1)
    door, panel = life.client("door"), life.subscriber("panel")
    life.send(door, publish("a", b"1", 1, qos=2) + publish("b", b"2", 2, qos=2))
    assert door.closed
    assert life.core.stats.cut["protocol"] == 1
    assert payloads(panel) == [b"1"]


def test_a_refusal_is_heard_whatever_came_behind_its_connect(life: Life) -> None:
    """It waits its time, and what its client sent ahead waits for ever."""
    core = life.core
    links = [core.opened(None, "somewhere", core.now) for _ in range(12)]
    for link in links:
        core.received(link, hello("x") + b"\xc0\0", core.now)
        core.asked.clear()
        core.refuse(link, mqtt.NOT_AUTHORIZED, "not authenticated", core.now)
        core.received(link, b"\xc0\0", core.now)
    assert [link.closed for link in links] == [True] * 10 + [False] * 2
    core.lost(links[10], core.now)
    life.at(4.1)
    assert taken(links[11]) == mqtt.encode_connack(5)
    assert not core._kept_waiting


def test_a_will_that_cannot_be_kept_refuses_its_client_and_is_not_published(life: Life) -> None:
    watcher = life.subscriber("watcher")
    door = life.link(hello("door", will=b"gone"))
    life.core.failed(life.core.now)
    assert taken(door) == mqtt.encode_connack(mqtt.UNAVAILABLE)
    assert door.closed
    assert payloads(watcher) == []


def test_a_second_connect_ends_the_connection(life: Life) -> None:
    """[MQTT-3.1.0-2]."""
    door = life.client("door")
    life.send(door, connect("door"))
    assert door.closed
