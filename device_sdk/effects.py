"""What goes into the engine and what comes out of it: plain values, nothing else.

Time is an argument beside them, in seconds of any clock that only goes forward. Wall time
(``wall``, unix seconds or None) is for people to read and never decided from.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cells import AnswerReason
from .events import Event

# --- what the transport says ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted a connection (CONNACK 0)."""

    wall: int | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone, however it went."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker answered a subscription: these filters are in force, those it refused."""

    granted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A publish came in; ``retained`` is its RETAIN flag."""

    topic: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True, slots=True)
class PublishAcked:
    """The broker acknowledged the publish that carried ``token``."""

    token: int


@dataclass(frozen=True, slots=True)
class DeadlineReached:
    """Nothing came, but the engine's deadline passed."""


# --- what the app says ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Invite ``callee``; bodies come encoded; time-outs in seconds, None for the settings."""

    call_id: str
    callee: str
    content: bytes | None = None
    channel: str | None = None
    group: bytes | None = None
    ring_timeout: float | None = None
    ack_timeout: float | None = None
    wall: int | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a call made here."""

    callee: str
    call_id: str


@dataclass(frozen=True, slots=True)
class Accept:
    """Accept a call that rings here."""

    caller: str
    call_id: str
    response: bytes | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse a call that rings here."""

    caller: str
    call_id: str
    response: bytes | None = None
    reason: AnswerReason = AnswerReason.DECLINED


@dataclass(frozen=True, slots=True)
class Watch:
    """Tell when ``peer`` comes and goes."""

    peer: str


@dataclass(frozen=True, slots=True)
class Unwatch:
    """No longer tell."""

    peer: str


@dataclass(frozen=True, slots=True)
class Logout:
    """End my calls, say that I am offline, then finish."""


Input = (
    Connected
    | Disconnected
    | Subscribed
    | MessageReceived
    | PublishAcked
    | DeadlineReached
    | Send
    | Cancel
    | Accept
    | Refuse
    | Watch
    | Unwatch
    | Logout
)

# --- what is to be done --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish, retained, QoS 1; with a ``token``, say :class:`PublishAcked` once it is acked."""

    topic: str
    payload: bytes
    token: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe these filters, QoS 1, in one packet."""

    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Unsubscribe these filters."""

    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the app."""

    event: Event


@dataclass(frozen=True, slots=True)
class Ready:
    """The inbox is subscribed: this peer can be called."""


@dataclass(frozen=True, slots=True)
class SubscriptionDenied:
    """The broker refused a filter that a peer cannot do without."""

    topic_filter: str


@dataclass(frozen=True, slots=True)
class Aborted:
    """A newer login of this peer id exists: disconnect, and stay away."""


@dataclass(frozen=True, slots=True)
class Finished:
    """After a logout: all is said and acknowledged, the connection may close."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something from the wire was dropped; at most once a minute for each cause (for the log)."""

    cause: str
    topic: str
    problem: str


Effect = (
    Publish
    | Subscribe
    | Unsubscribe
    | Tell
    | Ready
    | SubscriptionDenied
    | Aborted
    | Finished
    | Dropped
)
