"""What an application holds of a call: the invitation, the event, the missed call.

Both clients share these; a client adds how to wait. The fields follow the core's record and may be
read from any thread. An invitation ends once; an ended one stays readable and does nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.callee import CalleeCall
from ..core.caller import CallerCall
from ..core.events import Name
from ..core.wire import codec, keys
from ..core.wire.cells import Offer
from ..errors import InvalidArgument, InvitationApiCallError
from ..states import (
    CallState,
    ConnectionChange,
    ConnectionState,
    EndReason,
    InvitationApiCallErrorCode,
    LocalInvitationError,
    LocalInvitationState,
    RemoteInvitationError,
    RemoteInvitationState,
)


def check_channel(value: str, argument: str = "channel_id") -> str:
    """``value`` if it can be a channel's name, else :class:`InvalidArgument`."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(argument, f"no text that can be sent: {value!r}") from None
    if size > keys.MAX_CHANNEL:
        raise InvalidArgument(argument, f"at most {keys.MAX_CHANNEL} bytes, not {size}")
    return value


def value_of(content: bytes | None) -> Any:
    """What an application put into a cell, if it did."""
    return None if content is None else codec.decode_body(content)


class LocalInvitationBase:
    """The caller's end of a call (Agora's ``LocalInvitation``)."""

    #: Whose it is; set by the client that made it.
    _client: Any
    #: Lets whoever waits for its end go on; the client's own class says how.
    _wake: Callable[[], None]

    def __init__(self, callee_id: str, call_id: str, group: bytes | None = None) -> None:
        self._record: CallerCall | None = None
        self._state = LocalInvitationState.IDLE
        self._error = LocalInvitationError.OK
        self._reason: EndReason | None = None
        self._content: Any = None
        self._channel_id: str | None = None
        self._response: Any = None
        self._ended = False
        self._talk: Any = None
        self._callee_id, self._call_id, self._group = callee_id, call_id, group

    @property
    def callee_id(self) -> str:
        """Whom it calls."""
        return self._callee_id

    @property
    def call_id(self) -> str:
        """The call's id, the same at both ends and in every log."""
        return self._call_id

    @property
    def group(self) -> bytes | None:
        """What the legs of one ring group share; None for a call by itself."""
        return self._group

    @property
    def state(self) -> LocalInvitationState:
        """Where it is."""
        return self._state

    @property
    def error(self) -> LocalInvitationError:
        """Why it failed; OK otherwise."""
        return self._error

    @property
    def reason(self) -> EndReason | None:
        """Why it ended, in a word; None before."""
        return self._reason

    @property
    def response(self) -> Any:
        """What the callee answered with, if it answered."""
        return self._response

    @property
    def ended(self) -> bool:
        """Whether its end was told."""
        return self._ended

    @property
    def outcome(self) -> Outcome:
        """How it ended, or how it stands; true if it was accepted."""
        return Outcome(
            self.call_id,
            self.callee_id,
            self._state,
            self._reason,
            self._error,
            self._response,
            self._talk,
        )

    @property
    def content(self) -> Any:
        """What the callee is shown: any CBOR value without tags, 8 KiB encoded.

        Settable until sent; then setting it raises :class:`InvitationApiCallError` (ALREADY_SENT).
        """
        return self._content

    @content.setter
    def content(self, value: Any) -> None:
        self._settable("content")
        self._content = value

    @property
    def channel_id(self) -> str | None:
        """A name for where to talk, 64 bytes at most: the app's own affair. Settable until sent.

        Raises :class:`InvitationApiCallError` (ALREADY_SENT), :class:`InvalidArgument`.
        """
        return self._channel_id

    @channel_id.setter
    def channel_id(self, value: str | None) -> None:
        self._settable("channel_id")
        if value is not None and not isinstance(value, str):
            raise InvalidArgument("channel_id", f"a string, not {type(value).__name__}")
        if value is not None:
            check_channel(value)
        self._channel_id = value

    def __repr__(self) -> str:
        return f"<LocalInvitation {self.call_id} to {self.callee_id!r} {self.state.name}>"

    def _settable(self, what: str) -> None:
        if self._state is not LocalInvitationState.IDLE:
            raise InvitationApiCallError(
                InvitationApiCallErrorCode.ALREADY_SENT,
                f"{what} can be set until the invitation is sent",
                call_id=self.call_id,
                state=self._state,
            )

    def _offer(self) -> Offer:
        return Offer(body_of(self._content, "content", self), self._channel_id, self.group)

    def _follow(self, record: CallerCall) -> None:
        self._record = record
        self._state, self._error, self._reason = record.state, record.error, record.reason
        if record.response is not None:
            self._response = codec.decode_body(record.response)

    def _fail(self, error: LocalInvitationError, reason: EndReason) -> None:
        self._state, self._error, self._reason = LocalInvitationState.FAILURE, error, reason


