"""The session alone: fed by hand, with a clock by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from device_sdk.core.connection import (
    GREETING_TIMEOUT,
    OPEN_TIMEOUT,
    Closed,
    CloseLink,
    LoginEnded,
    LoginSession,
    OpenLink,
    SessionEffect,
    combined,
)
from device_sdk.core.effects import (
    BrokersFound,
    Connected,
    DeadlineReached,
    Disconnected,
    Emit,
    Input,
    LinkFailed,
    LinkInput,
    LinkOpened,
    Logout,
    MessageReceived,
    Publish,
    PublishAcked,
    Subscribe,
    Subscribed,
)
from device_sdk.core.engine import Engine
from device_sdk.core.events import ConnectionStateChanged
from device_sdk.core.rotation import (
    PATIENCE_FIRST,
    RETRY_FIRST,
    RETRY_LASTED,
    RETRY_MAX,
    Rotation,
    Target,
)
from device_sdk.core.wire.cells import Presence
from device_sdk.core.wire.codec import encode
from device_sdk.errors import (
    BrokerRefused,
    BrokerUnreachable,
    LoginError,
    LoginTimeout,
    SubscriptionRefused,
)
from device_sdk.states import ConnectionChange, ConnectionState

ME, EPOCH = "me", b"epoch-me"
AWAY = BrokerUnreachable("connection refused", "nobody listens")


class Bench:
    """A session, its clock, and what it gave."""

    def __init__(
        self,
        *,
        keep_trying: bool = False,
        random: Callable[[], float] = lambda: 1.0,
        brokers: tuple[str, ...] = ("",),
        sources: tuple[str, ...] = (),
    ) -> None:
        rotation = Rotation(brokers, sources)
        self.session = LoginSession(
            Engine(ME, EPOCH), random=random, keep_trying=keep_trying, rotation=rotation
        )
        self.now = 1000.0
        self.done: list[SessionEffect] = []

    def start(self, timeout: float = 10) -> list[SessionEffect]:
        self.session.start(timeout, self.now)
        return self._take()

    def feed(self, what: Input | LinkInput) -> list[SessionEffect]:
        self.session.handle(what, self.now)
        return self._take()

    def _take(self) -> list[SessionEffect]:
        new = self.session.effects()
        self.done += new
        return new

    def due(self) -> list[SessionEffect]:
        """Go to the deadline, and over it."""
        at = self.session.deadline()
        assert at is not None
        self.now = max(self.now, at)
        return self.feed(DeadlineReached())

    def log_in(self) -> list[SessionEffect]:
        """From an open link to logged in."""
        self.feed(Connected())
        filters: tuple[str, ...] = ()
        out = self.feed(MessageReceived("sig/v1/me/presence", encode(Presence(True, EPOCH))))
        for effect in self.done:
            if isinstance(effect, Subscribe):
                filters += effect.filters
        return out + self.feed(Subscribed(granted=filters))

    @property
    def states(self) -> list[tuple[ConnectionState, ConnectionChange]]:
        """The connection states told so far."""
        return [
            (effect.event.state, effect.event.change)
            for effect in self.done
            if isinstance(effect, Emit) and isinstance(effect.event, ConnectionStateChanged)
        ]


def only(effects: list[SessionEffect], kind: type) -> list[SessionEffect]:
    return [effect for effect in effects if isinstance(effect, kind)]


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.start()
    made.log_in()
    return made


def test_a_login() -> None:
    """Open, greet, subscribe, say: then logged in, once."""
    bench = Bench()
    assert not bench.session.logged_in
    assert only(bench.start(), OpenLink) == [OpenLink()]
    assert bench.session.state is ConnectionState.CONNECTING
    out = bench.log_in()
    assert only(out, LoginEnded) == [LoginEnded(None)]
    assert bench.session.logged_in
    assert bench.states == [
        (ConnectionState.CONNECTING, ConnectionChange.LOGIN),
        (ConnectionState.CONNECTED, ConnectionChange.LOGIN_SUCCESS),
    ]


@pytest.mark.parametrize(
    "error", [AWAY, BrokerRefused(5, "no"), BrokerUnreachable("certificate", "old")]
)
def test_a_login_that_fails_says_why_at_once(error: LoginError) -> None:
    bench = Bench()
    bench.start()
    out = bench.feed(LinkFailed(error))
    assert only(out, LoginEnded) == [LoginEnded(error)]
    assert out[-1] == Closed()
    assert bench.session.closed
    assert bench.session.deadline() is None
    assert not only(bench.feed(DeadlineReached()), OpenLink)


def test_a_login_out_of_time() -> None:
    """The link is closed, what it still says is nobody's, and the will takes back *online*."""
    bench = Bench()
    bench.start(timeout=3)
    bench.feed(Connected())
    out: list[SessionEffect] = []
    while not bench.session.closed:
        out = bench.due()
    assert bench.now == pytest.approx(1003)
    (ended,) = only(out, LoginEnded)
    assert isinstance(ended, LoginEnded)
    assert isinstance(ended.error, LoginTimeout)
    assert only(out, CloseLink) == [CloseLink(clean=False)]
    assert bench.feed(Connected()) == []


