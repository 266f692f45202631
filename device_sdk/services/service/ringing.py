"""Rings one peer or several for a button, and tells the loop how it went.

The doorbell's decisions know rings by number; here each becomes one invitation or several.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...client.display import say
from ...client.invitations import LocalInvitationBase as LocalInvitation
from ...client.listener import Call, CallEventListener
from ...client.ring_plan import GroupOutcome, RingGroupBase
from ...client.threaded import CallManager
from ...errors import BellwireError, InvitationApiCallError
from ...states import EndReason, LocalInvitationError, LocalInvitationState
from ..config.doorbell import Button, Strategy
from ..logic.doorbell import PressOutcome
from .link import Post

log = logging.getLogger("bellwire.pi")

#: Rings whose buttons are remembered; far more than can be underway at once.
_KEPT = 64

_OUTCOMES = {
    LocalInvitationState.ACCEPTED_BY_REMOTE: PressOutcome.ACCEPTED,
    LocalInvitationState.REFUSED_BY_REMOTE: PressOutcome.REFUSED,
    LocalInvitationState.CANCELED: PressOutcome.CANCELED,
}
#: Refusals that a service makes by itself.
_NO_PERSON = (EndReason.BUSY, EndReason.DO_NOT_DISTURB)


class RingEvents(Protocol):
    """What comes of a ring, on the loop's thread."""

    def on_acknowledged(self, ring: int, peer: str) -> None:
        """``peer`` has answered; it rings there, unless it turns the call away at once."""
        ...

    def on_turned_away(self, ring: int, peer: str) -> None:
        """``peer`` does not ring: no person said so."""
        ...

    def on_unreached(self, ring: int) -> None:
        """None of those it rings is there."""
        ...

    def on_ended(
        self, ring: int, outcome: PressOutcome, peer: str, response: object, *, busy: bool = False
    ) -> None:
        """The ring is over; ``peer``: who answered, if anybody did; ``busy``: in another call."""
        ...

    def on_call(self, call: Any, button: str) -> None:
        """The call that ``button`` rang for goes on."""
        ...

    def on_message(self, call: Any, message: object, heard_at: float) -> None:
        """The other side of that call says something; when, by the loop's clock."""
        ...

    def on_over(self, call: Any, reason: EndReason) -> None:
        """That call is over."""
        ...


@dataclass(slots=True)
class _OutgoingRing:
    number: int
    button: Button
    #: What the client gave us: an invitation, or a group of several.
    handle: Any
    #: Who is not there.
    away: set[str] = field(default_factory=set)


