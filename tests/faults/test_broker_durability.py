"""What was acknowledged is there again after any end of the broker."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from broker_config.core import sessions as core
from broker_config.store.sqlite import SCHEMA_VERSION, Database, StoreError
from tests.bench.broker_wire import publish
from tests.broker_support.killing import kill_again_and_again
from tests.broker_support.raw import PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL, Raw, Will, topics
from tests.broker_support.running import Running

Keep = Callable[[Raw], Raw]


@pytest.fixture
def clients() -> Iterator[Keep]:
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept.sqlite3"


def test_five_kills_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """The short form of ``make broker-soak``, which kills 200 times."""
    tally = kill_again_and_again(5, tmp_path)
    assert tally.kills == 5
    assert tally.acknowledged > 500
    assert tally.queued_checked > 100
    assert tally.lost == []


def test_retained_messages_return_in_their_order(path: Path, clients: Keep) -> None:
    with Running(store=path) as broker:
        door = clients(broker.client("door"))
        for name in ("c", "a", "b", "gone", "a"):
            door.publish(f"r/{name}", name.encode(), retain=True, qos=1)
        door.publish("r/gone", b"", retain=True)
    with Running(store=path) as broker:
        panel = clients(broker.client("panel"))
        panel.subscribe("r/+")
        found = panel.gather()
        assert topics(found) == ["r/c", "r/b", "r/a"]
        assert all(message.retain and message.qos == 1 for message in found)


def test_a_session_returns_with_all_that_belongs_to_it(path: Path, clients: Keep) -> None:
    """[MQTT-4.1.0-1] [MQTT-4.4.0-1]: in flight with DUP and its id, then queued, QoS 2 each way."""
    with Running(store=path) as broker:
        panel = clients(broker.client("panel", clean=False))
        panel.subscribe("s/1", qos=1)
        panel.subscribe("s/2", qos=2)
        panel.send(publish("s/up", b"up", 50, qos=2))
        panel.expect(PUBREC)
        door = clients(broker.client("door"))
        door.publish("s/1", b"in flight")
        door.send(publish("s/2", b"released", 60, qos=2))
        in_flight = panel.message(ack=False)
        released = panel.message(ack=False)
        panel.ack(PUBREC, released.packet_id)
        panel.expect(PUBREL)
        panel.close()
        door.publish("s/1", b"queued")
    with Running(store=path) as broker:
        watcher = clients(broker.client("watcher"))
        watcher.subscribe("s/up", qos=1)
        panel = clients(broker.client("panel", clean=False))
        assert panel.session_present
        assert int.from_bytes(panel.expect(PUBREL), "big") == released.packet_id
        again, queued = panel.message(), panel.message()
        assert (again.data, again.dup, again.packet_id) == (b"in flight", True, in_flight.packet_id)
        assert (queued.data, queued.dup) == (b"queued", False)
        duplicate = bytearray(publish("s/up", b"up", 50, qos=2))
        duplicate[0] |= 8
        panel.send(bytes(duplicate))
        panel.expect(PUBREC)
        panel.ack(PUBREL, 50)
        panel.expect(PUBCOMP)
        assert watcher.gather() == []  # it was delivered in its previous login
        panel.ack(PUBCOMP, released.packet_id)
        assert panel.gather() == []
    with Running(store=path) as broker:
        assert clients(broker.client("panel", clean=False)).gather() == []


def test_nothing_is_acknowledged_before_it_is_committed(path: Path, clients: Keep) -> None:
    with Running(store=path) as broker, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")  # as another writer would: the commit has to wait
        door = clients(broker.client("door"))
        door.publish("x", b"x", retain=True, wait=False)
        door.send(b"\xc0\0")
        first = door.read()
        assert first is not None
        assert first[0] == PINGRESP
        other.rollback()
        door.expect(PUBACK)


def test_commits_are_shared(path: Path, clients: Keep) -> None:
    """One commit for many messages: what comes during a commit goes into the next."""
    with Running(store=path) as broker:
        door = clients(broker.client("door"))
        door.send(b"".join(publish(f"x/{n}", b"x", n, retain=True) for n in range(1, 301)))
        for number in range(1, 301):
            assert int.from_bytes(door.expect(PUBACK), "big") == number
        assert broker.broker.store is not None
        assert broker.broker.store.commits < 100


@pytest.mark.parametrize("kind", ["garbage", "damaged", "newer", "foreign"])
def test_an_unusable_database_is_set_aside_and_named(
    path: Path, clients: Keep, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif kind == "foreign":
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE recipes (soup TEXT)")
    else:
        with Running(store=path) as broker:
            door = clients(broker.client("door"))
            for number in range(200):
                door.publish(f"x/{number}", bytes(500), retain=True)
        if kind == "newer":
            with closing(sqlite3.connect(path)) as other:
                other.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
        else:
            content = bytearray(path.read_bytes())
            content[5000:15000] = bytes(10000)
            path.write_bytes(content)
    before = path.read_bytes()
    with Running(store=path) as broker:
        clients(broker.client("door")).publish("y", b"y", retain=True)
    (aside,) = path.parent.glob("kept.sqlite3.unusable-*")
    assert aside.read_bytes() == before
    assert str(aside) in caplog.text
    with Running(store=path) as broker:
        assert list(broker.broker.retained_messages) == ["y"]


def test_a_database_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        Database(tmp_path / "nowhere" / "kept.sqlite3").open()


def test_a_full_disk_refuses_publishes_and_nothing_else(path: Path, clients: Keep) -> None:
    """What need not be kept goes on; with room again, so does the rest."""
    with Running(store=path) as broker:
        panel = clients(broker.client("panel"))
        panel.subscribe("live/#")
        store = broker.broker.store
        assert store is not None

        async def pages(count: int) -> None:
            connection = store.database._connection
            assert connection is not None
            connection.execute(f"PRAGMA max_page_count={count}")

        broker.call(pages(1))  # no more than there are
        door = clients(broker.client("door"))
        with suppress(ConnectionError):
            for number in range(200):
                door.publish(f"x/{number}", bytes(4000), retain=True, wait=False)
        assert door.closed()
        assert store.refusing
        assert panel.gather() == []  # it lives
        refused = clients(broker.client("door"))
        refused.publish("y", b"y", retain=True, wait=False)
        assert refused.closed()
        modest = clients(broker.client("modest"))
        modest.publish("live/x", b"x")  # nobody is to keep it
        assert panel.message().data == b"x"
        cleared = next(iter(broker.broker.retained_messages))
        modest.publish(cleared, b"", retain=True, wait=False)
        assert modest.gather() == []  # it lives
        assert cleared not in broker.broker.retained_messages
        broker.call(pages(1_000_000))
        modest.expect(PUBACK)

        async def recovered() -> None:
            while store.refusing:
                await asyncio.sleep(0.01)

        broker.call(recovered())
        clients(broker.client("door")).publish("y", b"y", retain=True)
    with Running(store=path) as broker:
        assert broker.broker.retained_messages["y"].data == b"y"


def clear_old_cells(broker: Running) -> int:
    """What the broker does once a minute; gives how many were cleared."""

    async def clear() -> int:
        router = broker.broker.core
        before = router.stats.janitor_cleared
        router.tick(broker.broker.clock())
        cleared = router.stats.janitor_cleared - before or router.clear_old_cells()
        broker.broker._turn()
        return cleared

    return broker.call(clear())


def let_pass(broker: Running, seconds: float) -> None:
    """Time passes for the broker's loop; what is due by then has happened."""
    before = broker.loop.time
    broker.loop.time = lambda: before() + seconds  # type: ignore[method-assign]  # the point
    broker.broker.clock = broker.loop.time
    for _ in range(10):
        broker.call(asyncio.sleep(0))