@pytest.mark.parametrize(
    ("came", "text"),
    [
        ([], "no connection within 3 s: the broker's name is not resolved, or its host is silent"),
        ([LinkOpened()], "took the connection but did not answer the greeting (CONNECT) within"),
        ([LinkOpened(), Connected()], "answered the greeting but did not finish the login"),
    ],
)
def test_a_login_out_of_time_says_how_far_it_came(came: list[LinkInput], text: str) -> None:
    """A stuck resolver is no broker that took the connection; nor is one of the attempt before."""
    bench = Bench()
    bench.start(timeout=3)
    for what in came:
        bench.feed(what)
    while not bench.session.closed:
        out = bench.due()
    (ended,) = only(out, LoginEnded)
    assert isinstance(ended, LoginEnded)
    assert text in str(ended.error)


def test_a_slow_link_is_given_its_time_to_open() -> None:
    """Resolving and connecting have bounds of their own; only one that has none is given up."""
    bench = Bench(keep_trying=True)
    bench.start(timeout=600)
    out = bench.due()
    assert bench.now == 1000 + OPEN_TIMEOUT
    assert only(out, CloseLink) == [CloseLink(clean=False)]
    assert only(bench.due(), OpenLink)


def test_each_step_has_its_own_time() -> None:
    """To the CONNACK counts from the open link, to the SUBACK from the CONNACK."""
    bench = Bench(keep_trying=True)
    bench.start(timeout=600)
    for step in (LinkOpened(), Connected()):
        bench.now += GREETING_TIMEOUT - 0.1
        assert not only(bench.feed(step), CloseLink)
    bench.now += GREETING_TIMEOUT - 0.1
    assert only(bench.log_in(), LoginEnded) == [LoginEnded(None)]


def test_a_silent_broker_is_given_up_after_the_greeting_time() -> None:
    bench = Bench(keep_trying=True)
    bench.start(timeout=60)
    bench.now += 30
    bench.feed(LinkOpened())
    out = bench.due()
    assert bench.now == 1030 + GREETING_TIMEOUT
    assert only(out, CloseLink) == [CloseLink(clean=True)]  # its will has nothing to take back
    assert not only(out, LoginEnded)
    assert only(bench.due(), OpenLink)


def test_keep_trying_goes_on_until_its_time_is_over_and_then_says_the_last_reason() -> None:
    bench = Bench(keep_trying=True)
    bench.start(timeout=4)
    attempts = 0
    while not bench.session.closed:
        attempts += 1
        bench.feed(LinkFailed(AWAY))
        assert bench.session.state is ConnectionState.CONNECTING
        bench.due()
    (ended,) = only(bench.done, LoginEnded)
    assert isinstance(ended, LoginEnded)
    assert ended.error is AWAY
    assert attempts == 6  # after 0.1, 0.2, 0.4, 0.8, 1.6 s
    assert bench.now == 1004


def test_a_refused_subscription_fails_the_login_with_its_filter() -> None:
    bench = Bench()
    bench.start()
    bench.feed(Connected())
    out = bench.feed(Subscribed(refused=("sig/v1/+/answer/me/+",)))
    (ended,) = only(out, LoginEnded)
    assert isinstance(ended, LoginEnded)
    assert isinstance(ended.error, SubscriptionRefused)
    assert ended.error.topic_filter == "sig/v1/+/answer/me/+"
    assert bench.session.closed


