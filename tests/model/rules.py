"""What can happen next: peers on links to an abstract MQTT broker, with a budget for each fault.

The broker has a retained store, sessions with filters, and a will for each session. Both
directions of a link are queues; each message kept in the order of its topic and publisher. A
publish is acknowledged when the broker takes it.

What may happen, and what it costs: nothing for taking and delivering in order, for connecting, for
the app's commands and for a will that fires; one of the scenario's budget for

* ``cut``: the link breaks, the peer notices first; or the broker does, and the peer talks to nobody
  until it notices,
* ``restart``: the process dies and comes back knowing nothing, under another epoch,
* ``lose``: one message on its way is lost, the link lives on; one to the broker is acknowledged all
  the same,
* ``repeat``: one message comes twice: at once, or from the broker at any later time of the link,
* ``defer``: one message waits while those of other topics pass it,
* ``late will``: the peer is back before the broker publishes its will,
* ``wipe``: the broker restarts with nothing in its store,
* ``kill``: the broker closes the link on a publish instead of taking it; ``forbid``: and from then
  on whenever that cell is said, by this life of its writer or a later one,
* ``bridge``: what the broker has retained comes once more to a peer, without the RETAIN flag, as
  from a bridge that was down, and, where nobody restarts, before it an older login's presence of
  everybody whose presence is there; nothing may ring, or ring longer, by the cell of a caller that
  was not online there, and no presence of a bridge's ends a call,
* ``logout``, and ``time``: a peer's clock jumps to its engine's next deadline. Each peer has its
  own clock and its own budget of time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from device_sdk.core.callee import OPEN
from device_sdk.core.caller import UNDECIDED
from device_sdk.core.settings import Settings
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Presence
from device_sdk.states import EndReason
from device_sdk.testing import matches

from .automaton import REALM, Automaton, Call, Event, Violation
from .monitor import Monitor

#: A login of long ago, of anybody.
_OLDER = b"long ago"
UP, DOWN, HALF = "up", "down", "half-open"
FAULTS = (
    "cut", "restart", "lose", "repeat", "defer", "late will", "wipe", "logout", "kill", "forbid",
    "bridge",
)  # fmt: skip


def short(missed_call_ttl: float = 1000.0) -> Settings:
    """Short timers, so that few steps pass them all; all whole, so that none is off by rounding.

    ``missed_call_ttl`` and ``dedup_window`` are far: nothing may be healed by waiting for them.
    """
    return Settings(
        ring_timeout=8,
        ack_timeout=6,
        accept_timeout=6,
        caller_lost_grace=2,
        ring_slack=1,
        missed_call_ttl=missed_call_ttl,
        dedup_window=2000,
        resend_first=4,
        resend_max=4,
        probe_interval=4,
        presence_linger=4000,
        startup_timeout=3,
        talk_limit=40,
        peer_lost_grace=2,
        link_lost_grace=5,
    )


SETTINGS = short()


@dataclass(frozen=True)
class Scenario:
    """Peers, the calls they may make, and how much may go wrong."""

    name: str
    peers: tuple[str, ...]
    calls: tuple[Call, ...]
    #: Indices of ``calls`` that one command sends together.
    sends: tuple[tuple[int, ...], ...]
    budget: dict[str, int] = field(default_factory=dict)
    #: How often each peer's clock may jump; how far at most.
    time: tuple[int, ...] = ()
    jump: float = 100.0
    settings: Settings = SETTINGS
    #: What the app, and a policy that is waited for, may do with a call that is underway.
    verbs: tuple[str, ...] = (
        "cancel", "accept", "refuse", "admit", "turn away", "say", "hang up",
    )  # fmt: skip
    #: Whether each callee has such a policy.
    screened: bool = False
    #: Of two peers that can stay in a call: how many messages each may say in it. It begins where
    #: the callee has just accepted.
    says: tuple[int, ...] = ()
    #: Subscriptions, presence and the broker's acknowledgements pass before anything else.
    prompt: bool = False
    #: A bound of another kind: so many states, breadth first, and the drains from them.
    first: int | None = None


class Peer(NamedTuple):
    """A peer and its link, as a value."""

    state: int
    link: str = DOWN
    wills: tuple[bytes, ...] = ()
    up: tuple[Any, ...] = ()
    down: tuple[Any, ...] = ()
    late: tuple[Any, ...] = ()
    filters: tuple[str, ...] = ()
    unsent: tuple[tuple[int, ...], ...] = ()
    banned: tuple[str, ...] = ()
    says: int = 0


class Move(NamedTuple):
    """One thing that can happen to one peer; ``fault`` if it broke an invariant already.

    ``feeds``: what its engine takes in, if anything.
    """

    label: str
    peer: Peer
    cost: str | None = None
    events: tuple[Event, ...] = ()
    publishes: tuple[tuple[str, bytes], ...] = ()
    subscribe: tuple[str, ...] | None = None
    wipe: bool = False
    bridge: bool = False
    fault: str | None = None
    feeds: tuple[Any, ...] | None = None

    @property
    def at_once(self) -> bool:
        """Whether a prompt world does nothing else before."""
        ends = ("suback", "puback", "subscribe", "online", "offline", "(retained)")
        return self.cost is None and "broker" in self.label and self.label.endswith(ends)


World = tuple[int, ...]
Held = tuple[str, Any]


class Rules:
    """All that was found out about one scenario: worlds are tuples of numbers of parts.

    A world is (one number for each peer, store, budget, monitor).
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        kills = any(scenario.budget.get(fault) for fault in ("kill", "forbid"))
        self.automaton = Automaton(
            scenario.peers,
            scenario.calls,
            scenario.settings,
            all_acks=kills,
            screened=scenario.screened,
            talk=bool(scenario.says),
        )
        self.monitor = Monitor(scenario.calls)
        self.costs = [*FAULTS, *(f"time {name}" for name in scenario.peers)]
        self._parts: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._moves: dict[tuple[int, int], list[tuple[Move, int]]] = {}
        self._spent: dict[tuple[int, str], int | None] = {}
        self._stored: dict[tuple[int, str, bytes], int] = {}
        self._pushed: dict[tuple[int, str, bytes], int] = {}
        self._subscribed: dict[tuple[int, int, tuple[str, ...]], int] = {}
        self._watched: dict[tuple[int, tuple[Event, ...]], int | str] = {}
        self._cuts: dict[int, int] = {}
        self._bridged: dict[tuple[int, int], int] = {}
        self._matches: dict[tuple[str, str], bool] = {}
        self.count = len(scenario.peers)

    # --- parts -------------------------------------------------------------------------------

    def number(self, part: Any) -> int:
        """The number that stands for a part of a world."""
        known = self._numbers.get(part)
        if known is None:
            known = self._numbers[part] = len(self._parts)
            self._parts.append(part)
        return known

    def part(self, number: int) -> Any:
        """The part that a number stands for."""
        return self._parts[number]

    def peers(self, world: World) -> list[Peer]:
        """The peers of a world."""
        return [self._parts[n] for n in world[: self.count]]

    def store(self, world: World) -> dict[str, bytes]:
        """What the broker has retained."""
        return dict(self._parts[world[self.count]])

    def blank(self) -> World:
        """Nobody is connected, nothing was said."""
        peers = [
            Peer(
                self.automaton.newborn(i, 0),
                unsent=tuple(
                    s for s in self.scenario.sends if self.scenario.calls[s[0]].caller == i
                ),
                says=self.scenario.says[i] if self.scenario.says else 0,
            )
            for i in range(self.count)
        ]
        budget = [self.scenario.budget.get(cost, 0) for cost in FAULTS]
        times = self.scenario.time or (0,) * self.count
        return (
            *map(self.number, peers),
            self.number(()),
            self.number(("budget", *budget, *times)),
            self.number(self.monitor.start()),
        )

    # --- worlds ------------------------------------------------------------------------------

    def successors(self, world: World) -> Iterator[tuple[str, World | None, str | None]]:
        """What can come next: label, world, and what it breaks (then the world is None)."""
        budget = world[self.count + 1]
        if self.scenario.prompt:
            for i in range(self.count):
                move, number = self.moves(i, world[i])[0]
                if move.at_once:
                    after, fault = self.apply(world, i, move, number, budget)
                    yield move.label, after, fault
                    return
        for i in range(self.count):
            for move, number in self.moves(i, world[i]):
                left = budget if move.cost is None else self._spend(budget, move.cost)
                if left is None:
                    continue
                after, fault = self.apply(world, i, move, number, left)
                yield move.label, after, fault

    def apply(
        self, world: World, i: int, move: Move, number: int, budget: int
    ) -> tuple[World | None, str | None]:
        """The world after a move of peer ``i``."""
        if move.fault:
            return None, move.fault
        count = self.count
        after = list(world)
        after[i] = number
        after[count + 1] = budget
        events = move.events
        for topic, payload in move.publishes:
            after[count] = self._store(after[count], topic, payload)
            for j in range(count):
                after[j] = self._push(after[j], topic, payload)
        if move.subscribe is not None:
            after[i] = self._subscribe(after[i], after[count], move.subscribe)
        if move.bridge:
            after[i] = self._bridge(after[i], after[count])
        if move.wipe:
            after[count] = self.number(())
            for j in range(count):
                after[j] = self._cut(after[j])
        if events:
            seen = self._watch(after[count + 2], events)
            if isinstance(seen, str):
                return None, seen
            after[count + 2] = seen
        return tuple(after), None

    def moves(self, i: int, number: int) -> list[tuple[Move, int]]:
        """What can happen to peer ``i``, whatever the rest of the world."""
        known = self._moves.get((i, number))
        if known is None:
            found = map(self._taken, self._find_moves(i, self._parts[number]))
            known = self._moves[i, number] = [(m, self.number(m.peer)) for m in found]
        return known

    def _taken(self, move: Move) -> Move:
        """With what the monitor is to see of the cells that the broker takes by this move."""
        events = [
            ("took", *self.automaton.topics[topic], *self.automaton.meaning(topic, payload))
            for topic, payload in move.publishes
            if self.automaton.topics[topic][0] != "presence"
        ]
        return move._replace(events=(*move.events, *events)) if events else move

    def _spend(self, budget: int, cost: str) -> int | None:
        key = budget, cost
        if key not in self._spent:
            have = list(self._parts[budget])
            at = self.costs.index(cost) + 1
            have[at] -= 1
            self._spent[key] = self.number(tuple(have)) if have[at] >= 0 else None
        return self._spent[key]

    def _watch(self, number: int, events: tuple[Event, ...]) -> int | str:
        key = number, events
        known = self._watched.get(key)
        if known is None:
            try:
                known = self.number(self.monitor.see(self._parts[number], events))
            except Violation as violation:
                known = str(violation)
            self._watched[key] = known
        return known

    # --- the broker --------------------------------------------------------------------------

    def matches(self, topic_filter: str, topic: str) -> bool:
        """Whether a filter matches, remembered."""
        key = topic_filter, topic
        if key not in self._matches:
            self._matches[key] = matches(topic_filter, topic)
        return self._matches[key]

    def _store(self, store: int, topic: str, payload: bytes) -> int:
        key = store, topic, payload
        known = self._stored.get(key)
        if known is None:
            kept = dict(self._parts[store])
            kept.pop(topic, None)
            if payload:
                kept[topic] = payload
            known = self._stored[key] = self.number(tuple(sorted(kept.items())))
        return known

    def _push(self, number: int, topic: str, payload: bytes) -> int:
        key = number, topic, payload
        known = self._pushed.get(key)
        if known is None:
            peer: Peer = self._parts[number]
            known = number
            if peer.link == UP and any(self.matches(f, topic) for f in peer.filters):
                item = ("message", topic, payload, False)
                known = self.number(peer._replace(down=(*peer.down, item)))
            self._pushed[key] = known
        return known

    def _subscribe(self, number: int, store: int, filters: tuple[str, ...]) -> int:
        key = number, store, filters
        known = self._subscribed.get(key)
        if known is None:
            peer: Peer = self._parts[number]
            items: list[Held] = [("granted", filters)]
            items += [
                ("message", topic, payload, True)
                for topic, payload in self._parts[store]
                if any(self.matches(f, topic) for f in filters)
            ]
            known = self.number(
                peer._replace(
                    filters=tuple(sorted({*peer.filters, *filters})), down=(*peer.down, *items)
                )
            )
            self._subscribed[key] = known
        return known

    def _bridge(self, number: int, store: int) -> int:
        """All that is retained comes once more, as if it were new."""
        key = number, store
        known = self._bridged.get(key)
        if known is None:
            peer: Peer = self._parts[number]
            kept = dict(self._parts[store])
            older, me = (
                codec.encode(Presence(True, _OLDER)),
                self.automaton.engine(peer.state).peer_id,
            )
            items: list[Held] = []
            for topic, payload in kept.items():
                if any(self.matches(f, topic) for f in peer.filters):
                    kind, whose = self.automaton.topics[topic]
                    others = kind == "presence" and self.scenario.peers[whose] != me
                    # A restart makes an older login of its own, and with both it takes too long.
                    if others and not self.scenario.budget.get("restart"):
                        items.append(("bridged", topic, older, False))
                    gone = self._is_gone(kept, topic, payload)
                    items.append(("bridged", topic, payload, gone))
            known = self.number(peer._replace(down=(*peer.down, *items)))
            self._bridged[key] = known
        return known

    def _is_gone(self, kept: dict[str, bytes], topic: str, payload: bytes) -> bool:
        """Whether that is an invite of a caller that the store does not say to be online."""
        kind, index = self.automaton.topics[topic]
        if kind != "invite":
            return False
        presence = kept.get(self._presence(self.scenario.calls[index].caller))
        caller = codec.decode_presence(presence) if presence else None
        login = codec.decode_invite(payload).epoch
        return caller is None or not caller.online or caller.epoch != login

    def _cut(self, number: int) -> int:
        """The broker is gone: whoever was connected has yet to notice."""
        known = self._cuts.get(number)
        if known is None:
            peer: Peer = self._parts[number]
            link = HALF if peer.link == UP else peer.link
            known = self.number(
                peer._replace(link=link, wills=(), up=(), down=(), late=(), filters=())
            )
            self._cuts[number] = known
        return known

    # --- one peer ----------------------------------------------------------------------------

    def _find_moves(self, i: int, peer: Peer) -> Iterator[Move]:
        name = self.scenario.peers[i]
        closed = self.automaton.engine(peer.state).closed
        if peer.link == UP:
            yield from self._from_peer(name, peer)
            yield from self._to_peer(name, peer)
            yield from self._breaks(i, peer)
        elif peer.link == HALF:
            yield self._step(
                f"{name} notices that its link is gone", peer._replace(link=DOWN), ("disconnected",)
            )
        elif not closed:
            yield self._connect(i, peer, fire=True)
            if peer.wills:
                yield self._connect(i, peer, fire=False)
        if peer.wills:
            yield Move(
                f"broker  publishes the will of {name}",
                peer._replace(wills=peer.wills[1:]),
                publishes=((self._presence(i), peer.wills[0]),),
            )
        yield from self._commands(i, peer)
        after = self.automaton.deadline(peer.state)
        if after is not None and after <= self.scenario.jump:
            yield self._step(f"{name} ... {after:g} s pass", peer, ("fire",), f"time {name}")
        if peer.link == UP:
            yield Move(f"(a bridge to {name} comes up)", peer, "bridge", bridge=True)
        if i == 0:
            yield Move("broker  restarts with an empty store", peer, "wipe", wipe=True)
        newborn = self.automaton.newborn(i, self.automaton.life(peer.state) + 1)
        yield Move(
            f"{name} restarts",
            self._off(i, peer)._replace(state=newborn),
            "restart",
            (("restart", i),),
        )

    def _presence(self, i: int) -> str:
        return topics.presence(REALM, self.scenario.peers[i])

    def is_online(self, store: dict[str, bytes], i: int, peer: Peer) -> bool:
        """Whether the broker's store says that a peer is there."""
        payload = store.get(self._presence(i), b"")
        context = self.automaton.engine(peer.state)._context
        mine = Presence(True, context.epoch, generation=context.own.generation)
        return bool(payload) and codec.decode_presence(payload) == mine

    def _will(self, peer: Peer) -> bytes:
        return self.automaton.engine(peer.state).will()[1]

    def _off(self, i: int, peer: Peer) -> Peer:
        """Without a connection; the broker will find out."""
        wills = (*peer.wills, self._will(peer)) if peer.link == UP else peer.wills
        return peer._replace(link=DOWN, wills=wills, up=(), down=(), late=(), filters=())

    def _connect(self, i: int, peer: Peer, *, fire: bool) -> Move:
        name = self.scenario.peers[i]
        wills = peer.wills if fire else ()
        move = self._step(
            f"{name} connects" + ("" if fire or not peer.wills else ", before its will is out"),
            peer._replace(link=UP, wills=() if fire else peer.wills),
            ("connected",),
            None if fire else "late will",
        )
        publishes = tuple((self._presence(i), will) for will in wills)
        return move._replace(events=(*move.events, ("connected", i)), publishes=publishes)

    def _breaks(self, i: int, peer: Peer) -> Iterator[Move]:
        name = self.scenario.peers[i]
        off = self._off(i, peer)
        yield self._step(f"{name} loses its link", off, ("disconnected",), "cut")
        yield Move(
            f"broker  drops the link of {name}, which does not notice",
            off._replace(link=HALF, wills=peer.wills),
            "cut",
            publishes=((self._presence(i), self._will(peer)),),
        )

    def _from_peer(self, name: str, peer: Peer) -> Iterator[Move]:
        for at in _available(peer.up):
            item = peer.up[at]
            kind = item[1][0] if item[0] == "deferred" else item[0]
            rest = peer._replace(up=peer.up[:at] + peer.up[at + 1 :])
            if item[0] == "deferred":
                item = item[1]
            if kind == "subscribe":
                yield Move(f"{name} -> broker  subscribe", rest, subscribe=item[1])
            elif kind == "unsubscribe":
                left = tuple(f for f in peer.filters if f not in item[1])
                yield Move(f"{name} -> broker  unsubscribe", rest._replace(filters=left))
            elif kind == "finished":
                yield Move(
                    f"{name} closes its connection",
                    rest._replace(link=DOWN, up=(), down=(), late=(), filters=()),
                )
            else:
                _, topic, payload, token = item
                text = self.describe(topic, payload)
                if self.automaton.topics[topic][0] != "presence":
                    if topic in peer.banned:
                        yield self._closed_on(name, peer, text, None)
                        continue
                    yield self._closed_on(name, peer, text, "kill")
                    banned = peer._replace(banned=tuple(sorted((*peer.banned, topic))))
                    yield self._closed_on(name, banned, text, "forbid")
                took = rest
                if token is not None:
                    took = rest._replace(down=(*rest.down, ("acked", token)))
                says = ((topic, payload),)
                yield Move(f"{name} -> broker  {text}", took, publishes=says)
                yield Move(f"{name} -> LOST  {text}", took, "lose")
                again = ("publish", topic, payload, None)
                twice = took._replace(up=(*peer.up[:at], again, *peer.up[at + 1 :]))
                yield Move(f"{name} -> broker  {text} (to be repeated)", twice, "repeat",
                           publishes=says)  # fmt: skip
                yield from self._defer(name, peer, at, "up", text)

    def _closed_on(self, name: str, peer: Peer, text: str, cost: str | None) -> Move:
        off = self._off(self.scenario.peers.index(name), peer)
        return self._step(f"broker  closes on {name}'s {text}", off, ("disconnected",), cost)

    def _to_peer(self, name: str, peer: Peer) -> Iterator[Move]:
        for at in _available(peer.down):
            item = peer.down[at]
            rest = peer._replace(down=peer.down[:at] + peer.down[at + 1 :])
            item = item[1] if item[0] == "deferred" else item
            if item[0] == "bridged":
                yield self._over_the_bridge(name, rest, item)
                continue
            if item[0] != "message":
                label = "puback" if item[0] == "acked" else "suback"
                yield self._step(f"broker -> {name}  {label}", rest, item)
                continue
            text = self.describe(item[1], item[2]) + (" (retained)" if item[3] else "")
            yield self._step(f"broker -> {name}  {text}", rest, item)
            yield Move(f"LOST -> {name}  {text}", rest, "lose")
            late = rest._replace(late=tuple(sorted((*rest.late, item))))
            yield self._step(f"broker -> {name}  {text} (to be repeated)", late, item, "repeat")
            yield from self._defer(name, peer, at, "down", text)
        for item in sorted(set(peer.late)):
            kept = list(peer.late)
            kept.remove(item)
            text = self.describe(item[1], item[2]) + " (repeated)"
            yield self._step(f"broker -> {name}  {text}", peer._replace(late=tuple(kept)), item)

    def _over_the_bridge(self, name: str, peer: Peer, item: Held) -> Move:
        _, topic, payload, gone = item
        before, open_before = self.automaton.rings_until(peer.state), self._open(peer)
        move = self._step(
            f"broker -> {name}  {self.describe(topic, payload)} (over the bridge)",
            peer,
            ("message", topic, payload, False),
        )
        after = self.automaton.rings_until(move.peer.state)
        if self.automaton.topics[topic][0] == "presence" and self._open(move.peer) < open_before:
            return move._replace(fault="a presence that a bridge said again ended a call")
        if gone and move.fault is None and after > before:
            return move._replace(fault="ghost ring, what a bridge said again is of a dead caller")
        return move

    def _open(self, peer: Peer) -> int:
        engine = self.automaton.engine(peer.state)
        calls = [*engine.caller.calls.values(), *engine.callee.calls.values()]
        return sum(call.talks or call.phase in OPEN or call.phase in UNDECIDED for call in calls)

    def _defer(self, name: str, peer: Peer, at: int, queue: str, text: str) -> Iterator[Move]:
        items = getattr(peer, queue)
        if items[at][0] != "deferred" and at + 1 < len(items):
            held = (*items[:at], ("deferred", items[at]), *items[at + 1 :])
            yield Move(f"(others may pass {name}'s {text})", peer._replace(**{queue: held}),
                       "defer")  # fmt: skip

    def _commands(self, i: int, peer: Peer) -> Iterator[Move]:
        name = self.scenario.peers[i]
        engine = self.automaton.engine(peer.state)
        if engine.closed or engine.login.leaving:
            return
        for calls in peer.unsent:
            rest = peer._replace(unsent=tuple(u for u in peer.unsent if u != calls))
            yield self._step(f"{name} !! send", rest, ("send", *calls))
        for verb, index, *more in self.automaton.commands(peer.state):
            if verb == "say" and not peer.says:
                continue
            after = peer._replace(says=peer.says - 1) if verb == "say" else peer
            if verb in self.scenario.verbs:
                yield self._step(f"{name} !! {verb} #{index}", after, (verb, index, *more))
        yield self._step(f"{name} !! logout", peer, ("logout",), "logout")

    def _step(self, label: str, peer: Peer, what: tuple[Any, ...], cost: str | None = None) -> Move:
        """Let the engine take ``what``, and put on the link what it says."""
        try:
            outcome = self.automaton.step(peer.state, what)
        except Violation as violation:
            return Move(label, peer, cost, fault=str(violation))
        refused = [e[1] for e in outcome.events if EndReason.NOT_ALLOWED in e]
        if refused and not peer.banned:
            return Move(label, peer, cost, fault=f"#{refused[0]}: not allowed, where all is")
        after = peer._replace(state=outcome.state)
        if peer.link == UP:
            after = after._replace(up=(*peer.up, *outcome.out))
        elif peer.link == DOWN and any(o[0] == "publish" for o in outcome.out):
            return Move(label, peer, cost, fault="published without a link")
        events = outcome.events
        if peer.banned:  # what cannot be said to the end may be cleared before
            events = tuple(e for e in events if not (e[0] == "said" and e[3] is None))
        return Move(label, after, cost, events, feeds=what)

    def describe(self, topic: str, payload: bytes) -> str:
        """A message for people."""
        kind, index = self.automaton.topics[topic]
        if kind == "presence":
            return f"presence {self.scenario.peers[index]} {'online' if payload[4] else 'offline'}"
        state, reason = self.automaton.meaning(topic, payload)
        if state is None:
            return f"{kind} #{index} cleared"
        ask = " ask" if kind == "answer" and payload[-1:] == b"\xf5" else ""
        return f"{kind} #{index} {state.name.lower()}{'' if reason is None else f' {reason}'}{ask}"


def _available(queue: tuple[Any, ...]) -> Iterator[int]:
    """What may be taken next: the first, or what waits deferred; each topic in its order."""
    waiting = set()
    for at, item in enumerate(queue):
        deferred = item[0] == "deferred"
        kind, *rest = item[1] if deferred else item
        topic = rest[0] if kind in ("publish", "message") else None
        if topic is None or topic not in waiting:
            yield at
        if not deferred:
            return
        waiting.add(topic)
