"""The broker's core where clients and limits are at their edges; bytes and time in."""

from __future__ import annotations

import pytest

from broker_config.core import packets as mqtt
from broker_config.core.limits import Limits
from broker_config.core.session import Session
from tests.bench.broker_wire import publish, remaining, subscribe, text
from tests.broker_support.life import (
    HELLO,
    Life,
    hello,
    kinds,
    known,
    payloads,
    puback,
    unsubscribe,
)
from tests.broker_support.memory import taken

CELL = "sig/v1/kitchen/invite/door/AAAAAAAAAAAAAAAAAAAAAA"
PRESENCE = "sig/v1/door/presence"


# --- what is no MQTT 3.1.1 -----------------------------------------------------------------------

_HEAD = b"\0\4MQTT\4"
BROKEN_CONNECTS = {
    "flags": b"\x11" + remaining(12) + b"\0\4MQTT\4\2\0\0\0\0",
    "another protocol": b"\x10" + remaining(10) + b"\0\4HTTP\4\2\0\0",
    "cut off": b"\x10" + remaining(7) + b"\0\4MQTT\4",
    "reserved flag": b"\x10" + remaining(12) + _HEAD + b"\3\0\0\0\0",
    "will QoS 3": b"\x10" + remaining(12) + _HEAD + b"\x1e\0\0\0\0",
    "will QoS without a will": b"\x10" + remaining(12) + _HEAD + b"\x0a\0\0\0\0",
    "password without user": b"\x10" + remaining(12) + _HEAD + b"\x42\0\0\0\0",
    "will topic with a wildcard": (
        b"\x10" + remaining(17) + _HEAD + b"\6\0\0\0\0" + text("#") + b"\0\0"
    ),
    "more than announced": b"\x10" + remaining(13) + _HEAD + b"\2\0\0\0\0x",
    "a string that ends in nothing": b"\x10" + remaining(12) + _HEAD + b"\2\0\0\0\5",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_CONNECTS)
def test_a_connect_that_is_none_is_closed_on(life: Life, name: str) -> None:
    link = life.link(BROKEN_CONNECTS[name])
    assert link.closed
    assert taken(link) == b""
    assert life.core.stats.cut["protocol"] == 1


@pytest.mark.parametrize("body", [b"\0\6MQIsdp\3\2\0\0\0\0", b"\0\4MQTT\5\2\0\0\0\0"])
def test_another_version_is_told_so(life: Life, body: bytes) -> None:
    """[MQTT-3.1.2-2]."""
    link = life.link(b"\x10" + remaining(len(body)) + body)
    assert link.closed
    assert taken(link) == mqtt.encode_connack(mqtt.UNACCEPTABLE_PROTOCOL)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x10\x02\0\0",  # a second CONNECT, broken
        hello("door"),  # a second CONNECT
        b"\x36" + remaining(7) + text("x") + b"\0\1xx",  # QoS 3
        b"\x38" + remaining(4) + text("x") + b"x",  # DUP with QoS 0
        b"\x30" + remaining(3) + b"\0\0x",  # no topic
        b"\x30" + remaining(4) + text("#") + b"x",  # a wildcard
        b"\x30" + remaining(4) + text("\0") + b"x",  # U+0000
        b"\x30" + remaining(1) + b"\0",  # not even the length of its topic
        b"\x30" + remaining(4) + b"\0\1\xffx",  # no UTF-8
        b"\x32" + remaining(3) + text("x"),  # no packet identifier
        b"\x32" + remaining(5) + text("x") + b"\0\0",  # packet identifier 0
        b"\x40\x01\0",  # half an acknowledgement
        b"\x60\x02\0\1",  # PUBREL with wrong flags
        b"\x80" + remaining(6) + b"\0\1" + text("x") + b"\0",  # SUBSCRIBE with wrong flags
        b"\x82" + remaining(6) + b"\0\1" + text("x") + b"\3",  # QoS 3
        b"\x82\x02\0\1",  # no filter
        b"\xc1\0",  # PINGREQ with flags
        b"\xc0\x01x",  # PINGREQ with a body
        b"\x20\x02\0\0",  # a broker's packet
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
    ],
)  # fmt: skip
def test_who_breaks_mqtt_is_closed_on(life: Life, packet: bytes) -> None:
    """[MQTT-4.8.0-1]."""
    door = life.client("door")
    life.send(door, packet)
    assert door.closed


