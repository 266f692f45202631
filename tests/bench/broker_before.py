"""The bundled broker beside itself as it was: CPU of a message, messages a second, KB of a device.

``python -m tests.bench.broker_before [COMMIT]``: that commit is unpacked and
serves with its own ``tests.bench.broker_servers``. Today's client measures both, in turns.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped] # ships no types

from .broker_scale import idle_devices, room_for_sockets
from .broker_servers import process_of
from .broker_throughput import throughput
from .medians import ROOT, unpacked

#: The last commit whose broker was amqtt's own, changed method by method.
BEFORE = "b143690"
HEAD = ["", "today, median", "{commit}, median", "today ÷ {commit}"]
#: What is measured: its name, the broker's, whether messages are retained.
KINDS = (("QoS 1", "bellwire", False), ("retained in SQLite", "bellwire persistent", True))
_WARM, _COUNT, _DEVICES = 1000, 10_000, 1000


def messages(name: str, at: Path, *, retain: bool) -> tuple[float, float]:
    """CPU of the broker in µs for a message, and messages a second."""
    with process_of(name, at=at) as (port, pid):
        broker = psutil.Process(pid)
        asyncio.run(throughput(port, _WARM, retain=retain))
        before = sum(broker.cpu_times()[:2])
        rate = asyncio.run(throughput(port, _COUNT, retain=retain))
        return (sum(broker.cpu_times()[:2]) - before) / _COUNT * 1e6, rate


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


def run(rounds: int, commit: str = BEFORE) -> list[Sequence[str]]:
    """The rows of the table; the medians of ``rounds``, which the two trees take in turns."""
    room_for_sockets()
    found: dict[tuple[str, Path], list[float]] = {}
    with unpacked(commit) as before:
        for at in (ROOT, before) * rounds:
            for what, name, retain in KINDS:
                cpu, rate = messages(name, at, retain=retain)
                found.setdefault((f"CPU of a message, {what}, µs", at), []).append(cpu)
                found.setdefault((f"messages a second, {what}", at), []).append(rate)
            found.setdefault(("an idle device, KB", at), []).append(device(at))
    rows: list[Sequence[str]] = []
    for what in dict.fromkeys(what for what, _ in found):
        values = [statistics.median(found[what, at]) for at in (ROOT, before)]
        shown = [f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values]
        rows.append([what, *shown, f"{values[0] / values[1]:.2f}"])
    return rows


def main() -> None:
    """Print the table."""
    commit = sys.argv[1] if len(sys.argv) > 1 else BEFORE
    head = [each.format(commit=commit) for each in HEAD]
    for row in (head, ["---"] * len(head), *run(3, commit)):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
