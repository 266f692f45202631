"""The threads of the threaded face: one for the network, one for each listener.

The network thread owns the connection; commands of other threads change the session under the
guard, leave what is to be done in the face's list, and wake it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from .effects import DeadlineReached
from .errors import LoginError
from .face import LOGOUT_TIMEOUT, Face, carry_out
from .invitations import Event
from .listener import CallEventListener
from .session import Closed, CloseLink, LoginEnded, OpenLink, Session
from .transport import Link, LinkFailed

log = logging.getLogger("bellwire")


class ListenerThread:
    """Calls one listener's methods, one after the other, on a thread of its own."""

    def __init__(self, listener: CallEventListener, name: str) -> None:
        self.listener = listener
        self.put: Callable[[Event | None], None]
        queue: SimpleQueue[Event | None] = SimpleQueue()
        self.put = queue.put
        self._queue = queue
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            try:
                getattr(self.listener, f"on_{event.name}")(*event.args)
            except Exception:
                log.exception("call %s: listener %r raised in on_%s", event.call_id or "-",
                              self.listener, event.name)  # fmt: skip


class NetworkThread:
    """The network thread: the only one that touches a link."""

    def __init__(self, client: Face[Any, Any], session: Session) -> None:
        self._client = client
        self._guard = client._guard
        self._session = session
        self.login_ended = threading.Event()
        self.login_error: LoginError | None = None
        self._link: Link | None = None
        self._opening: object | None = None  # the token of the attempt underway
        self._selector = selectors.DefaultSelector()
        self._registered: tuple[int, int] | None = None
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._awake = False
        self._wake_lock = threading.Lock()
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

    def wake(self) -> None:
        """Let it perform what is to be done; cheap when it is awake, or the caller itself."""
        if self._awake:
            return
        with self._wake_lock:  # the descriptor may be somebody else's once it is closed
            if not self._done:
                self._awake = True
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wake_w, b"\0")

    def leave(self) -> None:
        """Wait until the goodbye is said, but not for long."""
        if threading.current_thread() is self._thread:
            return
        self._thread.join(LOGOUT_TIMEOUT)
        if self._thread.is_alive():
            with self._guard():
                self._session.give_up(self._client._clock())
                self._client._sort(self._session)
            self.wake()
            self._thread.join(LOGOUT_TIMEOUT)

    # --- the loop: wait, feed, perform, re-arm -------------------------------------------------

    def _run(self) -> None:
        try:
            while self._perform():
                self._feed(self._wait())
        except BaseException:
            log.exception("%s: the network thread failed; this is a defect", self._client.peer_id)
            raise
        finally:
            self._done = True
            if self._link is not None:
                self._link.close(clean=False)
            if not self.login_ended.is_set():
                self.login_error = LoginError("the client failed within; see the log")
                self.login_ended.set()
            self._selector.close()
            with self._wake_lock:
                os.close(self._wake_r)
                os.close(self._wake_w)

    def _wait(self) -> float | None:
        """Wait for the link, a command or the deadline, which is returned; read and write."""
        link = self._link
        self._register(link)
        with self._guard():
            deadline = self._session.deadline()
            if self._client._todo:
                deadline = 0.0
        timeout = None if deadline is None else max(0.0, deadline - self._client._clock())
        if link is not None:
            every = self._client._tick_every
            timeout = every if timeout is None else min(timeout, every)
            if link.fileno() < 0:  # it broke while something was written
                timeout = 0.0
        ready = self._selector.select(timeout)
        self._awake = True
        for key, events in ready:
            if key.fd == self._wake_r:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_r, 4096)
            elif link is not None:
                if events & selectors.EVENT_READ:
                    link.read()
                if events & selectors.EVENT_WRITE:
                    link.write()
        now = time.monotonic()
        if link is not None and now - self._ticked >= self._client._tick_every:
            self._ticked = now
            link.tick()
        return deadline

    def _feed(self, deadline: float | None) -> None:
        client, session = self._client, self._session
        happened = self._link.drain() if self._link is not None else []
        with self._guard():
            for what in happened:
                client._feed(session, what, tell=False)
            if not happened and deadline is not None and deadline <= client._clock():
                client._feed(session, DeadlineReached(), tell=False)
            # From here a command has to wake this thread again.
            self._awake = False

    def _perform(self) -> bool:
        """Do what is to be done; whether anything can still come."""
        client = self._client
        while True:
            with self._guard():
                if not client._todo:
                    client._tell_all()
                if not client._todo:
                    return not self._done
                todo = list(client._todo)
                client._todo.clear()
            for effect in todo:
                link = self._link
                if isinstance(effect, OpenLink):
                    self._open()
                elif isinstance(effect, CloseLink):
                    self._close(clean=effect.clean)
                elif isinstance(effect, LoginEnded):
                    self.login_error = effect.error
                    self.login_ended.set()
                elif isinstance(effect, Closed):
                    self._done = True
                elif link is not None:
                    carry_out(effect, link)

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
            with self._guard():
                if self._opening is not attempt or self._done:
                    link.close(clean=False)
                    return
                self._opening = None
                if failure is None:
                    self._link = link
                else:
                    self._client._feed(self._session, failure)
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

    def _register(self, link: Link | None) -> None:
        """Let the selector wait for what this link waits for."""
        wanted: tuple[int, int] | None = None
        if link is not None and (fd := link.fileno()) >= 0:
            write = selectors.EVENT_WRITE if link.wants_write() else 0
            wanted = (fd, selectors.EVENT_READ | write)
        if wanted == self._registered:
            return
        if self._registered is not None:
            with contextlib.suppress(KeyError, OSError, ValueError):
                self._selector.unregister(self._registered[0])
        if wanted is not None:
            self._selector.register(*wanted)
        self._registered = wanted
