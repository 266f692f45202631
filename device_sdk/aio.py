"""The asyncio client: the same names, awaited; everything happens on the event loop.

Threads: one of its own while a connection is being made, and one while a policy of the app's own is
asked. A listener's methods are called on the loop, in a task for each listener; no method of the
client is to be called from another thread. A task that is cancelled while it awaits a call cancels
the call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from .client.base import LOGOUT_TIMEOUT, BaseClient, check_timeout
from .client.invitations import Event, Outcome
from .client.listener import CallEventListener, check_listener
from .client.loop_calls import Call, LocalInvitation, RemoteInvitation, RingGroup
from .client.loop_driver import LoopDriver
from .client.loop_listeners import EventStream, ListenerTask
from .client.ring_plan import GroupOutcome
from .core.wire.cells import AnswerReason
from .errors import ClientClosed, LoginError

__all__ = [
    "Call",
    "CallManager",
    "LocalInvitation",
    "RemoteInvitation",
    "RingGroup",
    "SignalingClient",
]


class SignalingClient(BaseClient[LocalInvitation, RemoteInvitation]):
    """One peer, logged in to one broker, on one event loop.

    ``async with SignalingClient("kitchen") as client:`` logs in and out. The arguments are those
    of :class:`device_sdk.SignalingClient`.

    Threads: those of the event loop that it logged in on, listeners included; a command on another
    raises ``RuntimeError``, or, when that one is closed, :class:`ClientClosed`. What may be asked
    from any thread says so.
    """

    _local = LocalInvitation
    _remote = RemoteInvitation
    _group = RingGroup
    _call = Call

    def _set_up(self) -> None:
        self._listeners: list[ListenerTask] = []
        self._removed: list[ListenerTask] = []  # and told what was before, perhaps
        self._streams: WeakSet[EventStream] = WeakSet()
        self._hung_up = False
        self._owner: LoopDriver | None = None
        self.call_manager = CallManager(self)

    # --- logging in and out ------------------------------------------------------------------

    async def login(self, timeout: float = 10, *, keep_trying: bool = False) -> None:
        """Log in; returns once this peer can be called.

        Raises a :class:`LoginError` that says what went wrong: at once, or, with ``keep_trying``
        (for a device that may be up before its broker), when ``timeout`` seconds are over; then it
        may be tried again. :class:`ClientClosed` if it is logged in, or done;
        :class:`InvalidArgument`. Cancelling this task ends the login, too.
        """
        check_timeout(timeout)
        driver = self._begin_login(timeout, keep_trying=keep_trying)
        try:
            await driver.login
        except LoginError:
            self._session = self._owner = None  # a failed login may be tried again
            raise
        except ClientClosed as error:
            raise self._closed_error() from error
        except asyncio.CancelledError:
            driver.give_up()
            self._session = self._owner = None
            raise
        finally:
            self._records.flush()

    def _begin_login(self, timeout: float, *, keep_trying: bool) -> LoopDriver:
        self._check_logged_out()
        try:
            now = self._time()
            session = self._new_session(keep_trying=keep_trying)
            driver = LoopDriver(self, session)
            for listener in self._listeners:
                listener.start()
            self._session, self._owner = session, driver
            session.start(timeout, now)
            self._sort(session)
            driver.perform()
        except Exception as error:
            self._session = self._owner = None
            raise LoginError(f"the login could not begin: {error}") from error
        return driver

    async def logout(self) -> None:
        """Log out: calls made here are canceled, presence goes offline; waits at most 2 s for it.

        Does nothing when not logged in. Afterwards the client is done: make a new one. Then waits
        at most 2 s for all listeners to hear what there was.
        """
        driver = self._owner
        with contextlib.suppress(ClientClosed):
            self._log_out()
        if driver is not None and not driver.ended:
            try:
                async with asyncio.timeout(LOGOUT_TIMEOUT):
                    await driver.closed.wait()
            except TimeoutError:
                driver.give_up()
        self._hang_up()
        listeners, self._listeners = self._listeners + self._removed, []
        self._removed = []
        tasks = [one.task for one in listeners if one.task is not None and not one.hears_itself]
        if tasks:
            await asyncio.wait(tasks, timeout=LOGOUT_TIMEOUT)

    async def __aenter__(self) -> Self:
        if self._session is None:
            await self.login()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.logout()

    # --- calling and hearing -----------------------------------------------------------------

    async def call(
        self,
        callee_id: str,
        content: Any = None,
        *,
        channel_id: str | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        """Call and wait for the end; ``timeout`` seconds of ringing, None for ``ring_timeout``.

        The outcome is true if the call was accepted; before login it has failed. Cancelling this
        task cancels the call. Raises :class:`InvalidArgument`, :class:`InvitationApiCallError` for
        a content that cannot be sent, :class:`ClientClosed` once logged out.
        """
        invitation = self.create(callee_id)
        invitation.content, invitation.channel_id = content, channel_id
        self.send(invitation, timeout)
        try:
            await invitation.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                self.cancel(invitation)
            raise
        return invitation.outcome

    async def ring(
        self,
        peers: Iterable[str],
        content: Any = None,
        *,
        channel_id: str | None = None,
        strategy: str = "parallel",
        leg_timeout: float | None = None,
    ) -> GroupOutcome:
        """Ring several and wait for the end; cancelling this task cancels all.

        Raises :class:`InvalidArgument`, :class:`InvitationApiCallError`, :class:`ClientClosed`.
        """
        group = await self.call_manager.ring(
            peers, content, channel_id=channel_id, strategy=strategy, leg_timeout=leg_timeout
        )
        try:
            await group.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                self.cancel_group(group)
            raise
        return group.outcome

    def events(self) -> AsyncIterator[Event]:
        """Everything that happens from this call on; any number of iterators.

        It ends when this client does: by logout, a newer login, or a failure. A slow reader loses
        nothing; for one that does not read at all see
        :class:`~device_sdk.client.loop_listeners.EventStream`.
        """
        stream = EventStream()
        if self._hung_up:
            stream.put(None)
        else:
            self._streams.add(stream)
        return stream

    # --- what BaseClient wants ---------------------------------------------------------------

    _guard = contextlib.nullcontext()  # one loop, one thread

    def _new_guard(self) -> None:
        """There is none to replace."""

    def _check_caller(self) -> None:
        """Raise RuntimeError where this client's loop does not run, before anything is touched.

        What is sent from another loop would be heard of by nobody.
        """
        loop, owner = asyncio.get_running_loop(), self._owner
        if owner is None or owner.ended or owner.loop is loop:
            return
        problem = f"{self.peer_id} is logged in on another event loop"
        if not owner.loop.is_closed():
            raise RuntimeError(f"{problem}: call it there")
        cure = "log in and call within one asyncio.run()"
        self._fail(RuntimeError(f"{problem}, which is closed: {cure}"))
        self._records.flush()

    def _perform(self) -> None:
        if self._owner is None:
            self._dispatch_all()
        else:
            self._owner.perform()

    def _hang_up(self) -> None:
        session = self._session
        if session is None or not session.login_failed:
            self._hung_up = True
            self._put(None)

    def _deliver(self, event: Event) -> None:
        for listener in self._listeners:
            listener.put(event)
        self._put(event)

    def _put(self, event: Event | None) -> None:
        """Let whoever reads events have ``event``."""
        for stream in self._streams:  # one that nobody holds any more leaves by itself
            stream.put(event)


class CallManager:
    """Makes, sends, cancels, accepts and refuses invitations, with Agora's names.

    Threads: the event loop's alone, as the client; nothing here waits for the network.
    """

    def __init__(self, client: SignalingClient) -> None:
        self._client = client

    def create_local_invitation(self, callee_id: str) -> LocalInvitation:
        """Make an invitation, IDLE: set ``content`` and ``channel_id``, then send it.

        Raises :class:`InvalidArgument`.
        """
        return self._client.create(callee_id)

    async def send_local_invitation(
        self, invitation: LocalInvitation, ring_timeout: float | None = None
    ) -> None:
        """Send an IDLE invitation; ``ring_timeout`` in seconds replaces the client's for this call.

        Raises :class:`InvitationApiCallError` (ALREADY_SENT, ALREADY_END; INVALID_ARGUMENT: a
        content that cannot be sent), :class:`InvalidArgument`, :class:`ClientClosed` once logged
        out. Before login it fails with NOT_LOGGEDIN, told as an event.
        """
        self._client.send(invitation, ring_timeout)

    async def cancel_local_invitation(self, invitation: LocalInvitation) -> None:
        """Cancel what is underway; raises :class:`InvitationApiCallError`.

        NOT_STARTED or ALREADY_END; :class:`InvalidArgument`, :class:`ClientClosed`.
        """
        self._client.cancel(invitation)

    async def accept_remote_invitation(
        self, invitation: RemoteInvitation, response: Any = None
    ) -> None:
        """Accept what rings; the caller decides: wait for the event.

        Raises :class:`InvitationApiCallError` (ALREADY_ACCEPT, ALREADY_END; INVALID_ARGUMENT: a
        response that cannot be sent), :class:`InvalidArgument`, :class:`ClientClosed`.
        """
        self._client.accept(invitation, response)

    async def refuse_remote_invitation(
        self,
        invitation: RemoteInvitation,
        response: Any = None,
        reason: AnswerReason = AnswerReason.DECLINED,
    ) -> None:
        """Refuse what rings; raises as :meth:`accept_remote_invitation`."""
        self._client.refuse(invitation, response, reason)

    async def ring(
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
        rings (in a sequence 20 by default). ``await group.wait()``, then ``group.outcome``.
        Before login every leg has failed. Raises :class:`InvalidArgument`,
        :class:`InvitationApiCallError` for a content that cannot be sent, :class:`ClientClosed`.
        """
        group = self._client.ring_all(
            peers, content, channel_id=channel_id, strategy=strategy, leg_timeout=leg_timeout
        )
        assert isinstance(group, RingGroup)  # noqa: S101 - what this client makes
        return group

    async def cancel_ring(self, group: RingGroup) -> None:
        """Cancel a whole ring group; raises :class:`InvitationApiCallError`: ALREADY_END.

        :class:`InvalidArgument` for what is none, :class:`ClientClosed`.
        """
        self._client.cancel_group(group)

    def get(self, call_id: str) -> LocalInvitation | RemoteInvitation | None:
        """The invitation of that call id, underway or still held by the app; else None."""
        return self._client.find(call_id)

    def add_event_listener(self, listener: CallEventListener) -> None:
        """Let ``listener`` hear everything from now on, in a task of its own.

        Raises :class:`InvalidArgument` for what is none.
        """
        check_listener(listener)
        client = self._client
        if all(one.listener is not listener for one in client._listeners):
            client._removed = [one for one in client._removed if not one.done]
            before = [one for one in client._removed if one.listener is listener]
            client._listeners.append(ListenerTask(listener, before[-1] if before else None))

    def remove_event_listener(self, listener: CallEventListener) -> None:
        """Let ``listener`` hear nothing new; what it is hearing it hears to the end."""
        client = self._client
        for one in [one for one in client._listeners if one.listener is listener]:
            client._listeners.remove(one)
            client._removed.append(one)
