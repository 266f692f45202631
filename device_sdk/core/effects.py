"""What goes into the engine and what comes out of it: plain values, nothing else.

Time is an argument beside them, in seconds of any clock that only goes forward. Wall time
(``wall``, unix seconds or None) is for people to read and never decided from.
"""

from typing import NamedTuple

from ..errors import LoginError
from ..states import EndReason
from .callee import CalleeCall
from .events import CoreEvent
from .rotation import Target
from .values import Marker, distinct
from .wire.cells import AnswerReason, Offer

# --- what the transport says ---------------------------------------------------------------


@distinct
class Connected(NamedTuple):
    """The broker accepted a connection (CONNACK 0)."""

    wall: int | None = None


class Disconnected(Marker):
    """The connection is gone, however it went."""

    __slots__ = ()


@distinct
class Subscribed(NamedTuple):
    """The broker answered a subscription: these filters are in force, those it refused."""

    granted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@distinct
class MessageReceived(NamedTuple):
    """A publish came in; ``retained`` is its RETAIN flag."""

    topic: str
    payload: bytes
    retained: bool = False


@distinct
class PublishAcked(NamedTuple):
    """The broker acknowledged the publish that carried ``token``."""

    token: int


class DeadlineReached(Marker):
    """Nothing came, but the engine's deadline passed."""

    __slots__ = ()


# --- what the app says ---------------------------------------------------------------------


@distinct
class Send(NamedTuple):
    """Invite ``callee``; time-outs in seconds, None for the settings."""

    call_id: str
    callee: str
    offer: Offer = Offer()
    ring_timeout: float | None = None
    ack_timeout: float | None = None


@distinct
class Cancel(NamedTuple):
    """Cancel a call made here."""

    callee: str
    call_id: str


@distinct
class Accept(NamedTuple):
    """Accept a call that rings here."""

    caller: str
    call_id: str
    response: bytes | None = None


@distinct
class Refuse(NamedTuple):
    """Refuse a call that rings here."""

    caller: str
    call_id: str
    response: bytes | None = None
    reason: AnswerReason = AnswerReason.DECLINED


@distinct
class SayMessage(NamedTuple):
    """Say ``message``, encoded, in a call that goes on; ``made``: it was made here."""

    peer: str
    call_id: str
    made: bool
    message: bytes


@distinct
class HangUp(NamedTuple):
    """End a call that goes on; ``made``: it was made here."""

    peer: str
    call_id: str
    made: bool
    reason: EndReason = EndReason.HUNG_UP


@distinct
class PolicyVerdict(NamedTuple):
    """What the policy says of a call that :class:`AskPolicy` asked about: None lets it ring."""

    caller: str
    call_id: str
    refusal: AnswerReason | None = None


@distinct
class Watch(NamedTuple):
    """Tell when ``peer`` comes and goes."""

    peer: str


@distinct
class Unwatch(NamedTuple):
    """No longer tell."""

    peer: str


class Logout(Marker):
    """End my calls, say that I am offline, then finish."""

    __slots__ = ()


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
    | SayMessage
    | HangUp
    | PolicyVerdict
    | Watch
    | Unwatch
    | Logout
)

# --- what is to be done --------------------------------------------------------------------


@distinct
class Publish(NamedTuple):
    """Publish, retained, QoS 1; with a ``token``, say :class:`PublishAcked` once it is acked."""

    topic: str
    payload: bytes
    token: int | None = None


@distinct
class Subscribe(NamedTuple):
    """Subscribe these filters, QoS 1, in one packet."""

    filters: tuple[str, ...]


@distinct
class Unsubscribe(NamedTuple):
    """Unsubscribe these filters."""

    filters: tuple[str, ...]


@distinct
class Emit(NamedTuple):
    """Tell the app."""

    event: CoreEvent


@distinct
class AskPolicy(NamedTuple):
    """Ask the policy whether a call may ring: one at a time, each to be answered.

    ``open_calls``: how many ring here, or were accepted and are about to be decided.
    """

    call: CalleeCall
    open_calls: int


class Ready(Marker):
    """The inbox is subscribed: this peer can be called."""

    __slots__ = ()


@distinct
class SubscriptionDenied(NamedTuple):
    """The broker refused a filter that a peer cannot do without."""

    topic_filter: str


class Aborted(Marker):
    """A newer login of this peer id exists: disconnect, and stay away."""

    __slots__ = ()


class Finished(Marker):
    """After a logout: all is said and acknowledged, the connection may close."""

    __slots__ = ()


@distinct
class Dropped(NamedTuple):
    """Something from the wire was dropped; at most once a minute for each cause (for the log)."""

    cause: str
    topic: str
    problem: str


Effect = (
    Publish
    | Subscribe
    | Unsubscribe
    | Emit
    | AskPolicy
    | Ready
    | SubscriptionDenied
    | Aborted
    | Finished
    | Dropped
)


class LinkFailed(NamedTuple):
    """The connection was refused or never came about; ``error`` says which, for a person."""

    error: LoginError


class LinkOpened(Marker):
    """There is a connection, and the greeting is on its way."""

    __slots__ = ()


@distinct
class BrokersFound(NamedTuple):
    """The name that was to be opened stands for these, in this order, for ``ttl`` seconds."""

    targets: tuple[Target, ...]
    ttl: float


#: What comes from a link.
LinkInput = (
    LinkOpened
    | BrokersFound
    | Connected
    | Disconnected
    | Subscribed
    | MessageReceived
    | PublishAcked
    | LinkFailed
)
