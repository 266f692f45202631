"""Real sockets against a broker with a registry: every way to be somebody else is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from amqtt.contexts import Action, BaseContext
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from broker_config.access.auth import RegistryPlugin
from broker_config.access.registry import changing, new_secret
from tests.broker_support.raw import PUBCOMP, PUBREC, PUBREL, Raw, Will
from tests.broker_support.running import ANYONE, HASHED, SECRET, Running, registry_plugins

Keep = Callable[[Raw], Raw]
CALL = "AAAAAAAAAAAAAAAAAAAAAA"
INBOX = "sig/v1/kitchen/invite/+/+"
RING = f"sig/v1/kitchen/invite/front-door/{CALL}"


@pytest.fixture
def clients() -> Iterator[Keep]:
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Running]:
    with Running(plugins=registry_plugins(tmp_path)) as running:
        yield running


@pytest.fixture
def kitchen(broker: Running, clients: Keep) -> Raw:
    """The victim: logged in, with its inbox and a will."""
    client = clients(
        broker.client(
            "kitchen", user="kitchen", password=SECRET,
            will=Will("sig/v1/kitchen/presence", b"offline", retain=True),
        )
    )  # fmt: skip
    assert client.subscribe(INBOX) == [1]
    return client


def login(broker: Running, clients: Keep, name: str, **options: Any) -> Raw:
    return clients(broker.client(name, user=name, password=SECRET, **options))


def undisturbed(broker: Running, clients: Keep, kitchen: Raw) -> None:
    """The kitchen is still rung by the front door, and has got nothing else."""
    door = login(broker, clients, "front-door")
    door.publish(RING, b"ring")
    assert [message.data for message in kitchen.gather()] == [b"ring"]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publishing_as_another_is_acknowledged_and_dropped(
    broker: Running, clients: Keep, kitchen: Raw, qos: int
) -> None:
    """[MQTT-3.3.5-2]: closing would end the sender's link again at each of its reconnects."""
    door = login(broker, clients, "front-door")
    door.subscribe("sig/v1/front-door/#")
    packet_id = door.publish(f"sig/v1/kitchen/invite/bedroom/{CALL}", b"forged", qos=qos)
    if qos == 2:
        assert door.expect(PUBREC) == packet_id.to_bytes(2, "big")
        door.ack(PUBREL, packet_id)
        assert door.expect(PUBCOMP) == packet_id.to_bytes(2, "big")
    door.publish(RING, b"ring")
    assert [message.data for message in kitchen.gather()] == [b"ring"]
    assert broker.broker.stats.denied["publish"] == 1


