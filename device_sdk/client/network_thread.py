"""The threads of the threaded client: one for the network, one for each listener.

Session and link belong to whoever holds the guard. Only the network thread waits on them, opens and
closes; nothing waits, and no code of the application runs, while the guard is held.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from ..core.connection import Closed, CloseLink, LoginEnded, LoginSession, OpenLink, SessionEffect
from ..core.effects import DeadlineReached, LinkFailed, LinkOpened
from ..errors import ClientClosed, LoginError
from . import logs
from .base import LOGOUT_TIMEOUT, BaseClient
from .feeding import BATCH_DELAY
from .invitations import Event
from .link.factory import GuardedLink, carry_out
from .link.opening import Opening
from .listener import CallEventListener

log = logging.getLogger("bellwire")

#: How often in a row it lingers at most: then acknowledgements and the keep-alive have their turn.
MAX_BATCHES = 10


class ListenerThread:
    """Calls one listener's methods, one after the other, on a thread of its own.

    ``after``: the thread that tells this listener what came before it was removed; this one begins
    when that has come to its end, so that no listener is told two things at once.
    """

    def __init__(
        self, listener: CallEventListener, name: str, after: ListenerThread | None = None
    ) -> None:
        self.listener = listener
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._after = after
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def start_again(self) -> None:
        """Start the thread anew where a fork has left it behind."""
        if not self.thread.is_alive():
            self.thread = threading.Thread(target=self._run, name=self.thread.name, daemon=True)
            self.thread.start()

    def put(self, event: Event | None) -> None:
        """Let it hear ``event``, or, None, come to its end."""
        self._queue.put(event)

    def _run(self) -> None:
        if self._after is not None:
            self._after.thread.join()
            self._after = None
        while (event := self._queue.get()) is not None:
            try:
                getattr(self.listener, f"on_{event.name}")(*event.args)
            except BaseException as error:  # noqa: BLE001 - sys.exit(), too, ends only this call
                logs.log_safely(log, logging.ERROR, "call %s: listener %r raised in on_%s",
                                event.call_id or "-", self.listener, event.name,
                                error=error)  # fmt: skip


class NetworkThread:
    """Waits for the link, commands that need it, and deadlines; one turn for each.

    The thread that gives a command writes its publish itself, and wakes this one only for what is
    left. However it ends, it leaves no link, and nobody who waits for its login.
    """

    def __init__(self, client: BaseClient[Any, Any], session: LoginSession) -> None:
        self._client = client
        self._guard = client._guard
        self._session = session
        self.login_ended = threading.Event()
        self.login_error: LoginError | ClientClosed | None = None
        self._link: GuardedLink | None = None
        self._opening: Opening | None = None
        self._poll = select.poll()  # no wrapper: it is on every ring's way
        self._registered: tuple[int, int] | None = None
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        self._poll.register(self._wake_r, select.POLLIN)
        #: Until when it waits, on the client's clock; while it is awake it will look by itself.
        self._waits_until = -math.inf
        self._due_at = math.inf  # the deadline when it last looked
        self._ticked = 0.0
        self._pulses: deque[Callable[[], None]] = deque()
        self._done = False
        self._ended = False
        self._thread = threading.Thread(
            target=self._run, name=f"bellwire-{client.peer_id}", daemon=True
        )

    def start(self) -> None:
        """Start the thread; if there is none to be had, nothing is left of this, and it raises."""
        try:
            self._thread.start()
        except BaseException:
            self._end()
            raise

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(timeout)

    def leave(self) -> None:
        """Wait until the goodbye is said, but not for long."""
        self.join(LOGOUT_TIMEOUT)
        if self._thread.is_alive():
            self.abandon()

    def abandon(self) -> None:
        """Stop waiting for the broker, whatever is underway."""
        with self._guard:
            self._client._give_up(self._session)
            self.perform()
        self.join(LOGOUT_TIMEOUT)

    def finish(self) -> None:
        """Come to the end, for the client has failed; hold the guard."""
        self._done = True
        self.wake()

    def forget(self) -> None:
        """Let go of what is the parent's, in a child process; the thread is not here."""
        self._done = True
        if self._link is not None:
            self._link.forget()

    def pulse(self, call: Callable[[], None]) -> bool:
        """Have ``call`` called by this thread's next turn, which is to be now."""
        with self._guard:
            self._pulses.append(call)
            self.wake()
            return not self._ended

    def perform(self) -> None:
        """Say on the wire what is to be said, then tell the app; hold the guard.

        What only the network thread does, and a deadline before the one it waits for, wake it.
        """
        client = self._client
        mine = threading.get_ident() == self._thread.ident
        if client._dispatch_first:
            client._dispatch_all()
        while client._todo:
            if carry_out(client._todo[0], self._link):
                client._todo.popleft()
            elif mine:
                self._do(client._todo.popleft())
            else:
                break
        client._dispatch_all()  # a group's next leg is sent in there, and performed
        if not mine and (client._todo or self._is_due()):
            self.wake()

    def _is_due(self) -> bool:
        """Whether the thread has to look before what it waits for."""
        link = self._link
        return self._session.due_before(self._waits_until) or (
            link is not None and (link.fileno() < 0 or link.wants_write())
        )

    def wake(self) -> None:
        """Let it take a turn, unless it is about to; hold the guard."""
        if self._waits_until > -math.inf and not self._ended:
            self._waits_until = -math.inf
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake_w, b"\0")

    # --- a turn: feed, perform, re-arm; then wait ------------------------------------------------

    def _run(self) -> None:
        try:
            self._turns()
        except BaseException as error:  # noqa: BLE001 - it becomes the client's end, and is told
            self._client._fail(error)
        finally:
            self._end()
            self._client._records.flush()

    def _end(self) -> None:
        with self._guard:
            self._done = self._ended = True
            self._opening = None
            if self._link is not None:
                self._link.close(clean=False)
                self._link = None
            os.close(self._wake_r)
            os.close(self._wake_w)
            if not self.login_ended.is_set():
                self.login_error = ClientClosed("the network thread ended")
                self.login_ended.set()

    def _turns(self) -> None:
        client, batched = self._client, 0
        ready: list[tuple[int, int]] = []
        while True:
            busy = self._turn(ready) and batched < MAX_BATCHES
            if self._done:
                return
            batched = batched + 1 if busy else 0
            if busy:
                timeout = BATCH_DELAY
            else:
                self._rearm(client._time())
                timeout = self._timeout()
            client._records.flush()
            ready = self._poll.poll(math.ceil(timeout * 1000))

    def _turn(self, ready: list[tuple[int, int]]) -> bool:
        """Read and write what is ready, feed the session, do what it says; whether that was any."""
        client, session = self._client, self._session
        with self._guard:
            self._waits_until = -math.inf
            link = self._link
            moved = self._read_and_write(ready)
            happened = link.drain() if link is not None else []
            pulses, self._pulses = self._pulses, deque()
        for pulse in pulses:
            pulse()
        now, wall = client._time(), client._wall_for(happened)  # the application's code
        with self._guard:
            if self._done:
                return False
            for what in happened:
                client._feed(session, what, now, wall)
            if not happened and now >= self._due_at:
                client._feed(session, DeadlineReached(), now)
            if client._todo or client._core_events:
                self.perform()
            if link is None or link is not self._link or link.wants_write():
                return False
            return moved or bool(happened)

    def _read_and_write(self, ready: list[tuple[int, int]]) -> bool:
        moved = False
        for fd, events in ready:
            link = self._link
            if fd == self._wake_r:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_r, 4096)
            elif link is not None and self._registered is not None and fd == self._registered[0]:
                if events & ~select.POLLOUT:  # what is broken is read, too, which says how
                    link.read()
                if events & select.POLLOUT:
                    link.write()
                moved = True
        return moved

    def _rearm(self, now: float) -> None:
        """Acknowledge, look after the link, and register what to wait for."""
        client = self._client
        with self._guard:
            link = self._link
            if link is not None:
                link.acknowledge()
                client._look_after_sleep(link, now)
                ticks = time.monotonic()
                if ticks - self._ticked >= client._tick_every:
                    self._ticked = ticks
                    link.tick()
            self._register(link)
            deadline = self._session.deadline()
            self._due_at = math.inf if deadline is None else deadline
            until = min(self._due_at, now + client._tick_every)
            # A link that broke while something was written has a last word to say.
            broken = link is not None and link.fileno() < 0
            self._waits_until = now if broken or self._pulses or client._todo else until

    def _timeout(self) -> float:
        """How long to wait at most, in seconds."""
        return max(0.0, self._waits_until - self._client._time())

    def _do(self, effect: SessionEffect) -> None:
        """Do what concerns more than the link."""
        if isinstance(effect, OpenLink):
            self._open()
        elif isinstance(effect, CloseLink):
            self._close(clean=effect.clean)
        elif isinstance(effect, LoginEnded):
            self.login_error = effect.error
            self.login_ended.set()
        else:
            assert isinstance(effect, Closed)  # noqa: S101 - the links' are carried out
            self._done = True

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
            self._opened(attempt, failure)
        except BaseException as error:  # noqa: BLE001 - as in _run
            self._client._fail(error)
            if self._link is not attempt.link:
                attempt.link.close(clean=False)
        self._client._records.flush()

    def _opened(self, attempt: Opening, failure: LinkFailed | None) -> None:
        now = self._client._time()
        with self._guard:
            if self._opening is not attempt or self._done:
                attempt.link.close(clean=False)
                return
            self._opening = None
            if failure is None:
                self._link = attempt.link
            self._client._feed(self._session, failure or LinkOpened(), now)
            self.perform()
            self.wake()

    def _close(self, *, clean: bool) -> None:
        self._opening = None
        link, self._link = self._link, None
        if link is not None:
            self._register(None)
            link.close(clean=clean)

    def _register(self, link: GuardedLink | None) -> None:
        """Wait for what this link waits for."""
        wanted: tuple[int, int] | None = None
        if link is not None and (fd := link.fileno()) >= 0:
            wanted = (fd, select.POLLIN | (select.POLLOUT if link.wants_write() else 0))
        if wanted == self._registered:
            return
        if self._registered is not None:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._registered[0])
        if wanted is not None:
            self._poll.register(*wanted)
        self._registered = wanted
