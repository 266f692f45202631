"""``bellwire homeassistant``: the bridge's decisions wired to its two connections."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ...client.display import say
from ...client.invitations import MissedCall
from ...client.invitations import RemoteInvitationBase as RemoteInvitation
from ...client.link.base import Will
from ...client.link.paho import PahoLink
from ...client.link.url import BrokerUrl
from ...client.listener import Call, RingGroup
from ...errors import BellwireError
from ...states import EndReason
from ..config.homeassistant import HomeAssistantSettings
from ..history.writer import History
from ..logic.appliance import EndCall, SayInCall
from ..logic.doorbell import PressOutcome
from ..logic.panel import CallEnd
from ..metrics.window import OtherLink
from ..service.appliance import Exit, LinkedService, log
from ..service.incoming import IncomingCalls
from ..service.link import ClientRunner
from ..service.loop import Loop
from ..service.ringing import outcome_of_group
from ..service.sd_notify import Notifier
from .bridge import HaBridge
from .buttons import MqttPresses
from .call_log import ENDS, CallLog
from .discovery import HaCall
from .door import as_json_bytes
from .effects import AcceptHa, HaEffect, InCall, LogIn, PublishHa, RefuseHa
from .mqtt import HaConnection, HaEvents

_HA_CALLS = {end: how for how, (end, _) in ENDS.items() if how is not HaCall.CANCELED}


class HomeAssistantService(LinkedService[HaEffect], IncomingCalls, HaEvents):
    """The bridge; see :class:`~..service.appliance.LinkedService`.

    What the client tells is handed over to the loop by :class:`~..service.incoming.IncomingCalls`.
    """

    def __init__(
        self,
        settings: HomeAssistantSettings,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., ClientRunner] = ClientRunner,
        version: str = "",
    ) -> None:
        super().__init__(settings.account, self, loop, notifier, make_link, settings.on)
        self._settings = settings
        names = settings.names
        self.bridge = HaBridge(names, settings.doors, version, settings.response)
        self._presses = MqttPresses(settings.buttons)
        self._history = History(settings.history.file, settings.history.keep)
        self._call_log = CallLog(settings.account.peer, self._history, self._happened)
        # What the client's own methods want is its client's class of it: Any here.
        self._invitations: dict[str, Any] = {}
        #: The last ring of each button that rang: its call may go on afterwards.
        self._groups: dict[bytes, int] = {}
        self._watched: set[str] = set()
        self._started = self._online = False
        self._ha_trouble = ""
        # Read once, as Bellwire's own are: a file that goes later does not end the bridge.
        self._password, tls = settings.mqtt.password(), settings.mqtt.tls()
        self._context = None if tls is None else tls.make_context()
        topics = dict.fromkeys(button.topic for button in settings.buttons)
        self._ha = HaConnection(
            self._connection,
            Will(names.status, b"offline"),
            (names.of_each_door("call"), names.of_each_door("command"), names.read_mark,
             names.last_status, names.ha_status, *topics),
            self,
            loop.post,
        )  # fmt: skip

    @property
    def other_links(self) -> list[OtherLink]:
        """See :class:`~..service.appliance.LinkedService`."""
        what = "1 while it is linked to Home Assistant's broker"
        return [OtherLink("bellwire_homeassistant_online", what, lambda: self._ha.online)]

    def run(self) -> int:
        """Serve until the loop is stopped; the exit code. Everything is closed afterwards."""
        try:
            self._state.beside(f"waiting for Home Assistant's broker {self._settings.mqtt.broker}")
            self._ha.start()
            self.bridge.start(self._loop.now())
            self._loop.pulse = self._pulse
            return self._loop.run(self._tick, lambda: self.bridge.deadline)
        finally:
            self._notifier.stopping()
            if self._started:
                self._log_out()
            self._ha.publish(self._settings.names.status, b"offline", True)
            self._ha.stop()
            self._history.close()
            self._actions.close()

    def _pulse(self, beat: Callable[[], None]) -> None:
        """Both connections' threads must turn for the watchdog to be fed."""
        if self._started:
            self._ha.pulse(lambda: self._link.pulse(beat))
        else:
            self._ha.pulse(beat)

    def _connection(self, will: Will) -> PahoLink:
        account = self._settings.mqtt
        return PahoLink(
            BrokerUrl.parse(account.broker), self._settings.names.client_id, will,
            keepalive=account.keepalive, username=account.username, password=self._password,
            context=self._context,
        )  # fmt: skip

    def _tick(self) -> None:
        self.bridge.tick(self._loop.now())
        self._do(self.bridge.effects())

    # --- what is to be done ------------------------------------------------------------------

    def _perform(self, effect: HaEffect) -> None:
        if isinstance(effect, PublishHa):
            self._ha.publish(effect.topic, effect.payload, effect.retain, effect.token)
        elif isinstance(effect, LogIn):
            self._started = True
            self._link.start()
        elif isinstance(effect, AcceptHa | RefuseHa | SayInCall | EndCall):
            self._in_call(effect)
        else:
            self._call_log.note(effect)

    def _in_call(self, effect: InCall) -> None:
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
        elif isinstance(effect, SayInCall):
            if why := self._talks.send(effect.call, effect.message):
                self.bridge.failed(self._peer_of(effect.call), effect.call, why)
        else:
            self._talks.hang_up(effect.call)

    def _peer_of(self, call_id: str) -> str:
        found = self._invitations.get(call_id)
        return "" if found is None else str(found.caller_id)

    # --- Home Assistant's side ---------------------------------------------------------------

    def on_ha_up(self) -> None:
        """See :class:`HaEvents`."""
        self._ha_trouble = ""
        self._state.beside("")
        say(f"connected to Home Assistant's broker, {self._settings.mqtt.broker}")
        self.bridge.link_up(self._loop.now())

    def on_ha_down(self, problem: str) -> None:
        """See :class:`HaEvents`."""
        self.bridge.link_down()
        if problem != self._ha_trouble:
            self._ha_trouble = problem
            log.warning("Home Assistant's broker: %s; trying again", problem)
            self._state.beside(f"Home Assistant's broker: {problem}")

    def on_ha_message(self, topic: str, payload: bytes, retained: bool) -> None:
        """See :class:`HaEvents`."""
        now = self._loop.now()
        self.bridge.message(topic, payload, retained=retained, now=now)
        if self._online:
            self._watch()
        for number in self._presses.message(topic, payload, retained=retained, now=now):
            self._ring(number)

    def on_ha_acknowledged(self, token: int) -> None:
        """See :class:`HaEvents`."""
        self.bridge.acknowledged(token)

    def on_ha_failed(self, error: BaseException) -> None:
        """See :class:`HaEvents`."""
        log.error("the connection to Home Assistant's broker has failed; ending", error=error)
        self._loop.stop(Exit.FAILED)

    # --- MQTT buttons, on the loop -----------------------------------------------------------

    def _ring(self, number: int) -> None:
        button = self._settings.buttons[number]
        say(f"{button.name}: rings {', '.join(button.peers)}")
        self._call_log.pressed(button)
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
            self._groups = {g: n for g, n in self._groups.items() if n != number}
            self._groups[group.group] = number
            self._call_log.rings(button, group.group.hex())

    def _rung(self, group: Any) -> None:
        if group.group in self._groups:
            outcome = outcome_of_group(group.outcome)
            self._ring_over(group.group, *outcome, str(group.outcome.reason))

    def _ring_over(
        self, ring: bytes, outcome: PressOutcome, who: str, response: object, reason: str
    ) -> None:
        number = self._groups[ring]
        self._presses.ended(number)
        self._call_log.rung(self._settings.buttons[number], ring.hex(), outcome, who)
        facts = {"outcome": reason.replace(" ", "_"), "by": who, "response": response}
        self._tell_button(number, facts)

    def _tell_button(self, number: int, facts: dict[str, Any]) -> None:
        button = self._settings.buttons[number]
        say(f"{button.name}: {facts['outcome'].replace('_', ' ')}")
        payload = as_json_bytes({"button": button.name, **facts})
        self._ha.publish(button.outcome_topic, payload, False)

    def _tell_ends(self) -> None:
        super()._tell_ends()
        for ring, number in list(self._groups.items()):
            if self._presses.rings(number):
                canceled = PressOutcome.CANCELED
                self._ring_over(ring, canceled, "", None, str(EndReason.CANCELED))

    # --- Bellwire's link, on the loop --------------------------------------------------------

    def _linked(self, online: bool) -> None:
        self.bridge.bellwire(online, self._loop.now())
        self._online = online
        # Anew on each connection: who is there as before is not told by itself.
        self._watched.clear()
        if online:
            self._watch()

    def _watch(self) -> None:
        for peer in self.bridge.known_doors:
            if peer not in self._watched:
                try:
                    self._link.client.watch(peer)
                except BellwireError as error:
                    log.warning("whether %s is there is not known: %s", peer, error)
                else:
                    self._watched.add(peer)

    # --- calls, on the loop ------------------------------------------------------------------

    def _received(self, invitation: RemoteInvitation) -> None:
        call, caller = invitation.call_id, invitation.caller_id
        self._invitations[call] = invitation
        say(f"{caller} rings")
        self.bridge.rang(caller, call, invitation.content, _now_text(), self._loop.now())
        self._watch()

    def _over(self, invitation: RemoteInvitation, end: CallEnd) -> None:
        self._ended(invitation, _HA_CALLS[end])

    def _ended(self, invitation: RemoteInvitation, how: HaCall) -> None:
        goes_on = how is HaCall.ANSWERED and invitation._talk is not None
        call, caller = invitation.call_id, invitation.caller_id
        say(f"call of {caller}: {how.replace('_', ' ')}")
        self.bridge.ended(caller, call, how, invitation.response, goes_on=goes_on)
        if not goes_on:
            self._invitations.pop(call, None)

    def _missed_call(self, missed: MissedCall) -> None:
        caller, now = missed.caller_id, self._loop.now()
        say(f"missed: {caller}")
        self.bridge.missed(caller, missed.call_id, missed.content, _now_text(), now)

    def _call_started(self, call: Call) -> None:
        now, ring = self._loop.now(), call.invitation.group
        button = ""
        if ring in self._groups:
            button = self._settings.buttons[self._groups[ring]].name
            self._call_log.talk_of_ring(call.call_id, ring.hex())
        self._talks.add(call, now, button)
        self.bridge.call_started(call.peer, call.call_id, now)

    def _call_message(self, call: Call, message: Any) -> None:
        self.bridge.call_message(call.peer, call.call_id, message)

    def _call_ended(self, call: Call, reason: EndReason) -> None:
        talk = self._talks.end(call, reason, self._loop.now())
        self._invitations.pop(call.call_id, None)
        self.bridge.call_ended(call.peer, call.call_id)
        self._do(self.bridge.effects())  # its row and its other hooks come first
        self._call_log.talk_ended(call.call_id, talk)

    # --- on the listener's thread: hand over -------------------------------------------------

    def on_remote_invitation_canceled(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`. Home Assistant is told of a caller who gave up."""
        if invitation.reason is EndReason.CANCELED:
            self._loop.post(lambda: self._ended(invitation, HaCall.CANCELED))
        else:
            super().on_remote_invitation_canceled(invitation)

    def on_presence_changed(self, peer: str, online: bool | None) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self.bridge.presence(peer, online))

    def on_ring_group_ended(self, group: RingGroup) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._rung(group))


def _now_text() -> str:
    """The time of day, for people alone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
