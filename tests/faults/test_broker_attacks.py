"""What one device does to the broker, the others do not notice, and it does not do for long."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from broker_config.admin.metrics import MetricsServer, status
from broker_config.core.limits import Limits
from tests.bench.broker_wire import connect, publish, remaining, subscribe, text
from tests.broker_support.raw import PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, Raw, Will
from tests.broker_support.running import SECRET, Running, registry_plugins

Keep = Callable[[Raw], Raw]
LIMITS = Limits()
ROOMY = replace(LIMITS, publishes_per_second=1000.0, publish_burst=100_000)


@pytest.fixture
def clients() -> Iterator[Keep]:
    with ExitStack() as stack:
        yield stack.enter_context


def login(broker: Running, clients: Keep, name: str, suffix: str = "", **options: object) -> Raw:
    options = {"user": name, "password": SECRET, **options}
    return clients(broker.client(name + suffix, **options))


def cell(number: int) -> str:
    return f"sig/v1/kitchen/invite/front-door/{number:021d}A"


def acknowledged(client: Raw, count: int, kind: int = PUBACK) -> None:
    for _ in range(count):
        client.expect(kind)


# --- what waits for one client ------------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
def test_a_client_may_send_itself_more_than_its_queue(clients: Keep, qos: int) -> None:
    """Its acknowledgements come after what it sends: whoever waits for them waits for itself."""
    with Running(limits=replace(LIMITS, inflight=5, queued=20, stall=0.1)) as broker:
        client = clients(broker.client("x"))
        client.subscribe("x/+", qos=1)
        client.send(b"".join(publish(f"x/{each}", b"x", each, qos=qos) for each in range(1, 101)))
        acknowledged(client, 100, PUBACK if qos == 1 else PUBREC)
        got = [client.message().topic for _ in range(100)]
        assert got == [f"x/{each}" for each in range(1, 101)]


def test_its_own_retained_messages_keep_nobody_out(clients: Keep) -> None:
    """A peer with more cells than the queue holds says them all again and lives."""
    with Running(limits=replace(LIMITS, inflight=5, queued=20, stall=0.1)) as broker:
        for _ in range(2):
            client = clients(broker.client("x"))
            client.send(
                subscribe("x/+")
                + b"".join(publish(f"x/{each}", b"x", each, retain=True) for each in range(1, 201))
            )
            client.expect(SUBACK)
            acknowledged(client, 200)
            while client.gather():
                pass
            client.close()


def test_two_that_send_each_other_much_do_not_wait_for_each_other(clients: Keep) -> None:
    """The acknowledgements for which the one waits lie behind what the other sends."""
    with Running(limits=replace(LIMITS, inflight=5, queued=20, stall=0.5)) as broker:
        left, right = clients(broker.client("left")), clients(broker.client("right"))
        left.subscribe("to/left")
        right.subscribe("to/right")
        for client, topic in ((left, "to/right"), (right, "to/left")):
            client.send(b"".join(publish(topic, b"x", each) for each in range(1, 61)))
        got = {left: 0, right: 0}
        while min(got.values()) < 60:
            for client in (left, right):
                if got[client] < 60:
                    client.message()
                    got[client] += 1
        assert not broker.broker.stats.cut


def test_what_waits_is_bounded_in_bytes(clients: Keep, tmp_path: Path) -> None:
    """For one that is away the oldest gives way, for one that does not acknowledge its link."""
    limits = replace(LIMITS, inflight=2, queued_bytes=200_000, stall=0.1)
    with Running(limits=limits, store=tmp_path / "kept.sqlite3") as broker:
        away = clients(broker.client("away", clean=False))
        away.subscribe("x")
        away.disconnect()
        stuck = clients(broker.client("stuck"))
        stuck.subscribe("x")
        door = clients(broker.client("door"))
        for number in range(20):
            door.publish("x", b"%d" % number + bytes(50_000))
        assert stuck.closed()
        away = clients(broker.client("away", clean=False))
        got = [away.message().data[:2].rstrip(b"\0") for _ in range(3)]
        assert got == [b"17", b"18", b"19"]


def test_a_large_message_does_not_cut_who_reads(clients: Keep) -> None:
    """A window of messages may be more than the write buffer: it is filled as it is read."""
    with Running(limits=replace(LIMITS, write_buffer=200_000)) as broker:
        panel, door = clients(broker.client("panel")), clients(broker.client("door"))
        for number in range(40):
            door.publish(f"x/{number}", bytes(60_000), retain=True)
        panel.send(subscribe("x/+"))
        assert len([panel.message() for _ in range(40)]) == 40
        assert not broker.broker.stats.cut


@pytest.mark.parametrize("qos", [0, 1])
def test_retained_messages_come_as_they_are_taken(clients: Keep, qos: int) -> None:
    """However many there are; the order of publishing holds, and what is newer comes later."""
    with Running(limits=replace(LIMITS, write_buffer=20_000, inflight=10)) as broker:
        door = clients(broker.client("door"))
        for number in range(300):
            door.publish(f"x/{number}", b"old", retain=True)
        panel = clients(broker.client("panel"))
        panel.send(subscribe("x/+", qos=qos))
        panel.expect(SUBACK)
        door.publish("x/299", b"new", retain=True)
        door.publish("x/150", b"", retain=True)
        got = [panel.message()]
        while (got[-1].topic, got[-1].data) != ("x/150", b""):
            got.append(panel.message())
        kept = [each.topic for each in got if each.retain]
        assert [each for each in kept if each != "x/150"] == [
            f"x/{number}" for number in range(300) if number != 150
        ]
        assert {each.topic: each.data for each in got}["x/299"] == b"new"


# --- one packet -------------------------------------------------------------------------------


def test_a_filter_counts_once_in_a_packet(clients: Keep) -> None:
    """64 KB of one filter: a code for each, the retained messages once, others unhindered."""
    with Running() as broker:
        door = clients(broker.client("door"))
        for number in range(300):
            door.publish(f"x/{number}", b"x", retain=True, qos=1)
        greedy = clients(broker.client("greedy"))
        body = b"\0\1" + (text("x/+") + b"\1") * 10_000
        other = clients(broker.client("other"))
        greedy.send(b"\x82" + remaining(len(body)) + body)
        other.send(b"\xc0\0")
        began = time.monotonic()
        other.expect(PINGRESP)
        assert time.monotonic() - began < 1.0
        assert greedy.expect(SUBACK)[2:] == b"\1" * 10_000
        got = []
        while some := greedy.gather():
            got += some
        assert len(got) == 300


def test_subscribing_again_and_again_holds_nobody_up(clients: Keep) -> None:
    """A packet each: what is still to come is not owed twice."""
    with Running() as broker:
        door = clients(broker.client("door"))
        for number in range(1000):
            door.publish(f"x/{number}", b"x", retain=True)
        greedy, other = clients(broker.client("greedy")), clients(broker.client("other"))
        greedy.send(b"".join(subscribe("x/+", packet_id=each) for each in range(1, 3001)))
        worst = 0.0
        for _ in range(20):
            began = time.monotonic()
            other.send(b"\xc0\0")
            other.expect(PINGRESP)
            worst = max(worst, time.monotonic() - began)
        assert worst < 1.0

        async def waiting() -> int:
            return len(broker.broker.core.sessions["greedy"].bursts or ())

        assert broker.call(waiting()) <= 2


def test_the_65th_filter_is_granted_and_one_too_many_told(
    clients: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    """Home Assistant subscribes 76; above 512 a line of the log says so, once."""
    with Running() as broker:
        assistant = clients(broker.client("assistant"))
        assert assistant.subscribe(*[f"ha/{each}" for each in range(512)]) == [1] * 512
        assert assistant.subscribe("one/more", "and/another") == [0x80, 0x80]
    lines = [each.getMessage() for each in caplog.records if "filters_per_client" in each.message]
    assert len(lines) == 1


# --- shares and rates of a device ---------------------------------------------------------------


def test_one_device_fills_its_share_and_no_more(clients: Keep, tmp_path: Path) -> None:
    """By as many connections as it likes; others' presence and calls are kept."""
    limits = replace(ROOMY, retained=400, retained_per_device=1000)
    with Running(plugins=registry_plugins(tmp_path), limits=limits) as broker:
        for connection in range(4):
            door = login(broker, clients, "front-door", f":{connection}")
            for number in range(100):
                door.publish(cell(connection * 100 + number), b"x", retain=True)
        assert len(broker.broker.retained_messages) == 100
        presence = "sig/v1/front-door/presence"
        door.publish(presence, b"here", retain=True)  # its own too: one for each device
        kitchen = login(broker, clients, "kitchen")
        kitchen.publish("sig/v1/kitchen/presence", b"here", retain=True)
        assert {presence, "sig/v1/kitchen/presence"} <= set(broker.broker.retained_messages)
        door.publish(cell(0), b"", retain=True)
        door.publish(cell(999), b"x", retain=True)
        assert cell(999) not in broker.broker.retained_messages  # presence counts as well
        door.publish(cell(1), b"", retain=True)
        door.publish(cell(999), b"x", retain=True)
        assert cell(999) in broker.broker.retained_messages


