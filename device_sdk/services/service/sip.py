"""``bellwire sip``: the decisions of ``sip`` wired to a client and to baresip."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ...client.display import say, shown
from ...client.invitations import MissedCall
from ...client.invitations import RemoteInvitationBase as RemoteInvitation
from ...client.listener import Call
from ...core.wire.cells import AnswerReason
from ...errors import ClientClosed, InvitationApiCallError
from ...states import EndReason
from ..config.sip import SipSettings
from ..gpio.pins import Pins
from ..logic.appliance import EndCall, SayInCall
from ..logic.messages import result_of_open, text_of
from ..logic.notice import ServiceEvent
from ..logic.panel import AcceptCall, CallEnd, RefuseCall
from ..logic.sip import Decision, DialSip, HangUpSip, PhoneRings, SipBridge
from .appliance import Appliance
from .baresip import Baresip
from .incoming import IncomingCalls
from .link import ClientRunner
from .loop import Loop
from .sd_notify import Notifier


class SipService(Appliance[str, Decision], IncomingCalls):
    """One SIP phone as a peer; see :class:`~.appliance.Appliance`.

    What the client tells is handed over to the loop by :class:`~.incoming.IncomingCalls`.
    """

    def __init__(
        self,
        settings: SipSettings,
        pins: Pins,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., ClientRunner] = ClientRunner,
    ) -> None:
        self._settings = settings
        self.bridge = SipBridge(talk_limit=settings.account.talk_limit, open_key=settings.open_key)
        self._invitations: dict[str, Any] = {}
        super().__init__(
            settings.account, {}, self.bridge, self, pins, loop, notifier, make_link, settings.on
        )
        self._baresip = Baresip(settings.host, settings.port, self, loop.post)
        self._baresip.start()

    def _show(self) -> None:
        """It has no lights."""

    def _close(self) -> None:
        self._baresip.stop()

    # --- what baresip tells, on the loop -----------------------------------------------------

    def on_baresip(self, there: bool) -> None:
        """See :class:`~.baresip.SipEvents`."""
        say(f"baresip is {'there' if there else 'gone'}")
        self._do(self.bridge.connected() if there else self.bridge.disconnected())

    def on_dialed(self, why: str) -> None:
        """See :class:`~.baresip.SipEvents`."""
        self._do(self.bridge.dialed(why))

    def on_hung_up(self) -> None:
        """See :class:`~.baresip.SipEvents`."""
        self._do(self.bridge.hung_up())

    def on_sip_event(self, kind: str, parameter: str) -> None:
        """See :class:`~.baresip.SipEvents`."""
        self._do(self.bridge.event(kind, parameter))

    # --- what the client tells, on the loop --------------------------------------------------

    def _received(self, invitation: RemoteInvitation) -> None:
        call, caller = invitation.call_id, invitation.caller_id
        self._invitations[call] = invitation
        say(f"{caller} calls the phone")
        self._do(self.bridge.call(call, caller))

    def _over(self, invitation: RemoteInvitation, end: CallEnd) -> None:
        call = invitation.call_id
        self._invitations.pop(call, None)
        say(f"call of {invitation.caller_id}: {end}")
        goes_on = end is CallEnd.ACCEPTED and invitation._talk is not None
        self._do(self.bridge.ended(call, end, self._loop.now(), goes_on=goes_on))
        self._happened(end, call_id=call, peer=invitation.caller_id, content=invitation.content)

    def _missed_call(self, missed: MissedCall) -> None:
        say(f"missed: {missed.caller_id}")
        self._happened(
            CallEnd.MISSED, call_id=missed.call_id, peer=missed.caller_id, content=missed.content
        )

    def _call_started(self, call: Call) -> None:
        self._talks.add(call, self._loop.now())
        self._do(self.bridge.call_started(call.call_id))

    def _call_message(self, call: Call, message: Any) -> None:
        if (text := text_of(message)) is not None:
            say(f"{call.peer} says: {shown(text)}")
        if (result := result_of_open(message)) is not None:
            say(f"door of {call.peer}: {'open' if result.ok else f'not opened: {result.why}'}")

    def _call_ended(self, call: Call, reason: EndReason) -> None:
        now = self._loop.now()
        talk = self._talks.end(call, reason, now)
        say(f"call with {call.peer} is over: {reason}")
        self._do(self.bridge.call_ended(call.call_id, now))
        self._happened(ServiceEvent.CALL_ENDED, **talk.facts)

    # --- what goes out -----------------------------------------------------------------------

    def _perform(self, effect: Decision) -> None:
        if isinstance(effect, DialSip):
            self._baresip.dial(self._settings.uri)
        elif isinstance(effect, HangUpSip):
            self._baresip.hang_up()
        elif isinstance(effect, SayInCall):
            self._talks.send(effect.call, effect.message)
        elif isinstance(effect, EndCall):
            self._talks.hang_up(effect.call)
        elif isinstance(effect, PhoneRings):
            self._phone_rings(effect.call)
        else:
            self._answer(effect)

    def _phone_rings(self, call: str) -> None:
        # It is over, with its end on the way here, if that is not known any more.
        if (invitation := self._invitations.get(call)) is not None:
            peer, content = invitation.caller_id, invitation.content
            say(f"the phone rings for {peer}")
            self._happened(ServiceEvent.RINGING, call_id=call, peer=peer, content=content)

    def _answer(self, effect: AcceptCall | RefuseCall) -> None:
        manager = self._link.client.call_manager
        # What ended a moment ago is told by its own event.
        with contextlib.suppress(InvitationApiCallError, ClientClosed, KeyError):
            invitation = self._invitations[effect.call]
            if isinstance(effect, AcceptCall):
                manager.accept_remote_invitation(invitation, self._settings.response)
            else:
                reason = AnswerReason.BUSY if effect.busy else AnswerReason.DECLINED
                manager.refuse_remote_invitation(invitation, reason=reason)
