"""What a panel decides: pure. Calls, buttons and time in; effects out.

Every method takes ``now``, seconds of any monotonic clock, and returns what is to be done, in
order. Whether it is quiet hours is told by the caller (:meth:`Panel.call`): wall time is not this
module's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from . import lights, messages
from .appliance import ApplianceLogic, ButtonTiming, EndCall, Note, SayInCall

#: A second press of *answer* this soon after a call came up is impatience, no hanging up; seconds.
_HURRY = 1.5
#: How long the door's word is waited for, once it was asked to open.
_DOOR_ANSWERS = 5.0


class WhenQuiet(StrEnum):
    """What happens to a call in quiet hours."""

    #: Refused with *do not disturb*: the caller learns it at once.
    REFUSE = "refuse"
    #: Shown by the light only.
    SILENT = "silent"


class CallEnd(StrEnum):
    """How a call ended for this panel."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    #: It rang, or would have rung, and nobody here or elsewhere answered.
    MISSED = "missed"
    #: Another panel took it.
    ANSWERED_ELSEWHERE = "answered elsewhere"
    FAILED = "failed"


class PanelButton(StrEnum):
    """The panel's buttons; in a call, *answer* and *refuse* hang up."""

    ANSWER = "answer"
    REFUSE = "refuse"
    #: Asks for the door to be opened; while it rings, it answers first.
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class AcceptCall:
    """Accept that call; ``response`` is a browser's part of it, beside the panel's own."""

    call: str
    response: Any = None


@dataclass(frozen=True, slots=True)
class RefuseCall:
    """Refuse that call; ``quiet`` with the reason *do not disturb*, ``busy`` with *busy*."""

    call: str
    quiet: bool = False
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Sound:
    """Begin or end the ringing sound."""

    on: bool


@dataclass(frozen=True, slots=True)
class TellEnd:
    """Run the command for this end of a call."""

    call: str
    caller: str
    end: CallEnd


@dataclass(frozen=True, slots=True)
class Occupied:
    """Be busy for whoever calls from now on, or not any more."""

    on: bool


@dataclass(frozen=True, slots=True)
class TellDoor:
    """Show what became of opening the door of ``peer``, asked in ``call``."""

    call: str
    peer: str
    result: messages.OpenResult


Decision = AcceptCall | RefuseCall | Sound | TellEnd | SayInCall | EndCall | Occupied | TellDoor
Effect = Decision | Note


@dataclass(slots=True)
class _Call:
    caller: str
    silent: bool
    answering: bool = False
    #: Whether the door is to be opened as soon as the call is up.
    opening: bool = False


@dataclass(slots=True)
class _PanelTalk:
    peer: str
    #: From when on *answer* hangs up.
    settled_at: float
    #: Until when the door's word is waited for; None: it was not asked.
    door_by: float | None = None


_UNHEARD = messages.OpenResult(False, "no word of the door came back")
_NO_CALL = messages.OpenResult(False, "there is no call to ask for it in")


