"""Runs every scenario in both directions on both brokers, and prints the table."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from tests.interop.scenarios import SCENARIOS, Two
from tests.servers import BrokerProcess, BundledBroker, Mosquitto

DIRECTIONS = (("JavaScript", "Python"), ("Python", "JavaScript"))
Cell = tuple[str, tuple[str, str], str]


def _play(broker: BrokerProcess, realm: str, cell: Cell) -> str:
    """How it went: seconds, or nothing where it failed."""
    _, programs, name = cell
    begun = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            SCENARIOS[name](Two(broker, realm, programs, stack))
    except Exception:  # noqa: BLE001 - whatever it is, the other cells are played
        print(f"--- {cell}", traceback.format_exc(), sep="\n", file=sys.stderr, flush=True)
        return ""
    return f"{time.monotonic() - begun:.1f} s"


def main() -> int:
    """Both brokers beside each other; 1 if one cell fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop", description=__doc__)
    parser.add_argument("words", nargs="*", help="only scenarios with one of these in their name")
    words = parser.parse_args().words
    names = [name for name in SCENARIOS if not words or any(word in name for word in words)]
    went: dict[Cell, str] = {}

    def play(broker: BrokerProcess) -> None:
        with broker:
            for number, name in enumerate(names):
                for way, programs in enumerate(DIRECTIONS):
                    cell = (broker.name, programs, name)
                    went[cell] = _play(broker, f"i{number}-{way}", cell)

    with tempfile.TemporaryDirectory() as folder:
        brokers = (BundledBroker(), Mosquitto(Path(folder)))
        threads = [threading.Thread(target=play, args=(broker,)) for broker in brokers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    columns = [(broker.name, programs) for broker in brokers for programs in DIRECTIONS]
    print("| scenario |" + "".join(f" {a} calls {b}, {name} |" for name, (a, b) in columns))
    print("|---|" + "---|" * len(columns))
    for name in names:
        cells = [went.get((broker, programs, name), "") or "FAILED" for broker, programs in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    bad = len(names) * len(columns) - sum(1 for how in went.values() if how)
    print(f"{len(names) * len(columns) - bad} of {len(names) * len(columns)} as the protocol says")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
