"""What keeps a peer within bounds, whatever comes: memory that forgets, speech that is paced."""

from __future__ import annotations

import math
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: What came of a stranger's flood, and was not answered: the counter of what is dropped so.
TOO_MANY = "too many"


class BoundedDict(dict[K, V]):
    """At most ``most`` entries, in the order in which they were last set; the oldest go first."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        while len(self) > self._most:
            del self[next(iter(self))]

    def clone(self) -> BoundedDict[K, V]:
        """An independent copy."""
        other: BoundedDict[K, V] = BoundedDict(self._most)
        other.update(self)
        return other

    @property
    def oldest(self) -> V | None:
        """The value that was set first."""
        return next(iter(self.values()), None)


class Pace:
    """So many at once, then so many a second: for each other peer, and for all together.

    One that says a lot uses up its own share and leaves the others theirs. Of peers, ``most`` are
    told apart; the total holds whatever they call themselves.
    """

    def __init__(self, each: tuple[float, float], total: tuple[float, float], most: int) -> None:
        self._each, self._total = each, total
        self._shares: BoundedDict[str, tuple[float, float]] = BoundedDict(most)
        self._left = (total[0], -math.inf)

    def clone(self) -> Pace:
        """An independent copy."""
        other = Pace(self._each, self._total, 0)
        other._shares, other._left = self._shares.clone(), self._left
        return other

    def allows(self, peer: str, now: float) -> bool:
        """Whether one more to ``peer`` is within bounds by now; if so, it is counted."""
        share = _filled(self._shares.get(peer, (self._each[0], -math.inf)), self._each, now)
        total = _filled(self._left, self._total, now)
        if share < 1 or total < 1:
            return False
        self._shares[peer], self._left = (share - 1, now), (total - 1, now)
        return True


def once_more(quiet_until: float, now: float, every: float) -> float | None:
    """Two at once, then one ``every`` seconds: the new ``quiet_until``, None for not yet."""
    return None if quiet_until > now + every else max(quiet_until, now) + every


def _filled(left: tuple[float, float], bound: tuple[float, float], now: float) -> float:
    at_once, a_second = bound
    have, at = left
    return min(at_once, have + (now - at) * a_second)
