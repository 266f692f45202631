"""``bellwire panel``: the decisions of ``panel`` wired to pins, link and actions."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from ...client.display import say, shown
from ...client.invitations import MissedCall
from ...client.invitations import RemoteInvitationBase as RemoteInvitation
from ...client.listener import CallEventListener
from ...client.schedule import is_quiet
from ...errors import ClientClosed, InvitationApiCallError
from ...states import EndReason, InvitationApiCallErrorCode, RemoteInvitationError
from ...wire.cells import AnswerReason
from ..config.account import OutputPin
from ..config.panel import PanelSettings
from ..config.timezone import described
from ..gpio.pins import Input, Levels, Output, Pins
from ..logic import panel
from ..logic.panel import ButtonTiming, CallEnd, Panel, PanelButton
from .actions import Actions, SoundCommand
from .base import LinkState, log
from .link import Link
from .loop import Loop
from .notify import Notifier

#: Calls remembered for the commands' variables; far more than can ring at once.
_KEPT = 64


class PanelService(CallEventListener):
    """One panel. The ``on_remote_…`` methods hand over from the listener's thread to the loop."""

    def __init__(
        self,
        settings: PanelSettings,
        pins: Pins,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., Link] = Link,
        wall: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._settings = settings
        self._pins = pins
        self._loop = loop
        self._notifier = notifier
        self._wall = wall
        self._actions = Actions()
        self._sound = SoundCommand(settings.ringer.command)
        self._state = LinkState(settings.account.peer, settings.account.broker, notifier, loop)
        self.panel = Panel(
            {
                button: ButtonTiming(pin.bounce_time, pin.stuck_after)
                for button, pin in settings.buttons.items()
            },
            when_quiet=settings.when_quiet,
        )
        # What the client's own methods want is the face's class of it: Any here.
        self._calls: dict[str, Any] = {}
        self._missed_shown = 0
        self._light = self._output("light", settings.light)
        self._ringer = self._output("ringer", settings.ringer.output)
        self._missed = self._output("missed", settings.missed_light)
        self._inputs: dict[PanelButton, Input] = {}
        self._levels = Levels()
        for button, pin in settings.buttons.items():
            self._inputs[button] = pins.watch(button.value, pin, self._edge(button))
        self._link = make_link(settings.account, self, self, loop.post)

    def run(self) -> int:
        """Serve until the loop is stopped; the exit code. Everything is closed afterwards."""
        try:
            held = frozenset(button for button, pin in self._inputs.items() if pin.active())
            self._do(self.panel.start(held, self._loop.now()))
            say(f"time zone: {described()}")
            self._link.start()
            self._loop.pulse = self._pulse
            return self._loop.run(self._tick, self._deadline)
        finally:
            self._notifier.stopping()
            self._link.stop()
            self._sound.close()
            self._actions.close()
            self._pins.close()

    # --- what comes in, on the loop ----------------------------------------------------------

    def on_link(self, online: bool) -> None:
        """See :class:`~.link.LinkEvents`."""
        if self._state.online(online):
            self._do(self.panel.link(online, self._loop.now()))

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

    def _edge(self, button: PanelButton) -> Callable[[bool], None]:
        def edge(active: bool) -> None:
            at = self._loop.now()
            self._loop.post(lambda: self._do(self.panel.edge(button, active, at)))

        return edge

    def _deadline(self) -> float | None:
        due: float | None = self.panel.deadline
        if self._inputs:
            due = self._levels.before(due)
        if self._sound.busy:
            # A sound that ended is begun again within a second.
            again = self._loop.now() + 1.0
            due = again if due is None else min(due, again)
        return due

    def _tick(self) -> None:
        now = self._loop.now()
        for button, active in self._levels.ask(self._inputs, now):
            self._do(self.panel.edge(button, active, now))
        self._do(self.panel.tick(now))
        self._light.set(self.panel.light.level)
        self._ringer.set(self.panel.ringer.level)
        self._missed.set(self.panel.missed > 0)
        if self.panel.missed != self._missed_shown:
            self._missed_shown = self.panel.missed
            say(f"missed calls: {self._missed_shown}")
        self._sound.tend()

    def _received(self, invitation: RemoteInvitation) -> None:
        self._calls[invitation.call_id] = invitation
        while len(self._calls) > _KEPT:
            del self._calls[next(iter(self._calls))]
        what = f": {shown(invitation.content)}" if invitation.content is not None else ""
        say(f"{invitation.caller_id} rings{what}")
        quiet = self._is_quiet()
        call, caller = invitation.call_id, invitation.caller_id
        self._do(self.panel.call(call, caller, self._loop.now(), quiet=quiet))

    def _is_quiet(self) -> bool:
        try:
            return is_quiet(self._settings.quiet, self._wall())
        except Exception as error:  # noqa: BLE001 - a clock that cannot be read is never quiet
            log.error("quiet hours are not: the time of day cannot be read", error=error)
            return False

    def _over(self, invitation: RemoteInvitation, end: CallEnd) -> None:
        self._do(self.panel.ended(invitation.call_id, end, self._loop.now()))
        self._calls.pop(invitation.call_id, None)

    def _missed_call(self, missed: MissedCall) -> None:
        self._do(self.panel.missed_call(missed.call_id, missed.caller_id, self._loop.now()))

    # --- what goes out -----------------------------------------------------------------------

    def _do(self, effects: list[panel.Effect]) -> None:
        manager = self._link.client.call_manager
        for effect in effects:
            if isinstance(effect, panel.Answer):
                with self._answering(effect.call) as invitation:
                    manager.accept_remote_invitation(invitation, self._settings.response)
            elif isinstance(effect, panel.Refuse):
                reason = AnswerReason.DO_NOT_DISTURB if effect.quiet else AnswerReason.DECLINED
                with self._answering(effect.call) as invitation:
                    manager.refuse_remote_invitation(invitation, reason=reason)
            elif isinstance(effect, panel.Sound):
                self._sound.set(effect.on)
            elif isinstance(effect, panel.TellEnd):
                self._tell(effect)
            else:
                log.log(logging.WARNING if effect.warning else logging.INFO, "%s", effect.text)

    @contextlib.contextmanager
    def _answering(self, call: str) -> Iterator[Any]:
        """The invitation to answer; what cannot be answered is told by its own event, or logged."""
        try:
            yield self._calls[call]
        except InvitationApiCallError as error:
            if error.code is InvitationApiCallErrorCode.INVALID_ARGUMENT:
                log.error("the answer cannot be sent: %s", error)  # it says all
        except (KeyError, ClientClosed):
            return  # it ended a moment ago, or this login did

    def _tell(self, effect: panel.TellEnd) -> None:
        say(f"call of {effect.caller}: {effect.end}")
        action = self._settings.on.get(effect.end)
        if action is None:
            return
        invitation = self._calls.get(effect.call)
        facts: dict[str, object] = {
            "event": effect.end.value,
            "call_id": effect.call,
            "peer": effect.caller,
            "response": self._settings.response if effect.end is CallEnd.ACCEPTED else None,
        }
        if invitation is not None:
            facts |= {"content": invitation.content, "channel": invitation.channel_id}
        self._actions.run(action, facts)

    def _output(self, name: str, pin: OutputPin | None) -> Output:
        return _NoOutput() if pin is None else self._pins.output(name, pin)

    # --- on the listener's thread: hand over -------------------------------------------------

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._received(invitation))

    def on_remote_invitation_accepted(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._over(invitation, CallEnd.ACCEPTED))

    def on_remote_invitation_refused(self, invitation: RemoteInvitation) -> None:
        """See :class:`CallEventListener`."""
        self._loop.post(lambda: self._over(invitation, CallEnd.REFUSED))

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


class _NoOutput:
    def set(self, on: bool) -> None:
        """See :class:`~.pins.Output`."""
