"""A call that goes on after *accepted*, as an application holds it (docs/protocol.md, Talk).

Both clients share this; a client adds how to wait. Its fields may be read from any thread. A call
ends once; one that is over stays readable, and what is asked of it is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.effects import HangUp, SayMessage
from ..core.wire.talk_cells import encode_message
from ..errors import ClientClosed, InvalidArgument, InvitationApiCallError
from ..states import CallState, EndReason, InvitationApiCallErrorCode

#: What an application may hang up with: the others are found out, not said.
HANG_UP_REASONS = (EndReason.HUNG_UP, EndReason.TIME_UP)


class CallBase:
    """One side of a call that goes on.

    ``peer``: the other side; ``call_id``: that of its ``invitation``, which ended with *accepted*.
    """

    #: Whose it is; set by the client that made it.
    _client: Any
    #: Lets go on who waits for its end.
    _wake: Callable[[], None]

    def __init__(self, peer: str, call_id: str, invitation: Any, *, made: bool) -> None:
        self.peer = peer
        self.call_id = call_id
        self.invitation = invitation
        self._made = made
        self._reason: EndReason | None = None

    @property
    def state(self) -> CallState:
        """Whether it goes on."""
        return CallState.UP if self._reason is None else CallState.OVER

    @property
    def reason(self) -> EndReason | None:
        """Why it is over, in a word; None before."""
        return self._reason

    @property
    def ended(self) -> bool:
        """Whether its end was told."""
        return self._reason is not None

    def __repr__(self) -> str:
        return f"<Call {self.call_id} with {self.peer!r} {self.state.name}>"

    def _say(self, message: Any) -> None:
        try:
            data = encode_message(message)
        except ValueError as error:
            raise InvalidArgument("message", str(error)) from None
        self._command(SayMessage(self.peer, self.call_id, self._made, data))

    def _end(self, reason: EndReason | str) -> None:
        known = next((word for word in HANG_UP_REASONS if word == reason), None)
        if known is None:
            words = " or ".join(repr(str(word)) for word in HANG_UP_REASONS)
            raise InvalidArgument("reason", f"{words}, not {reason!r}")
        self._command(HangUp(self.peer, self.call_id, self._made, known))

    def _command(self, what: SayMessage | HangUp) -> None:
        try:
            if not self.ended:
                self._client._command(what)
                return
        except ClientClosed:
            if not self.ended:
                raise
        raise InvitationApiCallError(
            InvitationApiCallErrorCode.ALREADY_END,
            f"the call is over ({self._reason})",
            call_id=self.call_id,
            state=self.state,
        )
