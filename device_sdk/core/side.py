"""What the two sides of an engine share: calls that live, one cell each, and when they are due.

A side is a table of transitions (``caller_table``), the record that they change (``caller``), what
a step comes to (``caller_steps``) and what brings it about (``caller_side``); so is the callee's.
That both keep their calls, say their cells and forget is here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Self, TypeVar

from . import callee, caller
from .bounded import TOO_MANY, BoundedDict, Pace
from .context import CLEAR, Context, Key
from .settings import MAX_KEPT, MAX_REMEMBERED, STRANGER, STRANGERS
from .wire.topics import Kind

C = TypeVar("C", caller.CallerCall, callee.CalleeCall)
R = TypeVar("R")

#: Phases of calls that are not kept any more.
_DONE = frozenset({caller.Phase.GONE, callee.Phase.REMEMBERED, callee.Phase.GONE})


class Side(ABC, Generic[C, R]):
    """The calls of one peer as their caller, or as their callee.

    ``R`` is what is remembered of a call that is over and cleared.
    """

    #: Which cells it says: INVITE or ANSWER.
    kind: ClassVar[Kind]

    def __init__(self, context: Context) -> None:
        self._context = context
        self.calls: dict[Key, C] = {}
        #: Over and cleared, the oldest first.
        self.remembered: BoundedDict[Key, R] = BoundedDict(MAX_REMEMBERED)
        self._due: dict[Key, float] = {}
        #: What is said to those of whose calls the app does not know.
        self._strangers = Pace(STRANGER, STRANGERS, MAX_KEPT)

    def _copied_to(self, other: Self) -> Self:
        other.calls |= self.calls
        other._due = dict(self._due)
        other.remembered, other._strangers = self.remembered.clone(), self._strangers.clone()
        return other

    def abort(self) -> None:
        """A newer login owns these cells now: tell the app that its calls failed, say nothing."""
        for call in list(self.calls.values()):
            self._give_up(call)
        self.calls.clear()
        self.remembered.clear()
        self._due.clear()

    def resync(self, now: float) -> None:
        """Say every live cell once more."""
        for key in list(self.calls):
            self.say(key, now)

    @abstractmethod
    def say(self, key: Key, now: float) -> None:
        """Say one cell once more, if there is still anything to say in it."""

    def deadline(self) -> float | None:
        """When :meth:`fire` has something to do."""
        return min(self._due.values(), default=None)

    def fire(self, now: float) -> None:
        """Do what is due, the earliest call first."""
        while self._due:
            key = min(self._due, key=self._due.__getitem__)
            if self._due[key] > now:
                break
            self._fire(self.calls[key], now)

    @abstractmethod
    def _fire(self, call: C, now: float) -> None:
        """Do what is due of one call."""

    @abstractmethod
    def _give_up(self, call: C) -> None:
        """Tell the app that this call failed, if it knows of it."""

    def _keep(self, call: C) -> None:
        """This is the call from now on, and due when it says; one that is done is let go."""
        key, due = call.key, call.due
        if call.phase in _DONE:
            self.calls.pop(key, None)
            self._due.pop(key, None)
            return
        self.calls[key] = call
        if due is None:
            self._due.pop(key, None)
        else:
            self._due[key] = due
            self._context.arm(due)

    def _may_find(self, key: Key) -> bool:
        """Whether a cell of a previous login is news, and there is room for it."""
        return not (key in self.calls or key in self.remembered or len(self.calls) >= MAX_KEPT)

    def _may_answer(self, peer: str, now: float) -> bool:
        """Whether the app's not knowing of a call leaves room for an answer to it by now."""
        if self._strangers.allows(peer, now):
            return True
        self._context.stats.drops[TOO_MANY] += 1
        return False

    def _is_aside(self, key: Key) -> bool:
        return (self.kind, key) in self._context.outbox.aside

    def _clear(self, key: Key, *, awaited: bool = True) -> None:
        """Publish the cell empty, and perhaps await that the broker has that."""
        if self._context.may_say(self.kind, key):
            self._context.say(self.kind, key, None, CLEAR if awaited else None)
