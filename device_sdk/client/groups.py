"""The part of a client that rings several peers for one answer; the plan is ``ring_group``'s."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

from ..core.events import Name
from ..core.settings import Settings
from ..core.wire.cells import GROUP_BYTES
from ..errors import ClientClosed, InvalidArgument, InvitationApiCallError
from ..states import InvitationApiCallErrorCode, LocalInvitationState
from .dispatch import L, R
from .feeding import Feeding
from .invitations import Event, body_of, value_of
from .ring_plan import LEG_ACK_TIMEOUT, LEG_TIMEOUT, RingGroupBase, RingPlan


class Ringing(Feeding[L, R]):
    """Ring groups underway, by the id that their legs share."""

    _group: type[RingGroupBase]

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id)
        self._groups: dict[bytes, RingGroupBase] = {}

    # --- for the client to fill in -------------------------------------------------------------

    def create(self, callee_id: str, group: bytes | None = None) -> L:
        """Make an invitation, IDLE."""
        raise NotImplementedError

    def send(
        self,
        invitation: L,
        ring_timeout: float | None = None,
        ack_timeout: float | None = None,
    ) -> None:
        """Send an invitation that is IDLE; time-outs in seconds, None for the settings."""
        raise NotImplementedError

    def cancel(self, invitation: L) -> None:
        """Cancel an invitation that is underway."""
        raise NotImplementedError

    # --- groups ------------------------------------------------------------------------------

    def ring_all(
        self,
        peers: Iterable[str],
        content: Any = None,
        *,
        channel_id: str | None = None,
        strategy: str = "parallel",
        leg_timeout: float | None = None,
    ) -> RingGroupBase:
        """Ring several peers for one answer, as ``call_manager.ring``; raises what that raises.

        :class:`InvalidArgument`, :class:`InvitationApiCallError`, :class:`ClientClosed`.
        """
        plan = RingPlan(peers, strategy)
        if leg_timeout is None and plan.sequential:
            leg_timeout = LEG_TIMEOUT
        for peer in plan.peers:  # all of them must do before any rings
            leg = self.create(peer)
            leg.content, leg.channel_id = content, channel_id
        # As it is now: the app may change it before the last leg is sent.
        content = value_of(body_of(content, "content", leg))
        if leg_timeout is not None:
            Settings(ring_timeout=leg_timeout)
        group = self._group(plan, os.urandom(GROUP_BYTES))
        group._leg = (content, channel_id, leg_timeout)
        try:
            with self._supervised:
                self._read_clocks()
                with self._holding():
                    self._start_group(group)
        except BaseException:  # Ctrl-C when some ring already
            with contextlib.suppress(Exception):
                self.cancel_group(group)
            if group._plan.over:
                self._groups.pop(group.group, None)
            raise
        return group

    def _start_group(self, group: RingGroupBase) -> None:
        if self._session is not None and self._session.closed:
            raise self._closed_error()
        self._groups[group.group] = group
        self._ring_legs(group, group._plan.start())
        self._perform()

    def cancel_group(self, group: RingGroupBase) -> None:
        """Cancel a ring group: ring nobody else, cancel what rings.

        Raises :class:`InvitationApiCallError` (ALREADY_END), :class:`InvalidArgument`,
        :class:`ClientClosed`.
        """
        if not isinstance(group, RingGroupBase):
            raise InvalidArgument("group", f"what ring() gave, not {group!r}")
        with self._supervised:
            self._read_clocks()
            with self._holding():
                if group.ended:
                    raise InvitationApiCallError(
                        InvitationApiCallErrorCode.ALREADY_END, "the ring group has ended"
                    )
                for peer in group._plan.cancel():
                    with contextlib.suppress(InvitationApiCallError):  # its end is on its way
                        self.cancel(group.legs[peer])  # type: ignore[arg-type]  # made by create

    def _ring_legs(self, group: RingGroupBase, peers: list[str]) -> None:
        content, channel_id, timeout = group._leg
        for peer in peers:
            group._plan.sending(peer)
            leg = group.legs[peer] = self.create(peer, group.group)
            leg.content, leg.channel_id = content, channel_id
            try:
                self.send(leg, timeout, LEG_ACK_TIMEOUT if group._plan.sequential else None)
            except BaseException:
                if leg.state is LocalInvitationState.IDLE:
                    group._plan.never_rang(peer)
                    del group.legs[peer]
                raise

    def _leg_ended(self, leg: L) -> None:
        group = self._groups.get(leg.group or b"")
        if group is None:
            return
        try:
            with self._holding():
                self._ring_legs(group, group._plan.ended(leg.outcome))
        except ClientClosed:  # logged out, or replaced: there will be no other leg
            group._plan.give_up()
        if group._plan.over and not group.ended:
            self._end_group(group)

    def _drop_groups(self) -> None:
        """End what is left of groups: no leg of theirs can tell its end any more."""
        for group in list(self._groups.values()):
            group._plan.give_up()
            self._end_group(group)

    def _end_group(self, group: RingGroupBase) -> None:
        self._groups.pop(group.group, None)
        group._ended = True
        group._wake()
        outcome = group.outcome
        self._deliver(Event(Name.RING_GROUP_ENDED, (group,), group, peer=outcome.winner or "",
                            reason=outcome.reason, response=outcome.response))  # fmt: skip
