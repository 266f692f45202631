"""The real engine as a finite automaton: states are found by running it, never written down.

A peer's *state* is a number that stands for an :class:`Engine` at some moment. Two engines are the
same state if everything that can influence what they will do is the same, with every time counted
from the engine's own now. Left out on purpose: ``seq`` and statistics (nothing is decided from
them), the time of the last log line, and how far a resend delay had grown if none is armed.
``test_model.py`` replays random runs on plain engines to see that nothing else was lost.

A step is computed once (clone, handle, effects) and remembered, so that exploring costs look-ups.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from device_sdk.core.admission import Held, Screen
from device_sdk.core.callee import CalleeCall
from device_sdk.core.callee import Phase as CalleePhase
from device_sdk.core.caller import UNDECIDED, CallerCall
from device_sdk.core.effects import (
    Aborted,
    Accept,
    Cancel,
    Connected,
    DeadlineReached,
    Disconnected,
    Effect,
    Emit,
    Finished,
    HangUp,
    Input,
    Logout,
    MessageReceived,
    PolicyVerdict,
    Publish,
    PublishAcked,
    Refuse,
    SayMessage,
    Send,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from device_sdk.core.engine import OUT_OF_PLACE, Engine
from device_sdk.core.events import CallEvent, LocalEvent, Name, PeerLost, RemoteEvent
from device_sdk.core.outbox import Outbox
from device_sdk.core.settings import Settings
from device_sdk.core.talk import Talk
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import AnswerReason, AnswerState, InviteState, Offer

from .single import never_ends_alone, rings_for_the_lost

REALM: Final = topics.DEFAULT_REALM
#: No run takes so long: deadlines further away than this are alike (``missed_call_ttl``,
#: ``dedup_window``).
FAR: Final = 500.0
#: What an engine did, for the monitor: a tuple whose first member names the kind.
Event = tuple[Any, ...]


class Violation(Exception):
    """An invariant does not hold; the text says which."""


@dataclass(frozen=True)
class Call:
    """One invitation of a scenario; legs of a ring group share ``group``."""

    caller: int
    callee: int
    group: bytes | None = None


@dataclass(frozen=True)
class Outcome:
    """What one step gave: the state after it, what goes to the broker, what the monitor sees."""

    state: int
    out: tuple[tuple[Any, ...], ...]
    events: tuple[Event, ...]


def call_id(index: int) -> str:
    """The id of a scenario's call."""
    return topics.call_id_from_bytes(bytes([index + 1]) * 16)


def epoch(peer: int, life: int) -> bytes:
    """The epoch of a peer's life; in the real world it is random."""
    return bytes([0xA0 + peer] * 7 + [life])


