"""What the broker has yet to acknowledge, and which cell it will not take; pure.

MQTT 3.1.1 has no word for "not allowed" or "too large": the broker closes the connection. Since
every live cell is said again on the next one, a single such cell would end each connection anew. So
what was not acknowledged when a connection broke is a *suspect*: on the next one it waits until all
else is acknowledged, then the suspects are *tried*, one at a time, and nothing else is said while
one is on trial. The one at which the connection breaks, twice in a row, is *set aside*: it is not
said any more (docs/protocol.md, Connecting, What the broker does not take).
"""

from __future__ import annotations

from typing import Final

from .bounded import BoundedDict

#: Whose cell, and of which call; presence is neither invite nor answer, and never set aside.
CellKey = tuple[str, tuple[str, str]]
INVITE: Final = "invite"
ANSWER: Final = "answer"
PRESENCE: Final = "presence"
#: A cell at whose trial the connection breaks so often, one after the other, is set aside.
STRIKES = 2
#: A broker that neither acknowledges nor closes for so long, in seconds, ends all trials.
PUBACK_TIMEOUT = 5.0


class Outbox:
    """What one login has said and the broker has not acknowledged, over all its connections."""

    def __init__(self, most: int) -> None:
        self.unacked: dict[int, CellKey] = {}
        self._most = most
        self.suspects: dict[CellKey, int] = {}
        self.trial: CellKey | None = None
        #: What was to be said during a trial; it is said after it.
        self.held: dict[CellKey, None] = {}
        self.until: float | None = None
        self.aside: BoundedDict[CellKey, None] = BoundedDict(most)
        self.lifted: BoundedDict[CellKey, None] = BoundedDict(most)

    def clone(self) -> Outbox:
        """An independent copy."""
        other = Outbox(self._most)
        other.unacked, other.suspects = dict(self.unacked), dict(self.suspects)
        other.trial, other.held, other.until = self.trial, dict(self.held), self.until
        other.aside, other.lifted = self.aside.clone(), self.lifted.clone()
        return other

    def may_say(self, cell: CellKey) -> bool:
        """Whether ``cell`` may be said now; if only not yet, :meth:`next` names it in time."""
        if cell in self.aside:
            return False
        if self.trial is None:
            return cell not in self.suspects
        if cell == self.trial and not self.unacked:
            return True
        self.held[cell] = None
        return False

    def said(self, token: int, cell: CellKey) -> None:
        """It was said, and is to be acknowledged; tokens are never used again."""
        self.unacked[token] = cell
        if len(self.unacked) > self._most:
            del self.unacked[next(iter(self.unacked))]

    def acked(self, token: int, now: float) -> None:
        """The broker has it."""
        cell = self.unacked.pop(token, None)
        if cell is None or not self.suspects:
            return
        self.until = now + PUBACK_TIMEOUT
        if cell == self.trial:
            del self.suspects[cell]
            self.trial = None

    def next(self, now: float) -> CellKey | None:
        """What is to be said now, one after the other: what was held, then the next suspect."""
        if self.trial is not None:
            return None
        while self.held:
            cell = next(iter(self.held))
            del self.held[cell]
            if cell not in self.suspects:
                return cell
        if not self.suspects:
            self.until = None
        elif not self.unacked:
            # Brokers take what comes in its order: the first that was not acknowledged is the one
            # most likely to be at fault, the others should not wait for it.
            self.trial = max(reversed(self.suspects), key=self.suspects.__getitem__)
            self.until = now + PUBACK_TIMEOUT
        return self.trial

    def nothing_to_say(self, cell: CellKey) -> None:
        """What :meth:`next` named has nothing to say any more."""
        if cell == self.trial and not self.unacked:
            self.trial = None
            del self.suspects[cell]

    def connected(self, now: float) -> None:
        """A connection begins."""
        self.until = now + PUBACK_TIMEOUT if self.suspects else None

    def give_up(self) -> None:
        """The broker says nothing, and does not close: all is said as ever."""
        self.held |= dict.fromkeys(self.suspects)
        self.suspects.clear()
        self.trial = self.until = None

    def lost(self) -> list[CellKey]:
        """The connection broke: who is suspected now, and what is set aside by that."""
        left = dict.fromkeys(cell for cell in self.unacked.values() if cell[0] != PRESENCE)
        aside: list[CellKey] = []
        if self.trial is not None and set(self.unacked.values()) == {self.trial}:
            self.suspects[self.trial] += 1
            if self.suspects[self.trial] >= STRIKES:
                del self.suspects[self.trial]
                self.aside[self.trial] = None
                aside.append(self.trial)
        else:
            self.suspects = dict.fromkeys((*self.suspects, *left), 0)
        self.unacked.clear()
        self.held.clear()
        self.trial = self.until = None
        return aside

    def lift(self, cell: CellKey) -> bool:
        """Say ``cell`` again after all, once: there is a sign that the broker took it."""
        if cell not in self.aside or cell in self.lifted:
            return False
        del self.aside[cell]
        self.lifted[cell] = None
        return True
