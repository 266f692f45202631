"""One login over as many connections as it takes: when to connect, when to give up; sans-IO.

Around the engine stands what depends on the link but not on the protocol: the connection states,
reconnecting with jitter, what makes a login fail. Inputs are those of the engine and of the link;
out come the engine's effects and a few of its own.
"""

from collections.abc import Callable, Iterable
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
    BrokersFound,
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
from .rotation import Rotation
from .values import Marker, distinct

#: From the start of a connection until the link is open. Each step of that has a bound of its own
#: in the link, so this is for links that have none. (Of several brokers: Rotation.patience.)
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
    (Connected, Disconnected, Subscribed, MessageReceived, PublishAcked, LinkFailed, LinkOpened,
     BrokersFound)
)  # fmt: skip
#: What does not simply go to the engine.
_OURS_TOO = frozenset((LinkFailed, LinkOpened, BrokersFound, Disconnected, Connected))
#: Effects of the engine that concern others than the connection.
_PASSED_ON = frozenset((Publish, Emit, AskPolicy, Subscribe, Unsubscribe, Dropped))


class LoginSession:
    """The life of one login; the same three moves as the engine: feed, perform, re-arm."""

    def __init__(
        self,
        engine: Engine,
        *,
        random: Callable[[], float],
        keep_trying: bool = False,
        rotation: Rotation | None = None,
    ) -> None:
        self.engine = engine
        #: The broker of the connection that is there, or is being made.
        self.rotation = rotation or Rotation()
        self.state = ConnectionState.DISCONNECTED
        self._random = random
        self._keep_trying = keep_trying
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
        self._errors: dict[str, LoginError] = {}  # of the login: the last one of each broker
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
        self.rotation.begin(now)
        self._open(now)

    def handle(self, what: Input | LinkInput, now: float, wall: int | None = None) -> None:
        """Take one thing in; raises as :meth:`Engine.handle` does."""
        linked = self._linked
        if (
            self._retry_at is not None
            or self._greeting_at is not None
            or self._login_at is not None
        ):
            self._fire(now)
        if type(what) in _LINK_INPUTS and not (linked and self._linked):
            return  # a link that was given up, perhaps only now, still had a word
        try:
            if type(what) not in _OURS_TOO:
                self.engine.handle(what, now)  # type: ignore[arg-type]  # no LinkFailed
            elif isinstance(what, LinkFailed):
                self._lost(what.error, now)
            elif isinstance(what, Disconnected):
                problem = self._of_broker("the connection broke")
                self._lost(BrokerUnreachable("connection lost", problem), now)
            elif isinstance(what, LinkOpened):
                self._wait_for(_GREETING, GREETING_TIMEOUT, now)
            elif isinstance(what, BrokersFound):
                self._found(what, now)
            else:
                self._wait_for(_SUBSCRIBING, GREETING_TIMEOUT, now)
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
        self._fail_login(LoginError(problem))

    def fail(self, problem: str) -> None:
        """End for good, ABORTED: whoever owns this session failed. Asks nothing of the engine."""
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
            late = self._waits_for.format(f"within {self._timeout:g} s")
            if self._linked and (not self._errors or len(self.rotation.names) > 1):
                self._errors[self.rotation.name] = LoginTimeout(self._of_broker(late))
            if self._linked:
                self.rotation.failed(None, 0.0)  # the next login begins with another one
            self._fail_login(combined(self._errors.values()))
        elif self._greeting_at is not None and self._greeting_at <= now:
            late = self._of_broker(self._waits_for.format("in time"))
            clean = self._waits_for is not _OPENING and not self.engine.speaks
            self._lost(BrokerUnreachable("timeout", late), now, clean=clean)
        elif self._retry_at is not None and self._retry_at <= now:
            self.rotation.begin(now)
            self._open(now)

    def _open(self, now: float) -> None:
        self._linked = True
        self._retry_at = None
        self._wait_for(_OPENING, OPEN_TIMEOUT, now)
        self._out.append(OpenLink())

    def _found(self, what: BrokersFound, now: float) -> None:
        """The name that was looked up stands for these: go on with one of them."""
        self._errors.pop(self.rotation.name, None)
        self._drop_link(clean=False)
        self.rotation.found(what.targets, now + what.ttl)
        self._open(now)

    def _wait_for(self, what: str, timeout: float, now: float) -> None:
        """Give this step its time: less of it where another broker may do better."""
        patience = self.rotation.patience
        self._greeting_at = now + (timeout if patience is None else min(patience, timeout))
        self._waits_for = what

    def _of_broker(self, problem: str) -> str:
        """``problem`` with the name of the broker that has it."""
        name = self.rotation.name
        return f"{name}: {problem}" if name else problem

    def _lost(self, error: LoginError, now: float, *, clean: bool = False) -> None:
        """The link is gone, or never came: log in fails, or try again after a while.

        ``clean``: it is given up, and its will has nothing to take back.
        """
        self._drop_link(clean=clean)
        self._greeting_at = None
        if self._logging_in:
            self._errors.pop(self.rotation.name, None)
            self._errors[self.rotation.name] = error
        lasted = None if self._ready_at is None else now - self._ready_at
        self._ready_at = None
        pause = self.rotation.failed(lasted, self._random())
        self.engine.handle(Disconnected(), now)
        self._take(now)
        if self.closed:
            return
        tried = self._errors.keys() >= set(self.rotation.names)
        if self._logging_in and tried and not self._keep_trying:
            self._fail_login(combined(self._errors.values()))
            return
        said_no = isinstance(error, BrokerRefused | SubscriptionRefused)
        self._become(
            ConnectionState.CONNECTING if self._logging_in else ConnectionState.RECONNECTING,
            ConnectionChange.REFUSED if said_no else ConnectionChange.INTERRUPTED,
            str(error),
        )
        self._retry_at = now + pause

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
                self._become(
                    ConnectionState.CONNECTED, ConnectionChange.LOGIN_SUCCESS, self.rotation.name
                )
                if self._logging_in:
                    self._logging_in = False
                    self._out.append(LoginEnded(None))
            elif isinstance(effect, SubscriptionDenied):
                problem = f"the broker refused the subscription {effect.topic_filter!r}"
                error = SubscriptionRefused(effect.topic_filter, self._of_broker(problem))
                self._lost(error, now)
            elif isinstance(effect, Aborted):
                self._drop_link(clean=True)
                self._become(ConnectionState.ABORTED, ConnectionChange.REMOTE_LOGIN)
                self.login_failed = self._logging_in
                self._close(LoginError("a newer login of this peer id took over"))
            else:
                assert isinstance(effect, Finished)  # noqa: S101
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


def combined(errors: Iterable[LoginError]) -> LoginError:
    """One error for a login of which these, in this order, say how each broker failed.

    Its type and code are those of what a person has to mend, where one of them is.
    """
    each = list(errors)
    if len(each) == 1:
        return each[0]
    problem = f"none of {len(each)} brokers let us in: " + "; ".join(map(str, each))
    refusals = (one for one in each if isinstance(one, BrokerRefused | SubscriptionRefused))
    error = next(refusals, each[-1])
    if isinstance(error, BrokerRefused):
        return BrokerRefused(error.return_code, problem)
    if isinstance(error, SubscriptionRefused):
        return SubscriptionRefused(error.topic_filter, problem)
    if isinstance(error, BrokerUnreachable):
        return BrokerUnreachable(error.cause, problem)
    return LoginTimeout(problem)