class Automaton:
    """All states of all peers of one scenario that were ever reached."""

    def __init__(
        self,
        names: tuple[str, ...],
        calls: tuple[Call, ...],
        settings: Settings,
        *,
        all_acks: bool = False,
        screened: bool = False,
        talk: bool = False,
    ) -> None:
        self.names = names
        #: Whether each acknowledgement is a message of its own. Otherwise those that nothing waits
        #: for are there at once: they decide only what is a suspect when a connection breaks.
        self.all_acks = all_acks
        #: Whether each callee has a policy that is waited for.
        self.screen: Screen | None = (lambda *_: Held.HELD) if screened else None
        #: Whether all can stay in a call after *accepted*.
        self.talk = talk
        self.calls = calls
        self.settings = settings
        self._numbers: dict[Hashable, int] = {}
        self._engines: list[tuple[Engine, float]] = []
        self._steps: dict[tuple[int, tuple[Any, ...]], Outcome] = {}
        self._canonical: dict[tuple[str, bytes], bytes] = {}
        self._meanings: dict[tuple[str, bytes], tuple[Any, Any]] = {}
        self.topics: dict[str, tuple[str, int]] = {}
        self._keys: dict[tuple[str, str, str], int] = {}
        for i, call in enumerate(calls):
            caller, callee = names[call.caller], names[call.callee]
            self.topics[topics.cell(REALM, "invite", callee, caller, call_id(i))] = ("invite", i)
            self.topics[topics.cell(REALM, "answer", caller, callee, call_id(i))] = ("answer", i)
            self._keys[caller, callee, call_id(i)] = i
        for i, name in enumerate(names):
            self.topics[topics.presence(REALM, name)] = ("presence", i)

    # --- states ------------------------------------------------------------------------------

    def newborn(self, peer: int, life: int) -> int:
        """A peer that was just started."""
        engine = Engine(
            self.names[peer],
            epoch(peer, life),
            settings=self.settings,
            screen=self.screen,
            talk=self.talk,
        )
        return self._number(engine, 0.0)

    def engine(self, state: int) -> Engine:
        """An engine that is in that state; not to be touched."""
        return self._engines[state][0]

    def deadline(self, state: int) -> float | None:
        """The time until its next deadline."""
        engine, now = self._engines[state]
        quiet_until = engine.idle_until
        at = engine.deadline()
        assert at is None or quiet_until <= at, f"due at {at}, not looked at before {quiet_until}"
        return None if at is None else max(0.0, at - now)

    def rings_until(self, state: int) -> float:
        """How long its calls will ring at most, from now; below 0 if none does."""
        engine, now = self._engines[state]
        return max(
            (
                math.inf if call.ring_at is None else call.ring_at - now
                for call in engine.callee.calls.values()
                if call.phase is CalleePhase.RINGING
            ),
            default=-1.0,
        )

    def life(self, state: int) -> int:
        """How many lives the peer had before this one."""
        return int(self.engine(state)._context.epoch[-1])

    def commands(self, state: int) -> list[tuple[Any, ...]]:
        """What the app may legally do now with calls that are underway."""
        engine = self.engine(state)
        me = engine.peer_id
        found: list[tuple[Any, ...]] = [
            ("cancel", self._keys[me, *call.key])
            for call in engine.caller.calls.values()
            if call.phase in UNDECIDED and not call.previous_login
        ]
        for theirs in engine.callee.calls.values():
            if theirs.phase is CalleePhase.RINGING:
                index = self._keys[theirs.caller, me, theirs.call_id]
                found += [("accept", index), ("refuse", index)]
        for made, call in self._talking(engine):
            index = self._index(me, made, call)
            found += [("hang up", index, made), ("say", index, made)]
        if engine.callee.admission.asked is not None:
            caller, asked = engine.callee.admission.asked
            index = self._keys[caller, me, asked]
            found += [("admit", index), ("turn away", index)]
        return found

    def _talking(self, engine: Engine) -> list[tuple[bool, CallerCall | CalleeCall]]:
        """The calls that go on, and whether they were made here."""
        return [
            *((True, call) for call in engine.caller.calls.values() if call.talks),
            *((False, theirs) for theirs in engine.callee.calls.values() if theirs.talks),
        ]

    def _index(self, me: str, made: bool, call: CallerCall | CalleeCall) -> int:
        peer, number = call.key
        return self._keys[me, peer, number] if made else self._keys[peer, me, number]

    # --- steps -------------------------------------------------------------------------------

    def step(self, state: int, what: tuple[Any, ...]) -> Outcome:
        """Let the engine of ``state`` take ``what``; raises :class:`Violation` if it raises."""
        known = self._steps.get((state, what))
        if known is None:
            known = self._steps[state, what] = self._run(state, what)
        return known

    def _run(self, state: int, what: tuple[Any, ...]) -> Outcome:
        origin, now = self._engines[state]
        if what[0] == "wait":
            return Outcome(self._number(origin, now + what[1]), (), ())
        if what[0] == "fire":
            now = max(now, origin.deadline() or now)
        engine = origin.clone()
        out, events = self.feed(engine, now, what)
        return Outcome(self._number(engine, now), out, events)

    def feed(
        self, engine: Engine, now: float, what: tuple[Any, ...]
    ) -> tuple[tuple[tuple[Any, ...], ...], tuple[Event, ...]]:
        """Let ``engine`` take ``what``: what goes to the broker, what the monitor sees."""
        try:
            for item in self._inputs(engine, what):
                engine.handle(item, now)
        except Exception as error:
            raise Violation(f"the engine raised {error!r} on {what}") from error
        if engine.stats.drops[OUT_OF_PLACE]:
            raise Violation(f"no place in the table for {what}")
        if what[0] == "message" and self.topics[what[1]][0] == "presence":
            fault = rings_for_the_lost(engine, now)
            if fault is not None:
                raise Violation(fault)
        talking = self._talking(engine)
        out: list[tuple[Any, ...]] = []
        events: list[Event] = [("sent", i) for i in what[1:]] if what[0] == "send" else []
        for effect in _all_effects(engine):
            match effect:
                case Publish(topic, payload, token):
                    if not self.all_acks and token not in engine._context.awaited:
                        engine.handle(PublishAcked(token or 0), now)
                        token = None
                    canonical = self.canonical(topic, payload)
                    out.append(("publish", topic, canonical, token))
                    events += self._said(topic, canonical)
                case Subscribe(filters):
                    out.append(("subscribe", filters))
                case Unsubscribe(filters):
                    out.append(("unsubscribe", filters))
                case Emit(event):
                    events += self._told(engine, event, what)
                case Aborted():
                    raise Violation("aborted, though no newer login exists")
                case Finished():
                    out.append(("finished",))
                case _:
                    pass
        for made, call in talking:
            if done := call.talk.messages.acknowledged:
                events.append(("acknowledged", self._index(engine.peer_id, made, call), made, done))
        if what[0] == "say":
            events.insert(0, ("said message", what[1], what[2]))
        return tuple(out), tuple(events)

    def _inputs(self, engine: Engine, what: tuple[Any, ...]) -> list[Input]:
        match what:
            case ("say" | "hang up", i, made):
                call = self.calls[i]
                peer = self.names[call.callee if made else call.caller]
                if what[0] == "hang up":
                    return [HangUp(peer, call_id(i), made)]
                mine: Any = (engine.caller if made else engine.callee).calls[peer, call_id(i)]
                number = mine.talk.messages.count + 1
                text = codec.encode_body([engine._context.epoch, number])
                return [SayMessage(peer, call_id(i), made, text)]
            case ("connected",):
                return [Connected()]
            case ("disconnected",):
                return [Disconnected()]
            case ("fire",):
                return [DeadlineReached()]
            case ("message", topic, payload, retained):
                return [MessageReceived(topic, payload, retained)]
            case ("acked", token):
                return [PublishAcked(token)]
            case ("granted", filters):
                return [Subscribed(granted=filters)]
            case ("send", *indices):
                return [self._send(i) for i in indices]
            case ("cancel", i):
                return [Cancel(self.names[self.calls[i].callee], call_id(i))]
            case ("accept", i):
                return [Accept(self.names[self.calls[i].caller], call_id(i))]
            case ("refuse", i):
                return [Refuse(self.names[self.calls[i].caller], call_id(i))]
            case ("admit", i):
                return [PolicyVerdict(self.names[self.calls[i].caller], call_id(i))]
            case ("turn away", i):
                caller = self.names[self.calls[i].caller]
                return [PolicyVerdict(caller, call_id(i), AnswerReason.BUSY)]
            case ("logout",):
                return [Logout()]
        raise AssertionError(what)

    def _send(self, index: int) -> Send:
        call = self.calls[index]
        return Send(call_id(index), self.names[call.callee], Offer(group=call.group))

    # --- what the monitor sees ---------------------------------------------------------------

    def _said(self, topic: str, payload: bytes) -> list[Event]:
        kind, index = self.topics[topic]
        return [] if kind == "presence" else [("said", kind, index, *self.meaning(topic, payload))]

    def _told(self, engine: Engine, event: object, what: tuple[Any, ...]) -> list[Event]:
        me = engine.peer_id
        match event:
            case LocalEvent(name, call):
                return [("told caller", self._keys[me, *call.key], name, call.reason)]
            case PeerLost(call=call):
                return [("told lost", self._keys[me, *call.key])]
            case CallEvent(name, talk, message):
                made = isinstance(talk, CallerCall)
                said = None if message is None else tuple(codec.decode_body(message))
                return [("talk", self._index(me, made, talk), made, name, said)]
            case RemoteEvent(name, theirs):
                index = self._keys[theirs.caller, me, theirs.call_id]
                rings = name is Name.REMOTE_RECEIVED
                live = rings and self._is_live_ringing(what, index)
                return [("told callee", index, name, theirs.reason, live)]
        return []

    def _is_live_ringing(self, what: tuple[Any, ...], index: int) -> bool:
        """Whether its caller makes it ring: a live invite, or presence online after one."""
        if what[0] == "message" and self.topics[what[1]] == ("presence", self.calls[index].caller):
            presence = codec.decode_presence(what[2]) if what[2] else None
            return presence is not None and presence.online
        if what == ("admit", index):
            return True  # it was live when its policy was asked, and nothing has put it in doubt
        if what[0] != "message" or what[3] or self.topics[what[1]] != ("invite", index):
            return False
        if not what[2]:
            return False
        cell = codec.decode_invite(what[2])
        return cell.state is InviteState.RINGING and bool(cell.ttl)

    def meaning(self, topic: str, payload: bytes) -> tuple[InviteState | AnswerState | None, Any]:
        """State and reason of a call's cell; (None, None) if it is cleared."""
        if not payload:
            return None, None
        known = self._meanings.get((topic, payload))
        if known is None:
            known = self._meanings[topic, payload] = self._read(topic, payload)
        return known

    def _read(self, topic: str, payload: bytes) -> tuple[InviteState | AnswerState, Any]:
        if self.topics[topic][0] == "invite":
            invite = codec.decode_invite(payload)
            return invite.state, invite.reason
        answer = codec.decode_answer(payload)
        return answer.state, answer.reason

    def canonical(self, topic: str, payload: bytes) -> bytes:
        """The payload with ``seq`` 0; a presence without its age, which is for a second login."""
        if not payload:
            return payload
        known = self._canonical.get((topic, payload))
        if known is None and self.topics[topic][0] == "presence":
            known = codec.encode(codec.decode_presence(payload)._replace(age=0))
            self._canonical[topic, payload] = known
        elif known is None:
            decode = (
                codec.decode_invite if self.topics[topic][0] == "invite" else codec.decode_answer
            )
            known = codec.encode(decode(payload)._replace(seq=0))
            self._canonical[topic, payload] = known
        return known

    # --- keys --------------------------------------------------------------------------------

    def _number(self, engine: Engine, now: float) -> int:
        context = engine._context
        # Tokens count up for ever; what matters is that those awaited differ.
        context._token = max((*context.awaited, *context.outbox.unacked), default=0)
        key = engine_key(engine, now)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._engines)
            self._engines.append((engine, now))
            fault = never_ends_alone(engine, now)
            if fault is not None:
                raise Violation(fault)
        return number