def test_who_returns_under_another_client_id_is_back(path: Path, clients: Keep) -> None:
    """A client id for each login: the old login's will says nothing of the new one."""
    will = Will("p/door", b"offline", retain=True)
    with Running(store=path) as broker:
        clients(broker.client("door:a", will=will))
        clients(broker.client("window:a", will=Will("p/window", b"offline", retain=True)))
    with Running(store=path, will_grace=30) as broker:
        door = clients(broker.client("door:b", will=will))
        door.publish("p/door", b"online", retain=True)
        panel = clients(broker.client("panel"))
        panel.subscribe("p/#")
        let_pass(broker, 30)
        while panel.message().topic != "p/window":
            pass
        assert broker.broker.retained_messages["p/door"].data == b"online"


@pytest.mark.parametrize("returns", [True, False])
def test_a_will_outlives_the_broker(path: Path, clients: Keep, returns: bool) -> None:
    """Who was connected before the restart and does not come back is gone [MQTT-3.1.2-8]."""
    will = Will("p/door", b"offline", retain=True)
    with Running(store=path) as broker:
        door = clients(broker.client("door", will=will))
        door.publish("p/door", b"online", retain=True)
    with Running(store=path, will_grace=30) as broker:
        panel = clients(broker.client("panel"))
        panel.subscribe("p/door")
        assert panel.message().data == b"online"
        if returns:
            clients(broker.client("door", will=will))
        let_pass(broker, 30)
        if returns:
            marker = clients(broker.client("marker"))
            marker.publish("p/door", b"marker")
            assert panel.message().data == b"marker"
        else:
            assert panel.message().data == b"offline"
            assert broker.broker.retained_messages["p/door"].data == b"offline"


