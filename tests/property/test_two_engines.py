"""Two engines over a link that drops, repeats, delays and restarts, driven by Hypothesis.

The same rules and the same monitor as the exhaustive exploration (tests/model), but without its
bounds: as many faults of all kinds together as Hypothesis thinks of. What it finds it shrinks.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.model.rules import Move, Rules
from tests.model.scenarios import pair
from tests.model.search import Search

_FAULTS = ("cut", "restart", "repeat", "defer", "late will")
#: One for all runs: what is known of states stays true.
RULES = Rules(pair("two engines", time=(99, 99), **dict.fromkeys(_FAULTS, 99)))
DRAIN = Search(RULES.scenario, rules=RULES)


class TwoEngines(RuleBasedStateMachine):
    """A door and a kitchen; each rule does one of the things that can happen now."""

    @initialize()
    def begin(self) -> None:
        """Connected, nothing said."""
        self.world = DRAIN.settled()

    def _moves(self, wanted: Any) -> list[tuple[int, Move, int]]:
        return [
            (i, move, number)
            for i in range(RULES.count)
            for move, number in RULES.moves(i, self.world[i])
            if wanted(move)
        ]

    def _do(self, moves: list[tuple[int, Move, int]], pick: int) -> None:
        if moves:
            i, move, number = moves[pick % len(moves)]
            after, fault = RULES.apply(self.world, i, move, number, self.world[RULES.count + 1])
            assert fault is None, f"{move.label}: {fault}"
            assert after is not None
            self.world = after

    @rule(picks=st.lists(st.integers(0, 50), max_size=8))
    def messages(self, picks: list[int]) -> None:
        """Some messages arrive, links and wills do what they do."""
        for pick in picks:
            self._do(self._moves(lambda m: m.cost is None and "!!" not in m.label), pick)

    @rule(pick=st.integers(0, 50))
    def people(self, pick: int) -> None:
        """Somebody rings, cancels, accepts, refuses."""
        self._do(self._moves(lambda m: m.cost is None and "!!" in m.label), pick)

    @rule(pick=st.integers(0, 50))
    def time(self, pick: int) -> None:
        """One of the clocks goes on to the next deadline."""
        self._do(self._moves(lambda m: (m.cost or "").startswith("time")), pick)

    @rule(pick=st.integers(0, 50))
    def trouble(self, pick: int) -> None:
        """A cut, restart, repetition or delay."""
        self._do(
            self._moves(
                lambda m: (
                    m.cost in _FAULTS
                    and (m.cost != "restart" or RULES.automaton.life(m.peer.state) < 200)
                )
            ),
            pick,
        )

    @invariant()
    def everything_would_end_well(self) -> None:
        """Were the faults over now: everybody is told the one end, and no cell is left."""
        if hasattr(self, "world"):
            fault = DRAIN.drained(self.world)
            assert fault is None, "\n".join([fault[0], *fault[1]])


TwoEngines.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
test_two_engines = TwoEngines.TestCase
