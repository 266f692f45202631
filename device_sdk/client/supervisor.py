"""What becomes of a client when the owner of its session fails: the one place that says so.

The owner is the network thread, or the callbacks of the event loop. Whatever it raises, and
whatever a command raises that is no answer to the one who gave it, ends the client here: its state
is ABORTED, every call that is underway ends as *client failed*, everyone who waits is woken, and
every later command raises :class:`ClientClosed` with the cause. Nothing is asked of what may have
failed: not of the engine, not of the clock.

docs/reliability.md has the table of what ends a client and what does not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol
from weakref import WeakSet

from ..core.connection import LoginSession
from ..core.events import CoreEvent
from ..errors import BellwireError, ClientClosed
from ..states import ConnectionState
from .dispatch import Dispatcher, L, R
from .logs import Records

log = logging.getLogger("bellwire")


class Owner(Protocol):
    """Who waits for the link and for deadlines."""

    def finish(self) -> None:
        """Let go of the link, tell who waits for a login or a logout, and end; hold the guard."""

    def forget(self) -> None:
        """Let go of what is the parent's, in a child process; touch nothing else."""

    def pulse(self, call: Callable[[], None]) -> bool:
        """Have ``call`` called by the next turn, which is to be now; False if there is none."""


class ForkedError(RuntimeError):
    """The client was logged in by the process of which this one is a fork."""


class Supervised(Dispatcher[L, R]):
    """The part of a client that outlives its owner."""

    _guard: AbstractContextManager[Any]
    _session: LoginSession | None
    _owner: Owner | None
    _core_events: deque[CoreEvent]

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id, Records(log))
        self._session = self._owner = None
        self._failure: BaseException | None = None
        self._inside = 0  # the thread that holds the guard while it gives further commands
        self._supervised = _Supervision(self)
        _clients.add(self)

    # --- for the client to fill in -------------------------------------------------------------

    def _sort(self, session: LoginSession) -> None:
        """Sort what the session wants done."""
        raise NotImplementedError

    def _dispatch_all(self) -> None:
        """Tell the app what has happened."""
        raise NotImplementedError

    def _drop_groups(self) -> None:
        """End the ring groups that are still underway."""
        raise NotImplementedError

    def _new_guard(self) -> None:
        """Replace the guard, which nobody in this process holds."""
        raise NotImplementedError

    # --- what the application sees -----------------------------------------------------------

    @property
    def failure(self) -> BaseException | None:
        """What ended this client from within, if anything did; from any thread."""
        return self._failure

    @property
    def refusal(self) -> str:
        """Why it is let in no more, and what cures that, a line for people; from any thread.

        Of a client that was logged in, and the broker then says no (RECONNECTING, REFUSED), or
        shows a certificate that this end does not trust; "" once it is connected again.
        """
        return self._refusals.last

    def pulse(self, call: Callable[[], None]) -> bool:
        """Have ``call`` called by the loop that owns the session; False if there is none now.

        A sign of life of the very loop that signalling needs; from any thread. ``call`` must be
        quick, and what it raises ends the client.
        """
        owner = self._owner
        if owner is None or self._session is None or self._session.closed:
            return False
        return owner.pulse(call)

    def _closed_error(self) -> ClientClosed:
        """Why there is no session to command."""
        if self._failure is not None:
            error = ClientClosed(f"{self.peer_id} failed and is done: {_described(self._failure)}")
            error.__cause__ = self._failure
            return error
        if self._session is None:
            return ClientClosed(f"{self.peer_id} is not logged in: call login() first")
        if self._session.state is ConnectionState.ABORTED:
            return ClientClosed(f"a newer login of {self.peer_id} took over; this client is done")
        return ClientClosed(f"{self.peer_id} is logged out; make a new client to log in again")

    def _check_logged_out(self) -> None:
        """Raise for a client that is logged in, or done."""
        if self._session is not None:
            if self._session.closed:
                raise self._closed_error()
            raise ClientClosed(f"{self.peer_id} is logged in already")

    # --- failing -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _holding(self) -> Iterator[None]:
        """Hold the guard and give further commands, which then run no code of the application."""
        with self._guard:
            before, self._inside = self._inside, threading.get_ident()
            try:
                yield
            finally:
                self._inside = before

    @property
    def _nested(self) -> bool:
        return self._inside != 0 and self._inside == threading.get_ident()

    def _fail(self, error: BaseException) -> None:
        """End the client, because ``error`` left its owner, or a command, half done."""
        with self._guard:
            session, owner = self._session, self._owner
            if session is None or owner is None or session.closed:
                return
            self._failure = error
            self._records.add(logging.ERROR, "%s: this client failed and is done; this is a"
                               " defect of what raised", self.peer_id, error=error)  # fmt: skip
            self._end_everything(session, _described(error))
            owner.finish()

    def _end_everything(self, session: LoginSession, problem: str) -> None:
        """Tell the state, the end of each call and of each group, one failing or not."""
        session.fail(problem)
        self._sort(session)
        self._try(self._dispatch_all)
        while self._core_events:
            self._try(self._dispatch_all)
        self._try(self._drop_underway)
        self._try(self._dispatch_all)
        self._try(self._drop_groups)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the next one is to be woken all the same
            self._records.add(logging.ERROR, "%s: while it failed, this did, too", self.peer_id,
                               error=error)  # fmt: skip

    def _forked(self) -> None:
        """Be done, in a child process: the connection is the parent's, and so is the peer id."""
        self._new_guard()
        session, owner = self._session, self._owner
        if session is None or owner is None or session.closed:
            return
        self._failure = ForkedError(
            f"process {os.getpid()} is a fork of the one that logged in; make a client here"
        )
        owner.forget()
        self._end_everything(session, str(self._failure))


class _Supervision:
    """Around a command: what is no answer to its caller ends the client; hold no guard.

    A command within another (:meth:`Supervised._holding`) leaves all of that to the outer one.
    It keeps no state, so that one serves all threads: every command passes here.
    """

    __slots__ = ("_client",)

    def __init__(self, client: Supervised[Any, Any]) -> None:
        self._client = client

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        client = self._client
        if client._nested:
            return
        try:
            if isinstance(error, Exception) and not isinstance(error, BellwireError):
                client._fail(error)
                raise client._closed_error() from client._failure
        finally:
            client._records.flush()


#: Every client there is, for a fork.
_clients: WeakSet[Supervised[Any, Any]] = WeakSet()


def _in_child() -> None:
    for client in list(_clients):
        with contextlib.suppress(Exception):  # a fork must come about
            client._forked()


os.register_at_fork(after_in_child=_in_child)


def _described(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