def test_a_packet_that_is_no_publish_has_its_bound() -> None:
    life = Life(limits=Limits(packet_bytes=64, packet_bytes_dropped=1000))
    door = life.client("door")
    life.send(door, subscribe("x" * 100))
    assert door.closed


def test_an_acknowledgement_of_nothing_is_counted(life: Life) -> None:
    door = life.client("door")
    life.send(door, puback(9))
    assert life.core.stats.dropped["acknowledgement of nothing"] == 1
    assert not door.closed


def test_a_pubrec_for_nothing_is_answered(life: Life) -> None:
    """PUBREL is all that ends what the client waits for."""
    door = life.client("door")
    life.send(door, mqtt.encode_ack(mqtt.PUBREC, 9))
    assert taken(door) == mqtt.encode_ack(mqtt.PUBREL, 9)


# --- letting in ----------------------------------------------------------------------------------


def test_who_wants_no_client_id_gets_one_of_its_own(life: Life) -> None:
    """[MQTT-3.1.3-6]; without a clean session it is refused [MQTT-3.1.3-8]."""
    known(life, "door", "")
    link = life.core.opened(None, "somewhere", life.core.now)
    life.core.received(link, hello(""), life.core.now)
    life.core.admit(life.core.asked.pop(), "door", None, "x1", life.core.now)
    life.commit()
    assert "door:x1" in life.core.sessions
    refused = life.link(hello("", clean=False))
    assert taken(refused) == mqtt.encode_connack(mqtt.IDENTIFIER_REJECTED)


def test_a_session_of_nobody_is_not_handed_to_an_owner(life: Life) -> None:
    life.client("door", clean=False)
    assert taken(known(life, "door")) == mqtt.encode_connack(mqtt.IDENTIFIER_REJECTED)


def test_a_verdict_on_one_who_has_gone_lets_nobody_in(life: Life) -> None:
    link = life.core.opened(None, "somewhere", life.core.now)
    life.core.received(link, hello("door"), life.core.now)
    life.core.lost(link, life.core.now)
    life.core.asked.clear()
    life.core.admit(link, None, None, "spare", life.core.now)
    life.core.refuse(link, mqtt.NOT_AUTHORIZED, "not authenticated", life.core.now)
    assert life.core.sessions == {}
    assert life.core.stats.refused == {"gone before it was let in": 1}


def test_who_says_nothing_and_goes_is_counted(life: Life) -> None:
    link = life.core.opened(None, "somewhere", life.core.now)
    life.core.lost(link, life.core.now)
    life.core.received(link, b"\xc0\0", life.core.now)
    assert life.core.stats.refused["nothing said"] == 1


def test_refusals_of_an_address_come_later_and_later(life: Life) -> None:
    """The first ten at once; of those that wait at most 64 are held, the others closed on."""
    links = []
    for number in range(80):
        link = life.core.opened(None, "somewhere", life.core.now)
        life.core.received(link, hello(f"x{number}"), life.core.now)
        life.core.refuse(life.core.asked.pop(), mqtt.NOT_AUTHORIZED, "no", life.core.now)
        links.append(link)
    no = mqtt.encode_connack(mqtt.NOT_AUTHORIZED)
    told = [taken(link) == no for link in links]
    assert told.count(True) == 10
    assert [link.closed for link in links].count(False) == 64
    life.core.lost(links[20], life.core.now)
    life.core.received(links[21], b"\xc0\0" * 40000, life.core.now)  # it is not heard meanwhile
    assert not links[21].reading
    life.at(31.0)
    assert all(link.closed for link in links)
    assert life.core._kept_waiting == {}


def test_one_whose_owner_is_gone_meanwhile_is_refused(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life.rules, "valid", lambda _session: False, raising=False)
    link = life.link(hello("door"))
    assert taken(link) == mqtt.encode_connack(mqtt.NOT_AUTHORIZED)


def test_a_will_that_may_not_be_left_is_dropped_and_its_owner_let_in(life: Life) -> None:
    """Refused, it could never log in; also when the verdict comes late."""
    assert not life.client("forbidden", will=b"x").closed
    assert life.core.sessions["forbidden"].will is None
    life.rules.later = True
    link = life.link(hello("door", will=b"x"))
    ((key, action, topic),) = life.rules.asked
    assert (action, topic) == ("publish", "p/door")
    life.core.verdict(key, True, life.core.now)
    life.commit()
    assert taken(link) == HELLO
    assert life.core.stats.denied["will"] == 1