@pytest.mark.parametrize(("random", "factor"), [(0.0, 0.5), (1.0, 1.0), (0.5, 0.75)])
def test_retries_double_with_jitter_up_to_the_most(random: float, factor: float) -> None:
    """Between half of it and all of it, from 0.1 s, doubled, never over 5 s."""
    bench = Bench(random=lambda: random)
    bench.start()
    bench.log_in()
    bench.feed(Disconnected())
    waits = []
    for _ in range(9):
        at = bench.now
        assert only(bench.due(), OpenLink) == [OpenLink()]
        waits.append(bench.now - at)
        bench.feed(LinkFailed(AWAY))
    wanted = [min(RETRY_FIRST * 2**i, RETRY_MAX) * factor for i in range(9)]
    assert waits == pytest.approx(wanted)


def test_a_login_starts_the_retries_over(bench: Bench) -> None:
    """If it lasts; a broker that lets in and throws out at once is not asked ten times a second."""
    for lasted, delay in ((RETRY_LASTED, 1), (RETRY_LASTED, 1), (0, 2), (0, 4), (RETRY_LASTED, 1)):
        bench.now += lasted
        bench.feed(Disconnected())
        at = bench.now
        bench.due()
        assert bench.now - at == pytest.approx(RETRY_FIRST * delay)
        bench.log_in()
        assert bench.session.state is ConnectionState.CONNECTED


def test_a_broken_link_is_told_and_the_session_stays_logged_in(bench: Bench) -> None:
    out = bench.feed(Disconnected())
    assert only(out, CloseLink) == [CloseLink(clean=False)]
    assert bench.session.state is ConnectionState.RECONNECTING
    assert bench.session.logged_in
    assert bench.states[-1] == (ConnectionState.RECONNECTING, ConnectionChange.INTERRUPTED)
    bench.due()
    bench.feed(LinkFailed(BrokerRefused(5, "not authorized")))
    assert bench.states[-1] == (ConnectionState.RECONNECTING, ConnectionChange.REFUSED)


@pytest.mark.parametrize(
    "late",
    [
        Connected(),
        Disconnected(),
        Subscribed(("x",)),
        MessageReceived("sig/v1/me/presence", b""),
        PublishAcked(1),
        LinkFailed(AWAY),
        LinkOpened(),
    ],
)
def test_a_link_that_was_given_up_has_no_word(bench: Bench, late: LinkInput) -> None:
    bench.feed(Disconnected())
    before = bench.session.deadline()
    assert bench.feed(late) == []
    assert bench.session.deadline() == before


def test_a_logout_waits_for_its_acknowledgement(bench: Bench) -> None:
    out = bench.feed(Logout())
    (goodbye,) = only(out, Publish)
    assert isinstance(goodbye, Publish)
    assert goodbye.topic == "sig/v1/me/presence"
    assert not bench.session.closed
    out = bench.feed(PublishAcked(goodbye.token or 0))
    assert only(out, CloseLink) == [CloseLink(clean=True)]
    assert out[-1] == Closed()
    assert bench.session.state is ConnectionState.DISCONNECTED
    assert not bench.session.logged_in


def test_a_logout_that_nobody_acknowledges_is_given_up(bench: Bench) -> None:
    bench.feed(Logout())
    bench.session.give_up(bench.now)
    out = bench.session.effects()
    assert out[-1] == Closed()
    assert bench.session.closed
    bench.session.give_up(bench.now)
    assert bench.session.effects() == []


def test_a_logout_without_a_link_ends_at_once(bench: Bench) -> None:
    bench.feed(Disconnected())
    out = bench.feed(Logout())
    assert out[-1] == Closed()
    assert not only(out, CloseLink)
    assert bench.session.deadline() is None


def test_a_newer_login_aborts(bench: Bench) -> None:
    bench.feed(Disconnected())
    bench.due()
    bench.feed(Connected())
    newer = encode(Presence(True, b"another!", generation=1))
    out = bench.feed(MessageReceived("sig/v1/me/presence", newer, True))
    assert only(out, CloseLink) == [CloseLink(clean=True)]
    assert out[-1] == Closed()
    assert bench.session.state is ConnectionState.ABORTED
    assert bench.states[-1] == (ConnectionState.ABORTED, ConnectionChange.REMOTE_LOGIN)
    assert bench.session.deadline() is None