class Ringer(CallEventListener):
    """Owns the invitations of all rings. Everything but the ``on_…`` methods is the loop's."""

    def __init__(self, events: RingEvents, post: Post, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events = events
        self._post = post
        self._rings: dict[int, _OutgoingRing] = {}
        #: Ring numbers by group or call id, whichever the invitation has.
        self._numbers: dict[bytes | str, int] = {}
        #: And the buttons' names: a call goes on after its ring has ended.
        self._names: dict[bytes | str, str] = {}
        self.manager: CallManager | None = None

    def ring(self, number: int, button: Button, seconds: float) -> None:
        """Ring the button's peers: all at once, or one after the other with its share of time."""
        assert self.manager is not None  # noqa: S101 # set before the loop runs
        try:
            self._ring(number, button, seconds)
        except BellwireError as error:
            # A press is never silent, and never the end: nobody is rung, which is told and chimes.
            log.error("%s cannot ring: %s", button.name, error)
            self._rings.pop(number, None)
            self._post(lambda: self._events.on_ended(number, PressOutcome.NOBODY, "", None))

    def _ring(self, number: int, button: Button, seconds: float) -> None:
        assert self.manager is not None  # noqa: S101 # as above
        peers = button.peers
        handle: Any
        if len(peers) == 1:
            handle = self.manager.create_local_invitation(peers[0])
            handle.content, handle.channel_id = button.content, button.channel
            self._keep(number, button, handle, handle.call_id)
            self.manager.send_local_invitation(handle, seconds)
            return
        share = seconds if button.strategy is Strategy.PARALLEL else seconds / len(peers)
        handle = self.manager.ring(
            peers,
            button.content,
            channel_id=button.channel,
            strategy=button.strategy.value,
            leg_timeout=share,
        )
        self._keep(number, button, handle, handle.group)

    def stop(self, number: int) -> None:
        """Cancel that ring; its end is told as canceled."""
        assert self.manager is not None  # noqa: S101 # set before the loop runs
        ring = self._rings.get(number)
        if ring is None:
            return
        # It may have ended a moment ago; then its end is on its way.
        with contextlib.suppress(InvitationApiCallError):
            if len(ring.button.peers) == 1:
                self.manager.cancel_local_invitation(ring.handle)
            else:
                self.manager.cancel_ring(ring.handle)

    def _keep(self, number: int, button: Button, handle: Any, key: bytes | str) -> None:
        self._numbers[key] = number
        self._names[key] = button.name
        while len(self._names) > _KEPT:
            del self._names[next(iter(self._names))]
        self._rings[number] = _OutgoingRing(number, button, handle)

    def _ended(
        self, key: bytes | str, outcome: PressOutcome, peer: str, response: object, *, busy: bool
    ) -> None:
        number = self._numbers.pop(key, None)
        if number is not None and self._rings.pop(number, None) is not None:
            self._events.on_ended(number, outcome, peer, response, busy=busy)

    def _acknowledged(self, key: bytes | str, peer: str) -> None:
        number = self._numbers.get(key)
        if number is not None:
            self._events.on_acknowledged(number, peer)

    def _turned_away(self, key: bytes | str, peer: str) -> None:
        number = self._numbers.get(key)
        if number is not None:
            self._events.on_turned_away(number, peer)

    def _offline(self, key: bytes | str, peer: str) -> None:
        ring = self._rings.get(self._numbers.get(key, -1))
        if ring is not None:
            say(f"{ring.button.name}: {peer} is offline")
            ring.away.add(peer)
            if ring.away.issuperset(ring.button.peers):
                self._events.on_unreached(ring.number)

    # On the listener's thread: hand over.

    def on_local_invitation_peer_offline(self, invitation: LocalInvitation) -> None:
        """See :class:`CallEventListener`."""
        key, peer = invitation.group or invitation.call_id, invitation.callee_id
        self._post(lambda: self._offline(key, peer))

    def on_local_invitation_received_by_peer(self, invitation: LocalInvitation) -> None:
        """See :class:`CallEventListener`."""
        key, peer = invitation.group or invitation.call_id, invitation.callee_id
        self._post(lambda: self._acknowledged(key, peer))

    def on_local_invitation_accepted(self, invitation: LocalInvitation, response: Any) -> None:
        """See :class:`CallEventListener`."""
        self._over(invitation, PressOutcome.ACCEPTED, response)

    def on_local_invitation_refused(self, invitation: LocalInvitation, response: Any) -> None:
        """See :class:`CallEventListener`."""
        if invitation.reason in _NO_PERSON:
            self._away(invitation)
        self._over(invitation, PressOutcome.REFUSED, response)

    def on_local_invitation_canceled(self, invitation: LocalInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._over(invitation, PressOutcome.CANCELED)

    def on_local_invitation_failure(
        self,
        invitation: LocalInvitation,
        error: LocalInvitationError,  # noqa: ARG002 # the listener's signature
    ) -> None:
        """See :class:`CallEventListener`."""
        self._away(invitation)
        self._over(invitation, PressOutcome.NOBODY)

    def on_local_invitation_peer_lost(self, invitation: LocalInvitation, reason: EndReason) -> None:
        """See :class:`CallEventListener`. The visitor has been told already; the log has it."""

    def on_ring_group_ended(self, group: RingGroupBase) -> None:
        """See :class:`CallEventListener`. Of several the whole counts, not each leg."""
        outcome, peer, response = outcome_of_group(group.outcome)
        busy = group.outcome.reason is EndReason.BUSY
        self._post(lambda: self._ended(group.group, outcome, peer, response, busy=busy))

    def on_call_started(self, call: Call) -> None:
        """See :class:`CallEventListener`."""
        key = call.invitation.group or call.call_id
        self._post(lambda: self._events.on_call(call, self._names.get(key, "")))

    def on_call_message(self, call: Call, message: Any) -> None:
        """See :class:`CallEventListener`."""
        heard_at = self._clock()
        self._post(lambda: self._events.on_message(call, message, heard_at))

    def on_call_ended(self, call: Call, reason: EndReason) -> None:
        """See :class:`CallEventListener`."""
        self._post(lambda: self._events.on_over(call, reason))

    def _away(self, invitation: LocalInvitation) -> None:
        key, peer = invitation.group or invitation.call_id, invitation.callee_id
        self._post(lambda: self._turned_away(key, peer))

    def _over(
        self, invitation: LocalInvitation, outcome: PressOutcome, response: object = None
    ) -> None:
        if invitation.group is None:
            key, peer = invitation.call_id, invitation.callee_id
            who = peer if outcome in (PressOutcome.ACCEPTED, PressOutcome.REFUSED) else ""
            busy = outcome is PressOutcome.REFUSED and invitation.reason is EndReason.BUSY
            self._post(lambda: self._ended(key, outcome, who, response, busy=busy))


def outcome_of_group(whole: GroupOutcome) -> tuple[PressOutcome, str, object]:
    """What a doorbell tells of a ring group: outcome, who answered, and what."""
    leg = whole.decisive
    if whole.canceled or leg is None:
        return (PressOutcome.CANCELED if whole.canceled else PressOutcome.NOBODY), "", None
    outcome = _OUTCOMES.get(leg.state, PressOutcome.NOBODY)
    who = leg.peer if outcome in (PressOutcome.ACCEPTED, PressOutcome.REFUSED) else ""
    return outcome, who, leg.response
