"""The threaded face: :class:`SignalingClient` and its :class:`CallManager`.

Threads: one network thread owns the connection and performs everything; each listener has a thread
of its own, on which its methods are called one after the other, in the order of events, never under
a lock; while a connection is being made there is one more. A listener that blocks delays only
itself: nothing waits for it, and no event is dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from .callee_side import Screen
from .cells import AnswerReason
from .effects import DeadlineReached, Publish, Subscribe, Unsubscribe
from .errors import ClientClosed, LoginError
from .face import LOGOUT_TIMEOUT, Face
from .invitations import (
    Event,
    LocalInvitationBase,
    Outcome,
    RemoteInvitationBase,
    outcome_of,
)
from .listener import CallEventListener
from .policy import Policy
from .ring_group import GroupOutcome, RingGroupBase, RingPlan
from .session import Closed, CloseLink, LoginEnded, OpenLink, Session
from .topics import DEFAULT_REALM
from .transport import Link, LinkFactory, LinkFailed, Tls

log = logging.getLogger("bellwire")


class LocalInvitation(LocalInvitationBase):
    """The caller's end of a call; made by :meth:`CallManager.create_local_invitation`."""

    def __init__(self, callee_id: str, call_id: str, group: bytes | None = None) -> None:
        super().__init__(callee_id, call_id, group)
        self._over = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, ``timeout`` seconds at most; whether it has ended."""
        return self._over.wait(timeout)


class RemoteInvitation(RemoteInvitationBase):
    """The callee's end of a call; comes with ``on_remote_invitation_received``."""

    def __init__(self, record: Any) -> None:
        super().__init__(record)
        self._over = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, ``timeout`` seconds at most; whether it has ended."""
        return self._over.wait(timeout)


class RingGroup(RingGroupBase):
    """Several peers rung for one answer; made by :meth:`CallManager.ring`."""

    legs: dict[str, LocalInvitation]  # type: ignore[assignment]  # this face's invitations

    def __init__(self, plan: RingPlan, group: bytes) -> None:
        super().__init__(plan, group)
        self._end = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, ``timeout`` seconds at most; whether it has ended."""
        return self._end.wait(timeout)


class _ListenerThread:
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


