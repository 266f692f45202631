"""The broker's core as time passes, its rules change and it ends; and small parts of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from broker_config.core import packets as mqtt
from broker_config.core.journal import Kept
from broker_config.core.limits import Allowances, Limits
from broker_config.core.retained import RetainedMessages
from broker_config.core.session import Session
from broker_config.core.topics import Subscriptions, matches
from broker_config.core.turns import Steps, Turns
from tests.bench.broker_wire import connect, publish, remaining, subscribe, text
from tests.broker_support.life import (
    Life,
    hello,
    payloads,
    puback,
    unsubscribe,
)
from tests.broker_support.memory import taken

CELL = "sig/v1/kitchen/invite/door/AAAAAAAAAAAAAAAAAAAAAA"
PRESENCE = "sig/v1/door/presence"


# --- what is told to plugins ---------------------------------------------------------------------


def test_events_are_told_to_who_wants_them(life: Life) -> None:
    names = (
        "mqtt_packet_received", "broker_client_connected", "broker_client_disconnected",
        "broker_client_subscribed", "broker_client_unsubscribed", "broker_message_received",
        "broker_message_broadcast", "broker_retained_message",
    )  # fmt: skip
    life.core.tells = frozenset(names)
    door = life.client("door")
    packets = subscribe("x") + publish("x", b"x", 1, retain=True) + unsubscribe("x") + b"\xe0\0"
    life.send(door, packets)
    assert {name for name, _ in life.core.told} == set(names)


# --- time, rules that change, the end ------------------------------------------------------------


def test_sessions_and_cells_past_their_time_are_forgotten() -> None:
    """Cells in portions; others than the protocol's stay, and younger ones."""
    life = Life(limits=Limits(session_expiry=100.0))
    panel = life.subscriber("panel", clean=False)
    life.core.lost(panel, life.core.now)
    for number in range(600):
        life.core.keep(f"sig/v1/kitchen/invite/door/{number:020}AA", b"x", 1)
    life.core.keep("weather", b"x", 1)
    life.at(130.0)
    assert "panel" not in life.core.sessions
    life.at(86_500.0)
    life.at(86_501.0)
    life.core.keep(CELL, b"x", 1)
    life.at(86_600.0)
    assert life.core.clear_old_cells() == 0
    assert sorted(life.core.retained.messages) == [CELL, "weather"]
    assert life.core.stats.janitor_cleared == 600


