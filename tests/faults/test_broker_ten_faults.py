"""The ten faults of amqtt 0.12.1 (docs/upstream/): each red on stock amqtt, green here.

Every test takes ``broker`` and runs twice: on stock amqtt, where it must fail, and on ours.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.bench.broker_servers import process_of
from tests.bench.broker_wire import connect, subscribe
from tests.broker_support.raw import TIMEOUT, Message, Raw, Will, topics
from tests.broker_support.running import Running, Stock, registry_plugins

Any_ = Running | Stock
Lives = Callable[[], AbstractContextManager[Any_]]
ON_STOCK = pytest.param(
    "stock", marks=pytest.mark.xfail(strict=True, reason="a fault of amqtt 0.12.1", raises=(
        AssertionError, TimeoutError, ConnectionError))
)  # fmt: skip
both = pytest.mark.parametrize("broker", [ON_STOCK, "ours"], indirect=True)
both_lives = pytest.mark.parametrize("lives", [ON_STOCK, "ours"], indirect=True)
both_closed = pytest.mark.parametrize("closed", [ON_STOCK, "ours"], indirect=True)


@pytest.fixture(scope="module")
def stock_open() -> Iterator[int]:
    with process_of("amqtt") as (port, _):
        yield port


@pytest.fixture(scope="module")
def stock_closed() -> Iterator[int]:
    with process_of("amqtt closed") as (port, _):
        yield port


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[Any_]:
    """A broker that lets anybody in."""
    if request.param == "stock":
        yield Stock(request.getfixturevalue("stock_open"))
    else:
        with Running() as ours:
            yield ours


@pytest.fixture
def alone(request: pytest.FixtureRequest) -> Iterator[Any_]:
    """The same, for a test that leaves stock amqtt unwell."""
    if request.param == "stock":
        with process_of("amqtt") as (port, _):
            yield Stock(port)
    else:
        with Running() as ours:
            yield ours


@pytest.fixture
def closed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any_]:
    """A broker that is told to let in only whom it knows, within an ACL."""
    if request.param == "stock":
        yield Stock(request.getfixturevalue("stock_closed"))
    else:
        with Running(plugins=registry_plugins(tmp_path)) as ours:
            yield ours


@pytest.fixture
def named(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any_]:
    """A broker that is told not to let in anonymous clients, and no more."""
    if request.param == "stock":
        with process_of("amqtt named") as (port, _):
            yield Stock(port)
    else:
        with Running(plugins=registry_plugins(tmp_path)) as ours:
            yield ours


@pytest.fixture
def lives(request: pytest.FixtureRequest, tmp_path: Path) -> Lives:
    """Starts a broker that keeps its sessions in one file; again for its next life."""
    path = tmp_path / "kept.sqlite3"

    @contextmanager
    def stock() -> Iterator[Stock]:
        with process_of("amqtt stored", str(path)) as (port, _):
            yield Stock(port)

    return stock if request.param == "stock" else lambda: Running(store=path)


@pytest.fixture
def clients() -> Iterator[Callable[[Raw], Raw]]:
    """Closes at the end what it is given."""
    with ExitStack() as stack:
        yield stack.enter_context


Keep = Callable[[Raw], Raw]


def on(client: Raw, topic: str, timeout: float = TIMEOUT, *, ack: bool = True) -> Message:
    """The next message on ``topic``; stock amqtt hands out what other tests left, too (fault 1)."""
    while (message := client.message(timeout, ack=ack)).topic != topic:
        pass
    return message


@both
def test_fault_1_a_newcomer_gets_nothing_it_did_not_subscribe_to(
    broker: Any_, clients: Keep
) -> None:
    """[MQTT-3.3.1-6]: retained messages are sent on a matching subscription, and then only."""
    victim = clients(broker.client("f1-victim"))
    victim.subscribe("f1/victim/#")
    clients(broker.client("f1-caller")).publish("f1/victim/invite", b"secret", retain=True)
    newcomer = clients(broker.client("f1-newcomer"))
    assert topics(newcomer.gather()) == []


@both_closed
def test_fault_2_a_refused_client_touches_nothing(closed: Any_, clients: Keep) -> None:
    """[MQTT-3.1.4-2], chapter 5.4.1: CONNECT is acted on after it was authenticated."""
    kitchen = clients(
        closed.client("kitchen", user="kitchen", password="correct horse", clean=False)
    )
    kitchen.subscribe("sig/v1/kitchen/invite/+/+")
    intruder = clients(closed.raw())
    assert intruder.connect("kitchen", user="kitchen", password="wrong") == 5
    door = clients(closed.client("front-door", user="front-door", password="correct horse"))
    door.publish("sig/v1/kitchen/invite/front-door/AAAAAAAAAAAAAAAAAAAAAA", b"ring")
    assert kitchen.message(2).data == b"ring"


@both_closed
def test_fault_2_a_client_id_belongs_to_its_user(closed: Any_, clients: Keep) -> None:
    """A valid password of one's own opens nobody else's session."""
    clients(closed.client("kitchen", user="kitchen", password="correct horse"))
    intruder = clients(closed.raw())
    assert intruder.connect("kitchen", user="front-door", password="correct horse") in (2, 5)


@both
def test_fault_3_an_unacknowledged_message_is_sent_again_after_reconnect(
    broker: Any_, clients: Keep
) -> None:
    """[MQTT-4.4.0-1]: with DUP and the same packet id, to a session that is not clean."""
    panel = clients(broker.client("f3-panel", clean=False))
    panel.subscribe("f3/ring")
    clients(broker.client("f3-door")).publish("f3/ring", b"ding")
    first = on(panel, "f3/ring", ack=False)
    panel.close()
    panel = clients(broker.client("f3-panel", clean=False))
    again = on(panel, "f3/ring", 2)
    assert (again.data, again.dup, again.packet_id) == (b"ding", True, first.packet_id)


@pytest.mark.parametrize("alone", [ON_STOCK, "ours"], indirect=True)
def test_fault_4_a_storm_of_connects_breaks_no_connection(alone: Any_, clients: Keep) -> None:
    """[MQTT-3.8.4-1]: 200 clients that connect and subscribe together are all answered."""
    door = clients(alone.client("f4-door"))
    for number in range(10):
        door.publish(f"f4/kept/{number}", b"x", retain=True)
    clients(alone.client("f4-first")).subscribe("f4/kept/+")
    for storm in range(5):
        crowd = [clients(alone.raw()) for _ in range(200)]
        for number, client in enumerate(crowd):
            own = [f"f4/own/{storm}/{number}/{each}" for each in range(6)]
            client.send(connect(f"f4-{storm}-{number}") + subscribe("f4/kept/+", *own))
        for client in crowd:
            assert client.expect(0x90)[2:] == bytes([1] * 7)
            client.close()


@pytest.mark.parametrize("name", [ON_STOCK, "ours"])
def test_fault_5_the_work_for_a_message_does_not_grow_with_idle_clients(name: str) -> None:
    few, many = _count(name, "publish", 10), _count(name, "publish", 200)
    assert many <= few * 1.2, f"{few} calls with 10 idle clients, {many} with 200"


@pytest.mark.parametrize("lives", ["stock", "ours"], indirect=True)
def test_fault_6_a_text_message_outlives_the_broker(lives: Lives) -> None:
    """What the next tests are not about: the restart itself works on stock amqtt too."""
    assert _left_for_the_panel(lives, b"ding") == [b"ding"]


@both_lives
def test_fault_6_a_binary_message_outlives_the_broker(lives: Lives) -> None:
    """Section 3.3.3, [MQTT-4.1.0-1]: a payload is any bytes, and waits with its session."""
    assert _left_for_the_panel(lives, b"\xa5\xff\x00\xfe") == [b"\xa5\xff\x00\xfe"]


@both_lives
def test_fault_6_an_unsubscription_outlives_the_broker(lives: Lives) -> None:
    """[MQTT-3.10.4-2], [MQTT-4.1.0-1]: after UNSUBACK no message, in this life or the next."""
    with lives() as broker, broker.client("f6-panel", user="f6-panel", clean=False) as panel:
        panel.subscribe("f6/no-more", "f6/ring")
        panel.unsubscribe("f6/no-more")
        panel.disconnect()
    with lives() as broker, ExitStack() as stack:
        panel = stack.enter_context(broker.client("f6-panel", user="f6-panel", clean=False))
        door = stack.enter_context(broker.client("f6-door", user="f6-door"))
        for _ in range(5):  # stock amqtt's deliveries overtake each other: one alone proves little
            door.publish("f6/no-more", b"ding")
            door.publish("f6/ring", b"dong")
        assert [panel.message().topic for _ in range(5)] == ["f6/ring"] * 5
        assert panel.gather() == []


@pytest.mark.parametrize("lives", ["stock", "ours"], indirect=True)
def test_fault_6_a_retained_binary_message_outlives_the_broker(lives: Lives) -> None:
    """No fault of stock amqtt, which has a BLOB for these."""
    with lives() as broker, broker.client("f6-door", user="f6-door") as door:
        door.subscribe("f6/kept")
        door.publish("f6/kept", b"\xa5\xff\x00\xfe", retain=True)
        door.message()  # handed out, so retained as well
    with lives() as broker, broker.client("f6-late", user="f6-late") as late:
        late.subscribe("f6/kept")
        assert late.message().data == b"\xa5\xff\x00\xfe"


@pytest.mark.parametrize("named", [ON_STOCK, "ours"], indirect=True)
def test_fault_7_a_user_name_alone_opens_nothing(named: Any_, clients: Keep) -> None:
    """allow_anonymous=False of amqtt's AnonymousAuthPlugin lets any user name in."""
    assert clients(named.raw()).connect("nobody", user="nobody") in (4, 5)


