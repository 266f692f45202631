"""``bellwire homeassistant``: the bridge's decisions wired to its two connections."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ...client.display import say
from ...client.invitations import MissedCall
from ...client.invitations import RemoteInvitationBase as RemoteInvitation
from ...client.listener import Call, CallEventListener, RingGroup
from ...client.logs import Log
from ...errors import BellwireError
from ...link.base import Will
from ...link.paho import PahoLink
from ...link.url import BrokerUrl
from ...states import EndReason, RemoteInvitationError
from ..config.homeassistant import HomeAssistantSettings
from ..service.appliance import Exit, LinkState
from ..service.link import ClientRunner
from ..service.loop import Loop
from ..service.sd_notify import Notifier
from ..service.talks import Talks
from .bridge import Bridge
from .buttons import MqttPresses
from .discovery import HaCall
from .door import as_json_bytes
from .effects import AcceptHa, HaEffect, HangUpHa, LogIn, NoteHa, PublishHa, RefuseHa, SayHa
from .mqtt import HaConnection, HaEvents

log = Log("bellwire.pi")


class HomeAssistantService(CallEventListener, HaEvents):
    """The bridge; everything but the listener's methods runs on the loop."""

    def __init__(
        self,
        settings: HomeAssistantSettings,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., ClientRunner] = ClientRunner,
        version: str = "",
    ) -> None:
        self._settings, self._loop, self._notifier = settings, loop, notifier
        names = settings.names
        self.bridge = Bridge(names, settings.doors, version, settings.response)
        self._presses = MqttPresses(settings.buttons)
        self._talks = Talks()
        self._invitations: dict[str, Any] = {}
        self._groups: dict[bytes, int] = {}
        self._watched: set[str] = set()
        self._started = False
        self._ha_trouble = ""
        self._state = LinkState(settings.account.peer, settings.account.broker, notifier, loop)
        self._link = make_link(settings.account, self, self, loop.post)
        topics = dict.fromkeys(button.topic for button in settings.buttons)
        self._ha = HaConnection(
            self._connection,
            Will(names.status, b"offline"),
            (names.door("x", "call").replace("/x/", "/+/"),
             names.door("x", "command").replace("/x/", "/+/"),
             names.read_mark, names.last_status, names.ha_status, *topics),
            self,
            loop.post,
        )  # fmt: skip

    def run(self) -> int:
        """Serve until the loop is stopped; the exit code."""
        try:
            self._notifier.status(f"waiting for {self._settings.mqtt.broker}")
            self._ha.start()
            self._loop.pulse = self._pulse
            return self._loop.run(self._tick, lambda: self.bridge.deadline)
        finally:
            self._notifier.stopping()
            if self._started:
                self._link.stop()
            self._ha.publish(self._settings.names.status, b"offline", True)
            self._ha.stop()

    def _pulse(self, beat: Callable[[], None]) -> None:
        """Both connections' threads must turn for the watchdog to be fed."""
        if self._started:
            self._ha.pulse(lambda: self._link.pulse(beat))
        else:
            self._ha.pulse(beat)

    def _connection(self, will: Will) -> PahoLink:
        account = self._settings.mqtt
        url = BrokerUrl.parse(account.broker)
        tls = account.tls()
        return PahoLink(
            url, self._settings.names.client_id, will,
            keepalive=account.keepalive, username=account.username, password=account.password(),
            context=None if tls is None else tls.make_context(),
        )  # fmt: skip

    def _tick(self) -> None:
        self.bridge.tick(self._loop.now())
        self._perform()

    # --- what is to be done ------------------------------------------------------------------

    def _perform(self) -> None:
        for effect in self.bridge.effects():
            if isinstance(effect, PublishHa):
                self._ha.publish(effect.topic, effect.payload, effect.retain, effect.token)
            elif isinstance(effect, NoteHa):
                log.log(logging.WARNING if effect.warning else logging.INFO, "%s", effect.text)
            elif isinstance(effect, LogIn):
                self._started = True
                self._link.start()
            else:
                self._in_call(effect)

    def _in_call(self, effect: HaEffect) -> None:
        if isinstance(effect, AcceptHa | RefuseHa):
            invitation = self._invitations.get(effect.call_id)
            if invitation is None:
                return  # its end is on its way
            manager = self._link.client.call_manager
            try:
                if isinstance(effect, AcceptHa):
                    manager.accept_remote_invitation(invitation, effect.response)
                else:
                    manager.refuse_remote_invitation(invitation, effect.response)
            except BellwireError as error:
                self.bridge.failed(invitation.caller_id, effect.call_id, str(error))
        elif isinstance(effect, SayHa):
            if why := self._talks.send(effect.call_id, effect.message):
                self.bridge.failed(self._peer_of(effect.call_id), effect.call_id, why)
        elif isinstance(effect, HangUpHa):
            self._talks.hang_up(effect.call_id)

    def _peer_of(self, call_id: str) -> str:
        found = self._invitations.get(call_id)
        return "" if found is None else str(found.caller_id)

    # --- Home Assistant's side ---------------------------------------------------------------

    def on_ha_up(self) -> None:
        """See :class:`HaEvents`."""
        self._ha_trouble = ""
        say(f"connected to Home Assistant's broker, {self._settings.mqtt.broker}")
        self.bridge.link_up(self._loop.now())
        self._perform()

    def on_ha_down(self, problem: str) -> None:
        """See :class:`HaEvents`."""
        self.bridge.link_down()
        if problem != self._ha_trouble:
            self._ha_trouble = problem
            log.warning("Home Assistant's broker: %s; trying again", problem)
            self._notifier.status(f"Home Assistant's broker: {problem}")

    def on_ha_message(self, topic: str, payload: bytes, retained: bool) -> None:
        """See :class:`HaEvents`."""
        now = self._loop.now()
        self.bridge.message(topic, payload, retained=retained, now=now)
        for number in self._presses.message(topic, payload, retained=retained, now=now):
            self._ring(number)
        self._perform()

    def on_ha_acknowledged(self, token: int) -> None:
        """See :class:`HaEvents`."""
        self.bridge.acknowledged(token)

    def on_ha_failed(self, error: BaseException) -> None:
        """See :class:`HaEvents`."""
        log.error("the connection to Home Assistant's broker has failed; ending", error=error)
        self._loop.stop(Exit.FAILED)

    def _ring(self, number: int) -> None:
        button = self._settings.buttons[number]
        say(f"{button.name}: rings {', '.join(button.peers)}")
        try:
            if not self._started:
                raise BellwireError("not logged in yet")
            group = self._link.client.call_manager.ring(
                button.peers, button.content, leg_timeout=button.ring_time
            )
        except BellwireError as error:
            self._presses.ended(number)
            self._tell_button(number, {"outcome": "failed", "why": str(error)})
        else:
            self._groups[group.group] = number

    def _rung(self, group: Any) -> None:
        number = self._groups.pop(group.group, None)
        if number is None:
            return
        self._presses.ended(number)
        outcome = group.outcome
        leg = outcome.decisive
        self._tell_button(number, {
            "outcome": str(outcome.reason).replace(" ", "_"),
            "by": outcome.winner or (leg.peer if leg is not None and leg.response else ""),
            "response": outcome.response if leg is None else leg.response,
        })  # fmt: skip

    def _tell_button(self, number: int, facts: dict[str, Any]) -> None:
        button = self._settings.buttons[number]
        say(f"{button.name}: {facts['outcome'].replace('_', ' ')}")
        payload = as_json_bytes({"button": button.name, **facts})
        self._ha.publish(button.outcome_topic, payload, False)

    # --- Bellwire's link, on the loop --------------------------------------------------------

    def on_link(self, online: bool, broker: str = "") -> None:
        """See :class:`~..service.link.LinkEvents`."""
        if self._state.online(online, broker):
            self.bridge.bellwire(online, self._loop.now())
            if online:
                self._watch()
            self._perform()

    def _watch(self) -> None:
        for peer in self.bridge.known_doors:
            if peer not in self._watched:
                try:
                    self._link.client.watch(peer)
                except BellwireError as error:
                    log.warning("whether %s is there is not known: %s", peer, error)
                else:
                    self._watched.add(peer)

    def on_trouble(self, problem: str) -> None:
        """See :class:`~..service.link.LinkEvents`."""
        self._state.trouble(problem)

    def on_superseded(self) -> None:
        """See :class:`~..service.link.LinkEvents`."""
        self._state.superseded()

    def on_lost(self, problem: str = "") -> None:
        """See :class:`~..service.link.LinkEvents`."""
        self._state.lost(problem)

    # --- calls, on the loop ------------------------------------------------------------------

    def _do(self, call: Callable[[float], None]) -> None:
        def run() -> None:
            call(self._loop.now())
            self._perform()

        self._loop.post(run)

    def _received(self, invitation: RemoteInvitation, now: float) -> None:
        self._invitations[invitation.call_id] = invitation
        say(f"{invitation.caller_id} rings")
        self.bridge.rang(
            invitation.caller_id, invitation.call_id, invitation.content, _now_text(), now
        )
        self._watch()

    def _over(self, invitation: RemoteInvitation, how: HaCall) -> None:
        goes_on = how is HaCall.ANSWERED and invitation._talk is not None
        say(f"call of {invitation.caller_id}: {how.replace('_', ' ')}")
        self.bridge.ended(
            invitation.caller_id, invitation.call_id, how, invitation.response, goes_on=goes_on
        )
        if not goes_on:
            self._invitations.pop(invitation.call_id, None)

    def _call_started(self, call: Call, now: float) -> None:
        self._talks.add(call)
        self.bridge.call_started(call.peer, call.call_id, now)

    def _call_ended(self, call: Call) -> None:
        self._talks.remove(call.call_id)
        self._invitations.pop(call.call_id, None)
        self.bridge.call_ended(call.peer, call.call_id)

    # --- on the listener's thread: hand over -------------------------------------------------

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._do(lambda now: self._received(invitation, now))

    def on_remote_invitation_accepted(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._do(lambda _now: self._over(invitation, HaCall.ANSWERED))

    def on_remote_invitation_refused(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._do(lambda _now: self._over(invitation, HaCall.REFUSED))

    def on_remote_invitation_canceled(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`."""
        how = {
            EndReason.ANSWERED_ELSEWHERE: HaCall.ANSWERED_ELSEWHERE,
            EndReason.CANCELED: HaCall.CANCELED,
        }.get(invitation.reason or EndReason.EXPIRED, HaCall.MISSED)
        self._do(lambda _now: self._over(invitation, how))

    def on_remote_invitation_failure(
        self, invitation: RemoteInvitation, error: RemoteInvitationError
    ) -> None:
        """See :class:`CallEventListener`."""
        failed = error is RemoteInvitationError.ACCEPT_FAILURE
        self._do(lambda _now: self._over(invitation, HaCall.FAILED if failed else HaCall.MISSED))

    def on_missed_call(self, missed: MissedCall) -> None:
        """See :class:`CallEventListener`."""
        self._do(lambda now: self.bridge.missed(
            missed.caller_id, missed.call_id, missed.content, _now_text(), now))  # fmt: skip

    def on_call_started(self, call: Call) -> None:
        """See :class:`CallEventListener`."""
        self._do(lambda now: self._call_started(call, now))

    def on_call_message(self, call: Call, message: Any) -> None:
        """See :class:`CallEventListener`."""
        self._do(lambda _now: self.bridge.call_message(call.peer, call.call_id, message))

    def on_call_ended(self, call: Call, reason: EndReason) -> None:  # noqa: ARG002 # the signature
        """See :class:`CallEventListener`."""
        self._do(lambda _now: self._call_ended(call))

    def on_presence_changed(self, peer: str, online: bool | None) -> None:
        """See :class:`CallEventListener`."""
        self._do(lambda _now: self.bridge.presence(peer, online))

    def on_ring_group_ended(self, group: RingGroup) -> None:
        """See :class:`CallEventListener`."""
        self._do(lambda _now: self._rung(group))


def _now_text() -> str:
    """The time of day, for people alone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
