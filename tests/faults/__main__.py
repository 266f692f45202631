"""The fault matrix: ``python -m tests.faults [--only FAULT] [--broker NAME] [--write FILE]``."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.exported import Bridge, Nats
from tests.faults.cells import run
from tests.faults.faults import FAULTS, OPEN, STATES, Fault
from tests.faults.registered import RegisteredBroker
from tests.faults.stage import Result, every_peer_id
from tests.servers import BrokerProcess, BundledBroker, Mosquitto

BROKERS: dict[str, Callable[[Path], BrokerProcess]] = {
    "bundled": lambda _folder: BundledBroker(),
    "mosquitto": Mosquitto,
    "bridge": Bridge,
    "nats": Nats,
}
BEGIN, END = "<!-- fault matrix: written by make faults -->", "<!-- end of the fault matrix -->"


def table(results: list[Result], before: str = "") -> str:
    """The results as Markdown: a table for each broker, and the bounds.

    ``before``: what stands there now, and stays where there are no results.
    """
    lines = [BEGIN, ""]
    by: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        by.setdefault((result.broker, result.fault, result.state), []).append(result)
    ran = {result.broker for result in results}
    kept = _cells_of(before)
    for broker in BROKERS:
        if broker not in ran:
            lines += re.findall(rf"^### {broker}\n.*?(?=^### )", before, re.DOTALL | re.MULTILINE)
            continue
        lines += [
            f"### {broker}",
            "",
            "| fault | " + " | ".join(STATES) + " |",
            "|---" * (len(STATES) + 1) + "|",
        ]
        for name, fault in FAULTS.items():
            if broker not in fault.brokers:
                continue
            cells = []
            for state in STATES:
                found = by.get((broker, name, state), [])
                passed = sum(not r.problem for r in found)
                worst = max((r.seconds for r in found), default=0.0)
                wanted = len(fault.cells(state))
                shown = f"{passed}/{wanted} · {worst:.1f} s" if found else ""
                if not found:
                    shown = kept.get((broker, fault.title, state), "")
                cells.append("open" if (name, state) in OPEN else shown)
            lines.append(f"| {fault.title} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["### Bounds", "", "| fault | bound | because |", "|---|---|---|"]
    lines += [f"| {f.title} | {f.bound:.0f} s | {f.why} |" for f in FAULTS.values()]
    return "\n".join([*lines, "", END])


def _cells_of(text: str) -> dict[tuple[str, str, str], str]:
    """Broker, title of a fault and state: what the tables say there."""
    found: dict[tuple[str, str, str], str] = {}
    broker, head = "", [""]
    for line in text.splitlines():
        words = [word.strip() for word in line.strip("|").split("|")]
        if line.startswith("### "):
            broker = line.removeprefix("### ")
        elif line.startswith("| fault |"):
            head = words
        elif line.startswith("|") and broker in BROKERS:
            found |= {(broker, words[0], s): w for s, w in zip(head, words, strict=False) if w}
    return found


def write(path: Path, text: str) -> None:
    """Put the table between its marks in ``path``."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(before + text + after)


def written(path: Path) -> str:
    """What stands between its marks there."""
    return path.read_text().partition(BEGIN)[2].partition(END)[0]


def broker_for(fault: Fault, name: str, folder: Path) -> BrokerProcess:
    """The broker that the cells of a fault are at."""
    if fault.name == "removed":
        return RegisteredBroker(folder, every_peer_id())
    return BROKERS[name](folder)


def _at_broker(name: str, faults: list[str], states: tuple[str, ...]) -> list[Result]:
    results: list[Result] = []
    for fault in faults:
        if name not in FAULTS[fault].brokers:
            continue
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            broker_for(FAULTS[fault], name, Path(folder)) as broker,
        ):
            at = time.monotonic()
            found = run(FAULTS[fault], broker, states)
        bad = [result for result in found if result.problem]
        worst = max((result.seconds for result in found), default=0.0)
        lines = [
            f"{name:10} {fault:15} {len(found) - len(bad)}/{len(found)} passed, the slowest"
            f" {worst:.1f} of {FAULTS[fault].bound:.0f} s ({time.monotonic() - at:.1f} s)",
            *(f"--- {result.name}" for result in bad),
            *(
                f"{result.name}: {result.given_out} given out though cleared, found by a connection"
                for result in found
                if result.given_out
            ),
        ]
        print("\n".join(lines), flush=True)
        results += found
    return results


def main() -> int:
    """Run the cells asked for; the exit status is 1 if one of them does not pass."""
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--only", action="append", choices=FAULTS, help="this fault, not all")
    parser.add_argument("--broker", action="append", choices=BROKERS, help="at this broker only")
    parser.add_argument("--state", action="append", choices=STATES, help="in this state only")
    parser.add_argument("--repeat", type=int, default=1, help="run all of it so often")
    parser.add_argument("--write", type=Path, help="put the table into this file")
    args = parser.parse_args()
    logging.getLogger("bellwire").setLevel(logging.CRITICAL)  # it is full of what is done here
    began = time.monotonic()
    failed = 0
    brokers = args.broker or list(BROKERS)
    for turn in range(args.repeat):
        # One after the other at each broker, and two brokers side by side: a cell mostly waits. The
        # second goes backwards, so that both do not start their processes at the same time.
        faults = list(args.only or FAULTS)
        orders = [faults[:: -1 if number % 2 else 1] for number in range(len(brokers))]
        with ThreadPoolExecutor(2) as pool:
            states = [tuple(args.state or STATES)] * len(brokers)
            parts = pool.map(_at_broker, brokers, orders, states)
            results = [result for part in parts for result in part]
        bad = [result for result in results if result.problem]
        failed += len(bad)
        print("\n".join(f"--- {result.name}\n{result.problem}" for result in bad))
        print(
            f"run {turn + 1}: {len(results)} cells, {len(bad)} failed,"
            f" {time.monotonic() - began:.0f} s so far",
            *(f"failed: {result.name}" for result in bad),
            sep="\n",
            flush=True,
        )
        if args.write is not None:
            write(args.write, table(results, written(args.write)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
