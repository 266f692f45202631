"""What runs the asyncio client on its loop: the link's descriptor, and a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from ..core.connection import Closed, CloseLink, LoginEnded, LoginSession, OpenLink, SessionEffect
from ..core.effects import DeadlineReached, LinkFailed, LinkOpened
from ..errors import ClientClosed, LoginError
from .base import BaseClient
from .feeding import BATCH_DELAY
from .link.factory import GuardedLink, carry_out
from .link.opening import Opening

P = ParamSpec("P")


def _owned(
    callback: Callable[Concatenate[LoopDriver, P], None],
) -> Callable[Concatenate[LoopDriver, P], None]:
    """Let what a callback of the loop raises end the client, and be told."""

    def call(self: LoopDriver, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.ended:
            return
        try:
            callback(self, *args, **kwargs)
        except BaseException as error:
            self._client._fail(error)
            if not isinstance(error, Exception):
                raise  # it was meant for the loop
        finally:
            self._client._records.flush()

    return call


class LoopDriver:
    """Performs one login of a client on the running loop; all of it in callbacks of that loop."""

    def __init__(self, client: BaseClient[Any, Any], session: LoginSession) -> None:
        self._client = client
        self._session = session
        #: Where it all happens.
        self.loop = asyncio.get_running_loop()
        self.closed = asyncio.Event()
        self.ended = False
        #: Where the login's end is told.
        self.login: asyncio.Future[None] = self.loop.create_future()
        self._link: GuardedLink | None = None
        self._reading = -1  # the descriptor that the loop waits on
        self._writing = False
        self._opening: Opening | None = None  # the attempt whose link is waited for
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._performing = False
        self._resting: asyncio.Handle | None = None

    def finish(self) -> None:
        """Come to the end, for the client has failed, or is done."""
        self.ended = True
        for handle in (self._timer, self._ticker, self._resting):
            if handle is not None:
                handle.cancel()
        self._opening = None
        self._wait_on(-1, None)
        link, self._link = self._link, None
        if link is not None:
            link.close(clean=False)
        self._end_login(ClientClosed("the client failed"))
        self.closed.set()
        self._client._hang_up()

    def forget(self) -> None:
        """Let go of what is the parent's, in a child process; its loop is the parent's, too."""
        self.ended = True
        if self._link is not None:
            self._link.forget()

    def pulse(self, call: Callable[[], None]) -> bool:
        """Have ``call`` called by the loop's next turn; False if the loop is closed."""
        try:
            self.loop.call_soon_threadsafe(self._pulse, call)
        except RuntimeError:
            return False
        return True

    @_owned
    def _pulse(self, call: Callable[[], None]) -> None:
        call()

    # --- feed, perform, re-arm ---------------------------------------------------------------

    def give_up(self) -> None:
        """Stop waiting for the broker, whatever is underway."""
        self._client._give_up(self._session)
        self.perform()

    @_owned
    def _readable(self, link: GuardedLink) -> None:
        link.read()
        if not self._pump() and self._link_changed(link):
            self._rest_soon()

    @_owned
    def _writable(self, link: GuardedLink) -> None:
        link.write()
        self._pump()
        self._rest_soon()

    @_owned
    def _tick(self, link: GuardedLink) -> None:
        self._ticker = None
        now = self._client._time()
        self._client._look_after_sleep(link, now)
        link.tick()
        self._pump()
        deadline = self._session.deadline()
        if deadline is not None and deadline <= now:  # the loop's timers stand still in sleep
            self._feed_deadline(now)
        self._rest_soon()

    @_owned
    def _due(self) -> None:
        self._timer = self._timer_at = None
        self._feed_deadline(self._client._time())

    def _feed_deadline(self, now: float) -> None:
        self._client._feed(self._session, DeadlineReached(), now)
        self.perform()

    def _pump(self) -> bool:
        """Feed what has happened on the link, until nothing more does; whether anything did."""
        client, fed = self._client, False
        while self._link is not None and (happened := self._link.drain()):
            fed = True
            now, wall = client._time(), client._wall_for(happened)
            for what in happened:
                client._feed(self._session, what, now, wall)
            if not client._todo and not client._core_events:
                self._rest_soon()
                break
            self.perform()
        return fed

    def perform(self) -> None:
        """Do what is to be done, then wait for what comes next."""
        if self._performing or self.ended:
            return
        self._performing = True
        try:
            if self._client._dispatch_first:
                self._client._dispatch_all()
            more = True
            while more:
                while self._client._todo:
                    self._do(self._client._todo.popleft())
                self._client._dispatch_all()
                more = bool(self._client._todo)
        finally:
            self._performing = False
        if self.closed.is_set():
            self.finish()
        else:
            self._rest_soon()

    def _rest_soon(self) -> None:
        """Do what nobody waits for after a moment, but at once where the loop waits wrongly."""
        if self.loop.is_closed():
            return  # it waits for nothing any more: a logout on another loop says goodbye, no more
        link = self._link
        if (-1 if link is None else link.fileno()) != self._reading:
            self._rest()  # before its descriptor is somebody else's
        elif self._resting is None:
            self._resting = self.loop.call_later(BATCH_DELAY, self._rest)

    def _link_changed(self, link: GuardedLink) -> bool:
        """Whether the link is broken, or waits for another thing than the loop does."""
        return link.fileno() != self._reading or link.wants_write() != self._writing

    @_owned
    def _rest(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._link is not None:
            self._link.acknowledge()
        self._rearm()

    def _do(self, effect: SessionEffect) -> None:
        if carry_out(effect, self._link):
            return
        if isinstance(effect, OpenLink):
            self._open()
        elif isinstance(effect, CloseLink):
            self._close(clean=effect.clean)
        elif isinstance(effect, LoginEnded):
            self._end_login(effect.error)
        else:
            assert isinstance(effect, Closed)  # noqa: S101 - the link's are carried out
            self.closed.set()

    def _end_login(self, error: LoginError | ClientClosed | None) -> None:
        if self.login.done():
            return
        if error is None:
            self.login.set_result(None)
        else:
            self.login.set_exception(error)
            self.login.exception()  # whoever waits is told; that nobody does is no news

    def _open(self) -> None:
        client = self._client
        attempt = Opening(client._new_link(self._session), client.peer_id, self._done_opening)
        self._opening = attempt
        try:
            attempt.start()
        except RuntimeError as error:  # no thread to be had: as good as no route, and tried again
            self._opening = None
            client._fail_link(self._session, error)

    def _done_opening(self, attempt: Opening, failure: LinkFailed | None) -> None:
        """On the attempt's thread."""
        try:
            self.loop.call_soon_threadsafe(self._opened, attempt, failure)
        except RuntimeError:  # the loop is closed: nobody wants it any more
            attempt.link.close(clean=False)

    def _opened(self, attempt: Opening, failure: LinkFailed | None) -> None:
        if self._opening is attempt:
            self._opening = None
            self._take(attempt.link, failure)
        else:
            attempt.link.close(clean=False)

    @_owned
    def _take(self, link: GuardedLink, failure: LinkFailed | None) -> None:
        if failure is not None:
            self._client._feed(self._session, failure, self._client._time())
            self.perform()
        else:
            self._link = link
            self._client._feed(self._session, LinkOpened(), self._client._time())
            self._pump()
            self._rest_soon()

    def _close(self, *, clean: bool) -> None:
        self._opening = None
        link, self._link = self._link, None
        self._rearm()
        if link is not None:
            link.close(clean=clean)

    def _rearm(self) -> None:
        """Let the loop wait for what the link and the session wait for."""
        if self.loop.is_closed():
            return
        link = self._link
        fd = -1 if link is None else link.fileno()
        self._wait_on(fd, link)
        if link is not None and fd >= 0 and link.wants_write() != self._writing:
            self._writing = not self._writing
            if self._writing:
                self.loop.add_writer(fd, self._writable, link)
            else:
                self.loop.remove_writer(fd)
        if link is None and self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        elif link is not None and (fd < 0 or self._ticker is None):
            if self._ticker is not None:
                self._ticker.cancel()
            # A link that broke while something was written has a last word to say.
            after = 0 if fd < 0 else self._client._tick_every
            self._ticker = self.loop.call_later(after, self._tick, link)
        self._rearm_timer()

    def _wait_on(self, fd: int, link: GuardedLink | None) -> None:
        """Let the loop wait for this descriptor of the link's, and for no other; -1 for none."""
        if fd == self._reading:
            return
        if self._reading >= 0:
            self.loop.remove_reader(self._reading)
            self.loop.remove_writer(self._reading)
            self._writing = False
        if link is not None and fd >= 0:
            self.loop.add_reader(fd, self._readable, link)
        self._reading = fd

    def _rearm_timer(self) -> None:
        at = self._session.deadline()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at is not None:
            self._timer = self.loop.call_later(max(0.0, at - self._client._time()), self._due)
