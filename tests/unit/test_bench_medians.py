"""The bench's medians: of each cell over whole runs, an old commit's read from what it prints."""

from __future__ import annotations

import itertools

from tests.bench import latency, medians, wire


def test_each_cell_is_the_median_over_the_runs_with_as_many_digits() -> None:
    """One slow run moves no figure; what has no figure has none in the median."""
    runs: list[medians.Tables] = [
        {"b": [["ring", "0.50", "1.00", "1.20", "1.10"], ["calls/s", rate, "", "", ""]]}
        for rate in ("300", "500")
    ]
    slow: medians.Tables = {
        "b": [["ring", "9.00", "99.00", "8.00", "7.00"], ["calls/s", "400", "", "", ""]]
    }
    assert medians.median([*runs, slow]) == {
        "b": [["ring", "0.50", "1.00", "1.20", "1.10"], ["calls/s", "400", "", "", ""]]
    }


def test_what_the_latency_bench_prints_is_read_back() -> None:
    """Old commits print the same columns, and are compared by them."""
    tables = {
        "bundled broker": [
            ["bare paho ping-pong, QoS 1 (floor)", "0.33", "0.60", "1.00", "1.00"],
            ["whole calls/s, 1 underway", "344", "", "", ""],
        ],
        "mosquitto": [["invite → receivedByPeer, threaded", "1.29", "6.78", "1.25", "1.31"]],
    }
    assert medians.parse(latency.printed(tables)) == tables


def test_the_calls_whose_bytes_are_counted_can_be_made() -> None:
    """What the bench begins with."""
    assert {name: len(publishes) > 3 for name, publishes in wire.scenes().items()} == {
        "accepted": True, "refused": True, "canceled": True,
    }  # fmt: skip


def test_a_ratio_is_of_a_block_and_the_floors_beside_it() -> None:
    """What slows the machine down for a while is in both: no ratio shows it."""
    clock = itertools.count(1)

    def twice(calls: int, times: float) -> list[float]:
        return [times * next(clock)] * calls  # slower with each block

    floor, found = latency.in_turn(
        lambda n: twice(n, 1.0), {"ring": lambda n: twice(n, 1.5)}, 3 * latency.BLOCK
    )
    ring = found["ring"]
    assert (len(floor), len(ring.times)) == (4 * latency.BLOCK, 3 * latency.BLOCK)
    assert ring.ratios == [1.5, 1.5, 1.5]
