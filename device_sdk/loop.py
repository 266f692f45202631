"""What runs the asyncio face on its loop: the descriptor, a timer, and the listeners' tasks."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from typing import Any

from .effects import DeadlineReached
from .errors import LoginError
from .face import LINGER, Face
from .invitations import Event
from .links import carry_out
from .listener import CallEventListener
from .session import Closed, CloseLink, LoginEnded, OpenLink, SessionEffect
from .transport import Link, LinkFailed, LinkOpened

log = logging.getLogger("bellwire")


class ListenerTask:
    """Calls one listener's methods, one after the other, in a task of its own."""

    def __init__(self, listener: CallEventListener) -> None:
        self.listener = listener
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        self.start()

    def start(self) -> None:
        """Start the task, if there is a loop to run it."""
        if self.task is None:
            with contextlib.suppress(RuntimeError):  # no loop yet: login starts it
                self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while (event := await self.queue.get()) is not None:
            try:
                result = getattr(self.listener, f"on_{event.name}")(*event.args)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                log.exception("call %s: listener %r raised in on_%s", event.call_id or "-",
                              self.listener, event.name)  # fmt: skip


class LoopDriver:
    """Performs a face's session on the running loop; all of it in callbacks of that loop."""

    def __init__(self, client: Face[Any, Any]) -> None:
        self._client = client
        self.closed = asyncio.Event()
        self._link: Link | None = None
        self._reading = -1  # the descriptor that the loop waits on
        self._writing = False
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._login: asyncio.Future[None] | None = None
        self._performing = False
        self._resting: asyncio.Handle | None = None

    def begin(self) -> asyncio.Future[None]:
        """Where the login's end is told."""
        self._login = asyncio.get_running_loop().create_future()
        return self._login

    # --- feed, perform, re-arm ---------------------------------------------------------------

    def give_up(self) -> None:
        """Stop waiting for the broker to acknowledge a logout."""
        if self._client._session is not None:
            self._client._session.give_up(self._client._clock())
            self._client._sort(self._client._session)
            self.perform()

    def _readable(self) -> None:
        link = self._link
        if link is not None:
            link.read()
            if not self._pump() and self._link_changed():
                self._rest_soon()

    def _writable(self) -> None:
        if self._link is not None:
            self._link.write()
            self._pump()
            self._rest_soon()

    def _tick(self) -> None:
        self._ticker = None
        if self._link is not None:
            self._link.tick()
            self._pump()
            self._rest_soon()

    def _due(self) -> None:
        self._timer = self._timer_at = None
        if self._client._session is not None:
            self._client._feed(self._client._session, DeadlineReached())
            self.perform()

    def _pump(self) -> bool:
        """Feed what has happened on the link, until nothing more does; whether anything did."""
        fed = False
        while self._link is not None and self._client._session is not None:
            happened = self._link.drain()
            if not happened:
                break
            fed = True
            for what in happened:
                self._client._feed(self._client._session, what)
            self.perform()
        return fed

    def perform(self) -> None:
        """Do what is to be done, then wait for what comes next."""
        if self._performing:
            return
        self._performing = True
        try:
            if self._client._tells_first:
                self._client._tell_all()
            more = True
            while more:
                while self._client._todo:
                    self._do(self._client._todo.popleft())
                self._client._tell_all()
                more = bool(self._client._todo)
        finally:
            self._performing = False
        self._rest_soon()

    def _rest_soon(self) -> None:
        """Do what nobody waits for after a moment, but at once where the loop waits wrongly."""
        link = self._link
        if (-1 if link is None else link.fileno()) != self._reading:
            self._rest()  # before its descriptor is somebody else's
        elif self._resting is None:
            self._resting = asyncio.get_running_loop().call_later(LINGER, self._rest)

    def _link_changed(self) -> bool:
        """Whether the link is another, is broken, or waits for another thing than the loop does."""
        link = self._link
        if link is None:
            return self._reading >= 0 or self._ticker is not None
        return link.fileno() != self._reading or link.wants_write() != self._writing

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
            self._opening = asyncio.get_running_loop().create_task(self._open())
        elif isinstance(effect, CloseLink):
            self._close(clean=effect.clean)
        elif isinstance(effect, LoginEnded):
            if self._login is not None and not self._login.done():
                if effect.error is None:
                    self._login.set_result(None)
                else:
                    self._login.set_exception(effect.error)
        elif isinstance(effect, Closed):
            self.closed.set()

    async def _open(self) -> None:
        session = self._client._session
        if session is None:
            return
        link = self._client._new_link(session)
        opening = asyncio.create_task(asyncio.to_thread(link.open))
        try:
            await asyncio.shield(opening)
        except LoginError as error:
            self._opening = None
            self._client._feed(session, LinkFailed(error))
            self.perform()
        except asyncio.CancelledError:
            # Connecting blocks in its thread to its own time-out; what comes of it is closed.
            opening.add_done_callback(lambda done: _discard(done, link))
            raise
        else:
            self._opening = None
            self._link = link
            self._client._feed(session, LinkOpened())
            self._pump()
            self._rest_soon()

    def _close(self, *, clean: bool) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        link, self._link = self._link, None
        self._rearm()
        if link is not None:
            link.close(clean=clean)

    def _rearm(self) -> None:
        """Let the loop wait for what the link and the session wait for."""
        loop = asyncio.get_running_loop()
        link = self._link
        fd = -1 if link is None else link.fileno()
        if fd != self._reading:
            if self._reading >= 0:
                loop.remove_reader(self._reading)
                loop.remove_writer(self._reading)
                self._writing = False
            if fd >= 0:
                loop.add_reader(fd, self._readable)
            self._reading = fd
        if link is not None and fd >= 0 and link.wants_write() != self._writing:
            self._writing = not self._writing
            if self._writing:
                loop.add_writer(fd, self._writable)
            else:
                loop.remove_writer(fd)
        if link is None and self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        elif link is not None and (fd < 0 or self._ticker is None):
            if self._ticker is not None:
                self._ticker.cancel()
            # A link that broke while something was written has a last word to say.
            self._ticker = loop.call_later(0 if fd < 0 else self._client._tick_every, self._tick)
        self._rearm_timer(loop)

    def _rearm_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        at = None if self._client._session is None else self._client._session.deadline()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at is not None:
            self._timer = loop.call_later(max(0.0, at - self._client._clock()), self._due)


def _discard(opening: asyncio.Task[None], link: Link) -> None:
    if not opening.cancelled() and opening.exception() is None:
        link.close(clean=False)
