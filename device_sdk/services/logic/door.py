"""What a door decides: pure. Requests of a call's peer and time in; open or not, and why, out.

It is closed but for a while after a request of somebody whom it obeys, made in a call that is up,
not long ago. It remembers nothing: after a restart it is closed, and no old request opens it.
"""

from __future__ import annotations

from dataclasses import dataclass

#: A door is open at a stretch for at most this long, whatever is asked; seconds.
OPEN_LIMIT = 30.0
#: A request that was heard this long ago, as by a loop that hung, opens nothing any more; seconds.
LATE = 2.0


@dataclass(frozen=True, slots=True)
class DoorRules:
    """One door; ``seconds``: how long a request opens it; ``obeys``: the peers that may ask."""

    obeys: frozenset[str]
    seconds: float = 3.0
    name: str = "door"


class DoorLogic:
    """One door; :attr:`open` is what its pin is to be. Not thread-safe."""

    def __init__(self, rules: DoorRules) -> None:
        self.rules = rules
        self._since = 0.0
        self._until: float | None = None

    @property
    def open(self) -> bool:
        """Whether it is open."""
        return self._until is not None

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` closes it; None while it is closed."""
        return self._until

    def refusal(self, peer: str, name: str, heard_at: float, now: float) -> str:
        """Why a request of ``peer`` for the door ``name`` ("": the only one) is refused, or ""."""
        if peer not in self.rules.obeys:
            return "this door does not obey you"
        if name not in ("", self.rules.name):
            return "there is no door of that name here"
        if now - heard_at > LATE:
            return "the request came too late"
        return ""

    def begin(self, now: float) -> None:
        """Open it, or leave it open for longer."""
        if self._until is None:
            self._since = now
        self._until = min(now + self.rules.seconds, self._since + OPEN_LIMIT)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Close it when its time is over."""
        if self._until is not None and self._until <= now:
            self._until = None
