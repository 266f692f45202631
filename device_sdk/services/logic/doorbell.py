"""What a doorbell decides: pure. Presses, the link and time in; effects out.

Every method takes ``now``, seconds of any monotonic clock, and returns what is to be done, in
order. :attr:`Doorbell.deadline` says when :meth:`Doorbell.tick` is due.

A press is never silent: a panel acknowledges it within ``chime_after``, or the chime sounds; in a
call, the other side is told of it, and the chime sounds, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from . import lights, messages
from .appliance import ApplianceLogic, ButtonTiming, EndCall, Note, SayInCall
from .door import DoorLogic, DoorRules

#: A ring whose end was not told this long after its time is given up here (seconds).
_OVERDUE = 5.0
#: A panel that acknowledges and turns the call away within this time has not rung (seconds).
_TURNS_AWAY = 0.5


class WhileRinging(StrEnum):
    """What a press does while the same button's ring is underway."""

    IGNORE = "ignore"
    EXTEND = "extend"
    RE_RING = "re-ring"


class WhileInCall(StrEnum):
    """What a press does while the call that the same button rang for goes on."""

    #: Who is in the call is told, and the chime sounds: the next visitor is heard.
    TELL = "tell"
    HANG_UP = "hang-up"
    RE_RING = "re-ring"


class PressOutcome(StrEnum):
    """How a press ended, as commands and web hooks see it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOBODY = "nobody"
    CANCELED = "canceled"
    #: Not rung yet: no link to the broker. Should it come back in time it rings, and ends anew.
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class ButtonRules(ButtonTiming):
    """The decisions of one button; times in seconds."""

    name: str = "door"
    while_ringing: WhileRinging = WhileRinging.IGNORE
    in_call: WhileInCall = WhileInCall.TELL
    ring_time: float = 60.0
    #: With ``EXTEND``: how long a ring lasts at most, whatever is pressed.
    ring_limit: float = 180.0


@dataclass(frozen=True, slots=True)
class StartRing:
    """Ring whom ``button`` rings for at most ``seconds``; its events come back with ``ring``."""

    ring: int
    button: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StopRing:
    """Cancel that ring."""

    ring: int


@dataclass(frozen=True, slots=True)
class RunAction:
    """Run the command or web hook for this outcome of a press of ``button``."""

    button: str
    outcome: PressOutcome
    peer: str = ""
    response: object = None


@dataclass(frozen=True, slots=True)
class TellRinging:
    """Have done what is to be done when a panel rings for ``button``: once a ring."""

    button: str


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """Switch the door's pin; :meth:`Doorbell.door_switched` wants to hear how that went."""

    call: str
    peer: str


@dataclass(frozen=True, slots=True)
class AuditDoor:
    """Say for the record who asked for the door, and why it stayed closed; "": it opened."""

    peer: str
    call: str
    why: str = ""


Decision = (
    OpenDoor | AuditDoor | StartRing | StopRing | TellRinging | RunAction | SayInCall | EndCall
)
Effect = Decision | Note


@dataclass(slots=True)
class _Ring:
    number: int
    button: ButtonRules
    ends_at: float
    limit_at: float
    chime_at: float | None
    acknowledged: bool = False
    unreached: bool = False
    #: Who has acknowledged it and not turned it away, with when that counts as ringing.
    rings_at: dict[str, float] = field(default_factory=dict)
    told: bool = False

    @property
    def tell_at(self) -> float | None:
        """When it is told that it rings."""
        return None if self.told else min(self.rings_at.values(), default=None)

    def tell(self) -> list[Effect]:
        """That a panel rings, if one does and it was not told yet."""
        if self.told or not self.rings_at:
            return []
        self.told = True
        return [TellRinging(self.button.name)]


@dataclass(frozen=True, slots=True)
class _DoorbellTalk:
    peer: str
    button: str


