"""Rings one peer or several for a button, and tells the loop how it went.

The doorbell's decisions know rings by number; here each becomes one invitation or several.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..client import CallManager
from ..errors import InvitationApiCallError
from ..invitations import LocalInvitationBase as LocalInvitation
from ..listener import CallEventListener
from ..states import EndReason, LocalInvitationError
from .doorbell import Outcome
from .doorbell_settings import Button, Strategy
from .link import Post


class RingEvents(Protocol):
    """What comes of a ring, on the loop's thread."""

    def on_acknowledged(self, ring: int) -> None:
        """A panel rings."""
        ...

    def on_ended(self, ring: int, outcome: Outcome, peer: str, response: object) -> None:
        """The ring is over; ``peer`` is who answered, if anybody did."""
        ...


@dataclass(slots=True)
class _Ring:
    number: int
    button: Button
    ends_at: float
    waiting: list[str]
    legs: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = Outcome.NOBODY
    canceled: bool = False


class Ringer(CallEventListener):
    """Owns the invitations of all rings. Everything but the ``on_…`` methods is the loop's."""

    def __init__(self, events: RingEvents, post: Post, clock: Callable[[], float]) -> None:
        self._events = events
        self._post = post
        self._clock = clock
        self._rings: dict[int, _Ring] = {}
        self._calls: dict[str, int] = {}
        self.manager: CallManager | None = None

    def ring(self, number: int, button: Button, seconds: float) -> None:
        """Ring the button's peers: all at once, or one after the other with its share of time."""
        ring = _Ring(number, button, self._clock() + seconds, list(button.peers))
        self._rings[number] = ring
        share = seconds if button.strategy is Strategy.PARALLEL else seconds / len(button.peers)
        self._next(ring, share)
        if not ring.legs:
            self._end(ring, Outcome.NOBODY)

    def stop(self, number: int) -> None:
        """Cancel that ring; its end is told as canceled."""
        ring = self._rings.get(number)
        if ring is not None:
            ring.canceled = True
            ring.waiting.clear()
            self._cancel(ring)

    def _next(self, ring: _Ring, seconds: float) -> None:
        assert self.manager is not None  # noqa: S101 # set before the loop runs
        parallel = ring.button.strategy is Strategy.PARALLEL
        while ring.waiting and (parallel or not ring.legs):
            peer = ring.waiting.pop(0)
            invitation = self.manager.create_local_invitation(peer)
            invitation.content = ring.button.content
            invitation.channel_id = ring.button.channel
            ring.legs[invitation.call_id] = invitation
            self._calls[invitation.call_id] = ring.number
            self.manager.send_local_invitation(invitation, seconds)

    def _cancel(self, ring: _Ring) -> None:
        assert self.manager is not None  # noqa: S101 # set before the loop runs
        for invitation in list(ring.legs.values()):
            # It may have ended a moment ago; then its end is on its way.
            with contextlib.suppress(InvitationApiCallError):
                self.manager.cancel_local_invitation(invitation)

    def _leg_ended(
        self, call_id: str, outcome: Outcome, peer: str = "", response: object = None
    ) -> None:
        ring = self._rings.get(self._calls.pop(call_id, -1))
        if ring is None:
            return
        ring.legs.pop(call_id, None)
        if outcome is Outcome.ACCEPTED:
            ring.waiting.clear()
            self._end(ring, outcome, peer, response)
            self._cancel(ring)
            return
        if outcome is Outcome.REFUSED:
            ring.outcome = outcome
        if ring.waiting and not ring.legs:
            left = ring.ends_at - self._clock()
            if left > 0:
                self._next(ring, left / len(ring.waiting))
        if not ring.legs:
            self._end(ring, Outcome.CANCELED if ring.canceled else ring.outcome, peer, response)

    def _end(self, ring: _Ring, outcome: Outcome, peer: str = "", response: object = None) -> None:
        del self._rings[ring.number]
        self._events.on_ended(ring.number, outcome, peer, response)

    def _acknowledged(self, call_id: str) -> None:
        ring = self._calls.get(call_id)
        if ring is not None:
            self._events.on_acknowledged(ring)

    # On the listener's thread: hand over.

    def on_local_invitation_received_by_peer(self, invitation: LocalInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._post(lambda: self._acknowledged(invitation.call_id))

    def on_local_invitation_accepted(self, invitation: LocalInvitation, response: Any) -> None:
        """See :class:`CallEventListener`."""
        self._over(invitation, Outcome.ACCEPTED, response)

    def on_local_invitation_refused(self, invitation: LocalInvitation, response: Any) -> None:
        """See :class:`CallEventListener`."""
        self._over(invitation, Outcome.REFUSED, response)

    def on_local_invitation_canceled(self, invitation: LocalInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._over(invitation, Outcome.CANCELED)

    def on_local_invitation_failure(
        self,
        invitation: LocalInvitation,
        error: LocalInvitationError,  # noqa: ARG002 # the listener's signature
    ) -> None:
        """See :class:`CallEventListener`."""
        self._over(invitation, Outcome.NOBODY)

    def on_local_invitation_peer_lost(self, invitation: LocalInvitation, reason: EndReason) -> None:
        """See :class:`CallEventListener`. The visitor has been told already; the log has it."""

    def _over(self, invitation: LocalInvitation, outcome: Outcome, response: object = None) -> None:
        call_id, peer = invitation.call_id, invitation.callee_id
        self._post(lambda: self._leg_ended(call_id, outcome, peer, response))
