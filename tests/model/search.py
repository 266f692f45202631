"""Breadth first through all worlds of a scenario; the shortest way to a violation as a ladder.

From worlds that were found it also *drains*: everybody is connected, everything delivered, time
passes alike for all. Then every call must end, be told, and leave no cell behind, in bounded time,
and a call that goes on while both are there must ring. Draining always takes the same next step,
so a world from which it is known to end well ends every later drain that comes by.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from device_sdk.core import callee, caller

from .automaton import Violation, call_id
from .rules import DOWN, HALF, UP, Rules, Scenario, World

#: Seconds within which everything is over once all are connected: ringing, its slack, the wait for
#: a decision, and a few resends.
HORIZON = 60.0
#: Seconds within which a call that goes on rings, once all are connected and all is delivered.
PATIENCE = 5.0
_MOST_STEPS = 3000
#: In these a call has ended for the app, and waits for the other side to clear its cell.
_SETTLED = frozenset(
    {*caller.DECIDED, caller.Phase.CLEARING, callee.Phase.OVER, callee.Phase.CLEARING}
)


@dataclass
class Found:
    """What a search gave."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    drained: int = 0
    complete: bool = True
    seconds: float = 0.0
    violation: str | None = None
    ladder: list[str] = field(default_factory=list)


class Search:
    """One scenario, explored up to its budgets (or to ``most`` worlds)."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        most: int | None = None,
        drain_each: int = 1,
        rules: Rules | None = None,
    ) -> None:
        self.rules = rules or Rules(scenario)
        self._most = most
        self._drain_each = drain_each
        self._parents: dict[World, World | None] = {}
        self._fine: dict[World, float] = {}
        self._count = len(scenario.peers)

    def run(self) -> Found:
        """Explore; stops at the first violation, which is one of those with the fewest steps."""
        found = Found()
        began = time.perf_counter()
        start = self.settled()
        self._parents[start] = None
        level = [start]
        while level and found.violation is None:
            found.depth += 1
            level = self._expand(level, found)
            first = self.rules.scenario.first
            if first is not None and len(self._parents) >= first:
                break
            if self._most is not None and len(self._parents) >= self._most and level:
                found.complete = False
                break
        found.states = len(self._parents)
        found.drained = len(self._fine)
        found.seconds = time.perf_counter() - began
        return found

    def _expand(self, level: list[World], found: Found) -> list[World]:
        parents, new = self._parents, []
        for world in level:
            fault = self.drained(world) if hash(world) % self._drain_each == 0 else None
            if fault is not None:
                found.violation, lines = fault
                found.ladder = [*self.ladder(world), "-- faults end: all connect, all is delivered",
                                *lines]  # fmt: skip
                return []
            for label, after, broken in self.rules.successors(world):
                found.transitions += 1
                if broken is not None:
                    found.violation = broken
                    found.ladder = [*self.ladder(world), label]
                    return []
                if after is not None and after not in parents:
                    parents[after] = world
                    new.append(after)
        return new

    def ladder(self, world: World) -> list[str]:
        """The labels of the shortest way to ``world``."""
        lines: list[str] = []
        while (before := self._parents[world]) is not None:
            lines.append(next(lb for lb, w, _ in self.rules.successors(before) if w == world))
            world = before
        return lines[::-1]

    # --- draining ----------------------------------------------------------------------------

    def settled(self) -> World:
        """The beginning: everybody is connected, nothing was said of any call."""
        world = self.rules.blank()
        while (step := self._deliver(world)) is not None:
            label, after = step
            assert after is not None, label
            world = after
        for verb in ("send", "accept") if self.rules.scenario.says else ():
            world = self._commanded(world, verb)
            while verb == "send" and (step := self._deliver(world)) is not None:
                label, after = step
                assert after is not None, label
                world = after
        return world

    def _commanded(self, world: World, verb: str) -> World:
        """After that command of an app."""
        for label, after, _ in self.rules.successors(world):
            if f"!! {verb}" in label and after is not None:
                return after
        raise AssertionError(f"nobody can {verb}")

    def drained(self, origin: World) -> tuple[str, list[str]] | None:
        """Whether everything ends well from here: what is broken if not, and the way to it."""
        world: World = (*origin[: self._count + 1], -1, origin[self._count + 2])
        lossless = self._lossless(origin)
        path: list[tuple[World, float]] = []
        lines: list[str] = []
        elapsed, waiting_since, relogged = 0.0, {}, lossless
        for _ in range(_MOST_STEPS):
            need = self._fine.get(world)
            if need is not None and elapsed + need <= HORIZON:
                for seen, at in path:
                    self._fine[seen] = elapsed - at + need
                return None
            if relogged is lossless:  # a second login is a way that others must not take over
                path.append((world, elapsed))
            step = self._deliver(world)
            if step is not None:
                label, after = step
                lines.append(label)
                if after is None:
                    return self._last_fault, lines
                world = after
                continue
            if self._clean(world):
                fault = self._over(world, lossless=lossless)
                if fault is not None:
                    return fault, lines
                for seen, at in path:
                    self._fine[seen] = elapsed - at
                return None
            wait = self._next_deadline(world)
            late = self._not_rung(world, elapsed, wait or 0.0, waiting_since) or self._unheard(
                world, elapsed, wait or 0.0, waiting_since
            )
            if late is not None:
                return late, lines
            if wait is None or elapsed + wait > HORIZON:
                if relogged or self._calls(world):
                    return self._leftovers(world), lines
                fault = self._over(world, lossless=False)
                if fault is not None:
                    return fault, lines
                relogged, elapsed = True, 0.0
                world = self._relogged(world)
                lines.append("-- the broker swallowed a clear: all log in anew")
                continue
            elapsed += wait
            lines.append(f"... {wait:g} s pass for all")
            after = self._passed(world, wait)
            if after is None:
                return self._last_fault, lines
            world = after
        return "draining does not come to an end", lines

    def _lossless(self, world: World) -> bool:
        scenario, at = self.rules.scenario, self.rules.costs.index("lose") + 1
        return bool(self.rules.part(world[self._count + 1])[at] == scenario.budget.get("lose", 0))

    def _deliver(self, world: World) -> tuple[str, World | None] | None:
        """One step of a well-behaved world; None if all are connected and nothing is underway."""
        rules = self.rules
        for i in range(self._count):
            peer = rules.part(world[i])
            closed = rules.automaton.engine(peer.state).closed
            if peer.link == UP and not (peer.up or peer.down or peer.late or peer.wills):
                continue
            again = peer.link == DOWN and closed and not peer.wills
            if again and (untold := self._untold(world, i)):
                self._last_fault = untold
                return f"{rules.scenario.peers[i]} is logged out", None
            for move, number in rules.moves(i, world[i]):
                if (
                    move.cost == "restart"
                    if again
                    else (move.cost is None and "!!" not in move.label)
                ):
                    after, fault = rules.apply(world, i, move, number, world[self._count + 1])
                    self._last_fault = fault or ""
                    return move.label, after
            assert peer.link != HALF
        return None

    def _untold(self, world: World, i: int) -> str | None:
        """A peer that has logged out was told the end of all it knew of."""
        records = self.rules.monitor.records(self.rules.part(world[-1]))
        for n, (call, record) in enumerate(zip(self.rules.scenario.calls, records, strict=True)):
            unsure = record.sent and record.caller is None and not record.orphan
            if (call.caller == i and unsure) or (call.callee == i and record.callee == "RINGS"):
                return f"#{n}: logged out without being told the end"
        return None

    def _passed(self, world: World, wait: float) -> World | None:
        """The clocks go forward alike; what is due is done."""
        rules = self.rules
        for i in range(self._count):
            peer = rules.part(world[i])
            waited = rules.automaton.step(peer.state, ("wait", wait)).state
            world = (*world[:i], rules.number(peer._replace(state=waited)), *world[i + 1 :])
            if rules.automaton.deadline(waited) == 0.0:
                for move, number in rules.moves(i, world[i]):
                    if move.cost is not None and move.cost.startswith("time"):
                        after, fault = rules.apply(world, i, move, number, world[self._count + 1])
                        self._last_fault = fault or ""
                        if after is None:
                            return None
                        world = after
                        break
        return world

    def _next_deadline(self, world: World) -> float | None:
        automaton = self.rules.automaton
        due = [automaton.deadline(p.state) for p in self.rules.peers(world)]
        return min((d for d in due if d is not None), default=None)

    def _clean(self, world: World) -> bool:
        topics, banned = self.rules.automaton.topics, self._banned(world)
        engines = (self.rules.automaton.engine(peer.state) for peer in self.rules.peers(world))
        if any(
            c.talks for e in engines for c in (*e.caller.calls.values(), *e.callee.calls.values())
        ):
            return False
        return not self._calls(world) and all(
            topics[topic][0] == "presence" or topics[topic][1] in banned
            for topic in self.rules.store(world)
        )

    def _banned(self, world: World) -> set[int]:
        """Calls of which the broker does not take a cell: nobody can clear all of them."""
        topics = self.rules.automaton.topics
        return {topics[t][1] for peer in self.rules.peers(world) for t in peer.banned}

    def _over(self, world: World, *, lossless: bool) -> str | None:
        try:
            self.rules.monitor.over(self.rules.part(world[-1]))
        except Violation as violation:
            return str(violation)
        store = self.rules.store(world)
        for i, peer in enumerate(self.rules.peers(world)):
            if lossless and peer.link == UP and not self.rules.is_online(store, i, peer):
                return f"{self.rules.scenario.peers[i]} is there, and its presence says otherwise"
        return None

    def _not_rung(
        self, world: World, now: float, wait: float, since: dict[int, float]
    ) -> str | None:
        """A call that its caller still makes must ring where the callee is there."""
        rules = self.rules
        engines = [rules.automaton.engine(p.state) for p in rules.peers(world)]
        records = rules.monitor.records(rules.part(world[-1]))
        banned = self._banned(world)
        for i, (call, record) in enumerate(zip(rules.scenario.calls, records, strict=True)):
            goes_on = record.sent and record.caller is None and not record.orphan
            goes_on = goes_on and i not in banned
            names = rules.scenario.peers
            theirs = engines[call.callee].callee.calls.get((names[call.caller], call_id(i)))
            if theirs is not None and theirs.phase is callee.Phase.SCREENING:
                continue  # it waits for its policy, which does not answer here
            if goes_on and record.callee is None and not engines[call.callee].closed:
                if now + wait - since.setdefault(i, now) > PATIENCE:
                    return f"#{i}: lost, it does not ring though both are there"
            else:
                since.pop(i, None)
        return None

    def _unheard(
        self, world: World, now: float, wait: float, since: dict[int, float]
    ) -> str | None:
        """What is said in a call that goes on at both ends must be handled."""
        rules = self.rules
        engines = [rules.automaton.engine(p.state) for p in rules.peers(world)]
        for i, call in enumerate(rules.scenario.calls if rules.scenario.says else ()):
            door, kitchen = rules.scenario.peers[call.caller], rules.scenario.peers[call.callee]
            mine = engines[call.caller].caller.calls.get((kitchen, call_id(i)))
            theirs = engines[call.callee].callee.calls.get((door, call_id(i)))
            key = -1 - i
            both = mine and theirs and mine.talks and theirs.talks
            if not (both and mine and theirs and (mine.talk.waits or theirs.talk.waits)):
                since.pop(key, None)
            elif now + wait - since.setdefault(key, now) > PATIENCE:
                return f"#{i}: said, and not handled though both are there"
            goes_on = [call.talks for call in (mine, theirs) if call]
            decides = theirs is not None and theirs.phase is callee.Phase.ACCEPTING
            if not any(goes_on) or goes_on == [True, True] or decides or i in self._banned(world):
                since.pop(-1000 - i, None)
            elif now + wait - since.setdefault(-1000 - i, now) > 2 * PATIENCE:
                return f"#{i}: over for the one and not for the other, though both are there"
        return None

    def _leftovers(self, world: World) -> str:
        rules = self.rules
        cells = [
            rules.describe(topic, payload)
            for topic, payload in rules.store(world).items()
            if rules.automaton.topics[topic][0] != "presence"
        ]
        calls = self._calls(world)
        return f"not over after {HORIZON:g} s with all connected: cells {cells}, calls {calls}"

    def _calls(self, world: World) -> list[str]:
        left = {call_id(i) for i in self._banned(world)}
        return [
            f"{engine.peer_id} {call.phase.name}"
            for engine in (self.rules.automaton.engine(p.state) for p in self.rules.peers(world))
            for call in (
                *engine.caller.calls.values(),
                *(() if engine.closed else engine.callee.calls.values()),
            )
            if call.call_id not in left or call.phase not in _SETTLED
        ]

    def _relogged(self, world: World) -> World:
        rules = self.rules
        for i in range(self._count):
            for move, number in rules.moves(i, world[i]):
                if move.cost == "restart":
                    after, _ = rules.apply(world, i, move, number, world[self._count + 1])
                    if after is not None:
                        world = after
                    break
        return world
