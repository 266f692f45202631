"""Every private thing of amqtt that broker_config relies on, by name.

When one of these fails after an upgrade of amqtt, read its new source before anything is mended:
the broker may still start, and be wrong.
"""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version
from typing import Any

import pytest
from amqtt import adapters, broker, contexts, events, session
from amqtt.mqtt import connack, connect, packet, packet_class, publish, subscribe, unsubscribe
from amqtt.mqtt.protocol import broker_handler, handler
from amqtt.plugins import base, manager
from packaging.version import Version

from broker_config.broker import SignalingBroker
from broker_config.handler import SignalingHandler
from broker_config.keeping import KeepingBroker
from broker_config.routing import RoutingBroker
from broker_config.session import SignalingSession

#: What each of our classes puts in place of amqtt's, with amqtt's parameters.
REPLACED: list[tuple[type, type, str]] = [
    *((RoutingBroker, broker.Broker, name) for name in (
        "_topic_filtering", "_handle_message_delivery", "_broadcast_message", "retain_message",
        "_publish_retained_messages_for_subscription", "add_subscription", "_handle_subscription",
        "_handle_unsubscription", "_del_subscription", "_del_all_subscriptions", "_broadcast_loop",
    )),
    *((KeepingBroker, broker.Broker, name) for name in (
        "_delete_session", "_publish_session_retained_messages", "_session_monitor",
    )),
    *((SignalingBroker, broker.Broker, name) for name in (
        "start", "_start_listeners", "_create_ssl_context", "_create_server_instance",
        "stream_connected", "ws_connected", "_client_connected", "_handle_client_session",
        "_authenticate", "_client_message_loop", "_handle_disconnect", "shutdown",
    )),
    *((SignalingHandler, broker_handler.BrokerProtocolHandler, name) for name in (
        "attach", "start", "stop", "handle_read_timeout", "_reader_loop", "_send_packet",
        "mqtt_publish", "_retry_deliveries", "handle_publish", "_handle_message_flow",
        "_handle_qos0_message_flow", "_handle_qos1_message_flow", "_handle_qos2_message_flow",
        "handle_puback", "handle_pubrec", "handle_pubcomp", "handle_pubrel", "handle_pingreq",
        "handle_subscribe", "handle_unsubscribe", "mqtt_acknowledge_subscription",
        "mqtt_acknowledge_unsubscription", "handle_disconnect", "handle_connection_closed",
    )),
    *((SignalingSession, session.Session, name) for name in (
        "_init_states", "_on_enter_connected", "_on_enter_disconnected", "clear_queues",
    )),
]  # fmt: skip


def test_the_version_is_the_one_that_was_read() -> None:
    assert Version("0.12.1") <= Version(version("amqtt")) < Version("0.13")


@pytest.mark.parametrize(("ours", "theirs", "name"), REPLACED, ids=str)
def test_what_is_replaced_is_there_with_the_same_parameters(
    ours: type, theirs: type, name: str
) -> None:
    mine, original = getattr(ours, name), getattr(theirs, name)
    assert mine is not original, f"{name} is not replaced any more: take it off the list"
    assert inspect.iscoroutinefunction(mine) == inspect.iscoroutinefunction(original)
    assert list(inspect.signature(mine).parameters) == list(inspect.signature(original).parameters)


def test_amqtt_has_no_method_that_nobody_looked_at() -> None:
    """A new method of amqtt's broker or handler may be a way around ours."""
    known_broker = {
        "__init__", "_authenticate", "_broadcast_loop", "_broadcast_message", "_cleanup_session",
        "_client_connected", "_client_message_loop", "_create_server_instance",
        "_create_ssl_context", "_del_all_subscriptions", "_del_subscription", "_delete_session",
        "_get_handler", "_handle_client_session", "_handle_disconnect", "_handle_message_delivery",
        "_handle_subscription", "_handle_unsubscription", "_init_handler", "_init_states",
        "_initialize_client_session", "_log_state_change", "_matches",
        "_publish_retained_messages_for_subscription", "_publish_session_retained_messages",
        "_retain_broadcast_message", "_run_broadcast", "_session_monitor",
        "_shutdown_broadcast_loop", "_split_bindaddr_port", "_start_listeners", "_stop_handler",
        "_topic_filtering", "add_subscription", "create_offline_session", "external_connected",
        "internal_message_broadcast", "retain_message", "retained_messages", "sessions",
        "shutdown", "start", "states", "stream_connected", "subscriptions", "ws_connected",
    }  # fmt: skip
    found = {name for name in vars(broker.Broker) if not name.startswith("__")} | {"__init__"}
    assert found == known_broker


