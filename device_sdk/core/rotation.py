"""Which of several brokers is dialed next, when, and for how long; pure, one peer's.

Every broker is as good as the others: a peer stays with the one that serves it, goes on to the next
one as soon as that fails, and never back because another is there again. Each peer has an order of
its own (:func:`spread`), so neither the start nor the flight from a node that died is a stampede
to one other.

A name may be a *source*: it stands for brokers that have to be looked up (DNS SRV, RFC 2782). It is
asked when it is its turn, and again before one of those that it named is dialed whose time to live
is over, or after all that is known has failed. One that does not answer takes nothing away: what it
named before is dialed. A broker that serves is never left because of an answer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from hashlib import blake2b
from typing import NamedTuple

RETRY_FIRST = 0.1
RETRY_MAX = 5.0
#: A login that lasted so long was no accident: the next break is tried at once again.
RETRY_LASTED = 1.0
#: What each step of a connection (open, greeting, login) may take while there is another broker to
#: try. A cluster that elects a leader answers none of those who ask it meanwhile, but who asks then
#: anew. After two rounds it doubles with each in which none did: a site that comes up has many to
#: greet.
PATIENCE_FIRST = 2.0
PATIENCE_MAX = 16.0
#: The priority of what is named outright: before all that is found, which has 0 to 65535.
NAMED = -1
#: Of a source that has not answered, as it is known in what order its brokers come.
_UNKNOWN = 0


class Target(NamedTuple):
    """A broker that a source names; ``priority`` and ``weight`` as in RFC 2782."""

    name: str
    priority: int = 0
    weight: int = 0


def spread(names: Iterable[str], peer: str) -> tuple[str, ...]:
    """``names`` in the order in which ``peer`` tries them, whatever order they are given in.

    It hangs on the two alone, so it is the same after a restart; without one of the names the
    others stay as they are (rendezvous hashing).
    """
    return tuple(target.name for target in in_order((Target(name) for name in names), peer))


def in_order(targets: Iterable[Target], peer: str) -> tuple[Target, ...]:
    """``targets`` as ``peer`` tries them: the lowest priority first, then as :func:`spread` does.

    Of peers without end as many begin with each one of a priority as its share of the weights is; a
    weight of 0 is a small one (RFC 2782).
    """

    def rank(target: Target) -> tuple[int, float, str]:
        drawn = blake2b(f"{peer}\0{target.name}".encode(), digest_size=8).digest()
        chance = (int.from_bytes(drawn, "big") + 0.5) / 2.0**64  # between 0 and 1, never either
        return target.priority, -math.log1p(-chance) / (target.weight or 0.1), target.name

    return tuple(sorted(targets, key=rank))


class _Source:
    """What a source has said, and when it is to be asked again."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}  # names and their priorities
        self.until = -math.inf
        self.failed = 0  # connections since it was asked


class Rotation:
    """The brokers ``names``, in this order, and which of them it is now; some are ``sources``.

    A single one has no other to give way to: its steps have the bounds of the link.
    """

    def __init__(self, names: tuple[str, ...] = ("",), sources: Collection[str] = ()) -> None:
        self._given = names
        self._sources = {name: _Source() for name in names if name in sources}
        self._priorities: dict[str, int] = {}
        self._owner: dict[str, _Source] = {}  # of a name: the source that is behind it
        self._round: list[str] = []  # those not tried since all others were
        self._asked: str | None = None
        self._failed = 0  # one after the other, since one served
        self._gather()
        self._at = self._next(names[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """All that are known; a source that has named none is one itself."""
        return tuple(self._priorities)

    @property
    def name(self) -> str:
        """The one that is dialed, or serves, or the source that is asked; empty without a name."""
        return self._asked or self._at

    @property
    def asks(self) -> bool:
        """Whether it is a source that is to be asked now, and no broker to be dialed."""
        return self.name in self._sources

    @property
    def patience(self) -> float | None:
        """Seconds for each step of this connection; None where there is no other broker."""
        if len(self._priorities) == 1:
            return None
        return min(PATIENCE_FIRST * 2.0 ** max(0, self._rounds - 1), PATIENCE_MAX)

    def begin(self, now: float) -> None:
        """A connection is to be made: see whether a source is to be asked before."""
        source = self._owner.get(self._at)
        if source is None or self._at in self._sources:
            return
        if source.until <= now or source.failed >= len(self._priorities):
            self._asked = next(name for name, each in self._sources.items() if each is source)

    def found(self, targets: Iterable[Target], until: float) -> None:
        """The source that is asked stands for ``targets`` until then; go on with one of them."""
        source = self._sources[self.name]
        source.found = {target.name: target.priority for target in targets}
        source.until, source.failed = until, 0
        was, self._asked = self.names, None
        self._gather()
        new = [name for name in self._priorities if name not in was]
        left = [name for name in (self._at, *self._round, *new) if name in self._priorities]
        self._round = sorted(left, key=self._priorities.__getitem__)
        self._at = self._next(self._at)

    def failed(self, lasted: float | None, jitter: float) -> float:
        """Go on to the next one; the pause before it is dialed, in seconds.

        ``lasted``: how long it had served, None if it never did. ``jitter``: from 0 to 1.
        """
        if lasted is not None and lasted >= RETRY_LASTED:
            self._failed = 0
            self._round = [name for name in self._after(self._at) if name != self._at]
        pause = min(RETRY_FIRST * 2.0**self._rounds, RETRY_MAX)
        self._failed += 1
        if self._asked is not None:  # what it named before is dialed, and it is asked after that
            source = self._sources[self._asked]
            source.until, source.failed = math.inf, 0
            self._asked = None
        else:
            for source in self._sources.values():
                source.failed += 1
            self._at = self._next(self._at)
        return pause * (0.5 + jitter / 2)

    def _gather(self) -> None:
        """Put together what is known."""
        self._priorities = {name: NAMED for name in self._given if name not in self._sources}
        self._owner = {}
        for given, source in self._sources.items():
            for name, priority in (source.found or {given: _UNKNOWN}).items():
                self._priorities.setdefault(name, priority)
                self._owner.setdefault(name, source)

    def _next(self, after: str) -> str:
        if not self._round:
            self._round = self._after(after)
        return self._round.pop(0)

    def _after(self, name: str) -> list[str]:
        """All of them as they follow ``name``: by priority, those of one in turn."""
        names = list(self._priorities)
        first = names.index(name) + 1 if name in names else 0
        turned = names[first:] + names[:first]
        return sorted(turned, key=self._priorities.__getitem__)

    @property
    def _rounds(self) -> int:
        """How often all of them have failed; no more than matters."""
        return min(self._failed // len(self._priorities), 16)
