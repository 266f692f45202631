"""A broker in memory, for engines and for real clients."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..client.link.base import Will
from ..core.effects import (
    Connected,
    Disconnected,
    LinkInput,
    MessageReceived,
    PublishAcked,
    Subscribed,
)


class ManualClock:
    """A clock that stands until it is moved; call it for the time, in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:  # noqa: D102 - the class says it
        return self.now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.now += seconds


def matches(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT topic filter matches a topic (MQTT 3.1.1, section 4.7)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(levels) or level not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)


@dataclass
class MemorySession:
    """One connection to a :class:`MemoryBroker`; ``deliver`` is called with each message."""

    client_id: str
    deliver: Callable[[str, bytes, bool], None]
    closed: Callable[[], None]
    will: tuple[str, bytes] | None = None
    filters: list[str] = field(default_factory=list)


class MemoryBroker:
    """What the protocol needs of MQTT: retained messages, filters, wills, take-over by client id.

    Its methods are not thread-safe; the links of real clients take turns by a lock of their own.
    ``retained`` may be read, and emptied to play a broker that lost its store.
    """

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.sessions: dict[str, MemorySession] = {}
        self._lock = threading.RLock()

    def __call__(self, will: Will) -> MemoryLink:
        """Make a link to this broker: the broker is its own ``LinkFactory``."""
        return MemoryLink(self, self._lock, will)

    def connect(self, session: MemorySession) -> None:
        """Take a connection; an older one of the same client id is closed, with its will."""
        older = self.sessions.get(session.client_id)
        if older is not None:
            self.drop(older)
            older.closed()
        self.sessions[session.client_id] = session

    def disconnect(self, session: MemorySession) -> None:
        """The client closed the connection in due form: no will."""
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]

    def drop(self, session: MemorySession) -> None:
        """The connection broke: the will is published."""
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
            if session.will is not None:
                self.publish(*session.will)

    def subscribe(self, session: MemorySession, filters: Iterable[str]) -> None:
        """Subscribe, and deliver what is retained there."""
        new = tuple(filters)
        session.filters += [f for f in new if f not in session.filters]
        for topic, payload in list(self.retained.items()):
            if any(matches(f, topic) for f in new):
                session.deliver(topic, payload, True)

    def unsubscribe(self, session: MemorySession, filters: Iterable[str]) -> None:
        """Unsubscribe."""
        session.filters = [f for f in session.filters if f not in set(filters)]

    def publish(self, topic: str, payload: bytes) -> None:
        """Retain (or clear) and deliver to whoever subscribed."""
        if payload:
            self.retained[topic] = payload
        else:
            self.retained.pop(topic, None)
        for session in list(self.sessions.values()):
            if any(matches(f, topic) for f in session.filters):
                session.deliver(topic, payload, False)


class MemoryLink:
    """A ``Link`` (``client/link/base.py``) to a :class:`MemoryBroker`, for a real client."""

    def __init__(self, broker: MemoryBroker, lock: threading.RLock, will: Will) -> None:
        self._broker, self._lock = broker, lock
        self._happened: deque[LinkInput] = deque()
        self._session: MemorySession | None = MemorySession(
            will.client_id,
            lambda topic, payload, retained: self._note(MessageReceived(topic, payload, retained)),
            self._kicked,
            (will.topic, will.payload),
        )
        # A byte in it is what wakes the client, as a packet would.
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)

    def open(self) -> None:
        """Connect; never fails."""
        with self._lock:
            if self._session is not None:
                self._broker.connect(self._session)
                self._note(Connected())

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once it is closed."""
        return self._reader.fileno()

    def wants_write(self) -> bool:
        """Nothing ever waits to be written."""
        return False

    def read(self) -> None:
        """Take the wake-ups in."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._reader.recv(4096)

    def write(self) -> None:
        """Nothing ever waits to be written."""

    def tick(self) -> None:
        """There is no keep-alive to look after."""

    def publish(self, topic: str, payload: bytes, token: int | None) -> None:
        """Publish, retained."""
        with self._lock:
            if self._session is not None:
                self._broker.publish(topic, payload)
                if token is not None:
                    self._note(PublishAcked(token))

    def subscribe(self, filters: tuple[str, ...]) -> None:
        """Subscribe."""
        with self._lock:
            if self._session is not None:
                self._broker.subscribe(self._session, filters)
                self._note(Subscribed(granted=filters))

    def unsubscribe(self, filters: tuple[str, ...]) -> None:
        """Unsubscribe."""
        with self._lock:
            if self._session is not None:
                self._broker.unsubscribe(self._session, filters)

    def close(self, *, clean: bool) -> None:
        """End the connection; unless ``clean``, the will is published."""
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                (self._broker.disconnect if clean else self._broker.drop)(session)
            self._happened.clear()
            self._reader.close()
            self._writer.close()

    def drain(self) -> list[LinkInput]:
        """What has happened since the last time, in order."""
        with self._lock:
            happened = list(self._happened)
            self._happened.clear()
            return happened

    def acknowledge(self) -> None:
        """Nothing waits for it."""

    def _kicked(self) -> None:
        self._session = None
        self._note(Disconnected())

    def _note(self, what: LinkInput) -> None:
        self._happened.append(what)
        with contextlib.suppress(BlockingIOError, OSError):  # full is awake, too
            self._writer.send(b"\0")
