"""What a doorbell decides: pure. Presses, the link and time in; effects out.

Every method takes ``now``, seconds of any monotonic clock, and returns what is to be done, in
order. :attr:`Doorbell.deadline` says when :meth:`Doorbell.tick` is due.

A press is never silent: a panel acknowledges it within ``chime_after``, or the chime sounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from . import lights
from .debounce import Contact, Debouncer

#: A ring whose end was not told this long after its time is given up here (seconds).
_OVERDUE = 5.0


class WhileRinging(StrEnum):
    """What a press does while the same button's ring is underway."""

    IGNORE = "ignore"
    EXTEND = "extend"
    RE_RING = "re-ring"


class Outcome(StrEnum):
    """How a press ended, as commands and web hooks see it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOBODY = "nobody"
    CANCELED = "canceled"
    #: Not rung yet: no link to the broker. Should it come back in time it rings, and ends anew.
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class ButtonRules:
    """The decisions of one button; times in seconds."""

    name: str
    bounce_time: float = 0.03
    stuck_after: float = 30.0
    while_ringing: WhileRinging = WhileRinging.IGNORE
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
class Tell:
    """Run the command or web hook for this outcome of a press of ``button``."""

    button: str
    outcome: Outcome
    peer: str = ""
    response: object = None


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log; ``warning`` when somebody should look."""

    text: str
    warning: bool = False


Effect = StartRing | StopRing | Tell | Note


@dataclass(slots=True)
class _Ring:
    number: int
    button: ButtonRules
    ends_at: float
    limit_at: float
    chime_at: float | None
    acknowledged: bool = False
    unreached: bool = False


