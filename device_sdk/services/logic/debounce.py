"""From a contact's raw edges to presses: pure, time in seconds of any monotonic clock.

A level counts once it has held for ``bounce_time``; so a burst of bounces is one change, and a
spike on a long bell wire that is shorter than that is none. A press that is never released is
told once as stuck.
"""

from __future__ import annotations

from enum import Enum


class Contact(Enum):
    """What a debounced contact did."""

    PRESSED = "pressed"
    RELEASED = "released"
    STUCK = "stuck"


class Debouncer:
    """One contact. Feed :meth:`edge` and, at :attr:`deadline`, :meth:`tick`.

    ``bounce_time`` is how long a level must hold, ``stuck_after`` how long a press may last, both
    in seconds. A contact that is closed from the start (``active``) is taken as held, not as
    pressed: a jammed button must not ring at every boot.
    """

    def __init__(
        self, *, bounce_time: float = 0.03, stuck_after: float = 30.0, active: bool = False
    ) -> None:
        self._bounce_time = bounce_time
        self._stuck_after = stuck_after
        self._level = active
        self._level_since: float | None = None
        self._pressed = active
        self._stuck_at: float | None = None

    @property
    def pressed(self) -> bool:
        """Whether the settled level is active."""
        return self._pressed

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` is due, or None while nothing can change by itself."""
        due = [at for at in (self._settles_at(), self._stuck_at) if at is not None]
        return min(due, default=None)

    def start(self, now: float) -> list[Contact]:
        """Begin counting how long a contact that was closed from the start stays so."""
        if self._pressed:
            self._stuck_at = now + self._stuck_after
        return []

    def edge(self, active: bool, now: float) -> list[Contact]:
        """The raw level is now ``active``. Levels that settled before ``now`` are told first."""
        changes = self.tick(now)
        if active != self._level:
            self._level = active
            self._level_since = now
        return changes

    def tick(self, now: float) -> list[Contact]:
        """Tell what has settled or stuck by ``now``."""
        changes: list[Contact] = []
        settles_at = self._settles_at()
        if settles_at is not None and settles_at <= now:
            self._pressed = self._level
            self._stuck_at = settles_at + self._stuck_after if self._pressed else None
            changes.append(Contact.PRESSED if self._pressed else Contact.RELEASED)
        if self._stuck_at is not None and self._stuck_at <= now:
            self._stuck_at = None
            changes.append(Contact.STUCK)
        return changes

    def _settles_at(self) -> float | None:
        if self._level == self._pressed or self._level_since is None:
            return None
        return self._level_since + self._bounce_time