def test_a_share_outlives_the_broker(clients: Keep, tmp_path: Path) -> None:
    limits = replace(ROOMY, retained_per_device=10)
    for life in range(2):
        with Running(
            plugins=registry_plugins(tmp_path), limits=limits, store=tmp_path / "kept.sqlite3"
        ) as broker:
            door = login(broker, clients, "front-door")
            for number in range(20):
                door.publish(cell(100 * life + number), b"x", retain=True)
            assert len(broker.broker.retained_messages) == 10


def test_a_will_is_of_its_devices_share(clients: Keep, tmp_path: Path) -> None:
    limits = replace(ROOMY, retained_per_device=5)
    with Running(plugins=registry_plugins(tmp_path), limits=limits) as broker:
        for number in range(10):
            login(broker, clients, "front-door", will=Will(cell(number), b"x", retain=True)).close()
        deadline = time.monotonic() + 5
        while broker.broker.connection_count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(broker.broker.retained_messages) == 5
        assert broker.broker.stats.refused["will, too many retained"] == 5


def test_a_new_connection_has_no_new_burst(clients: Keep, tmp_path: Path) -> None:
    limits = replace(LIMITS, publishes_per_second=5.0, publish_burst=20)
    with Running(plugins=registry_plugins(tmp_path), limits=limits) as broker:
        for connection in range(4):
            door = login(broker, clients, "front-door", f":{connection}")
            door.send(b"".join(publish(cell(each), b"x", each) for each in range(1, 11)))
            door.send(b"\xc0\0")
        with pytest.raises(TimeoutError):
            door.expect(PINGRESP, 0.3)
        assert broker.broker.stats.messages_in < 25
        kitchen = login(broker, clients, "kitchen")
        for _ in range(10):
            kitchen.publish("sig/v1/kitchen/presence", b"x")


