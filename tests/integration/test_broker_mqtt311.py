"""MQTT 3.1.1 as clients see it, beyond the ten faults; each test names its statement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.bench.broker_wire import connect, publish, subscribe
from tests.broker_support.raw import (
    CONNACK,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    TIMEOUT,
    Raw,
    Will,
    topics,
)
from tests.broker_support.running import Running

Keep = Callable[[Raw], Raw]


@pytest.fixture(scope="module")
def broker() -> Iterator[Running]:
    with Running() as running:
        yield running


@pytest.fixture
def clients() -> Iterator[Keep]:
    with ExitStack() as stack:
        yield stack.enter_context


def test_retained_messages_follow_suback_in_their_order(broker: Running, clients: Keep) -> None:
    """[MQTT-3.3.1-6] [MQTT-3.3.1-8]: all matching ones, flagged, before what comes later."""
    door = clients(broker.client("r-door"))
    for name in ("c", "a", "b", "a"):
        door.publish(f"r/{name}", name.encode(), retain=True)
    panel = clients(broker.client("r-panel"))
    panel.send(subscribe("r/+", packet_id=5) + publish("r/own", b"echo", 6))
    kinds = []
    for _ in range(6):
        packet = panel.read()
        assert packet is not None
        kinds.append((packet[0] & 0xF0, packet[0] & 1, packet[1][2:5]))
    assert kinds == [
        (SUBACK, 0, b"\1"),
        (PUBLISH, 1, b"r/c"),
        (PUBLISH, 1, b"r/b"),
        (PUBLISH, 1, b"r/a"),
        (PUBLISH, 0, b"r/o"),
        (PUBACK, 0, b""),
    ]


def test_a_message_of_now_is_not_flagged_retained(broker: Running, clients: Keep) -> None:
    """[MQTT-3.3.1-9]."""
    panel = clients(broker.client("n-panel"))
    panel.subscribe("n/x")
    clients(broker.client("n-door")).publish("n/x", b"now", retain=True)
    assert not panel.message().retain


def test_an_empty_retained_message_clears(broker: Running, clients: Keep) -> None:
    """[MQTT-3.3.1-10] [MQTT-3.3.1-11]: present subscribers are told, later ones get nothing."""
    door = clients(broker.client("e-door"))
    panel = clients(broker.client("e-panel"))
    panel.subscribe("e/x")
    door.publish("e/x", b"on", retain=True)
    door.publish("e/x", b"", retain=True)
    assert [message.data for message in panel.gather()] == [b"on", b""]
    late = clients(broker.client("e-late"))
    late.subscribe("e/x")
    assert late.gather() == []


def test_overlapping_filters_deliver_once_at_highest_qos(broker: Running, clients: Keep) -> None:
    """[MQTT-3.3.5-1]."""
    panel = clients(broker.client("o-panel"))
    panel.subscribe("o/#", qos=0)
    panel.subscribe("o/+", qos=1)
    clients(broker.client("o-door")).publish("o/x", b"x")
    assert [(message.topic, message.qos) for message in panel.gather()] == [("o/x", 1)]


def test_subscribing_again_replaces_and_repeats_retained(broker: Running, clients: Keep) -> None:
    """[MQTT-3.8.4-3]."""
    clients(broker.client("s-door")).publish("s/x", b"x", retain=True)
    panel = clients(broker.client("s-panel"))
    assert panel.subscribe("s/x", qos=0) == [0]
    assert panel.subscribe("s/x", qos=1) == [1]
    assert [message.qos for message in panel.gather()] == [0, 1]


def test_unsubscribing_ends_delivery(broker: Running, clients: Keep) -> None:
    """[MQTT-3.10.4-1] [MQTT-3.10.4-5]: also what was not subscribed is answered."""
    panel = clients(broker.client("u-panel"))
    panel.subscribe("u/x")
    panel.unsubscribe("u/x")
    panel.unsubscribe("u/never")
    clients(broker.client("u-door")).publish("u/x", b"x")
    assert panel.gather() == []


@pytest.mark.parametrize("wrong", ["a/#/b", "a/b#", "a/+b", "", "a" * 513, "/".join("a" * 40)])
def test_a_filter_that_is_none_gets_0x80(broker: Running, clients: Keep, wrong: str) -> None:
    """[MQTT-3.8.4-5] [MQTT-4.7.1-2] [MQTT-4.7.1-3]: in its place among the codes."""
    panel = clients(broker.client("w-panel"))
    assert panel.subscribe("w/x", wrong, "w/y") == [1, 0x80, 1]


def test_a_dollar_topic_is_no_wildcards(broker: Running, clients: Keep) -> None:
    """[MQTT-4.7.2-1]: and no client's to write."""
    client = clients(broker.client("d-client"))
    client.subscribe("$SYS/x")
    client.publish("$SYS/x", b"x")
    assert client.gather() == []