def test_a_will_with_an_impossible_topic_is_dropped(life: Life) -> None:
    body = b"\0\4MQTT\4\6\0\0" + text("door") + text("$SYS/x") + text("x")
    link = life.link(b"\x10" + remaining(len(body)) + body)
    assert taken(link) == HELLO
    assert life.core.sessions["door"].will is None


def test_a_connack_whose_promise_cannot_be_kept_is_a_refusal(life: Life) -> None:
    link = life.link(hello("door", will=b"x"))
    life.core.failed(life.core.now)
    assert taken(link) == mqtt.encode_connack(mqtt.UNAVAILABLE)
    assert link.closed
    life.core.failed(life.core.now)  # what was taken since is kept in the end


def test_a_session_that_comes_back_clean_is_forgotten(life: Life) -> None:
    """[MQTT-3.1.2-6]."""
    first = life.subscriber("panel", clean=False)
    life.core.lost(first, life.core.now)
    life.client("panel")
    assert life.core.sessions["panel"].filters == {}
    assert life.core.persistent == {}


def test_a_device_with_too_many_connections_gives_up_its_oldest() -> None:
    life = Life(limits=Limits(connections_per_device=2))
    links = [known(life, "door", f"door:{number}") for number in range(3)]
    assert [link.closed for link in links] == [True, False, False]
    assert life.core.stats.cut["too many connections of one device"] == 1
    for link in links[1:]:
        life.core.lost(link, life.core.now)
    assert life.core._connected == {}


def test_persistent_sessions_are_shared_out_by_device() -> None:
    """A device's unused one gives way to its next; nobody's first is refused."""
    life = Life(limits=Limits(persistent_sessions_per_device=2, persistent_sessions=3))
    two = [known(life, "door", f"door:{number}", clean=False) for number in range(2)]
    third = known(life, "door", "door:2", clean=False)
    assert taken(third) == mqtt.encode_connack(mqtt.UNAVAILABLE)  # both are in use
    life.core.lost(two[0], life.core.now)
    known(life, "door", "door:2", clean=False)
    assert sorted(life.core.sessions) == ["door:1", "door:2"]
    for name in ("a", "b"):
        assert taken(known(life, name, clean=False)) == HELLO
    assert life.link(hello("anybody", clean=False)).closed
    assert life.core.stats.refused["too many persistent sessions"] == 2


def test_one_that_is_slow_to_be_let_in_waits_for_its_rate() -> None:
    """A login costs one, its will another; who is over its rate waits for the CONNACK."""
    life = Life(limits=Limits(publishes_per_second=1.0, publish_burst=2), keeps=False)
    life.client("door", will=b"x")
    late = life.link(hello("door:2", will=b"x"))
    life.commit()
    assert taken(late) == b""
    life.at(2.1)
    life.commit()
    assert taken(late) == HELLO


# --- publishing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["x/" * 300, "/".join("x" * 40), "$SYS/x"])
def test_a_topic_that_nobody_may_use_is_acknowledged_and_dropped(life: Life, topic: str) -> None:
    door = life.client("door")
    life.send(door, publish(topic, b"x", 1, retain=True))
    assert taken(door) == puback(1)
    assert life.core.retained.messages == {}
    assert life.core.stats.denied["topic"] == 1


def test_a_message_that_is_too_large_is_acknowledged_and_dropped() -> None:
    life = Life(limits=Limits(packet_bytes=100, packet_bytes_dropped=1000))
    door = life.client("door")
    life.send(door, publish("x", b"x" * 200, 1, retain=True))
    assert taken(door) == puback(1)
    assert life.core.stats.denied["packet too large"] == 1


def test_what_is_above_a_share_is_acknowledged_and_dropped() -> None:
    """Presence is never refused, whoever is greedy."""
    life = Life(limits=Limits(retained_per_device=1))
    door = known(life, "door")
    taken(door)
    cells = [CELL, CELL.replace("AAAA", "BBBB", 1), PRESENCE]
    life.send(door, b"".join(publish(t, b"x", n, retain=True) for n, t in enumerate(cells, 1)))
    life.commit()
    assert list(life.core.retained.messages) == [CELL, PRESENCE]
    assert life.core.stats.refused["publish, too many retained"] == 1