def test_a_large_message_counts_as_several(clients: Keep, tmp_path: Path) -> None:
    limits = replace(LIMITS, publishes_per_second=1.0, publish_burst=20)
    with Running(plugins=registry_plugins(tmp_path), limits=limits) as broker:
        door = login(broker, clients, "front-door")
        door.send(b"".join(publish(cell(each), bytes(40_000), each) for each in range(1, 9)))
        door.send(b"\xc0\0")
        with pytest.raises(TimeoutError):
            door.expect(PINGRESP, 0.5)
        assert broker.broker.stats.messages_in <= 3


def test_persistent_sessions_have_shares_too(clients: Keep, tmp_path: Path) -> None:
    """The one that was longest unused gives way; another device's first is never refused."""
    limits = replace(ROOMY, persistent_sessions=3, persistent_sessions_per_device=3)
    with Running(plugins=registry_plugins(tmp_path), limits=limits) as broker:
        for number in range(10):
            login(broker, clients, "front-door", f":{number}", clean=False).disconnect()
        login(broker, clients, "kitchen", clean=False)
        assert sorted(broker.broker.sessions) == [
            "front-door:7", "front-door:8", "front-door:9", "kitchen",
        ]  # fmt: skip


def test_connections_of_a_device_are_counted(clients: Keep, tmp_path: Path) -> None:
    """The oldest gives way to the newest: a device locks itself out no more than others."""
    limits = replace(ROOMY, connections_per_device=3)
    with Running(plugins=registry_plugins(tmp_path), limits=limits) as broker:
        tools = [login(broker, clients, "front-door", f":{number}") for number in range(5)]
        login(broker, clients, "kitchen")
        assert [tool.closed(0.5) for tool in tools] == [True, True, False, False, False]


# --- refusals ---------------------------------------------------------------------------------

REFUSED = {
    "no password": b"\x10\x1c\0\4MQTT\4\x82\0\0" + text("kitchen") + text("kitchen"),
    "wrong password": connect("kitchen", user="kitchen", password="wrong"),
    "another's client id": connect("kitchen", user="front-door", password=SECRET),
    "no user": connect("kitchen"),
}