def test_a_will_is_published_on_an_unclean_end(broker: Running, clients: Keep) -> None:
    """[MQTT-3.1.2-8]."""
    watcher = clients(broker.client("x-watcher"))
    watcher.subscribe("x/will")
    clients(broker.client("x-door", will=Will("x/will", b"gone"))).close()
    assert watcher.message().data == b"gone"


def test_a_will_is_published_on_a_broken_protocol(broker: Running, clients: Keep) -> None:
    """[MQTT-3.1.2-8]: the server closes because of a protocol error."""
    watcher = clients(broker.client("xp-watcher"))
    watcher.subscribe("xp/will")
    client = clients(broker.client("xp-door", will=Will("xp/will", b"gone")))
    client.send(b"\xff\0")
    assert client.closed()
    assert watcher.message().data == b"gone"


def test_a_goodbye_discards_the_will(broker: Running, clients: Keep) -> None:
    """[MQTT-3.14.4-3]."""
    watcher = clients(broker.client("g-watcher"))
    watcher.subscribe("g/will")
    clients(broker.client("g-door", will=Will("g/will", b"gone", retain=True))).disconnect()
    clients(broker.client("g-other")).publish("g/will", b"marker")
    assert [message.data for message in watcher.gather()] == [b"marker"]


def test_taking_over_publishes_the_will_first(broker: Running, clients: Keep) -> None:
    """[MQTT-3.1.4-2]: the old connection is closed; its will comes before the new one's words."""
    watcher = clients(broker.client("t-watcher"))
    watcher.subscribe("t/#")
    old = clients(broker.client("t-door", will=Will("t/presence", b"offline", retain=True)))
    new = clients(broker.client("t-door"))
    new.publish("t/presence", b"online", retain=True)
    assert [message.data for message in watcher.gather()] == [b"offline", b"online"]
    assert old.closed()


def test_taking_over_thirty_times_at_once_leaves_one(broker: Running, clients: Keep) -> None:
    crowd = [clients(broker.raw()) for _ in range(30)]
    for client in crowd:
        client.send(connect("t-many"))
    for client in crowd:
        client.expect(CONNACK)
    alive, until = crowd, time.monotonic() + TIMEOUT
    while len(alive) > 1:  # the last to be taken over hears of it a moment later
        assert time.monotonic() < until
        alive = [client for client in alive if not client.closed(0.05)]
    alive[0].send(b"\xc0\0")
    alive[0].expect(PINGRESP)


def test_a_clean_session_forgets(broker: Running, clients: Keep) -> None:
    """[MQTT-3.1.2-6] [MQTT-3.2.2-1]."""
    panel = clients(broker.client("c-panel", clean=False))
    panel.subscribe("c/x")
    panel.disconnect()
    panel = clients(broker.client("c-panel", clean=True))
    assert not panel.session_present
    clients(broker.client("c-door")).publish("c/x", b"x")
    assert panel.gather() == []
    panel.disconnect()
    assert not clients(broker.client("c-panel", clean=False)).session_present


def test_qos_2_is_delivered_once_however_often_it_is_sent(broker: Running, clients: Keep) -> None:
    """[MQTT-4.3.3-2]: the same packet id before PUBREL is the same message."""
    panel = clients(broker.client("q-panel"))
    panel.subscribe("q/x", qos=2)
    door = clients(broker.client("q-door"))
    door.send(publish("q/x", b"once", 9, qos=2))
    door.expect(PUBREC)
    door.send(
        bytes((publish("q/x", b"once", 9, qos=2)[0] | 8,)) + publish("q/x", b"once", 9, qos=2)[1:]
    )
    door.expect(PUBREC)
    door.ack(PUBREL, 9)
    door.expect(PUBCOMP)
    message = panel.message()
    assert message.qos == 2
    panel.ack(PUBREC, message.packet_id)
    panel.expect(PUBREL)
    panel.ack(PUBCOMP, message.packet_id)
    assert panel.gather() == []


