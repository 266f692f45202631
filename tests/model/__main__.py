"""``python -m tests.model``: every bound, then every mutation; 1 if anything is not as it must be.

``--only WORDS`` takes the bounds and mutations whose line contains the words; ``--most N`` stops
each bound at N states (then it says so, and the run fails).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from .bounds import GROUPS, TWO_PEERS
from .mutations import MUTATIONS
from .rules import Scenario
from .scenarios import describe
from .search import Found, Search

#: What two peers must have at least, or the bounds have become too small to mean anything.
TWO_PEERS_LEAST = 1_000_000


def explore(scenario: Scenario, most: int | None) -> Found:
    """One bound, in this process."""
    return Search(scenario, most=most, drain_each=2).run()


def mutate(number: int) -> Found:
    """One mutation, in this process: only while it is applied is the engine wrong."""
    mutation = MUTATIONS[number]
    with mutation.applied():
        return Search(mutation.scenario).run()


def main() -> int:
    """Explore, print, judge."""
    parser = argparse.ArgumentParser(prog="tests.model", description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--most", type=int)
    options = parser.parse_args()
    bounds = [s for s in (*TWO_PEERS, *GROUPS) if options.only in describe(s)]
    numbers = [i for i, m in enumerate(MUTATIONS) if options.only in m.name]
    began, wrong, total, pairs = time.perf_counter(), 0, 0, 0
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=1) as pool:
        found = [pool.submit(explore, scenario, options.most) for scenario in bounds]
        print(f"{'states':>11} {'transitions':>12} {'depth':>5} {'seconds':>7}  bound")
        for scenario, future in zip(bounds, found, strict=True):
            result = future.result()
            total += result.states
            pairs += result.states if scenario in TWO_PEERS else 0
            print(
                f"{result.states:>11,} {result.transitions:>12,} {result.depth:>5} "
                f"{result.seconds:>7.1f}  {describe(scenario)}: {verdict(result)}",
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
