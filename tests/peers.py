"""One way to drive every kind of peer in a test: the threaded face, the asyncio face, a process.

Test bodies are plain functions; the asyncio face runs on a loop in a thread of its own, so the same
body drives both. What a peer was told is kept, in order, by :class:`Heard`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from device_sdk import AnswerReason, CallEventListener, SignalingClient, aio
from device_sdk.client.link.base import Link, LinkFactory, Will
from device_sdk.core.events import Name

T = TypeVar("T")
PATIENCE = 10.0
FACES = ("threaded", "asyncio")


@dataclass(frozen=True)
class Told:
    """One call of a listener's method, and the state of the invitation in it at that moment."""

    name: str
    args: tuple[Any, ...]
    thread: str
    at: float
    state: str = ""

    @property
    def call_id(self) -> str:
        return getattr(self.args[0], "call_id", "") if self.args else ""

    @property
    def invitation(self) -> Any:
        return self.args[0]


class Heard(CallEventListener):
    """A listener that keeps everything it is told."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._news = threading.Condition()

    def _note(self, name: str, *args: Any) -> None:
        state = getattr(getattr(args[0], "state", None), "name", "")
        told = Told(name, args, threading.current_thread().name, time.monotonic(), state)
        with self._news:
            self.told.append(told)
            self._news.notify_all()

    def names(self, call_id: str | None = None) -> list[str]:
        """The names so far, of one call or of all calls (connection changes left out)."""
        with self._news:
            return [
                t.name
                for t in self.told
                if (t.call_id == call_id if call_id else t.name != "connection_state_changed")
            ]

    def wait_until(self, done: Callable[[list[Told]], T], timeout: float, what: str) -> T:
        """Wait until ``done`` of all that was told is something; raises ``AssertionError``."""
        deadline = time.monotonic() + timeout
        with self._news:
            while not (found := done(self.told)):
                left = deadline - time.monotonic()
                if left <= 0:
                    now = time.monotonic()
                    names = [(t.name, t.call_id[:6], f"{t.at - now:.1f} s") for t in self.told]
                    raise AssertionError(f"{what} did not come within {timeout:.1f} s: {names}")
                self._news.wait(left)
            return found


for _name in Name:
    setattr(Heard, f"on_{_name}", lambda self, *args, _name=str(_name): self._note(_name, *args))


class OffsetClock:
    """A client's clock, set forward by ``ahead`` seconds once what comes before it has happened.

    A client that has a link sees that within its tick, a second at most.
    """

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Held:
    """A link factory whose links to ``broker``, another one, connect once they are not held."""

    def __init__(self, broker: LinkFactory) -> None:
        self._broker = broker
        self._free = threading.Event()
        self._free.set()
        self.hold, self.release = self._free.clear, self._free.set

    def __call__(self, will: Will) -> Link:
        link = self._broker(will)
        connect = link.open

        def connect_once_free() -> None:
            assert self._free.wait(PATIENCE)
            connect()

        link.open = connect_once_free  # type: ignore[method-assign]  # the point
        return link


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 60) -> T:
        """Run ``coroutine`` there; gives its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function`` there; gives its result."""

        async def inside() -> T:
            return function(*args)

        return self.run(inside())

    def close(self) -> None:
        """Stop it; what still runs there is cancelled."""

        async def end() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.loop.shutdown_default_executor()

        with contextlib.suppress(TimeoutError):
            self.run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@dataclass
class Running:
    """What :meth:`Peer.start_call` started."""

    result: Callable[[float], Any]
    cancel: Callable[[], None]
    done: Callable[[], bool] = field(default=lambda: False)


class Peer:
    """A client of one face, and a listener that keeps what it was told."""

    face = ""
    client: Any

    def __init__(self, peer_id: str) -> None:
        self.peer_id = peer_id
        self.heard = Heard()

    def __enter__(self) -> Self:
        self.login()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.logout()

    def expect(
        self, name: str, call_id: str | None = None, *, timeout: float = PATIENCE, nth: int = 1
    ) -> Told:
        """Wait until it is told ``name`` (of that call) for the ``nth`` time."""

        def done(told: list[Told]) -> Told | None:
            found = [t for t in told if t.name == name and call_id in (None, t.call_id)]
            return found[nth - 1] if len(found) >= nth else None

        what = f"{self.peer_id} ({self.face}): {name} of {call_id or 'any call'}"
        return self.heard.wait_until(done, timeout, what)

    def expect_state(self, state: str, *, timeout: float = PATIENCE, nth: int = 1) -> Told:
        """Wait until the connection state becomes ``state`` for the ``nth`` time."""

        def done(told: list[Told]) -> Told | None:
            found = [
                t for t in told if t.name == "connection_state_changed" and t.args[0].name == state
            ]
            return found[nth - 1] if len(found) >= nth else None

        return self.heard.wait_until(done, timeout, f"{self.peer_id} ({self.face}): {state}")

    def names(self, call_id: str | None = None) -> list[str]:
        """What it was told so far."""
        return self.heard.names(call_id)

    def press(self, callee: str, content: Any = None, ring_timeout: float | None = None) -> Any:
        """Make an invitation and send it."""
        invitation = self.create(callee)
        if content is not None:
            invitation.content = content
        self.send(invitation, ring_timeout)
        return invitation

    # A face fills these in.

    def login(self, timeout: float = PATIENCE, *, keep_trying: bool = False) -> None:
        raise NotImplementedError

    def logout(self) -> None:
        raise NotImplementedError

    def create(self, callee: str) -> Any:
        raise NotImplementedError

    def send(self, invitation: Any, ring_timeout: float | None = None) -> None:
        raise NotImplementedError

    def cancel(self, invitation: Any) -> None:
        raise NotImplementedError

    def accept(self, invitation: Any, response: Any = None) -> None:
        raise NotImplementedError

    def refuse(
        self, invitation: Any, response: Any = None, reason: AnswerReason = AnswerReason.DECLINED
    ) -> None:
        raise NotImplementedError

    def ring_all(self, callees: list[str]) -> Any:
        """Ring several for one answer: the ring group."""
        raise NotImplementedError

    def send_message(self, call: Any, message: Any) -> None:
        raise NotImplementedError

    def hang_up(self, call: Any) -> None:
        raise NotImplementedError

    def wait(self, invitation: Any, timeout: float = PATIENCE) -> bool:
        """Whether its end was told within ``timeout``."""
        raise NotImplementedError

    def start_call(self, callee: str, content: Any = None, **options: Any) -> Running:
        """Run ``client.call`` elsewhere; ``cancel`` does what Ctrl-C or a task's cancel does."""
        raise NotImplementedError

    def listen(self, listener: CallEventListener) -> None:
        raise NotImplementedError

    def unlisten(self, listener: CallEventListener) -> None:
        raise NotImplementedError

    def blocking(self) -> tuple[CallEventListener, threading.Event]:
        """A listener whose every method blocks until the event is set."""
        raise NotImplementedError

    def find(self, call_id: str) -> Any:
        raise NotImplementedError

    def watch(self, peer: str) -> None:
        raise NotImplementedError