def test_a_released_qos_2_message_is_released_again_after_reconnect(
    broker: Running, clients: Keep
) -> None:
    """[MQTT-4.4.0-1]: PUBREL, and never the message."""
    panel = clients(broker.client("q2-panel", clean=False))
    panel.subscribe("q2/x", qos=2)
    door = clients(broker.client("q2-door"))
    door.send(publish("q2/x", b"once", 1, qos=2))
    message = panel.message()
    panel.ack(PUBREC, message.packet_id)
    panel.expect(PUBREL)
    panel.close()
    panel = clients(broker.client("q2-panel", clean=False))
    assert int.from_bytes(panel.expect(PUBREL), "big") == message.packet_id
    panel.ack(PUBCOMP, message.packet_id)
    assert panel.gather() == []


def test_order_is_kept_through_a_full_window(broker: Running, clients: Keep) -> None:
    """[MQTT-4.6.0-6]: more messages than the window holds, acknowledged late."""
    panel = clients(broker.client("or-panel"))
    panel.subscribe("or/x")
    door = clients(broker.client("or-door"))
    for number in range(250):
        door.publish("or/x", b"%d" % number, wait=False)
    for _ in range(250):
        door.expect(PUBACK)
    first = [panel.message(ack=False) for _ in range(100)]
    for message in first:
        panel.ack(PUBACK, message.packet_id)
    rest = [panel.message() for _ in range(150)]
    assert [message.data for message in first + rest] == [b"%d" % number for number in range(250)]


def test_publishing_order_is_kept_over_topics_of_one_subscriber(
    broker: Running, clients: Keep
) -> None:
    panel = clients(broker.client("ot-panel"))
    panel.subscribe("ot/#")
    door = clients(broker.client("ot-door"))
    wanted = [f"ot/{number % 7}/{number}" for number in range(60)]
    for number, topic in enumerate(wanted):
        door.publish(topic, b"x", qos=number % 2, wait=False)
    assert topics(panel.message() for _ in wanted) == wanted


def test_a_client_without_id_gets_one_if_its_session_is_clean(
    broker: Running, clients: Keep
) -> None:
    """[MQTT-3.1.3-6] [MQTT-3.1.3-8]."""
    assert clients(broker.raw()).connect("") == 0
    assert clients(broker.raw()).connect("", clean=False) == 2


def test_another_protocol_level_is_told(broker: Running, clients: Keep) -> None:
    """[MQTT-3.1.2-2]: return code 1, then the end; MQTT 5 is not spoken here."""
    client = clients(broker.raw())
    packet = connect("v5")
    client.send(packet[:8] + b"\5" + packet[9:])
    assert client.expect(CONNACK) == b"\0\1"
    assert client.closed()


@pytest.mark.parametrize(
    "data",
    [
        b"\xc0\0",
        b"\x10\x0c\0\4MQTT\4\3\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x30\xff\xff\xff\xff",
    ],
)
def test_what_is_no_connect_is_closed_on(broker: Running, clients: Keep, data: bytes) -> None:
    """[MQTT-3.1.0-1] [MQTT-3.1.4-1]: without a CONNACK."""
    client = clients(broker.raw())
    client.send(data)
    assert client.closed()
    with pytest.raises((ConnectionError, TimeoutError)):
        client.expect(CONNACK, 0.01)


def test_a_second_connect_ends_the_connection(broker: Running, clients: Keep) -> None:
    """[MQTT-3.1.0-2]."""
    client = clients(broker.client("two"))
    client.send(connect("two"))
    assert client.closed()


def test_a_client_that_keeps_alive_lives(broker: Running, clients: Keep) -> None:
    """[MQTT-3.1.2-23]: one that pings within its keep-alive outlives it."""
    client = clients(broker.client("alive", keep_alive=1))
    for _ in range(4):
        assert not client.closed(0.5)
        client.send(b"\xc0\0")
        client.expect(PINGRESP)


def test_a_failing_receiver_harms_no_other(broker: Running, clients: Keep) -> None:
    """One session whose handler raises: the publisher is acknowledged, the other receives."""
    broken, well = clients(broker.client("h-broken")), clients(broker.client("h-well"))
    for client in (broken, well):
        client.subscribe("h/x")

    async def breaks() -> None:
        session = broker.broker.core.sessions["h-broken"]
        session.inflight = None  # type: ignore[assignment] # what must never be, and might

    broker.call(breaks())
    clients(broker.client("h-door")).publish("h/x", b"x")
    assert well.message().data == b"x"