@pytest.mark.parametrize("hello", REFUSED.values(), ids=REFUSED)
def test_every_refusal_slows_the_next_and_ends_with_its_client(
    clients: Keep, tmp_path: Path, hello: bytes
) -> None:
    with Running(plugins=registry_plugins(tmp_path)) as broker:
        login(broker, clients, "bedroom").disconnect()
        waiting = [clients(broker.raw()) for _ in range(20)]
        for client in waiting:
            client.send(hello)
        answered: set[int] = set()
        deadline = time.monotonic() + 10
        while len(answered) < 5 and time.monotonic() < deadline:
            ready, _, _ = select.select([each.socket for each in waiting], [], [], 0.5)
            answered |= {each.fileno() for each in ready}
        assert 5 <= len(answered) <= 15  # ten cost nothing
        # Whose secret is known comes in from the same address meanwhile.
        login(broker, clients, "bedroom")
        for client in waiting:
            client.close()
        deadline = time.monotonic() + 3
        while broker.broker.connection_count > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert broker.broker.connection_count == 1


def test_refusals_fill_no_log(
    clients: Keep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However long the names, and however many."""
    with Running(plugins=registry_plugins(tmp_path)) as broker:
        for number in range(30):
            client = clients(broker.raw())
            client.send(connect("x", user=f"{number}" + "x" * 60_000, password="x"))
            client.send(b"\xf0\0")
            client.close()
        deadline = time.monotonic() + 3
        while broker.broker.connection_count and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(caplog.text) < 2000


# --- QoS 2 over a kill ------------------------------------------------------------------------


def test_an_id_is_free_for_its_sender_once_that_is_kept(clients: Keep, tmp_path: Path) -> None:
    """Else a kill makes the id known again, and the next message under it unheard."""
    path = tmp_path / "kept.sqlite3"
    with Running(store=path) as broker:
        door = clients(broker.client("door", clean=False))
        store = broker.broker.store
        assert store is not None
        door.send(publish("x", b"x", 7, qos=2))
        door.expect(PUBREC)
        commits = store.commits
        door.ack(PUBREL, 7)
        door.expect(PUBCOMP)
        assert store.commits > commits


def test_an_id_is_forgotten_after_a_restart_too(clients: Keep, tmp_path: Path) -> None:
    """A message under an id that was released is a new one."""
    path = tmp_path / "kept.sqlite3"
    for life in range(3):
        with Running(store=path) as broker:
            panel = clients(broker.client("panel"))
            panel.subscribe("x")
            door = clients(broker.client("door", clean=False))
            if life:
                door.ack(PUBREL, 7)  # of the life before
                door.expect(PUBCOMP)
            if life < 2:
                door.send(publish("x", b"%d" % life, 7, qos=2))
                door.expect(PUBREC)
                assert panel.message().data == b"%d" % life
    with Running(store=path) as broker:
        door = clients(broker.client("door", clean=False))
        panel = clients(broker.client("panel"))
        panel.subscribe("x")
        door.send(publish("x", b"last", 7, qos=2))
        assert panel.message().data == b"last"


def test_a_qos_2_message_goes_out_under_an_id_that_is_kept(clients: Keep, tmp_path: Path) -> None:
    """Its receiver remembers the id: a broker that forgot it would give it to another message."""
    with Running(store=tmp_path / "kept.sqlite3") as broker:
        panel = clients(broker.client("panel", clean=False))
        panel.subscribe("x", qos=2)
        door = clients(broker.client("door"))
        store = broker.broker.store
        assert store is not None
        for number in range(1, 20):
            door.send(publish("x", b"x", number, qos=2))
            packet_id = panel.message().packet_id
            rows = store.database._connection.execute("SELECT packet_id FROM queue").fetchall()  # type: ignore[union-attr]
            assert (packet_id,) in rows
            panel.ack(PUBREC, packet_id)
            panel.expect(PUBREL)
            panel.ack(PUBCOMP, packet_id)


# --- what is seen of it ---------------------------------------------------------------------------


def test_shares_nearly_full_are_seen(clients: Keep, tmp_path: Path) -> None:
    """By name, in the figures and to who asks whether all is well."""
    limits = replace(ROOMY, retained_per_device=10)
    with Running(plugins=registry_plugins(tmp_path), limits=limits) as broker:
        door = login(broker, clients, "front-door")
        assert status(broker.broker)["nearly_full"] == []
        for number in range(10):
            door.publish(cell(number), b"x", retain=True)
        line = "10 of its 10 retained messages are held by 'front-door'"
        assert status(broker.broker)["nearly_full"] == [line]
        window = MetricsServer(broker.broker, "127.0.0.1", 0)
        try:
            with urlopen(f"http://127.0.0.1:{window.port}/healthz", timeout=5) as answer:
                assert line in answer.read().decode()
        finally:
            window.close()
