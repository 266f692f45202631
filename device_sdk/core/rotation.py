"""Which of several brokers is dialed next, when, and for how long; pure, one peer's.

Every broker is as good as the others: a peer stays with the one that serves it, goes on to the next
one as soon as that fails, and never back because another is there again. Each peer has an order of
its own (:func:`spread`), so neither the start nor the flight from a node that died is a stampede
to one other.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

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


def spread(names: Iterable[str], peer: str) -> tuple[str, ...]:
    """``names`` in the order in which ``peer`` tries them, whatever order they are given in.

    It hangs on the two alone, so it is the same after a restart; without one of the names the
    others stay as they are (rendezvous hashing).
    """

    def rank(name: str) -> tuple[bytes, str]:
        return blake2b(f"{peer}\0{name}".encode(), digest_size=8).digest(), name

    return tuple(sorted(names, key=rank))


class Rotation:
    """The brokers ``names``, in this order, and which of them it is now.

    A single one has no other to give way to: its steps have the bounds of the link.
    """

    def __init__(self, names: tuple[str, ...] = ("",)) -> None:
        self.names = names
        #: The index of the one that is dialed, or serves.
        self.at = 0
        self._failed = 0  # one after the other, since one served

    @property
    def name(self) -> str:
        """The one that is dialed, or serves; empty for one without a name."""
        return self.names[self.at]

    @property
    def patience(self) -> float | None:
        """Seconds for each step of this connection; None where there is no other broker."""
        if len(self.names) == 1:
            return None
        return min(PATIENCE_FIRST * 2.0 ** max(0, self._rounds - 1), PATIENCE_MAX)

    def failed(self, lasted: float | None, jitter: float) -> float:
        """Go on to the next one; the pause before it is dialed, in seconds.

        ``lasted``: how long it had served, None if it never did. ``jitter``: from 0 to 1.
        """
        if lasted is not None and lasted >= RETRY_LASTED:
            self._failed = 0
        pause = min(RETRY_FIRST * 2.0**self._rounds, RETRY_MAX)
        self._failed += 1
        self.at = (self.at + 1) % len(self.names)
        return pause * (0.5 + jitter / 2)

    @property
    def _rounds(self) -> int:
        """How often all of them have failed; no more than matters."""
        return min(self._failed // len(self.names), 16)
