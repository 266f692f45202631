"""One login, from its first CONNACK to its goodbye: when it speaks, and what it says again.

The connection has two shapes. The first of a login subscribes the outbox, to find what a previous
one of this peer left, and publishes presence; when its echo comes back, everything older has come,
and the inbox is subscribed. Each later one subscribes all at once, reads what stands there as this
peer's presence, and then speaks. Either way every live cell is then said once more.
"""

from __future__ import annotations

import math

from .callee_side import CalleeSide
from .caller_side import CallerSide
from .context import GOODBYE, Context, Key
from .effects import Aborted, Dropped, Finished, Ready, Subscribe, SubscriptionDenied, Unsubscribe
from .outbox import ANSWER, INVITE, CellKey
from .presence import PresenceVerdict
from .wire import topics
from .wire.cells import Presence

SET_ASIDE = "set aside"
_NOT_TAKEN = "not allowed, or too large for this broker: it closed the connection each time"


class Login:
    """Where one login stands with its broker, and with other logins of the same peer."""

    def __init__(self, context: Context, caller: CallerSide, callee: CalleeSide) -> None:
        self._context = context
        self._caller = caller
        self._sides: dict[str, CallerSide | CalleeSide] = {INVITE: caller, ANSWER: callee}
        self.settled = False  # what a previous login left has come
        self.settle_at: float | None = None
        self.leaving = False
        self.goodbye_at: float | None = None
        self.closed = False  # logged out, or replaced by a newer login
        self._linked = False
        self._first = True  # until the first connection is gone
        self._echoed = False  # my presence came back: what was read before is of previous logins
        self._heard = False  # my presence, as it stands, was read on this connection
        self._read_on = False  # all that was asked for has been granted, and some may yet come
        self._asking = False  # whether a login whose presence stands there is alive
        self._doubts = False  # one stands there that may be newer, and may not know me
        self._said = 0  # the generation that I said last
        self._wall: int | None = None
        self._aside: list[CellKey] = []  # at which the last connection broke; told on the next

    def clone(self, context: Context, caller: CallerSide, callee: CalleeSide) -> Login:
        """An independent copy around what was cloned."""
        other = Login(context, caller, callee)
        other.__dict__ |= self.__dict__ | {
            "_context": context,
            "_caller": caller,
            "_sides": other._sides,
            "_aside": list(self._aside),
        }
        return other

    # --- the connection --------------------------------------------------------------------

    def connected(self, wall: int | None, now: float) -> None:
        """The broker let this login in; ``wall`` are the unix seconds it says of itself."""
        context = self._context
        self._linked = True
        if context.born is None:
            context.born = now
        context.stats.counters["connects"] += 1
        context.outbox.connected(now)
        context.idle_until = -math.inf
        self._wall = wall
        aside, self._aside = self._aside, []
        for kind, key in aside:
            self._set_aside(kind, key, now)
        own = topics.presence(context.realm, context.me)
        self.settle_at = now + context.settings.startup_timeout
        context.arm(self.settle_at)
        if self.settled:
            # A newer login may have come meanwhile: what stands there is read before I speak.
            self._subscribe_inbox((own,))
        else:
            context.out.append(Subscribe((own, *topics.outbox(context.realm, context.me))))
            context.up = True
            self._say_online(now)

    def subscribed(self, granted: tuple[str, ...], refused: tuple[str, ...], now: float) -> None:
        """The broker took some filters, and perhaps not others."""
        context = self._context
        needed = {
            topics.presence(context.realm, context.me),
            *topics.inbox(context.realm, context.me),
            *topics.outbox(context.realm, context.me),
        }
        for topic_filter in refused:
            if topic_filter in needed:
                context.out.append(SubscriptionDenied(topic_filter))
                return
            topic = topics.parse(context.realm, topic_filter)
            if isinstance(topic, topics.PresenceTopic):
                context.stats.drops["presence refused"] += 1
                self._make_room(topic.peer)
        for topic_filter in granted:
            topic = topics.parse(context.realm, topic_filter)
            if isinstance(topic, topics.PresenceTopic):
                context.watches.confirmed(topic.peer)
                self._caller.callee_watched(topic.peer, now)
                for side in self._sides.values():
                    side.peer_watched(topic.peer, now)
                if topic.peer == context.me and not (context.up or self._asking):
                    self._may_return(topic_filter, now)
        if topics.inbox(context.realm, context.me)[0] in granted:
            context.out.append(Ready())

    def disconnected(self) -> None:
        """The connection is gone, or an attempt at one failed."""
        context = self._context
        self._first = self._first and not self._linked  # an attempt that never was up is none
        if self._linked:
            self._aside += context.outbox.lost()
        self._linked = context.up = context.inbox = False
        self._heard = self._read_on = self._asking = self._doubts = False
        self.settle_at = None
        self.settled = self._echoed  # it went on without the echo: what is there is yet to be found
        context.watches.disconnected()
        context.awaited.clear()
        for side in self._sides.values():
            side.disconnected()
        if self.leaving:
            self.goodbye_at = None
            self._finish()

    # --- other logins of this peer ---------------------------------------------------------

    def own_presence(self, presence: Presence | None, now: float, *, retained: bool) -> None:
        """Take in what stands there as this peer's presence; None for nothing."""
        context = self._context
        verdict = context.own.read(
            presence,
            retained=retained,
            settled=self._echoed,
            first=self._first,
            age=context.age(now),
        )
        if verdict is PresenceVerdict.ABORT:
            for side in self._sides.values():
                side.abort()
            self.goodbye_at = None  # presence is the newer login's now
            self.closed = True
            context.out.append(Aborted())
        elif verdict is PresenceVerdict.ECHO:
            self._echoed = True
            if context.up and self._said < context.own.generation and not self.leaving:
                self._say_online(now)  # over what was found
            if not self.settled and self.settle_at is not None:
                self._settle(now)
        elif self._asking:
            if verdict is PresenceVerdict.REPUBLISH:
                self._return(now)
        elif not context.up:
            self._heard, self._doubts = True, verdict is PresenceVerdict.DOUBT
            if self._read_on:
                self._return(now)
        elif verdict is not PresenceVerdict.NOTHING and not self.leaving:
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
            self.settle_at = now + self._context.settings.startup_timeout
            self._context.arm(self.settle_at)
            self._context.say_presence(now, online=False, ask=True)
            return
        self._asking, self.settle_at = False, None
        self._context.up = True
        self._say_online(now)
        self._resync(now)

    def _settle(self, now: float) -> None:
        """What a previous login left has come: from now on others may talk to me."""
        context = self._context
        self.settled, self.settle_at = True, None
        context.out.append(Unsubscribe(topics.outbox(context.realm, context.me)))
        self._subscribe_inbox(())
        self._resync(now)

    # --- what is said, and to be read ------------------------------------------------------

    def say_next(self, now: float) -> None:
        """Say what waited for the broker's word on something else, if that has come."""
        outbox = self._context.outbox
        while self._context.up and (cell := outbox.next(now)) is not None:
            kind, key = cell
            self._sides[kind].say(key, now)
            outbox.nothing_to_say(cell)
        if outbox.until is not None:
            self._context.arm(outbox.until)

    def _resync(self, now: float) -> None:
        for side in self._sides.values():
            side.resync(now)
        self.say_next(now)

    @property
    def speaks(self) -> bool:
        """Whether presence was said on this connection, online or to ask."""
        return self._context.up or self._asking

    def asked_again(self, now: float) -> None:
        """A callee does not take me for one who is there: perhaps the broker kept my will."""
        if not self.leaving:
            self._say_online(now)

    def _say_online(self, now: float) -> None:
        self._said = self._context.own.generation
        self._context.say_presence(now, online=True, wall=self._wall)

    def _subscribe_inbox(self, first: tuple[str, ...]) -> None:
        context = self._context
        context.inbox = True
        watched = (topics.presence(context.realm, peer) for peer in context.watches.known)
        context.out.append(Subscribe((*first, *topics.inbox(context.realm, context.me), *watched)))

    def _make_room(self, peer: str) -> None:
        """A presence that only lingers gives its place at the broker to one that is wanted now."""
        context = self._context
        gone = context.watches.make_room(peer)
        if gone is not None:
            context.out.append(Unsubscribe((topics.presence(context.realm, gone),)))
            context.out.append(Subscribe((topics.presence(context.realm, peer),)))

    def _set_aside(self, kind: str, key: Key, now: float) -> None:
        """The broker does not take that cell: its call alone ends."""
        side = self._sides[kind]
        side.set_aside(key, now)
        topic = topics.cell(self._context.realm, side.kind, key[0], self._context.me, key[1])
        self._context.stats.drops[SET_ASIDE] += 1
        self._context.out.append(Dropped(SET_ASIDE, topic, _NOT_TAKEN))

    # --- the end ---------------------------------------------------------------------------

    def log_out(self, now: float) -> None:
        """End all calls, say so, then that this peer is offline, then leave."""
        context = self._context
        if self._linked and not context.up:
            self._doubts = False
            self._return(now)
        for side in self._sides.values():
            side.log_out(now)
        self.leaving = True
        if context.up:
            self.goodbye_at = now + context.settings.logout_grace
            context.arm(self.goodbye_at)
        else:
            self._finish()

    def may_leave(self) -> bool:
        """Whether the others know how my calls ended.

        Who leaves before leaves cells that stand, and are said again, until its next login.
        """
        return not any(side.unfinished() for side in self._sides.values())

    def say_goodbye(self, now: float) -> None:
        """Say offline, and leave once the broker has that."""
        self.goodbye_at = None
        self._context.say_presence(now, online=False, purpose=GOODBYE)

    def acked(self) -> None:
        """The broker acknowledged something: who leaves waits for no more than that."""
        if self.leaving and self.goodbye_at is None and not self._context.awaited:
            self._finish()

    def fire(self, now: float) -> None:
        """What stands there has had its time to come, and the broker its own to acknowledge."""
        if self.settle_at is not None and self.settle_at <= now:
            if self.settled:
                self._doubts = False
                self._return(now)
            else:
                self._settle(now)
        outbox = self._context.outbox
        if outbox.until is not None and outbox.until <= now:
            outbox.give_up()
            self.say_next(now)

    def _finish(self) -> None:
        self.closed = True
        self._context.out.append(Finished())
