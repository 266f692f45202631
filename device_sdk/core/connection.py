"""One login over as many connections as it takes: when to connect, when to give up; sans-IO.

Around the engine stands what depends on the link but not on the protocol: the connection states,
reconnecting with jitter, what makes a login fail. Inputs are those of the engine and of the link;
out come the engine's effects and a few of its own.
"""

from collections.abc import Callable
from typing import NamedTuple

from ..errors import (
    BrokerRefused,
    BrokerUnreachable,
    ClientClosed,
    LoginError,
    LoginTimeout,
    SubscriptionRefused,
)
from ..states import ConnectionChange, ConnectionState
from .effects import (
    Aborted,
    AskPolicy,
    Connected,
    Disconnected,
    Dropped,
    Effect,
    Emit,
    Finished,
    Input,
    LinkFailed,
    LinkInput,
    LinkOpened,
    MessageReceived,
    Publish,
    PublishAcked,
    Ready,
    Subscribe,
    Subscribed,
    SubscriptionDenied,
    Unsubscribe,
)
from .engine import Engine
from .events import ConnectionStateChanged
from .values import Marker, distinct

RETRY_FIRST = 0.1
RETRY_MAX = 5.0
#: A login that lasted so long was no accident: the next break is tried at once again.
RETRY_LASTED = 1.0
#: From the start of a connection until the link is open. Each step of that has a bound of its own
#: in the link, so this is for links that have none.
OPEN_TIMEOUT = 120.0
#: From there to CONNACK, and from there to the inbox's SUBACK: a broker that just came up may have
#: all of its clients to greet.
GREETING_TIMEOUT = 20.0


#: How far a connection came, by what it waits for: said of a login, or a greeting, that is late.
_OPENING = "no connection {0}: the broker's name is not resolved, or its host is silent"
_GREETING = "the broker took the connection but did not answer the greeting (CONNECT) {0}"
_SUBSCRIBING = "the broker answered the greeting but did not finish the login {0} (no SUBACK)"


class OpenLink(Marker):
    """Make a new link and open it."""

    __slots__ = ()


@distinct
class CloseLink(NamedTuple):
    """Close the link; ``clean``: with DISCONNECT."""

    clean: bool


@distinct
class LoginEnded(NamedTuple):
    """The login came to an end: ``error`` None is success, else why not.

    :class:`ClientClosed` where the client is done, any other where it may be tried again.
    """

    error: LoginError | ClientClosed | None


class Closed(Marker):
    """Nothing more will come: the owner may stop."""

    __slots__ = ()


SessionEffect = Effect | OpenLink | CloseLink | LoginEnded | Closed

_LOGGED_IN = (ConnectionState.CONNECTED, ConnectionState.RECONNECTING)
_LINK_INPUTS = frozenset(
    (Connected, Disconnected, Subscribed, MessageReceived, PublishAcked, LinkFailed, LinkOpened)
)
#: What does not simply go to the engine.
_OURS_TOO = frozenset((LinkFailed, LinkOpened, Disconnected, Connected))
#: Effects of the engine that concern others than the connection.
_PASSED_ON = frozenset((Publish, Emit, AskPolicy, Subscribe, Unsubscribe, Dropped))


