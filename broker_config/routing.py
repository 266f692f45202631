"""The half of the broker that decides who gets what: topics, subscriptions, retained messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar

from amqtt.broker import AMQTT_MAGIC_VALUE_RET_SUBSCRIBED as REFUSED
from amqtt.broker import Broker, RetainedApplicationMessage
from amqtt.contexts import Action, BrokerConfig
from amqtt.events import BrokerEvents, Events, MQTTEvents
from amqtt.mqtt.constants import QOS_0, QOS_2
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import OutgoingApplicationMessage, Session

from .handler import SignalingHandler
from .index import SubscriptionIndex, TopicTree
from .limits import Allowance, Limits, Stats
from .session import Outgoing, SignalingSession
from .store import Store
from .wire import encode_topic

logger = logging.getLogger(__name__)

#: Denied publishes that cost nothing, how fast they are forgiven, and the longest wait in seconds.
_DENIALS, _DENIALS_PER_SECOND, _PENALTY = 5, 0.2, 5.0


class Retained(RetainedApplicationMessage):
    """A retained message with its place in the order of publishing and its age."""

    __slots__ = ("at", "order", "wire_topic")

    def __init__(self, topic: str, data: bytes, qos: int, order: int, at: float) -> None:
        # Without the session it came from: amqtt keeps that alive as long as the message.
        super().__init__(None, topic, data, qos)
        self.order = order
        #: When it was published, on the monotonic clock of this process.
        self.at = at
        self.wire_topic = encode_topic(topic)


def _unfit_filter(topic_filter: str) -> bool:
    """Whether a filter misuses a wildcard or is empty [MQTT-4.7.1-2] [MQTT-4.7.1-3]."""
    levels = topic_filter.split("/")
    return (
        not topic_filter
        or any("+" in level and level != "+" for level in levels)
        or any("#" in level and level != "#" for level in levels)
        or "#" in levels[:-1]
    )


class RoutingBroker(Broker):
    """amqtt's broker with an index in place of its walks, and every message checked."""

    sessions_type: ClassVar[type[SignalingSession]] = SignalingSession

    def __init__(
        self,
        config: BrokerConfig | dict[str, Any] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        plugin_namespace: str | None = None,
        *,
        limits: Limits | None = None,
        store: Store | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config, loop, plugin_namespace)
        self.limits = limits or Limits()
        self.store = store
        self.stats = Stats()
        self.loop = self._loop
        self.clock = clock
        self._index: SubscriptionIndex[SignalingSession] = SubscriptionIndex()
        self._retained_tree: TopicTree[Retained] = TopicTree()
        self._order = 0
        self._dirty: list[SignalingHandler] = []
        self._denials: dict[str, Allowance] = {}
        manager = self.plugins_manager
        #: Events that some plugin listens to: nothing is put together for the others.
        self.listened = frozenset(
            event
            for event in (*BrokerEvents, *MQTTEvents)
            if manager._event_plugin_callbacks.get(event)
        )
        self._topic_plugins = tuple(manager._topic_plugins)
        #: Our own plugin has proven at SUBSCRIBE what others want to be asked at each delivery.
        self._receive_plugins = any(
            not getattr(plugin, "filters_contain_topics", False) for plugin in self._topic_plugins
        )

    # --- small helpers --------------------------------------------------------------------------

    async def fire(self, event: Events, **arguments: Any) -> None:
        """Tell the plugins, if any listens."""
        if event in self.listened:
            await self.plugins_manager.fire_event(event, **arguments)

    def flush_soon(self, handler: SignalingHandler) -> None:
        """Write what ``handler`` sends at the end of this turn of the event loop."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(handler)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for handler in dirty:
            try:
                handler.flush()
            except Exception:  # one client's broken transport must not stop the others' writes
                logger.exception("could not write to %s", handler)
                handler.end("write failed", abort=True)

    # --- authorisation --------------------------------------------------------------------------

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        """Whether every plugin with an opinion allows it, and at least one has an opinion."""
        allowed = False
        for plugin in self._topic_plugins:
            try:
                verdict = await plugin.topic_filtering(session=session, topic=topic, action=action)
            except Exception:  # a plugin that fails must never let anybody in
                logger.exception(
                    "%s failed on %s of %r by %r: denied", type(plugin).__name__, action, topic,
                    session.client_id,
                )  # fmt: skip
                return False
            if verdict is not None:
                if not verdict:
                    return False
                allowed = True
        return allowed

    def _why_not(self, session: Session, topic: str, action: Action) -> str:
        """Why it is refused, with the command that cures it where the plugin knows one."""
        for plugin in self._topic_plugins:
            if hasattr(plugin, "refusal"):
                return str(plugin.refusal(session, topic, action))
        return f"{session.client_id!r} may not {action.value} {topic!r}"

    def _penalise(self, session: Session) -> None:
        """Count a denial: who reconnects to try the same again is let in more and more slowly."""
        who = session.username or str(session.remote_address)
        if who not in self._denials and len(self._denials) >= self.limits.failures_remembered:
            del self._denials[next(iter(self._denials))]
        now = self.loop.time()
        self._denials.setdefault(who, Allowance(_DENIALS_PER_SECOND, _DENIALS, now)).take(now)

    def _penalty(self, session: Session) -> float:
        """Seconds for which somebody who was denied a lot waits before CONNACK."""
        denials = self._denials.get(session.username or str(session.remote_address))
        return min(denials.owed(self.loop.time()), _PENALTY) if denials is not None else 0.0

    def _unfit_topic(self, topic: str) -> str | None:
        """Why nobody may publish to ``topic``, whoever it is."""
        limits = self.limits
        if len(topic) > limits.topic_bytes or len(topic.encode()) > limits.topic_bytes:
            return f"a topic of over {limits.topic_bytes} bytes"
        if topic.count("/") >= limits.topic_levels:
            return f"a topic of over {limits.topic_levels} levels"
        if topic.startswith("$"):
            return "[MQTT-4.7.2-1] a topic with a leading '$'"
        return None

    # --- a message on its way -------------------------------------------------------------------

    async def _handle_message_delivery(
        self,
        client_session: Session,
        handler: BrokerProtocolHandler,
        wait_deliver: asyncio.Future[Any],
    ) -> bool:
        """Pass a client's message on; False when it may not be and the connection is to end."""
        message = wait_deliver.result()
        topic: str = message.topic
        if BrokerEvents.MESSAGE_RECEIVED in self.listened:
            await self.fire(
                BrokerEvents.MESSAGE_RECEIVED, client_id=client_session.client_id, message=message
            )
        unfit = self._unfit_topic(topic)
        if unfit is not None:
            logger.warning("%s publishes to %s; connection closed", handler, unfit)
            self.stats.denied["topic"] += 1
            return False
        if not await self._topic_filtering(client_session, topic, Action.PUBLISH):
            self._penalise(client_session)
            logger.warning(
                "%s: %s; connection closed",
                handler, self._why_not(client_session, topic, Action.PUBLISH),
            )  # fmt: skip
            self.stats.denied["publish"] += 1
            return False
        if self.store is not None and self.store.refusing:
            self.stats.refused["publish, not storable"] += 1
            return False
        retained = message.retain
        if (
            retained
            and message.data
            and topic not in self._retained_messages
            and len(self._retained_messages) >= self.limits.retained
        ):
            logger.warning("%s: there are %d retained messages, no more are taken",
                           handler, self.limits.retained)  # fmt: skip
            self.stats.refused["publish, too many retained"] += 1
            return False
        if BrokerEvents.MESSAGE_BROADCAST in self.listened:
            await self.fire(
                BrokerEvents.MESSAGE_BROADCAST, client_id=client_session.client_id, message=message
            )
        if retained:
            await self.retain_message(client_session, topic, message.data, message.qos)
        await self._broadcast_message(client_session, topic, message.data, message.qos)
        return True

    async def _broadcast_message(
        self,
        session: Session | None,
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        """Deliver to all who subscribed, at the lower of both QoS [MQTT-3.8.4-6].

        ``force_qos`` is the message's QoS; without it, each subscription's. A message with a
        ``session`` waits for receivers whose queues are full, at most ``limits.stall`` seconds.
        """
        if topic is None:
            return
        targets = self._index.match(topic)
        if not targets:
            return
        wire_topic, payload = encode_topic(topic), bytes(data or b"")
        # Only a plugin that is asked for each receiver can let others in between: copy for it.
        receivers = list(targets.items()) if self._receive_plugins else targets.items()
        full: list[SignalingHandler] | None = None
        for target, granted in receivers:
            qos = granted if force_qos is None or granted < force_qos else force_qos
            try:
                if self._receive_plugins and not await self._topic_filtering(
                    target, topic, Action.RECEIVE
                ):
                    self.stats.denied["receive"] += 1
                    continue
                handler = target.handler
                if handler is None or handler.closed:
                    if qos and not target.clean_session:
                        self._queue_offline(
                            target, Outgoing(topic, wire_topic, qos, payload, False)
                        )
                    continue
                message = Outgoing(topic, wire_topic, qos, payload, False)
                if qos and target.stored and self.store is not None:
                    message.row = self.store.enqueue(target, message)
                handler.deliver(message)
                if target.pending and target.waiting >= self.limits.queued:
                    full = full or []
                    full.append(handler)
            except Exception:  # one receiver's failure is its own
                logger.exception("could not deliver %r to %r", topic, target.client_id)
                self.stats.dropped["delivery failed"] += 1
        if full and session is not None:
            await self._wait_for(full)

    async def _wait_for(self, full: list[SignalingHandler]) -> None:
        """Back-pressure: the publisher reads on when these have taken half, or are cut."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.stall):
                for handler in full:
                    await handler.relief()
        for handler in full:
            session = handler.session
            if session is not None and session.waiting >= self.limits.queued:
                logger.warning("%s does not take its messages; cut off", handler)
                handler.end("does not read", abort=True)

    def _queue_offline(self, target: SignalingSession, message: Outgoing) -> None:
        """Keep a message for a session without a connection; the oldest gives way when full."""
        if len(target.pending) >= self.limits.queued:
            oldest = target.pending.popleft()
            if oldest.row is not None and self.store is not None:
                self.store.done(oldest.row)
            self.stats.dropped["offline queue full"] += 1
        if target.stored and self.store is not None:
            message.row = self.store.enqueue(target, message)
        target.pending.append(message)

    # --- retained messages ----------------------------------------------------------------------

    async def retain_message(
        self,
        source_session: Session | None,  # noqa: ARG002 - amqtt's signature
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        """Keep the last message of a topic, or clear it [MQTT-3.3.1-5] [MQTT-3.3.1-10]."""
        if topic_name is None:
            return
        if data:
            self._order += 1
            kept = Retained(topic_name, bytes(data), qos or QOS_0, self._order, self.clock())
            self._retained_messages[topic_name] = kept
            self._retained_tree.set(topic_name, kept)
            if self.store is not None:
                self.store.retain(topic_name, bytes(data), kept.qos or QOS_0)
        else:
            cleared = self._retained_messages.pop(topic_name, None)
            if cleared is None:
                return
            self._retained_tree.remove(topic_name)
            cleared.data = b""
            kept = cleared  # type: ignore[assignment] # amqtt's dictionary names its base class
            if self.store is not None:
                self.store.clear(topic_name)
        if BrokerEvents.RETAINED_MESSAGE in self.listened:
            await self.fire(BrokerEvents.RETAINED_MESSAGE, client_id=None, retained_message=kept)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Send what a new subscription matches, in the order of publishing [MQTT-3.3.1-6].

        With the retain flag [MQTT-3.3.1-8] and at the lower QoS.
        """
        if not isinstance(session, SignalingSession):
            return
        topic_filter, granted = subscription
        for kept in sorted(self._retained_tree.match(topic_filter), key=lambda kept: kept.order):
            if self._receive_plugins and not await self._topic_filtering(
                session, kept.topic, Action.RECEIVE
            ):
                continue
            handler = session.handler
            if handler is None or handler.closed:
                return
            message = Outgoing(
                kept.topic, kept.wire_topic, min(granted, kept.qos or QOS_0), kept.data, True
            )
            before = len(session.pending)
            if message.qos and session.stored and self.store is not None:
                message.row = self.store.enqueue(session, message)
            handler.deliver(message)
            session.burst += len(session.pending) - before

    # --- subscriptions --------------------------------------------------------------------------

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Subscribe; the QoS granted or 0x80 [MQTT-3.8.4-5]."""
        topic_filter, qos = subscription
        limits = self.limits
        if not isinstance(session, SignalingSession):
            return REFUSED
        if (
            _unfit_filter(topic_filter)
            or len(topic_filter.encode()) > limits.topic_bytes
            or topic_filter.count("/") >= limits.topic_levels
        ):
            self.stats.denied["filter"] += 1
            return REFUSED
        if (
            topic_filter not in session.filters
            and len(session.filters) >= limits.filters_per_client
        ):
            self.stats.denied["too many filters"] += 1
            return REFUSED
        if not await self._topic_filtering(session, topic_filter, Action.SUBSCRIBE):
            logger.warning("%s", self._why_not(session, topic_filter, Action.SUBSCRIBE))
            self.stats.denied["subscribe"] += 1
            return REFUSED
        qos = min(qos, QOS_2)
        self._index.add(topic_filter, session, qos)
        session.filters[topic_filter] = qos
        if session.stored and self.store is not None:
            self.store.subscribe(session, topic_filter, qos)
        return qos

    async def _handle_subscription(
        self,
        client_session: Session,
        handler: BrokerProtocolHandler,
        subscribe_waiter: asyncio.Future[Any],
    ) -> None:
        """Subscribe, SUBACK, then each subscription's retained messages, in order."""
        wanted = subscribe_waiter.result()
        store = self.store
        mark = store.mark if store is not None else 0
        codes = [await self.add_subscription(each, client_session) for each in wanted.topics]
        if store is not None and store.mark != mark:
            await store.kept()
        await handler.mqtt_acknowledge_subscription(wanted.packet_id, codes)
        for (topic_filter, _), code in zip(wanted.topics, codes, strict=True):
            if code == REFUSED:
                continue
            await self.fire(
                BrokerEvents.CLIENT_SUBSCRIBED,
                client_id=client_session.client_id,
                topic=topic_filter,
                qos=code,
            )
            await self._publish_retained_messages_for_subscription(
                (topic_filter, code), client_session
            )

    async def _handle_unsubscription(
        self,
        client_session: Session,
        handler: BrokerProtocolHandler,
        unsubscribe_waiter: asyncio.Future[Any],
    ) -> None:
        """Unsubscribe, then UNSUBACK [MQTT-3.10.4-4]."""
        gone = unsubscribe_waiter.result()
        store = self.store
        mark = store.mark if store is not None else 0
        for topic_filter in gone.topics:
            self._del_subscription(topic_filter, client_session)
            await self.fire(
                BrokerEvents.CLIENT_UNSUBSCRIBED,
                client_id=client_session.client_id,
                topic=topic_filter,
            )
        if store is not None and store.mark != mark:
            await store.kept()
        await handler.mqtt_acknowledge_unsubscription(gone.packet_id)

    def _del_subscription(self, a_filter: str, session: Session) -> int:
        """Unsubscribe; how many subscriptions that were, 0 or 1."""
        if not isinstance(session, SignalingSession):
            return 0
        session.filters.pop(a_filter, None)
        removed = self._index.remove(a_filter, session)
        if removed and session.stored and self.store is not None:
            self.store.unsubscribe(session, a_filter)
        return int(removed)

    async def _del_all_subscriptions(self, session: Session) -> None:
        """Unsubscribe from everything: work in proportion to this session alone."""
        if isinstance(session, SignalingSession):
            for topic_filter in session.filters:
                self._index.remove(topic_filter, session)
            session.filters.clear()

    @property
    def subscriptions(self) -> dict[str, list[tuple[Session, int]]]:
        """All subscriptions as amqtt shows them to plugins; made anew at each call."""
        return {topic_filter: list(values.items()) for topic_filter, values in self._index.items()}

    @property
    def subscription_count(self) -> int:
        """How many subscriptions there are."""
        return len(self._index)

    # --- amqtt's queue, of which nothing is left -----------------------------------------------

    async def _broadcast_loop(self) -> None:
        """Nothing to do: messages are delivered where they are received, without a queue."""
        await self._broadcast_shutdown_waiter


__all__ = ["OutgoingApplicationMessage", "Retained", "RoutingBroker"]