class ThreadedPeer(Peer):
    """The threaded face."""

    face = "threaded"

    def __init__(self, peer_id: str, broker: Any, **options: Any) -> None:
        super().__init__(peer_id)
        self.client = SignalingClient(peer_id, broker, **options)
        self.client.call_manager.add_event_listener(self.heard)

    def login(self, timeout: float = PATIENCE, *, keep_trying: bool = False) -> None:
        self.client.login(timeout, keep_trying=keep_trying)

    def logout(self) -> None:
        self.client.logout()

    def create(self, callee: str) -> Any:
        return self.client.call_manager.create_local_invitation(callee)

    def send(self, invitation: Any, ring_timeout: float | None = None) -> None:
        self.client.call_manager.send_local_invitation(invitation, ring_timeout)

    def cancel(self, invitation: Any) -> None:
        self.client.call_manager.cancel_local_invitation(invitation)

    def accept(self, invitation: Any, response: Any = None) -> None:
        self.client.call_manager.accept_remote_invitation(invitation, response)

    def refuse(
        self, invitation: Any, response: Any = None, reason: AnswerReason = AnswerReason.DECLINED
    ) -> None:
        self.client.call_manager.refuse_remote_invitation(invitation, response, reason)

    def ring_all(self, callees: list[str]) -> Any:
        return self.client.call_manager.ring(callees)

    def send_message(self, call: Any, message: Any) -> None:
        call.send(message)

    def hang_up(self, call: Any) -> None:
        call.hang_up()

    def wait(self, invitation: Any, timeout: float = PATIENCE) -> bool:
        over: bool = invitation.wait(timeout)
        return over

    def start_call(self, callee: str, content: Any = None, **options: Any) -> Running:
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append(self.client.call(callee, content, **options))
            except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
                outcome.append(error)

        thread = threading.Thread(target=run, name="calling", daemon=True)
        thread.start()

        def result(timeout: float) -> Any:
            thread.join(timeout)
            assert not thread.is_alive(), "call() did not return"
            if isinstance(outcome[0], BaseException):
                raise outcome[0]
            return outcome[0]

        def cancel() -> None:
            raise NotImplementedError("KeyboardInterrupt reaches the main thread only")

        return Running(result, cancel, lambda: not thread.is_alive())

    def listen(self, listener: CallEventListener) -> None:
        self.client.call_manager.add_event_listener(listener)

    def unlisten(self, listener: CallEventListener) -> None:
        self.client.call_manager.remove_event_listener(listener)

    def blocking(self) -> tuple[CallEventListener, threading.Event]:
        release = threading.Event()

        def block(_self: Any, *_args: Any) -> None:
            release.wait(PATIENCE * 6)

        return _every_method(block), release

    def find(self, call_id: str) -> Any:
        return self.client.call_manager.get(call_id)

    def watch(self, peer: str) -> None:
        self.client.watch(peer)


