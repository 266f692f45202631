"""amqtt's session without its weight: a state, a window, a queue with an end."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from amqtt.session import OutgoingApplicationMessage, Session

if TYPE_CHECKING:
    from .handler import SignalingHandler


def device_of(client_id: str) -> str:
    """The device of a client id: ``kitchen`` of ``kitchen`` and of ``kitchen.x7Fq``.

    A device's logins and tools tell themselves apart by what follows its escaped name.
    """
    return client_id.partition(".")[0]


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

    __slots__ = ("received", "row", "sent", "wire_topic")

    def __init__(
        self, topic: str, wire_topic: bytes, qos: int, data: bytes | bytearray, retain: bool
    ) -> None:
        super().__init__(None, topic, qos, data, retain)
        self.wire_topic = wire_topic
        self.sent = False
        self.received = False
        #: Its row in the store, for persistent sessions.
        self.row: int | None = None


class SignalingSession(Session):
    """amqtt's session, told apart by identity, with the messages that wait for its window."""

    def __init__(self) -> None:
        super().__init__()
        self.handler: SignalingHandler | None = None
        #: Topic filters with the QoS granted: what to take out of the index in the end.
        self.filters: dict[str, int] = {}
        self.pending: deque[Outgoing] = deque()
        #: How many of ``pending`` are retained messages that its own SUBSCRIBE called for.
        self.burst = 0
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
        """How many messages of others wait: what its own SUBSCRIBE called for does not count."""
        return len(self.pending) - self.burst

    @property
    def retained_messages_count(self) -> int:
        """How many messages wait for a connection or for its window."""
        return len(self.pending)

    def clear_queues(self) -> None:
        """Forget every message on its way to or from this session."""
        super().clear_queues()
        self.pending.clear()
        self.burst = 0
        self.inflight_in.clear()
        self.inflight_out.clear()

    # amqtt compares sessions by client id and so makes them unhashable; each is itself here.
    __eq__ = object.__eq__
    __hash__ = object.__hash__
