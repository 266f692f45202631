"""What a peer counted since its login; cheap to keep, copied out for the app."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any, Final

#: Upper bounds of the round-trip histogram (send to the callee's first word), in milliseconds.
ROUND_TRIP_BOUNDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class Stats:
    """Counters by name; those with a cause are kept by (name, cause)."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.local_ends: Counter[str] = Counter()
        self.remote_ends: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.round_trips = [0] * (len(ROUND_TRIP_BOUNDS) + 1)
        self.round_trip_sum = 0.0

    def round_trip(self, seconds: float) -> None:
        """Count the time from a send to the callee's first word."""
        self.round_trips[bisect_left(ROUND_TRIP_BOUNDS, seconds * 1000)] += 1
        self.round_trip_sum += seconds

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain dictionaries: ``calls`` by end, ``drops`` by cause, and counters.

        ``round_trip_ms`` maps the upper bound of each bucket (``inf`` last) to its count, and
        ``round_trip_seconds`` is their sum.
        """
        bounds = [*(str(b) for b in ROUND_TRIP_BOUNDS), "inf"]
        return {
            "calls": {"local": dict(self.local_ends), "remote": dict(self.remote_ends)},
            "drops": dict(self.drops),
            "round_trip_ms": dict(zip(bounds, self.round_trips, strict=True)),
            "round_trip_seconds": self.round_trip_sum,
            **{
                name: self.counters[name]
                for name in ("sent", "rang", "missed", "resends", "connects", "turned_away")
            },
        }