class AsyncioPeer(Peer):
    """The asyncio face, on a loop in another thread."""

    face = "asyncio"

    def __init__(self, peer_id: str, broker: Any, *, loop: Loop, **options: Any) -> None:
        super().__init__(peer_id)
        self._loop = loop
        self.client = loop.call(lambda: aio.SignalingClient(peer_id, broker, **options))
        loop.call(self.client.call_manager.add_event_listener, self.heard)

    @property
    def _calls(self) -> Any:
        return self.client.call_manager

    def login(self, timeout: float = PATIENCE, *, keep_trying: bool = False) -> None:
        self._loop.run(self.client.login(timeout, keep_trying=keep_trying), timeout + 30)

    def logout(self) -> None:
        self._loop.run(self.client.logout())

    def create(self, callee: str) -> Any:
        return self._loop.call(self._calls.create_local_invitation, callee)

    def send(self, invitation: Any, ring_timeout: float | None = None) -> None:
        self._loop.run(self._calls.send_local_invitation(invitation, ring_timeout))

    def cancel(self, invitation: Any) -> None:
        self._loop.run(self._calls.cancel_local_invitation(invitation))

    def accept(self, invitation: Any, response: Any = None) -> None:
        self._loop.run(self._calls.accept_remote_invitation(invitation, response))

    def refuse(
        self, invitation: Any, response: Any = None, reason: AnswerReason = AnswerReason.DECLINED
    ) -> None:
        self._loop.run(self._calls.refuse_remote_invitation(invitation, response, reason))

    def ring_all(self, callees: list[str]) -> Any:
        return self._loop.run(self._calls.ring(callees))

    def send_message(self, call: Any, message: Any) -> None:
        self._loop.run(call.send(message))

    def hang_up(self, call: Any) -> None:
        self._loop.run(call.hang_up())

    def wait(self, invitation: Any, timeout: float = PATIENCE) -> bool:
        async def inside() -> bool:
            try:
                async with asyncio.timeout(timeout):
                    await invitation.wait()
            except TimeoutError:
                return False
            return True

        return self._loop.run(inside(), timeout + 30)

    def start_call(self, callee: str, content: Any = None, **options: Any) -> Running:
        future = asyncio.run_coroutine_threadsafe(
            self.client.call(callee, content, **options), self._loop.loop
        )
        return Running(future.result, lambda: bool(future.cancel()), future.done)  # type: ignore[arg-type,return-value]  # cancel's answer is not wanted

    def listen(self, listener: CallEventListener) -> None:
        self._loop.call(self._calls.add_event_listener, listener)

    def unlisten(self, listener: CallEventListener) -> None:
        self._loop.call(self._calls.remove_event_listener, listener)

    def blocking(self) -> tuple[CallEventListener, threading.Event]:
        release = threading.Event()

        async def block(_self: Any, *_args: Any) -> None:
            while not release.is_set():
                await asyncio.sleep(0.02)

        return _every_method(block), release

    def find(self, call_id: str) -> Any:
        return self._loop.call(self._calls.get, call_id)

    def watch(self, peer: str) -> None:
        self._loop.call(self.client.watch, peer)


def _every_method(function: Any) -> CallEventListener:
    methods = {f"on_{name}": function for name in Name}
    made: CallEventListener = type("Blocking", (CallEventListener,), methods)()
    return made


def raising() -> CallEventListener:
    """A listener whose every method raises."""

    def fail(_self: Any, *_args: Any) -> None:
        raise RuntimeError("a listener that raises")

    return _every_method(fail)


def ring(door: Peer, kitchen: Peer, content: Any = None) -> tuple[Any, Any]:
    """Press, and wait until both ends know that it rings: both invitations."""
    mine = door.press(kitchen.peer_id, content)
    theirs = kitchen.expect("remote_invitation_received", mine.call_id).invitation
    door.expect("local_invitation_received_by_peer", mine.call_id)
    return mine, theirs


def talk(door: Peer, kitchen: Peer) -> tuple[Any, Any]:
    """Ring and accept, and wait until both ends know that the call goes on: both calls."""
    mine, theirs = ring(door, kitchen)
    kitchen.accept(theirs)
    return (
        door.expect("call_started", mine.call_id).args[0],
        kitchen.expect("call_started", mine.call_id).args[0],
    )