def test_the_janitor_clears_old_call_cells_alone(path: Path, clients: Keep) -> None:
    """By the broker's own clock; subscribers are told; presences stay."""
    now = [time.monotonic()]
    cell = f"sig/v1/kitchen/invite/door/{'A' * 22}"
    with Running(store=path, clock=lambda: now[0]) as broker:
        # Without a keep-alive: a day of silence would be the end of them.
        door = clients(broker.client("door", keep_alive=0))
        door.publish(cell, b"ended", retain=True)
        door.publish("sig/v1/door/presence", b"online", retain=True)
        panel = clients(broker.client("panel", keep_alive=0))
        panel.subscribe("sig/v1/kitchen/#")
        assert panel.message().data == b"ended"
        now[0] += broker.broker.core.cell_keep - 1
        assert clear_old_cells(broker) == 0
        now[0] += 2
        assert clear_old_cells(broker) == 1
        assert (panel.message().data, panel.gather()) == (b"", [])
        assert broker.broker.stats.keepalive_timeouts == 0
    with Running(store=path) as broker:
        assert list(broker.broker.retained_messages) == ["sig/v1/door/presence"]


@pytest.mark.parametrize(("at", "cleared"), [(1000.0, 0), (None, 1)])
def test_a_cell_written_before_the_clock_was_set_counts_as_new(
    path: Path, clients: Keep, at: float | None, cleared: int
) -> None:
    """A Raspberry Pi starts in 1970 until NTP answers: nothing may be 50 years old then."""
    with Running(store=path) as broker:
        topic = f"sig/v1/kitchen/invite/door/{'A' * 22}"
        clients(broker.client("door")).publish(topic, b"ended", retain=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE retained SET at=?", (at or time.time() - 90_000,))
    with Running(store=path) as broker:
        assert clear_old_cells(broker) in (cleared, 0)
        assert broker.broker.stats.janitor_cleared == cleared


def sessions_in_a_minute(broker: Running) -> int:
    """How many sessions there are when the broker has looked for unused ones."""

    async def look() -> int:
        broker.broker.core.tick(broker.broker.clock() + 61)
        broker.broker._turn()
        return len(broker.broker.core.sessions)

    return broker.call(look())


def test_an_unused_session_is_forgotten(path: Path, clients: Keep) -> None:
    with Running(store=path) as broker:
        clients(broker.client("panel", clean=False)).disconnect()

        core = broker.broker.core
        core.sessions["panel"].gone -= core.limits.session_expiry + 1
        assert sessions_in_a_minute(broker) == 0
    with Running(store=path) as broker:
        assert not clients(broker.client("panel", clean=False)).session_present


@pytest.mark.parametrize(("gone", "left"), [(8 * 86400, 0), (6 * 86400, 1), (-8 * 86400, 1)])
def test_the_age_of_a_session_goes_on_over_a_restart(
    path: Path, clients: Keep, gone: int, left: int
) -> None:
    """And a wall clock that is stepped while the broker runs makes none old."""
    with Running(store=path) as broker:
        clients(broker.client("panel", clean=False)).disconnect()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE session SET gone=?", (time.time() - gone,))
    with Running(store=path) as broker:
        assert sessions_in_a_minute(broker) == left


def test_the_grace_is_longer_than_a_reconnect() -> None:
    """The SDK reconnects within 5 s: a will before that would tell a lie."""
    assert core.WILL_GRACE > 5
