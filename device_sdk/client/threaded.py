"""The threaded client: :class:`SignalingClient` and its :class:`CallManager`.

Threads: a command is carried out by the thread that gives it, down to the write to the socket; one
network thread waits for the broker and for deadlines; each listener has a thread of its own, on
which its methods are called one after the other, in the order of events, never under a lock; there
is one more while a connection is being made, and one while a policy of the app's own is asked. A
listener that blocks delays only itself: nothing waits for it, and no event is dropped. If the
network thread fails, see ``supervisor``.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from ..core.connection import LoginSession
from ..core.wire.cells import AnswerReason
from ..errors import BellwireError, ClientClosed, InvalidArgument, LoginError
from .base import LOGOUT_TIMEOUT, BaseClient, check_timeout
from .invitations import Event, Outcome
from .listener import CallEventListener, check_listener, coroutine_methods
from .network_thread import ListenerThread, NetworkThread
from .ring_plan import GroupOutcome
from .threaded_calls import Call, LocalInvitation, RemoteInvitation, RingGroup

__all__ = [
    "Call",
    "CallManager",
    "LocalInvitation",
    "RemoteInvitation",
    "RingGroup",
    "SignalingClient",
]


class SignalingClient(BaseClient[LocalInvitation, RemoteInvitation]):
    """One peer, logged in to one broker.

    Threads: usable from any. A command is carried out by the thread that gives it, and waits for
    the network nowhere but in :meth:`login`, :meth:`logout`, :meth:`call`, :meth:`ring` and
    ``wait()``. Listeners are called on threads of their own, never under a lock.

    ``with SignalingClient("kitchen", broker="mqtt://broker.lan") as client:`` logs in and out.

    ``broker``: ``mqtt://``, ``mqtts://``, ``ws://`` or ``wss://`` and host[:port]; a list for the
    nodes of a cluster: one serves until it fails, then the next (:attr:`broker` says which).
    ``username`` defaults to the peer id where there is a ``password``, or a ``secret_file`` that
    holds it.
    ``ca_file``, ``cert_file``, ``key_file``: PEM; ``tls``: a :class:`Tls`, for an own context.
    ``keepalive`` in whole seconds; ``subscribe_qos`` is 0 for a cluster of NATS, else 1;
    ``ring_timeout``, ``ack_timeout``, ``accept_timeout`` and the other :class:`Settings` in
    seconds; ``policy`` says which calls ring; with ``talk`` an accepted call goes on, where the
    other side can, too (:class:`Call`). Bad arguments raise :class:`InvalidArgument` here, before
    any network use.
    """

    _local = LocalInvitation
    _remote = RemoteInvitation
    _group = RingGroup
    _call = Call

    def _set_up(self) -> None:
        self._new_guard()
        self._listeners: list[ListenerThread] = []
        self._removed: list[ListenerThread] = []  # and told what was before, perhaps
        self._owner: NetworkThread | None = None
        self.call_manager = CallManager(self)

    def _new_guard(self) -> None:
        self._guard = threading.RLock()

    # --- logging in and out ------------------------------------------------------------------

    def login(self, timeout: float = 10, *, keep_trying: bool = False) -> None:
        """Log in; returns once this peer can be called.

        Raises a :class:`LoginError` that says what went wrong: at once, or, with ``keep_trying``
        (for a device that may be up before its broker), when ``timeout`` seconds are over; then it
        may be tried again. :class:`ClientClosed` if it is logged in, or done;
        :class:`InvalidArgument`. Ctrl-C ends the login, too.
        """
        check_timeout(timeout)
        try:
            owner = self._begin_login(timeout, keep_trying=keep_trying)
            try:
                owner.login_ended.wait()
            except BaseException:  # Ctrl-C: nothing of it goes on
                owner.abandon()
                self._forget_login()
                raise
        finally:
            self._records.flush()
        if owner.login_error is not None:
            owner.join()
            if isinstance(owner.login_error, LoginError):
                self._forget_login()  # a failed login may be tried again
                raise owner.login_error
            raise self._closed_error() from owner.login_error

    def _begin_login(self, timeout: float, *, keep_trying: bool) -> NetworkThread:
        self._check_logged_out()
        try:
            now = self._time()
            with self._guard:
                self._check_logged_out()
                try:
                    return self._own(self._new_session(keep_trying=keep_trying), timeout, now)
                except BaseException:
                    if self._session is not None and self._owner is not None:
                        self._give_up(self._session)  # it was told to begin
                        self._dispatch_all()
                        self._owner.finish()
                    self._forget_login()
                    raise
        except BellwireError:
            raise
        except Exception as error:  # no thread, no descriptor, no clock
            raise LoginError(f"the login could not begin: {error}") from error

    def _own(self, session: LoginSession, timeout: float, now: float) -> NetworkThread:
        for listener in self._listeners:
            listener.start_again()
        owner = self._owner = NetworkThread(self, session)
        self._session = session
        session.start(timeout, now)
        self._sort(session)
        self._dispatch_all()
        owner.start()
        return owner

    def _forget_login(self) -> None:
        with self._guard:
            self._session = self._owner = None
            self._todo.clear()

    def logout(self) -> None:
        """Log out: calls made here are canceled, presence goes offline; waits at most 2 s for it.

        Does nothing when not logged in. Afterwards the client is done: make a new one. Then waits
        at most 2 s for all listeners to hear what there was.
        """
        owner = self._owner
        with contextlib.suppress(ClientClosed):
            self._log_out()
        if owner is not None:
            owner.leave()
        with self._guard:
            listeners, self._listeners = self._listeners + self._removed, []
            self._removed = []
        for listener in listeners:
            listener.put(None)
        deadline = time.monotonic() + LOGOUT_TIMEOUT
        for listener in listeners:
            if listener.thread is not threading.current_thread():
                listener.thread.join(max(0.0, deadline - time.monotonic()))
        self._records.flush()

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

        The outcome is true if the call was accepted; before login it has failed. Ctrl-C cancels
        the call. Raises :class:`InvalidArgument`, :class:`InvitationApiCallError` for a content
        that cannot be sent, :class:`ClientClosed` once logged out.
        """
        invitation = self.create(callee_id)
        invitation.content, invitation.channel_id = content, channel_id
        try:
            self.send(invitation, timeout)
            invitation.wait()
        except BaseException:
            with contextlib.suppress(Exception):
                self.cancel(invitation)
            raise
        return invitation.outcome

    def ring(
        self,
        peers: Iterable[str],
        content: Any = None,
        *,
        channel_id: str | None = None,
        strategy: str = "parallel",
        leg_timeout: float | None = None,
    ) -> GroupOutcome:
        """Ring several and wait for the end, as :meth:`CallManager.ring`; Ctrl-C cancels all.

        Raises :class:`InvalidArgument`, :class:`InvitationApiCallError`, :class:`ClientClosed`.
        """
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

    # --- what BaseClient wants ---------------------------------------------------------------

    def _perform(self) -> None:
        if self._owner is None:
            self._dispatch_all()
        else:
            self._owner.perform()

    def _deliver(self, event: Event) -> None:
        for listener in self._listeners:
            listener.put(event)


