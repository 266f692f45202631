"""What an application overrides to hear of its calls; the same for both faces."""

from __future__ import annotations

from typing import Any

from .invitations import LocalInvitationBase, MissedCall, RemoteInvitationBase
from .ring_group import RingGroupBase
from .states import (
    ConnectionChange,
    ConnectionState,
    EndReason,
    LocalInvitationError,
    RemoteInvitationError,
)


class CallEventListener:
    """Override what you want to hear; methods are called one at a time, in the order of events.

    Threaded face: on a thread of this listener's own; a method may block. asyncio face: in a task
    of this listener's own; a method may be a coroutine function, and must not block the loop.
    Either way it may call anything of the client, and what it raises is logged with the call id.
    """

    def on_local_invitation_received_by_peer(self, invitation: LocalInvitationBase) -> None:
        """The callee rings."""

    def on_local_invitation_accepted(self, invitation: LocalInvitationBase, response: Any) -> None:
        """The callee accepted, and this end has decided so."""

    def on_local_invitation_refused(self, invitation: LocalInvitationBase, response: Any) -> None:
        """The callee refused; ``invitation.reason``: declined, busy or do not disturb."""

    def on_local_invitation_canceled(self, invitation: LocalInvitationBase) -> None:
        """It is canceled, and the broker has it."""

    def on_local_invitation_failure(
        self, invitation: LocalInvitationBase, error: LocalInvitationError
    ) -> None:
        """It failed; ``invitation.reason`` says more."""

    def on_local_invitation_peer_lost(
        self, invitation: LocalInvitationBase, reason: EndReason
    ) -> None:
        """A call that was accepted has nobody at its other end after all."""

    def on_ring_group_ended(self, group: RingGroupBase) -> None:
        """A ring group is over: ``group.outcome`` names the winner and each leg's end."""

    def on_remote_invitation_received(self, invitation: RemoteInvitationBase) -> None:
        """Somebody calls: ring."""

    def on_remote_invitation_accepted(self, invitation: RemoteInvitationBase) -> None:
        """The caller has decided: the call is accepted here."""

    def on_remote_invitation_refused(self, invitation: RemoteInvitationBase) -> None:
        """It is refused here."""

    def on_remote_invitation_canceled(self, invitation: RemoteInvitationBase) -> None:
        """The caller gave up, or somebody answered elsewhere: stop ringing."""

    def on_remote_invitation_failure(
        self, invitation: RemoteInvitationBase, error: RemoteInvitationError
    ) -> None:
        """It failed: stop ringing; ``invitation.reason`` says more."""

    def on_missed_call(self, missed: MissedCall) -> None:
        """Somebody called, and it never rang here."""

    def on_presence_changed(self, peer: str, online: bool | None) -> None:
        """A watched peer came (True), went (False), or is unknown to the broker (None)."""

    def on_connection_state_changed(self, state: ConnectionState, change: ConnectionChange) -> None:
        """How the client stands with its broker changed."""
