"""amqtt's plugins, unchanged: what they are asked, told and shown by our core."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from amqtt.contexts import BaseContext
from amqtt.plugins.base import BasePlugin

from broker_config import cli
from broker_config.admin.serve import directory_config
from broker_config.admin.settings import load
from device_sdk.services.config.toml_reader import SettingsError
from tests.broker_support.raw import Raw, Will
from tests.broker_support.running import ANYONE, Running

Keep = Callable[[Raw], Raw]
TABOO = "amqtt.plugins.topic_checking.TopicTabooPlugin"
RULES = "amqtt.plugins.topic_checking.TopicAccessControlListPlugin"
PACKETS = "amqtt.plugins.logging_amqtt.PacketLoggerPlugin"


@pytest.fixture
def clients() -> Iterator[Keep]:
    with ExitStack() as stack:
        yield stack.enter_context


def test_receivers_are_asked_at_each_delivery(clients: Keep) -> None:
    """Amqtt's own plugin: a filter holds topics that its subscriber may not receive."""
    with Running(plugins={**ANYONE, TABOO: {}}) as broker:
        admin = clients(broker.client("admin", user="admin", will=Will("top-secret", b"gone")))
        watcher = clients(broker.client("watcher", user="watcher"))
        other = clients(broker.client("other", user="admin"))
        for client in (watcher, other):
            assert client.subscribe("#") == [1]
        admin.publish("top-secret", b"plan", retain=True)
        admin.publish("news", b"fine", retain=True)
        assert [message.data for message in other.gather()] == [b"plan", b"fine"]
        assert [message.data for message in watcher.gather()] == [b"fine"]
        # Nor what is retained, nor what a will says.
        late = clients(broker.client("late", user="late"))
        late.subscribe("+")
        assert [message.data for message in late.gather()] == [b"fine"]
        admin.close()
        assert other.message().data == b"gone"
        assert watcher.gather() == []
        # What it may not publish is acknowledged and dropped.
        watcher.publish("top-secret", b"forged", retain=True)
        assert broker.broker.retained_messages["top-secret"].data == b"plan"
        assert broker.broker.stats.denied["receive"] >= 3


def test_every_plugin_with_an_opinion_must_agree(clients: Keep) -> None:
    rules = {"publish_acl": {"door": ["ring/+"]}, "acl": {"kitchen": ["ring/+"]}}
    with pytest.warns(DeprecationWarning, match="'acl' option"):
        running = Running(plugins={**ANYONE, TABOO: {}, RULES: rules}).__enter__()
    try:
        kitchen = clients(running.client("kitchen", user="kitchen"))
        assert kitchen.subscribe("ring/+", "#") == [1, 0x80]
        door = clients(running.client("door", user="door"))
        door.publish("ring/1", b"ding")
        door.publish("other", b"x", retain=True)
        assert [message.data for message in kitchen.gather()] == [b"ding"]
        assert not running.broker.retained_messages
    finally:
        running.__exit__(None, None, None)


class Listening(BasePlugin[Any]):
    """Hears everything, and looks around."""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self.heard: list[tuple[Any, ...]] = []

    async def on_broker_post_start(self) -> None:
        await self.context.retain_message("$SYS/broker/version", b"1")

    async def on_broker_client_connected(self, *, client_id: str, client_session: Any) -> None:
        self.heard.append(("connected", client_id, client_session.transitions.state))

    async def on_broker_client_disconnected(self, *, client_id: str, client_session: Any) -> None:
        self.heard.append(("disconnected", client_id, client_session.transitions.state))

    async def on_broker_client_subscribed(self, *, client_id: str, topic: str, qos: int) -> None:
        self.heard.append(("subscribed", client_id, topic, qos))

    async def on_broker_client_unsubscribed(self, *, client_id: str, topic: str) -> None:
        self.heard.append(("unsubscribed", client_id, topic))

    async def on_broker_message_received(self, *, client_id: str, message: Any) -> None:
        self.heard.append(("received", client_id, message.topic, bytes(message.data), message.qos))

    async def on_broker_retained_message(self, *, client_id: None, retained_message: Any) -> None:
        self.heard.append(("retained", retained_message.topic, bytes(retained_message.data)))


