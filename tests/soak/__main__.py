"""``python -m tests.soak``: 100,000 simulated calls on all cores, and the totals.

``--calls N`` for another number, ``--seed S`` for one episode alone, as printed for a fault.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from .simulation import Episode, Totals

FAULTS = ("lost", "ghost", "duplicate", "split", "stuck", "error")
_CHUNK = 50


def simulate(first: int, episodes: int) -> Totals:
    """Some episodes in a row."""
    totals = Totals()
    for seed in range(first, first + episodes):
        totals.add(Episode(seed).run())
    return totals


def main() -> int:
    """Run what the command line asks for; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seed", type=int, help="this episode alone")
    options = parser.parse_args()
    began, totals = time.perf_counter(), Totals()
    if options.seed is not None:
        totals.add(simulate(options.seed, 1))
    else:
        workers = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
        seed = options.first_seed
        with ProcessPoolExecutor(workers) as pool:
            while totals.calls < options.calls and not totals.faults:
                starts = range(seed, seed + _CHUNK * (workers or 1), _CHUNK)
                for part in pool.map(simulate, starts, [_CHUNK] * len(starts)):
                    totals.add(part)
                seed = starts[-1] + _CHUNK
    print(f"{totals.calls:,} calls in {time.perf_counter() - began:.0f} s")
    print("  ends      ", ", ".join(f"{n:,} {end}" for end, n in sorted(totals.ends.items())))
    print("  injected  ", ", ".join(f"{n:,} {w}" for w, n in sorted(totals.injected.items())))
    counts = {kind: sum(f.kind == kind for f in totals.faults) for kind in FAULTS}
    print("  found     ", ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    for fault in totals.faults[:20]:
        print(f"  {fault}\n    again: python -m tests.soak --seed {fault.seed}")
    return bool(totals.faults)


if __name__ == "__main__":
    sys.exit(main())
