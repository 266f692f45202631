"""Wrong engines, each wrong in one way: proof that the checker can fail.

A mutation patches a table or a method of the real engine for a while and names the scenario in
which the checker must find a violation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from device_sdk.core import callee, callee_steps, caller, caller_steps, outbox
from device_sdk.core.admission import Admission
from device_sdk.core.callee import CalleeCall
from device_sdk.core.callee_side import CalleeSide
from device_sdk.core.caller import CallerCall
from device_sdk.core.caller_side import CallerSide
from device_sdk.core.engine import Engine
from device_sdk.core.outbox import Outbox
from device_sdk.core.presence import OwnPresence, PresenceVerdict
from device_sdk.core.wire.cells import AnswerState

from .rules import Scenario
from .scenarios import group, pair
from .search import Found, Search

_IN, _OUT, _C, _D = caller.On, callee.On, caller.Phase, callee.Phase


@dataclass(frozen=True)
class Mutation:
    """One way to be wrong; ``patches`` gives the context managers that make it so."""

    name: str
    patches: Callable[[], tuple[Any, ...]]
    scenario: Scenario

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While inside, the engine is wrong."""
        with ExitStack() as stack:
            for change in self.patches():
                stack.enter_context(change)
            yield


def _entry(table: Mapping[Any, Any], phase: Any, on: Any, step: Any) -> Any:
    return patch.dict(table[phase], {on: step})


def _method(owner: type, name: str, new: Any) -> Any:
    return patch.object(owner, name, new)


def _without(owner: Any, phase: Any, on: Any, do: Any) -> Any:
    after, todo = owner.TABLE[phase][on]
    return _entry(owner.TABLE, phase, on, (after, tuple(d for d in todo if d is not do)))


def _nothing(*_args: Any, **_more: Any) -> None:
    return None


def _takes_for_live(*phases: Any) -> Any:
    """In these phases a *ringing* without the RETAIN flag is proof of life."""
    original = Admission.is_live

    def is_live(self: Admission, call: CalleeCall, invite: Any) -> bool:
        return call.phase in phases or original(self, call, invite)

    return _method(Admission, "is_live", is_live)


def _ended_by_another_login() -> Any:
    """An *online* of another login, not flagged retained, is proof that the caller is gone."""
    original = CalleeSide.caller_seen

    def seen(
        self: CalleeSide, caller: str, presence: Any, now: float, *, retained: bool, **more: Any
    ) -> None:
        for call in list(self.calls.values()):
            if (
                (call.caller, call.phase) == (caller, _D.RINGING)
                and presence is not None
                and presence.online
                and presence.epoch != call.epoch
                and not retained
            ):
                self._step(call, _OUT.CALLER_REPLACED, now)
        original(self, caller, presence, now, retained=retained, **more)

    return _method(CalleeSide, "caller_seen", seen)


def _clears_once(side: type, clearing: Any) -> Any:
    """A clear is said once: neither the resync repeats it nor what follows a suspect's trial."""
    original: Any = side.say  # type: ignore[attr-defined]

    def say(self: Any, key: Any, now: float) -> None:
        call = self.calls.get(key)
        if call is None or call.phase is not clearing:
            original(self, key, now)

    return _method(side, "say", say)


def _deaf_to_ask() -> Any:
    """The answer is read, the question in it is not."""
    original = CallerSide.answered

    def answered(self: CallerSide, key: Any, answer: Any, now: float) -> bool:
        return original(self, key, answer._replace(ask=False), now)

    return _method(CallerSide, "answered", answered)


def _anonymous() -> Any:
    original = CallerSide._say_for

    def say_for(self: CallerSide, call: CallerCall, now: float, *_asker: Any) -> None:
        original(self, call, now)

    return _method(CallerSide, "_say_for", say_for)


def _due_without(record: type, *names: str) -> Any:
    def due(self: Any) -> float | None:
        left = {"ring_at", "ack_at", "accept_at", "resend_at", "keep_at"} - set(names)
        times = (getattr(self, name, None) for name in left)
        return min((t for t in times if t is not None), default=None)

    return patch.object(record, "due", property(due))