@both_closed
def test_fault_7_a_filter_wider_than_the_acl_is_refused(closed: Any_, clients: Keep) -> None:
    """[MQTT-3.8.4-5]: what ends in + in the ACL does not grant what ends in #."""
    kitchen = clients(closed.client("kitchen", user="kitchen", password="correct horse"))
    assert kitchen.subscribe("sig/v1/+/#") == [0x80]


@both_closed
def test_fault_7_publishing_without_permission_reaches_nobody(closed: Any_, clients: Keep) -> None:
    """[MQTT-3.3.5-2]: an absent publish ACL must not mean that everything is allowed."""
    door = clients(closed.client("front-door", user="front-door", password="correct horse"))
    door.subscribe("sig/v1/+/presence")
    kitchen = clients(closed.client("kitchen", user="kitchen", password="correct horse"))
    kitchen.publish("sig/v1/front-door/presence", b"forged")
    assert door.gather() == []


@both
def test_fault_8_a_resumed_session_has_its_new_will(broker: Any_, clients: Keep) -> None:
    """[MQTT-3.1.2-17]: the retain flag of the will is the one of this CONNECT."""
    first = clients(
        broker.client("f8-panel", clean=False, will=Will("f8/will", b"x", retain=False))
    )
    first.disconnect()
    kept = Will("f8/will", b"y", retain=True)
    again = clients(broker.client("f8-panel", clean=False, will=kept))
    watcher = clients(broker.client("f8-watcher"))
    watcher.subscribe("f8/will")
    again.close()
    assert on(watcher, "f8/will").data == b"y"
    late = clients(broker.client("f8-late"))
    late.subscribe("f8/will")
    assert on(late, "f8/will", 1).data == b"y"


