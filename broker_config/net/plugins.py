"""amqtt's plugins as they see the broker: its sessions, its questions, its events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from amqtt.adapters import BufferReader
from amqtt.broker import RetainedApplicationMessage
from amqtt.contexts import Action
from amqtt.mqtt import packet_class
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.plugins.manager import PluginManager
from amqtt.session import IncomingApplicationMessage
from amqtt.session import Session as AmqttSession

from ..core import session as core
from ..core.packets import Connect, Frames

logger = logging.getLogger(__name__)


class _State:
    """What amqtt asks of its ``transitions`` machine, which costs 20 KB a session."""

    def __init__(self, state: str) -> None:
        self.state = state

    def is_connected(self) -> bool:
        return self.state == "connected"


class PluginSession(AmqttSession):
    """A client as plugins see it: amqtt's session without its queues, which none of them needs."""

    def __init__(self, client_id: str, username: str | None) -> None:
        # amqtt's constructor makes a state machine and four queues: 20 KB for each session.
        self.client_id = client_id
        self.username = username
        self.password = None
        self.is_anonymous = username is None
        self.attributes: dict[str, Any] = {}
        self.inner: core.Session | None = None

        self.remote_address = None
        self.ssl_object = None
        self.will_flag = False

    def __getattr__(self, name: str) -> Any:
        """What amqtt's constructor would have set and nobody has: nothing."""
        if name == "transitions":
            connected = self.inner is not None and self.inner.link is not None
            return _State("connected" if connected else "disconnected")
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def session_of(connect: Connect, address: str, ssl_object: Any) -> PluginSession:
    """Who asks to be let in. A password is binary; as text that loses nothing it fits amqtt's."""
    session = PluginSession(connect.client_id, connect.user)
    if connect.password is not None:
        session.password = connect.password.decode("utf-8", "surrogateescape")
    session.remote_address = address
    session.ssl_object = ssl_object
    session.clean_session = connect.clean
    session.keep_alive = connect.keep_alive
    if connect.will is not None:
        session.will_flag = True
        session.will_topic, session.will_message = connect.will.topic, connect.will.data
        session.will_qos, session.will_retain = connect.will.qos, connect.will.retain
    return session


def seen(session: core.Session) -> PluginSession:
    """A session as plugins see it."""
    if session.seen is None:
        session.seen = PluginSession(session.client_id, session.owner)
    known: PluginSession = session.seen
    known.inner, known.client_id = session, session.client_id
    return known


class PluginRules:
    """Asks amqtt's plugins: each with an opinion must agree, and at least one must have one.

    A plugin with a method ``decide`` (session, topic, action) is asked at once; the others'
    coroutines run in a task, and the client's packets wait meanwhile.
    """

    def __init__(
        self,
        manager: PluginManager[Any],
        loop: asyncio.AbstractEventLoop,
        answer: Callable[[object, bool], None],
    ) -> None:
        self._auth = tuple(manager._auth_plugins)
        self._topic = tuple(manager._topic_plugins)
        self._loop = loop
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._actions = {action.value: action for action in Action}
        self._deciding: list[Any] = [plugin for plugin in self._topic if hasattr(plugin, "decide")]
        self._at_once = len(self._deciding) == len(self._topic)
        #: Our own plugin has proven at SUBSCRIBE what others want to be asked at each delivery.
        self.receivers = any(
            not getattr(plugin, "filters_contain_topics", False) for plugin in self._topic
        )

    def may(self, key: object, session: core.Session, action: str, topic: str) -> bool | None:
        """The verdict, or None and later an answer."""
        who = seen(session)
        if not self._at_once:
            task = self._loop.create_task(self._ask(key, who, self._actions[action], topic))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return None
        allowed = False
        for plugin in self._deciding:
            try:
                verdict = plugin.decide(who, topic, action)
            except Exception:  # noqa: BLE001 - logged below; a plugin that fails must never let anybody in
                _failed(plugin, f"{action} of {topic!r} by {who.client_id!r}")
                return False
            if verdict is not None:
                if not verdict:
                    return False
                allowed = True
        return allowed

    async def _ask(self, key: object, who: PluginSession, action: Action, topic: str) -> None:
        at = f"{action.value} of {topic!r} by {who.client_id!r}"
        fits = await _agreed(
            self._topic,
            lambda plugin: plugin.topic_filtering(session=who, topic=topic, action=action),
            at,
        )
        self._answer(key, fits)

    async def authenticate(self, who: PluginSession) -> bool:
        """Whether a client is who it says."""
        at = f"the login of {str(who.username)[:64]!r}"
        return await _agreed(self._auth, lambda plugin: plugin.authenticate(session=who), at)

    def why_not(self, session: core.Session, action: str, topic: str) -> str:
        """What is wrong, and the command that cures it where a plugin knows one."""
        for plugin in self._topic:
            if hasattr(plugin, "refusal"):
                return str(plugin.refusal(seen(session), topic, self._actions[action]))
        return f"which it may not ({action})"

    def stands(self, topic: str) -> bool:
        """Whether every plugin with an opinion lets a retained message of ``topic`` stand."""
        return all(plugin.stands(topic) for plugin in self._topic if hasattr(plugin, "stands"))

    def valid(self, session: core.Session) -> bool:
        """Whether a session's owner is still known, and as it was when it connected."""
        return all(plugin.valid(seen(session)) for plugin in self._auth if hasattr(plugin, "valid"))


async def _agreed(
    plugins: Iterable[Any], ask: Callable[[Any], Awaitable[bool | None]], at: str
) -> bool:
    """Whether at least one says yes and none says no; nobody else is asked after that."""
    agreed = False
    for plugin in plugins:
        try:
            verdict = await ask(plugin)
        except Exception:  # noqa: BLE001 - logged below; a plugin that fails must never let anybody in
            _failed(plugin, at)
            return False
        if verdict is not None:
            if not verdict:
                return False
            agreed = True
    return agreed


def _failed(plugin: object, at: str) -> None:
    logger.exception("%s failed on %s: denied", type(plugin).__name__, at)


async def packets(data: bytes) -> list[Any]:
    """Amqtt's packets of what was sent or received."""
    frames, found = Frames(1 << 28), []
    frames.feed(data)
    while (frame := frames.next()) is not None:
        first, body = frame
        header = MQTTFixedHeader(first >> 4, first & 15, len(body))
        found.append(await packet_class(header).from_stream(BufferReader(body), header))
    return found


def arguments(event: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """What amqtt's plugins are told of an event of the core."""
    if event == "broker_retained_message":
        (kept,) = values
        told = RetainedApplicationMessage(None, kept.topic, kept.data, kept.qos)
        return {"client_id": None, "retained_message": told}
    session, *rest = values
    known = {"client_id": session.client_id}
    if event in ("broker_message_received", "broker_message_broadcast"):
        (published,) = rest
        message = IncomingApplicationMessage(
            published.packet_id or None, published.topic, published.qos, published.data,
            published.retain,
        )  # fmt: skip
        return {**known, "message": message}
    if event in ("broker_client_connected", "broker_client_disconnected"):
        return {**known, "client_session": seen(session)}
    return {**known, **dict(zip(("topic", "qos"), rest, strict=False))}
