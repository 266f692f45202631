"""``bellwire doorbell``: the decisions of ``doorbell`` wired to pins, link and actions."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...client.display import say, shown
from ..config.doorbell import Button, DoorbellSettings
from ..config.timezone import described
from ..gpio.pins import Input, Levels, Output, Pins
from ..logic import doorbell
from ..logic.doorbell import ButtonRules, Doorbell, Outcome
from ..logic.lights import strokes
from .actions import Actions
from .base import LinkState, log
from .link import Link
from .loop import Loop
from .notify import Notifier
from .ringing import Ringer


class DoorbellService:
    """One doorbell; everything runs on the loop. Tests replace ``pins`` and ``make_link``."""

    def __init__(
        self,
        settings: DoorbellSettings,
        pins: Pins,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., Link] = Link,
    ) -> None:
        self._settings = settings
        self._buttons = {button.name: button for button in settings.buttons}
        self._pins = pins
        self._loop = loop
        self._notifier = notifier
        self._actions = Actions()
        self._ringer = Ringer(self, loop.post)
        self._state = LinkState(settings.account.peer, settings.account.broker, notifier, loop)
        self.bell = Doorbell(
            tuple(_rules(button) for button in settings.buttons),
            chime_after=settings.chime.after,
            chime_pattern=strokes(settings.chime.seconds),
            idle_light=settings.idle_light,
        )
        self._chimes = 0
        self._inputs: dict[str, Input] = {}
        self._levels = Levels()
        self._light = self._output("light", settings.light)
        self._chime = self._output("chime", settings.chime.output)
        for button in settings.buttons:
            self._inputs[button.name] = pins.watch(button.name, button.input, self._edge(button))
        self._link = make_link(settings.account, self._ringer, self, loop.post)
        self._ringer.manager = self._link.client.call_manager

    def run(self) -> int:
        """Serve until the loop is stopped; the exit code. Everything is closed afterwards."""
        try:
            held = frozenset(name for name, pin in self._inputs.items() if pin.active())
            self._do(self.bell.start(held, self._loop.now()))
            say(f"time zone: {described()}")
            self._link.start()
            self._loop.pulse = self._pulse
            return self._loop.run(self._tick, lambda: self._levels.before(self.bell.deadline))
        finally:
            self._notifier.stopping()
            self._link.stop()
            self._actions.close()
            self._pins.close()

    # --- what comes in, on the loop ----------------------------------------------------------

    def on_link(self, online: bool) -> None:
        """See :class:`~.link.LinkEvents`."""
        if self._state.online(online):
            self._do(self.bell.link(online, self._loop.now()))

    def on_trouble(self, problem: str) -> None:
        """See :class:`~.link.LinkEvents`."""
        self._state.trouble(problem)

    def on_superseded(self) -> None:
        """See :class:`~.link.LinkEvents`."""
        self._state.superseded()

    def on_lost(self, problem: str = "") -> None:
        """See :class:`~.link.LinkEvents`."""
        self._state.lost(problem)

    def _pulse(self, beat: Callable[[], None]) -> None:
        self._link.pulse(beat)

    def on_acknowledged(self, ring: int) -> None:
        """See :class:`~.ringing.RingEvents`."""
        self._do(self.bell.acknowledged(ring, self._loop.now()))

    def on_unreached(self, ring: int) -> None:
        """See :class:`~.ringing.RingEvents`."""
        self._do(self.bell.unreached(ring, self._loop.now()))

    def on_ended(self, ring: int, outcome: Outcome, peer: str, response: object) -> None:
        """See :class:`~.ringing.RingEvents`."""
        now = self._loop.now()
        self._do(self.bell.ended(ring, outcome, now, peer=peer, response=response))

    def _edge(self, button: Button) -> Callable[[bool], None]:
        def edge(active: bool) -> None:
            # The time is that of the edge, not when the loop comes to it.
            at = self._loop.now()
            self._loop.post(lambda: self._do(self.bell.edge(button.name, active, at)))

        return edge

    def _tick(self) -> None:
        now = self._loop.now()
        for name, active in self._levels.ask(self._inputs, now):
            self._do(self.bell.edge(name, active, now))
        self._do(self.bell.tick(now))
        self._light.set(self.bell.light.level)
        self._chime.set(self.bell.chime.level)

    # --- what goes out -----------------------------------------------------------------------

    def _do(self, effects: list[doorbell.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, doorbell.StartRing):
                button = self._buttons[effect.button]
                say(f"{button.name}: ringing {', '.join(button.peers)}")
                self._ringer.ring(effect.ring, button, effect.seconds)
            elif isinstance(effect, doorbell.StopRing):
                self._ringer.stop(effect.ring)
            elif isinstance(effect, doorbell.Tell):
                self._tell(effect)
            else:
                log.log(logging.WARNING if effect.warning else logging.INFO, "%s", effect.text)
        while self._chimes < self.bell.chimes:
            self._chimes += 1
            say("chime")
            self._actions.run(self._settings.chime.action, {"event": "chime"})

    def _tell(self, effect: doorbell.Tell) -> None:
        by = f" by {effect.peer}" if effect.peer else ""
        answer = f": {shown(effect.response)}" if effect.response is not None else ""
        say(f"{effect.button}: {effect.outcome}{by}{answer}")
        action = self._settings.on.get(effect.outcome)
        if action is not None:
            facts = {
                "event": effect.outcome.value,
                "button": effect.button,
                "peer": effect.peer,
                "response": effect.response,
            }
            self._actions.run(action, facts)

    def _output(self, name: str, pin: object) -> Output:
        from ..config.account import OutputPin

        return self._pins.output(name, pin) if isinstance(pin, OutputPin) else _NoOutput()


class _NoOutput:
    def set(self, on: bool) -> None:
        """See :class:`~.pins.Output`."""


def _rules(button: Button) -> ButtonRules:
    return ButtonRules(
        name=button.name,
        bounce_time=button.input.bounce_time,
        stuck_after=button.input.stuck_after,
        while_ringing=button.while_ringing,
        ring_time=button.ring_time,
        ring_limit=3 * button.ring_time,
    )
