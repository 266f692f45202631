"""The threads of the threaded face: one for the network, one for each listener.

Session and link belong to whoever holds the guard; one thread at a time, who leads, waits on them.
That is the network thread while there is work for the others; else a listener with nothing to hear
leads in its place, and so hears what comes at once, without a switch of threads. It hands the lead
back before it calls its listener, whatever that does then.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any

from .effects import DeadlineReached
from .errors import LoginError
from .face import LINGER, LOGOUT_TIMEOUT, Face
from .invitations import Event
from .links import carry_out
from .listener import CallEventListener
from .session import Closed, CloseLink, LoginEnded, OpenLink, Session, SessionEffect
from .transport import Link, LinkFailed, LinkOpened

log = logging.getLogger("bellwire")

#: How often in a row it lingers at most: then acknowledgements and the keep-alive have their turn.
MOST_LINGERS = 10


class ListenerThread:
    """Calls one listener's methods, one after the other, on a thread of its own."""

    def __init__(self, listener: CallEventListener, name: str) -> None:
        self.listener = listener
        self.leads: NetworkThread | None = None
        self._queue: SimpleQueue[Event | NetworkThread | None] = SimpleQueue()
        self._put = 0  # written by who holds the guard
        self._done = 0  # written by this thread
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    @property
    def idle(self) -> bool:
        """Whether it has heard everything."""
        return self._put == self._done

    def put(self, event: Event | None) -> None:
        """Let it hear ``event``, or, None, come to its end; hold the guard."""
        self._put += 1
        self._queue.put(event)
        if self.leads is not None:
            self.leads.wake()

    def lead(self, network: NetworkThread) -> None:
        """Let it lead until it has something to hear."""
        self._queue.put(network)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            if isinstance(event, NetworkThread):
                event.lead(self)
                continue
            try:
                getattr(self.listener, f"on_{event.name}")(*event.args)
            except Exception:
                log.exception("call %s: listener %r raised in on_%s", event.call_id or "-",
                              self.listener, event.name)  # fmt: skip
            self._done += 1


