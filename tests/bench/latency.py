"""How long a call takes, beside the ping-pong of two bare paho clients in the same run.

``python -m tests.bench.latency [--calls N]`` prints a table for each broker. Caller, callee and
broker are three processes, on both sides of the comparison. Small blocks of both take turns, and
each is compared with the floor's just before and after it: a noisy machine disturbs them alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers import BrokerProcess, BundledBroker, Mosquitto

from .peers import CONTENT
from .wire import invite_bytes

#: Calls in a block, some 50 ms of them: few, so that what else the machine does hits the floor's,
#: too; enough for a median.
BLOCK = 12
#: So many calls, and returns the milliseconds of each.
Measure = Callable[[int], list[float]]


class Peer:
    """A measured peer: send it a command, read its answer."""

    def __init__(self, role: str, url: str, name: str, peer: str, *more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.peers", role, url, name, peer, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def ask(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a measured peer ended with {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def peers(*args: tuple[str, ...]) -> Iterator[list[Peer]]:
    made: list[Peer] = []
    try:
        for one in args:  # one by one: what was started is stopped if the next one fails
            made.append(Peer(*one))  # noqa: PERF401
        yield made
    finally:
        for peer in reversed(made):
            peer.close()


def p50_p99(times: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


class Beside(NamedTuple):
    """What was measured, and its ratio at p50 to the floor in each block."""

    times: list[float]
    ratios: list[float]


def in_turn(
    floor: Measure, measured: Mapping[str, Measure], calls: int
) -> tuple[list[float], dict[str, Beside]]:
    """Blocks of each measured thing between blocks of the floor; the floor's times, and each."""
    before = floor(BLOCK)
    floors = list(before)
    found = {name: Beside([], []) for name in measured}
    for _ in range(max(1, round(calls / BLOCK))):
        for name, measure in measured.items():
            times, after = measure(BLOCK), floor(BLOCK)
            found[name].times.extend(times)
            found[name].ratios.append(statistics.median(times) / statistics.median(before + after))
            floors += after
            before = after
    return floors, found


def measure(broker: BrokerProcess, calls: int) -> list[list[str]]:
    """Rows of the table: what, p50, p99 in ms, and both as ratios to the floor."""
    url, size = broker.url, invite_bytes(CONTENT)
    rows = []
    with peers(
        ("pong", url, "b-callee", "b-caller"),
        ("ping", url, "b-caller", "b-callee"),
        ("callee", url, "t-callee", "t-caller"),
        ("caller", url, "t-caller", "t-callee"),
        ("aio-callee", url, "a-callee", "a-caller"),
        ("aio-caller", url, "a-caller", "a-callee"),
        ("talk-callee", url, "k-callee", "k-caller"),
        ("talk-caller", url, "k-caller", "k-callee"),
    ) as (_, ping, callee, caller, _, aio_caller, _, talker):
        measures: dict[str, Measure] = {
            "invite → receivedByPeer, threaded": lambda n: caller.ask(do="ring", calls=n),
            "invite → receivedByPeer, asyncio": lambda n: aio_caller.ask(calls=n),
            "message → handled → acknowledged": lambda n: talker.ask(do="talk", calls=n),
        }

        def bare(calls: int) -> list[float]:
            times: list[float] = ping.ask(calls=calls, size=size)
            return times

        for one in (bare, *measures.values()):
            one(30)  # warm
        floor, found = in_turn(bare, measures, calls)
        base = p50_p99(floor)
        rows.append(_row("bare paho ping-pong, QoS 1 (floor)", floor, base))
        for name, (times, ratios) in found.items():
            rows.append(_row(name, times, base, statistics.median(ratios)))
        callee.ask(do="told")
        accepted = caller.ask(do="accept", calls=calls // 4)
        told, _ = callee.ask(do="told")
        rows.append(_row("invite → accepted, told the caller", accepted, base))
        rows.append(_row("accept → accepted, told the callee", told, base))
        starts = caller.ask(do="cancel", calls=calls // 4)
        _, silences = callee.ask(do="told")
        gaps = [(end - start) * 1000 for start, end in zip(starts, silences, strict=True)]
        rows.append(_row("cancel → silence at the callee", gaps, base))
        for underway in (1, 10, 100):
            rate = caller.ask(do="rate", calls=max(200, calls // 2), underway=underway)
            rows.append([f"whole calls/s, {underway} underway", f"{rate:.0f}", "", "", ""])
    with peers(
        ("pong", url, "m-callee", "m-caller", "--nagle"),
        ("ping", url, "m-caller", "m-callee", "--nagle"),
        ("callee", url, "n-callee", "n-caller", "--nagle"),
        ("caller", url, "n-caller", "n-callee", "--nagle"),
    ) as (_, ping, _, caller):
        nagle = ping.ask(calls=50, size=size)
        rows.append(_row("floor with paho as installed (no TCP_NODELAY)", nagle, base))
        nagle = caller.ask(do="ring", calls=50)
        rows.append(_row("ours with paho as installed (no TCP_NODELAY)", nagle, base))
    return rows


def _row(
    what: str, times: Sequence[float], base: tuple[float, float], ratio: float | None = None
) -> list[str]:
    """A row; ``ratio`` at p50 where it was taken block by block."""
    p50, p99 = p50_p99(times)
    ratios = [f"{p50 / base[0] if ratio is None else ratio:.2f}", f"{p99 / base[1]:.2f}"]
    return [what, f"{p50:.2f}", f"{p99:.2f}", *ratios]


HEAD = ["", "p50 ms", "p99 ms", "p50 ÷ floor", "p99 ÷ floor"]
FIRST, OTHERS = 48, 13  # how wide the columns are printed


def split(line: str) -> list[str]:
    """The cells of a printed row."""
    starts = range(FIRST, FIRST + OTHERS * (len(HEAD) - 1), OTHERS)
    return [line[:FIRST].strip(), *(line[at : at + OTHERS].strip() for at in starts)]


def run(calls: int) -> dict[str, list[list[str]]]:
    tables = {}
    with BundledBroker() as bundled:
        tables["bundled broker"] = measure(bundled, calls)
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder)) as mosquitto:
        tables["mosquitto"] = measure(mosquitto, calls)
    return tables


def printed(tables: dict[str, list[list[str]]]) -> str:
    """The tables as text."""
    lines = []
    for name, rows in tables.items():
        lines += ["", name]
        for row in [HEAD, *rows]:
            lines.append(f"{row[0]:{FIRST}}" + "".join(f"{cell:>{OTHERS}}" for cell in row[1:]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    print(printed(run(parser.parse_args().calls)))


if __name__ == "__main__":
    main()
