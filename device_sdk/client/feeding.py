"""What a client does with its session, whoever waits for it.

The clocks are read, the session is fed, its effects are sorted into what goes to the link, what the
application is told, and what its policy is asked.
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable

from ..core.connection import LoginSession, SessionEffect
from ..core.effects import (
    AskPolicy,
    Connected,
    Dropped,
    Emit,
    Input,
    LinkFailed,
    LinkInput,
)
from ..core.engine import Engine
from ..core.events import ConnectionStateChanged, CoreEvent, Name
from ..core.rotation import Rotation
from ..core.settings import Settings
from ..core.wire.cells import EPOCH_BYTES
from ..errors import BrokerUnreachable, LoginError
from ..states import ConnectionChange, ConnectionState
from .clocks import since_start, unix_time
from .dispatch import L, R
from .display import plain
from .link.base import Will
from .link.factory import Brokers, GuardedLink
from .screening import Screening

#: How often a client lets its link look after the keep-alive, in seconds; oftener if that is short,
#: since the broker gives up after one and a half of it (MQTT 3.1.1, 3.1.2.10). No longer than the
#: first resend takes: then no command sets a deadline before the one that is waited for already.
TICK = 1.0
#: After something happened, how long to wait for more, in seconds, before what nobody waits for is
#: done: whoever is to answer, or to hear of it, may need this processor now. In the threaded client
#: it saves a ring 9 % (60 µs of 730 on two busy cores), in the asyncio one nothing that shows.
BATCH_DELAY = 0.001

# A member by itself, as in callee_steps: every ring waits for it.
_ACCEPTED = Name.LOCAL_ACCEPTED


class Feeding(Screening[L, R]):
    """The part of a client between its session and its owner."""

    realm: str
    settings: Settings
    talk: bool
    _brokers: Brokers
    _rotation: Rotation
    _clock: Callable[[], float]
    _wall: Callable[[], float]

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id)
        self._now = self._looked_at = 0.0  # the last time read; when the link was looked after
        self._awake_at = 0.0  # the same on a clock that stands still in sleep
        self._wall_at = 0.0  # when the time of day was last wanted
        self._tick_every = TICK
        self._given_up_after = math.inf  # seconds of silence, by the broker
        self._todo: deque[SessionEffect] = deque()
        self._core_events: deque[CoreEvent] = deque()
        self._dispatch_first = False  # before anything is said on the wire

    def _keep_alive(self, keepalive: int) -> None:
        """Look after a link with this keep-alive, in seconds."""
        self._tick_every = min(TICK, keepalive / 4)
        self._given_up_after = keepalive * 1.5  # by the broker (MQTT 3.1.1, 3.1.2.10)

    # --- for the two clients to fill in ------------------------------------------------------

    def _leg_ended(self, leg: L) -> None:
        """Let a ring group go on."""
        raise NotImplementedError

    # --- inside ------------------------------------------------------------------------------

    def _new_session(self, *, keep_trying: bool) -> LoginSession:
        engine = Engine(
            self.peer_id,
            os.urandom(EPOCH_BYTES),
            realm=self.realm,
            settings=self.settings,
            screen=self._screen,
            talk=self.talk,
        )
        return LoginSession(
            engine, random=random.random, keep_trying=keep_trying, rotation=self._rotation
        )

    def _new_link(self, session: LoginSession) -> GuardedLink:
        will = Will(*session.engine.will())
        make = self._brokers.link_to(self._rotation.name)
        return GuardedLink(lambda: make(will))

    def _time(self) -> float:
        """What time it is; runs the application's clock, so hold no guard.

        A command within another takes the time of that one.
        """
        if self._nested:
            return self._now
        self._now = now = self._clock()
        if not math.isfinite(now):  # no deadline would ever come
            raise ValueError(f"the clock says {now!r}")
        return now

    def _time_of_day(self) -> int | None:
        """Seconds since 1970 if the clock can be believed; as :meth:`_time`."""
        if not self._nested:
            self._wall_now, self._wall_at = unix_time(self._wall), self._now
        elif self._wall_now is not None:
            return self._wall_now + int(self._now - self._wall_at)
        return self._wall_now

    def _read_clocks(self) -> None:
        self._time()
        self._time_of_day()

    def _wall_for(self, happened: Iterable[LinkInput]) -> int | None:
        """The time of day if what happened needs it; as :meth:`_time`."""
        for what in happened:
            if self._policy.quiet or isinstance(what, Connected):
                return self._time_of_day()
        return None

    def _feed(
        self, session: LoginSession, what: Input | LinkInput, now: float, wall: int | None = None
    ) -> None:
        """Feed the session and sort its effects; hold the guard, then :meth:`_perform`.

        Raises for illegal commands, when there may be something to perform all the same.
        """
        try:
            session.handle(what, now, wall)
        finally:
            self._sort(session)
        if type(what) is LinkFailed:
            self._link_failed(session, what.error)

    def _link_failed(self, session: LoginSession, error: LoginError) -> None:
        """Tell what a person has to mend before there is a connection again: once, until there is.

        The session tells what the broker says. What this end thinks of the broker's certificate is
        to it a connection that did not come about, as it was: interrupted.
        """
        reconnecting = session.state is ConnectionState.RECONNECTING and not session.closed
        if reconnecting and self._refusals.link_failed(error):
            self._say_refusal()
            self._core_events.append(
                ConnectionStateChanged(session.state, ConnectionChange.INTERRUPTED, str(error))
            )

    def _give_up(self, session: LoginSession) -> None:
        """End a login that is still open, or stop waiting for the end of a logout; as _feed."""
        if session.logging_in:
            session.abandon("the login was given up")
        else:
            session.give_up(self._now)
        self._sort(session)

    def _fail_link(self, session: LoginSession, error: Exception) -> None:
        """The link could not even be opened; as _feed."""
        problem = f"no connection can be begun here: {error}"
        self._feed(session, LinkFailed(BrokerUnreachable("no route", problem)), self._now)

    def _look_after_sleep(self, link: GuardedLink, now: float) -> None:
        """Lose a link that the broker has given up while this machine slept.

        It would look well until a ping is missed, and what rings in it is long over.
        """
        awake = time.monotonic()
        slept = (now - self._looked_at) - (awake - self._awake_at)
        self._looked_at, self._awake_at = now, awake
        if self._clock is since_start and slept > self._given_up_after:
            problem = f"the machine slept for {slept:.0f} s, and the broker has given it up"
            link.lose(BrokerUnreachable("connection lost", problem))

    def _sort(self, session: LoginSession) -> None:
        for effect in session.effects():
            if type(effect) is Emit:
                self._core_events.append(effect.event)
                # The caller decides, and hears of it before the callee can.
                self._dispatch_first |= effect.event.name is _ACCEPTED
            elif type(effect) is AskPolicy:
                self._ask_policy(session, effect)
            elif type(effect) is Dropped:
                self._records.add(logging.WARNING, "%s: dropped from %s: %s", self.peer_id,
                                   plain(effect.topic), plain(effect.problem))  # fmt: skip
            else:
                self._todo.append(effect)

    def _dispatch_all(self) -> None:
        """Tell the app what has happened, in its order; hold the guard."""
        self._dispatch_first = False
        while self._core_events:
            self._dispatch(self._core_events.popleft())
        while self._legs_ended:
            self._leg_ended(self._legs_ended.popleft())
