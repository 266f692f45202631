"""The threaded client as the commands use it: every event, and every signal, in one queue."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO

from ..client.invitations import Event
from ..client.threaded import Call, SignalingClient
from ..errors import InvalidArgument
from ..states import ConnectionChange, ConnectionState, RemoteInvitationState
from .errors import CommandError, ExitCode, Interrupted
from .options import Options

#: How long a command stays after the last event, for the callee to show that it knows the end.
LINGER = 1.0
_LOOK = 0.02
_LOGIN = (ConnectionChange.LOGIN, ConnectionChange.LOGIN_SUCCESS)


class Signal:
    """SIGINT or SIGTERM came."""


class Line:
    """A line was typed; ``text`` None at the end of the input."""

    def __init__(self, text: str | None) -> None:
        self.text = text


Item = Event | Signal | Line
Inbox = queue.SimpleQueue[tuple[float, Item]]


class QueueClient(SignalingClient):
    """Puts each event, with its time, in ``inbox`` as it is told.

    Without those of the login itself, which :func:`logged_in` stands for: they may come after it.
    """

    inbox: Inbox
    _was_in = False

    def _deliver(self, event: Event) -> None:
        if self._was_in or event.reason not in _LOGIN:
            self.inbox.put((time.monotonic(), event))
        self._was_in = self._was_in or event.reason is ConnectionChange.LOGIN_SUCCESS
        super()._deliver(event)

    def linger(self) -> None:
        """Wait until the calls that have ended are settled, but not for long.

        Each side shows that it knows the end, and then clears its cell from the broker; a cell
        that is left stays there until the next login.
        """
        deadline = time.monotonic() + LINGER
        while self._unsettled() and time.monotonic() < deadline:
            time.sleep(_LOOK)

    def unheard(self, call: Call) -> int:
        """How many messages of mine in ``call`` are not acknowledged."""
        with self._guard:
            session = self._session
            if session is None:
                return 0
            key, engine = (call.peer, call.call_id), session.engine
            record = (engine.caller if call._made else engine.callee).calls.get(key)
            return 0 if record is None else len(record.talk.messages.waiting)

    def _unsettled(self) -> bool:
        with self._guard:
            session = self._session
            if session is None or session.state is not ConnectionState.CONNECTED:
                return False
            engine = session.engine
            away = {peer for peer, known in engine._context.watches.known.items() if known.away}
            return any(call.callee not in away for call in engine.caller.calls.values()) or any(
                call.caller not in away and call.state >= RemoteInvitationState.REFUSED
                for call in engine.callee.calls.values()
            )


def make_client(options: Options, *, talk: bool = False) -> QueueClient:
    """A client for ``options``, that can ``talk`` or not.

    Raises :class:`UsageError` naming what is wrong with which.
    """
    peer = options.peer
    given: dict[str, Any] = {}
    for name in ("ack_timeout", "accept_timeout"):
        if options[name] is not None:
            given[name] = options[name]
    try:
        client = QueueClient(
            peer,
            options.broker,
            username=options["username"],
            password=options.password(),
            tls=options.tls(),
            realm=options.realm,
            keepalive=15 if options["keepalive"] is None else options["keepalive"],
            subscribe_qos=1 if options["subscribe_qos"] is None else options["subscribe_qos"],
            talk=talk,
            **given,
        )
    except InvalidArgument as error:
        raise options.usage(error, ring_timeout="--timeout") from None
    client.inbox = queue.SimpleQueue()
    return client


@contextlib.contextmanager
def logged_in(client: QueueClient, options: Options) -> Iterator[None]:
    """Log in and out around a block, in which signals are items of the client's inbox.

    While logging in a signal raises :class:`Interrupted`; in the block only the second one does.
    """
    with signals(client.inbox) as taken:
        try:
            client.login(options.login_timeout)
            taken.by_inbox = True
            yield
            client.linger()
        finally:
            client.logout()


class Signals:
    """How signals are taken: by raising, or by the inbox."""

    by_inbox = False


@contextlib.contextmanager
def signals(inbox: Inbox) -> Iterator[Signals]:
    """Take SIGINT and SIGTERM while the block runs."""
    taken = Signals()
    seen = 0

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen > 1 or not taken.by_inbox:
            raise Interrupted
        # SimpleQueue.put may be called by a handler that interrupted another put.
        inbox.put((time.monotonic(), Signal()))

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield taken
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def next_item(inbox: Inbox, timeout: float | None = None) -> tuple[float, Item] | None:
    """The next item, or None when ``timeout`` seconds have passed."""
    try:
        return inbox.get(timeout=None if timeout is None else max(0.0, timeout))
    except queue.Empty:
        return None


def check_aborted(event: Event) -> None:
    """Raise when the client is done: another login of the same peer took over, or it failed."""
    if event.state is ConnectionState.ABORTED:
        if event.reason is ConnectionChange.FAILED:
            raise CommandError(ExitCode.BROKER, f"the client failed within: {event.detail}")
        raise CommandError(
            ExitCode.BROKER,
            "another login of this peer id took over, and the newest wins;"
            " give each device a --peer of its own",
        )


def type_lines(inbox: Inbox, stdin: TextIO | None = None) -> None:
    """Read lines on a thread of its own, until the input ends."""
    import threading

    source = sys.stdin if stdin is None else stdin

    def read() -> None:
        # os.read, not the text layer: a thread inside its lock would hold up the interpreter's end.
        waiting = b""
        while True:
            try:  # without an input, or with one that was closed, it is at its end
                data = b"" if source is None else os.read(source.fileno(), 4096)
            except (OSError, ValueError):
                data = b""
            waiting += data
            *lines, waiting = waiting.split(b"\n")
            for line in lines:
                inbox.put((time.monotonic(), Line(line.decode("utf-8", "replace").strip())))
            if not data:
                inbox.put((time.monotonic(), Line(None)))
                return

    threading.Thread(target=read, name="bellwire-keyboard", daemon=True).start()


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise :class:`Interrupted`: for who has nothing to put in order."""
    with signals(queue.SimpleQueue()):
        yield