def test_after_a_change_of_rules_nothing_stands_that_may_not(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is no longer known is cut; filters end, cells are cleared, wills forgotten."""
    watcher = life.subscriber("watcher", "sig/#")
    gone = life.client("gone", clean=False)
    narrowed = life.subscriber("narrowed", "narrow/#")
    short_lived = life.client("short-lived")
    gone_before = life.subscriber("gone-before", clean=False)
    life.core.lost(gone_before, life.core.now)
    for topic in (CELL, PRESENCE):
        life.core.keep(topic, b"x", 1)
    away = life.subscriber("away", "sig/#", clean=False)
    life.core.lost(away, life.core.now)
    life.send(life.client("door", will=b"gone"), publish(CELL, b"ding", 1))
    life.core.orphans["x"] = mqtt.message("p/x", b"x", 1, retain=True)
    life.core.orphans["y"] = mqtt.message(PRESENCE, b"x", 1, retain=True)
    bad = {"gone", "short-lived", "gone-before"}
    monkeypatch.setattr(
        life.rules, "valid", lambda session: session.client_id not in bad, raising=False
    )
    monkeypatch.setattr(life.rules, "stands", lambda topic: topic == PRESENCE, raising=False)
    life.rules.later = True
    life.core.recheck(life.core.now)
    while life.core._steps:
        key, _, topic = life.rules.asked[-1]
        life.core.verdict(key, not topic.startswith("narrow"), life.core.now)
    life.turn()
    assert gone.closed
    assert short_lived.closed
    assert not bad & set(life.core.sessions)
    assert not narrowed.closed
    assert life.core.sessions["narrowed"].filters == {}
    assert list(life.core.retained.messages) == [PRESENCE]
    assert payloads(watcher)[-1] == b""
    assert [out.data for out in life.core.sessions["away"].pending or ()] == [b""]
    assert list(life.core.orphans) == ["y"]
    assert life.core.sessions["door"].will is None
    life.rules.later = False
    life.core.recheck(life.core.now)  # and at once where the rules know at once
    assert list(life.core.retained.messages) == [PRESENCE]


def test_the_cells_of_a_cleared_device_go_in_portions(life: Life) -> None:
    """Those it wrote and those it has; nobody else's."""
    for number in range(600):
        life.core.keep(f"sig/v1/kitchen/invite/door/{number:020}AA", b"x", 1)
    life.core.keep("sig/v1/study/invite/desk/AAAAAAAAAAAAAAAAAAAAAA", b"x", 1)
    life.core.sweep({"door"})
    life.turn()
    assert list(life.core.retained.messages) == ["sig/v1/study/invite/desk/AAAAAAAAAAAAAAAAAAAAAA"]


def test_others_are_served_between_two_portions(life: Life) -> None:
    """There may be 200,000 cells to clear: each portion is a turn of its own."""
    for number in range(2000):
        life.core.keep(f"sig/v1/kitchen/invite/door/{number:020}AA", b"x", 1)
    life.core.recheck(life.core.now, {"door"})
    left = [len(life.core.retained)]
    while left[-1]:
        assert life.core.deadline() <= life.core.now
        life.core.tick(life.core.now)
        left.append(len(life.core.retained))
    assert left == [1500, 1000, 500, 0]


@pytest.mark.parametrize("keeps", [True, False])
def test_nothing_is_left_of_a_queue_in_which_nothing_may_stand(keeps: bool) -> None:
    life = Life(keeps=keeps)
    away = life.subscriber("away", clean=False)
    life.core.lost(away, life.core.now)
    life.send(life.client("door"), publish(CELL, b"ding", 1))
    life.core.recheck(life.core.now, {"door"})
    session = life.core.sessions["away"]
    assert (session.pending, session.others, session.others_bytes) == (None, 0, 0)
    life.commit()
    assert life.disk.kept().queue == []


def test_work_that_ends_its_own_link_goes_no_further(life: Life) -> None:
    door = life.client("door")

    def steps() -> Steps:
        yield
        life.core.end(door, "")
        yield

    life.core.run(door, steps())
    life.core.verdict(door, True, life.core.now)
    assert door not in life.core._steps


def test_the_end_of_the_broker_leaves_wills_to_its_next_life(life: Life) -> None:
    watcher = life.subscriber("watcher")
    life.client("door", will=b"gone", clean=False)
    life.core.shut_down(life.core.now)
    life.commit()
    assert life.core.links == set()
    assert payloads(watcher) == []
    assert "door" in life.disk.wills
    again = Life(life.disk)
    again.core.shut_down(again.core.now)
    again.at(16.0)
    assert "door" in life.disk.wills


def test_a_keep_alive_counts_no_silence_of_ours(life: Life) -> None:
    """Who waits for a verdict is not read; a closed link is not looked at."""
    door, other = life.client("door", keep=10), life.client("other", keep=10)
    life.rules.later = True
    life.send(door, publish("x", b"x", 1))
    life.core.lost(other, life.core.now)
    life.at(20.0)
    assert not door.closed
    assert life.core.stats.keepalive_timeouts == 0


def test_one_that_was_let_in_slowly_is_not_ended_for_its_connect(life: Life) -> None:
    link = life.client("door")
    life.at(6.0)
    assert not link.closed


def test_a_will_that_may_no_longer_stand_is_forgotten(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = life.client("door", will=b"gone")
    monkeypatch.setattr(life.rules, "stands", lambda _topic: False, raising=False)
    life.core.lost(door, life.core.now)
    assert life.core.retained.messages == {}


def test_a_will_need_not_be_retained(life: Life) -> None:
    watcher = life.subscriber("watcher")
    body = b"\0\4MQTT\4\x0e\0\0" + text("door") + text("p/door") + text("gone")
    door = life.link(b"\x10" + remaining(len(body)) + body)
    life.commit()
    life.core.lost(door, life.core.now)
    assert payloads(watcher) == [b"gone"]
    assert life.core.retained.messages == {}


def test_a_session_that_was_unused_before_the_restart_is_as_old_as_then(life: Life) -> None:
    life.core.load(Kept(sessions=[("panel", None, 5.0)]), life.core.now)
    assert life.core.sessions["panel"].gone == life.core.now - 5.0


def test_without_a_disk_sessions_outlive_their_connections_all_the_same() -> None:
    """And their queues: the oldest gives way, what may no longer stand is dropped."""
    life = Life(limits=Limits(inflight=3, queued=5), keeps=False)
    panel = life.subscriber("panel", clean=False)
    life.core.lost(panel, life.core.now)
    life.core.subscribe_for(life.core.sessions["panel"], "extra", 1)
    door = life.client("door")
    life.send(door, b"".join(publish(f"x/{n}", b"%d" % n, n) for n in range(1, 8)))
    life.send(door, publish("x/0", b"lost", 0, qos=0))  # nobody keeps QoS 0
    session = life.core.sessions["panel"]
    session.drop(lambda topic: topic != "x/5")
    life.turn()
    panel = life.link(hello("panel", clean=False))
    life.turn()
    life.send(panel, b"".join(puback(n) for n in range(1, 4)))
    assert payloads(panel) == [b"3", b"4", b"6", b"7"]


def test_a_fault_at_one_receiver_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life()
    life.subscriber("broken")
    panel, door = life.subscriber("panel"), life.client("door")
    deliver = Session.deliver

    def broken(self: Session, *arguments: Any) -> bool:
        if self.client_id == "broken":
            raise ZeroDivisionError
        return deliver(self, *arguments)

    monkeypatch.setattr(Session, "deliver", broken)
    life.send(door, publish("x", b"x", 1))
    assert payloads(panel) == [b"x"]
    assert taken(door) == puback(1)
    assert life.core.stats.dropped["delivery failed"] == 1


def test_several_wait_for_one_receiver_and_none_when_it_is_gone(life: Life) -> None:
    panel = life.subscriber("panel")
    doors = [life.client(f"door{number}") for number in range(2)]
    for door in doors:
        life.send(door, b"".join(publish("x", b"x", number) for number in range(1, 12)))
    assert all(door.waits for door in doors)
    life.core.lost(panel, life.core.now)
    life.turn()
    assert not any(door.waits for door in doors)
    life.at(1.1)
    assert not any(door.closed for door in doors)


def test_filters_cost_of_the_rate() -> None:
    life = Life(limits=Limits(publishes_per_second=1.0, publish_burst=2), keeps=False)
    door = life.client("door")
    many = dict.fromkeys(range(64))
    body = b"\0\1" + b"".join(text(f"x{number}") + b"\1" for number in many)
    life.send(door, b"\x82" + remaining(len(body)) + body)
    assert door.waits
    life.at(10.0)
    assert not door.waits


def test_qos_0_goes_out_at_once_and_behind_what_is_retained(life: Life) -> None:
    for number in range(1, 8):
        life.core.keep(f"x/{number}", b"%d" % number, 1)
    panel, door = life.subscriber("panel", "y", qos=0), life.client("door")
    life.send(door, publish("y", b"now", 0, qos=0))
    assert payloads(panel) == [b"now"]
    life.send(panel, subscribe("x/+"))
    taken(panel)
    life.send(door, publish("y", b"later", 0, qos=0))
    assert payloads(panel) == []
    session = life.core.sessions["panel"]
    for number in range(1, 8):
        life.send(panel, puback(number))
    assert session.pending is None
    assert payloads(panel)[-1] == b"later"


def test_a_packet_id_that_is_still_out_is_not_given_anew(life: Life) -> None:
    """They begin at 1 again behind 65535 [MQTT-2.3.1-1], which may be the oldest one's yet."""
    panel, door = life.subscriber("panel", "y"), life.client("door")
    session = life.core.sessions["panel"]
    life.send(door, publish("y", b"first", 1))
    session.last_id = 65535
    life.send(door, publish("y", b"second", 2))
    assert payloads(panel) == [b"first", b"second"]
    assert [(number, out.data) for number, out in session.inflight.items()] == [
        (1, b"first"), (2, b"second"),
    ]  # fmt: skip


def test_a_filter_that_ends_leaves_the_others_theirs(life: Life) -> None:
    for number in range(1, 8):
        life.core.keep(f"x/{number}", b"x", 1)
        life.core.keep(f"y/{number}", b"y", 1)
    panel = life.client("panel")
    panel.unsent = 1 << 30
    life.send(panel, subscribe("x/+") + subscribe("y/+") + unsubscribe("x/+"))
    life.core.written(panel, 0, life.core.now)
    life.turn()
    assert set(payloads(panel)) == {b"y"}


def test_a_name_and_a_password_are_read(life: Life) -> None:
    link = life.core.opened(None, "somewhere", life.core.now)
    life.core.received(link, connect("door", user="door", password="secret"), life.core.now)
    assert link.connect is not None
    assert (link.connect.user, link.connect.password) == ("door", b"secret")


def test_one_that_ends_before_its_turn_gets_none(life: Life) -> None:
    door, other = life.client("door"), life.client("other")
    life.core.later(door)
    life.core.later(other)
    life.core.forget = lambda _link: None  # type: ignore[method-assign]  # it is left in the list
    life.core.lost(door, life.core.now)
    life.core.tick(life.core.now)
    assert not other.closed


# --- small parts ---------------------------------------------------------------------------------


def test_no_rate_asks_nobody_to_wait() -> None:
    assert Allowances(0.0, 0, 10).take("door", 0.0) == 0.0


def test_retained_bytes_are_bounded_in_all() -> None:
    kept = RetainedMessages(Limits(retained_bytes=100))
    kept.set("x", b"x" * 60, 1, "", 0.0)
    assert kept.refusal("y", 60, "", known=False) is not None
    kept.set("x", b"y" * 70, 1, "", 0.0)
    assert [message.data for message in kept.search("x") if message] == [b"y" * 70]


def test_a_filter_matches_by_levels() -> None:
    """[MQTT-4.7.1-2] [MQTT-4.7.2-1]."""
    assert matches(["a", "#"], ["a"])
    assert not matches(["#"], ["$SYS"])
    assert not matches(["+", "b"], ["a"])
    tree: Subscriptions[str] = Subscriptions()
    tree.add("a/+", "panel", 1)
    assert list(tree.items()) == [("a/+", {"panel": 1})]
    for first, second in ((0, 1), (1, 0)):
        tree = Subscriptions()
        tree.add("a/+", "panel", first)
        tree.add("a/b", "panel", second)
        assert tree.match("a/b") == {"panel": 1}


@pytest.mark.parametrize("call", [lambda t: t.end(None, ""), lambda t: t.turn(None)])
def test_turns_alone_serve_nobody(call: Callable[[Turns], None], life: Life) -> None:
    with pytest.raises(NotImplementedError):
        call(Turns(life.core.journal, 0.0))


def test_a_fault_in_nobodys_name_ends_no_link(life: Life, caplog: pytest.LogCaptureFixture) -> None:
    door = life.client("door")
    with caplog.at_level(logging.ERROR):
        life.core.at(0.0, lambda _: 1 // 0, None)
        life.at(0.1)
    assert "serving None failed" in caplog.text
    assert not door.closed


def test_a_fault_behind_a_verdict_is_its_clients_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    life = Life()
    door, other = life.client("door"), life.subscriber("other")
    life.rules.later = True
    life.send(door, publish("x", b"x", 1))
    monkeypatch.setattr(type(life.core), "_deliver", lambda *_: 1 // 0)
    life.core.verdict(life.rules.asked[0][0], True, life.core.now)
    assert door.closed
    assert not other.closed


def test_large_messages_have_long_heads() -> None:
    packet = mqtt.encode_publish(mqtt.encode_topic("x"), b"x" * 200, 1, 7, retain=False)
    frames = mqtt.Frames(1 << 20)
    frames.feed(packet)
    assert frames.ahead == len(packet)
    first, body = frames.next() or (0, b"")
    assert mqtt.decode_publish(first & 15, body).data == b"x" * 200


def test_a_session_without_connection_sends_nothing(life: Life) -> None:
    session = Session(life.core.shared, "x", None, clean=True)
    assert session.pump() is False
    assert connect("x")
