"""What a client tells of calls that come in, from the listener's thread to the loop's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ...client.invitations import MissedCall
from ...client.invitations import RemoteInvitationBase as RemoteInvitation
from ...client.listener import Call, CallEventListener
from ...states import EndReason, RemoteInvitationError
from ..logic.panel import CallEnd
from .loop import Loop


class IncomingCalls(CallEventListener, ABC):
    """The ``on_…`` methods hand over; the others are called by the loop, in the same order."""

    _loop: Loop

    @abstractmethod
    def _received(self, invitation: RemoteInvitation) -> None:
        """Somebody rings."""

    @abstractmethod
    def _over(self, invitation: RemoteInvitation, end: CallEnd) -> None:
        """That invitation is over."""

    @abstractmethod
    def _missed_call(self, missed: MissedCall) -> None:
        """Somebody rang, and it was never heard here."""

    @abstractmethod
    def _call_started(self, call: Call) -> None:
        """An accepted call goes on."""

    @abstractmethod
    def _call_message(self, call: Call, message: Any) -> None:
        """The other side says something."""

    @abstractmethod
    def _call_ended(self, call: Call, reason: EndReason) -> None:
        """That call is over."""

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._received(invitation))

    def on_remote_invitation_accepted(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._over(invitation, CallEnd.ACCEPTED))

    def on_remote_invitation_refused(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`. What nobody here said no to is a call missed.

        *Busy* and *do not disturb* are the service's own words: the visitor was not heard.
        """
        declined = invitation.reason is EndReason.DECLINED
        end = CallEnd.REFUSED if declined else CallEnd.MISSED
        self._loop.post(lambda: self._over(invitation, end))

    def on_remote_invitation_canceled(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`. Canceled before anybody came is a call missed."""
        elsewhere = invitation.reason is EndReason.ANSWERED_ELSEWHERE
        end = CallEnd.ANSWERED_ELSEWHERE if elsewhere else CallEnd.MISSED
        self._loop.post(lambda: self._over(invitation, end))

    def on_remote_invitation_failure(
        self, invitation: RemoteInvitation, error: RemoteInvitationError
    ) -> None:
        """See :class:`CallEventListener`."""
        failed = error is RemoteInvitationError.ACCEPT_FAILURE
        self._loop.post(
            lambda: self._over(invitation, CallEnd.FAILED if failed else CallEnd.MISSED)
        )

    def on_missed_call(self, missed: MissedCall) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._missed_call(missed))

    def on_call_started(self, call: Call) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._call_started(call))

    def on_call_message(self, call: Call, message: Any) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._call_message(call, message))

    def on_call_ended(self, call: Call, reason: EndReason) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._call_ended(call, reason))