class CallManager:
    """Makes, sends, cancels, accepts and refuses invitations, with Agora's names.

    Threads: usable from any; nothing here waits for the network.
    """

    def __init__(self, client: SignalingClient) -> None:
        self._client = client

    def create_local_invitation(self, callee_id: str) -> LocalInvitation:
        """Make an invitation, IDLE: set ``content`` and ``channel_id``, then send it.

        Raises :class:`InvalidArgument`.
        """
        return self._client.create(callee_id)

    def send_local_invitation(
        self, invitation: LocalInvitation, ring_timeout: float | None = None
    ) -> None:
        """Send an IDLE invitation; ``ring_timeout`` in seconds replaces the client's for this call.

        Raises :class:`InvitationApiCallError` (ALREADY_SENT, ALREADY_END; INVALID_ARGUMENT: a
        content that cannot be sent), :class:`InvalidArgument`, :class:`ClientClosed` once logged
        out. Before login it fails with NOT_LOGGEDIN, told as an event.
        """
        self._client.send(invitation, ring_timeout)

    def cancel_local_invitation(self, invitation: LocalInvitation) -> None:
        """Cancel what is underway; raises :class:`InvitationApiCallError`.

        NOT_STARTED or ALREADY_END; :class:`InvalidArgument`, :class:`ClientClosed`.
        """
        self._client.cancel(invitation)

    def accept_remote_invitation(self, invitation: RemoteInvitation, response: Any = None) -> None:
        """Accept what rings; the caller decides: wait for the event.

        Raises :class:`InvitationApiCallError` (ALREADY_ACCEPT, ALREADY_END; INVALID_ARGUMENT: a
        response that cannot be sent), :class:`InvalidArgument`, :class:`ClientClosed`.
        """
        self._client.accept(invitation, response)

    def refuse_remote_invitation(
        self,
        invitation: RemoteInvitation,
        response: Any = None,
        reason: AnswerReason = AnswerReason.DECLINED,
    ) -> None:
        """Refuse what rings; raises as :meth:`accept_remote_invitation`."""
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
        Before login every leg has failed. Raises :class:`InvalidArgument`,
        :class:`InvitationApiCallError` for a content that cannot be sent, :class:`ClientClosed`.
        """
        group = self._client.ring_all(
            peers, content, channel_id=channel_id, strategy=strategy, leg_timeout=leg_timeout
        )
        assert isinstance(group, RingGroup)  # noqa: S101 - what this client makes
        return group

    def cancel_ring(self, group: RingGroup) -> None:
        """Cancel a whole ring group; raises :class:`InvitationApiCallError`: ALREADY_END.

        :class:`InvalidArgument` for what is none, :class:`ClientClosed`.
        """
        self._client.cancel_group(group)

    def get(self, call_id: str) -> LocalInvitation | RemoteInvitation | None:
        """The invitation of that call id, underway or still held by the app; else None."""
        return self._client.find(call_id)

    def add_event_listener(self, listener: CallEventListener) -> None:
        """Let ``listener`` hear everything from now on, on a thread of its own.

        Raises :class:`InvalidArgument` for one with coroutine methods: no loop would run them.
        """
        check_listener(listener)
        client = self._client
        if coroutines := coroutine_methods(listener):
            raise InvalidArgument(
                "listener",
                f"{', '.join(coroutines)} of {type(listener).__name__} is a coroutine function, "
                "for which there is device_sdk.aio.SignalingClient",
            )
        with client._guard:
            if all(known.listener is not listener for known in client._listeners):
                name = f"bellwire-{client.peer_id}-listener"
                client._removed = [one for one in client._removed if one.thread.is_alive()]
                before = [one for one in client._removed if one.listener is listener]
                made = ListenerThread(listener, name, after=before[-1] if before else None)
                client._listeners = [*client._listeners, made]

    def remove_event_listener(self, listener: CallEventListener) -> None:
        """Let ``listener`` hear nothing new; what it is hearing it hears to the end."""
        client = self._client
        with client._guard:
            for known in client._listeners:
                if known.listener is listener:
                    known.put(None)
                    client._removed.append(known)
            client._listeners = [k for k in client._listeners if k.listener is not listener]
