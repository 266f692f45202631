"""Thousands of calls through real engines and the broker in memory, with everything going wrong.

One *episode* is a handful of peers and a few dozen calls over some minutes of simulated time. Each
peer has its own clock (offset and speed differ, wall time is nonsense). While *faults* last, links
break on either side or on both, processes die and come back, publishes are swallowed though they
are acknowledged, come twice, or come again much later, and the broker loses its store. Then the
network is sound for a while, and everything must have ended, in agreement, with no cell left.

All that is random comes from one seed: ``Episode(seed).run()`` is the same each time.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from device_sdk.core.callee import Phase as CalleePhase
from device_sdk.core.caller import UNDECIDED
from device_sdk.core.effects import (
    Aborted,
    Accept,
    Cancel,
    Connected,
    DeadlineReached,
    Disconnected,
    Emit,
    Input,
    MessageReceived,
    Publish,
    PublishAcked,
    Refuse,
    Send,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from device_sdk.core.engine import OUT_OF_PLACE, Engine
from device_sdk.core.events import CoreEvent, LocalEvent, Name, PeerLost, RemoteEvent
from device_sdk.core.wire import topics
from device_sdk.core.wire.cells import Offer
from device_sdk.testing import MemoryBroker, MemorySession

from .judge import Fault, Ring

#: Seconds: how long faults last, and within which all must be over once they stopped. The longest
#: way: a ring that just began (60), its slack, the accept (5), resends (30) and their answers.
FAULTY: Final = 240.0
CALM: Final = 180.0
#: A message takes at most this long on one hop, unless it is a copy.
SLOWEST: Final = 3.0
CALLS: Final = 20
#: A call made on a sound network rings within two slowest hops.
RINGS_WITHIN: Final = 2 * SLOWEST + 1.0


@dataclass
class Link:
    """One connection; ``cut`` when nothing passes any more, whoever knows it."""

    session: MemorySession
    cut: bool = False
    up_at: float = 0.0
    down_at: float = 0.0


@dataclass
class Peer:
    """An engine, its clock and its connection."""

    name: str
    engine: Engine
    offset: float
    speed: float
    link: Link | None = None
    dead: bool = False
    armed: int = 0

    def clock(self, time: float) -> float:
        """The peer's own time."""
        return self.offset + self.speed * time


@dataclass
class Totals:
    """What happened; ``faults`` is what must be empty."""

    calls: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    talks: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def add(self, other: Totals) -> None:
        """Take in another's."""
        self.calls += other.calls
        self.ends += other.ends
        self.injected += other.injected
        self.talks += other.talks
        self.faults += other.faults


