"""The small bounds of the model, a few mutations, and that the model is the engine."""

from __future__ import annotations

import random
from typing import Any

import pytest

from device_sdk.core.engine import Engine
from tests.model.automaton import epoch
from tests.model.bounds import SMALL
from tests.model.mutations import MUTATIONS, Mutation
from tests.model.rules import Rules, Scenario
from tests.model.scenarios import describe, group, pair
from tests.model.search import Search


@pytest.mark.parametrize("scenario", SMALL, ids=describe)
def test_nothing_is_lost_ghost_or_split(scenario: Scenario) -> None:
    """Every interleaving within the bound keeps every invariant, and each run ends well."""
    found = Search(scenario).run()
    assert found.violation is None, "\n".join([found.violation, *found.ladder])
    assert found.complete
    assert found.states > 1000


@pytest.mark.parametrize(
    "mutation",
    [m for m in MUTATIONS if not any(m.scenario.budget.values()) and len(m.scenario.peers) == 2],
    ids=lambda m: m.name,
)
def test_a_wrong_engine_is_caught(mutation: Mutation) -> None:
    """The checker can fail; ``make model`` shows it for every mutation, this for the quick ones."""
    with mutation.applied():
        found = Search(mutation.scenario).run()
    assert found.violation is not None
    assert found.ladder


def test_the_ladder_is_a_way_to_the_violation() -> None:
    """What is printed is what happened, step by step, from the start."""
    mutation = next(m for m in MUTATIONS if m.name == "a probe rings at once")
    with mutation.applied():
        ladder = Search(mutation.scenario).run().ladder
    assert any("restarts" in line for line in ladder)
    assert "retained" in ladder[-1]


@pytest.mark.parametrize(
    "scenario",
    [
        pair("everything", cut=3, restart=2, lose=2, repeat=2, defer=2, wipe=1, time=(9, 9)),
        group("everything", 2, cut=3, restart=2, lose=2, repeat=2, defer=2, time=(9, 9, 9)),
    ],
    ids=describe,
)
def test_the_model_does_what_plain_engines_do(scenario: Scenario) -> None:
    """Random runs, each step also on engines that are never cloned, merged or renumbered.

    So what the states leave out (seq, statistics, grown delays) decides nothing.
    """
    plain = Plain(scenario)
    for seed in range(25):
        plain.walk(random.Random(seed))
    assert plain.compared > 800


class Plain:
    """Engines beside the model, one for each peer, fed the same."""

    def __init__(self, scenario: Scenario) -> None:
        self.rules = Rules(scenario)
        self.compared = 0

    def walk(self, pick: random.Random) -> None:
        """One random run from the beginning; sound steps three times as often as faults."""
        rules = self.rules
        world = rules.blank()
        count = rules.count
        self.engines = [self.newborn(i, 0) for i in range(count)]
        self.now = [0.0] * count
        self.tokens: list[dict[int, int]] = [{} for _ in range(count)]
        for _ in range(150):
            choices = [
                (i, move, number)
                for i in range(count)
                for move, number in rules.moves(i, world[i])
                for _ in range(3 if move.cost is None else 1)
            ]
            i, move, number = pick.choice(choices)
            if move.cost == "restart":
                life = rules.automaton.life(move.peer.state)
                if life > 200:
                    return
                self.engines[i], self.tokens[i] = self.newborn(i, life), {}
            elif move.feeds is not None:
                self.compare(i, rules.part(world[i]).state, move.feeds)
            after, fault = rules.apply(world, i, move, number, world[count + 1])
            if after is None:
                # Unbounded faults break what bounded ones do not; the engines agree all the same.
                assert fault
                return
            world = after

    def newborn(self, peer: int, life: int) -> Engine:
        """A plain engine."""
        scenario = self.rules.scenario
        return Engine(scenario.peers[peer], epoch(peer, life), settings=scenario.settings)

    def compare(self, i: int, state: int, what: tuple[Any, ...]) -> None:
        """The model's step and the plain engine's: the same said and told, whatever the order."""
        automaton, engine = self.rules.automaton, self.engines[i]
        model = automaton.step(state, what)
        if what[0] == "fire":
            self.now[i] = max(self.now[i], engine.deadline() or self.now[i])
        if what[0] == "acked":
            what = ("acked", self.tokens[i].get(what[1], -1))
        out, events = automaton.feed(engine, self.now[i], what)
        ours, theirs = sorted(model.out, key=repr_of), sorted(out, key=repr_of)
        assert [repr_of(o) for o in ours] == [repr_of(o) for o in theirs]
        assert sorted(map(repr, model.events)) == sorted(map(repr, events))
        for mine, plain in zip(ours, theirs, strict=True):
            if mine[0] == "publish" and mine[3] is not None:
                self.tokens[i][mine[3]] = plain[3]
        left, at = automaton.deadline(model.state), engine.deadline()
        assert left == (None if at is None else max(0.0, at - self.now[i])) or (left or 0) > 100
        self.compared += 1


def repr_of(out: tuple[Any, ...]) -> str:
    """What goes to the broker, but for the number of its token."""
    return repr((*out[:3], out[3] is None) if out[0] == "publish" else out)