class Session:
    """The life of one login; the same three moves as the engine: feed, perform, re-arm."""

    def __init__(
        self, engine: Engine, *, random: Callable[[], float], keep_trying: bool = False
    ) -> None:
        self.engine = engine
        self.state = ConnectionState.DISCONNECTED
        self._random = random
        self._keep_trying = keep_trying
        self._retry_delay = RETRY_FIRST
        self._retry_at: float | None = None
        self._ready_at: float | None = None
        self._greeting_at: float | None = None
        self._login_at: float | None = None
        self._linked = False  # a link is open, or being opened
        self._waits_for = _OPENING
        self._timeout = 0.0  # what the login has in all, for its error
        self._logging_in = False
        self._over = False
        #: Closed before it was a login: another may be tried.
        self.login_failed = False
        self._change = ConnectionChange.LOGOUT
        self._last_error: LoginError | None = None
        self._out: list[SessionEffect] = []

    @property
    def closed(self) -> bool:
        """Whether this login is over."""
        return self._over or self.engine.closed

    @property
    def logged_in(self) -> bool:
        """Whether the login succeeded and is not over, link or no link."""
        return self.state in _LOGGED_IN and not self._over and not self.engine.closed

    @property
    def logging_in(self) -> bool:
        """Whether :class:`LoginEnded` is still to come."""
        return self._logging_in

    def start(self, timeout: float, now: float) -> None:
        """Log in within ``timeout`` seconds: :class:`LoginEnded` tells how it went."""
        self._logging_in = True
        self._login_at, self._timeout = now + timeout, timeout
        self._become(ConnectionState.CONNECTING, ConnectionChange.LOGIN)
        self._open(now)

    def handle(self, what: Input | LinkInput, now: float, wall: int | None = None) -> None:
        """Take one thing in; raises as :meth:`Engine.handle` does."""
        if not self._linked and type(what) in _LINK_INPUTS:
            return  # a link that was given up still had a word
        if (
            self._retry_at is not None
            or self._greeting_at is not None
            or self._login_at is not None
        ):
            self._fire(now)
        try:
            if type(what) not in _OURS_TOO:
                self.engine.handle(what, now)  # type: ignore[arg-type]  # no LinkFailed
            elif isinstance(what, LinkFailed):
                self._lost(what.error, now)
            elif isinstance(what, Disconnected):
                self._lost(BrokerUnreachable("connection lost", "the connection broke"), now)
            elif isinstance(what, LinkOpened):
                self._greeting_at, self._waits_for = now + GREETING_TIMEOUT, _GREETING
            else:
                self._greeting_at, self._waits_for = now + GREETING_TIMEOUT, _SUBSCRIBING
                self.engine.handle(Connected(wall), now)
        finally:
            self._take(now)

    def give_up(self, now: float) -> None:
        """Stop waiting for the broker to acknowledge a logout."""
        if not self.engine.closed:
            self.engine.handle(Disconnected(), now)
            self._take(now)

    def abandon(self, problem: str) -> None:
        """End a login that nobody waits for any more; the will says that this peer is gone."""
        if not self._over:
            self._drop_link(clean=False)
            self._fail_login(LoginError(problem))

    def fail(self, problem: str) -> None:
        """End for good, ABORTED: whoever owns this session failed. Asks nothing of the engine."""
        if not self._over:
            self._out.clear()
            self._drop_link(clean=False)
            self._become(ConnectionState.ABORTED, ConnectionChange.FAILED, problem)
            self._close(ClientClosed(problem))

    def effects(self) -> list[SessionEffect]:
        """What is to be done since the last time, in this order."""
        out, self._out = self._out, []
        return out

    def deadline(self) -> float | None:
        """When to come back at the latest with ``DeadlineReached``; None for never."""
        if self._over:
            return None
        times = (self.engine.deadline(), self._retry_at, self._greeting_at, self._login_at)
        return min((t for t in times if t is not None), default=None)

    def due_before(self, at: float) -> bool:
        """Whether something is due before ``at``, without looking where that is plain."""
        if (
            self.engine.idle_until >= at
            and self._retry_at is self._greeting_at is self._login_at is None
        ):
            return False
        deadline = self.deadline()
        return deadline is not None and deadline < at

    # --- inside ----------------------------------------------------------------------------

    def _fire(self, now: float) -> None:
        if self._login_at is not None and self._login_at <= now:
            self._fail_login(
                self._last_error
                or LoginTimeout(self._waits_for.format(f"within {self._timeout:g} s"))
            )
        elif self._greeting_at is not None and self._greeting_at <= now:
            self._lost(BrokerUnreachable("timeout", self._waits_for.format("in time")), now)
        elif self._retry_at is not None and self._retry_at <= now:
            self._open(now)

    def _open(self, now: float) -> None:
        self._linked, self._waits_for = True, _OPENING
        self._retry_at = None
        self._greeting_at = now + OPEN_TIMEOUT
        self._out.append(OpenLink())

    def _lost(self, error: LoginError, now: float) -> None:
        """The link is gone, or never came: log in fails, or try again after a while."""
        if self._linked:
            self._out.append(CloseLink(clean=False))
        self._linked, self._greeting_at = False, None
        self._last_error = error
        self.engine.handle(Disconnected(), now)
        self._take(now)
        if self.closed:
            return
        if self._logging_in and not self._keep_trying:
            self._fail_login(error)
            return
        said_no = isinstance(error, BrokerRefused | SubscriptionRefused)
        self._become(
            ConnectionState.CONNECTING if self._logging_in else ConnectionState.RECONNECTING,
            ConnectionChange.REFUSED if said_no else ConnectionChange.INTERRUPTED,
            str(error),
        )
        if self._ready_at is not None and now - self._ready_at >= RETRY_LASTED:
            self._retry_delay = RETRY_FIRST  # it lasted: not one that lets in and throws out
        self._ready_at = None
        self._retry_at = now + self._retry_delay * (0.5 + self._random() / 2)
        self._retry_delay = min(self._retry_delay * 2, RETRY_MAX)

    def _fail_login(self, error: LoginError) -> None:
        # Not in due form: it may have said that it is online, and the will is what takes that back.
        self._drop_link(clean=False)
        self.login_failed = True
        self._become(ConnectionState.DISCONNECTED, ConnectionChange.REFUSED, str(error))
        self._close(error)

    def _drop_link(self, *, clean: bool) -> None:
        if self._linked:
            self._linked = False
            self._out.append(CloseLink(clean=clean))

    def _take(self, now: float) -> None:
        """Pass the engine's effects on, acting on those that concern the connection."""
        effects = self.engine.effects()
        if _PASSED_ON.issuperset(map(type, effects)):
            self._out += effects
            return
        for effect in effects:
            if type(effect) in _PASSED_ON:
                self._out.append(effect)
            elif isinstance(effect, Ready):
                self._greeting_at = self._login_at = None
                self._ready_at = now
                self._become(ConnectionState.CONNECTED, ConnectionChange.LOGIN_SUCCESS)
                if self._logging_in:
                    self._logging_in = False
                    self._out.append(LoginEnded(None))
            elif isinstance(effect, SubscriptionDenied):
                problem = f"the broker refused the subscription {effect.topic_filter!r}"
                self._lost(SubscriptionRefused(effect.topic_filter, problem), now)
            elif isinstance(effect, Aborted):
                self._drop_link(clean=True)
                self._become(ConnectionState.ABORTED, ConnectionChange.REMOTE_LOGIN)
                self.login_failed = self._logging_in
                self._close(LoginError("a newer login of this peer id took over"))
            elif isinstance(effect, Finished):
                self._drop_link(clean=True)
                self._become(ConnectionState.DISCONNECTED, ConnectionChange.LOGOUT)
                self._close(ClientClosed("it was logged out while it logged in"))

    def _close(self, error: LoginError | ClientClosed) -> None:
        """Every way ends here; a login that is still open ends with ``error``."""
        self._over = True
        self._login_at = self._retry_at = self._greeting_at = None
        if self._logging_in:
            self._logging_in = False
            self._out.append(LoginEnded(error))
        self._out.append(Closed())

    def _become(self, state: ConnectionState, change: ConnectionChange, detail: str = "") -> None:
        if state is not self.state or change is not self._change:
            self.state, self._change = state, change
            self._out.append(Emit(ConnectionStateChanged(state, change, detail)))
