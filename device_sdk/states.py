"""The states, errors and reasons of a call, with the numbers of Agora Signaling 1.x.

Where the original is silent the names are ours: :class:`EndReason`, :class:`ConnectionState`'s
causes. Nothing here has behaviour; the transitions are tables in ``caller`` and ``callee``.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class LocalInvitationState(IntEnum):
    """Where the caller's end of a call is (Agora's ``LocalInvitationState``)."""

    IDLE = 0
    SENT_TO_REMOTE = 1
    RECEIVED_BY_REMOTE = 2
    ACCEPTED_BY_REMOTE = 3
    REFUSED_BY_REMOTE = 4
    CANCELED = 5
    FAILURE = 6


class RemoteInvitationState(IntEnum):
    """Where the callee's end of a call is (Agora's ``RemoteInvitationState``)."""

    IDLE = 0
    INVITATION_RECEIVED = 1
    ACCEPT_SENT_TO_LOCAL = 2
    REFUSED = 3
    ACCEPTED = 4
    CANCELED = 5
    FAILURE = 6


class LocalInvitationError(IntEnum):
    """Why the caller's end failed (Agora's ``LocalInvitationError``)."""

    OK = 0
    PEER_OFFLINE = 1
    PEER_NO_RESPONSE = 2
    INVITATION_EXPIRE = 3
    NOT_LOGGEDIN = 4


class RemoteInvitationError(IntEnum):
    """Why the callee's end failed (Agora's ``RemoteInvitationError``)."""

    OK = 0
    PEER_OFFLINE = 1  # the caller is gone
    ACCEPT_FAILURE = 2
    INVITATION_EXPIRE = 3


class InvitationApiCallErrorCode(IntEnum):
    """Why a call on an invitation was not legal (Agora's ``InvitationApiCallError``)."""

    OK = 0
    INVALID_ARGUMENT = 1
    NOT_STARTED = 2
    ALREADY_END = 3
    ALREADY_ACCEPT = 4
    ALREADY_SENT = 5


class ConnectionState(IntEnum):
    """How the client stands with its broker (Agora's ``ConnectionState``)."""

    DISCONNECTED = 1
    CONNECTING = 2
    CONNECTED = 3
    RECONNECTING = 4
    ABORTED = 5


class ConnectionChange(StrEnum):
    """What changed the connection state."""

    LOGIN = "login"
    LOGIN_SUCCESS = "login success"
    INTERRUPTED = "interrupted"
    LOGOUT = "logout"
    REMOTE_LOGIN = "remote login"
    REFUSED = "refused"
    #: Something within this client failed; its events' ``detail`` says what.
    FAILED = "failed within"


class CallState(IntEnum):
    """Whether a call that went on after *accepted* still does."""

    UP = 1
    OVER = 2


class EndReason(StrEnum):
    """Why a call ended, the same word on both ends and on the command line."""

    ACCEPTED = "accepted"
    # decided by the caller
    CANCELED = "canceled"
    ANSWERED_ELSEWHERE = "answered elsewhere"
    EXPIRED = "expired"
    PEER_OFFLINE = "peer offline"
    NO_RESPONSE = "no response"
    CALLER_RESTARTED = "caller restarted"
    # said by the callee
    DECLINED = "declined"
    BUSY = "busy"
    DO_NOT_DISTURB = "do not disturb"
    ACCEPT_FAILURE = "accept failure"
    CALLEE_EXPIRED = "callee expired"
    CALLER_LOST = "caller lost"
    # of a call that went on after accepted; logged out likewise
    HUNG_UP = "hung up"
    PEER_LOST = "peer lost"
    RESTARTED = "restarted"
    TIME_UP = "time is up"
    # known only on this end
    NOT_LOGGED_IN = "not logged in"
    LOGGED_OUT = "logged out"
    #: Not allowed, or too large for this broker: it closed the connection on it each time.
    NOT_ALLOWED = "not allowed"
    CLIENT_FAILED = "client failed"
