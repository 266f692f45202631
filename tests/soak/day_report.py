"""The long soak from beginning to end, and its report; see :mod:`tests.soak.day`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped] # ships no types

from device_sdk.core.wire.topics import DEFAULT_REALM
from tests.broker_support.raw import Raw

from .day import ATTACKER, MEMORY, NOISE, SECRET, VICTIMS, WATCHER, Broker, Day
from .day_books import slope, spread
from .real_calls import LOCAL

#: Seconds that everything may take to be over once nobody rings or attacks any more.
AFTER = 60.0
#: What the broker must not do to others.
SERVICE = ("locked out", "not removed", "standstill")
#: What must not run full, nor stay taken.
PLACES = ("connections", "files", "retained", "persistent_sessions")
#: Minutes from which on growth is judged: before, everybody is still at their first call. And how
#: many files more may be open at the end than at the start: the database's come and go.
FLAT_FROM, SPARE_FILES = 10.0, 4


async def spend(home: Path, asked: argparse.Namespace) -> int:
    """Live through the day, print what came of it; the exit status."""
    half = asked.devices // 2
    names = [f"{kind}-{i}" for kind in ("door", "panel") for i in range(half)]
    broker = Broker(home, [*names, ATTACKER])
    day = Day(broker, asked.minutes)
    own = psutil.Process(os.getpid())
    try:
        began = time.monotonic()
        gate = asyncio.Semaphore(20)

        async def arrive(name: str) -> None:
            async with gate:
                await day.log_in(name)

        await asyncio.gather(*(arrive(name) for name in names))
        print(f"{len(day.members)} devices logged in, {time.monotonic() - began:.0f} s; seed "
              f"{asked.seed}", flush=True)  # fmt: skip
        before, own_before = await asyncio.to_thread(broker.figures), own.memory_info().rss
        start = time.monotonic()
        until = start + asked.minutes * 60
        attack_at = start + min(60.0, asked.minutes * 15)
        async with asyncio.TaskGroup() as group:
            group.create_task(day.calling(group, until))
            group.create_task(day.changing(group, until))
            group.create_task(day.sampling(until))
            attack = group.create_task(_attack(broker, attack_at, until, peaceful=asked.peaceful))
            group.create_task(_progress(day, until))
        await broker.device("remove", ATTACKER)
        after, remains = await _rest(day)
        own_after = own.memory_info().rss
    finally:
        for member in list(day.members.values()):
            with contextlib.suppress(Exception):
                await member.client.logout()
        broker.stop()
    _print_calls(day, start, attack_at, until)
    wrong = _print_faults(day)
    wrong += _print_broker(day, before, after, remains)
    print(f"this process: {own_before / 2**20:.0f} MB with everybody logged in,"
          f" {own_after / 2**20:.0f} MB at the end")  # fmt: skip
    print(f"attacks: {json.dumps(attack.result())}")
    log = (home / "broker.log").read_text()
    kinds = Counter(_kind(line) for line in log.splitlines())
    print(f"the broker's log: {len(log.splitlines())} lines, {len(log) / 1024:.0f} kB; mostly:")
    for kind, count in kinds.most_common(5):
        print(f"  {count} x {kind}")
    for line in day.told[:20]:
        print(f"  {line}")
    if "Traceback" in log:
        wrong.append("the broker's log has tracebacks")
        print(log[max(0, log.index("Traceback") - 500) :][:3000])
    print("not so: " + "; ".join(wrong) if wrong else "everything held")
    return int(bool(wrong))


def _kind(line: str) -> str:
    """A line of the log without its time, names and numbers."""
    said = line.split(" ", 2)[-1]
    return re.sub(r"\b[\w.]*[\d-][\w.-]*", "_", said)[:100]


async def _attack(broker: Broker, at: float, until: float, *, peaceful: bool) -> dict[str, int]:
    """Let the hostile device loose in a process of its own; what it says it did."""
    if peaceful:
        return {}
    await asyncio.sleep(at - time.monotonic())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.soak.hostile", str(broker.port), ATTACKER, SECRET,
        *(f"panel-{i}" for i in range(VICTIMS)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await asyncio.sleep(until - time.monotonic())
    said, _ = await process.communicate(b"")
    found: dict[str, int] = json.loads(said)
    return found


async def _progress(day: Day, until: float) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(min(60.0, max(0.0, until - time.monotonic())))
        figures = day.samples[-1][1]
        shown = {name: figures[name] for name in PLACES} | {"mb": round(figures["mb"])}
        print(f"{len(day.books.calls)} calls, {dict(day.books.faults())}; {shown}", flush=True)


async def _rest(day: Day) -> tuple[dict[str, Any], Counter[str]]:
    """Wait until all is over, or long enough; the broker's figures, and the cells left."""
    deadline = time.monotonic() + AFTER
    while True:
        try:
            remains = await asyncio.to_thread(_left, day.broker)
            figures = await asyncio.to_thread(day.broker.figures)
        except OSError as error:
            day.fault("standstill", f"nothing is answered: {error}")
            if time.monotonic() > deadline:
                return day.samples[-1][1], Counter(unknown=1)
            continue
        settled = figures["connections"] == len(day.members) and not remains
        if (settled and not day.books.faults()["unfinished"]) or time.monotonic() > deadline:
            return figures, remains
        await asyncio.sleep(1)


