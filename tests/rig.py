"""One engine alone, fed by hand: what it publishes is read back as cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from device_sdk.core.admission import Screen
from device_sdk.core.effects import (
    Connected,
    DeadlineReached,
    Disconnected,
    Effect,
    Emit,
    Input,
    MessageReceived,
    Publish,
    PublishAcked,
    Subscribed,
)
from device_sdk.core.engine import Engine
from device_sdk.core.events import CoreEvent, RemoteEvent
from device_sdk.core.presence import Known
from device_sdk.core.settings import Settings
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Answer, AnswerState, Cell, Invite, InviteState, Presence
from device_sdk.core.wire.topics import call_id_from_bytes

ME, PEER = "me", "peer"
MINE, THEIRS = b"epoch-me", b"epochyou"
CALL = topics.call_id_from_bytes(bytes(16))
OTHER = topics.call_id_from_bytes(bytes(15) + b"\x40")


class Rig:
    """An engine, its clock, and the last effects it gave."""

    def __init__(
        self, peer_id: str = ME, epoch: bytes = MINE, *, all_acks: bool = False,
        there: bool = True, **engine: Any,
    ) -> None:  # fmt: skip
        #: Whether callers are known to be online, as after an earlier call with them.
        self.there = there
        #: Whether the test acknowledges every publish; else only those that something waits for,
        #: and the broker has the others at once.
        self.all_acks = all_acks
        self.engine = Engine(peer_id, epoch, **engine)
        self.me = peer_id
        self.now = 1000.0
        self.effects: list[Effect] = []
        self.events: list[CoreEvent] = []
        self.tokens: list[int] = []

    def feed(self, what: Input) -> list[Effect]:
        """Hand ``what`` in now; the effects of it alone."""
        try:
            self.engine.handle(what, self.now)
        finally:
            self.effects = self.engine.effects()
            if not self.all_acks:
                self.effects = [self._taken(effect) for effect in self.effects]
            self.events += [e.event for e in self.effects if isinstance(e, Emit)]
            self.tokens += [
                e.token for e in self.effects if isinstance(e, Publish) and e.token is not None
            ]
        return self.effects

    def _taken(self, effect: Effect) -> Effect:
        if not isinstance(effect, Publish) or effect.token in self.engine._context.awaited:
            return effect
        self.engine.handle(PublishAcked(effect.token or 0), self.now)
        return effect._replace(token=None)

    def connect(self, *, settled: bool = True) -> Rig:
        """Connect, and unless told otherwise let the echo of the presence come back."""
        effects = self.feed(Connected())
        if self.engine.login.settled:  # a later connection reads what stands there before it speaks
            mine = Presence(True, self.engine._context.epoch)
            effects += self.hear_presence(mine, self.me, retained=True)
        effects += self.feed(Subscribed((topics.presence("sig", self.me),)))
        if settled:
            effects += self.settle()
        self.effects = effects
        return self

    def settle(self) -> list[Effect]:
        """The echo of the presence comes back."""
        return self.hear_presence(Presence(True, self.engine._context.epoch), self.me)

    def drop(self) -> None:
        """Lose the link."""
        self.tokens.clear()
        self.feed(Disconnected())

    def hear(
        self, cell: Invite | Answer | None, *, peer: str = PEER, call: str = CALL,
        kind: topics.Kind | None = None, retained: bool = False,
    ) -> list[Effect]:  # fmt: skip
        """A cell of ``peer`` comes in; None with a kind is the cleared one."""
        kind = kind or ("invite" if isinstance(cell, Invite) else "answer")
        payload = b"" if cell is None else codec.encode(cell)
        topic = topics.cell("sig", kind, self.me, peer, call)
        watches = self.engine._context.watches
        if self.there and isinstance(cell, Invite) and not watches.of(peer).read:
            watches.known[peer] = Known(online=True, epoch=cell.epoch, current=True, read=True)
        return self.feed(MessageReceived(topic, payload, retained))

    def hear_own(
        self, cell: Invite | Answer, *, peer: str = PEER, call: str = CALL
    ) -> list[Effect]:
        """A cell that a previous login of this peer wrote is found in the outbox."""
        kind: topics.Kind = "invite" if isinstance(cell, Invite) else "answer"
        topic = topics.cell("sig", kind, peer, self.me, call)
        return self.feed(MessageReceived(topic, codec.encode(cell), True))

    def hear_presence(
        self, presence: Presence | None, peer: str = PEER, *, retained: bool = False
    ) -> list[Effect]:
        """A presence comes in; None is the cleared one."""
        payload = b"" if presence is None else codec.encode(presence)
        return self.feed(MessageReceived(topics.presence("sig", peer), payload, retained))

    def confirm(self, peer: str = PEER) -> list[Effect]:
        """The broker confirms the subscription to a peer's presence."""
        return self.feed(Subscribed((topics.presence("sig", peer),)))

    def ack(self) -> list[Effect]:
        """The broker acknowledges everything that waits for it."""
        tokens, self.tokens = self.tokens, []
        out = [effect for token in tokens for effect in self.feed(PublishAcked(token))]
        self.effects = out
        return out

    def until(self, at: float) -> list[tuple[float, Cell | None]]:
        """Let time pass to ``at`` (absolute); what was published meanwhile, and when."""
        said: list[tuple[float, Cell | None]] = []
        while (due := self.engine.deadline()) is not None and due <= at:
            self.now = max(self.now, due)
            self.feed(DeadlineReached())
            said += [(self.now, cell) for cell in self.said]
        self.now = at
        return said

    @property
    def published(self) -> list[tuple[str, Cell | None]]:
        """The last effects' publishes: topic and cell."""
        out: list[tuple[str, Cell | None]] = []
        for effect in self.effects:
            if isinstance(effect, Publish):
                topic = topics.parse("sig", effect.topic)
                decode: Callable[[bytes], Cell] = codec.decode_presence
                if isinstance(topic, topics.CallTopic):
                    decode = codec.decode_invite if topic.kind == "invite" else codec.decode_answer
                out.append((effect.topic, decode(effect.payload) if effect.payload else None))
        return out

    @property
    def said(self) -> list[Cell | None]:
        """The last effects' cells."""
        return [cell for _, cell in self.published]

    @property
    def told(self) -> list[str]:
        """The names of all events so far."""
        return [event.name.value for event in self.events]

    @property
    def new(self) -> list[str]:
        """The names of the last effects' events."""
        return [e.event.name.value for e in self.effects if isinstance(e, Emit)]


