"""amqtt's session without its weight: a state, a window, a queue with an end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from amqtt.session import OutgoingApplicationMessage, Session

if TYPE_CHECKING:
    from .handler import SignalingHandler


def device_of(client_id: str) -> str:
    """The device of a client id: ``kitchen`` of ``kitchen`` and of ``kitchen.x7Fq``.

    A device's logins and tools tell themselves apart by what follows its escaped name.
    """
    return client_id.partition(".")[0]


#: Bytes that a waiting message takes beside its topic and payload, about.
_OVERHEAD = 200


class SessionState:
    """What amqtt asks of its ``transitions`` machine, which costs 20 KB a session."""

    __slots__ = ("_session", "state")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.state = "new"

    def connect(self) -> None:
        """A connection took the session."""
        self.state = "connected"
        self._session._on_enter_connected()

    def disconnect(self) -> None:
        """The session is without a connection."""
        self.state = "disconnected"
        self._session._on_enter_disconnected()

    def is_connected(self) -> bool:
        """Whether a connection has the session."""
        return self.state == "connected"


class Outgoing(OutgoingApplicationMessage):
    """One delivery to one session: waiting, sent, or (QoS 2) received there."""

    __slots__ = ("own", "received", "row", "sent", "wire_topic")

    def __init__(
        self, topic: str, wire_topic: bytes, qos: int, data: bytes | bytearray, retain: bool
    ) -> None:
        super().__init__(None, topic, qos, data, retain)
        self.wire_topic = wire_topic
        #: Whether its receiver has sent it itself.
        self.own = False
        self.sent = False
        self.received = False
        #: Its row in the store, for persistent sessions.
        self.row: int | None = None

    @property
    def size(self) -> int:
        """About the bytes that it takes while it waits."""
        return len(self.data or b"") + len(self.wire_topic) + _OVERHEAD


class Kept(Protocol):
    """A retained message, as far as it matters for sending it."""

    topic: str
    data: Any
    qos: int | None
    order: int
    wire_topic: bytes


class Burst:
    """The retained messages that one subscription calls for, found and sent bit by bit.

    It waits in its session's queue as one entry, however many they are, and is looked for when
    its turn comes: nothing is copied for a client that does not take it.
    """

    __slots__ = ("_at", "_found", "_walk", "granted", "paid", "row", "topic_filter")

    def __init__(self, topic_filter: str, granted: int, walk: Iterator[Kept | None]) -> None:
        self.topic_filter = topic_filter
        self.granted = granted
        #: Its row in the store, for persistent sessions.
        self.row: int | None = None
        self._walk: Iterator[Kept | None] | None = walk
        self._found: list[Kept] = []
        self._at = -1
        #: Whether its device's rate was charged for it.
        self.paid = False

    def __len__(self) -> int:
        return len(self._found)

    def __bool__(self) -> bool:
        return True

    @property
    def begun(self) -> bool:
        """Whether some of it has been looked for."""
        return self._at >= 0

    def gather(self, steps: int) -> bool:
        """Look at ``steps`` more places; whether all is found."""
        self._at = max(self._at, 0)
        if self._walk is None:
            return True
        for _ in range(steps):
            try:
                kept = next(self._walk)
            except StopIteration:
                self._walk = None
                self._found.sort(key=lambda kept: kept.order)  # [MQTT-3.3.1-6]
                return True
            if kept is not None:
                self._found.append(kept)
        return False

    def next(self) -> Outgoing | None:
        """The next message to send, or None at the end; with the retain flag [MQTT-3.3.1-8]."""
        while self._at < len(self._found):
            kept = self._found[self._at]
            self._at += 1
            if kept.data:  # else it was cleared meanwhile, and that is on its way
                qos = min(self.granted, kept.qos or 0)
                return Outgoing(kept.topic, kept.wire_topic, qos, kept.data, True)
        return None


class Waiting(deque["Outgoing | Burst"]):
    """What waits for one client, in order, and how much of whose it is."""

    def __init__(self) -> None:
        super().__init__()
        #: Messages of others and their bytes; bytes of its own.
        self.others = self.others_bytes = self.own_bytes = 0
        #: Subscriptions whose retained messages are still to be sent.
        self.bursts = 0

    def put(self, entry: Outgoing | Burst) -> None:
        """Put ``entry`` at the end."""
        self.append(entry)
        self._count(entry, 1)

    def take(self) -> Outgoing | Burst:
        """Take the first out."""
        entry = self.popleft()
        self._count(entry, -1)
        return entry

    def take_oldest(self) -> Outgoing | None:
        """Take the first message out, whatever retained ones are still to be looked for."""
        for place, entry in enumerate(self):
            if isinstance(entry, Outgoing):
                del self[place]
                self._count(entry, -1)
                return entry
        return None

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self.others = self.others_bytes = self.own_bytes = self.bursts = 0

    def _count(self, entry: Outgoing | Burst, sign: int) -> None:
        if isinstance(entry, Burst):
            self.bursts += sign
        elif entry.own:
            self.own_bytes += sign * entry.size
        else:
            self.others += sign
            self.others_bytes += sign * entry.size


class SignalingSession(Session):
    """amqtt's session, told apart by identity, with the messages that wait for its window."""

    def __init__(self) -> None:
        super().__init__()
        self.handler: SignalingHandler | None = None
        #: Topic filters with the QoS granted: what to take out of the index in the end.
        self.filters: dict[str, int] = {}
        #: Messages for its window, and the retained ones that its own SUBSCRIBE called for.
        self.pending = Waiting()
        #: When it lost its connection, on the broker's own clock; None while it has one.
        self.left: float | None = None
        #: Whether the store keeps it over a restart of the broker.
        self.stored = False

    def _init_states(self) -> None:
        self.transitions: Any = SessionState(self)  # in place of amqtt's Machine

    def _on_enter_connected(self) -> None:
        self.last_connect_time = int(time.time())
        self.last_disconnect_time = None

    def _on_enter_disconnected(self) -> None:
        self.last_disconnect_time = int(time.time())

    @property
    def owner(self) -> str | None:
        """The user to whom this session belongs; None for anonymous ones."""
        return None if self.is_anonymous else self.username

    @property
    def device(self) -> str:
        """Whose share it takes of: its user, or what its client id names where nobody is known."""
        return self.owner or device_of(self.client_id or "")

    @property
    def waiting(self) -> int:
        """How many messages of others wait: what it called for or sent itself does not count."""
        return self.pending.others

    @property
    def retained_messages_count(self) -> int:
        """How many messages wait for a connection or for its window."""
        return len(self.pending)

    def clear_queues(self) -> None:
        """Forget every message on its way to or from this session."""
        super().clear_queues()
        self.pending.clear()
        self.inflight_in.clear()
        self.inflight_out.clear()

    # amqtt compares sessions by client id and so makes them unhashable; each is itself here.
    __eq__ = object.__eq__
    __hash__ = object.__hash__
