"""``bellwire doorbell``: the decisions of ``doorbell`` wired to pins, link and actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...client.display import say, shown
from ...states import EndReason
from ..config.doorbell import Button, DoorbellSettings
from ..gpio.pins import Pins
from ..logic.appliance import EndCall, SayInCall
from ..logic.doorbell import (
    AuditDoor,
    ButtonRules,
    Decision,
    Doorbell,
    OpenDoor,
    PressOutcome,
    RunAction,
    StartRing,
    StopRing,
    TellRinging,
)
from ..logic.lights import strokes
from ..logic.messages import text_of
from ..logic.notice import ServiceEvent
from .appliance import Appliance
from .door_pin import DoorPin
from .link import ClientRunner
from .loop import Loop
from .ringing import Ringer
from .sd_notify import Notifier


class DoorbellService(Appliance[str, Decision]):
    """One doorbell; see :class:`~.appliance.Appliance`."""

    def __init__(
        self,
        settings: DoorbellSettings,
        pins: Pins,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., ClientRunner] = ClientRunner,
    ) -> None:
        self._settings = settings
        self._buttons = {button.name: button for button in settings.buttons}
        self._ringer = Ringer(self, loop.post, loop.now)
        self.bell = Doorbell(
            tuple(_rules(button) for button in settings.buttons),
            chime_after=settings.chime.after,
            chime_pattern=strokes(settings.chime.seconds),
            idle_light=settings.idle_light,
            door=None if settings.door is None else settings.door.rules,
        )
        self._chimes = 0
        inputs = {button.name: button.input for button in settings.buttons}
        super().__init__(
            settings.account,
            inputs,
            self.bell,
            self._ringer,
            pins,
            loop,
            notifier,
            make_link,
            settings.on,
        )
        self._light = self._output("light", settings.light)
        self._chime = self._output("chime", settings.chime.output)
        self._door = DoorPin(
            self._output("door", None if settings.door is None else settings.door.output)
        )
        self._ringer.manager = self._link.client.call_manager

    # --- what comes in, on the loop ----------------------------------------------------------

    def on_acknowledged(self, ring: int, peer: str) -> None:
        """See :class:`~.ringing.RingEvents`."""
        self._do(self.bell.acknowledged(ring, self._loop.now(), peer))

    def on_turned_away(self, ring: int, peer: str) -> None:
        """See :class:`~.ringing.RingEvents`."""
        self._do(self.bell.turned_away(ring, self._loop.now(), peer))

    def on_unreached(self, ring: int) -> None:
        """See :class:`~.ringing.RingEvents`."""
        self._do(self.bell.unreached(ring, self._loop.now()))

    def on_ended(
        self, ring: int, outcome: PressOutcome, peer: str, response: object, *, busy: bool = False
    ) -> None:
        """See :class:`~.ringing.RingEvents`."""
        now = self._loop.now()
        self._do(self.bell.ended(ring, outcome, now, peer=peer, response=response, busy=busy))

    def on_call(self, call: Any, button: str) -> None:
        """See :class:`~.ringing.RingEvents`."""
        self._talks.add(call, self._loop.now(), button)
        say(f"{button}: in a call with {call.peer}")
        self._do(self.bell.call_started(call.call_id, call.peer, button, self._loop.now()))

    def on_message(self, call: Any, message: object, heard_at: float) -> None:
        """See :class:`~.ringing.RingEvents`."""
        if (text := text_of(message)) is not None:
            say(f"{call.peer} says: {shown(text)}")
        now = self._loop.now()
        self._do(self.bell.call_message(call.call_id, call.peer, message, heard_at, now))

    def on_over(self, call: Any, reason: EndReason) -> None:
        """See :class:`~.ringing.RingEvents`."""
        self._call_ended(call, reason)

    def _call_ended(self, call: Any, reason: EndReason) -> None:
        now = self._loop.now()
        self._happened(ServiceEvent.CALL_ENDED, **self._talks.end(call, reason, now).facts)
        say(f"call with {call.peer} is over: {reason}")
        self._do(self.bell.call_ended(call.call_id, now))

    def _tell_ends(self) -> None:
        super()._tell_ends()
        self._do(self.bell.logged_out(self._loop.now()))

    def _show(self) -> None:
        for button in self.bell.take_presses():
            self._happened(ServiceEvent.PRESSED, button=button, content=self._content(button))
        self._light.set(self.bell.light.level)
        self._chime.set(self.bell.chime.level)
        self._door.set(self.bell.door_open)
        while self._chimes < self.bell.chimes:
            self._chimes += 1
            say("chime")
            self._actions.run(self._settings.chime.action, {"event": "chime"})

    # --- what goes out -----------------------------------------------------------------------

    def _perform(self, effect: Decision) -> None:
        if isinstance(effect, StartRing):
            button = self._buttons[effect.button]
            say(f"{button.name}: ringing {', '.join(button.peers)}")
            self._ringer.ring(effect.ring, button, effect.seconds)
        elif isinstance(effect, StopRing):
            self._ringer.stop(effect.ring)
        elif isinstance(effect, TellRinging):
            content = self._content(effect.button)
            self._happened(ServiceEvent.RINGING, button=effect.button, content=content)
        elif isinstance(effect, SayInCall):
            self._talks.send(effect.call, effect.message)
        elif isinstance(effect, EndCall):
            self._talks.hang_up(effect.call)
        elif isinstance(effect, OpenDoor):
            why = self._door.open()
            self._do(self.bell.door_switched(effect, why, self._loop.now()))
        elif isinstance(effect, AuditDoor):
            done = f"not opened: {effect.why}" if effect.why else "opened"
            say(f"door {done}; asked by {effect.peer} in call {effect.call}")
        else:
            self._tell(effect)

    def _tell(self, effect: RunAction) -> None:
        by = f" by {effect.peer}" if effect.peer else ""
        answer = f": {shown(effect.response)}" if effect.response is not None else ""
        say(f"{effect.button}: {effect.outcome}{by}{answer}")
        self._happened(
            effect.outcome, button=effect.button, peer=effect.peer, response=effect.response
        )
        if effect.outcome is PressOutcome.NOBODY:
            content = self._content(effect.button)
            self._happened(ServiceEvent.MISSED, button=effect.button, content=content)

    def _content(self, button: str) -> object:
        return self._buttons[button].content


def _rules(button: Button) -> ButtonRules:
    return ButtonRules(
        name=button.name,
        bounce_time=button.input.bounce_time,
        stuck_after=button.input.stuck_after,
        while_ringing=button.while_ringing,
        in_call=button.in_call,
        ring_time=button.ring_time,
        ring_limit=3 * button.ring_time,
    )
