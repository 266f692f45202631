"""``python -m tests.soak``: 100,000 simulated calls on all cores, and the totals.

``--calls N`` for another number, ``--seed S`` for one episode alone, as printed for a fault;
``--talk`` for peers that stay in their calls, send messages and hang up.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
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
    run, which = partial(simulate, talk=options.talk), "--talk " * options.talk
    began, totals = time.perf_counter(), Totals()
    if options.seed is not None:
        totals.add(run(options.seed, 1))
    else:
        workers = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
        seed = options.first_seed
        with ProcessPoolExecutor(workers) as pool:
            while totals.calls < options.calls and not totals.faults:
                starts = range(seed, seed + _CHUNK * (workers or 1), _CHUNK)
                for part in pool.map(run, starts, [_CHUNK] * len(starts)):
                    totals.add(part)
                seed = starts[-1] + _CHUNK
    print(f"{totals.calls:,} calls in {time.perf_counter() - began:.0f} s")
    print("  ends      ", ", ".join(f"{n:,} {end}" for end, n in sorted(totals.ends.items())))
    print("  injected  ", ", ".join(f"{n:,} {w}" for w, n in sorted(totals.injected.items())))
    if totals.talks:
        print("  talks     ", ", ".join(f"{n:,} {w}" for w, n in sorted(totals.talks.items())))
    counts = {kind: sum(f.kind == kind for f in totals.faults) for kind in KINDS}
    print("  found     ", ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    for fault in totals.faults[:20]:
        print(f"  {fault}\n    again: python -m tests.soak {which}--seed {fault.seed}")
    return bool(totals.faults)


if __name__ == "__main__":
    sys.exit(main())
