"""What the core tells the application: one value for each thing that happened.

The core speaks of calls by their records; a client puts its invitation objects in their place
(``name`` is Agora's event name in snake case, so a listener's method is ``on_`` + ``name``).
"""

from enum import StrEnum
from typing import NamedTuple

from ..states import ConnectionChange, ConnectionState, EndReason
from .callee import CalleeCall
from .caller import CallerCall


class Name(StrEnum):
    """The events' names; the listener's method is ``on_`` + name."""

    LOCAL_RECEIVED_BY_PEER = "local_invitation_received_by_peer"
    LOCAL_ACCEPTED = "local_invitation_accepted"
    LOCAL_REFUSED = "local_invitation_refused"
    LOCAL_CANCELED = "local_invitation_canceled"
    LOCAL_FAILURE = "local_invitation_failure"
    LOCAL_PEER_LOST = "local_invitation_peer_lost"
    LOCAL_PEER_OFFLINE = "local_invitation_peer_offline"
    REMOTE_RECEIVED = "remote_invitation_received"
    REMOTE_ACCEPTED = "remote_invitation_accepted"
    REMOTE_REFUSED = "remote_invitation_refused"
    REMOTE_CANCELED = "remote_invitation_canceled"
    REMOTE_FAILURE = "remote_invitation_failure"
    RING_GROUP_ENDED = "ring_group_ended"
    MISSED_CALL = "missed_call"
    CALL_STARTED = "call_started"
    CALL_MESSAGE = "call_message"
    CALL_ENDED = "call_ended"
    PRESENCE_CHANGED = "presence_changed"
    CONNECTION_STATE_CHANGED = "connection_state_changed"


#: The one event that ends each invitation; ``MISSED_CALL`` ends what never rang.
ENDS = frozenset(
    {
        Name.LOCAL_ACCEPTED,
        Name.LOCAL_REFUSED,
        Name.LOCAL_CANCELED,
        Name.LOCAL_FAILURE,
        Name.REMOTE_ACCEPTED,
        Name.REMOTE_REFUSED,
        Name.REMOTE_CANCELED,
        Name.REMOTE_FAILURE,
    }
)


class LocalEvent(NamedTuple):
    """Something happened to a call made here; ``call`` is its record at that moment."""

    name: Name
    call: CallerCall


class RemoteEvent(NamedTuple):
    """Something happened to a call that came in (or, for a missed call, would have rung)."""

    name: Name
    call: CalleeCall


class PeerLost(NamedTuple):
    """The callee of a call accepted here is gone after all: ``reason`` is what it said."""

    call: CallerCall
    reason: EndReason
    name: Name = Name.LOCAL_PEER_LOST


class CallEvent(NamedTuple):
    """Something happened in a call that goes on after *accepted*: it began, was heard of, ended.

    ``message``, encoded, is what the other side said; ``reason`` is why it is over.
    """

    name: Name
    call: CallerCall | CalleeCall
    message: bytes | None = None
    reason: EndReason | None = None


class PresenceChanged(NamedTuple):
    """A watched peer came or went; ``online`` None: the broker knows nothing of it."""

    peer: str
    online: bool | None
    name: Name = Name.PRESENCE_CHANGED


class ConnectionStateChanged(NamedTuple):
    """How the client stands with its broker changed; ``detail`` says more for a person."""

    state: ConnectionState
    change: ConnectionChange
    detail: str = ""
    name: Name = Name.CONNECTION_STATE_CHANGED


CoreEvent = (
    LocalEvent | RemoteEvent | PeerLost | CallEvent | PresenceChanged | ConnectionStateChanged
)
