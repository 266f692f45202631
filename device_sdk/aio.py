"""The asyncio face: the same names, awaited; everything happens on the event loop.

No threads but those of the loop's executor, and only while a connection is being made. A task that
is cancelled while it awaits a call cancels the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self

from .cells import AnswerReason
from .errors import ClientClosed, LoginError
from .face import LOGOUT_TIMEOUT, Face, check_timeout
from .invitations import (
    Event,
    LocalInvitationBase,
    Outcome,
    RemoteInvitationBase,
    outcome_of,
)
from .listener import CallEventListener, check_listener
from .loop import ListenerTask, LoopDriver
from .ring_group import GroupOutcome, RingGroupBase, RingPlan

log = logging.getLogger("bellwire")

__all__ = ["CallManager", "LocalInvitation", "RemoteInvitation", "SignalingClient"]


class Awaited:
    """An invitation that tasks may wait for: the first that does makes the event."""

    _ended: bool
    _client: SignalingClient
    _over: asyncio.Event | None = None

    async def _wait(self) -> None:
        if not self._ended:
            self._over = self._over or asyncio.Event()
            await self._over.wait()

    def _wake(self) -> None:
        """Let all who wait go on."""
        if self._over is not None:
            self._over.set()


class LocalInvitation(Awaited, LocalInvitationBase):
    """The caller's end of a call; made by :meth:`CallManager.create_local_invitation`."""

    async def wait(self) -> Outcome:
        """Wait for its end."""
        await self._wait()
        return outcome_of(self)

    async def cancel(self) -> None:
        """Cancel it; raises NOT_STARTED or ALREADY_END."""
        self._client.cancel(self)


class RemoteInvitation(Awaited, RemoteInvitationBase):
    """The callee's end of a call; comes with the event ``remote_invitation_received``."""

    async def wait(self) -> Self:
        """Wait for its end: ``state`` and ``reason`` say which."""
        await self._wait()
        return self

    async def accept(self, response: Any = None) -> None:
        """Accept it; the caller decides: :meth:`wait` for it. Raises ALREADY_…."""
        self._client.accept(self, response)

    async def refuse(
        self, response: Any = None, reason: AnswerReason = AnswerReason.DECLINED
    ) -> None:
        """Refuse it; raises ALREADY_ACCEPT or ALREADY_END."""
        self._client.refuse(self, response, reason)


class RingGroup(RingGroupBase):
    """Several peers rung for one answer; made by :meth:`CallManager.ring`."""

    legs: dict[str, LocalInvitation]  # type: ignore[assignment]  # this face's invitations

    def __init__(self, plan: RingPlan, group: bytes) -> None:
        super().__init__(plan, group)
        self._end = asyncio.Event()

    async def wait(self) -> GroupOutcome:
        """Wait for its end."""
        await self._end.wait()
        return self.outcome


