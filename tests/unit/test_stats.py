"""What is counted, and what the app gets of it."""

from __future__ import annotations

import pytest

from device_sdk.core.stats import ROUND_TRIP_BOUNDS, Stats


def test_a_fresh_snapshot_is_all_zeros() -> None:
    """Every counter is there from the start."""
    assert Stats().snapshot() == {
        "calls": {"local": {}, "remote": {}},
        "drops": {},
        "round_trip_ms": {str(b): 0 for b in ROUND_TRIP_BOUNDS} | {"inf": 0},
        "round_trip_seconds": 0.0,
        "sent": 0, "rang": 0, "missed": 0, "resends": 0, "connects": 0, "turned_away": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0, "1"), (0.001, "1"), (0.0011, "2"), (0.3, "500"), (10, "10000"),
                            (10.001, "inf")]
)  # fmt: skip
def test_a_round_trip_goes_into_the_first_bucket_that_holds_it(seconds: float, bucket: str) -> None:
    """Bounds are inclusive; beyond the last it is ``inf``."""
    stats = Stats()
    stats.round_trip(seconds)
    counted = stats.snapshot()["round_trip_ms"]
    assert [name for name, count in counted.items() if count] == [bucket]
    assert stats.snapshot()["round_trip_seconds"] == seconds


def test_a_snapshot_is_a_copy() -> None:
    """Changing it, or counting on, leaves the other as it was."""
    stats = Stats()
    stats.drops["tagged"] += 1
    stats.local_ends["canceled"] += 1
    stats.counters["sent"] += 2
    snapshot = stats.snapshot()
    stats.drops["tagged"] += 1
    snapshot["calls"]["local"]["canceled"] = 99
    assert (snapshot["drops"], snapshot["sent"]) == ({"tagged": 1}, 2)
    assert stats.local_ends["canceled"] == 1
