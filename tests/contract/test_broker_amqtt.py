"""Every private thing of amqtt that broker_config relies on, by name.

When one of these fails after an upgrade of amqtt, read its new source before anything is mended:
the broker may still start, and be wrong.
"""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version

import pytest
from amqtt import broker, contexts, events, session
from amqtt.mqtt import packet, packet_class
from amqtt.plugins import base, manager
from packaging.version import Version

from broker_config.net.plugins import PluginSession
from broker_config.net.server import SignalingBroker

#: What is put in place of amqtt's, with amqtt's parameters: its life, and what plugins reach.
REPLACED = (
    "start", "shutdown", "_create_ssl_context", "_create_server_instance",
    "retain_message", "_broadcast_message", "add_subscription",
)  # fmt: skip
#: Of amqtt's, called by ours or by what ours calls.
USED = {
    "__init__", "_init_states", "_log_state_change", "_start_listeners", "_split_bindaddr_port",
    "internal_message_broadcast", "states",
}  # fmt: skip
#: Properties that show our own to plugins.
SHOWN = {"sessions", "retained_messages", "subscriptions"}
#: The rest is amqtt's own core, of which nothing runs.
IDLE = {
    "_authenticate", "_broadcast_loop", "_cleanup_session", "_client_connected",
    "_client_message_loop", "_del_all_subscriptions", "_del_subscription", "_delete_session",
    "_get_handler", "_handle_client_session", "_handle_disconnect", "_handle_message_delivery",
    "_handle_subscription", "_handle_unsubscription", "_init_handler",
    "_initialize_client_session", "_matches", "_publish_retained_messages_for_subscription",
    "_publish_session_retained_messages", "_retain_broadcast_message", "_run_broadcast",
    "_session_monitor", "_shutdown_broadcast_loop", "_stop_handler", "_topic_filtering",
    "create_offline_session", "external_connected", "stream_connected", "ws_connected",
}  # fmt: skip


def test_the_version_is_the_one_that_was_read() -> None:
    assert Version("0.12.1") <= Version(version("amqtt")) < Version("0.13")


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_replaced_is_there_with_the_same_parameters(name: str) -> None:
    mine, original = getattr(SignalingBroker, name), getattr(broker.Broker, name)
    assert mine is not original, f"{name} is not replaced any more: take it off the list"
    assert inspect.iscoroutinefunction(mine) == inspect.iscoroutinefunction(original)
    assert list(inspect.signature(mine).parameters) == list(inspect.signature(original).parameters)


def test_amqtt_has_no_method_that_nobody_looked_at() -> None:
    """A new method of amqtt's broker may be a way around ours."""
    found = {name for name in vars(broker.Broker) if not name.startswith("__")} | {"__init__"}
    assert found == {*REPLACED, *USED, *SHOWN, *IDLE}


def test_nothing_else_of_amqtts_is_hidden_by_accident() -> None:
    """A method of ours with the name of one of amqtt's would change what amqtt's own code does."""
    heirs = SignalingBroker.__mro__[: SignalingBroker.__mro__.index(broker.Broker)]
    ours = {name for heir in heirs for name in vars(heir) if not name.startswith("__")}
    theirs = {name for name in vars(broker.Broker) if not name.startswith("__")}
    assert ours & theirs == {*REPLACED, *SHOWN}


def test_the_brokers_own_fields() -> None:
    """Made by Broker.__init__, read by ours."""

    async def fields() -> set[str]:
        made = broker.Broker(contexts.BrokerConfig(plugins={}))
        return set(vars(made))

    assert {"_loop", "_servers", "plugins_manager", "listeners_config", "transitions"} <= (
        asyncio.run(fields())
    )


def test_listening_calls_what_we_hook_into() -> None:
    source = inspect.getsource(broker.Broker._start_listeners)
    for used in ("self._create_server_instance(", "self._create_ssl_context(", '"bind" not in'):
        assert used in source


def test_what_a_plugins_context_calls_is_ours() -> None:
    """BrokerContext reaches into the broker: at these places, and no others."""
    source = inspect.getsource(broker.BrokerContext)
    for used in (
        ".internal_message_broadcast(", ".retain_message(", ".sessions", ".retained_messages",
        ".subscriptions", ".add_subscription(", ".create_offline_session(", "._sessions[",
    ):  # fmt: skip
        assert f"self._broker_instance{used}" in source
    assert source.count("self._broker_instance") == 12
    body = inspect.getsource(broker.Broker.internal_message_broadcast)
    assert "self._broadcast_message(None, topic, data, qos)" in body


def test_the_plugin_managers_private_lists() -> None:
    source = inspect.getsource(manager.PluginManager.__init__)
    for name in ("_auth_plugins", "_topic_plugins", "_event_plugin_callbacks"):
        assert f"self.{name}" in source
    for name in ("fire_event", "wait_fired_events", "close", "plugins"):
        assert hasattr(manager.PluginManager, name)
    assert inspect.iscoroutinefunction(base.BaseAuthPlugin.authenticate)
    assert inspect.iscoroutinefunction(base.BaseTopicPlugin.topic_filtering)


def test_a_session_for_plugins_has_amqtts_fields() -> None:
    """Not made by amqtt's constructor; what that sets and nobody knows here is nothing."""
    shown = PluginSession("kitchen", "kitchen")
    for name in vars(session.Session()):
        getattr(shown, name)
    assert shown.transitions.state == "disconnected"
    assert isinstance(shown, session.Session)


def test_packets_are_made_of_bytes() -> None:
    """For plugins that want to see them."""
    header = packet.MQTTFixedHeader(packet.PUBACK, 0, 2)
    assert hasattr(packet_class(header), "from_stream")


def test_amqtts_constants() -> None:
    assert set(contexts.Action) == {"subscribe", "publish", "receive"}
    assert len(events.BrokerEvents) == 11
    assert len(events.MQTTEvents) == 2