class NetworkThread:
    """Waits for the link, commands that need it, and deadlines; one turn for each.

    ``listeners`` says which there are now. The link belongs to whoever holds the guard: the thread
    that gives a command writes its publish itself, and wakes who leads only for what is left.
    Nothing waits, and none of the application's listeners runs, while the guard is held.
    """

    def __init__(
        self,
        client: Face[Any, Any],
        session: Session,
        listeners: Callable[[], Iterable[ListenerThread]] = tuple,
    ) -> None:
        self._client = client
        self._listeners = listeners
        self._leader = 0  # the thread's identifier
        self._lead_again: SimpleQueue[None] = SimpleQueue()  # said to the network thread
        self._failure: BaseException | None = None  # of a listener's thread that led
        self._guard = client._guard
        self._session = session
        self.login_ended = threading.Event()
        self.login_error: LoginError | None = None
        self._link: Link | None = None
        self._opening: object | None = None  # the token of the attempt underway
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
        self._done = False
        self._thread = threading.Thread(
            target=self._run, name=f"bellwire-{client.peer_id}", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end, unless asked on that very thread."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def leave(self) -> None:
        """Wait until the goodbye is said, but not for long."""
        if threading.current_thread() is self._thread:
            return
        self._thread.join(LOGOUT_TIMEOUT)
        if self._thread.is_alive():
            with self._guard:
                self._session.give_up(self._client._clock())
                self._client._sort(self._session)
                self.perform()
            self._thread.join(LOGOUT_TIMEOUT)

    def perform(self) -> None:
        """Say on the wire what is to be said, then tell the app; hold the guard.

        What only the network thread does, and a deadline before the one it waits for, wake it.
        """
        client = self._client
        mine = threading.get_ident() == self._leader
        if client._tells_first:
            client._tell_all()
        while True:
            while client._todo:
                if carry_out(client._todo[0], self._link):
                    client._todo.popleft()
                elif mine:
                    self._do(client._todo.popleft())
                else:
                    break
            client._tell_all()
            if not mine or not client._todo:
                break
        if not mine and (client._todo or self._is_due()):
            self.wake()

    def _is_due(self) -> bool:
        """Whether the thread has to look before what it waits for."""
        link = self._link
        return self._session.due_before(self._waits_until) or (
            link is not None and (link.fileno() < 0 or link.wants_write())
        )

    def wake(self) -> None:
        """Let who leads take a turn, unless it is about to; hold the guard."""
        if self._waits_until > -math.inf:
            self._waits_until = -math.inf
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake_w, b"\0")

    # --- a turn: feed, perform, re-arm; then wait ------------------------------------------------

    def _run(self) -> None:
        try:
            ready: list[tuple[int, int]] = []
            while self._wait(None, ready):
                self._lead_again.get()
                ready = self._select(LINGER)  # the listener's first, too
                if self._failure is not None:
                    raise self._failure
        except BaseException:
            log.exception("%s: the network thread failed; this is a defect", self._client.peer_id)
            raise
        finally:
            with self._guard:
                self._done, self._waits_until = True, -math.inf
                if self._link is not None:
                    self._link.close(clean=False)
                os.close(self._wake_r)
                os.close(self._wake_w)
            if not self.login_ended.is_set():
                self.login_error = LoginError("the client failed within; see the log")
                self.login_ended.set()

    def lead(self, listener: ListenerThread) -> None:
        """Wait in the network thread's place, on the thread of a ``listener`` that is idle."""
        try:
            self._wait(listener, [])
        except BaseException as error:  # noqa: BLE001 - raised where it belongs
            self._failure = error
        finally:
            listener.leads = None
            self._lead_again.put(None)

    def _wait(self, listener: ListenerThread | None, ready: list[tuple[int, int]]) -> bool:
        """Lead until another is to; False if all is over. ``listener`` None: the network thread."""
        lingered = 0
        while True:
            with self._guard:
                self._leader = threading.get_ident()
                busy = self._turn(ready) and lingered < MOST_LINGERS
                if self._done:
                    return False
                lingered = lingered + 1 if busy else 0
                timeout = LINGER if busy else self._rearm()
                if self._passes_on(listener, busy=busy):
                    return True
            ready = self._select(timeout)

    def _passes_on(self, listener: ListenerThread | None, *, busy: bool) -> bool:
        """Whether another is to lead now, which a listener's thread is then told."""
        if listener is not None:
            listener.leads = self if listener.idle else None
            passes = listener.leads is None
        else:
            heir = None if busy else next((one for one in self._listeners() if one.idle), None)
            passes = heir is not None
            if heir is not None:
                heir.lead(self)
        if passes:
            self._leader = 0
        return passes

    def _turn(self, ready: list[tuple[int, int]]) -> bool:
        """Read and write what is ready, feed the session, do what it says; whether that was any."""
        client, session, link = self._client, self._session, self._link
        self._waits_until = -math.inf
        moved = False
        for fd, events in ready:
            if fd == self._wake_r:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_r, 4096)
            elif link is not None and self._registered is not None and fd == self._registered[0]:
                if events & ~select.POLLOUT:  # what is broken is read, too, which says how
                    link.read()
                if events & select.POLLOUT:
                    link.write()
                moved = True
        happened = link.drain() if link is not None else []
        for what in happened:
            client._feed(session, what)
        if not happened and client._clock() >= self._due_at:
            client._feed(session, DeadlineReached())
        if client._todo or client._tells:
            self.perform()
        if link is None or link is not self._link or link.wants_write():
            return False
        return moved or bool(happened)

    def _rearm(self) -> float | None:
        """Acknowledge, and register what to wait for; how long to wait at most, in seconds."""
        client, link = self._client, self._link
        if link is not None:
            link.acknowledge()
            now = time.monotonic()
            if now - self._ticked >= client._tick_every:
                self._ticked = now
                link.tick()
        self._register(link)
        if link is not None and link.fileno() < 0:
            return 0.0  # it broke while something was written: it has a last word to say
        deadline, now = self._session.deadline(), client._clock()
        until = self._due_at = math.inf if deadline is None else deadline
        if link is not None:
            until = min(until, now + client._tick_every)
        self._waits_until = until
        return None if until == math.inf else max(0.0, until - now)

    def _do(self, effect: SessionEffect) -> None:
        """Do what concerns more than the link."""
        if isinstance(effect, OpenLink):
            self._open()
        elif isinstance(effect, CloseLink):
            self._close(clean=effect.clean)
        elif isinstance(effect, LoginEnded):
            self.login_error = effect.error
            self.login_ended.set()
        elif isinstance(effect, Closed):
            self._done = True

    def _open(self) -> None:
        """Connect on a thread of its own: timers and commands do not wait for a far broker."""
        link = self._client._new_link(self._session)
        attempt = self._opening = object()

        def connect() -> None:
            failure: LinkFailed | None = None
            try:
                link.open()
            except LoginError as error:
                failure = LinkFailed(error)
            with self._guard:
                if self._opening is not attempt or self._done:
                    link.close(clean=False)
                    return
                self._opening = None
                if failure is None:
                    self._link = link
                self._client._feed(self._session, failure or LinkOpened())
                self.perform()
                self.wake()

        threading.Thread(
            target=connect, name=f"bellwire-{self._client.peer_id}-connect", daemon=True
        ).start()

    def _close(self, *, clean: bool) -> None:
        self._opening = None
        link, self._link = self._link, None
        if link is not None:
            self._register(None)
            link.close(clean=clean)

    def _select(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait, ``timeout`` seconds at most, for what is registered."""
        return self._poll.poll(None if timeout is None else math.ceil(timeout * 1000))

    def _register(self, link: Link | None) -> None:
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