def test_the_same_state_is_told_once(bench: Bench) -> None:
    bench.feed(Disconnected())
    for _ in range(4):
        bench.due()
        bench.feed(LinkFailed(AWAY))
    assert bench.states[2:] == [(ConnectionState.RECONNECTING, ConnectionChange.INTERRUPTED)]


# --- several brokers ---------------------------------------------------------------------------

THREE = ("mqtt://a", "mqtt://b", "mqtt://c")


def error_of(bench: Bench) -> LoginError:
    (ended,) = only(bench.done, LoginEnded)
    assert isinstance(ended, LoginEnded)
    assert isinstance(ended.error, LoginError)
    return ended.error


def test_a_login_tries_each_broker_before_it_fails() -> None:
    """The second lets in what the first did not; the event says which one serves."""
    bench = Bench(brokers=THREE)
    bench.start()
    bench.feed(LinkFailed(AWAY))
    assert bench.session.logging_in
    assert only(bench.due(), OpenLink)
    assert bench.now == pytest.approx(1000 + RETRY_FIRST)
    bench.log_in()
    assert bench.session.logged_in
    assert bench.session.rotation.name == "mqtt://b"
    last = [e.event for e in bench.done if isinstance(e, Emit)][-1]
    assert isinstance(last, ConnectionStateChanged)
    assert (last.state, last.detail) == (ConnectionState.CONNECTED, "mqtt://b")


def test_a_login_that_no_broker_wants_says_why_of_each() -> None:
    """One error, of the kind that a person has to mend: the refusal, not the one that is away."""
    bench = Bench(brokers=THREE)
    bench.start()
    bench.feed(LinkFailed(BrokerUnreachable("timeout", "mqtt://a: no answer")))
    bench.due()
    bench.feed(LinkFailed(BrokerRefused(5, "mqtt://b refused: not authorized")))
    bench.due()
    bench.feed(LinkOpened())
    bench.feed(Disconnected())
    error = error_of(bench)
    assert isinstance(error, BrokerRefused)
    assert error.return_code == 5
    assert str(error) == (
        "none of 3 brokers let us in: mqtt://a: no answer; mqtt://b refused: not authorized;"
        " mqtt://c: the connection broke"
    )


@pytest.mark.parametrize(
    ("errors", "kind", "code"),
    [
        ((AWAY, SubscriptionRefused("f", "no"), LoginTimeout("late")), SubscriptionRefused, None),
        ((LoginTimeout("late"), AWAY), BrokerUnreachable, None),
        ((AWAY, LoginTimeout("late")), LoginTimeout, None),
        ((AWAY, BrokerRefused(5, "no"), SubscriptionRefused("f", "no")), BrokerRefused, 5),
    ],
)
def test_of_several_brokers_what_a_person_has_to_mend_is_raised(
    errors: tuple[LoginError, ...], kind: type[LoginError], code: int | None
) -> None:
    """A refusal before all else, then what became of the last; all of them are in its text."""
    error = combined(errors)
    assert type(error) is kind
    assert getattr(error, "return_code", None) == code
    assert all(str(one) in str(error) for one in errors)


def test_a_broker_that_hangs_is_left_for_the_next() -> None:
    """Whatever it hangs in: each step has some seconds while there are others, and more if none."""
    for steps in ([], [LinkOpened()], [LinkOpened(), Connected()]):
        bench = Bench(brokers=THREE, keep_trying=True)
        bench.start(timeout=600)
        for factor in (1, 1, 2, 4):
            patience = bench.session.rotation.patience
            assert patience == PATIENCE_FIRST * factor
            for _broker in THREE:
                for step in steps:
                    bench.feed(step)
                began = bench.now
                while not only(bench.due(), CloseLink):
                    assert bench.now - began < patience
                assert bench.now - began == pytest.approx(patience)
                assert only(bench.due(), OpenLink)


def test_a_login_out_of_time_names_the_broker_it_waited_for() -> None:
    """And what became of those before; the next login begins with one that was not tried."""
    bench = Bench(brokers=THREE)
    bench.start(timeout=1)
    bench.feed(LinkFailed(BrokerUnreachable("timeout", "mqtt://a: no answer")))
    bench.due()
    bench.feed(LinkOpened())
    bench.due()
    assert bench.now == 1001
    error = error_of(bench)
    assert isinstance(error, LoginTimeout)
    assert "mqtt://a: no answer; mqtt://b: the broker took the connection" in str(error)
    assert bench.session.rotation.name == "mqtt://c"