class Doorbell(ApplianceLogic[str, Decision]):
    """Buttons, one status light and one chime. Times in seconds; not thread-safe.

    The light and the chime are read from :attr:`light` and :attr:`chime` after each call.
    """

    def __init__(
        self,
        buttons: tuple[ButtonRules, ...],
        *,
        chime_after: float = 1.5,
        chime_pattern: lights.Pattern | None = None,
        idle_light: bool = False,
        door: DoorRules | None = None,
    ) -> None:
        super().__init__({rules.name: rules for rules in buttons})
        self._rules = {rules.name: rules for rules in buttons}
        self._chime_after = chime_after
        self._chime_pattern = chime_pattern or lights.strokes(1.0)
        self._idle = lights.ON if idle_light else lights.OFF
        self._rings: dict[int, _Ring] = {}
        #: Pressed without a link: until when each rings, should the link come back.
        self._waiting: dict[str, float] = {}
        self._last_ring = 0
        #: The calls that go on, by their ids.
        self._talks: dict[str, _DoorbellTalk] = {}
        self._door = None if door is None else DoorLogic(door)
        self.chime = lights.Player()
        #: How often the chime was set off: once for each press that no panel took over.
        self.chimes = 0

    def link(self, online: bool, now: float) -> list[Effect]:
        """The link to the broker came or went."""
        effects = self.tick(now)
        self._online = online
        waiting, self._waiting = self._waiting, {} if online else self._waiting
        for name, until in waiting.items() if online else ():
            if until > now and all(ring.button.name != name for ring in self._rings.values()):
                effects.append(Note(f"{name} was pressed without a link: rings now"))
                effects += self._ring(self._rules[name], now, until - now)
        if not online:
            # Nobody will acknowledge now; what was pressed must be heard somewhere.
            for ring in self._rings.values():
                if not ring.acknowledged and ring.chime_at is not None:
                    self._sound(now)
                    ring.chime_at = None
        self._rest(now)
        return effects

    def acknowledged(self, ring: int, now: float, peer: str = "") -> list[Effect]:
        """``peer`` has answered: it rings there, unless it turns the call away at once."""
        known = self._rings.get(ring)
        if known is None:
            return []
        effects = self.tick(now)
        known.rings_at.setdefault(peer, now + _TURNS_AWAY)
        known.acknowledged = True
        known.chime_at = None
        if known.unreached:
            self.light.show(lights.RINGING, now)
        return effects

    def turned_away(self, ring: int, now: float, peer: str = "") -> list[Effect]:
        """No person said no: ``peer`` is in another call, has quiet hours, or cannot ring."""
        effects = self.tick(now)
        if ring in self._rings:
            self._rings[ring].rings_at.pop(peer, None)
        return effects

    def unreached(self, ring: int, now: float) -> list[Effect]:
        """None of those that it rings is there: the visitor need not wait for the chime."""
        known = self._rings.get(ring)
        if known is None or known.acknowledged:
            return []
        effects = self.tick(now)
        known.unreached = True
        if known.chime_at is not None:
            known.chime_at = None
            self._sound(now)
        self.light.show(lights.UNREACHED, now)
        note = f"{known.button.name}: nobody is online there; rings should somebody come back"
        return [*effects, Note(note, warning=True), *self.tick(now)]

    def ended(
        self,
        ring: int,
        outcome: PressOutcome,
        now: float,
        *,
        peer: str = "",
        response: object = None,
        busy: bool = False,
    ) -> list[Effect]:
        """That ring is over; ``busy``: it rang nowhere, as all are in other calls."""
        known = self._rings.pop(ring, None)
        if known is None:
            return []
        if busy or (not known.acknowledged and known.chime_at is not None):
            self._sound(now)
        shown = {
            PressOutcome.ACCEPTED: lights.ACCEPTED,
            PressOutcome.REFUSED: lights.REFUSED,
            PressOutcome.NOBODY: lights.NOBODY,
        }.get(outcome)
        if not self._rings:
            if shown is None:
                self.light.clear(now)
            else:
                self.light.show(shown, now)
        # Who said yes or no has heard it, however soon.
        answered = outcome in (PressOutcome.ACCEPTED, PressOutcome.REFUSED)
        rang = known.tell() if answered and not busy else []
        return [*rang, RunAction(known.button.name, outcome, peer, response), *self.tick(now)]

    def logged_out(self, now: float) -> list[Effect]:
        """This doorbell is stopped: what it rings is canceled by that."""
        rings = list(self._rings.values())
        return [
            effect for ring in rings for effect in self._forget(ring, PressOutcome.CANCELED, now)
        ]

    def call_started(self, call: str, peer: str, button: str, now: float) -> list[Effect]:
        """A call that ``button`` rang for goes on with ``peer``."""
        self._talks[call] = _DoorbellTalk(peer, button)
        self._rest(now)
        return self.tick(now)

    def call_message(
        self, call: str, peer: str, message: Any, heard_at: float, now: float
    ) -> list[Effect]:
        """``peer`` said something in that call, at ``heard_at``: it may ask for the door."""
        name = messages.asks_to_open(message)
        if name is None:
            return []
        talk = self._talks.get(call)
        if talk is None or talk.peer != peer:
            return [AuditDoor(peer, call, "there is no such call"), *self.tick(now)]
        if self._door is None:
            why = "there is no door here"
        else:
            why = self._door.refusal(peer, name, heard_at, now)
        if why:
            return [*self._refused(call, peer, why), *self.tick(now)]
        return [OpenDoor(call, peer), *self.tick(now)]

    def door_switched(self, done: OpenDoor, why: str, now: float) -> list[Effect]:
        """The pin is switched, or could not be, and ``why``."""
        if why or self._door is None:
            return [*self._refused(done.call, done.peer, why), *self.tick(now)]
        self._door.begin(now)
        self.light.show(lights.OPENED, now)
        opened = SayInCall(done.call, messages.opened(messages.OpenResult(True)))
        return [opened, AuditDoor(done.peer, done.call), *self.tick(now)]

    def _refused(self, call: str, peer: str, why: str) -> list[Effect]:
        refused = messages.opened(messages.OpenResult(False, why))
        return [SayInCall(call, refused), AuditDoor(peer, call, why)]

    @property
    def door_open(self) -> bool:
        """What the door's pin is to be."""
        return self._door is not None and self._door.open

    def call_ended(self, call: str, now: float) -> list[Effect]:
        """That call is over."""
        self._talks.pop(call, None)
        self._rest(now)
        return self.tick(now)

    def _deadlines(self) -> list[float | None]:
        door = None if self._door is None else self._door.deadline
        rings = [(ring.ends_at, ring.chime_at, ring.tell_at) for ring in self._rings.values()]
        return [door, self.chime.deadline, *(at for ring in rings for at in ring)]

    def _due(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for ring in list(self._rings.values()):
            if ring.chime_at is not None and ring.chime_at <= now:
                ring.chime_at = None
                self._sound(now)
                effects.append(Note(f"no panel acknowledged {ring.button.name}: chime"))
            if ring.tell_at is not None and ring.tell_at <= now:
                effects += ring.tell()
            if ring.ends_at <= now:
                effects.append(StopRing(ring.number))
                effects += self._forget(ring, PressOutcome.NOBODY, now)
        self.chime.tick(now)
        if self._door is not None:
            self._door.tick(now)
        return effects

    def _pressed(self, button: str, now: float) -> list[Effect]:
        rules = self._rules[button]
        underway = next((r for r in self._rings.values() if r.button.name == rules.name), None)
        if underway is None:
            talks = [call for call, talk in self._talks.items() if talk.button == button]
            return self._pressed_in_call(rules, talks, now) if talks else self._ring(rules, now)
        if not self._online or (not underway.acknowledged and underway.chime_at is None):
            # The panels cannot be heard of: this press, too, must make a sound.
            self._sound(now)
        if rules.while_ringing is WhileRinging.EXTEND:
            underway.ends_at = min(now + rules.ring_time, underway.limit_at)
            return [Note(f"{rules.name} pressed again: rings on")]
        if rules.while_ringing is WhileRinging.RE_RING and self._online:
            unheard_at = underway.chime_at
            stop = [StopRing(underway.number), *self._forget(underway, PressOutcome.CANCELED, now)]
            start = self._ring(rules, now)
            if unheard_at is not None:
                # Pressing on and on must not put off the chime.
                self._rings[self._last_ring].chime_at = unheard_at
            return [*stop, *start]
        return [Note(f"{rules.name} pressed again: it rings already")]

    def _pressed_in_call(self, rules: ButtonRules, calls: list[str], now: float) -> list[Effect]:
        if rules.in_call is WhileInCall.HANG_UP:
            return [EndCall(call) for call in calls]
        if rules.in_call is WhileInCall.RE_RING:
            return [*(EndCall(call) for call in calls), *self._ring(rules, now)]
        self._sound(now)
        text = f"{rules.name}: pressed again"
        note = Note(f"{rules.name} pressed in a call: told so")
        return [*(SayInCall(call, {"text": text}) for call in calls), note]

    def _ring(self, rules: ButtonRules, now: float, left: float | None = None) -> list[Effect]:
        """Ring for as long as a press does, or for the time that is ``left`` of that."""
        if not self._online:
            self._sound(now)
            self._waiting[rules.name] = now + rules.ring_time
            note = Note(f"{rules.name} pressed without a link to the broker: chime", warning=True)
            return [note, RunAction(rules.name, PressOutcome.OFFLINE)]
        self._last_ring += 1
        # The invitation expires by itself, except where a press may still prolong it.
        extends = rules.while_ringing is WhileRinging.EXTEND
        rings = rules.ring_time if left is None else left
        seconds = max(rules.ring_limit, rings) if extends else rings
        self._rings[self._last_ring] = _Ring(
            self._last_ring,
            rules,
            ends_at=now + (rings if extends else seconds + _OVERDUE),
            limit_at=now + seconds,
            chime_at=now + self._chime_after,
        )
        self.light.show(lights.RINGING, now)
        return [StartRing(self._last_ring, rules.name, seconds)]

    def _forget(self, ring: _Ring, outcome: PressOutcome, now: float) -> list[Effect]:
        """Drop a ring that was ended from this side; its end, when told, is no news."""
        del self._rings[ring.number]
        if not self._rings:
            if outcome is PressOutcome.NOBODY:
                self.light.show(lights.NOBODY, now)
            else:
                self.light.clear(now)
        return [RunAction(ring.button.name, outcome)]

    def _sound(self, now: float) -> None:
        self.chimes += 1
        self.chime.show(self._chime_pattern, now)

    def _idle_light(self) -> lights.Pattern:
        return lights.IN_CALL if self._talks else self._idle
