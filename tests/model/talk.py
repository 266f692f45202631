"""Bounds and mutations of calls that go on; ``python -m tests.model.talk`` explores them all.

Two peers that both can stay in a call, from where the callee has just accepted: what each says in
it, who hangs up when, and a little of each trouble between.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from device_sdk.core import callee, caller
from device_sdk.core.caller_side import CallerSide
from device_sdk.core.talk import Messages, News, Talk
from device_sdk.core.talk_side import TalkSide
from device_sdk.core.wire.cells import Answer, AnswerState, Said
from device_sdk.states import EndReason

from .automaton import epoch
from .mutations import Mutation
from .rules import Scenario
from .scenarios import describe, pair
from .search import Found, Search


def talk(name: str, *, says: tuple[int, int] = (1, 1), **more: Any) -> Scenario:
    """A door and a kitchen in a call, promptly: subscriptions and presence pass at once."""
    return replace(pair(name, **more), says=says, prompt=True, verbs=("accept", "say", "hang up"))


BOUNDS: Final = (
    talk("talk", time=(1, 1)),
    talk("talk", says=(2, 1)),
    talk("talk", says=(1, 0), cut=1),
    talk("talk", restart=1),
    talk("talk", wipe=1),
    talk("talk", lose=1),
    talk("talk", repeat=1),
    talk("talk", defer=1),
    talk("talk", bridge=1),
    talk("talk", logout=1),
    talk("talk", says=(1, 0), kill=1),
    replace(talk("talk", says=(1, 0), forbid=1), first=20_000),
)


_ON, _P = caller.On, caller.Phase
_CALLEE_ON, _CALLEE_P, _CALLEE_DO = callee.On, callee.Phase, callee.Do


def _read(change: Callable[[Messages, Messages, News], tuple[Messages, News]]) -> Any:
    """What a register reads is otherwise: made of it before, after, and what is new."""
    original = Messages.read

    def read(self: Messages, said: Said) -> tuple[Messages, News]:
        return change(self, *original(self, said))

    return patch.object(Messages, "read", read)


def _resumed() -> Any:
    """A later life takes a call up where the one before left it."""
    original = callee.found

    def found(call_id: str, peer: str, cell: Answer) -> callee.CalleeCall:
        call = original(call_id, peer, cell)
        if cell.state is not AnswerState.TALKING or cell.talk is None:
            return call
        messages = Messages(cell.talk.count, cell.talk.got or 0, cell.talk.messages)
        epoch_of_door = epoch(0, 0)
        goes_on = Talk(True, True, epoch_of_door, True, messages, limit_at=1e6)
        return callee.evolve(call, phase=_CALLEE_P.TALKING, answer=cell.state, talk=goes_on)

    return patch.object(callee, "found", found)


def _hears_on() -> Any:
    """Who has hung up still handles what comes."""
    original = CallerSide.answered

    def answered(self: CallerSide, key: Any, answer: Answer, now: float) -> bool:
        call = self.calls.get(key)
        if call is not None and call.phase is _P.OVER and answer.talk is not None:
            self._hear(call, answer.talk, now, last=True)
        return original(self, key, answer, now)

    return patch.object(CallerSide, "answered", answered)


def _ended_by_another_login() -> Any:
    """An *online* of another login is proof that the other restarted."""
    original = TalkSide.peer_seen

    def seen(self: TalkSide[Any, Any], peer: str, presence: Any, now: float) -> None:
        for call in list(self.calls.values()):
            other = presence is not None and presence.epoch != call.talk.epoch
            if call.talks and call.key[0] == peer and other and presence.online:
                self._end_talk(call, EndReason.RESTARTED, now)
        original(self, peer, presence, now)

    return patch.object(TalkSide, "peer_seen", seen)


def _quiet(*phases: caller.Phase) -> Any:
    original = CallerSide._says_again
    return patch.object(
        CallerSide,
        "_says_again",
        staticmethod(lambda call: call.phase not in phases and original(call)),
    )


MUTATIONS: Final = (
    Mutation(
        "a message is handled each time it is said",
        lambda: (_read(lambda old, new, news: (new._replace(got=old.got), news)),),
        talk("talk", says=(1, 1)),
    ),
    Mutation(
        "messages are handled out of order",
        lambda: (_read(lambda _, new, news: (new, news._replace(messages=news.messages[::-1]))),),
        talk("talk", says=(2, 0), lose=1),
    ),
    Mutation(
        "a message is acknowledged, and not handled",
        lambda: (_read(lambda _, new, news: (new, news._replace(messages=()))),),
        talk("talk", says=(1, 0)),
    ),
    Mutation(
        "messages are handled after the end",
        lambda: (_hears_on(),),
        talk("talk", says=(1, 1)),
    ),
    Mutation(
        "a later life goes on with the call",
        lambda: (_resumed(),),
        talk("talk", says=(1, 1), restart=1),
    ),
    Mutation(
        "who hangs up clears at once",
        lambda: (
            patch.dict(
                caller.TABLE[_P.TALKING],
                {_ON.HANG_UP: (_P.CLEARING, (caller.Do.CLEAR, caller.Do.TELL_TALK_ENDED))},
            ),
        ),
        talk("talk"),
    ),
    Mutation(
        "the end is told each time it is said",
        lambda: (
            patch.dict(
                callee.TABLE[_CALLEE_P.OVER],
                {
                    _CALLEE_ON.TALK_OVER: (
                        _CALLEE_P.OVER,
                        (_CALLEE_DO.SAY, _CALLEE_DO.TELL_TALK_ENDED),
                    )
                },
            ),
        ),
        talk("talk", repeat=1),
    ),
    Mutation(
        "a message is said once",
        lambda: (_quiet(_P.TALKING),),
        talk("talk", says=(1, 0), lose=1),
    ),
    Mutation(
        "the end is said once",
        lambda: (_quiet(_P.OVER),),
        talk("talk", says=(0, 0), lose=1),
    ),
    Mutation(
        "an older login that a bridge says again ends it",
        lambda: (_ended_by_another_login(),),
        talk("talk", says=(0, 0), bridge=1),
    ),
    Mutation(
        "who is without a link does not end it",
        lambda: (patch.object(TalkSide, "cut", lambda *_: None),),
        talk("talk", says=(0, 0), cut=1),
    ),
)


def mutate(number: int) -> Found:
    """What is found in a mutation's bound; only meanwhile is the engine wrong."""
    mutation = MUTATIONS[number]
    with mutation.applied():
        return Search(mutation.scenario).run()