def test_a_login_stays_where_it_is_served() -> None:
    """A break goes on to the next one, and no further; nothing leads back to the first."""
    bench = Bench(brokers=THREE)
    bench.start()
    bench.log_in()
    for name in ("mqtt://b", "mqtt://c", "mqtt://a", "mqtt://b"):
        bench.now += 60
        bench.feed(Disconnected())
        assert bench.session.state is ConnectionState.RECONNECTING
        assert bench.session.rotation.name == name
        bench.due()
        bench.log_in()
        assert bench.session.state is ConnectionState.CONNECTED
        assert bench.session.rotation.name == name


def test_a_login_at_what_a_name_stands_for() -> None:
    """The look-up is no failure, nor a broker that a login has tried in vain."""
    bench = Bench(brokers=("mqtt+srv://x",), sources=("mqtt+srv://x",))
    bench.start()
    bench.feed(LinkOpened())
    out = bench.feed(BrokersFound((Target("mqtt://a"), Target("mqtt://b", 1)), 60.0))
    assert [type(effect) for effect in out] == [CloseLink, OpenLink]
    bench.feed(LinkFailed(BrokerUnreachable("timeout", "mqtt://a: no answer")))
    bench.due()
    assert bench.session.rotation.name == "mqtt://b"
    bench.log_in()
    assert bench.session.state is ConnectionState.CONNECTED
    bench.now += 61
    bench.feed(Disconnected())
    bench.due()
    assert bench.session.rotation.asks
    bench.feed(LinkOpened())
    bench.feed(BrokersFound((Target("mqtt://c"),), 60.0))
    assert bench.session.rotation.name == "mqtt://c"


def test_a_login_whose_name_nobody_knows_fails() -> None:
    """With what the look-up said, as one at a single broker does."""
    bench = Bench(brokers=("mqtt+srv://x",), sources=("mqtt+srv://x",))
    bench.start()
    bench.feed(LinkFailed(BrokerUnreachable("unknown host", "mqtt+srv://x: no SRV record")))
    assert str(error_of(bench)) == "mqtt+srv://x: no SRV record"


def test_who_gives_up_without_a_word_leaves_no_will() -> None:
    """A broker may publish it after the peer is back elsewhere; who has said nothing owes none.

    A first connection has said that it is online; a later one reads first, so it has not.
    """
    bench = Bench(brokers=THREE, keep_trying=True)
    bench.start(timeout=600)
    for spoken in (True, False):
        bench.feed(LinkOpened())
        bench.feed(Connected())
        while not (closed := only(bench.due(), CloseLink)):
            pass
        assert closed == [CloseLink(clean=not spoken)]
        bench.due()
        bench.log_in()
        bench.feed(Disconnected())
        bench.due()


@pytest.mark.parametrize("login", [False, True])
def test_a_link_that_is_given_up_at_that_moment_has_no_word(login: bool) -> None:
    """Its time is over, and what is fed then is its CONNACK: nothing is said, or greeted, by it."""
    bench = Bench(keep_trying=True)
    bench.start(timeout=GREETING_TIMEOUT / 2 if login else 1000)
    bench.feed(LinkOpened())
    bench.now += GREETING_TIMEOUT
    out = bench.feed(Connected())
    assert only(out, CloseLink) == [CloseLink(clean=not login)]
    assert only(out, Publish) == only(out, Subscribe) == []
    if not login:
        assert only(bench.due(), OpenLink) == [OpenLink()]
        assert only(bench.log_in(), LoginEnded) == [LoginEnded(None)]


def test_a_link_that_breaks_while_logging_out_is_not_made_anew(bench: Bench) -> None:
    """Whoever leaves is gone by that: the will says so."""
    bench.feed(Logout())
    out = bench.feed(Disconnected())
    assert only(out, Closed) == [Closed()]
    assert bench.states[-1] == (ConnectionState.DISCONNECTED, ConnectionChange.LOGOUT)
    assert bench.session.deadline() is None