class SignalingClient(Face[LocalInvitation, RemoteInvitation]):
    """One peer, logged in to one broker, on one event loop.

    ``async with SignalingClient("kitchen") as client:`` logs in and out. The arguments are those
    of :class:`device_sdk.SignalingClient`.
    """

    _local = LocalInvitation
    _remote = RemoteInvitation
    _group = RingGroup

    def _set_up(self) -> None:
        self._listeners: list[ListenerTask] = []
        self._queues: list[asyncio.Queue[Event | None]] = []
        self._driver = LoopDriver(self)
        self.call_manager = CallManager(self)

    # --- logging in and out ------------------------------------------------------------------

    async def login(self, timeout: float = 10, *, keep_trying: bool = False) -> None:
        """Log in; returns once this peer can be called; raises a :class:`LoginError`."""
        check_timeout(timeout)
        if self._session is not None:
            if self._session.closed:
                raise self._closed_error()
            raise ClientClosed(f"{self.peer_id} is logged in already")
        session = self._session = self._new_session(keep_trying=keep_trying)
        login = self._driver.begin()
        for listener in self._listeners:
            listener.start()
        session.start(timeout, self._clock())
        self._sort(session)
        self._driver.perform()
        try:
            await login
        except LoginError:
            self._session = None  # a failed login may be tried again
            raise
        except asyncio.CancelledError:
            self._driver.give_up()
            raise

    async def logout(self) -> None:
        """Log out: calls made here are canceled, presence goes offline; waits at most 2 s for it.

        Does nothing when not logged in. Afterwards the client is done: make a new one.
        """
        with contextlib.suppress(ClientClosed):
            self._log_out()
        if self._session is not None and not self._driver.closed.is_set():
            try:
                async with asyncio.timeout(LOGOUT_TIMEOUT):
                    await self._driver.closed.wait()
            except TimeoutError:
                self._driver.give_up()
        for queue in self._queues:
            queue.put_nowait(None)
        tasks = [one.task for one in self._listeners if one.task is not None]
        for listener in self._listeners:
            listener.queue.put_nowait(None)
        self._listeners = []
        others = [task for task in tasks if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others, timeout=LOGOUT_TIMEOUT)

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

        The outcome is true if the call was accepted. Cancelling this task cancels the call.
        """
        invitation = self.create(callee_id)
        invitation.content, invitation.channel_id = content, channel_id
        self.send(invitation, timeout)
        try:
            return await invitation.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                self.cancel(invitation)
            raise

    async def ring(
        self,
        peers: Iterable[str],
        content: Any = None,
        *,
        channel_id: str | None = None,
        strategy: str = "parallel",
        leg_timeout: float | None = None,
    ) -> GroupOutcome:
        """Ring several and wait for the end; cancelling this task cancels all."""
        group = await self.call_manager.ring(
            peers, content, channel_id=channel_id, strategy=strategy, leg_timeout=leg_timeout
        )
        try:
            return await group.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                self.cancel_group(group)
            raise

    def events(self) -> AsyncIterator[Event]:
        """Everything that happens from this call on, until logout; any number of iterators.

        Events wait for their reader, however slow: none is dropped.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._queues.append(queue)
        return self._events(queue)

    async def _events(self, queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._queues.remove(queue)

    def create(self, callee_id: str, group: bytes | None = None) -> LocalInvitation:
        """Make an invitation, IDLE."""
        invitation = super().create(callee_id, group)
        invitation._client = self
        return invitation

    # --- what Face wants ---------------------------------------------------------------------

    _guard = contextlib.nullcontext()  # one loop, one thread

    def _perform(self) -> None:
        self._driver.perform()

    def _deliver(self, event: Event) -> None:
        if isinstance(event.invitation, Awaited):
            event.invitation._client = self
        for listener in self._listeners:
            listener.queue.put_nowait(event)
        for queue in self._queues:
            queue.put_nowait(event)

    def _told_end(self, invitation: LocalInvitation | RemoteInvitation) -> None:
        invitation._wake()

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

    async def send_local_invitation(
        self, invitation: LocalInvitation, ring_timeout: float | None = None
    ) -> None:
        """Send an IDLE invitation; raises ALREADY_SENT, ALREADY_END or INVALID_ARGUMENT.

        Before login it fails with NOT_LOGGEDIN, told as an event. ``ring_timeout`` in seconds
        replaces the client's for this call.
        """
        self._client.send(invitation, ring_timeout)

    async def cancel_local_invitation(self, invitation: LocalInvitation) -> None:
        """Cancel what is underway; raises NOT_STARTED or ALREADY_END."""
        self._client.cancel(invitation)

    async def accept_remote_invitation(
        self, invitation: RemoteInvitation, response: Any = None
    ) -> None:
        """Accept what rings; the caller decides: wait for the event. Raises ALREADY_…."""
        self._client.accept(invitation, response)

    async def refuse_remote_invitation(
        self,
        invitation: RemoteInvitation,
        response: Any = None,
        reason: AnswerReason = AnswerReason.DECLINED,
    ) -> None:
        """Refuse what rings; raises ALREADY_ACCEPT or ALREADY_END."""
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
        rings (in a sequence 20 by default). ``await group.wait()`` for the outcome.
        """
        group = self._client.ring_all(
            peers, content, channel_id=channel_id, strategy=strategy, leg_timeout=leg_timeout
        )
        assert isinstance(group, RingGroup)  # noqa: S101 - what this face makes
        return group

    async def cancel_ring(self, group: RingGroup) -> None:
        """Cancel a whole ring group; raises ALREADY_END."""
        self._client.cancel_group(group)

    def get(self, call_id: str) -> LocalInvitation | RemoteInvitation | None:
        """The invitation of that call id, underway or still held by the app; else None."""
        return self._client.find(call_id)

    def add_event_listener(self, listener: CallEventListener) -> None:
        """Let ``listener`` hear everything from now on, in a task of its own."""
        check_listener(listener)
        known = self._client._listeners
        if all(one.listener is not listener for one in known):
            known.append(ListenerTask(listener))

    def remove_event_listener(self, listener: CallEventListener) -> None:
        """Let ``listener`` hear nothing new; what it is hearing it hears to the end."""
        known = self._client._listeners
        for one in [one for one in known if one.listener is listener]:
            one.queue.put_nowait(None)
            known.remove(one)
