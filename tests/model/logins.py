"""Several logins of one peer, and all that can happen between them and a broker.

Each login is the real engine on a link of its own, whose two directions are queues of their own:
so one may be as slow as it likes beside another. The broker keeps one thing, the peer's presence.
It grants a subscription before or after it hands out what it keeps, publishes wills whenever it
likes, and within a budget links break and it starts anew with nothing kept, which takes a second.
Time stands while anything else can happen, or jumps within a budget of its own.

Every world that can be reached is visited. In none of them has every login ended itself; and when
nothing is left to happen, one goes on, its presence says so, and it is the one that came last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from device_sdk.core.effects import (
    Connected,
    DeadlineReached,
    Disconnected,
    Input,
    MessageReceived,
    Publish,
    PublishAcked,
    Subscribe,
    Subscribed,
)
from device_sdk.core.engine import Engine
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Presence

from .automaton import engine_key

ME = "kitchen"
OWN = topics.presence("sig", ME)
#: No run of few logins raises a rank so far: then two of them do so by turns, for ever.
HIGHEST = 12


@dataclass(frozen=True)
class Logins:
    """A bound: the epochs of the logins in the order in which they come, and what may go wrong."""

    name: str
    epochs: tuple[bytes, ...]
    cuts: int = 0
    wipes: int = 0
    jumps: int = 0
    #: Each comes once the one before is logged in, a second later; else whenever it likes.
    in_turn: bool = True
    #: The broker may have forgotten the older one while both were away: then rank decides.
    newest: bool = True


class Login(NamedTuple):
    """One login and its link; ``engine`` is a number, -1 before it began."""

    engine: int = -1
    up: bool = False
    hears: bool = False
    sent: tuple[Any, ...] = ()
    comes: tuple[Any, ...] = ()
    wills: int = 0


class World(NamedTuple):
    """Everything, as a value; ``kept`` is what the broker has retained."""

    logins: tuple[Login, ...]
    now: int
    kept: bytes = b""
    cuts: int = 0
    wipes: int = 0
    jumps: int = 0


class LoginSearch:
    """Visits every world within a bound; :meth:`run` gives what is wrong, and how it came about."""

    def __init__(self, bound: Logins) -> None:
        self.bound = bound
        self.states = 0
        self._engines: list[Engine] = []
        self._numbers: dict[Hashable, int] = {}

    def run(self, most: int = 1_000_000) -> list[str]:
        """The way to the first fault, which is its last line; empty if there is none.

        More than ``most`` worlds are a fault, too: they say something to each other for ever.
        """
        bound = self.bound
        start = World(tuple(Login() for _ in bound.epochs), 0, b"",
                      bound.cuts, bound.wipes, bound.jumps)  # fmt: skip
        came: dict[World, tuple[World, str] | None] = {start: None}
        waiting = deque([start])
        while waiting:
            world = waiting.popleft()
            if len(came) > most:
                return ["they do not come to rest"]
            fault, moves = self._judge(world), []
            if fault is None:
                moves = list(self._moves(world))
                if not any(free for free, _, _ in moves):
                    fault = self._over(world)
            if fault is not None:
                return [*self._way(came, world), fault]
            for _, label, after in moves:
                if after not in came:
                    came[after] = (world, label)
                    waiting.append(after)
        self.states = len(came)
        return []

    def _way(self, came: dict[World, tuple[World, str] | None], world: World) -> list[str]:
        way: list[str] = []
        while (step := came[world]) is not None:
            world, label = step
            way.append(label)
        return way[::-1]

    # --- what must hold ------------------------------------------------------------------------

    def _alive(self, world: World) -> list[int]:
        return [
            i
            for i, login in enumerate(world.logins)
            if login.engine < 0 or not self._engines[login.engine].closed
        ]

    def _judge(self, world: World) -> str | None:
        if not self._alive(world):
            return "every login ended itself"
        for login in world.logins:
            if login.engine >= 0 and self._rank(login) > HIGHEST:
                return "ranks are raised for ever"
        return None

    def _rank(self, login: Login) -> int:
        return self._engines[login.engine]._context.own.generation

    def _over(self, world: World) -> str | None:
        alive = self._alive(world)
        if len(alive) > 1:
            return f"logins {alive} go on beside each other"
        engine = self._engines[world.logins[alive[0]].engine]
        if self.bound.newest and alive != [len(world.logins) - 1]:
            return f"login {alive[0]} goes on, which is not the newest"
        kept = codec.decode_presence(world.kept) if world.kept else None
        if kept is None or (kept.online, kept.epoch) != (True, engine._context.epoch):
            return f"login {alive[0]} goes on, and its presence says otherwise"
        return None

    # --- what can happen -----------------------------------------------------------------------

    def _moves(self, world: World) -> Iterator[tuple[bool, str, World]]:
        """Whether it costs nothing, what it is, and the world after it."""
        some = False
        for i, login in enumerate(world.logins):
            for free, label, after in self._moves_of(world, i, login):
                some |= free
                yield free, f"{i}: {label}", after
        if world.wipes:
            after = world._replace(kept=b"", wipes=world.wipes - 1)
            for i, login in enumerate(world.logins):
                if login.up:
                    after = self._cut(after, i, will=False)
            logins = tuple(login._replace(wills=0) for login in after.logins)
            after = self._at(after._replace(logins=logins), world.now + 1)
            yield False, "the broker restarts with nothing", after
        due = self._next_due(world)
        if due is not None and (world.jumps or not some):
            # With nothing else to happen it costs nothing: time passes.
            left = world.jumps - 1 if some else world.jumps
            yield not some, "time passes", self._at(world._replace(jumps=left), due)

    def _moves_of(self, world: World, i: int, login: Login) -> Iterator[tuple[bool, str, World]]:
        for _ in range(min(login.wills, 1)):
            after = self._set(world, i, login._replace(wills=login.wills - 1))
            yield True, "its will", self._publish(after, self._will(i))
        if login.engine < 0:
            if self._may_begin(world, i):
                now = world.now + 1 if self.bound.in_turn and i else world.now
                begun = login._replace(engine=self._number(Engine(ME, self.bound.epochs[i]), now))
                after = self._set(self._at(world, now), i, begun)
                yield True, "begins", self._connect(after, i)
            return
        if self._engines[login.engine].closed:
            return
        if not login.up:
            yield True, "connects", self._connect(world, i)
            return
        if login.sent:
            for order, after in self._take(world, i, login):
                yield True, f"broker <- {login.sent[0][0]}{order}", after
        if login.comes:
            what = login.comes[0]
            after = self._set(world, i, login._replace(comes=login.comes[1:]))
            yield True, f"<- {_shown(what)}", self._feed(after, i, what)
        if world.cuts:
            after = self._cut(world._replace(cuts=world.cuts - 1), i, will=True)
            yield False, "its link breaks", after

    def _may_begin(self, world: World, i: int) -> bool:
        if i == 0 or world.logins[i - 1].engine >= 0:
            return i == 0 or not self.bound.in_turn or self._echoed(world.logins[i - 1])
        return False

    def _echoed(self, login: Login) -> bool:
        engine = self._engines[login.engine]
        return engine.login._echoed or engine.closed

    def _connect(self, world: World, i: int) -> World:
        login = world.logins[i]._replace(up=True, hears=False, sent=(), comes=())
        return self._feed(self._set(world, i, login), i, Connected())

    def _cut(self, world: World, i: int, *, will: bool) -> World:
        login = world.logins[i]
        login = login._replace(up=False, hears=False, sent=(), comes=(), wills=login.wills + will)
        return self._feed(self._set(world, i, login), i, Disconnected())

    def _take(self, world: World, i: int, login: Login) -> Iterator[tuple[str, World]]:
        kind, what = login.sent[0]
        login = login._replace(sent=login.sent[1:])
        if kind == "publish":
            after = self._publish(self._set(world, i, login), what[0])
            yield "", self._feed(after, i, PublishAcked(what[1]))
            return
        granted = (Subscribed(granted=what),)
        kept = (MessageReceived(OWN, world.kept, True),) if OWN in what and world.kept else ()
        login = login._replace(hears=login.hears or OWN in what)
        orders = {"": (granted + kept), ", kept first": (kept + granted)}
        for order, comes in orders.items() if kept else (("", granted),):
            yield order, self._set(world, i, login._replace(comes=login.comes + comes))

    def _publish(self, world: World, payload: bytes) -> World:
        message = (MessageReceived(OWN, payload, False),)
        logins = tuple(
            login._replace(comes=login.comes + message) if login.hears else login
            for login in world.logins
        )
        return world._replace(kept=payload, logins=logins)

    def _feed(self, world: World, i: int, what: Input) -> World:
        login = world.logins[i]
        engine = self._engines[login.engine].clone()
        engine.handle(what, world.now)
        sent = login.sent
        for effect in engine.effects():
            if isinstance(effect, Publish):
                sent += (("publish", (effect.payload, effect.token)),)
            elif isinstance(effect, Subscribe):
                sent += (("subscribe", effect.filters),)
        login = login._replace(engine=self._number(engine, world.now), sent=sent)
        if engine.closed:  # in due form: no will
            login = login._replace(up=False, hears=False, sent=(), comes=())
        elif not login.up:
            login = login._replace(sent=())
        return self._set(world, i, login)

    def _next_due(self, world: World) -> int | None:
        times = [
            self._engines[login.engine].deadline() for login in world.logins if login.engine >= 0
        ]
        due = min((at for at in times if at is not None), default=None)
        return None if due is None else max(int(due), world.now)

    def _at(self, world: World, now: int) -> World:
        """The same world later, with all done that is due by then."""
        world = world._replace(now=now)
        for i, login in enumerate(world.logins):
            if login.engine >= 0:
                due = self._engines[login.engine].deadline()
                if due is not None and due <= now:
                    world = self._feed(world, i, DeadlineReached())
        return world

    @staticmethod
    def _set(world: World, i: int, login: Login) -> World:
        return world._replace(logins=(*world.logins[:i], login, *world.logins[i + 1 :]))

    def _will(self, i: int) -> bytes:
        return codec.encode(Presence(False, self.bound.epochs[i]))

    def _number(self, engine: Engine, now: float) -> int:
        context = engine._context
        context._token = max((*context.awaited, *context.outbox.unacked), default=0)
        login = engine.login
        key = (engine_key(engine, 0.0), context.born, login._echoed, now if login._linked else 0)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._engines)
            self._engines.append(engine)
        return number


def _shown(what: Any) -> str:
    if isinstance(what, MessageReceived) and what.payload:
        cell = codec.decode_presence(what.payload)
        word = "ask" if cell.ask else "online" if cell.online else "offline"
        return f"{word} {cell.epoch[:1]!r} {cell.generation}{' (kept)' if what.retained else ''}"
    return type(what).__name__


A, B, C = b"aaaaaaaa", b"bbbbbbbb", b"cccccccc"
#: Quick ones, for every run of the tests; the epochs both ways, since they break ties.
SMALL = tuple(
    Logins(f"{name}, {'lower' if epochs[0] < epochs[1] else 'higher'} first", epochs, **more)
    for epochs in ((A, B), (B, A))
    for name, more in {
        "two, no faults": {},
        "two at once": {"in_turn": False, "newest": False},
        "two, time": {"jumps": 2},
        "two, a forgetful broker": {"wipes": 1},
    }.items()
)
#: Those that take longer: ``make model``.
WIDE = (
    Logins("two, a broken link", (A, B), cuts=1),
    Logins("three, no faults", (A, B, C)),
)


def explore_wide(number: int) -> tuple[int, list[str]]:
    """Worlds of a wide bound, and the way to what is wrong in it."""
    search = LoginSearch(WIDE[number])
    way = search.run()
    return search.states, way
