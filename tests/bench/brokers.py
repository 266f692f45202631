"""A ring on each broker, beside the ping-pong of two bare clients there: one table.

``python -m tests.bench.brokers [--calls N]``. Each broker runs as ``bellwire-broker export`` writes
it; of several nodes the two ends are at different ones. Small blocks of both take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.exported import Bridge, ExportedMosquitto, Nats
from tests.servers import BrokerProcess, BundledBroker

from .latency import in_turn, p50_p99, peers
from .peers import CONTENT
from .wire import invite_bytes

BROKERS: dict[str, Callable[[Path], BrokerProcess]] = {
    "bundled": lambda _folder: BundledBroker(),
    "mosquitto": ExportedMosquitto,
    "two mosquittos, bridged": Bridge,
    "NATS, three nodes": Nats,
}
HEAD = ["", "ping-pong p50 ms", "ring p50 ms", "÷", "ping-pong p99 ms", "ring p99 ms", "÷"]


def measure(name: str, broker: BrokerProcess, calls: int) -> list[str]:
    """The row of one broker."""
    here, there, size = broker.urls[0], broker.urls[-1], invite_bytes(CONTENT)
    more = () if broker.subscribe_qos else ("--qos0",)
    with peers(
        ("pong", there, "b-callee", "b-caller", *more),
        ("ping", here, "b-caller", "b-callee", *more),
        ("callee", there, "t-callee", "t-caller", *more),
        ("caller", here, "t-caller", "t-callee", *more),
    ) as (_, ping, _, caller):
        ping.ask(calls=30, size=size)  # warm
        caller.ask(do="ring", calls=30)
        floor, found = in_turn(
            lambda n: ping.ask(calls=n, size=size),  # type: ignore[no-any-return]  # of JSON
            {"ring": lambda n: caller.ask(do="ring", calls=n)},
            calls,
        )
    ours = found["ring"]
    (least, late), (p50, p99) = p50_p99(floor), p50_p99(ours.times)
    figures = (least, p50, statistics.median(ours.ratios), late, p99, p99 / late)
    return [name, *(f"{figure:.2f}" for figure in figures)]


def run(calls: int) -> list[list[str]]:
    """A row for each broker."""
    rows = []
    for name, make in BROKERS.items():
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            make(Path(folder)) as broker,
        ):
            rows.append(measure(name, broker, calls))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    for row in [HEAD, *run(parser.parse_args().calls)]:
        print(f"{row[0]:26}" + "".join(f"{cell:>18}" for cell in row[1:]), flush=True)


if __name__ == "__main__":
    main()
