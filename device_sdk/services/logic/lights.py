"""What a light or a buzzer shows, as data: pure, time in seconds of any monotonic clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Sums of short times drift in floats; a change this close is due.
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Pattern:
    """On and off times in turn, beginning with on, in seconds; ``repeat`` 0 is for ever.

    No times at all is steady: on if ``rest`` is true. ``rest`` is also the level afterwards.
    """

    times: tuple[float, ...] = ()
    repeat: int = 0
    rest: bool = False

    def level(self, elapsed: float) -> tuple[bool, float | None]:
        """The level ``elapsed`` seconds in, and the seconds until it changes (None: never)."""
        period = sum(self.times)
        if not period:
            return self.rest, None
        turn = math.floor((elapsed + _EPSILON) / period)
        if self.repeat and turn >= self.repeat:
            return self.rest, None
        within = elapsed - turn * period
        for index, seconds in enumerate(self.times):
            if within + _EPSILON < seconds:
                return index % 2 == 0, seconds - within
            within -= seconds
        return self.level((turn + 1) * period)


#: What a visitor or an owner can tell apart at a glance.
OFF = Pattern()
ON = Pattern(rest=True)
OFFLINE = Pattern((0.1, 1.9))
RINGING = Pattern((0.25, 0.25))
ACCEPTED = Pattern((3.0, 0.1), repeat=1)
REFUSED = Pattern((0.15, 0.15), repeat=4)
NOBODY = Pattern((0.6, 0.6), repeat=3)
#: Whom the button rings is not there; it rings should it come back.
UNREACHED = Pattern((0.1, 0.9))
#: The door is open: quick flutter.
OPENED = Pattern((0.05, 0.05), repeat=15)
#: A call goes on: on, with a wink.
IN_CALL = Pattern((1.8, 0.2))
STUCK = Pattern((0.1, 0.1, 0.1, 0.7))
#: A bell, not a light: two strokes and a pause.
RING = Pattern((0.4, 0.2, 0.4, 2.0))


def strokes(seconds: float) -> Pattern:
    """One sounding of ``seconds``."""
    return Pattern((seconds, 0.1), repeat=1)


class Player:
    """Plays one pattern at a time over a resting one. Ask :attr:`level` after each call."""

    def __init__(self, resting: Pattern = OFF) -> None:
        self._resting = resting
        self._shown: Pattern | None = None
        self._since = 0.0
        self.level = False
        self.deadline: float | None = None

    def rest(self, pattern: Pattern, now: float) -> None:
        """Show ``pattern`` whenever nothing else is shown."""
        if pattern == self._resting:
            return
        self._resting = pattern
        if self._shown is None:
            self._since = now
        self.tick(now)

    def show(self, pattern: Pattern, now: float) -> None:
        """Show ``pattern`` from its beginning; one that ends gives way to the resting one."""
        self._shown, self._since = pattern, now
        self.tick(now)

    def clear(self, now: float) -> None:
        """Back to the resting pattern."""
        if self._shown is not None:
            self._shown, self._since = None, now
        self.tick(now)

    def tick(self, now: float) -> None:
        """Bring :attr:`level` and :attr:`deadline` up to ``now``."""
        if self._shown is not None and self._shown.times:
            total = sum(self._shown.times) * self._shown.repeat
            if self._shown.repeat and now + _EPSILON >= self._since + total:
                self._shown, self._since = None, self._since + total
        pattern = self._shown if self._shown is not None else self._resting
        self.level, left = pattern.level(max(0.0, now - self._since))
        self.deadline = None if left is None else now + left