def test_plugins_are_told_and_shown_what_happens(clients: Keep) -> None:
    with Running(plugins={**ANYONE, f"{__name__}.Listening": {}}) as broker:
        panel = clients(broker.client("panel", clean=False))
        panel.subscribe("a/+", "$SYS/#")
        assert panel.message().data == b"1"
        panel.publish("a/b", b"x", retain=True)
        panel.message()
        (plugin,) = [
            each for each in broker.broker.plugins_manager.plugins if isinstance(each, Listening)
        ]
        context = plugin.context

        async def look() -> None:
            assert [session.client_id for session in context.sessions] == ["panel"]
            assert context.get_session("panel").username is None
            assert set(context.retained_messages) == {"a/b", "$SYS/broker/version"}
            ((session, qos),) = context.subscriptions["a/+"]
            assert (session.client_id, qos) == ("panel", 1)
            await context.broadcast_message("a/c", b"from a plugin", 1)
            await context.add_subscription("panel", "c/+", 1)

        broker.call(look())
        assert panel.message().data == b"from a plugin"
        panel.publish("c/d", b"y")
        assert panel.message().data == b"y"
        panel.unsubscribe("a/+")
        panel.disconnect()

        async def heard() -> list[tuple[Any, ...]]:
            while plugin.heard[-1][0] != "disconnected":
                await asyncio.sleep(0)
            return plugin.heard

        assert broker.call(heard()) == [
            ("retained", "$SYS/broker/version", b"1"),
            ("connected", "panel", "connected"),
            ("subscribed", "panel", "a/+", 1),
            ("subscribed", "panel", "$SYS/#", 1),
            ("received", "panel", "a/b", b"x", 1),
            ("retained", "a/b", b"x"),
            ("received", "panel", "c/d", b"y", 1),
            ("unsubscribed", "panel", "a/+"),
            ("disconnected", "panel", "disconnected"),
        ]


def test_packets_are_shown_as_amqtts(clients: Keep, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "amqtt")
    with Running(plugins={**ANYONE, PACKETS: {}}) as broker:
        panel = clients(broker.client("panel"))
        panel.subscribe("a/+")
        panel.publish("a/b", bytes(300))
        panel.message()
        panel.disconnect()
    shown = [record.getMessage() for record in caplog.records if "PacketLogger" in record.name]
    for kind in ("ConnackPacket", "SubscribePacket", "SubackPacket", "PublishPacket"):
        assert any(kind in line for line in shown), kind
    assert any(line.startswith("panel -out-> ") for line in shown)


def test_a_plugin_is_named_in_the_settings(tmp_path: Path) -> None:
    assert cli.main(["init", str(tmp_path / "broker")]) == 0
    settings = tmp_path / "broker" / "broker.toml"
    text = settings.read_text()
    settings.write_text(f'{text}\n[plugins."{TABOO}"]\n')
    config = directory_config(load(settings.parent))
    assert list(config.plugins) == ["broker_config.access.auth.RegistryPlugin", TABOO]
    for wrong in ("plugins = 3\n", "[plugins]\nTaboo = 1\n"):
        settings.write_text(wrong + text if wrong.startswith("plugins") else text + wrong)
        with pytest.raises(SettingsError, match="plugins"):
            load(settings.parent)


@pytest.mark.usefixtures("broker_here")
def test_a_plugin_that_is_not_there_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", str(tmp_path / "broker")]) == 0
    settings = tmp_path / "broker" / "broker.toml"
    settings.write_text(f'{settings.read_text()}\n[plugins."nobody.has.It"]\n')
    assert cli.main(["run", str(settings.parent)]) == 2
    assert "nobody.has.It" in capsys.readouterr().err
