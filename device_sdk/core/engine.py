"""All calls of one peer, without a socket, thread, clock or randomness (docs/protocol.md).

One engine is one login: its epoch. Feed it what happened and when (:meth:`Engine.handle`), do what
it says (:meth:`Engine.effects`), come back at its :meth:`Engine.deadline`. The order is always the
same: feed, perform, re-arm. Nothing here is thread-safe: one owner feeds it.

What comes in goes to whom it concerns: the link's words and what other logins of this peer say to
``login``, a cell or a command to the side whose call it is, a presence to all who wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from ..errors import DecodeError, InvalidArgument
from .admission import Screen
from .callee_side import CalleeSide
from .caller_side import CallerSide
from .context import Context
from .effects import (
    Accept,
    Cancel,
    Connected,
    DeadlineReached,
    Disconnected,
    Dropped,
    Effect,
    HangUp,
    Input,
    Logout,
    MessageReceived,
    PolicyVerdict,
    PublishAcked,
    Refuse,
    SayMessage,
    Send,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unwatch,
    Watch,
)
from .events import PresenceChanged
from .login import Login
from .outbox import ANSWER, INVITE
from .settings import Settings
from .stats import Stats
from .wire import codec, topics
from .wire.cells import EPOCH_BYTES, Presence

UNKNOWN_TOPIC = "unknown topic"
NOT_WATCHED = "not watched"
OUT_OF_PLACE = "out of place"
#: Not the message's fault but ours; it is dropped all the same.
DEFECT = "defect"
_LOG_EVERY = 60.0

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
        talk: bool = False,
    ) -> None:
        if len(epoch) != EPOCH_BYTES:
            raise InvalidArgument("epoch", f"{EPOCH_BYTES} random bytes are wanted")
        topics.check_peer_id(peer_id)
        topics.check_realm(realm)
        self._context = Context(peer_id, epoch, realm, settings or Settings())
        self._context.talk = talk
        self.caller = CallerSide(self._context)
        self.callee = CalleeSide(self._context, screen)
        self.callee.admission.made = self.caller.calls
        self.login = Login(self._context, self.caller, self.callee)
        self._logged_at: dict[str, float] = {}

    # --- what everybody may ask ------------------------------------------------------------

    @property
    def peer_id(self) -> str:
        """Who this is."""
        return self._context.me

    @property
    def speaks(self) -> bool:
        """Whether presence was said on this connection, so that its will has something to say."""
        return self.login.speaks

    @property
    def stats(self) -> Stats:
        """What was counted since login."""
        return self._context.stats

    @property
    def closed(self) -> bool:
        """Whether this login is over: logged out, or replaced by a newer one."""
        return self.login.closed

    @property
    def idle_until(self) -> float:
        """Nothing is due before: :meth:`deadline` without looking, or earlier."""
        return math.inf if self.login.closed else self._context.idle_until

    def will(self) -> tuple[str, bytes]:
        """Topic and payload of the will: presence offline, to be retained, QoS 1."""
        topic = topics.presence(self._context.realm, self._context.me)
        return topic, codec.encode(Presence(False, self._context.epoch))

    def deadline(self) -> float | None:
        """When to come back at the latest, with :class:`DeadlineReached`; None for never."""
        if self.login.closed:
            return None
        times = (
            self.caller.deadline(),
            self.callee.deadline(),
            self._context.watches.deadline(),
            self.login.settle_at,
            self.login.goodbye_at,
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
        login = self.login
        if login.closed:
            return
        if now >= self._context.idle_until:
            self._fire(now)
            self.deadline()
        self._HANDLERS[type(what)](self, what, now)
        goodbye_at = login.goodbye_at
        if goodbye_at is not None and (now >= goodbye_at or login.may_leave()):
            login.say_goodbye(now)

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
        other.callee.admission.made = other.caller.calls
        other.login = self.login.clone(context, other.caller, other.callee)
        other._logged_at = dict(self._logged_at)
        return other

    # --- the link --------------------------------------------------------------------------

    def _connected(self, what: Connected, now: float) -> None:
        self.login.connected(what.wall, now)

    def _disconnected(self, what: Disconnected, now: float) -> None:  # noqa: ARG002
        self.login.disconnected()
        self.caller.cut(now)
        self.callee.cut(now)

    def _subscribed(self, what: Subscribed, now: float) -> None:
        self.login.subscribed(what.granted, what.refused, now)

    def _acked(self, what: PublishAcked, now: float) -> None:
        context = self._context
        context.outbox.acked(what.token, now)
        if context.outbox.suspects or context.outbox.held:
            self.login.say_next(now)
        awaited = context.awaited.pop(what.token, None)
        if awaited is not None:
            purpose, (kind, key) = awaited
            if kind == INVITE:
                self.caller.acked(purpose, key, now)
            elif kind == ANSWER:
                self.callee.acked(purpose, key, now)
        self.login.acked()

    # --- messages --------------------------------------------------------------------------

    def _message(self, what: MessageReceived, now: float) -> None:
        topic = topics.parse(self._context.realm, what.topic)
        try:
            if topic is None:
                raise DecodeError(UNKNOWN_TOPIC, "no topic of this protocol")
            if isinstance(topic, topics.PresenceTopic):
                presence = _read(codec.decode_presence, what.payload) if what.payload else None
                if topic.peer == self._context.me:
                    self.login.own_presence(presence, now, retained=what.retained)
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
            if self.login.leaving and key not in self.callee.calls:
                return  # it waits in the broker for my next login
            self.callee.invited(key, invite, now, retained=what.retained)
        elif what.payload:
            answer = _read(codec.decode_answer, what.payload)
            if answer.ask and self.caller.asks_again(key, now):
                self.login.asked_again(now)
            if not self.caller.answered(key, answer, now):
                raise DecodeError(OUT_OF_PLACE, f"{answer.state.name} where it cannot be")
        else:
            self.caller.answer_cleared(key, now)

    def _from_myself(self, topic: topics.CallTopic, what: MessageReceived, now: float) -> None:
        # Once settled only what was found comes late; whatever is not from the store is an echo.
        if not what.payload or (self.login.settled and not what.retained):
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
        back = changed and before.online is not None
        self.callee.caller_seen(peer, presence, now, retained=retained, changed=changed, back=back)
        for side in (self.caller, self.callee):
            side.peer_seen(peer, presence, now)

    def _drop(self, cause: str, topic: str, problem: str, now: float) -> None:
        self.stats.drops[cause] += 1
        if now - self._logged_at.get(cause, -_LOG_EVERY) >= _LOG_EVERY:
            self._logged_at[cause] = now
            self._context.out.append(Dropped(cause, topic, problem))

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

    def _say_message(self, what: SayMessage, now: float) -> None:
        (self.caller if what.made else self.callee).message(what, now)

    def _hang_up(self, what: HangUp, now: float) -> None:
        (self.caller if what.made else self.callee).hang_up(what, now)

    def _verdict(self, what: PolicyVerdict, now: float) -> None:
        self.callee.verdict(what, now)

    def _watch(self, what: Watch, now: float) -> None:  # noqa: ARG002
        context = self._context
        if what.peer == context.me:
            raise InvalidArgument("peer", f"{what.peer!r} is not told of its own presence")
        if context.watches.watch(what.peer):
            if context.inbox:
                context.out.append(Subscribe((topics.presence(context.realm, what.peer),)))
        elif context.watches.of(what.peer).current:
            context.tell(PresenceChanged(what.peer, context.watches.of(what.peer).online))

    def _unwatch(self, what: Unwatch, now: float) -> None:
        self._context.watches.unwatch(what.peer, now)
        self._context.idle_until = -math.inf

    def _logout(self, what: Logout, now: float) -> None:  # noqa: ARG002
        self.login.log_out(now)

    # --- time ------------------------------------------------------------------------------

    def _due(self, what: DeadlineReached, now: float) -> None:
        """Everything due has been done by :meth:`handle`."""

    def _fire(self, now: float) -> None:
        self.login.fire(now)
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
        SayMessage: _say_message,
        HangUp: _hang_up,
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