class RemoteInvitationBase:
    """The callee's end of a call (Agora's ``RemoteInvitation``)."""

    #: Whose it is; set by the client that it came to.
    _client: Any
    #: As of a :class:`LocalInvitationBase`.
    _wake: Callable[[], None]

    def __init__(self, record: CalleeCall) -> None:
        self._response: Any = None
        self._ended = False
        self._talk: Any = None
        self.caller_id = record.caller
        self.call_id = record.call_id
        offer = record.offer
        self.group = offer.group
        self.channel_id = offer.channel
        self.content = value_of(offer.content)
        self.time = offer.time
        self._follow(record)

    @property
    def state(self) -> RemoteInvitationState:
        """Where it is."""
        return self._record.state

    @property
    def error(self) -> RemoteInvitationError:
        """Why it failed; OK otherwise."""
        return self._record.error

    @property
    def reason(self) -> EndReason | None:
        """Why it ended, in a word; None before."""
        return self._record.reason

    @property
    def ended(self) -> bool:
        """Whether its end was told."""
        return self._ended

    @property
    def response(self) -> Any:
        """What the caller is answered: like content. Settable until answered.

        Then setting it raises :class:`InvitationApiCallError` (ALREADY_ACCEPT, ALREADY_END).
        """
        return self._response

    @response.setter
    def response(self, value: Any) -> None:
        if self.state is not RemoteInvitationState.INVITATION_RECEIVED:
            raise InvitationApiCallError(
                InvitationApiCallErrorCode.ALREADY_END
                if self._ended
                else InvitationApiCallErrorCode.ALREADY_ACCEPT,
                "response can be set until the invitation is answered",
                call_id=self.call_id,
                state=self.state,
            )
        self._response = value

    def __repr__(self) -> str:
        return f"<RemoteInvitation {self.call_id} from {self.caller_id!r} {self.state.name}>"

    def _follow(self, record: CalleeCall) -> None:
        self._record = record


class MissedCall(NamedTuple):
    """Somebody called, and it never rang here. ``time`` is the caller's clock (unix s), if told."""

    caller_id: str
    call_id: str
    reason: EndReason | None
    time: int | None = None
    content: Any = None
    channel_id: str | None = None

    @classmethod
    def of(cls, record: CalleeCall) -> MissedCall:
        """What the record of a call says of it."""
        offer = record.offer
        return cls(record.caller, record.call_id, record.reason, offer.time,
                   value_of(offer.content), offer.channel)  # fmt: skip


class Event(NamedTuple):
    """Something happened: ``name`` is the listener's method without ``on_``, ``args`` what it gets.

    ``state``, ``reason`` and ``error`` are as they were at that moment; the invitation may have
    gone on since.
    """

    name: Name
    args: tuple[Any, ...]
    invitation: Any = None
    missed: MissedCall | None = None
    peer: str = ""
    call_id: str = ""
    state: LocalInvitationState | RemoteInvitationState | ConnectionState | CallState | None = None
    reason: EndReason | ConnectionChange | None = None
    error: LocalInvitationError | RemoteInvitationError | None = None
    response: Any = None
    content: Any = None
    detail: str = ""
    call: Any = None


class Outcome(NamedTuple):
    """How a call ended; true if it was accepted. ``call``: what goes on then, if both sides can."""

    call_id: str
    peer: str
    state: LocalInvitationState
    reason: EndReason | None
    error: LocalInvitationError
    response: Any = None
    call: Any = None

    def __bool__(self) -> bool:
        return self.state is LocalInvitationState.ACCEPTED_BY_REMOTE

    @property
    def accepted(self) -> bool:
        """Whether it was accepted."""
        return bool(self)


def body_of(
    value: Any, what: str, invitation: LocalInvitationBase | RemoteInvitationBase
) -> bytes | None:
    """``value`` encoded for a cell; INVALID_ARGUMENT, naming ``what``, if it cannot be."""
    if value is None:
        return None
    try:
        return codec.encode_body(value)
    except ValueError as error:
        raise InvitationApiCallError(
            InvitationApiCallErrorCode.INVALID_ARGUMENT,
            f"{what}: {error}",
            call_id=invitation.call_id,
            state=invitation.state,
        ) from None