def test_a_will_above_its_devices_share_is_not_published() -> None:
    life = Life(limits=Limits(retained_per_device=1))
    door = life.client("door", will=b"gone")
    life.send(door, publish("x", b"x", 1, retain=True))
    life.commit()
    life.core.lost(door, life.core.now)
    assert list(life.core.retained.messages) == ["x"]
    assert life.core.stats.refused["will, too many retained"] == 1


def test_too_many_unreleased_qos_2_messages_end_their_client() -> None:
    life = Life(limits=Limits(inflight_incoming=2), keeps=False)
    door = life.client("door")
    for number in (1, 2):
        life.send(door, publish("x", b"x", number, qos=2))
    assert not door.closed
    life.send(door, publish("x", b"x", 3, qos=2))
    assert door.closed


def test_a_receiver_that_does_not_read_loses_qos_0_and_then_its_link() -> None:
    life = Life(limits=Limits(write_buffer=1000))
    panel = life.subscriber("panel", qos=0)
    door = life.client("door")
    life.core.written(panel, 600, life.core.now)
    life.send(door, publish("x", b"x", 0, qos=0))
    assert life.core.stats.dropped["slow client, QoS 0"] == 1
    life.core.written(panel, 1001, life.core.now)
    assert panel.closed
    assert panel.abort
    life.core.written(panel, 0, life.core.now)


def test_what_waits_goes_on_when_the_receiver_reads_again() -> None:
    life = Life(limits=Limits(write_buffer=1000))
    panel, door = life.subscriber("panel"), life.client("door")
    life.core.written(panel, 600, life.core.now)
    life.send(door, publish("x", b"x", 1))
    assert payloads(panel) == []
    life.core.written(panel, 0, life.core.now)
    life.turn()
    assert payloads(panel) == [b"x"]