class Episode:
    """A few peers that call each other while everything goes wrong, and a while after."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.broker = MemoryBroker()
        self.time = 0.0
        self.totals = Totals()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._rings: list[Ring] = []
        self._by_call: dict[str, tuple[Ring, int]] = {}
        names = ["door", "kitchen", "bed room", "phone.1"][: self.random.randint(2, 4)]
        self.peers = [self._newborn(name) for name in names]
        self._sound = False

    # --- the whole episode -------------------------------------------------------------------

    def run(self) -> Totals:
        """All of it; the totals, with the faults found."""
        pick = self.random
        for peer in self.peers:
            self._later(pick.uniform(0, 2), lambda p=peer: self._connect(p))
        for _ in range(CALLS):
            self._later(pick.uniform(1, FAULTY), self._call)
        troubles = (self._cut, self._cut, self._half_open, self._restart, self._lose_store)
        for _ in range(pick.choice((2, 6, 20))):
            self._later(pick.uniform(0, FAULTY), pick.choice(troubles))
        # Calls right into trouble: most faults hit calls only by design.
        for _ in range(4):
            at = pick.uniform(1, FAULTY - 10)
            self._later(at, self._call)
            self._later(at + pick.uniform(0, 3), pick.choice(troubles[:4]))
        try:
            self._until(FAULTY)
            self._sound = True
            for peer in self.peers:
                peer.dead = False
                self._notice(peer)
                self._connect(peer)
            last = [self._call() for _ in range(2)]
            self._until(self.time + RINGS_WITHIN)
            for ring in last:
                ring.must_have_rung(self.time)
            self._until(self.time + CALM)
            self._log_in_again()
            for ring in self._rings:
                ring.over()
            self._leftovers()
        except Fault as fault:
            fault.seed = self.seed
            fault.time = self.time
            self.totals.faults.append(fault)
        for ring in self._rings:
            self.totals.ends.update(ring.ends())
        return self.totals

    def _log_in_again(self) -> None:
        """A clear that a broker swallowed is found by the next login, and by nothing earlier."""
        injected = self.totals.injected
        self._leftovers(cells=not injected["swallowed"] and not injected["store lost"])
        for peer in self.peers:
            self._off(peer)
            peer.engine = self._engine(peer.name)
            self._forget(peer)
            self._connect(peer)
            self._until(self.time + 10)
        self._until(self.time + CALM)

    def _leftovers(self, *, cells: bool = True) -> None:
        left = [t for t in self.broker.retained if cells and not t.endswith("/presence")]
        calls = [
            f"{p.name}: {call.phase.name} {call.call_id}"
            for p in self.peers
            for call in (*p.engine.caller.calls.values(), *p.engine.callee.calls.values())
        ]
        if left or calls:
            raise Fault("stuck", f"left over: cells {left}, calls {calls}")

    # --- peers -------------------------------------------------------------------------------

    def _engine(self, name: str) -> Engine:
        return Engine(name, self.random.randbytes(8))

    def _newborn(self, name: str) -> Peer:
        pick = self.random
        return Peer(name, self._engine(name), pick.uniform(0, 1e6), pick.uniform(0.97, 1.03))

    def _forget(self, peer: Peer) -> None:
        for ring in self._rings:
            ring.restarted(peer.name)

    def _connect(self, peer: Peer) -> None:
        if peer.link is not None or peer.dead:
            return
        session = MemorySession(
            topics.escape(peer.name), lambda *_: None, lambda: None, peer.engine.will()
        )
        link = peer.link = Link(session)
        session.deliver = lambda t, p, r: self._down(peer, link, MessageReceived(t, p, r))
        session.closed = lambda: setattr(link, "cut", True)
        self.broker.connect(session)
        self._feed(peer, Connected(wall=self.random.choice((None, 0, 4_000_000_000))))

    def _off(self, peer: Peer, *, will_after: float = 0.0) -> None:
        """Without a connection; the broker finds out later."""
        link, peer.link = peer.link, None
        if link is not None:
            link.cut = True
            self._later(will_after, lambda: self.broker.drop(link.session))

    def _feed(self, peer: Peer, what: Input) -> None:
        engine, now = peer.engine, peer.clock(self.time)
        try:
            engine.handle(what, now)
        except Exception as error:
            raise Fault("error", f"{peer.name} raised {error!r} on {what}") from error
        for effect in engine.effects():
            match effect:
                case Emit(event):
                    self._told(peer, event, what)
                case Aborted():
                    raise Fault("error", f"{peer.name} aborted without a newer login")
                case Publish() | Subscribe() | Unsubscribe() if peer.link is not None:
                    self._up(peer, peer.link, effect)
                case _:
                    pass
        if engine.stats.drops[OUT_OF_PLACE]:
            raise Fault("error", f"{peer.name} has no place for {what}")
        self._arm(peer)

    def _arm(self, peer: Peer) -> None:
        peer.armed += 1
        at, armed = peer.engine.deadline(), peer.armed
        if at is not None:
            wait = (at - peer.clock(self.time)) / peer.speed

            def fire() -> None:
                if peer.armed == armed and not peer.dead:
                    self._feed(peer, DeadlineReached())

            self._later(max(wait, 0.0) + 1e-6, fire)

    # --- the network -------------------------------------------------------------------------

    def _hop(self, free_at: float) -> float:
        """When a message that leaves now arrives, behind those before it."""
        pick = self.random
        slow = pick.random() < (0.02 if not self._sound else 0.0)
        return max(free_at, self.time + (pick.uniform(0, SLOWEST) if slow else pick.random() / 50))

    def _up(self, peer: Peer, link: Link, effect: Publish | Subscribe | Unsubscribe) -> None:
        link.up_at = self._hop(link.up_at)

        def arrive() -> None:
            if link.cut:
                return
            match effect:
                case Subscribe(filters):
                    self._down(peer, link, Subscribed(granted=filters))
                    self.broker.subscribe(link.session, filters)
                case Unsubscribe(filters):
                    self.broker.unsubscribe(link.session, filters)
                case Publish(topic, payload, token):
                    chance = 1.0 if self._sound else self.random.random()
                    if chance < 0.01:
                        self.totals.injected["swallowed"] += 1
                    else:
                        self.broker.publish(topic, payload)
                    if 0.01 <= chance < 0.02:
                        self.totals.injected["twice"] += 1
                        self.broker.publish(topic, payload)
                    if token is not None and not link.cut:
                        self._down(peer, link, PublishAcked(token))

        self._at(link.up_at, arrive)

    def _down(self, peer: Peer, link: Link, what: Input) -> None:
        link.down_at = self._hop(link.down_at)

        def arrive() -> None:
            if not link.cut and peer.link is link:
                self._feed(peer, what)

        self._at(link.down_at, arrive)
        if isinstance(what, MessageReceived) and not self._sound:
            chance = self.random.random()
            if chance < 0.01:
                self.totals.injected["late copy"] += 1
                self._at(link.down_at + self.random.uniform(0, 60), arrive)

    # --- trouble -----------------------------------------------------------------------------

    def _cut(self) -> None:
        pick = self.random
        peer = pick.choice(self.peers)
        if peer.link is not None and not self._sound:
            self.totals.injected["cut"] += 1
            self._off(peer, will_after=pick.choice((0.0, pick.uniform(0, 25))))
            self._feed(peer, Disconnected())
            self._later(pick.choice((0.1, pick.uniform(0, 5), pick.uniform(0, 90))),
                        lambda: self._connect(peer))  # fmt: skip

    def _half_open(self) -> None:
        """Nothing passes; the broker and the peer notice each in its time."""
        pick = self.random
        peer = pick.choice(self.peers)
        link = peer.link
        if link is None or self._sound:
            return
        self.totals.injected["half-open"] += 1
        link.cut = True
        self._later(pick.uniform(0, 25), lambda: self.broker.drop(link.session))

        def notice() -> None:
            if peer.link is link:
                self._notice(peer)
                self._later(pick.uniform(0, 5), lambda: self._connect(peer))

        self._later(pick.uniform(0, 25), notice)

    def _notice(self, peer: Peer) -> None:
        """The peer finds out that its link is gone."""
        if peer.link is not None and peer.link.cut:
            peer.link = None
            self._feed(peer, Disconnected())

    def _restart(self) -> None:
        pick = self.random
        peer = pick.choice(self.peers)
        if peer.dead or self._sound:
            return
        self.totals.injected["restart"] += 1
        self._off(peer, will_after=pick.choice((0.0, pick.uniform(0, 25))))
        peer.engine, peer.dead = self._engine(peer.name), True
        peer.armed += 1
        peer.offset = pick.uniform(0, 1e6)
        self._forget(peer)

        def back() -> None:
            peer.dead = False
            self._connect(peer)

        self._later(pick.choice((0.1, pick.uniform(0, 60))), back)

    def _lose_store(self) -> None:
        """The broker is killed, and comes back knowing nothing."""
        if self._sound:
            return
        self.totals.injected["store lost"] += 1
        self.broker.retained.clear()
        self.broker.sessions.clear()
        for peer in self.peers:
            link = peer.link
            if link is not None:
                link.cut, peer.link = True, None
                self._feed(peer, Disconnected())
                self._later(self.random.uniform(0, 5), lambda p=peer: self._connect(p))

    # --- people ------------------------------------------------------------------------------

    def _call(self) -> Ring:
        """Somebody rings somebody, or several at once; some cancel, at any moment."""
        pick = self.random
        alive = [p for p in self.peers if not p.dead]
        if not alive:
            alive = [self.peers[0]]
        caller = pick.choice(alive)
        others = [p.name for p in self.peers if p is not caller]
        legs = pick.sample(others, pick.randint(1, len(others)) if pick.random() < 0.3 else 1)
        group = pick.randbytes(16) if len(legs) > 1 else None
        ids = [topics.call_id_from_bytes(pick.randbytes(16)) for _ in legs]
        ring = Ring(caller.name, tuple(zip(legs, ids, strict=True)), self.time)
        if caller.dead:
            return ring
        self._rings.append(ring)
        self.totals.calls += len(legs)
        for i, (callee, call_id) in enumerate(ring.legs):
            self._by_call[call_id] = ring, i
            ring.sent(i)
            self._feed(
                caller, Send(call_id, callee, Offer(group=group, time=pick.choice((None, 0, 9))))
            )
        if not self._sound and pick.random() < 0.3:
            after = pick.choice((0.0, pick.uniform(0, 0.2), pick.uniform(0, 70)))
            engine = caller.engine

            def cancel() -> None:
                for callee, call_id in ring.legs:
                    call = engine.caller.calls.get((callee, call_id))
                    if caller.engine is engine and call and call.phase in UNDECIDED:
                        self._feed(caller, Cancel(callee, call_id))

            self._later(after, cancel)
        return ring

    def _answer(self, peer: Peer, caller: str, call_id: str) -> None:
        pick = self.random
        choice = pick.choice((Accept, Accept, Refuse, None))
        after = pick.choice((0.0, pick.uniform(0, 0.2), pick.uniform(0, 10), pick.uniform(0, 64)))
        engine = peer.engine

        def answer() -> None:
            call = engine.callee.calls.get((caller, call_id))
            if peer.engine is engine and call and call.phase is CalleePhase.RINGING and choice:
                self._feed(peer, choice(caller, call_id))

        self._later(after, answer)

    def _told(self, peer: Peer, event: CoreEvent, cause: Input) -> None:
        match event:
            case LocalEvent(name, call):
                ring, leg = self._by_call[call.call_id]
                ring.told_caller(leg, name, call.reason, self.time)
            case PeerLost(call=call):
                ring, leg = self._by_call[call.call_id]
                ring.told_lost(leg)
            case RemoteEvent(name, theirs):
                ring, leg = self._by_call[theirs.call_id]
                # A live invite, or its caller's presence as it stands, after one.
                live = isinstance(cause, MessageReceived) and (
                    not cause.retained or cause.topic.endswith("/presence")
                )
                ring.told_callee(leg, name, theirs.reason, self.time, live, 2 * SLOWEST)
                if name is Name.REMOTE_RECEIVED:
                    self._answer(peer, theirs.caller, theirs.call_id)

    # --- time --------------------------------------------------------------------------------

    def _later(self, after: float, what: Callable[[], None]) -> None:
        self._at(self.time + after, what)

    def _at(self, time: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (time, self._count, what))

    def _until(self, end: float) -> None:
        while self._queue and self._queue[0][0] <= end:
            self.time, _, what = heapq.heappop(self._queue)
            what()
        self.time = end
