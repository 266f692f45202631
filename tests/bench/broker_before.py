"""The bundled broker beside itself as it was: CPU of a message, messages a second, memory, size.

``python -m tests.bench.broker_before [COMMIT] [--rounds N]``: that commit is unpacked and serves
with its own ``tests.bench.broker_servers``. Today's client measures both, in turns; each figure is
the median of the rounds.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import statistics
import time
import tokenize
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped] # ships no types

from .broker_scale import idle_devices, room_for_sockets
from .broker_servers import process_of
from .broker_throughput import throughput
from .medians import ROOT, unpacked

#: The last commit whose broker was amqtt's own, changed method by method.
BEFORE = "b143690"
HEAD = ["medians of {rounds} rounds", "today", "{commit}", "today ÷ {commit}", "asked"]
#: What is measured: its name, the broker's, whether messages are retained.
KINDS = (("QoS 1", "bellwire", False), ("retained in SQLite", "bellwire persistent", True))
#: What is asked of a row: of the two broker's ratio, or of today's figure.
ASKED = {
    "CPU of a message, QoS 1, µs": "≤ 0.65 x",
    "CPU of a message, retained in SQLite, µs": "≤ 0.65 x",
    "messages a second, QoS 1": "≥ 1.4 x",
    "an idle device, KB": "≤ 18",
    "lines": "≤ 2,300",
}
#: The modules that take a message from socket to socket, today's and those before them.
ROOMS = ("core", "store", "net")
MODULES = (
    "adapters", "broker", "handler", "index", "keeping", "limits", "routing", "session", "store",
    "wire",
)  # fmt: skip
_WARM, _COUNT, _DEVICES = 2000, 20_000, 1000


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has taken, to the nanosecond where the kernel tells them."""
    threads = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    if threads:
        return sum(int(each.read_text().split()[0]) for each in threads) / 1e9
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


def messages(what: str, name: str, at: Path, *, retain: bool) -> dict[str, float]:
    """Messages a second, what each costs the broker, and how busy that keeps both ends."""
    with process_of(name, at=at) as (port, pid):
        asyncio.run(throughput(port, _WARM, retain=retain))
        before, own = cpu(pid), time.process_time()
        rate = asyncio.run(throughput(port, _COUNT, retain=retain))
        spent, own, took = cpu(pid) - before, time.process_time() - own, _COUNT / rate
    return {
        f"CPU of a message, {what}, µs": spent / _COUNT * 1e6,
        f"messages a second, {what}": rate,
        f"of that time the broker computes, {what}, %": spent / took * 100,
        f"of that time the client computes, {what}, %": own / took * 100,
    }


def device(at: Path) -> float:
    """KB of the broker for one more idle device."""

    async def grown(port: int, broker: psutil.Process) -> float:
        first = await idle_devices(port, 50)
        before = broker.memory_info().rss
        rest = await idle_devices(port, _DEVICES, 50)
        more = broker.memory_info().rss - before
        for client in (*first, *rest):
            client.transport.abort()
        return float(more) / _DEVICES / 1024

    with process_of("bellwire", at=at) as (port, pid):
        return asyncio.run(grown(port, psutil.Process(pid)))


def size(at: Path) -> dict[str, float]:
    """Lines of the modules in question, and those neither blank, comment nor docstring."""
    folder = at / "broker_config"
    modules = [path for room in ROOMS for path in (folder / room).glob("*.py")]
    modules = modules or [folder / f"{name}.py" for name in MODULES]
    return {
        "lines": sum(len(path.read_text().splitlines()) for path in modules),
        "lines of code": sum(map(code_lines, modules)),
    }


def code_lines(path: Path) -> int:
    """Lines of a module that are neither blank, nor comment, nor docstring."""
    with path.open("rb") as file:
        found = {
            line
            for token in tokenize.tokenize(file.readline)
            if tokenize.tok_name[token.type] in ("NAME", "NUMBER", "OP", "STRING")
            for line in range(token.start[0], token.end[0] + 1)
        }
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(found)


def run(rounds: int, commit: str = BEFORE) -> list[Sequence[str]]:
    """The rows of the table; the medians of ``rounds``, which the two trees take in turns."""
    room_for_sockets()
    found: dict[tuple[str, Path], list[float]] = {}
    with unpacked(commit) as before:
        for at in (ROOT, before) * rounds:
            figures: dict[str, float] = {}
            for what, name, retain in KINDS:
                figures |= messages(what, name, at, retain=retain)
            figures |= {"an idle device, KB": device(at), **size(at)}
            for what, value in figures.items():
                found.setdefault((what, at), []).append(value)
    rows: list[Sequence[str]] = []
    for what in dict.fromkeys(what for what, _ in found):
        values = [statistics.median(found[what, at]) for at in (ROOT, before)]
        shown = [f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values]
        ratio = "" if "%" in what else f"{values[0] / values[1]:.2f}"
        rows.append([what, *shown, ratio, ASKED.get(what, "")])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", default=BEFORE)
    parser.add_argument("--rounds", type=int, default=5, help="3 or more give a fair median")
    args = parser.parse_args()
    head = [each.format(commit=args.commit, rounds=args.rounds) for each in HEAD]
    for row in (head, ["---"] * len(head), *run(args.rounds, args.commit)):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