def engine_key(engine: Engine, now: float) -> Hashable:
    """All of an engine that can influence what it will do, times counted from ``now``."""
    context = engine._context
    watches = context.watches
    return (
        context.me,
        context.epoch,
        context.up,
        context.inbox,
        tuple(sorted(context.awaited.items())),
        _outbox_key(context.outbox, now),
        tuple(engine.login._aside),
        engine.login.settled,
        engine.login._first,
        _left(engine.login.settle_at, now),
        engine.login.leaving,
        engine.closed,
        engine.login._linked,
        engine.login._echoed,
        engine.login._heard,
        engine.login._read_on,
        engine.login._asking,
        engine.login._doubts,
        engine.login._said,
        context.own.generation,
        frozenset(watches.known.items()),
        frozenset(watches.by_app),
        frozenset(watches._calls.items()),
        frozenset((p, _left(at, now)) for p, at in watches._idle.items()),
        frozenset(_call_key(c, now) for c in engine.caller.calls.values()),
        frozenset((k, _left(at, now)) for k, at in engine.caller.remembered.items()),
        frozenset(_call_key(c, now) for c in engine.callee.calls.values()),
        frozenset(engine.callee.admission.live.items()),
        frozenset(engine.callee.admission.probed.items()),
        tuple(_call_key(c, now) for c in engine.callee.remembered.values()),
        engine.callee.admission.asked,
    )