class Panel(ApplianceLogic[PanelButton, Decision]):
    """Calls that ring or go on, up to three buttons, a ringer, a missed-call light.

    Not thread-safe.

    The outputs are read from :attr:`ringer`, :attr:`light` and :attr:`missed` after each call.
    """

    def __init__(
        self,
        buttons: dict[PanelButton, ButtonTiming],
        *,
        when_quiet: WhenQuiet = WhenQuiet.REFUSE,
        ring_pattern: lights.Pattern = lights.RING,
    ) -> None:
        super().__init__(buttons)
        self._when_quiet = when_quiet
        self._ring_pattern = ring_pattern
        self._calls: dict[str, _Call] = {}
        #: The calls that go on; the one that began last is what *open* is for.
        self._talks: dict[str, _PanelTalk] = {}
        #: The accepted call whose door is to be opened once it goes on.
        self._to_open: str | None = None
        self._sounding = False
        self.ringer = lights.Player()
        #: Missed calls since somebody pressed a button here.
        self.missed = 0

    def link(self, online: bool, now: float) -> list[Effect]:
        """The link to the broker came or went. Calls go on: their ends are told by the SDK."""
        self._online = online
        self._rest(now)
        return self.tick(now)

    def call(self, call: str, caller: str, now: float, *, quiet: bool) -> list[Effect]:
        """A call came in."""
        if self._talks:  # it crossed the word that this panel is busy
            note = Note(f"call of {caller} refused: in a call")
            return self._turned_away(RefuseCall(call, busy=True), caller, note, now)
        if quiet and self._when_quiet is WhenQuiet.REFUSE:
            note = Note(f"call of {caller} refused: quiet hours")
            return self._turned_away(RefuseCall(call, quiet=True), caller, note, now)
        self._calls[call] = _Call(caller, silent=quiet)
        return [*self._reflect(now), *self.tick(now)]

    def _turned_away(self, refuse: RefuseCall, caller: str, note: Note, now: float) -> list[Effect]:
        """Refuse what is not to ring: a call missed, whatever its end says when it is told."""
        self.missed += 1
        return [refuse, note, TellEnd(refuse.call, caller, CallEnd.MISSED), *self.tick(now)]

    def ended(self, call: str, end: CallEnd, now: float, *, goes_on: bool = False) -> list[Effect]:
        """That invitation is over; ``goes_on``: accepted, and :meth:`call_started` comes next."""
        known = self._calls.pop(call, None)
        if known is None:
            return []
        if end is CallEnd.MISSED:
            self.missed += 1
        effects = [*self._reflect(now), TellEnd(call, known.caller, end)]
        if known.opening and goes_on:
            self._to_open = call
        elif known.opening:
            effects += self._door(call, known.caller, _NO_CALL, now)
        return [*effects, *self.tick(now)]

    def missed_call(self, call: str, caller: str, now: float) -> list[Effect]:
        """A call was made and ended while this panel was away."""
        self.missed += 1
        return [TellEnd(call, caller, CallEnd.MISSED), *self.tick(now)]

    def call_started(self, call: str, peer: str, now: float) -> list[Effect]:
        """An accepted call goes on: whoever else rings here is told that this panel is busy."""
        talk = self._talks[call] = _PanelTalk(peer, now + _HURRY)
        others = [key for key, other in self._calls.items() if not other.answering]
        for other in others:
            self._calls[other].answering = True
        effects: list[Effect] = [Occupied(True)] if len(self._talks) == 1 else []
        effects += [RefuseCall(other, busy=True) for other in others]
        if self._to_open == call:
            effects += self._ask_to_open(call, talk, now)
        self._to_open = None
        self._rest(now)
        return [*effects, *self._reflect(now), *self.tick(now)]

    def call_message(self, call: str, message: Any, now: float) -> list[Effect]:
        """The other side of that call says something."""
        talk, result = self._talks.get(call), messages.result_of_open(message)
        if talk is None or result is None:
            return []
        talk.door_by = None
        return [*self._door(call, talk.peer, result, now), *self.tick(now)]

    def call_ended(self, call: str, now: float) -> list[Effect]:
        """That call is over."""
        talk = self._talks.pop(call, None)
        if talk is None:
            return []
        effects: list[Effect] = [] if self._talks else [Occupied(False)]
        if talk.door_by is not None:
            effects += self._door(call, talk.peer, _UNHEARD, now)
        self._rest(now)
        return [*effects, *self.tick(now)]

    def _deadlines(self) -> list[float | None]:
        return [self.ringer.deadline, *(talk.door_by for talk in self._talks.values())]

    def _due(self, now: float) -> list[Effect]:
        self.ringer.tick(now)
        effects: list[Effect] = []
        for call, talk in self._talks.items():
            if talk.door_by is not None and talk.door_by <= now:
                talk.door_by = None
                effects += self._door(call, talk.peer, _UNHEARD, now)
        return effects

    def _idle_light(self) -> lights.Pattern:
        return lights.IN_CALL if self._talks else lights.OFF

    def _pressed(self, button: PanelButton, now: float) -> list[Effect]:
        if self._talks:
            return self._pressed_in_call(button, now)
        # The oldest call that nobody has answered yet; pressed with none, it is "I have seen it".
        ringing = next((key for key, call in self._calls.items() if not call.answering), None)
        if ringing is None:
            if self._calls:
                return []
            self.missed = 0
            return []
        call = self._calls[ringing]
        call.answering, call.opening = True, button is PanelButton.OPEN
        effect = RefuseCall(ringing) if button is PanelButton.REFUSE else AcceptCall(ringing)
        return [effect, *self._reflect(now)]

    def _pressed_in_call(self, button: PanelButton, now: float) -> list[Effect]:
        if button is PanelButton.OPEN:
            call, talk = next(reversed(self._talks.items()))
            return self._ask_to_open(call, talk, now)
        hurried = button is PanelButton.ANSWER
        return [
            EndCall(call)
            for call, talk in self._talks.items()
            if not (hurried and now < talk.settled_at)
        ]

    def _ask_to_open(self, call: str, talk: _PanelTalk, now: float) -> list[Effect]:
        if talk.door_by is not None:
            return [Note(f"{talk.peer} is asked to open already")]
        talk.door_by = now + _DOOR_ANSWERS
        return [SayInCall(call, messages.ask_to_open())]

    def _door(self, call: str, peer: str, result: messages.OpenResult, now: float) -> list[Effect]:
        self.light.show(lights.OPENED if result.ok else lights.REFUSED, now)
        return [TellDoor(call, peer, result)]

    def _reflect(self, now: float) -> list[Effect]:
        """Make light and ringer show what is underway."""
        waiting = [call for call in self._calls.values() if not call.answering]
        sounding = any(not call.silent for call in waiting)
        if waiting:
            self.light.show(lights.RINGING, now)
        else:
            self.light.clear(now)
        if sounding == self._sounding:
            return []
        self._sounding = sounding
        if sounding:
            self.ringer.show(self._ring_pattern, now)
        else:
            self.ringer.clear(now)
        return [Sound(sounding)]
