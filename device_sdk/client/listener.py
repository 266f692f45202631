"""What an application overrides to hear of its calls; the same for both clients."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeAlias

from ..errors import InvalidArgument
from ..states import (
    ConnectionChange,
    ConnectionState,
    EndReason,
    LocalInvitationError,
    RemoteInvitationError,
)
from .invitations import MissedCall

#: Of a code object (inspect.CO_COROUTINE).
CO_COROUTINE = 0x80

#: What a method returns: nothing at once, or, on asyncio, when it is awaited.
MaybeCoroutine: TypeAlias = Coroutine[Any, Any, None] | None
#: The invitations and ring group of the client at hand. An override names that client's own class,
#: ``device_sdk.RemoteInvitation`` or ``device_sdk.aio.RemoteInvitation``: a base class that named
#: one, or what both have in common, would forbid the other.
LocalInvitation: TypeAlias = Any
RemoteInvitation: TypeAlias = Any
RingGroup: TypeAlias = Any
Call: TypeAlias = Any


def check_listener(value: object) -> None:
    """Raise :class:`InvalidArgument` for what is no listener: it would hear nothing."""
    if not isinstance(value, CallEventListener):
        raise InvalidArgument("listener", f"a CallEventListener of yours, not {value!r}")


class CallEventListener:
    """Override what you want to hear; methods are called one at a time, in the order of events.

    Threads: on a thread of this listener's own; a method may block. asyncio: in a task
    of this listener's own; a method may be a coroutine function, and must not block the loop.
    An override annotates the invitation with its client's class (``RemoteInvitation``).
    Either way it may call anything of the client, and what it raises is logged with the call id.
    """

    def on_local_invitation_received_by_peer(self, invitation: LocalInvitation) -> MaybeCoroutine:
        """The callee rings."""

    def on_local_invitation_accepted(
        self, invitation: LocalInvitation, response: Any
    ) -> MaybeCoroutine:
        """The callee accepted, and this end has decided so."""

    def on_local_invitation_refused(
        self, invitation: LocalInvitation, response: Any
    ) -> MaybeCoroutine:
        """The callee refused; ``invitation.reason``: declined, busy or do not disturb."""

    def on_local_invitation_canceled(self, invitation: LocalInvitation) -> MaybeCoroutine:
        """It is canceled, and the broker has it."""

    def on_local_invitation_failure(
        self, invitation: LocalInvitation, error: LocalInvitationError
    ) -> MaybeCoroutine:
        """It failed; ``invitation.reason`` says more."""

    def on_local_invitation_peer_lost(
        self, invitation: LocalInvitation, reason: EndReason
    ) -> MaybeCoroutine:
        """A call that was accepted has nobody at its other end after all."""

    def on_local_invitation_peer_offline(self, invitation: LocalInvitation) -> MaybeCoroutine:
        """The callee is not there at this moment; it rings should it come back in time."""

    def on_ring_group_ended(self, group: RingGroup) -> MaybeCoroutine:
        """A ring group is over: ``group.outcome`` names the winner and each leg's end."""

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> MaybeCoroutine:
        """Somebody calls: ring."""

    def on_remote_invitation_accepted(self, invitation: RemoteInvitation) -> MaybeCoroutine:
        """The caller has decided: the call is accepted here."""

    def on_remote_invitation_refused(self, invitation: RemoteInvitation) -> MaybeCoroutine:
        """It is refused here."""

    def on_remote_invitation_canceled(self, invitation: RemoteInvitation) -> MaybeCoroutine:
        """The caller gave up, or somebody answered elsewhere: stop ringing."""

    def on_remote_invitation_failure(
        self, invitation: RemoteInvitation, error: RemoteInvitationError
    ) -> MaybeCoroutine:
        """It failed: stop ringing; ``invitation.reason`` says more."""

    def on_call_started(self, call: Call) -> MaybeCoroutine:
        """An accepted call goes on: both sides may speak in it, and hang up."""

    def on_call_message(self, call: Call, message: Any) -> MaybeCoroutine:
        """The other side said something: once, in its order, and only while the call goes on."""

    def on_call_ended(self, call: Call, reason: EndReason) -> MaybeCoroutine:
        """A call that went on is over, whoever ended it."""

    def on_missed_call(self, missed: MissedCall) -> MaybeCoroutine:
        """Somebody called, and it never rang here."""

    def on_presence_changed(self, peer: str, online: bool | None) -> MaybeCoroutine:
        """A watched peer came (True), went (False), or is unknown to the broker (None)."""

    def on_connection_state_changed(
        self, state: ConnectionState, change: ConnectionChange
    ) -> MaybeCoroutine:
        """How the client stands with its broker changed."""


def coroutine_methods(listener: CallEventListener) -> list[str]:
    """The names of its methods that only an event loop can run."""
    names = [name for name in vars(CallEventListener) if name.startswith("on_")]
    return [name for name in names if _is_coroutine(getattr(listener, name, None))]


def _is_coroutine(method: object) -> bool:
    code = getattr(method, "__code__", None)  # inspect.iscoroutinefunction would load all of ast
    return code is not None and bool(code.co_flags & CO_COROUTINE)