def _left(broker: Broker) -> Counter[str]:
    """Call cells that are still retained, by who wrote them."""
    with Raw(broker.port) as raw:
        assert raw.connect(WATCHER, user=WATCHER, password=SECRET) == 0
        raw.subscribe(*(f"{DEFAULT_REALM}/v1/+/{kind}/+/+" for kind in ("invite", "answer")))
        found = Counter(m.topic.split("/")[4] for m in raw.gather() if m.data)
        raw.disconnect()
        return found


def _print_calls(day: Day, start: float, attack_at: float, until: float) -> None:
    calls = day.books.calls.values()
    ends = Counter(next((n for n in c.at_door if n in LOCAL), "none") for c in calls)
    print(
        f"{len(calls)} calls in {(until - start) / 60:.1f} minutes,"
        f" {sum(c.touched for c in calls)} of them touched; the callers' ends: {dict(ends)}"
    )
    print(f"done to devices: {dict(day.done)}; {day.broker.late} changes applied after over 5 s")
    print(
        f"press to receipt, undisturbed: {spread(day.books.latencies(start, attack_at))} before"
        f" the attacks; {spread(day.books.latencies(attack_at, until))} under them"
    )


def _print_faults(day: Day) -> list[str]:
    faults = day.books.faults()
    for name in ("lost", "double", "ghost", "split", "unfinished", "allowed"):
        print(f"{faults[name]} {name}", end=", ")
    print(", ".join(f"{day.faults[name]} {name}" for name in SERVICE))
    for call_id, call in day.books.calls.items():
        if call.faults() and len(day.told) < 40:
            day.told.append(f"{call_id}: {sorted(call.faults())} {call}")
    return [f"{n} {name}" for name, n in sorted((faults + day.faults).items())]


def _print_broker(
    day: Day, before: dict[str, Any], after: dict[str, Any], remains: Counter[str]
) -> list[str]:
    """Its memory and its places; what is wrong with them."""
    began = day.samples[0][0]
    sizes = [(at - began, figures["mb"]) for at, figures in day.samples]
    thirds = [sizes[len(sizes) * i // 3 : len(sizes) * (i + 1) // 3] for i in range(3)]
    means = [sum(mb for _, mb in third) / max(1, len(third)) for third in thirds]
    most, growth = max(mb for _, mb in sizes), means[2] - means[1]
    print(
        f"the broker's memory: {before['mb']:.0f} MB with everybody logged in, {most:.0f} MB at"
        f" most, {after['mb']:.0f} MB at the end; mean of each third"
        f" {', '.join(f'{mean:.1f}' for mean in means)} MB; slope over the last two"
        f" {slope(thirds[1] + thirds[2]) * 3600:+.1f} MB/h"
    )
    for name in PLACES:
        values = [figures[name] for _, figures in day.samples]
        print(f"{name}: {before[name]} before, {max(values)} at most, {after[name]} at the end")
    print(f"refused {after['refused']}, cut {after['cut']}, dropped {after['dropped']}, "
          f"denied {after['denied']}")  # fmt: skip
    if remains:
        print(f"cells left, by writer: {remains.most_common(10)}")
    members = len(day.members)
    spare = after["files"] - before["files"] - (after["connections"] - before["connections"])
    checks = {
        f"memory grew by {most - before['mb']:.0f} MB": most - before["mb"] > MEMORY,
        f"memory grows, by {growth:.1f} MB from the second third to the last":
            day.minutes >= FLAT_FROM and growth > NOISE,
        f"{after['connections']} places taken by {members} devices":
            after["connections"] != members,
        f"{after['retained']} messages retained, for {members} presences":
            after["retained"] > members,
        f"{spare} open files more than connections account for": spare > SPARE_FILES,
        f"{sum(remains.values())} cells left": bool(remains),
    }  # fmt: skip
    return [text for text, wrong in checks.items() if wrong]