def ringing(ttl: int = 60_000, **more: Any) -> Invite:
    """A ringing invite of the peer's."""
    return Invite(InviteState.RINGING, THEIRS, 1, ttl=ttl)._replace(**more)


def ended(reason: int | None = 1, **more: Any) -> Invite:
    """An ended invite of the peer's."""
    return Invite(InviteState.ENDED, THEIRS, 2, reason=reason)._replace(**more)


ACCEPTED = Invite(InviteState.ACCEPTED, THEIRS, 2)


def answer(state: AnswerState, **more: Any) -> Answer:
    """An answer of the peer's."""
    return Answer(state, THEIRS, 1)._replace(**more)


def called(*, screen: Screen | None = None, **settings: Any) -> Rig:
    """A peer where one call rings."""
    rig = Rig(settings=Settings(**settings), screen=screen).connect()
    rig.hear(ringing())
    return rig


def states(rig: Rig) -> list[tuple[str, int | None] | None]:
    """The answers said with the last input: state and reason; None is a clear."""
    return [
        (c.state.name, c.reason) if isinstance(c, Answer) else None
        for c in rig.said
        if c is None or isinstance(c, Answer)
    ]


def last(rig: Rig) -> RemoteEvent:
    """The last event, which is about a call that came in."""
    event = rig.events[-1]
    assert isinstance(event, RemoteEvent)
    return event


def many(number: int) -> str:
    """A call id for each number."""
    return call_id_from_bytes(number.to_bytes(16, "big"))
