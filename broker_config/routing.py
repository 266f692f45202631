"""The half of the broker that decides who gets what: topics, subscriptions, retained messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from amqtt.broker import AMQTT_MAGIC_VALUE_RET_SUBSCRIBED as REFUSED
from amqtt.broker import Broker, RetainedApplicationMessage
from amqtt.contexts import Action, BrokerConfig
from amqtt.errors import BrokerError
from amqtt.events import BrokerEvents, Events, MQTTEvents
from amqtt.mqtt.constants import QOS_0, QOS_2
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import ApplicationMessage, OutgoingApplicationMessage, Session

from device_sdk.topics import CallTopic, PresenceTopic, escape, parse

from .handler import SignalingHandler
from .index import SubscriptionIndex, TopicTree
from .limits import Allowance, Allowances, Limits, Stats
from .seldom import Seldom, short
from .session import Burst, Outgoing, SignalingSession
from .shares import Shares
from .store import Store
from .turns import Turns
from .wire import encode_topic

logger = logging.getLogger(__name__)

#: Receivers of one message, or filters of one packet, before others get their turn.
_TURN = 64
#: How many times ``queued_bytes`` a client may send itself ahead of what it takes.
_OWN = 4
#: Retained messages that a SUBSCRIBE calls for and that count as one of its device's messages.
_RETAINED_FOR_ONE = 16


class Retained(RetainedApplicationMessage):
    """A retained message with its place in the order of publishing and its age."""

    __slots__ = ("at", "device", "order", "wire_topic")

    def __init__(
        self, topic: str, data: bytes, qos: int, order: int, at: float, device: str = ""
    ) -> None:
        # Without the session it came from: amqtt keeps that alive as long as the message.
        super().__init__(None, topic, data, qos)
        self.order = order
        #: When it was published, on the monotonic clock of this process.
        self.at = at
        #: Whose share it is of.
        self.device = device
        self.wire_topic = encode_topic(topic)

    @property
    def size(self) -> int:
        """What it takes of a share, in bytes."""
        return len(self.wire_topic) + len(self.data or b"")


#: What is wrong, for a line of the log; put together only where there is one.
Why = str | Callable[[], str]


def _other(realm: str, topic: str) -> str:
    """Whom a topic is about: what is said of it is said once for all its calls."""
    parsed = parse(realm, topic)
    if isinstance(parsed, CallTopic):
        return f"{parsed.kind} {parsed.owner}"
    return "presence" if parsed is not None else "other"


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
    #: Whose topics are the protocol's.
    realm = "sig"

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
        self.turns = Turns(self.loop)
        self.seldom = Seldom(logger, self.loop.time)
        self.shares = Shares(self.limits)
        self._rates = Allowances(
            self.limits.publishes_per_second or 1.0,
            self.limits.publish_burst,
            self.limits.failures_remembered,
        )
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
        return f"{short(session.client_id)} may not {action.value} {short(topic)}"

    def allowance(self, session: SignalingSession) -> Allowance | None:
        """How much the session's device may send at once: shared by all its connections."""
        if not self.limits.publishes_per_second:
            return None
        return self._rates.of(session.device, self.loop.time())

    def _known(self, session: SignalingSession | None) -> bool:
        """Whether it is a registered device's: of those there are not endlessly many."""
        return session is not None and session.owner is not None

    def refuse_publish(self, handler: SignalingHandler, topic: str, cause: str, why: Why) -> None:
        """Count a message that is acknowledged and dropped [MQTT-3.3.5-2]; tell of it, seldom."""
        self.stats.denied[cause] += 1
        self._say_dropped(handler.session, str(handler), topic, why)

    def _say_dropped(
        self, session: SignalingSession | None, who: str, topic: str, why: Why
    ) -> None:
        device = session.device if session is not None else ""
        pair = (device, _other(self.realm, topic))
        self.seldom.warning(pair, "%s publishes to %s: dropped, %s", who, short(topic), why)

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

    def _to_be_kept(self, message: ApplicationMessage) -> bool:
        """Whether a message is to be written: retained, or for a session that outlives the broker.

        Clearing a topic frees room, so it is taken; it is acknowledged when it is written.
        """
        if message.retain and message.data:
            return True
        return bool(message.qos) and any(
            target.stored for target in self._index.match(message.topic)
        )

    def _no_share(
        self, session: SignalingSession | None, topic: str, data: bytes | bytearray
    ) -> str | None:
        """Why this message is not kept, or None: the share of its device, or the whole, is full."""
        known = self._known(session)
        if known and isinstance(parse(self.realm, topic), PresenceTopic):
            return None  # one for each device: never refused, whoever is greedy
        old = self._retained_messages.get(topic)
        replaced = (old.device, old.size) if isinstance(old, Retained) else None
        size = len(topic.encode()) + 2 + len(data)
        return self.shares.refusal(self._writer(session, topic), size, replaced, known=known)

    def _writer(self, session: SignalingSession | None, topic: str) -> str:
        """The device whose share a retained message is of."""
        if session is not None:
            return session.device
        parsed = parse(self.realm, topic)
        if parsed is None:
            return ""
        return escape(parsed.peer if isinstance(parsed, PresenceTopic) else parsed.writer)

    # --- a message on its way -------------------------------------------------------------------

    async def _handle_message_delivery(
        self,
        client_session: Session,
        handler: BrokerProtocolHandler,
        wait_deliver: asyncio.Future[Any],
    ) -> bool:
        """Pass a client's message on, or drop it; False when the connection is to end."""
        message = wait_deliver.result()
        topic: str = message.topic
        if BrokerEvents.MESSAGE_RECEIVED in self.listened:
            await self.fire(
                BrokerEvents.MESSAGE_RECEIVED, client_id=client_session.client_id, message=message
            )
        if not isinstance(client_session, SignalingSession) or not isinstance(
            handler, SignalingHandler
        ):
            raise BrokerError("not a session of this broker")
        # What may not be published is acknowledged and dropped: MQTT 3.1.1 could only close, and
        # the sender, which says the same again after each reconnect, would never be heard again.
        unfit = self._unfit_topic(topic)
        if unfit is not None:
            self.refuse_publish(handler, topic, "topic", unfit)
            return True
        if not await self._topic_filtering(client_session, topic, Action.PUBLISH):
            self.refuse_publish(
                handler, topic, "publish",
                lambda: self._why_not(client_session, topic, Action.PUBLISH),
            )  # fmt: skip
            return True
        retained = message.retain
        if self.store is not None and self.store.refusing and self._to_be_kept(message):
            self.stats.refused["publish, not storable"] += 1
            return False
        if retained and message.data:
            full = self._no_share(client_session, topic, message.data)
            if full is not None:
                self.stats.refused["publish, too many retained"] += 1
                self._say_dropped(client_session, str(handler), topic, full)
                return True
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
        # Others come in between where there are many, and where a plugin is asked for each: copy.
        many = self._receive_plugins or len(targets) > _TURN
        receivers = list(targets.items()) if many else targets.items()
        full: list[SignalingHandler] | None = None
        for number, (target, granted) in enumerate(receivers, 1):
            if many and not number % _TURN:
                await asyncio.sleep(0)
            qos = granted if force_qos is None or granted < force_qos else force_qos
            try:
                if self._receive_plugins and not await self._topic_filtering(
                    target, topic, Action.RECEIVE
                ):
                    self.stats.denied["receive"] += 1
                    continue
                handler = target.handler
                if handler is None or handler.closed:
                    if qos and not target.clean_session and self._has(target):
                        self._queue_offline(
                            target, Outgoing(topic, wire_topic, qos, payload, False)
                        )
                    continue
                message = Outgoing(topic, wire_topic, qos, payload, False)
                if qos and target.stored and self.store is not None:
                    message.row = self.store.enqueue(target, message)
                message.own = target is session
                handler.deliver(message)
                if target.pending and self.crowded(target):
                    if message.own:
                        self._drown(handler)  # it cannot wait for itself
                    else:
                        full = full or []
                        full.append(handler)
            except Exception:  # one receiver's failure is its own
                logger.exception("could not deliver %r to %r", topic, target.client_id)
                self.stats.dropped["delivery failed"] += 1
        if not full or not isinstance(session, SignalingSession) or session.handler is None:
            return
        full = [handler for handler in full if handler is not session.handler]
        if full:
            await session.handler.meanwhile(self._wait_for(full))

    def _has(self, session: SignalingSession) -> bool:
        return self._sessions.get(session.client_id or "", (None,))[0] is session

    def crowded(self, session: SignalingSession, part: float = 1.0) -> bool:
        """Whether that ``part`` of a client's queue is full with messages of others."""
        waiting, limits = session.pending, self.limits
        return bool(
            waiting.others >= max(1, limits.queued * part)
            or waiting.others_bytes >= limits.queued_bytes * part
            or waiting.own_bytes >= limits.queued_bytes * _OWN
        )

    def _drown(self, handler: SignalingHandler) -> None:
        """End a client that sends itself more than it reads."""
        session = handler.session
        if session is not None and session.pending.own_bytes >= self.limits.queued_bytes * _OWN:
            self._cut_slow(handler)

    def _cut_slow(self, handler: SignalingHandler) -> None:
        self.seldom.warning(
            ("slow", handler.session and handler.session.device),
            "%s does not take its messages; cut off", handler,
        )  # fmt: skip
        handler.end("does not read", abort=True)

    async def _wait_for(self, full: list[SignalingHandler]) -> None:
        """Back-pressure: the publisher reads on when these have taken half, or are cut."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.stall):
                for handler in full:
                    await handler.relief()
        for handler in full:
            session = handler.session
            if session is not None and self.crowded(session):
                self._cut_slow(handler)

    def _queue_offline(self, target: SignalingSession, message: Outgoing) -> None:
        """Keep a message for a session without a connection; the oldest gives way when full."""
        pending, limits = target.pending, self.limits
        while pending.others and (
            pending.others >= limits.queued
            or pending.others_bytes + message.size > limits.queued_bytes
        ):
            oldest = pending.take_oldest()
            if oldest is None:
                break
            if oldest.row is not None and self.store is not None:
                self.store.done(oldest.row)
            self.stats.dropped["offline queue full"] += 1
        if target.stored and self.store is not None:
            message.row = self.store.enqueue(target, message)
        pending.put(message)

    # --- retained messages ----------------------------------------------------------------------

    async def retain_message(
        self,
        source_session: Session | None,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        """Keep the last message of a topic, or clear it [MQTT-3.3.1-5] [MQTT-3.3.1-10]."""
        if topic_name is None:
            return
        if data:
            self._order += 1
            session = source_session if isinstance(source_session, SignalingSession) else None
            self._keep(
                kept := Retained(
                    topic_name, bytes(data), qos or QOS_0, self._order, self.clock(),
                    self._writer(session, topic_name),
                )
            )  # fmt: skip
            if self.store is not None:
                self.store.retain(topic_name, bytes(data), kept.qos or QOS_0)
        else:
            cleared = self._retained_messages.pop(topic_name, None)
            if cleared is None:
                return
            self._retained_tree.remove(topic_name)
            if isinstance(cleared, Retained):
                self.shares.remove(cleared.device, cleared.size)
            cleared.data = b""
            kept = cleared  # type: ignore[assignment] # amqtt's dictionary names its base class
            if self.store is not None:
                self.store.clear(topic_name)
        if BrokerEvents.RETAINED_MESSAGE in self.listened:
            await self.fire(BrokerEvents.RETAINED_MESSAGE, client_id=None, retained_message=kept)

    def _keep(self, kept: Retained) -> None:
        old = self._retained_messages.get(kept.topic)
        if isinstance(old, Retained):
            self.shares.remove(old.device, old.size)
        self.shares.add(kept.device, kept.size)
        self._retained_messages[kept.topic] = kept
        self._retained_tree.set(kept.topic, kept)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Send what a new subscription matches, in the order of publishing [MQTT-3.3.1-6].

        With the retain flag [MQTT-3.3.1-8] and at the lower QoS; bit by bit, as the client takes
        it, and before anything that this client causes later.
        """
        if not isinstance(session, SignalingSession) or session.handler is None:
            return
        topic_filter, granted = subscription
        pending = session.pending
        if pending.bursts and any(
            isinstance(each, Burst) and each.topic_filter == topic_filter and not each.begun
            for each in pending
        ):
            return  # they are still to come
        found: Iterator[Retained | None] = self._retained_tree.walk(topic_filter)
        if self._receive_plugins:
            found = iter([
                kept
                for kept in self._retained_tree.match(topic_filter)
                if await self._topic_filtering(session, kept.topic, Action.RECEIVE)
            ])  # fmt: skip
        burst = Burst(topic_filter, granted, found)
        if granted and session.stored and self.store is not None:
            burst.row = self.store.owe(session, topic_filter, granted)
        pending.put(burst)
        session.handler.fill_window()

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
            self.seldom.warning(
                ("filters", session.device),
                "%s subscribes to more than limits.filters_per_client = %d filters; %s and what "
                "else is above is refused",
                short(session.client_id), limits.filters_per_client, short(topic_filter),
            )  # fmt: skip
            return REFUSED
        if not await self._topic_filtering(session, topic_filter, Action.SUBSCRIBE):
            self.seldom.warning(
                ("subscribe", session.device),
                "%s", lambda: self._why_not(session, topic_filter, Action.SUBSCRIBE),
            )  # fmt: skip
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
        # A filter counts once in a packet, however often it is repeated; the last QoS is the one.
        asked = dict(wanted.topics)
        granted: dict[str, int] = {}
        for number, subscription in enumerate(asked.items(), 1):
            granted[subscription[0]] = await self.add_subscription(subscription, client_session)
            if not number % _TURN:
                await asyncio.sleep(0)
        if store is not None and store.mark != mark:
            await store.kept()
        await handler.mqtt_acknowledge_subscription(
            wanted.packet_id,
            [
                granted[topic_filter] if granted[topic_filter] == REFUSED else min(qos, QOS_2)
                for topic_filter, qos in wanted.topics
            ],
        )
        for topic_filter, code in granted.items():
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
        if isinstance(handler, SignalingHandler):
            await handler.charge(len(granted) / _RETAINED_FOR_ONE)

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
        for number, topic_filter in enumerate(dict.fromkeys(gone.topics), 1):
            if not number % _TURN:
                await asyncio.sleep(0)
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
