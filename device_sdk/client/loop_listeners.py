"""How an application on an event loop hears: a listener's task, and the stream of events."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Awaitable

from ..errors import BellwireError
from . import logs
from .invitations import Event
from .listener import CallEventListener

log = logging.getLogger("bellwire")

#: Events that an iterator keeps for a reader that does not come.
EVENTS_KEPT = 10_000


class ListenerTask:
    """Calls one listener's methods, one after the other, in a task of its own.

    The task is there while there is something to tell, so that a client that is dropped leaves
    none behind. ``after``: the task that tells this listener what came before it was removed; this
    one begins when that has come to its end, so that no listener is told two things at once.
    """

    def __init__(self, listener: CallEventListener, after: ListenerTask | None = None) -> None:
        self.listener = listener
        self._events: deque[Event] = deque()
        self.task: asyncio.Task[None] | None = None
        self._dispatching: asyncio.Task[None] | None = None
        self._after = None if after is None else after.task

    def put(self, event: Event) -> None:
        """Tell the listener of ``event``, behind what it is being told."""
        self._events.append(event)
        self.start()

    def start(self) -> None:
        """Start the task if there is something to tell, and a loop to run it."""
        if self._events and self.done:
            with contextlib.suppress(RuntimeError):  # no loop yet: login starts it
                self.task = asyncio.get_running_loop().create_task(self._run())

    @property
    def done(self) -> bool:
        """Whether it has been told everything."""
        return self.task is None or self.task.done()

    @property
    def hears_itself(self) -> bool:
        """Whether whoever asks was called by this very listener."""
        return asyncio.current_task() in (self.task, self._dispatching)

    async def _run(self) -> None:
        if self._after is not None:
            await asyncio.wait([self._after])
            self._after = None
        this = asyncio.current_task()
        assert this is not None  # noqa: S101 - it runs
        while self._events:
            event = self._events.popleft()
            try:
                result = getattr(self.listener, f"on_{event.name}")(*event.args)
            except BaseException as error:  # noqa: BLE001 - sys.exit(), too, ends only this call
                self._raised(event, error)
                continue
            if inspect.isawaitable(result):
                # A task of its own: what is cancelled in it, be it itself, does not end this one.
                self._dispatching = asyncio.ensure_future(self._await(event, result))
                with contextlib.suppress(asyncio.CancelledError):
                    await self._dispatching
                if this.cancelling():  # the loop ends; the call was told so, and has ended
                    raise asyncio.CancelledError

    async def _await(self, event: Event, result: Awaitable[object]) -> None:
        try:
            await result
        except BaseException as error:  # noqa: BLE001 - as above
            self._raised(event, error)

    def _raised(self, event: Event, error: BaseException) -> None:
        logs.log_safely(log, logging.ERROR, "call %s: listener %r raised in on_%s",
                        event.call_id or "-", self.listener, event.name, error=error)  # fmt: skip


class EventStream:
    """The events from its making on, for ``async for``; ends with the client.

    One that is not read for ten thousand events, or that nobody holds any more, gets no others;
    whoever comes back to it after all reads those, and then a :class:`BellwireError`.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | BellwireError | None] = asyncio.Queue()
        self._over = False

    def put(self, event: Event | None) -> None:
        """Keep an event for the reader; None is the end."""
        if self._over:
            return
        item: Event | BellwireError | None = event
        if event is None:
            self._over = True
        elif self._queue.qsize() >= EVENTS_KEPT:
            item = BellwireError(
                f"events() was not read for {EVENTS_KEPT} events; those that came after are lost"
            )
            self._over = True
        self._queue.put_nowait(item)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        item = await self._queue.get()
        if isinstance(item, Event):
            return item
        self._queue.put_nowait(None)  # for whoever else reads, or asks again
        if item is None:
            raise StopAsyncIteration
        raise item

    async def aclose(self) -> None:
        """Want no more."""
        self._over = True
        self._queue.put_nowait(None)