class Doorbell:
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
    ) -> None:
        self._rules = {rules.name: rules for rules in buttons}
        self._contacts = {
            rules.name: Debouncer(bounce_time=rules.bounce_time, stuck_after=rules.stuck_after)
            for rules in buttons
        }
        self._chime_after = chime_after
        self._chime_pattern = chime_pattern or lights.strokes(1.0)
        self._idle = lights.ON if idle_light else lights.OFF
        self._rings: dict[int, _Ring] = {}
        self._stuck: set[str] = set()
        #: Pressed without a link: until when each rings, should the link come back.
        self._waiting: dict[str, float] = {}
        self._online = False
        self._last_ring = 0
        self.light = lights.Player(lights.OFFLINE)
        self.chime = lights.Player()
        #: How often the chime was set off: once for each press that no panel took over.
        self.chimes = 0

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` is due, or None."""
        due = [contact.deadline for contact in self._contacts.values()]
        due += [self.light.deadline, self.chime.deadline]
        for ring in self._rings.values():
            due += [ring.ends_at, ring.chime_at]
        return min((at for at in due if at is not None), default=None)

    @property
    def online(self) -> bool:
        """Whether there is a link to the broker."""
        return self._online

    def start(self, held: frozenset[str], now: float) -> list[Effect]:
        """Begin; ``held`` names the buttons that are closed already (they do not ring)."""
        for name in held:
            rules = self._rules[name]
            contact = Debouncer(
                bounce_time=rules.bounce_time, stuck_after=rules.stuck_after, active=True
            )
            contact.start(now)
            self._contacts[name] = contact
        self.light.rest(self._resting(), now)
        self.light.tick(now)
        return [
            Note(f"button {name} is closed at the start: it rings once it was open", warning=True)
            for name in sorted(held)
        ]

    def edge(self, button: str, active: bool, now: float) -> list[Effect]:
        """The raw contact of ``button`` is now ``active``."""
        contact = self._contacts[button]
        # What settled before this edge happened at its own time, whenever the loop came to it.
        effects = self._contact(button, contact.edge(active, now), now)
        return effects + self._advance(now)

    def link(self, online: bool, now: float) -> list[Effect]:
        """The link to the broker came or went."""
        effects = self._advance(now)
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
        self.light.rest(self._resting(), now)
        return effects

    def acknowledged(self, ring: int, now: float) -> list[Effect]:
        """A panel rings."""
        known = self._rings.get(ring)
        if known is None:
            return []
        effects = self._advance(now)
        known.acknowledged = True
        known.chime_at = None
        if known.unreached:
            self.light.show(lights.RINGING, now)
        return effects

    def unreached(self, ring: int, now: float) -> list[Effect]:
        """None of those that it rings is there: the visitor need not wait for the chime."""
        known = self._rings.get(ring)
        if known is None or known.acknowledged:
            return []
        effects = self._advance(now)
        known.unreached = True
        if known.chime_at is not None:
            known.chime_at = None
            self._sound(now)
        self.light.show(lights.UNREACHED, now)
        note = f"{known.button.name}: nobody is online there; rings should somebody come back"
        return [*effects, Note(note, warning=True), *self._advance(now)]

    def ended(
        self, ring: int, outcome: Outcome, now: float, *, peer: str = "", response: object = None
    ) -> list[Effect]:
        """That ring is over."""
        known = self._rings.pop(ring, None)
        if known is None:
            return []
        if not known.acknowledged and known.chime_at is not None:
            self._sound(now)
        shown = {
            Outcome.ACCEPTED: lights.ACCEPTED,
            Outcome.REFUSED: lights.REFUSED,
            Outcome.NOBODY: lights.NOBODY,
        }.get(outcome)
        if not self._rings:
            if shown is None:
                self.light.clear(now)
            else:
                self.light.show(shown, now)
        return [Tell(known.button.name, outcome, peer, response), *self._advance(now)]

    def tick(self, now: float) -> list[Effect]:
        """Time has come to ``now``."""
        return self._advance(now)

    def _advance(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for name, contact in self._contacts.items():
            effects += self._contact(name, contact.tick(now), now)
        for ring in list(self._rings.values()):
            if ring.chime_at is not None and ring.chime_at <= now:
                ring.chime_at = None
                self._sound(now)
                effects.append(Note(f"no panel acknowledged {ring.button.name}: chime"))
            if ring.ends_at <= now:
                effects.append(StopRing(ring.number))
                effects += self._forget(ring, Outcome.NOBODY, now)
        self.light.tick(now)
        self.chime.tick(now)
        return effects

    def _contact(self, name: str, changes: list[Contact], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for change in changes:
            if change is Contact.PRESSED:
                effects += self._pressed(self._rules[name], now)
            elif change is Contact.STUCK:
                self._stuck.add(name)
                self.light.rest(self._resting(), now)
                seconds = self._rules[name].stuck_after
                text = f"button {name} has been held for {seconds:g} s: stuck, or a short circuit"
                effects.append(Note(text, warning=True))
            elif name in self._stuck:
                self._stuck.discard(name)
                self.light.rest(self._resting(), now)
                effects.append(Note(f"button {name} is open again"))
        return effects

    def _pressed(self, rules: ButtonRules, now: float) -> list[Effect]:
        underway = next((r for r in self._rings.values() if r.button.name == rules.name), None)
        if underway is None:
            return self._ring(rules, now)
        if not self._online or (not underway.acknowledged and underway.chime_at is None):
            # The panels cannot be heard of: this press, too, must make a sound.
            self._sound(now)
        if rules.while_ringing is WhileRinging.EXTEND:
            underway.ends_at = min(now + rules.ring_time, underway.limit_at)
            return [Note(f"{rules.name} pressed again: rings on")]
        if rules.while_ringing is WhileRinging.RE_RING and self._online:
            unheard_at = underway.chime_at
            stop = [StopRing(underway.number), *self._forget(underway, Outcome.CANCELED, now)]
            start = self._ring(rules, now)
            if unheard_at is not None:
                # Pressing on and on must not put off the chime.
                self._rings[self._last_ring].chime_at = unheard_at
            return [*stop, *start]
        return [Note(f"{rules.name} pressed again: it rings already")]

    def _ring(self, rules: ButtonRules, now: float, left: float | None = None) -> list[Effect]:
        """Ring for as long as a press does, or for the time that is ``left`` of that."""
        if not self._online:
            self._sound(now)
            self._waiting[rules.name] = now + rules.ring_time
            note = Note(f"{rules.name} pressed without a link to the broker: chime", warning=True)
            return [note, Tell(rules.name, Outcome.OFFLINE)]
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

    def _forget(self, ring: _Ring, outcome: Outcome, now: float) -> list[Effect]:
        """Drop a ring that was ended from this side; its end, when told, is no news."""
        del self._rings[ring.number]
        if not self._rings:
            if outcome is Outcome.NOBODY:
                self.light.show(lights.NOBODY, now)
            else:
                self.light.clear(now)
        return [Tell(ring.button.name, outcome)]

    def _sound(self, now: float) -> None:
        self.chimes += 1
        self.chime.show(self._chime_pattern, now)

    def _resting(self) -> lights.Pattern:
        if self._stuck:
            return lights.STUCK
        return self._idle if self._online else lights.OFFLINE
