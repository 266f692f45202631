"""``python -m tests.soak``: 100,000 simulated calls on all cores, and the totals.

``--calls N`` for another number, ``--seed S`` for one episode alone, as printed for a fault;
``--talk`` for peers that stay in their calls, send messages and hang up.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from .judge import KINDS
from .simulation import Episode, Totals
from .talking import TalkingEpisode

_CHUNK = 50


def simulate(first: int, episodes: int, *, talk: bool = False) -> Totals:
    """Some episodes in a row."""
    totals = Totals()
    kind = TalkingEpisode if talk else Episode
    for seed in range(first, first + episodes):
        totals.add(kind(seed).run())
    return totals


def main() -> int:
    """Run what the command line asks for; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seed", type=int, help="this episode alone")
    parser.add_argument("--talk", action="store_true", help="calls go on: messages, hanging up")
    options = parser.parse_args()
    run, talk = partial(simulate, talk=options.talk), " --talk" * options.talk
    if options.seed is not None:
        return report(run(options.seed, 1), 0.0, f"tests.soak{talk}")
    return report(*spread(run, options.calls, _CHUNK, options.first_seed), f"tests.soak{talk}")


def spread(
    run: Callable[[int, int], Totals], calls: int, chunk: int, seed: int = 1
) -> tuple[Totals, float]:
    """``run(first seed, episodes)`` on all cores until so many calls were made; and the seconds."""
    began, totals = time.perf_counter(), Totals()
    workers = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
    with ProcessPoolExecutor(workers) as pool:
        while totals.calls < calls and not totals.faults:
            starts = range(seed, seed + chunk * (workers or 1), chunk)
            for part in pool.map(run, starts, [chunk] * len(starts)):
                totals.add(part)
            seed = starts[-1] + chunk
    return totals, time.perf_counter() - began


def report(totals: Totals, seconds: float, command: str) -> int:
    """Print what happened; 1 if anything went wrong."""
    print(f"{totals.calls:,} calls in {seconds:.0f} s")
    print("  ends      ", ", ".join(f"{n:,} {end}" for end, n in sorted(totals.ends.items())))
    print("  injected  ", ", ".join(f"{n:,} {w}" for w, n in sorted(totals.injected.items())))
    if totals.talks:
        print("  talks     ", ", ".join(f"{n:,} {w}" for w, n in sorted(totals.talks.items())))
    counts = {kind: sum(f.kind == kind for f in totals.faults) for kind in KINDS}
    print("  found     ", ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    for fault in totals.faults[:20]:
        print(f"  {fault}\n    again: python -m {command} --seed {fault.seed}")
    return bool(totals.faults)


if __name__ == "__main__":
    sys.exit(main())
