"""What is explored: two peers, and a caller with a ring group, each with a little of each trouble.

A *bound* is how many faults of each kind, and jumps of each clock, a run may have in all.
"""

from __future__ import annotations

from typing import Any

from .automaton import Call
from .rules import Scenario

DOOR, KITCHEN = 0, 1
_GROUP = b"ring group 16 b."


def pair(name: str, *, time: tuple[int, int] = (0, 0), **budget: int) -> Scenario:
    """A door that calls a kitchen once."""
    return Scenario(
        name=name,
        peers=("door", "kitchen"),
        calls=(Call(DOOR, KITCHEN),),
        sends=((0,),),
        budget=budget,
        time=time,
    )


def glare(name: str, *, time: tuple[int, int] = (0, 0), **budget: int) -> Scenario:
    """Two peers that call each other."""
    return Scenario(
        name=name,
        peers=("door", "kitchen"),
        calls=(Call(DOOR, KITCHEN), Call(KITCHEN, DOOR)),
        sends=((0,), (1,)),
        budget=budget,
        time=time,
    )


def group(name: str, legs: int, *, time: tuple[int, ...] = (), **budget: int) -> Scenario:
    """A door that rings several at once."""
    return Scenario(
        name=name,
        peers=("door", *("kitchen", "bedroom", "phone")[:legs]),
        calls=tuple(Call(DOOR, i + 1, _GROUP) for i in range(legs)),
        sends=(tuple(range(legs)),),
        budget=budget,
        time=time,
    )


def _bound(scenario: Scenario) -> str:
    faults: list[Any] = [f"{n} {kind}" for kind, n in scenario.budget.items() if n]
    clocks = "+".join(map(str, scenario.time)) if any(scenario.time) else ""
    if scenario.first is not None:
        faults.append(f"its first {scenario.first:,} states")
    return ", ".join([*faults, *([f"clocks {clocks}"] if clocks else [])]) or "no faults"


def describe(scenario: Scenario) -> str:
    """A scenario and its bound in a line."""
    return f"{scenario.name}: {_bound(scenario)}"