def test_what_is_dropped_is_said_once_a_minute_for_each_pair(
    broker: Running, clients: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    """With the command that would allow it; however many calls, and whoever else does it."""
    neighbour, bedroom = login(broker, clients, "neighbour"), login(broker, clients, "bedroom")
    for number in range(3):
        call = f"{number}{CALL[1:]}"
        neighbour.publish(f"sig/v1/kitchen/invite/neighbour/{call}", b"ring", retain=True)
        neighbour.publish(f"sig/v1/bedroom/invite/neighbour/{call}", b"ring", retain=True)
        bedroom.publish(f"sig/v1/kitchen/invite/bedroom/{call}", b"ring", retain=True)
    lines = [each.getMessage() for each in caplog.records if "dropped" in each.getMessage()]
    assert len(lines) == 3
    assert "neighbour may not call kitchen" in lines[0]
    assert "device set neighbour --may-call" in lines[0]
    assert broker.broker.stats.denied["publish"] == 9
    assert not broker.broker.retained_messages


def test_forged_presence_is_dropped(broker: Running, clients: Keep, kitchen: Raw) -> None:
    kitchen.publish("sig/v1/kitchen/presence", b"online", retain=True)
    door = login(broker, clients, "front-door")
    door.publish("sig/v1/kitchen/presence", b"offline", retain=True)
    door.publish("sig/v1/kitchen/presence", b"", retain=True)
    assert broker.broker.retained_messages["sig/v1/kitchen/presence"].data == b"online"
    undisturbed(broker, clients, kitchen)


def test_a_will_in_anothers_name_is_never_published(
    broker: Running, clients: Keep, kitchen: Raw
) -> None:
    """And its client is let in, as with what it may not publish."""
    will = Will("sig/v1/kitchen/presence", b"offline", retain=True)
    login(broker, clients, "front-door", will=will).close()
    watcher = login(broker, clients, "watcher")
    watcher.subscribe("sig/v1/+/presence")
    undisturbed(broker, clients, kitchen)
    assert watcher.gather() == []
    assert broker.broker.stats.denied["will"] == 1
    assert not broker.broker.retained_messages


def test_calling_whom_one_may_not_reaches_nobody(
    broker: Running, clients: Keep, kitchen: Raw
) -> None:
    neighbour = login(broker, clients, "neighbour")
    neighbour.publish(f"sig/v1/kitchen/invite/neighbour/{CALL}", b"ring")
    undisturbed(broker, clients, kitchen)


def test_a_group_may_be_called(broker: Running, clients: Keep) -> None:
    bedroom = login(broker, clients, "bedroom")
    bedroom.subscribe("sig/v1/bedroom/invite/+/+")
    door = login(broker, clients, "front-door")
    door.publish(f"sig/v1/bedroom/invite/front-door/{CALL}", b"ring")
    assert bedroom.message().data == b"ring"


@pytest.mark.parametrize("wanted", [INBOX, "sig/v1/kitchen/#", "sig/v1/#", "#", "sig/v1/+/+/+/+"])
def test_anothers_inbox_cannot_be_subscribed(
    broker: Running, clients: Keep, kitchen: Raw, wanted: str
) -> None:
    neighbour = login(broker, clients, "neighbour")
    assert neighbour.subscribe(wanted) == [0x80]
    undisturbed(broker, clients, kitchen)
    assert neighbour.gather() == []


@pytest.mark.parametrize(
    ("user", "password", "code"),
    [
        (None, None, 5),
        ("kitchen", None, 5),
        ("kitchen", "wrong", 5),
        ("kitchen", "", 5),
        ("front-door", "wrong", 5),
        ("front-door", SECRET, 2),
        ("nobody", SECRET, 5),
        ("kitchen.1", SECRET, 5),
    ],
)
def test_anothers_client_id_is_not_to_be_had(
    broker: Running, clients: Keep, kitchen: Raw, user: str | None, password: str | None, code: int
) -> None:
    """With no password, a wrong one, or a valid one of one's own."""
    client = clients(broker.raw())
    assert client.connect("kitchen", user=user, password=password) == code
    undisturbed(broker, clients, kitchen)


def test_a_refused_client_wipes_no_persistent_session(broker: Running, clients: Keep) -> None:
    kitchen = login(broker, clients, "kitchen", clean=False)
    kitchen.subscribe(INBOX)
    kitchen.disconnect()
    assert clients(broker.raw()).connect("kitchen", user="kitchen", password="wrong") == 5
    assert clients(broker.raw()).connect("kitchen", user="front-door", password=SECRET) == 2
    login(broker, clients, "front-door").publish(RING, b"ring")
    kitchen = login(broker, clients, "kitchen", clean=False)
    assert kitchen.session_present
    assert kitchen.message().data == b"ring"


def test_a_tool_of_the_device_does_not_take_it_over(
    broker: Running, clients: Keep, kitchen: Raw
) -> None:
    clients(broker.client("kitchen:watch", user="kitchen", password=SECRET))
    undisturbed(broker, clients, kitchen)


def test_each_login_may_have_a_client_id_of_its_own(
    broker: Running, clients: Keep, kitchen: Raw
) -> None:
    """``kitchen:x`` is kitchen's alone: nobody else takes it, and it takes over nobody."""
    clients(broker.client("kitchen:a8Fq-_0", user="kitchen", password=SECRET))
    for wanted in ("kitchen:a8Fq-_0", "kitchen:b", "kitchen:"):
        other = clients(broker.raw())
        assert other.connect(wanted, user="front-door", password=SECRET) == 2
    clients(broker.client("kitchen:b", user="kitchen", password=SECRET))
    undisturbed(broker, clients, kitchen)
    assert broker.broker.stats.takeovers == 0


def test_an_escaped_name_is_its_own_device(broker: Running, clients: Keep) -> None:
    client = clients(broker.client("kitchen%2E1", user="kitchen%2E1", password=SECRET))
    assert client.subscribe("sig/v1/kitchen%2E1/invite/+/+", INBOX) == [1, 0x80]


def test_one_that_watches_reads_all_and_writes_nothing_else(broker: Running, clients: Keep) -> None:
    watcher = login(broker, clients, "watcher")
    assert watcher.subscribe("sig/v1/#", "#") == [1, 0x80]
    login(broker, clients, "front-door").publish(RING, b"ring")
    assert watcher.message().data == b"ring"
    watcher.publish(RING, b"forged")
    assert watcher.gather() == []


def _reload(broker: Running) -> None:
    async def reload() -> None:
        for plugin in broker.broker.plugins_manager.plugins:
            assert isinstance(plugin, RegistryPlugin)
            plugin.reload()
        await broker.broker.recheck()

    broker.call(reload())


def test_a_removed_device_is_cut_at_once(
    broker: Running, clients: Keep, kitchen: Raw, tmp_path: Path
) -> None:
    """And only it; its will is published, its presence cleared; it does not come back."""
    door = login(broker, clients, "front-door")
    door.subscribe("sig/v1/+/presence")
    with changing(tmp_path / "devices.json") as devices:
        del devices["kitchen"]
    _reload(broker)
    assert kitchen.closed()
    assert [door.message().data for _ in range(2)] == [b"offline", b""]
    assert clients(broker.raw()).connect("kitchen", user="kitchen", password=SECRET) == 5
    assert door.gather() == []


def test_one_that_is_removed_while_it_is_let_in_stays_out(
    broker: Running, clients: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its secret was right when it was asked."""
    waits = threading.Event()

    async def slow(who: Session) -> bool:
        known = await authenticate(who)
        waits.set()
        await asyncio.sleep(0.3)
        return known

    authenticate = broker.broker.rules.authenticate
    monkeypatch.setattr(broker.broker.rules, "authenticate", slow)
    with ThreadPoolExecutor(1) as pool:
        late = clients(broker.raw())
        code = pool.submit(late.connect, "kitchen", user="kitchen", password=SECRET)
        assert waits.wait(10)
        with changing(tmp_path / "devices.json") as devices:
            del devices["kitchen"]
        _reload(broker)
        assert code.result(10) == 5
    assert late.closed()


def test_a_new_secret_cuts_who_has_the_old_one(
    broker: Running, clients: Keep, kitchen: Raw, tmp_path: Path
) -> None:
    """The verified secret is remembered, but not beyond its hash."""
    from dataclasses import replace

    from broker_config.access.registry import HASHER

    secret = new_secret()
    with changing(tmp_path / "devices.json") as devices:
        devices["kitchen"] = replace(devices["kitchen"], secret=HASHER.hash(secret))
    _reload(broker)
    assert kitchen.closed()
    assert clients(broker.raw()).connect("kitchen", user="kitchen", password=SECRET) == 5
    clients(broker.client("kitchen", user="kitchen", password=secret))


def test_narrower_rules_hold_for_those_connected(
    broker: Running, clients: Keep, tmp_path: Path
) -> None:
    from dataclasses import replace

    watcher = login(broker, clients, "watcher")
    watcher.subscribe("sig/v1/#")
    door = login(broker, clients, "front-door")
    with changing(tmp_path / "devices.json") as devices:
        devices["watcher"] = replace(devices["watcher"], watches=False)
        devices["front-door"] = replace(devices["front-door"], may_call=())
    _reload(broker)
    kitchen = login(broker, clients, "kitchen")
    kitchen.publish("sig/v1/kitchen/presence", b"online")
    assert watcher.gather() == []
    kitchen.subscribe(INBOX)
    door.publish(RING, b"ring")
    assert kitchen.gather() == []


class RaisingPlugin(BaseAuthPlugin, BaseTopicPlugin):
    """A plugin with a fault, in either of its questions."""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self.raises = "topic"

    async def authenticate(self, *, session: Session) -> bool:
        if session.username == "raise":
            raise RuntimeError("a fault in a plugin")
        return True

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,
        topic: str | None = None,
        action: Action | None = None,
    ) -> bool:
        if topic is not None and "raise" in topic:
            raise RuntimeError("a fault in a plugin")
        return True


def test_a_plugin_that_raises_denies(clients: Keep, caplog: pytest.LogCaptureFixture) -> None:
    """Loudly: at error level, with the plugin's name."""
    name = f"{__name__}.RaisingPlugin"
    with Running(plugins={**ANYONE, name: {}}) as broker:
        assert clients(broker.raw()).connect("x", user="raise", password="x") == 5
        client = clients(broker.client("y"))
        assert client.subscribe("raise/x", "fine/x") == [0x80, 1]
        client.publish("raise/x", b"x")
        assert client.gather() == []
    loud = [record for record in caplog.records if "RaisingPlugin failed" in record.getMessage()]
    assert len(loud) == 3
    assert all(record.levelname == "ERROR" and record.exc_info for record in loud)


def test_without_a_plugin_that_allows_nothing_is_allowed(clients: Keep) -> None:
    """Deny by default: an authentication plugin alone opens no topic, none opens no door."""
    only_auth = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    with Running(plugins=only_auth) as broker:
        client = clients(broker.client("x"))
        assert client.subscribe("a") == [0x80]
        client.publish("a", b"x", retain=True)
        assert not broker.broker.retained_messages
    with Running(plugins={"amqtt.plugins.logging_amqtt.EventLoggerPlugin": {}}) as broker:
        assert clients(broker.raw()).connect("x") == 5


@pytest.mark.usefixtures("kitchen")
def test_no_secret_is_logged_or_kept(
    broker: Running, clients: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    clients(broker.raw()).connect("kitchen", user="kitchen", password="a wrong secret")
    assert SECRET not in caplog.text
    assert "a wrong secret" not in caplog.text
    assert HASHED not in caplog.text
    assert broker.broker.sessions["kitchen"][0].password is None