def explore(number: int) -> Found:
    """One of the bounds."""
    return Search(BOUNDS[number], drain_each=2).run()


def main() -> int:
    """Explore, print, judge."""
    began, wrong, total = time.perf_counter(), 0, 0
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=1) as pool:
        print(f"{'states':>11} {'transitions':>12} {'depth':>5} {'seconds':>7}  bound")
        for bound, found in zip(BOUNDS, pool.map(explore, range(len(BOUNDS))), strict=True):
            total += found.states
            wrong += bool(found.violation) or not found.complete
            print(
                f"{found.states:>11,} {found.transitions:>12,} {found.depth:>5} "
                f"{found.seconds:>7.1f}  {describe(bound)}: {found.violation or 'holds'}",
                flush=True,
            )
            if found.violation:
                print("\n".join(f"    {line}" for line in found.ladder), flush=True)
        caught = 0
        for mutation, found in zip(MUTATIONS, pool.map(mutate, range(len(MUTATIONS))), strict=True):
            caught += bool(found.violation)
            word = f"caught: {found.violation}" if found.violation else "SURVIVED"
            print(f"  mutation  {mutation.name}: {word}", flush=True)
    print(
        f"{total:,} states, {wrong} violated; {caught} of {len(MUTATIONS)} mutations caught; "
        f"{time.perf_counter() - began:.0f} s"
    )
    return int(wrong > 0 or caught < len(MUTATIONS))


if __name__ == "__main__":
    sys.exit(main())