def _presence_never_again() -> Any:
    original = OwnPresence.read

    def read(self: OwnPresence, presence: Any, **more: Any) -> PresenceVerdict:
        verdict = original(self, presence, **more)
        return PresenceVerdict.NOTHING if verdict is PresenceVerdict.REPUBLISH else verdict

    return _method(OwnPresence, "read", read)


def _quiet_failure() -> Any:
    """What a previous login accepted, and nobody waits for here: said as if all were well."""
    original = callee.found

    def found(*args: Any) -> CalleeCall:
        call = original(*args)
        if call.answer is AnswerState.FAILED:
            return call._replace(answer=AnswerState.SEEN, answer_reason=None)
        return call

    return patch.object(callee, "found", found)


DO, TO = caller.Do, callee.Do
MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "the caller decides twice: accepted after its cancel",
        lambda: (_entry(caller.TABLE, _C.ENDED, _IN.ANSWER_ACCEPTED, (_C.ACCEPTED, (DO.SAY,))),),
        pair("plain"),
    ),
    Mutation(
        "the caller cancels what it accepted",
        lambda: (
            _entry(caller.TABLE, _C.ACCEPTED, _IN.RESEND, (_C.ENDED, (DO.SAY, DO.TELL_FAILURE))),
        ),
        pair("plain", time=(1, 0)),
    ),
    Mutation(
        "a probe rings at once",
        lambda: (
            _entry(
                callee.TABLE,
                _D.NEW,
                _OUT.RINGING_RETAINED,
                (_D.RINGING, (TO.SAY, TO.EXTEND, TO.TELL_RECEIVED)),
            ),
        ),
        pair("restart", restart=1),
    ),
    Mutation(
        "what a bridge says again is taken for the answer",
        lambda: (_takes_for_live(_D.PROBING),),
        replace(pair("bridge", bridge=1, restart=1), prompt=True),
    ),
    Mutation(
        "what a bridge says again makes it ring longer",
        lambda: (_takes_for_live(_D.RINGING),),
        replace(pair("bridge", bridge=1, cut=1), prompt=True),
    ),
    Mutation(
        "an older login that a bridge says again ends the call",
        lambda: (_ended_by_another_login(),),
        replace(pair("bridge", bridge=1), prompt=True),
    ),
    Mutation(
        "the caller's answer does not say whom it answers",
        lambda: (_anonymous(),),
        pair("restart", restart=1),
    ),
    Mutation(
        "an answered call rings again",
        lambda: (
            _entry(callee.TABLE, _D.OVER, _OUT.RINGING, (_D.RINGING, (TO.SAY, TO.TELL_RECEIVED))),
        ),
        pair("time", time=(1, 0)),
    ),
    Mutation(
        "a late copy of a remembered call rings",
        lambda: (
            _entry(
                callee.TABLE,
                _D.REMEMBERED,
                _OUT.RINGING,
                (_D.RINGING, (TO.SAY, TO.EXTEND, TO.TELL_RECEIVED)),
            ),
        ),
        pair("repeat", repeat=1),
    ),
    Mutation(
        "a late copy of an answer ends a finished call once more",
        lambda: (_method(CallerSide, "_remember", _nothing),),
        pair("repeat", repeat=1),
    ),
    Mutation(
        "the callee takes its accept for the decision",
        lambda: (
            _entry(
                callee.TABLE, _D.RINGING, _OUT.ACCEPT, (_D.ACCEPTING, (TO.SAY, TO.TELL_ACCEPTED))
            ),
        ),
        pair("plain"),
    ),
    Mutation(
        "an accept that crosses a cancel wins at the callee",
        lambda: (
            patch.dict(
                callee.OUTCOMES,  # type: ignore[arg-type]
                {(_D.ACCEPTING, _OUT.ENDED): callee.OUTCOMES[_D.ACCEPTING, _OUT.ACCEPTED]},
            ),
            _entry(callee.TABLE, _D.ACCEPTING, _OUT.ENDED, (_D.OVER, (TO.SAY, TO.TELL_ACCEPTED))),
        ),
        pair("plain"),
    ),
    Mutation(
        "the other legs of a group are not ended",
        lambda: tuple(
            _without(caller, phase, _IN.ANSWER_ACCEPTED, DO.END_OTHER_LEGS)
            for phase in (_C.SENT, _C.RECEIVED)
        ),
        group("group of two", 2),
    ),
    Mutation(
        "answered elsewhere is told as a missed call",
        lambda: (
            _entry(callee.TABLE, _D.RINGING, _OUT.ENDED, (_D.OVER, (TO.SAY, TO.TELL_MISSED))),
        ),
        group("group of two", 2),
    ),
    Mutation(
        "the callee rings past its deadline",
        lambda: (_due_without(CalleeCall, "ring_at"),),
        pair("plain"),
    ),
    Mutation(
        "the callee waits for the decision for ever",
        lambda: (_due_without(CalleeCall, "accept_at"),),
        pair("plain"),
    ),
    Mutation(
        "the caller's call never expires",
        lambda: (_due_without(CallerCall, "ring_at", "ack_at"),),
        pair("plain"),
    ),
    Mutation(
        "a caller known to be gone is rung for",
        lambda: (_method(CalleeSide, "caller_seen", _nothing),),
        pair("cut", cut=1),
    ),
    Mutation(
        "the caller's clear is not repeated when the link is back",
        lambda: (_clears_once(CallerSide, _C.CLEARING),),
        pair("cut", cut=1),
    ),
    Mutation(
        "the callee's clear is not repeated when the link is back",
        lambda: (_clears_once(CalleeSide, _D.CLEARING),),
        pair("cut", cut=1),
    ),
    Mutation(
        "the caller does not resync at all",
        lambda: (_method(CallerSide, "resync", _nothing),),
        pair("cut", cut=1),
    ),
    Mutation(
        "the callee does not say its answers again",
        lambda: (patch.object(callee_steps, "_SAYS_AGAIN", frozenset()),),
        pair("lose", lose=1),
    ),
    Mutation(
        "the caller does not say its cells again",
        lambda: (patch.object(caller_steps, "_SAYS_AGAIN", frozenset()),),
        pair("lose", lose=1),
    ),
    Mutation(
        "the caller is deaf to ask",
        lambda: (_deaf_to_ask(),),
        pair("restart", restart=1),
    ),
    Mutation(
        "cells of a previous login are left alone",
        lambda: (_method(Engine, "_from_myself", _nothing),),
        pair("restart", restart=1),
    ),
    Mutation(
        "nobody is told that the peer was lost after accept",
        lambda: tuple(
            _without(caller, _C.ACCEPTED, on, DO.TELL_PEER_LOST)
            for on in (_IN.ANSWER_FAILED, _IN.ANSWER_REFUSED)
        ),
        pair("restart", restart=1),
    ),
    Mutation(
        "a callee that restarted hides that nobody is there",
        lambda: (_quiet_failure(),),
        pair("restart", restart=1),
    ),
    Mutation(
        "the end is not told to the callee",
        lambda: (_without(callee, _D.RINGING, _OUT.ENDED, TO.TELL_ENDED),),
        pair("plain"),
    ),
    Mutation(
        "the end is told each time it is said",
        lambda: (_entry(callee.TABLE, _D.OVER, _OUT.ENDED, (_D.OVER, (TO.SAY, TO.TELL_CANCELED))),),
        pair("time", time=(1, 0)),
    ),
    Mutation(
        "a cell that the broker does not take is said for ever",
        lambda: (patch.object(outbox, "STRIKES", 1000),),
        replace(pair("forbid", forbid=1), prompt=True),
    ),
    Mutation(
        "suspects are said with everything else",
        lambda: (_method(Outbox, "may_say", lambda *_: True),),
        replace(pair("forbid", forbid=1), prompt=True),
    ),
    Mutation(
        "one break at a trial sets a cell aside",
        lambda: (patch.object(outbox, "STRIKES", 1),),
        replace(pair("kill", kill=2), prompt=True),
    ),
    Mutation(
        "a late will leaves the peer offline",
        lambda: (_presence_never_again(),),
        pair("late will", cut=1, **{"late will": 1}),
    ),
)


def mutate(number: int) -> Found:
    """What the checker finds in a mutation's scenario; only meanwhile is the engine wrong."""
    mutation = MUTATIONS[number]
    with mutation.applied():
        return Search(mutation.scenario).run()
