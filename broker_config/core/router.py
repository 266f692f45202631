"""Who gets what: subscriptions, retained messages, and each message checked, kept and delivered."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

from device_sdk.core.wire.topics import CallTopic, PresenceTopic, escape, parse

from . import packets as mqtt
from .journal import Journal
from .limits import Allowances, Limits, Seldom, short
from .packets import ProtocolViolation, Publish, Subscribe
from .retained import RetainedMessages
from .rules import Rules
from .session import ClientLink, Session, Shared
from .topics import Subscriptions, is_filter
from .turns import FULL, RATE, Steps, Turns

logger = logging.getLogger(__name__)

#: Bytes of one message that count once against its device's rate; filters that count as one.
_COSTS_ONE, _FILTERS_FOR_ONE = 4096, 16


class Router(Turns):
    """Subscriptions and retained messages, and the way of a message."""

    def __init__(
        self, limits: Limits, rules: Rules, now: float, *, keeps: bool = False, realm: str = "sig"
    ) -> None:
        super().__init__(Journal(keeps=keeps), now)
        self.limits = limits
        self.rules = rules
        #: Whose topics are the protocol's.
        self.realm = realm
        self.shared = Shared(limits, self.journal)
        self.stats = self.shared.stats
        self.sessions: dict[str, Session] = {}
        self.subscriptions: Subscriptions[Session] = Subscriptions()
        self.retained = RetainedMessages(limits)
        #: Events that somebody wants to be told, and those that happened: name and arguments.
        self.tells: frozenset[str] = frozenset()
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        self.seldom = Seldom(logger)
        self._rates = Allowances(
            limits.publishes_per_second, limits.publish_burst, limits.failures_remembered
        )

    def tell(self, event: str, *arguments: Any) -> None:
        """Have those told of ``event`` who want to be."""
        if event in self.tells:
            self.told.append((event, arguments))

    # --- a client's message ---------------------------------------------------------------------

    def unfit(self, topic: str) -> str | None:
        """Why nobody may publish to ``topic``, whoever it is."""
        limits = self.limits
        if len(topic.encode()) > limits.topic_bytes:
            return f"a topic of over {limits.topic_bytes} bytes"
        if topic.count("/") >= limits.topic_levels:
            return f"a topic of over {limits.topic_levels} levels"
        if topic[0] == "$":
            return "[MQTT-4.7.2-1] a topic with a leading '$'"
        return None

    def charge(self, link: ClientLink, session: Session, cost: float) -> None:
        """Have the device pay: it is heard when its rate allows, MQTT 3.1.1 has no other brake."""
        wait = self._rates.take(session.device, self.now, cost)
        if wait:
            link.waits |= RATE
            self.at(wait, self._paid, link)

    def _paid(self, link: ClientLink) -> None:
        self.go_on(link, RATE)

    def publish(self, link: ClientLink, session: Session, message: Publish, size: int) -> Steps:
        """Pass a client's message on, then acknowledge it, once it is kept.

        What may not be published is acknowledged and dropped [MQTT-3.3.5-2]: MQTT 3.1.1 could only
        close, and the client, which says the same again, would never be heard again.
        """
        topic, qos = message.topic, message.qos
        if self.limits.publishes_per_second:
            self.charge(link, session, 1 + size // _COSTS_ONE)
        if qos == 2 and session.incoming is not None:
            if message.packet_id in session.incoming:
                # Passed on already (method B) [MQTT-4.3.3-2].
                self.acknowledge(link, mqtt.encode_ack(mqtt.PUBREC, message.packet_id), -1)
                return
            if len(session.incoming) >= self.limits.inflight_incoming:
                raise ProtocolViolation("too many QoS 2 messages are not released")
        if self.tells:
            self.tell("broker_message_received", session, message)
        since = self.journal.noted
        cause, why = "topic", self.unfit(topic)
        if size > (most := self.limits.packet_bytes):
            cause, why = "packet too large", f"it has {size} bytes, limits.packet_bytes = {most}"
        if why is None:
            allowed = self.rules.may(link, session, "publish", topic)
            if allowed is None:
                allowed = yield
            if not allowed:
                cause, why = "publish", self.rules.why_not(session, "publish", topic)
        if why is not None:
            self.stats.denied[cause] += 1
            self.say_dropped(session, topic, why)
        elif full := self.no_share(message, session.device, known=session.owner is not None):
            self.stats.refused["publish, too many retained"] += 1
            self.say_dropped(session, topic, full)
        elif self.journal.refusing and self._to_be_kept(message):
            self.stats.refused["publish, not storable"] += 1
            self.end(link, "not stored")
            return
        else:
            if self.tells:
                self.tell("broker_message_broadcast", session, message)
            targets = self.subscriptions.match(topic)
            if targets and self.rules.receivers:
                targets = yield from self._receivers(link, topic)
            # From here on nothing waits: it is kept and delivered, or neither.
            since = self.journal.noted
            if message.retain:
                self._retain(message, session.device)
            if targets:
                full_ones = self._deliver(message, targets, session)
                if full_ones:
                    self._hold_up(link, full_ones)
        if qos == 1:
            self.acknowledge(link, mqtt.encode_ack(mqtt.PUBACK, message.packet_id), since)
        elif qos == 2:
            if session.incoming is None:
                session.incoming = set()
            session.incoming.add(message.packet_id)
            session.note("received", message.packet_id)
            self.acknowledge(link, mqtt.encode_ack(mqtt.PUBREC, message.packet_id), since)

    def say_dropped(self, session: Session, topic: str, why: str) -> None:
        """Log, seldom, that a message was acknowledged and dropped."""
        parsed = parse(self.realm, topic)
        about = f"{parsed.kind} {parsed.owner}" if isinstance(parsed, CallTopic) else bool(parsed)
        self.seldom.warning(
            self.now, (session.device, about),
            "%s publishes to %s: dropped, %s",
            session.link or short(session.client_id), short(topic), why,
        )  # fmt: skip

    def no_share(self, message: Publish, device: str, *, known: bool) -> str | None:
        """Why a retained message is not kept: the share of its device, or the whole, is full."""
        if not message.retain or not message.data:
            return None
        if known and isinstance(parse(self.realm, message.topic), PresenceTopic):
            return None  # one for each device: never refused, whoever is greedy
        return self.retained.refusal(message.topic, len(message.data), device, known=known)

    def _to_be_kept(self, message: Publish) -> bool:
        """Whether a message is to be written; clearing a topic frees room, so it is taken."""
        if message.retain and message.data:
            return True
        return message.qos > 0 and any(
            target.stored for target in self.subscriptions.match(message.topic)
        )

    def _receivers(self, key: object, topic: str) -> Generator[None, bool, dict[Session, int]]:
        """Those who subscribed and may receive, also who subscribes while others are asked."""
        allowed: dict[Session, bool] = {}
        while unknown := [each for each in self.subscriptions.match(topic) if each not in allowed]:
            for target in unknown:
                verdict = self.rules.may(key, target, "receive", topic)
                if verdict is None:
                    verdict = yield
                allowed[target] = verdict
                self.stats.denied["receive"] += not verdict
        targets = self.subscriptions.match(topic).items()
        return {target: granted for target, granted in targets if allowed[target]}

    def _deliver(
        self, message: Publish, targets: dict[Session, int], publisher: Session | None
    ) -> list[Session]:
        """Hand a message to all who get it [MQTT-3.8.4-6]; gives those that are full."""
        full: list[Session] = []
        most = message.qos
        for target, granted in targets.items():
            try:
                if target.deliver(message, granted if granted < most else most, publisher):
                    full.append(target)
                if target.link is not None and target.link.held:
                    self.held(target.link)
            except Exception:  # one receiver's failure is its own
                logger.exception("could not deliver %r to %r", message.topic, target.client_id)
                self.stats.dropped["delivery failed"] += 1
        return full

    # --- back-pressure --------------------------------------------------------------------------

    def _hold_up(self, link: ClientLink, full: list[Session]) -> None:
        """The publisher is read on when these have taken half of their queues, or are cut.

        It never waits for itself, nor for one that waits: that could be for it.
        """
        for target in full:
            receiver = target.link
            if target.drowning:
                self._does_not_read(target)
            elif receiver is not None and receiver is not link and not receiver.waits:
                if target.blocked is None:
                    target.blocked = {}
                    self.at(self.limits.stall, self._stalled, target)
                target.blocked[link] = None
                link.waits |= FULL

    def _stalled(self, target: Session) -> None:
        if target.link is not None and target.blocked:
            if target.crowded() and not target.link.waits:
                self._does_not_read(target)
            else:
                self.unblock(target)

    def _does_not_read(self, target: Session) -> None:
        link = target.link
        if link is not None:  # the will of another that was cut may have been too much for it
            self.seldom.warning(
                self.now, ("slow", target.device), "%s does not take its messages; cut off", link
            )
            self.end(link, "does not read", abort=True)

    def unblock(self, session: Session) -> None:
        """Read those on who wait for ``session``."""
        blocked, session.blocked = session.blocked, None
        for link in blocked or ():
            self.go_on(link, FULL)

    def pump(self, link: ClientLink) -> None:
        """Send what waits for a client, as far as it takes it."""
        session = link.session
        if session is None or session.link is not link:
            return
        if session.pump():
            self.later(link)
        self.held(link)
        if session.blocked and not session.crowded(0.5):
            self.unblock(session)

    # --- the broker's own messages ----------------------------------------------------------------

    def say(self, message: Publish, device: str) -> None:
        """Publish in nobody's link: a will of ``device``, a plugin's message."""
        if message.retain:
            self._retain(message, device)
        if self.subscriptions.match(message.topic):
            self.run(message, self._broadcast(message))

    def clear(self, topic: str) -> None:
        """Clear a retained message, and tell its subscribers."""
        self.say(mqtt.message(topic, b"", 1, retain=True), "")

    def keep(self, topic: str, data: bytes, qos: int) -> None:
        """Retain in the broker's own name, and tell nobody."""
        self._retain(mqtt.message(topic, data, qos, retain=True), self.writer(topic))

    def writer(self, topic: str) -> str:
        """The device whose share a retained message is of that no client publishes."""
        parsed = parse(self.realm, topic)
        if parsed is None:
            return ""
        return escape(parsed.peer if isinstance(parsed, PresenceTopic) else parsed.writer)

    def _broadcast(self, message: Publish) -> Steps:
        targets = self.subscriptions.match(message.topic)
        if self.rules.receivers:
            targets = yield from self._receivers(message, message.topic)
        for target in self._deliver(message, targets, None):
            if target.drowning:
                self._does_not_read(target)

    def _retain(self, message: Publish, device: str) -> None:
        """Keep the last message of a topic, or clear it [MQTT-3.3.1-5] [MQTT-3.3.1-10]."""
        topic, data, qos = message.topic, message.data, message.qos
        if data:
            kept = self.retained.set(topic, data, qos, device, self.now)
            self.journal.note("retain", topic, data, qos)
        else:
            cleared = self.retained.clear(topic)
            if cleared is None:
                return
            kept = cleared
            self.journal.note("clear", topic)
        if self.tells:
            self.tell("broker_retained_message", kept)

    # --- subscriptions ----------------------------------------------------------------------------

    def subscribe(self, link: ClientLink, session: Session, packet: Subscribe) -> Steps:
        """Subscribe, SUBACK once that is kept, then the retained messages.

        A filter counts once in a packet, however often it is in there; its last QoS holds.
        """
        granted: dict[str, int] = {}
        since = self.journal.noted
        for topic_filter, qos in dict(packet.filters).items():
            refused = self._refused(session, topic_filter)
            if refused is None:
                allowed = self.rules.may(link, session, "subscribe", topic_filter)
                if allowed is None:
                    allowed = yield
                if not allowed:
                    refused = ("subscribe", self.rules.why_not(session, "subscribe", topic_filter))
            if refused is not None:
                cause, why = refused
                self.stats.denied[cause] += 1
                self.seldom.warning(self.now, (cause, session.device), "%s: %s", link, why)
                granted[topic_filter] = mqtt.REFUSED
                continue
            granted[topic_filter] = qos
            self.subscribe_for(session, topic_filter, qos)
        # Owed as soon as SUBACK is, which goes out first: a crash in between takes neither or both.
        for topic_filter, qos in granted.items():
            if qos != mqtt.REFUSED:
                session.call_for(
                    topic_filter, qos, self.retained.search(topic_filter),
                    asked=not self.rules.receivers,
                )  # fmt: skip
                if self.tells:
                    self.tell("broker_client_subscribed", session, topic_filter, qos)
        codes = [granted[topic_filter] for topic_filter, _ in packet.filters]
        self.acknowledge(link, mqtt.encode_suback(packet.packet_id, codes), since)
        if self.rules.receivers:
            yield from self.ask_for(link, session)
        if self.limits.publishes_per_second:
            self.charge(link, session, len(granted) / _FILTERS_FOR_ONE)
        self.pump(link)

    def subscribe_for(self, session: Session, topic_filter: str, qos: int) -> None:
        """Subscribe a session, asking nobody and sending nothing."""
        session.filters[topic_filter] = qos
        self.subscriptions.add(topic_filter, session, qos)
        session.note("subscribe", topic_filter, qos)

    def ask_for(self, link: ClientLink, session: Session) -> Steps:
        """Find of the retained messages that ``session`` called for those that it may receive."""
        for burst in list(session.bursts or ()):
            if burst.asked:
                continue
            found = []
            for each in list(self.retained.search(burst.filter)):
                if each is not None:
                    allowed = self.rules.may(link, session, "receive", each.topic)
                    if allowed is None:
                        allowed = yield
                    if allowed:
                        found.append(each)
            burst.search = iter(found)
            burst.asked = True

    def _refused(self, session: Session, topic_filter: str) -> tuple[str, str] | None:
        limits = self.limits
        if (
            not is_filter(topic_filter)
            or len(topic_filter.encode()) > limits.topic_bytes
            or topic_filter.count("/") >= limits.topic_levels
        ):
            return "filter", f"{short(topic_filter)} is no filter"
        if (
            topic_filter not in session.filters
            and len(session.filters) >= limits.filters_per_client
        ):
            return "too many filters", (
                f"it subscribes to more than limits.filters_per_client = "
                f"{limits.filters_per_client} filters; {short(topic_filter)} and what else is "
                "above is refused"
            )
        return None

    def unsubscribe(self, link: ClientLink, session: Session, packet: Subscribe) -> None:
        """Unsubscribe, then UNSUBACK [MQTT-3.10.4-4], also for what was not subscribed."""
        since = self.journal.noted
        for topic_filter in dict(packet.filters):
            self.end_subscription(session, topic_filter)
            if self.tells:
                self.tell("broker_client_unsubscribed", session, topic_filter)
        self.acknowledge(link, mqtt.encode_ack(mqtt.UNSUBACK, packet.packet_id), since)

    def end_subscription(self, session: Session, topic_filter: str) -> None:
        """Unsubscribe, if it is subscribed."""
        if session.filters.pop(topic_filter, None) is not None:
            session.abandon(topic_filter)
            self.subscriptions.remove(topic_filter, session)
            session.note("unsubscribe", topic_filter)