class SignalingClient(Face[LocalInvitation, RemoteInvitation]):
    """One peer, logged in to one broker; usable from any thread.

    ``with SignalingClient("kitchen", broker="mqtt://broker.lan") as client:`` logs in and out.

    ``broker``: ``mqtt://``, ``mqtts://``, ``ws://`` or ``wss://`` and host[:port]. ``username``
    defaults to the peer id where there is a ``password``. ``tls``: a :class:`Tls`. ``keepalive`` in
    whole seconds; ``ring_timeout``, ``ack_timeout``, ``accept_timeout`` and the other
    :class:`Settings` in seconds. ``screen`` decides before anything rings. Bad arguments raise
    :class:`InvalidArgument` here, before any network use.
    """

    _local = LocalInvitation
    _remote = RemoteInvitation
    _group = RingGroup

    def __init__(
        self,
        peer_id: str,
        broker: str | LinkFactory = "mqtt://127.0.0.1:1883",
        *,
        username: str | None = None,
        password: str | None = None,
        tls: Tls | None = None,
        realm: str = DEFAULT_REALM,
        keepalive: int = 15,
        screen: Screen | None = None,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        **settings: float,
    ) -> None:
        super().__init__(
            peer_id,
            broker,
            username=username,
            password=password,
            tls=tls,
            realm=realm,
            keepalive=keepalive,
            screen=screen,
            policy=policy,
            clock=clock,
            wall=wall,
            **settings,
        )
        self._lock = threading.RLock()
        self._listeners: list[_ListenerThread] = []
        self._owner: _Owner | None = None
        self.call_manager = CallManager(self)

    # --- logging in and out ------------------------------------------------------------------

    def login(self, timeout: float = 10, *, keep_trying: bool = False) -> None:
        """Log in; returns once this peer can be called.

        Raises a :class:`LoginError` that says what went wrong: at once, or, with ``keep_trying``
        (for a device that may be up before its broker), when ``timeout`` seconds are over.
        """
        with self._lock:
            if self._session is not None:
                if self._session.closed:
                    raise self._closed_error()
                raise ClientClosed(f"{self.peer_id} is logged in already")
            session = self._session = self._new_session(keep_trying=keep_trying)
            owner = self._owner = _Owner(self, session)
            session.start(timeout, self._clock())
            self._sort(session)
            owner.start()
        owner.login_ended.wait()
        if owner.login_error is not None:
            owner.join()
            with self._lock:
                self._session = self._owner = None  # a failed login may be tried again
            raise owner.login_error

    def logout(self) -> None:
        """Log out: calls made here are canceled, presence goes offline; waits at most 2 s for it.

        Does nothing when not logged in. Afterwards the client is done: make a new one.
        """
        owner = self._owner
        with contextlib.suppress(ClientClosed):
            self._log_out()
        if owner is not None:
            owner.leave()
        with self._lock:
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.put(None)
        for listener in listeners:
            if listener.thread is not threading.current_thread():
                listener.thread.join(LOGOUT_TIMEOUT)

    def __enter__(self) -> Self:
        if self._session is None:
            self.login()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.logout()

    def call(
        self,
        callee_id: str,
        content: Any = None,
        *,
        channel_id: str | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        """Call and wait for the end; ``timeout`` seconds of ringing, None for ``ring_timeout``.

        The outcome is true if the call was accepted. Ctrl-C cancels the call.
        """
        invitation = self.create(callee_id)
        invitation.content, invitation.channel_id = content, channel_id
        self.send(invitation, timeout)
        try:
            invitation.wait()
        except BaseException:
            with contextlib.suppress(Exception):
                self.cancel(invitation)
            raise
        return outcome_of(invitation)

    def ring(
        self,
        peers: Iterable[str],
        content: Any = None,
        *,
        channel_id: str | None = None,
        strategy: str = "parallel",
        leg_timeout: float | None = None,
    ) -> GroupOutcome:
        """Ring several and wait for the end, as :meth:`CallManager.ring`; Ctrl-C cancels all."""
        group = self.call_manager.ring(
            peers, content, channel_id=channel_id, strategy=strategy, leg_timeout=leg_timeout
        )
        try:
            group.wait()
        except BaseException:
            with contextlib.suppress(Exception):
                self.cancel_group(group)
            raise
        return group.outcome

    # --- what Face wants ---------------------------------------------------------------------

    def _guard(self) -> contextlib.AbstractContextManager[Any]:
        return self._lock

    def _wake(self) -> None:
        if self._owner is not None:
            self._owner.wake()

    def _deliver(self, event: Event) -> None:
        for listener in self._listeners:
            listener.put(event)

    def _told_end(self, invitation: LocalInvitation | RemoteInvitation) -> None:
        invitation._over.set()

    def _told_group_end(self, group: RingGroupBase) -> None:
        if isinstance(group, RingGroup):
            group._end.set()


class CallManager:
    """Makes, sends, cancels, accepts and refuses invitations, with Agora's names."""

    def __init__(self, client: SignalingClient) -> None:
        self._client = client

    def create_local_invitation(self, callee_id: str) -> LocalInvitation:
        """Make an invitation, IDLE: set ``content`` and ``channel_id``, then send it."""
        return self._client.create(callee_id)

    def send_local_invitation(
        self, invitation: LocalInvitation, ring_timeout: float | None = None
    ) -> None:
        """Send an IDLE invitation; raises ALREADY_SENT, ALREADY_END or INVALID_ARGUMENT.

        Before login it fails with NOT_LOGGEDIN, told as an event. ``ring_timeout`` in seconds
        replaces the client's for this call.
        """
        self._client.send(invitation, ring_timeout)

    def cancel_local_invitation(self, invitation: LocalInvitation) -> None:
        """Cancel what is underway; raises NOT_STARTED or ALREADY_END."""
        self._client.cancel(invitation)

    def accept_remote_invitation(self, invitation: RemoteInvitation, response: Any = None) -> None:
        """Accept what rings; the caller decides: wait for the event. Raises ALREADY_…."""
        self._client.accept(invitation, response)

    def refuse_remote_invitation(
        self,
        invitation: RemoteInvitation,
        response: Any = None,
        reason: AnswerReason = AnswerReason.DECLINED,
    ) -> None:
        """Refuse what rings; raises ALREADY_ACCEPT or ALREADY_END."""
        self._client.refuse(invitation, response, reason)

    def ring(
        self,
        peers: Iterable[str],
        content: Any = None,
        *,
        channel_id: str | None = None,
        strategy: str = "parallel",
        leg_timeout: float | None = None,
    ) -> RingGroup:
        """Ring several peers for one answer: all at once, or ``"sequential"`` in their order.

        At most one wins; the others see *answered elsewhere*. ``leg_timeout`` seconds each leg
        rings (in a sequence 20 by default). ``group.wait()``, then ``group.outcome``.
        """
        group = self._client.ring_all(
            peers, content, channel_id=channel_id, strategy=strategy, leg_timeout=leg_timeout
        )
        assert isinstance(group, RingGroup)  # noqa: S101 - what this face makes
        return group

    def cancel_ring(self, group: RingGroup) -> None:
        """Cancel a whole ring group; raises ALREADY_END."""
        self._client.cancel_group(group)

    def get(self, call_id: str) -> LocalInvitation | RemoteInvitation | None:
        """The invitation of that call id, underway or still held by the app; else None."""
        return self._client.find(call_id)

    def add_event_listener(self, listener: CallEventListener) -> None:
        """Let ``listener`` hear everything from now on, on a thread of its own."""
        client = self._client
        with client._lock:
            if all(known.listener is not listener for known in client._listeners):
                name = f"bellwire-{client.peer_id}-listener"
                client._listeners = [*client._listeners, _ListenerThread(listener, name)]

    def remove_event_listener(self, listener: CallEventListener) -> None:
        """Let ``listener`` hear nothing new; what it is hearing it hears to the end."""
        client = self._client
        with client._lock:
            for known in client._listeners:
                if known.listener is listener:
                    known.put(None)
            client._listeners = [k for k in client._listeners if k.listener is not listener]


class _Owner:
    """The network thread: the only one that touches a link."""

    def __init__(self, client: SignalingClient, session: Session) -> None:
        self._client = client
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
        if not self._awake and not self._done:
            self._awake = True
            with contextlib.suppress(OSError):
                os.write(self._wake_w, b"\0")

    def leave(self) -> None:
        """Wait until the goodbye is said, but not for long."""
        if threading.current_thread() is self._thread:
            return
        self._thread.join(LOGOUT_TIMEOUT)
        if self._thread.is_alive():
            with self._client._lock:
                self._session.give_up(self._client._clock())
                self._client._sort(self._session)
            self.wake()
            self._thread.join(LOGOUT_TIMEOUT)

    # --- the loop: wait, feed, perform, re-arm -------------------------------------------------

    def _run(self) -> None:
        try:
            while self._perform():
                self._wait()
                self._feed()
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
            os.close(self._wake_r)
            os.close(self._wake_w)

    def _wait(self) -> None:
        link = self._link
        self._register(link)
        with self._client._lock:
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

    def _feed(self) -> None:
        client, session = self._client, self._session
        happened = self._link.drain() if self._link is not None else []
        with client._lock:
            for what in happened:
                client._feed(session, what)
            if not happened:
                client._feed(session, DeadlineReached())
            # From here a command has to wake this thread again.
            self._awake = False

    def _perform(self) -> bool:
        """Do what is to be done; whether anything can still come."""
        client = self._client
        while True:
            with client._lock:
                if not client._todo:
                    return not self._done
                todo = list(client._todo)
                client._todo.clear()
            for effect in todo:
                link = self._link
                if isinstance(effect, Publish):
                    if link is not None:
                        link.publish(effect.topic, effect.payload, effect.token)
                elif isinstance(effect, Subscribe):
                    if link is not None:
                        link.subscribe(effect.filters)
                elif isinstance(effect, Unsubscribe):
                    if link is not None:
                        link.unsubscribe(effect.filters)
                elif isinstance(effect, OpenLink):
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
            with self._client._lock:
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
