"""What both sides of an engine share: who I am, whether the link is up, and what is to be done."""

from __future__ import annotations

import math

from .effects import Effect, Emit, Publish, Subscribe
from .events import CoreEvent
from .outbox import PRESENCE, CellKey, Outbox
from .presence import OwnPresence, Watches
from .settings import MAX_IDLE_WATCHES, MAX_REMEMBERED, Settings
from .stats import Stats
from .wire import codec, keys, topics
from .wire.cells import Answer, Invite, Presence
from .wire.topics import Kind

Key = tuple[str, str]

#: For what an acknowledgement is awaited.
CLEAR, CANCEL, GOODBYE = "clear", "cancel", "goodbye"


class Context:
    """One peer in one life (epoch): its link, its effects so far, its acknowledgements awaited."""

    def __init__(self, peer_id: str, epoch: bytes, realm: str, settings: Settings) -> None:
        self.me = peer_id
        self.epoch = epoch
        self.realm = realm
        self.settings = settings
        self.talk = False  # this peer can stay in a call after accepted
        self.up = False  # publishes make sense
        self.inbox = False  # and the inbox is, or is being, subscribed
        self.out: list[Effect] = []
        self.stats = Stats()
        self.watches = Watches(settings.presence_linger, MAX_IDLE_WATCHES)
        self.own = OwnPresence(epoch)
        self.born: float | None = None  # when the broker first let this login in
        #: What is done once the broker has acknowledged a publish: its purpose, and which cell.
        self.awaited: dict[int, tuple[str, CellKey]] = {}
        self.outbox = Outbox(MAX_REMEMBERED)
        self._token = 0
        #: Nothing is due before: at most the earliest deadline, so that few have to look for that.
        self.idle_until = -math.inf

    def clone(self) -> Context:
        """An independent copy; statistics are not carried over."""
        other = Context(self.me, self.epoch, self.realm, self.settings)
        other.talk, other.up, other.inbox = self.talk, self.up, self.inbox
        other.out = list(self.out)
        other.watches = self.watches.clone()
        other.own, other.born = self.own.clone(), self.born
        other.awaited, other._token = dict(self.awaited), self._token
        other.outbox = self.outbox.clone()
        other.idle_until = self.idle_until
        return other

    def arm(self, at: float) -> None:
        """Something is due ``at``."""
        if at < self.idle_until:
            self.idle_until = at

    def tell(self, event: CoreEvent) -> None:
        """Tell the app."""
        self.out.append(Emit(event))

    def may_say(self, kind: Kind, key: Key) -> bool:
        """Whether there is a link, and a cell of mine may be said on it now."""
        return self.up and self.outbox.may_say((kind, key))

    def say(
        self, kind: Kind, key: Key, cell: Invite | Answer | None, purpose: str | None = None
    ) -> None:
        """Publish my cell for a call, None to clear it; await the ack for a purpose."""
        topic = topics.cell(self.realm, kind, key[0], self.me, key[1])
        payload = b"" if cell is None else codec.encode(cell)
        self._publish((kind, key), topic, payload, purpose)

    def age(self, now: float) -> int:
        """Milliseconds since the broker first let this login in."""
        return 0 if self.born is None else max(0, min(int((now - self.born) * 1000), keys.MAX_UINT))

    def say_presence(
        self,
        now: float,
        *,
        online: bool,
        wall: int | None = None,
        ask: bool = False,
        purpose: str | None = None,
    ) -> None:
        """Publish my presence."""
        age = self.age(now) if online or ask else 0  # a goodbye claims nothing
        payload = codec.encode(Presence(online, self.epoch, wall, ask, self.own.generation, age))
        topic = topics.presence(self.realm, self.me)
        self._publish((PRESENCE, ("", "")), topic, payload, purpose)

    def watch(self, peer: str) -> None:
        """A call with ``peer`` begins: be told of its presence."""
        if self.watches.enter(peer) and self.inbox:
            self.out.append(Subscribe((topics.presence(self.realm, peer),)))

    def read_again(self, peer: str) -> None:
        """Have the broker say once more what stands there as the presence of ``peer``."""
        self.out.append(Subscribe((topics.presence(self.realm, peer),)))

    def leave(self, peer: str, now: float) -> None:
        """A call with ``peer`` is over."""
        self.watches.leave(peer, now)
        self.idle_until = -math.inf

    def _publish(self, cell: CellKey, topic: str, payload: bytes, purpose: str | None) -> None:
        self._token += 1
        self.outbox.said(self._token, cell)
        if purpose:
            self.awaited[self._token] = (purpose, cell)
        self.out.append(Publish(topic, payload, self._token))
