"""What one client may take, and that the others don't notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from broker_config.core.limits import Allowance, Limits
from tests.bench.broker_wire import connect, publish, subscribe
from tests.broker_support.raw import CONNACK, PUBACK, PUBCOMP, PUBREC, PUBREL, Raw, Will
from tests.broker_support.running import Running

Keep = Callable[[Raw], Raw]
LIMITS = Limits()


@pytest.fixture
def clients() -> Iterator[Keep]:
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_packet_may_be_64_kib(clients: Keep, qos: int) -> None:
    """What is larger is acknowledged and dropped, and the link lives; far above, it ends."""
    with Running() as broker:
        panel, client = clients(broker.client("panel")), clients(broker.client("x"))
        panel.subscribe("t", qos=0)
        head = 2 + len("t") + 2 * bool(qos)
        client.publish("t", bytes(LIMITS.packet_bytes - head), qos=qos and 1)
        assert len(panel.message().data) == LIMITS.packet_bytes - head
        for size in (LIMITS.packet_bytes - head + 1, LIMITS.packet_bytes_dropped - head):
            packet_id = client.publish("t", bytes(size), qos=qos, retain=True)
            if qos == 2:
                assert client.expect(PUBREC) == packet_id.to_bytes(2, "big")
                client.ack(PUBREL, packet_id)
                assert client.expect(PUBCOMP) == packet_id.to_bytes(2, "big")
        client.publish("t", b"small")
        assert panel.message().data == b"small"
        assert broker.broker.stats.denied["packet too large"] == 2
        assert not broker.broker.retained_messages
        with suppress(ConnectionError):  # it is not read to its end
            client.send(publish("t", bytes(LIMITS.packet_bytes_dropped), 9, qos=qos))
        assert client.closed()


@pytest.mark.parametrize(
    "topic", ["a" * 513, "é" * 257, "/".join("a" * 33)], ids=["long", "long in bytes", "deep"]
)
def test_a_topic_is_bounded(clients: Keep, topic: str) -> None:
    with Running() as broker:
        client = clients(broker.client("x"))
        client.publish("/".join("a" * 32), b"x")
        client.publish("a" * 512, b"x")
        client.publish(topic, b"x", retain=True)
        assert client.gather() == []
        clients(broker.client("y", will=Will(topic, b"x", retain=True))).close()
        clients(broker.client("z")).gather()
        assert not broker.broker.retained_messages
        assert (broker.broker.stats.denied["topic"], broker.broker.stats.denied["will"]) == (1, 1)


def test_filters_are_counted(clients: Keep) -> None:
    with Running(limits=replace(LIMITS, filters_per_client=3)) as broker:
        client = clients(broker.client("x"))
        assert client.subscribe("a", "b", "c", "d", "a") == [1, 1, 1, 0x80, 1]
        client.unsubscribe("a")
        assert client.subscribe("d") == [1]


def test_connections_are_counted(clients: Keep) -> None:
    with Running(limits=replace(LIMITS, connections=3)) as broker:
        kept = [clients(broker.client(f"c{number}")) for number in range(3)]
        assert clients(broker.raw()).connect("late") == -1
        kept[0].disconnect()
        clients(broker.client("later"))


def test_connections_of_one_address_are_counted(clients: Keep) -> None:
    with Running(limits=replace(LIMITS, connections_per_address=2)) as broker:
        kept = [clients(broker.client(f"c{number}")) for number in range(2)]
        assert clients(broker.raw()).connect("late") == -1
        kept[0].disconnect()
        clients(broker.client("later"))


def test_who_says_nothing_is_closed_on(clients: Keep) -> None:
    with Running(limits=replace(LIMITS, connect_timeout=0.2)) as broker:
        silent = clients(broker.raw())
        assert silent.closed(2)
        assert broker.broker.stats.refused["no CONNECT in time"] == 1


def test_who_drips_its_connect_is_closed_on(clients: Keep) -> None:
    """Slowloris: a byte now and then does not buy time."""
    with Running(limits=replace(LIMITS, connect_timeout=0.4)) as broker:
        dripping = clients(broker.raw())
        hello = connect("x" * 60)
        for number in range(len(hello)):
            try:
                dripping.send(hello[number : number + 1])
            except ConnectionError:
                break
            if dripping.closed(0.05):
                break
        else:
            raise AssertionError("it was waited for")
        assert broker.broker.stats.refused["no CONNECT in time"] == 1


def test_half_open_connections_keep_nobody_out(clients: Keep) -> None:
    with Running() as broker:
        for _ in range(200):
            clients(broker.raw())
        panel = clients(broker.client("panel"))
        panel.subscribe("x")
        clients(broker.client("door")).publish("x", b"x")
        assert panel.message().data == b"x"


def test_a_rate_is_kept_by_not_reading(clients: Keep) -> None:
    """Nothing is lost, nobody is cut; the socket fills up instead."""
    with Running(limits=replace(LIMITS, publishes_per_second=50.0, publish_burst=5)) as broker:
        fast, other = clients(broker.client("fast")), clients(broker.client("other"))
        fast.send(b"".join(publish("x", b"x", number) for number in range(1, 21)))
        for _ in range(5):
            fast.expect(PUBACK)
        other.publish("x", b"x")  # the other is served meanwhile
        received = broker.broker.stats.messages_in
        assert received < 21
        for _ in range(15):
            fast.expect(PUBACK)


def test_the_allowance_is_its_rate() -> None:
    allowance = Allowance(10.0, 2, now=0.0)
    assert [allowance.take(0.0) for _ in range(4)] == [
        0.0,
        0.0,
        pytest.approx(0.1),
        pytest.approx(0.2),
    ]
    assert allowance.owed(0.1) == pytest.approx(0.1)
    assert allowance.take(10.0) == 0.0
    assert allowance.take(10.0) == 0.0
    assert allowance.take(10.0) > 0


def test_an_offline_queue_gives_up_its_oldest(clients: Keep) -> None:
    with Running(limits=replace(LIMITS, queued=3)) as broker:
        panel = clients(broker.client("panel", clean=False))
        panel.subscribe("x")
        panel.disconnect()
        door = clients(broker.client("door"))
        for number in range(5):
            door.publish("x", b"%d" % number)
        panel = clients(broker.client("panel", clean=False))
        assert [message.data for message in panel.gather()] == [b"2", b"3", b"4"]
        assert broker.broker.stats.dropped["offline queue full"] == 2


def test_a_subscriber_that_does_not_acknowledge_is_cut(clients: Keep) -> None:
    """Publishers wait for it, but not long; others get everything."""
    limits = replace(LIMITS, inflight=5, queued=20, stall=0.2)
    with Running(limits=limits) as broker:
        stuck, well = clients(broker.client("stuck")), clients(broker.client("well"))
        for client in (stuck, well):
            client.subscribe("x")
        door = clients(broker.client("door"))
        for number in range(60):
            door.publish("x", b"%d" % number, wait=False)
            assert well.message().data == b"%d" % number
        assert stuck.closed()
        assert broker.broker.stats.cut["does not read"] == 1


def test_a_subscriber_that_does_not_read_is_cut(clients: Keep) -> None:
    """QoS 0: dropped first, and never more in memory than the bound."""
    limits = replace(LIMITS, write_buffer=200_000)
    with Running(limits=limits) as broker:
        stuck, well = clients(broker.client("stuck")), clients(broker.client("well"))
        stuck.subscribe("x", qos=0)
        well.subscribe("x", qos=0)
        door = clients(broker.client("door"))
        for number in range(400):
            door.publish("x", b"%d" % number + bytes(60_000))
            assert well.message().data.startswith(b"%d\0" % number)
        assert broker.broker.stats.dropped["slow client, QoS 0"] > 0

        async def unsent() -> int:
            link = broker.broker.core.sessions["stuck"].link
            return link.peer.unsent if link is not None else 0

        assert broker.call(unsent()) <= limits.write_buffer + LIMITS.packet_bytes


def test_a_watcher_of_many_retained_messages_is_no_slow_client(clients: Keep) -> None:
    """What its own SUBSCRIBE called for neither cuts it nor holds publishers up."""
    with Running(limits=replace(LIMITS, inflight=5, queued=10)) as broker:
        door = clients(broker.client("door"))
        for number in range(100):
            door.publish(f"p/{number}", b"x", retain=True)
        watcher = clients(broker.client("watcher"))
        watcher.send(subscribe("p/+"))
        watcher.expect(0x90)
        door.publish("p/0", b"y")
        assert len([watcher.message() for _ in range(101)]) == 101


def test_retained_messages_are_counted(clients: Keep) -> None:
    with Running(limits=replace(LIMITS, retained=2)) as broker:
        door = clients(broker.client("door"))
        for topic in ("a", "b", "a"):
            door.publish(topic, b"x", retain=True)
        door.publish("a", b"", retain=True)
        door.publish("c", b"x", retain=True)
        door.publish("d", b"x", retain=True)
        assert door.gather() == []
        assert set(broker.broker.retained_messages) == {"b", "c"}
        assert broker.broker.stats.refused["publish, too many retained"] == 1


def test_unreleased_qos_2_messages_are_counted(clients: Keep) -> None:
    with Running(limits=replace(LIMITS, inflight_incoming=3)) as broker:
        door = clients(broker.client("door"))
        for number in range(1, 6):
            door.send(publish("x", b"x", number, qos=2))
        assert door.closed()


def test_persistent_sessions_are_counted(clients: Keep) -> None:
    with Running(limits=replace(LIMITS, persistent_sessions=1)) as broker:
        clients(broker.client("one", clean=False))
        client = clients(broker.raw())
        assert client.connect("two", clean=False) == 3
        clients(broker.client("one", clean=False))
        clients(broker.client("three"))


def test_shutdown_ends_every_connection(clients: Keep) -> None:
    """Half-open ones too, and quickly."""
    with Running() as broker:
        waiting, connected = clients(broker.raw()), clients(broker.client("x"))
        clients(broker.raw()).send(connect("y")[:5])
    assert waiting.closed(0.5)
    assert connected.closed(0.5)
    with pytest.raises(ConnectionError):
        connected.expect(CONNACK)