@both
def test_fault_8_a_message_keeps_its_lower_qos(broker: Any_, clients: Keep) -> None:
    """[MQTT-3.8.4-6]: delivery at the minimum of the message's and the subscription's QoS."""
    panel = clients(broker.client("f8-qos"))
    panel.subscribe("f8/qos", qos=1)
    clients(broker.client("f8-qos-door")).publish("f8/qos", b"0", qos=0)
    assert on(panel, "f8/qos").qos == 0


@both
def test_fault_9_a_silent_client_is_cut_off(broker: Any_, clients: Keep) -> None:
    """[MQTT-3.1.2-24]: nothing within 1.5 times the keep-alive; its will is published."""
    watcher = clients(broker.client("f9-watcher"))
    watcher.subscribe("f9/gone")
    clients(broker.client("f9-silent", keep_alive=1, will=Will("f9/gone", b"gone")))
    assert on(watcher, "f9/gone", 2.5).data == b"gone"


@both
def test_fault_9_a_session_without_connection_is_queued_for(broker: Any_, clients: Keep) -> None:
    """[MQTT-3.1.2-5]: QoS 1 messages of an absent persistent session reach it later, in order."""
    panel = clients(broker.client("f9-panel", clean=False))
    panel.subscribe("f9/ring")
    panel.disconnect()
    door = clients(broker.client("f9-door"))
    for number in range(3):
        door.publish("f9/ring", b"%d" % number)
    panel = clients(broker.client("f9-panel", clean=False))
    assert panel.session_present
    assert [on(panel, "f9/ring", 1).data for _ in range(3)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("name", [ON_STOCK, "ours"])
def test_fault_10_nothing_is_formatted_for_a_log_that_is_off(name: str) -> None:
    assert _count(name, "formatted", 20) == 0


def _count(name: str, what: str, clients: int) -> int:
    """Calls made by a broker for one message or one SUBSCRIBE; in a process of its own."""
    module = "tests.broker_support.counting"
    done = subprocess.run(
        [sys.executable, "-m", module, name, what, str(clients)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def _left_for_the_panel(lives: Lives, data: bytes) -> list[bytes]:
    """What a session gets after a restart, of one message that came while it was away."""
    with lives() as broker, ExitStack() as stack:
        panel = stack.enter_context(broker.client("f6-panel", user="f6-panel", clean=False))
        panel.subscribe("f6/ring")
        panel.disconnect()
        door = stack.enter_context(broker.client("f6-door", user="f6-door"))
        door.subscribe("f6/ring")
        door.publish("f6/ring", data)
        assert door.message().data == data  # handed out, so queued for the panel as well
    with (
        lives() as broker,
        broker.client("f6-panel", user="f6-panel", clean=False) as panel,
    ):
        assert panel.session_present
        return [message.data for message in panel.gather()]