def test_the_brokers_own_fields() -> None:
    """Made by Broker.__init__, read or written by ours."""

    async def fields() -> set[str]:
        made = broker.Broker(contexts.BrokerConfig(plugins={}))
        return set(vars(made))

    assert {
        "_loop", "_servers", "_sessions", "_subscriptions", "_retained_messages", "plugins_manager",
        "_broadcast_shutdown_waiter", "_broadcast_task", "_session_monitor_task",
        "listeners_config", "transitions", "config",
    } <= asyncio.run(fields())  # fmt: skip


def test_start_calls_what_we_hook_into() -> None:
    source = inspect.getsource(broker.Broker.start)
    for used in (
        "self._start_listeners()", "self._broadcast_loop()", "self._session_monitor()",
        "self._sessions.clear()", "self._retained_messages.clear()", "BrokerError",
    ):  # fmt: skip
        assert used in source
    source = inspect.getsource(broker.Broker._start_listeners)
    for used in ("self._create_server_instance(", "self._create_ssl_context(", '"bind" not in'):
        assert used in source


def test_the_plugin_managers_private_lists() -> None:
    source = inspect.getsource(manager.PluginManager.__init__)
    for name in ("_auth_plugins", "_topic_plugins", "_event_plugin_callbacks"):
        assert f"self.{name}" in source
    for name in ("fire_event", "wait_fired_events", "close", "plugins"):
        assert hasattr(manager.PluginManager, name)
    assert inspect.iscoroutinefunction(base.BaseAuthPlugin.authenticate)
    assert inspect.iscoroutinefunction(base.BaseTopicPlugin.topic_filtering)


def test_the_adapters_private_fields() -> None:
    for adapter, name in (
        (adapters.StreamReaderAdapter, "_reader"),
        (adapters.StreamWriterAdapter, "_writer"),
        (adapters.WebSocketsReader, "_protocol"),
        (adapters.WebSocketsWriter, "_protocol"),
    ):
        assert f"self.{name} =" in inspect.getsource(adapter.__init__)


def test_the_sessions_fields() -> None:
    fields = vars(session.Session())
    for name in (
        "client_id", "username", "password", "clean_session", "keep_alive", "is_anonymous",
        "will_flag", "will_retain", "will_qos", "will_topic", "will_message", "parent",
        "inflight_in", "inflight_out", "attributes", "ssl_object", "remote_address",
        "last_connect_time", "last_disconnect_time",
    ):  # fmt: skip
        assert name in fields
    assert session.Session().next_packet_id == 1


def test_the_packets_we_make_and_read() -> None:
    header = packet.MQTTFixedHeader(packet.PUBACK, 0, 2)
    made: Any = packet_class(header)(header, packet.PacketIdVariableHeader(7))
    assert made.packet_id == 7
    assert connack.ConnackPacket.build(1, 5).to_bytes() == b"\x20\x02\x01\x05"
    for kind, names in (
        (connect.ConnectPayload, {"client_id", "client_id_is_random", "will_topic", "password"}),
        (connect.ConnectVariableHeader, {"flags", "keep_alive", "proto_level", "proto_name"}),
        (publish.PublishVariableHeader, {"topic_name", "packet_id"}),
        (publish.PublishPayload, {"data"}),
        (subscribe.SubscribePayload, {"topics"}),
        (unsubscribe.UnubscribePayload, {"topics"}),
    ):
        assert names <= set(kind.__slots__)


def test_amqtts_constants() -> None:
    assert broker.AMQTT_MAGIC_VALUE_RET_SUBSCRIBED == 0x80
    assert set(contexts.Action) == {"subscribe", "publish", "receive"}
    assert len(events.BrokerEvents) == 11
    assert len(events.MQTTEvents) == 2


def test_the_handler_is_closed_by_detach() -> None:
    """Its constructor is not called here; these are all its methods that then remain amqtt's."""
    ours = {name for kind in (SignalingHandler,) for name in vars(kind)}
    theirs = {
        name
        for kind in (broker_handler.BrokerProtocolHandler, handler.ProtocolHandler)
        for name, value in vars(kind).items()
        if callable(value) and not name.startswith("__")
    }
    assert theirs - ours == {
        "_init_session", "_is_attached", "_stop_waiters", "detach", "get_next_pending_subscription",
        "get_next_pending_unsubscription", "handle_connack", "handle_connect", "handle_pingresp",
        "handle_suback", "handle_unsuback", "handle_write_timeout", "mqtt_connack_authorize",
        "mqtt_deliver_next_message", "wait_disconnect",
    }  # fmt: skip
