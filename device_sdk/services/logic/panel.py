"""What a panel decides: pure. Calls, buttons and time in; effects out.

Every method takes ``now``, seconds of any monotonic clock, and returns what is to be done, in
order. Whether it is quiet hours is told by the caller (:meth:`Panel.call`): wall time is not this
module's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from . import lights
from .appliance import ApplianceLogic, ButtonTiming, Note


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
    """The panel's two buttons."""

    ANSWER = "answer"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class AcceptCall:
    """Accept that call."""

    call: str


@dataclass(frozen=True, slots=True)
class RefuseCall:
    """Refuse that call; ``quiet`` with the reason *do not disturb*."""

    call: str
    quiet: bool = False


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


Decision = AcceptCall | RefuseCall | Sound | TellEnd
Effect = Decision | Note


@dataclass(slots=True)
class _Call:
    caller: str
    silent: bool
    answering: bool = False


class Panel(ApplianceLogic[PanelButton, Decision]):
    """Calls that ring, two buttons, a ringer, a missed-call light. Not thread-safe.

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
        if quiet and self._when_quiet is WhenQuiet.REFUSE:
            self.missed += 1
            note = Note(f"call of {caller} refused: quiet hours")
            return [RefuseCall(call, quiet=True), note, *self.tick(now)]
        self._calls[call] = _Call(caller, silent=quiet)
        return [*self._reflect(now), *self.tick(now)]

    def ended(self, call: str, end: CallEnd, now: float) -> list[Effect]:
        """That call is over."""
        known = self._calls.pop(call, None)
        if known is None:
            return []
        if end is CallEnd.MISSED:
            self.missed += 1
        return [*self._reflect(now), TellEnd(call, known.caller, end), *self.tick(now)]

    def missed_call(self, call: str, caller: str, now: float) -> list[Effect]:
        """A call was made and ended while this panel was away."""
        self.missed += 1
        return [TellEnd(call, caller, CallEnd.MISSED), *self.tick(now)]

    def _deadlines(self) -> list[float | None]:
        return [self.ringer.deadline]

    def _due(self, now: float) -> list[Effect]:
        self.ringer.tick(now)
        return []

    def _idle_light(self) -> lights.Pattern:
        return lights.OFF

    def _pressed(self, button: PanelButton, now: float) -> list[Effect]:
        # The oldest call that nobody has answered yet; pressed with none, it is "I have seen it".
        ringing = next((key for key, call in self._calls.items() if not call.answering), None)
        if ringing is None:
            if self._calls:
                return []
            self.missed = 0
            return []
        self._calls[ringing].answering = True
        effect = AcceptCall(ringing) if button is PanelButton.ANSWER else RefuseCall(ringing)
        return [effect, *self._reflect(now)]

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