def _outbox_key(outbox: Outbox, now: float) -> Hashable:
    return (
        tuple(outbox.unacked.items()),
        tuple(outbox.suspects.items()),
        outbox.trial,
        tuple(outbox.held),
        _left(outbox.until, now),
        frozenset(outbox.aside),
        frozenset(outbox.lifted),
    )


def _left(at: float | None, now: float) -> float | None:
    return None if at is None else min(at - now, FAR)


_IGNORED = frozenset({"seq", "sent_at"})
_FIELDS = {
    kind: tuple(name for name in kind._fields if name not in _IGNORED)
    for kind in (CallerCall, CalleeCall)
}


def _call_key(call: CallerCall | CalleeCall, now: float) -> Hashable:
    values: list[Any] = []
    for name in _FIELDS[type(call)]:
        value = getattr(call, name)
        if name in ("vouch_at", "live_at") and value is not None:
            value = max(0.0, value - now)
        elif name.endswith("_at"):
            value = _left(value, now)
        elif name == "quiet_until":
            value = max(0.0, value - now)
        elif name == "talk":
            value = _talk_key(value, now)
        elif name == "resend_delay" and call.resend_at is None:
            value = 0.0
        values.append(value)
    return tuple(values)


def _talk_key(talk: Talk, now: float) -> Hashable:
    times = (_left(at, now) for at in (talk.limit_at, talk.lost_at, talk.cut_at))
    quiet = max(0.0, talk.quiet_until - now)
    return (*talk._replace(limit_at=None, lost_at=None, cut_at=None, quiet_until=0), *times, quiet)


def _all_effects(engine: Engine) -> Iterator[Effect]:
    """What is to be done, and what comes of it while it is done: an acknowledgement says more."""
    while effects := engine.effects():
        yield from effects