def test_receivers_are_asked_where_the_rules_say_so(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for retained messages, and when the verdict comes late."""
    life.rules.receivers = True
    may = life.rules.may

    def no_deaf(key: object, session: Session, action: str, topic: str) -> bool | None:
        if action == "receive" and session.client_id == "deaf":
            return False
        return may(key, session, action, topic)

    monkeypatch.setattr(life.rules, "may", no_deaf)
    life.core.keep("x", b"kept", 1)
    door = life.client("door")
    panel, deaf = life.subscriber("panel"), life.subscriber("deaf")
    assert payloads(panel) == []  # it came with the SUBACK
    life.send(door, publish("y", b"now", 1))
    assert (payloads(panel), payloads(deaf)) == ([b"now"], [])
    assert life.core.stats.denied["receive"] == 1
    life.rules.later = True
    life.send(door, publish("y", b"later", 2))
    for _ in range(2):  # to publish, then to receive
        life.core.verdict(life.rules.asked[-1][0], True, life.core.now)
        life.turn()
    assert payloads(panel) == [b"later"]
    again = life.client("again")
    life.send(again, subscribe("x"))
    for _ in range(2):  # to subscribe, then to receive what is retained
        life.core.verdict(life.rules.asked[-1][0], True, life.core.now)
        life.commit()
    assert payloads(again) == [b"kept"]


def test_the_brokers_own_words_reach_whom_the_rules_let(life: Life) -> None:
    life.rules.receivers = True
    panel = life.subscriber("panel")
    life.core.keep("x", b"kept", 1)
    life.core.clear("x")
    life.core.clear("x")
    assert payloads(panel) == [b"", b""]
    assert life.core.retained.messages == {}


def test_who_drowns_in_the_brokers_own_words_is_cut() -> None:
    life = Life(limits=Limits(inflight=1, queued_bytes=500))
    panel = life.subscriber("panel")
    for number in range(20):
        life.core.keep(f"x/{number}", b"x", 1)
        life.core.clear(f"x/{number}")
    assert panel.closed
    assert life.core.stats.cut["does not read"] == 1


def test_who_drowns_in_others_messages_is_cut() -> None:
    """Where the publisher may not wait, because the receiver itself waits for somebody."""
    life = Life(limits=Limits(inflight=3, queued_bytes=1000))
    panel, door = life.subscriber("panel"), life.client("door")
    panel.waits |= 64
    life.send(door, b"".join(publish("x", b"x", number) for number in range(1, 40)))
    assert panel.closed


def test_who_is_cut_for_the_will_of_one_that_was_cut_is_cut_once() -> None:
    life = Life(limits=Limits(inflight=1, queued_bytes=1000))
    readers = [life.subscriber(name, will=b"gone") for name in ("a", "b")]
    door = life.client("door")
    life.send(door, publish("x", b"x", 1) + publish("x", bytes(5000), 2))
    assert [link.closed for link in readers] == [True, True]
    assert life.core.stats.cut["does not read"] == 2
    life.commit()  # the wills are retained
    assert taken(door) == puback(1) + puback(2)


def test_a_will_that_is_too_much_for_many_cuts_each_once() -> None:
    """Also where the will of the first that is cut is what cuts the second."""
    life = Life(limits=Limits(inflight=1, queued=1, queued_bytes=1000))
    readers = [life.subscriber(name, will=b"gone") for name in ("a", "b")]
    life.send(life.client("door"), publish("x", b"x", 1))
    life.core.lost(life.client("quiet", will=b"gone"), life.core.now)
    assert not any(link.closed for link in readers)
    life.core.lost(life.client("loud", will=bytes(5000)), life.core.now)
    assert [link.closed for link in readers] == [True, True]
    assert life.core.stats.cut["does not read"] == 2


def test_a_publisher_that_waited_is_read_on_when_the_receiver_has_room_by_then(life: Life) -> None:
    panel, door = life.subscriber("panel"), life.client("door")
    life.send(door, b"".join(publish("x", b"x", number) for number in range(1, 9)))
    assert door.waits
    session = life.core.sessions["panel"]
    session.pending = None
    session.others = session.others_bytes = 0
    life.at(1.1)
    assert not panel.closed
    life.turn()
    assert not door.waits


# --- subscribing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("topic_filter", ["x/#/y", "x" * 600, "/".join("x" * 40)])
def test_a_filter_that_is_none_is_refused(life: Life, topic_filter: str) -> None:
    door = life.client("door")
    life.send(door, subscribe(topic_filter))
    assert taken(door)[-1] == mqtt.REFUSED


def test_filters_are_limited_and_forbidden_ones_refused() -> None:
    life = Life(limits=Limits(filters_per_client=1))
    door = life.client("door")
    codes = []
    for topic_filter in ("forbidden", "a", "a", "b"):
        life.send(door, subscribe(topic_filter))
        codes.append(taken(door)[-1])
    assert codes == [mqtt.REFUSED, 1, 1, mqtt.REFUSED]
    assert life.core.stats.denied["too many filters"] == 1


def test_who_unsubscribes_gets_no_more_of_it(life: Life) -> None:
    """Nor the rest of what was retained; what was not subscribed is acknowledged as well."""
    door = life.client("door")
    for number in range(1, 8):
        life.send(door, publish(f"x/{number}", b"x", number, retain=True))
    life.commit()
    panel = life.client("panel", clean=False)
    life.send(panel, subscribe("x/+") + unsubscribe("x/+") + unsubscribe("y"))
    life.commit()
    assert kinds(taken(panel)).count(mqtt.UNSUBACK) == 2
    session = life.core.sessions["panel"]
    assert session.filters == {}
    assert not session.bursts
    assert life.core.subscriptions.match("x/1") == {}


def test_a_filter_said_twice_is_owed_once(life: Life) -> None:
    """The later QoS holds for what is still to come, also in the journal."""
    door = life.client("door")
    for number in range(1, 8):
        life.send(door, publish(f"x/{number}", b"x", number, retain=True))
    life.commit()
    panel = life.client("panel", clean=False)
    panel.unsent = 1 << 30  # it takes nothing for now
    life.send(panel, subscribe("x/+") + subscribe("x/+", qos=0))
    life.commit()
    session = life.core.sessions["panel"]
    assert [burst.qos for burst in session.bursts or ()] == [0]
    again = Life(life.disk)
    again.core.subscribe_for(again.core.sessions["panel"], "y", 1)
    assert sorted(again.core.sessions["panel"].filters) == ["x/+", "y"]


def test_what_is_cleared_before_it_went_out_does_not_go_out(life: Life) -> None:
    life.core.keep("x", b"x", 1)
    panel = life.client("panel")
    panel.unsent = 1 << 30
    life.send(panel, subscribe("#"))
    life.core.sessions["panel"].bursts[0].look()  # type: ignore[index] # it is there
    life.core.clear("x")
    life.core.written(panel, 0, life.core.now)
    life.turn()
    assert payloads(panel) == [b""]
