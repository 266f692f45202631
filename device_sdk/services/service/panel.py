"""``bellwire panel``: the decisions of ``panel`` wired to pins, link and actions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from ...client.display import say, shown
from ...client.invitations import MissedCall
from ...client.invitations import RemoteInvitationBase as RemoteInvitation
from ...client.listener import Call
from ...client.schedule import is_quiet
from ...core.wire.cells import AnswerReason
from ...errors import ClientClosed, InvitationApiCallError
from ...states import EndReason, InvitationApiCallErrorCode
from ..config.panel import PanelSettings
from ..gpio.pins import Pins
from ..history.store import HistoryOutcome
from ..history.writer import History
from ..logic.appliance import ButtonTiming, EndCall, SayInCall
from ..logic.messages import text_of, text_or_all
from ..logic.notice import ServiceEvent
from ..logic.panel import (
    AcceptCall,
    CallEnd,
    Decision,
    Occupied,
    Panel,
    PanelButton,
    RefuseCall,
    Sound,
    TellDoor,
    TellEnd,
)
from .actions import SoundCommand
from .appliance import Appliance, log
from .incoming import IncomingCalls
from .link import ClientRunner
from .loop import Loop
from .sd_notify import Notifier

#: Calls remembered for the commands' variables; far more than can ring at once.
_KEPT = 64
#: As the history has it.
_KEPT_AS = {
    CallEnd.ACCEPTED: HistoryOutcome.ANSWERED,
    CallEnd.REFUSED: HistoryOutcome.REFUSED,
    CallEnd.MISSED: HistoryOutcome.MISSED,
    CallEnd.ANSWERED_ELSEWHERE: HistoryOutcome.ANSWERED_ELSEWHERE,
    CallEnd.FAILED: HistoryOutcome.FAILED,
}


class PanelService(Appliance[PanelButton, Decision], IncomingCalls):
    """One panel; see :class:`~.appliance.Appliance`.

    What the client tells is handed over to the loop by :class:`~.incoming.IncomingCalls`.
    """

    def __init__(
        self,
        settings: PanelSettings,
        pins: Pins,
        loop: Loop,
        notifier: Notifier,
        make_link: Callable[..., ClientRunner] = ClientRunner,
        wall: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._settings, self._me = settings, settings.account.peer
        self._wall = wall
        self._sound = SoundCommand(settings.ringer.command)
        self.panel = Panel(
            {
                button: ButtonTiming(pin.bounce_time, pin.stuck_after)
                for button, pin in settings.buttons.items()
            },
            when_quiet=settings.when_quiet,
        )
        # What the client's own methods want is its client's class of it: Any here.
        self._calls: dict[str, Any] = {}
        self._missed_shown = 0
        super().__init__(
            settings.account,
            settings.buttons,
            self.panel,
            self,
            pins,
            loop,
            notifier,
            make_link,
            settings.on,
        )
        kept = settings.history
        self._history = History(kept.file if settings.keeps_history else None, kept.keep)
        self._light = self._output("light", settings.light)
        self._ringer = self._output("ringer", settings.ringer.output)
        self._missed = self._output("missed", settings.missed_light)

    def _close(self) -> None:
        self._sound.close()
        self._history.close()

    # --- what comes in, on the loop ----------------------------------------------------------

    def _deadline(self) -> float | None:
        due = super()._deadline()
        if self._sound.busy:
            # A sound that ended is begun again within a second.
            again = self._loop.now() + 1.0
            due = again if due is None else min(due, again)
        return due

    def _show(self) -> None:
        for button in self.panel.take_presses():
            self._happened(ServiceEvent.PRESSED, button=button.value)
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
        self._history.rang(call, caller, self._me, text_or_all(invitation.content))
        effects = self.panel.call(call, caller, self._loop.now(), quiet=quiet)
        self._do(effects)
        # In quiet hours no phone sounds either.
        if not quiet and not any(isinstance(effect, RefuseCall) for effect in effects):
            self._happened(
                ServiceEvent.RINGING,
                call_id=call,
                peer=caller,
                content=invitation.content,
                channel=invitation.channel_id,
            )

    def _is_quiet(self) -> bool:
        try:
            return is_quiet(self._settings.quiet, self._wall())
        except Exception as error:  # noqa: BLE001 - a clock that cannot be read is never quiet
            log.error("quiet hours are not: the time of day cannot be read", error=error)
            return False

    def _over(self, invitation: RemoteInvitation, end: CallEnd) -> None:
        goes_on = end is CallEnd.ACCEPTED and invitation._talk is not None
        now = self._loop.now()
        self._do(self.panel.ended(invitation.call_id, end, now, goes_on=goes_on))
        here = end in (CallEnd.ACCEPTED, CallEnd.REFUSED)
        self._history.ended(
            invitation.call_id, _KEPT_AS[end], self._who(invitation.call_id) if here else ""
        )
        self._calls.pop(invitation.call_id, None)

    def _who(self, _call_id: str) -> str:
        """Who has answered or refused that call here, for the history."""
        return self._me

    def _missed_call(self, missed: MissedCall) -> None:
        text = text_or_all(missed.content)
        self._history.missed(missed.call_id, missed.caller_id, self._me, text)
        self._do(self.panel.missed_call(missed.call_id, missed.caller_id, self._loop.now()))

    def _call_started(self, call: Call) -> None:
        self._talks.add(call, self._loop.now())
        say(f"in a call with {call.peer}: answer or refuse hangs up")
        self._do(self.panel.call_started(call.call_id, call.peer, self._loop.now()))

    def _call_message(self, call: Call, message: Any) -> None:
        if (text := text_of(message)) is not None:
            say(f"{call.peer} says: {shown(text)}")
        self._do(self.panel.call_message(call.call_id, message, self._loop.now()))

    def _call_ended(self, call: Call, reason: EndReason) -> None:
        now = self._loop.now()
        talk = self._talks.end(call, reason, now)
        self._history.talked(call.call_id, talk.seconds)
        self._happened(ServiceEvent.CALL_ENDED, **talk.facts)
        say(f"call with {call.peer} is over: {reason}")
        self._do(self.panel.call_ended(call.call_id, now))

    # --- what goes out -----------------------------------------------------------------------

    def _perform(self, effect: Decision) -> None:
        manager = self._link.client.call_manager
        if isinstance(effect, AcceptCall):
            with self._answering(effect.call) as invitation:
                manager.accept_remote_invitation(invitation, self._settings.response)
        elif isinstance(effect, RefuseCall):
            reason = AnswerReason.DO_NOT_DISTURB if effect.quiet else AnswerReason.DECLINED
            reason = AnswerReason.BUSY if effect.busy else reason
            with self._answering(effect.call) as invitation:
                manager.refuse_remote_invitation(invitation, reason=reason)
        elif isinstance(effect, Sound):
            self._sound.set(effect.on)
        elif isinstance(effect, SayInCall):
            self._talks.send(effect.call, effect.message)
        elif isinstance(effect, EndCall):
            self._talks.hang_up(effect.call)
        elif isinstance(effect, Occupied):
            client = self._link.client
            (client.busy if effect.on else client.free)()
        elif isinstance(effect, TellDoor):
            ok, why = effect.result
            if ok:
                self._history.opened(effect.call)
            say(f"door of {effect.peer}: {'open' if ok else f'not opened: {shown(why)}'}")
        else:
            self._tell(effect)

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

    def _tell(self, effect: TellEnd) -> None:
        say(f"call of {effect.caller}: {effect.end}")
        invitation = self._calls.get(effect.call)
        facts: dict[str, object] = {
            "call_id": effect.call,
            "peer": effect.caller,
            "response": self._settings.response if effect.end is CallEnd.ACCEPTED else None,
        }
        if invitation is not None:
            facts |= {"content": invitation.content, "channel": invitation.channel_id}
        self._happened(effect.end, **facts)
