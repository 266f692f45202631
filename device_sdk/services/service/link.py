"""The signalling client as the services need it: it logs in until it succeeds, and tells the loop.

Everything is told by way of ``post``, so that it happens on the loop's thread; the client's own
threads only hand over.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from ...client.listener import CallEventListener
from ...client.refusal import NOT_LET_IN
from ...client.refusal import cure as cure_of
from ...client.threaded import SignalingClient
from ...errors import BrokerRefused, LoginError, SubscriptionRefused
from ...states import ConnectionChange, ConnectionState
from ..config.account import Account

Post = Callable[[Callable[[], None]], None]

#: One attempt to log in, in seconds; within it the client tries again by itself.
LOGIN_TIMEOUT = 15.0
#: After a refusal, which mends itself only when somebody mends the broker.
REFUSED_PAUSE = 30.0


def cure(account: Account) -> str:
    """What helps where a broker does not let ``account`` in: which file, and where it comes from.

    The files are read once, when a service is started.
    """
    return cure_of(account.peer, account.secret_file, account.cert_file, " in [account]")


class LinkEvents(Protocol):
    """What a link tells, on the loop's thread."""

    def on_link(self, online: bool, broker: str = "") -> None:
        """Logged in and connected to ``broker``, or not any more."""
        ...

    def on_trouble(self, problem: str) -> None:
        """Logging in failed, or the broker lets it in no more; it goes on trying."""
        ...

    def on_superseded(self) -> None:
        """Another login of the same peer has taken over: this one is done."""
        ...

    def on_lost(self, problem: str = "") -> None:
        """The client has failed for good, as ``problem`` says: start afresh."""
        ...


class ServiceClient(SignalingClient):
    """A client whose refusals are said by its service, beside what that says of its link."""

    _refusal_level = logging.INFO


def make_client(account: Account) -> ServiceClient:
    """A client for ``account``; raises :class:`BellwireError` naming what is wrong with it."""
    client = ServiceClient(
        account.peer,
        broker=account.broker,
        username=account.username,
        password=account.password(),
        tls=account.tls(),
        realm=account.realm,
        keepalive=account.keepalive,
        subscribe_qos=account.subscribe_qos,
        ack_timeout=account.ack_timeout,
        accept_timeout=account.accept_timeout,
        talk=True,
        talk_limit=account.talk_limit,
    )
    client._refusals.cure = cure(account)
    return client


class ClientRunner:
    """Keeps one client logged in. Start it on any thread; :meth:`stop` logs out."""

    def __init__(
        self,
        account: Account,
        listener: CallEventListener,
        events: LinkEvents,
        post: Post,
        make: Callable[..., ServiceClient] = make_client,
    ) -> None:
        self._events = events
        self._post = post
        self._account = account
        self.client = make(account)
        self._stopping = threading.Event()
        self.client.call_manager.add_event_listener(_Connection(self))
        self.client.call_manager.add_event_listener(listener)
        self._thread = threading.Thread(target=self._log_in, name="bellwire-login", daemon=True)

    def start(self) -> None:
        """Begin to log in."""
        self._thread.start()

    def stop(self) -> None:
        """Log out: calls made here are canceled, presence goes offline. Waits for it, bounded."""
        self._stopping.set()
        self.client.logout()
        self._thread.join(LOGIN_TIMEOUT)

    def pulse(self, beat: Callable[[], None]) -> None:
        """Have ``beat`` posted by whoever keeps this peer reachable: a proof that it turns.

        That is the client's own loop; between two logins it is the thread that logs in.
        """
        if not self.client.pulse(lambda: self._post(beat)) and self._thread.is_alive():
            beat()

    def _log_in(self) -> None:
        first = True
        try:
            while not self._stopping.is_set():
                try:
                    # The first failure is said at once; then it is tried without a pause.
                    self.client.login(LOGIN_TIMEOUT, keep_trying=not first)
                except LoginError as error:
                    first = False
                    self._trouble(error)
                    refused = isinstance(error, BrokerRefused | SubscriptionRefused)
                    self._stopping.wait(REFUSED_PAUSE if refused else 1.0)
                else:
                    return
        except BaseException as error:  # noqa: BLE001 - whatever it is, nobody logs in any more
            if not self._stopping.is_set():
                problem = str(error) or type(error).__name__
                self._post(lambda: self._events.on_lost(problem))

    def _trouble(self, error: LoginError) -> None:
        if not self._stopping.is_set():
            problem = str(error)
            if isinstance(error, BrokerRefused) and error.return_code in NOT_LET_IN:
                problem += f"; {cure(self._account)}"
            self._post(lambda: self._events.on_trouble(problem))

    def state_changed(self, state: ConnectionState, change: ConnectionChange) -> None:
        """Called on a listener's thread."""
        if state is ConnectionState.ABORTED:
            if change is ConnectionChange.REMOTE_LOGIN:
                self._post(self._events.on_superseded)
            else:
                failure = self.client.failure
                self._post(lambda: self._events.on_lost(f"{type(failure).__name__}: {failure}"))
            return
        online = state is ConnectionState.CONNECTED
        broker = self.client.broker if online else ""
        self._post(lambda: self._events.on_link(online, broker))
        if state is ConnectionState.RECONNECTING and (problem := self.client.refusal):
            self._post(lambda: self._events.on_trouble(problem))


class _Connection(CallEventListener):
    def __init__(self, link: ClientRunner) -> None:
        self._link = link

    def on_connection_state_changed(self, state: ConnectionState, change: ConnectionChange) -> None:
        self._link.state_changed(state, change)
