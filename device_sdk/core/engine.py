"""All calls of one peer, without a socket, thread, clock or randomness (docs/protocol.md).

One engine is one login: its epoch. Feed it what happened and when (:meth:`Engine.handle`), do what
it says (:meth:`Engine.effects`), come back at its :meth:`Engine.deadline`. The order is always the
same: feed, perform, re-arm. Nothing here is thread-safe: one owner feeds it.

The connection has two shapes. The first of an epoch subscribes the outbox, to find what a previous
login of this peer left, and publishes presence; when its echo comes back, everything older has
come, and the inbox is subscribed. Each later one subscribes all at once. Either way every live
cell is then said once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from ..errors import DecodeError, InvalidArgument
from ..wire import codec, topics
from ..wire.cells import EPOCH_BYTES, Presence
from .callee_side import CLEAR_ANSWER, CalleeSide, Screen
from .caller_side import CallerSide
from .context import Context, Key
from .effects import (
    Aborted,
    Accept,
    Cancel,
    Connected,
    DeadlineReached,
    Disconnected,
    Dropped,
    Effect,
    Finished,
    Input,
    Logout,
    MessageReceived,
    PolicyVerdict,
    PublishAcked,
    Ready,
    Refuse,
    Send,
    Subscribe,
    Subscribed,
    SubscriptionDenied,
    Unsubscribe,
    Unwatch,
    Watch,
)
from .events import PresenceChanged
from .outbox import INVITE, CellKey
from .presence import Verdict
from .settings import Settings
from .stats import Stats

UNKNOWN_TOPIC = "unknown topic"
NOT_WATCHED = "not watched"
OUT_OF_PLACE = "out of place"
SET_ASIDE = "set aside"
#: Not the message's fault but ours; it is dropped all the same.
DEFECT = "defect"
_LOG_EVERY = 60.0
_GOODBYE = "goodbye"

T = TypeVar("T")


class Engine:
    """The protocol core of one peer, for one login."""

    def __init__(
        self,
        peer_id: str,
        epoch: bytes,
        *,
        realm: str = topics.DEFAULT_REALM,
        settings: Settings | None = None,
        screen: Screen | None = None,
    ) -> None:
        if len(epoch) != EPOCH_BYTES:
            raise InvalidArgument("epoch", f"{EPOCH_BYTES} random bytes are wanted")
        topics.check_peer_id(peer_id)
        topics.check_realm(realm)
        self._context = Context(peer_id, epoch, realm, settings or Settings())
        self.caller = CallerSide(self._context)
        self.callee = CalleeSide(self._context, screen)
        self._linked = False
        self._settled = False
        self._echoed = False  # my presence came back: what was read before is of previous logins
        self._heard = False  # my presence, as it stands, was read on this connection
        self._read_on = False  # all that was asked for has been granted, and some may yet come
        self._asking = False  # whether a login whose presence stands there is alive
        self._doubts = False  # one stands there that may be newer, and may not know me
        self._said = 0  # the generation that I said last
        self._settle_at: float | None = None
        self._first = True  # until the first connection is gone
        self._wall: int | None = None
        self._leaving = False
        self._goodbye_at: float | None = None
        self._closed = False
        self._logged_at: dict[str, float] = {}
        self._aside: list[CellKey] = []  # at which the last connection broke; told on the next

    # --- what everybody may ask ------------------------------------------------------------

    @property
    def peer_id(self) -> str:
        """Who this is."""
        return self._context.me

    @property
    def stats(self) -> Stats:
        """What was counted since login."""
        return self._context.stats

    @property
    def closed(self) -> bool:
        """Whether this login is over: logged out, or replaced by a newer one."""
        return self._closed

    @property
    def idle_until(self) -> float:
        """Nothing is due before: :meth:`deadline` without looking, or earlier."""
        return math.inf if self._closed else self._context.idle_until

    def will(self) -> tuple[str, bytes]:
        """Topic and payload of the will: presence offline, to be retained, QoS 1."""
        topic = topics.presence(self._context.realm, self._context.me)
        return topic, codec.encode(Presence(False, self._context.epoch))

    def deadline(self) -> float | None:
        """When to come back at the latest, with :class:`DeadlineReached`; None for never."""
        if self._closed:
            return None
        times = (
            self.caller.deadline(),
            self.callee.deadline(),
            self._context.watches.deadline(),
            self._settle_at,
            self._goodbye_at,
            self._context.outbox.until,
        )
        at = min((t for t in times if t is not None), default=None)
        self._context.idle_until = math.inf if at is None else at
        return at

    def handle(self, what: Input, now: float) -> None:
        """Take one thing in, after everything that was due by ``now``.

        Raises :class:`InvitationApiCallError` for a command that is not legal, with nothing
        changed by it; what was due has then been done all the same. Nothing from the wire raises.
        """
        if self._closed:
            return
        if now >= self._context.idle_until:
            self._fire(now)
            self.deadline()
        self._HANDLERS[type(what)](self, what, now)
        if self._goodbye_at is not None:
            self._say_goodbye(now)

    def effects(self) -> list[Effect]:
        """What is to be done since the last time, in this order."""
        out = self._context.out
        self._context.out = []
        return out

    def clone(self) -> Engine:
        """An independent copy, statistics aside: for exploring what could happen next."""
        other = object.__new__(Engine)
        other._context = context = self._context.clone()
        other.caller, other.callee = self.caller.clone(context), self.callee.clone(context)
        other._linked, other._said = self._linked, self._said
        other._heard, other._read_on = self._heard, self._read_on
        other._asking, other._doubts = self._asking, self._doubts
        other._settled, other._settle_at = self._settled, self._settle_at
        other._first, other._echoed = self._first, self._echoed
        other._wall, other._leaving, other._closed = self._wall, self._leaving, self._closed
        other._goodbye_at = self._goodbye_at
        other._logged_at, other._aside = dict(self._logged_at), list(self._aside)
        return other

    # --- the link --------------------------------------------------------------------------

    def _connected(self, what: Connected, now: float) -> None:
        context = self._context
        self._linked = True
        if context.born is None:
            context.born = now
        context.stats.counters["connects"] += 1
        context.outbox.connected(now)
        context.idle_until = -math.inf
        self._wall = what.wall
        aside, self._aside = self._aside, []
        for kind, key in aside:
            self._set_aside(kind, key, now)
        own = topics.presence(context.realm, context.me)
        self._settle_at = now + context.settings.startup_timeout
        context.arm(self._settle_at)
        if self._settled:
            # A newer login may have come meanwhile: what stands there is read before I speak.
            self._subscribe_inbox((own,))
        else:
            context.out.append(Subscribe((own, *topics.outbox(context.realm, context.me))))
            context.up = True
            self._say_online(now)

    def _may_return(self, own: str, now: float) -> None:
        """Speak once what stands there was read, or once the broker shows that nothing does.

        It may grant before it says what is retained, but not a second time.
        """
        if self._heard or self._read_on:
            self._return(now)
        else:
            self._read_on = True
            self._context.out.append(Subscribe((own,)))

    def _return(self, now: float) -> None:
        """Back on a later connection, with my presence as it stands read: speak, or ask first."""
        if self._doubts:
            self._doubts, self._asking = False, True
            self._settle_at = now + self._context.settings.startup_timeout
            self._context.arm(self._settle_at)
            self._context.say_presence(now, online=False, ask=True)
            return
        self._asking, self._settle_at = False, None
        self._context.up = True
        self._say_online(now)
        self._resync(now)

    def _say_online(self, now: float) -> None:
        self._said = self._context.own.generation
        self._context.say_presence(now, online=True, wall=self._wall)

    def _settle(self, now: float) -> None:
        """What a previous login left has come: from now on others may talk to me."""
        context = self._context
        self._settled, self._settle_at = True, None
        context.out.append(Unsubscribe(topics.outbox(context.realm, context.me)))
        self._subscribe_inbox(())
        self._resync(now)

    def _subscribe_inbox(self, first: tuple[str, ...]) -> None:
        context = self._context
        context.inbox = True
        watched = (topics.presence(context.realm, peer) for peer in context.watches.known)
        context.out.append(Subscribe((*first, *topics.inbox(context.realm, context.me), *watched)))

    def _resync(self, now: float) -> None:
        self.caller.resync(now)
        self.callee.resync(now)
        self._say_next(now)

    def _say_next(self, now: float) -> None:
        """Say what waited for the broker's word on something else, if that has come."""
        outbox = self._context.outbox
        while self._context.up and (cell := outbox.next(now)) is not None:
            kind, key = cell
            (self.caller if kind == INVITE else self.callee).say(key, now)
            outbox.nothing_to_say(cell)
        if outbox.until is not None:
            self._context.arm(outbox.until)

    def _subscribed(self, what: Subscribed, now: float) -> None:
        context = self._context
        needed = {
            topics.presence(context.realm, context.me),
            *topics.inbox(context.realm, context.me),
            *topics.outbox(context.realm, context.me),
        }
        for topic_filter in what.refused:
            if topic_filter in needed:
                context.out.append(SubscriptionDenied(topic_filter))
                return
            context.stats.drops["presence refused"] += 1
            self._make_room(topic_filter)
        for topic_filter in what.granted:
            topic = topics.parse(context.realm, topic_filter)
            if isinstance(topic, topics.PresenceTopic):
                context.watches.confirmed(topic.peer)
                self.caller.callee_watched(topic.peer, now)
                if topic.peer == context.me and not (context.up or self._asking):
                    self._may_return(topic_filter, now)
        if topics.inbox(context.realm, context.me)[0] in what.granted:
            context.out.append(Ready())

    def _set_aside(self, kind: str, key: Key, now: float) -> None:
        """The broker does not take that cell: its call alone ends."""
        if kind == INVITE:
            self.caller.set_aside(key, now)
            topic = topics.cell(self._context.realm, "invite", key[0], self._context.me, key[1])
        else:
            self.callee.set_aside(key, now)
            topic = topics.cell(self._context.realm, "answer", key[0], self._context.me, key[1])
        problem = "not allowed, or too large for this broker: it closed the connection each time"
        self._context.stats.drops[SET_ASIDE] += 1
        self._context.out.append(Dropped(SET_ASIDE, topic, problem))

    def _make_room(self, topic_filter: str) -> None:
        """A presence that only lingers gives its place at the broker to one that is wanted now."""
        context = self._context
        topic = topics.parse(context.realm, topic_filter)
        if isinstance(topic, topics.PresenceTopic):
            gone = context.watches.make_room(topic.peer)
            if gone is not None:
                context.out.append(Unsubscribe((topics.presence(context.realm, gone),)))
                context.out.append(Subscribe((topic_filter,)))

    def _disconnected(self, what: Disconnected, now: float) -> None:  # noqa: ARG002 - one signature
        context = self._context
        self._first = self._first and not self._linked  # an attempt that never was up is none
        if self._linked:
            self._aside += context.outbox.lost()
        self._linked = context.up = context.inbox = False
        self._heard = self._read_on = self._asking = self._doubts = False
        self._settle_at = None
        context.watches.disconnected()
        context.forget_awaited()
        self.caller.disconnected()
        self.callee.disconnected()
        if self._leaving:
            self._goodbye_at = None
            self._finish()

    # --- messages --------------------------------------------------------------------------

    def _message(self, what: MessageReceived, now: float) -> None:
        topic = topics.parse(self._context.realm, what.topic)
        try:
            if topic is None:
                raise DecodeError(UNKNOWN_TOPIC, "no topic of this protocol")
            if isinstance(topic, topics.PresenceTopic):
                presence = _read(codec.decode_presence, what.payload) if what.payload else None
                if topic.peer == self._context.me:
                    self._own_presence(presence, what.retained, now)
                else:
                    self._peer_presence(topic.peer, presence, what.retained, now)
            elif topic.owner == self._context.me != topic.writer:
                self._from_peer(topic, what, now)
            elif topic.writer == self._context.me != topic.owner:
                self._from_myself(topic, what, now)
            else:
                raise DecodeError(UNKNOWN_TOPIC, "a cell that is neither to nor from me")
        except DecodeError as error:
            self._drop(error.cause, what.topic, str(error), now)

    def _from_peer(self, topic: topics.CallTopic, what: MessageReceived, now: float) -> None:
        key = (topic.writer, topic.call_id)
        if topic.kind == "invite":
            invite = _read(codec.decode_invite, what.payload) if what.payload else None
            if self._leaving and key not in self.callee.calls:
                return  # it waits in the broker for my next login
            self.callee.invited(key, invite, now, retained=what.retained)
        elif what.payload:
            answer = _read(codec.decode_answer, what.payload)
            if not self.caller.answered(key, answer, now):
                raise DecodeError(OUT_OF_PLACE, f"{answer.state.name} where it cannot be")

    def _from_myself(self, topic: topics.CallTopic, what: MessageReceived, now: float) -> None:
        # Once settled only what was found comes late; whatever is not from the store is an echo.
        if not what.payload or (self._settled and not what.retained):
            return
        key = (topic.owner, topic.call_id)
        if topic.kind == "invite":
            invite = _read(codec.decode_invite, what.payload)
            if invite.epoch != self._context.epoch:
                self.caller.found(key, invite, now)
        else:
            answer = _read(codec.decode_answer, what.payload)
            if answer.epoch != self._context.epoch:
                self.callee.found(key, answer, now)

    def _own_presence(self, presence: Presence | None, retained: bool, now: float) -> None:
        context = self._context
        verdict = context.own.read(
            presence,
            retained=retained,
            settled=self._echoed,
            first=self._first,
            age=context.age(now),
        )
        if verdict is Verdict.ABORT:
            self.caller.abort()
            self.callee.abort()
            self._closed = True
            context.out.append(Aborted())
        elif verdict is Verdict.ECHO:
            self._echoed = True
            if context.up and self._said < context.own.generation and not self._leaving:
                self._say_online(now)  # over what was found
            if not self._settled and self._settle_at is not None:
                self._settle(now)
        elif self._asking:
            if verdict is Verdict.REPUBLISH:
                self._return(now)
        elif not context.up:
            self._heard, self._doubts = True, verdict is Verdict.DOUBT
            if self._read_on:
                self._return(now)
        elif verdict is not Verdict.NOTHING and not self._leaving:
            self._say_online(now)

    def _peer_presence(
        self, peer: str, presence: Presence | None, retained: bool, now: float
    ) -> None:
        watches = self._context.watches
        before = watches.heard(peer, presence)
        if before is None:
            raise DecodeError(NOT_WATCHED, f"presence of {peer!r}")
        known = watches.of(peer)
        changed = (before.online, before.epoch) != (known.online, known.epoch)
        if changed and peer in watches.by_app:
            self._context.tell(PresenceChanged(peer, known.online))
        if known.online:
            # A retained reading where nothing was known answers my subscription: no coming back.
            if changed and not (retained and before.online is None):
                self.caller.callee_back(peer, now)
        else:
            self.caller.callee_away(peer)
        back = changed and before.online is False
        self.callee.caller_seen(peer, presence, now, retained=retained, changed=changed, back=back)

    def _drop(self, cause: str, topic: str, problem: str, now: float) -> None:
        self.stats.drops[cause] += 1
        if now - self._logged_at.get(cause, -_LOG_EVERY) >= _LOG_EVERY:
            self._logged_at[cause] = now
            self._context.out.append(Dropped(cause, topic, problem))

    def _acked(self, what: PublishAcked, now: float) -> None:
        outbox = self._context.outbox
        outbox.acked(what.token, now)
        if outbox.suspects or outbox.held:
            self._say_next(now)
        purpose, key = self._context.awaited.pop(what.token, ("", ("", "")))
        if purpose == CLEAR_ANSWER:
            self.callee.acked(key, now)
        elif purpose:
            self.caller.acked(purpose, key, now)
        if self._leaving and self._goodbye_at is None and not self._context.awaited:
            self._finish()

    # --- commands --------------------------------------------------------------------------

    def _send(self, what: Send, now: float) -> None:
        if what.callee == self._context.me:
            raise InvalidArgument("callee_id", f"{what.callee!r} cannot call itself")
        self.caller.send(what, now)

    def _cancel(self, what: Cancel, now: float) -> None:
        self.caller.cancel(what, now)

    def _accept(self, what: Accept, now: float) -> None:
        self.callee.accept(what, now)

    def _refuse(self, what: Refuse, now: float) -> None:
        self.callee.refuse(what, now)

    def _verdict(self, what: PolicyVerdict, now: float) -> None:
        self.callee.verdict(what, now)

    def _watch(self, what: Watch, now: float) -> None:  # noqa: ARG002
        context = self._context
        if context.watches.watch(what.peer):
            if context.inbox:
                context.out.append(Subscribe((topics.presence(context.realm, what.peer),)))
        elif context.watches.of(what.peer).current:
            context.tell(PresenceChanged(what.peer, context.watches.of(what.peer).online))

    def _unwatch(self, what: Unwatch, now: float) -> None:
        self._context.watches.unwatch(what.peer, now)
        self._context.idle_until = -math.inf

    def _logout(self, what: Logout, now: float) -> None:  # noqa: ARG002
        if self._linked and not self._context.up:
            self._doubts = False
            self._return(now)
        self.caller.log_out(now)
        self.callee.log_out(now)
        self._leaving = True
        if self._context.up:
            self._goodbye_at = now + self._context.settings.logout_grace
            self._context.arm(self._goodbye_at)
        else:
            self._finish()

    def _say_goodbye(self, now: float) -> None:
        """Say offline once the others know how my calls ended, or have had time to.

        Who leaves before leaves cells that stand, and are said again, until its next login.
        """
        if self._goodbye_at is None:
            return
        if now < self._goodbye_at and (self.caller.unfinished() or self.callee.unfinished()):
            return
        self._goodbye_at = None
        self._context.say_presence(now, online=False, purpose=_GOODBYE)

    def _finish(self) -> None:
        self._closed = True
        self._context.out.append(Finished())

    # --- time ------------------------------------------------------------------------------

    def _due(self, what: DeadlineReached, now: float) -> None:
        """Everything due has been done by :meth:`handle`."""

    def _fire(self, now: float) -> None:
        if self._settle_at is not None and self._settle_at <= now:
            if self._settled:
                self._doubts = False
                self._return(now)
            else:
                self._settle(now)
        outbox = self._context.outbox
        if outbox.until is not None and outbox.until <= now:
            outbox.give_up()
            self._say_next(now)
        for side in (self.caller, self.callee):
            at = side.deadline()
            if at is not None and at <= now:
                side.fire(now)
        context = self._context
        at = context.watches.deadline()
        if at is not None and at <= now:
            gone = context.watches.expire(now)
            if context.inbox:
                filters = tuple(topics.presence(context.realm, peer) for peer in gone)
                context.out.append(Unsubscribe(filters))

    _HANDLERS: ClassVar[dict[type, Callable[[Engine, Any, float], None]]] = {
        Connected: _connected,
        Disconnected: _disconnected,
        Subscribed: _subscribed,
        MessageReceived: _message,
        PublishAcked: _acked,
        DeadlineReached: _due,
        Send: _send,
        Cancel: _cancel,
        Accept: _accept,
        Refuse: _refuse,
        PolicyVerdict: _verdict,
        Watch: _watch,
        Unwatch: _unwatch,
        Logout: _logout,
    }


def _read(decode: Callable[[bytes], T], payload: bytes) -> T:
    """``decode(payload)``; a defect in reading costs the message: nothing has changed yet."""
    try:
        return decode(payload)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(DEFECT, f"{type(error).__name__} while it was read: {error}") from error
