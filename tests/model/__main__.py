"""``python -m tests.model``: every bound, then every mutation; 1 if anything is not as it must be.

``--only WORDS`` takes the bounds and mutations whose line contains the words; ``--most N`` stops
each bound at N states (then it says so, and the run fails). ``--wide`` adds bounds that take long.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from .bounds import ALL, DEFAULT, TWO_PEERS, explore
from .logins import WIDE, explore_wide
from .mutations import MUTATIONS, mutate
from .scenarios import describe
from .search import Found

#: What two peers must have at least, or the bounds have become too small to mean anything.
TWO_PEERS_LEAST = 1_000_000


def main() -> int:
    """Explore, print, judge."""
    parser = argparse.ArgumentParser(prog="tests.model", description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--most", type=int)
    parser.add_argument("--wide", action="store_true")
    options = parser.parse_args()
    chosen = range(len(ALL)) if options.wide else DEFAULT
    bounds = [i for i in chosen if options.only in describe(ALL[i])]
    numbers = [i for i, m in enumerate(MUTATIONS) if options.only in m.name]
    began, wrong, total, pairs = time.perf_counter(), 0, 0, 0
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=1) as pool:
        found = [pool.submit(explore, number, options.most) for number in bounds]
        print(f"{'states':>11} {'transitions':>12} {'depth':>5} {'seconds':>7}  bound")
        for number, future in zip(bounds, found, strict=True):
            result = future.result()
            total += result.states
            pairs += result.states if number < len(TWO_PEERS) else 0
            print(
                f"{result.states:>11,} {result.transitions:>12,} {result.depth:>5} "
                f"{result.seconds:>7.1f}  {describe(ALL[number])}: {verdict(result)}",
                flush=True,
            )
            if result.violation:
                print("\n".join(f"    {line}" for line in result.ladder), flush=True)
            wrong += bool(result.violation) or not result.complete
        caught = 0
        for number, result in zip(numbers, pool.map(mutate, numbers), strict=True):
            caught += bool(result.violation)
            word = f"caught: {result.violation}" if result.violation else "SURVIVED"
            print(f"  mutation {number + 1:>2}  {MUTATIONS[number].name}: {word}", flush=True)
        chosen_logins = [i for i, bound in enumerate(WIDE) if options.only in bound.name]
        for number, (worlds, way) in zip(
            chosen_logins, pool.map(explore_wide, chosen_logins), strict=True
        ):
            word = "\n    ".join(["VIOLATED", *way]) if way else "holds"
            print(f"{worlds:>11,}  logins: {WIDE[number].name}: {word}", flush=True)
            wrong += bool(way)
    print(
        f"{total:,} distinct states ({pairs:,} of two peers) in {len(bounds)} bounds, {wrong} "
        f"violated or incomplete; {caught} of {len(numbers)} mutations caught; "
        f"{time.perf_counter() - began:.0f} s"
    )
    enough = bool(options.only) or pairs >= TWO_PEERS_LEAST
    return int(wrong > 0 or caught < len(numbers) or not enough)


def verdict(found: Found) -> str:
    """What came of a bound, in words."""
    if found.violation:
        return f"VIOLATED, {found.violation}"
    return "holds" if found.complete else "holds so far, NOT COMPLETE"


if __name__ == "__main__":
    sys.exit(main())
