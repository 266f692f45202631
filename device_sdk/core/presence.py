"""Presence: that of others, as far as it is known; and what one's own says about newer logins.

Nothing here talks: the engine subscribes, publishes and decides calls.
"""

from collections import Counter
from enum import Enum, auto
from typing import NamedTuple

from .wire.cells import Presence


class Known(NamedTuple):
    """What is known of a peer: ``online`` None is nothing; ``current``: the broker would tell.

    ``read``: it was told on this connection. A subscription may be granted before what stands there
    comes: until then what is known is of an earlier connection.
    """

    online: bool | None = None
    epoch: bytes = b""
    current: bool = False
    read: bool = False

    @property
    def away(self) -> bool:
        """Whether presence says offline, or the broker has none: both as of now."""
        return self.current and not self.online

    def there(self, epoch: bytes) -> bool:
        """Whether that login was read online, on this connection."""
        return self.read and bool(self.online) and self.epoch == epoch

    def replaced(self, epoch: bytes) -> bool:
        """Whether another login than that was read online, on this connection."""
        return self.read and bool(self.online) and self.epoch != epoch

    def gone(self, epoch: bytes) -> bool:
        """Whether that login was read offline, or another online; one that lives corrects it."""
        return self.read and self.online is (self.epoch != epoch)


_NOTHING_KNOWN = Known()


class Watches:
    """Whose presence is subscribed: peers in a call with this one, and those the app watches.

    After the last call with it a peer stays for a while, so that calling it again costs nothing.
    """

    def __init__(self, linger: float, most: int = 32) -> None:
        self.known: dict[str, Known] = {}
        self.by_app: set[str] = set()
        self._linger = linger
        self._most = most
        self._calls: Counter[str] = Counter()
        self._idle: dict[str, float] = {}

    def clone(self) -> "Watches":
        """An independent copy."""
        other = Watches(self._linger, self._most)
        other.known, other.by_app = dict(self.known), set(self.by_app)
        other._calls, other._idle = self._calls.copy(), dict(self._idle)
        return other

    def of(self, peer: str) -> Known:
        """What is known of ``peer``."""
        return self.known.get(peer, _NOTHING_KNOWN)

    def enter(self, peer: str) -> bool:
        """A call with ``peer`` begins; True if its presence is to be subscribed now."""
        self._calls[peer] = self._calls.get(peer, 0) + 1
        self._idle.pop(peer, None)
        return self._add(peer)

    def leave(self, peer: str, now: float) -> None:
        """A call with ``peer`` is over."""
        self._calls[peer] -= 1
        if self._calls[peer] <= 0:
            del self._calls[peer]
            self._idle_from(peer, now)

    def watch(self, peer: str) -> bool:
        """Let the app watch ``peer``; True if its presence is to be subscribed now."""
        self.by_app.add(peer)
        self._idle.pop(peer, None)
        return self._add(peer)

    def unwatch(self, peer: str, now: float) -> None:
        """Let the app no longer watch ``peer``."""
        self.by_app.discard(peer)
        if peer in self.known and not self._calls[peer]:
            self._idle_from(peer, now)

    def expire(self, now: float) -> list[str]:
        """Forget the peers that were idle for long, and the oldest of too many; returns them."""
        over = len(self._idle) - self._most
        gone = [p for i, (p, at) in enumerate(self._idle.items()) if at <= now or i < over]
        for peer in gone:
            del self._idle[peer]
            del self.known[peer]
        return gone

    def make_room(self, peer: str) -> str | None:
        """The broker refused ``peer``'s presence: who lingers longest gives its place, if any.

        So many may linger from now on, and no more.
        """
        if peer in self._idle:
            del self._idle[peer], self.known[peer]
            self._most = len(self._idle)
        elif self._idle and peer in self.known:
            gone = next(iter(self._idle))
            del self._idle[gone], self.known[gone]
            self._most = len(self._idle)
            return gone
        return None

    def deadline(self) -> float | None:
        """When :meth:`expire` has something to do."""
        if len(self._idle) > self._most:
            return 0.0
        return min(self._idle.values(), default=None)

    def confirmed(self, peer: str) -> None:
        """The broker took the subscription: from here it would have told."""
        if peer in self.known:
            self.known[peer] = self.known[peer]._replace(current=True)

    def heard(self, peer: str, presence: Presence | None) -> Known | None:
        """Take in a presence; what was known before, or None if the peer is not watched."""
        before = self.known.get(peer)
        if before is not None:
            online, epoch = (presence.online, presence.epoch) if presence else (None, b"")
            self.known[peer] = Known(online, epoch, current=True, read=True)
        return before

    def disconnected(self) -> None:
        """What is known may be old from here."""
        self.known = {p: k._replace(current=False, read=False) for p, k in self.known.items()}

    def _add(self, peer: str) -> bool:
        if peer in self.known:
            return False
        self.known[peer] = Known()
        return True

    def _idle_from(self, peer: str, now: float) -> None:
        if peer not in self.by_app:
            self._idle[peer] = now + self._linger


class PresenceVerdict(Enum):
    """What a reading of one's own presence calls for."""

    NOTHING = auto()
    ECHO = auto()  # what I published has come back
    REPUBLISH = auto()
    DOUBT = auto()  # another login is there: it has to give way, unless it is the newer one
    ABORT = auto()


#: What a generation may come to: an unsigned integer of the protocol.
_MOST = 2**53 - 1


class OwnPresence:
    """Which of several logins of this peer id goes on (docs/protocol.md, Newer logins).

    Each says a rank, generation and epoch, that only grows. A login ends itself when it reads one
    that is online with a higher rank than its own, and for no other reason: so the one whose rank
    is the highest never does, however late, often or disordered the readings come, and whatever
    the broker forgot. That it be the newest is brought about by raising: over whatever the first
    connection finds, and over a login that is surely older, because its age says so.
    """

    def __init__(self, epoch: bytes) -> None:
        self._epoch = epoch
        self.generation = 0

    def clone(self) -> "OwnPresence":
        """An independent copy."""
        other = OwnPresence(self._epoch)
        other.generation = self.generation
        return other

    def read(
        self, presence: Presence | None, *, retained: bool, settled: bool, first: bool, age: int
    ) -> PresenceVerdict:
        """What to do about this reading.

        ``settled``: what I published has come back before; ``first``: this is the first connection;
        ``age``: milliseconds since this login.
        """
        if presence is None:
            return PresenceVerdict.REPUBLISH
        if presence.epoch == self._epoch:
            if presence.online:
                return PresenceVerdict.NOTHING if retained else PresenceVerdict.ECHO
            return PresenceVerdict.NOTHING if presence.ask else PresenceVerdict.REPUBLISH
        if not settled or (first and retained):
            self._rise_over(presence)
            # Before it settles, mine has just been published, after what is retained there.
            return (
                PresenceVerdict.NOTHING if retained and not settled else PresenceVerdict.REPUBLISH
            )
        if not presence.online and (retained or not presence.ask):
            return PresenceVerdict.REPUBLISH  # a will, which says nothing of who lives
        higher = (presence.generation, presence.epoch) > (self.generation, self._epoch)
        if presence.age > age:
            if higher:
                self._rise_over(presence)
            return PresenceVerdict.REPUBLISH
        return PresenceVerdict.ABORT if higher else PresenceVerdict.DOUBT

    def _rise_over(self, presence: Presence) -> None:
        self.generation = max(self.generation, min(presence.generation + 1, _MOST))
