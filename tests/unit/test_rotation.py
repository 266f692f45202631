"""Which of several brokers is dialed next: the decision alone, with chance as an argument."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.core.rotation import (
    PATIENCE_FIRST,
    PATIENCE_MAX,
    RETRY_FIRST,
    RETRY_LASTED,
    RETRY_MAX,
    Rotation,
    Target,
    in_order,
    spread,
)

names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True)
NODES = ("mqtt://a:1883", "mqtt://b:1883", "mqtt://c:1883")


@given(names, st.text(), st.randoms())
def test_a_peers_order_hangs_on_the_names_alone(given_names: list[str], peer: str, rng) -> None:
    """Not on the order in which they were given: all are there once, in the same order again."""
    order = spread(given_names, peer)
    shuffled = list(given_names)
    rng.shuffle(shuffled)
    assert sorted(order) == sorted(given_names)
    assert spread(shuffled, peer) == order


@given(names, st.text(), st.data())
def test_without_one_broker_the_others_keep_their_places(
    given_names: list[str], peer: str, data: st.DataObject
) -> None:
    """Who was at another stays there when one is taken off the list."""
    gone = data.draw(st.sampled_from(given_names))
    rest = [name for name in given_names if name != gone]
    assert spread(rest, peer) == tuple(name for name in spread(given_names, peer) if name != gone)


def test_start_and_flight_are_spread() -> None:
    """Of 3,000 peers a third begins at each of three; of each third one half flees to either."""
    orders = [spread(NODES, f"panel-{number}") for number in range(3000)]
    starts = Counter(order[0] for order in orders)
    assert all(900 < count < 1100 for count in starts.values())
    flights = Counter(order[:2] for order in orders)
    assert len(flights) == 6
    assert all(400 < count < 600 for count in flights.values())


@given(st.integers(1, 6), st.lists(st.tuples(st.none() | st.floats(0, 100), st.floats(0, 1))))
def test_each_failure_goes_on_to_the_next(
    count: int, failures: list[tuple[float | None, float]]
) -> None:
    """In turn, none preferred and none left out; the pause and the patience stay in bounds."""
    rotation = Rotation(tuple(map(str, range(count))))
    for number, (lasted, jitter) in enumerate(failures):
        assert rotation.name == str(number % count)
        pause = rotation.failed(lasted, jitter)
        assert RETRY_FIRST / 2 <= pause <= RETRY_MAX
        if count == 1:
            assert rotation.patience is None
        else:
            assert PATIENCE_FIRST <= (rotation.patience or 0) <= PATIENCE_MAX


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 0.5), (1.0, 1.0)])
def test_a_round_is_tried_at_once(jitter: float, factor: float) -> None:
    """All others follow within a moment; only when all have failed does it wait longer."""
    rotation = Rotation(NODES)
    pauses = [rotation.failed(None, jitter) for _ in range(9)]
    wanted = [RETRY_FIRST * factor * 2**round_ for round_ in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
    assert pauses == pytest.approx(wanted)


def test_one_that_served_ends_the_waiting() -> None:
    """If it lasted; one that lets in and throws out at once counts as a failure like others."""
    rotation = Rotation(NODES)
    for _ in range(6):
        rotation.failed(None, 1.0)
    assert rotation.patience == PATIENCE_FIRST * 2
    assert rotation.failed(RETRY_LASTED / 2, 1.0) == RETRY_FIRST * 4
    assert rotation.failed(RETRY_LASTED, 1.0) == RETRY_FIRST
    assert rotation.patience == PATIENCE_FIRST
    assert rotation.name == NODES[2]


DOMAIN = "mqtt+srv://bell.example"
A, B, C = Target("a", 10), Target("b", 10), Target("c", 20)


def asked(rotation: Rotation, now: float = 0.0) -> bool:
    """Whether a connection that is made now begins with a question to a source."""
    rotation.begin(now)
    return rotation.asks


def found(*targets: Target, until: float = 100.0) -> Rotation:
    """A rotation whose only source has said this."""
    rotation = Rotation((DOMAIN,), [DOMAIN])
    assert asked(rotation)
    rotation.found(targets, until)
    return rotation


def test_a_source_is_asked_before_there_is_a_broker() -> None:
    """Until it answers it is the only name, with no other to give way to."""
    rotation = Rotation((DOMAIN,), [DOMAIN])
    for _ in range(3):
        assert asked(rotation)
        assert (rotation.name, rotation.names, rotation.patience) == (DOMAIN, (DOMAIN,), None)
        rotation.failed(None, 1.0)
    rotation.found([A, B, C], 100.0)
    assert (rotation.name, rotation.names) == ("a", ("a", "b", "c"))
    assert not asked(rotation)
    assert rotation.patience is not None


def test_lower_priorities_first_whenever_one_that_served_is_lost() -> None:
    """Those of a higher number only when none of the lower ones did (RFC 2782)."""
    rotation = found(A, B, C)
    order = []
    for lasted in (60.0, None, None, 60.0, 60.0, 60.0):
        order.append(rotation.name)
        rotation.failed(lasted, 1.0)
    assert order == ["a", "b", "c", "a", "b", "a"]


def test_what_is_over_its_time_is_asked_for_again() -> None:
    """Before the next is dialed; then that one, if it is still named, or the first that is new."""
    for named, next_one in (((A, B, C), "b"), ((A, C), "c"), ((Target("d", 5), B), "d")):
        rotation = found(A, B, C)
        rotation.failed(60.0, 1.0)
        assert not asked(rotation, 99.9)
        assert asked(rotation, 100.0)
        assert rotation.name == DOMAIN
        rotation.found(named, 200.0)
        assert rotation.name == next_one
        assert not asked(rotation, 199.9)


def test_all_that_failed_are_asked_for_again() -> None:
    """Whatever their time: the domain may have moved."""
    rotation = found(A, B, C)
    for name in ("a", "b", "c"):
        assert not asked(rotation)
        assert rotation.name == name
        rotation.failed(None, 1.0)
    assert asked(rotation)
    rotation.found([A, B, C], 100.0)
    assert rotation.name == "a"


def test_a_source_that_does_not_answer_takes_nothing_away() -> None:
    """What it named is dialed, and it is asked again once all of that has failed."""
    rotation = found(A, B, C, until=0.0)
    rotation.failed(60.0, 1.0)
    assert asked(rotation)
    rotation.failed(None, 1.0)
    for name in ("b", "c", "a"):
        assert not asked(rotation, 10.0**6)
        assert rotation.name == name
        rotation.failed(None, 1.0)
    assert asked(rotation)


def test_what_is_named_outright_comes_before_what_is_found() -> None:
    """And is not asked for; a name that is both is the outright one's."""
    rotation = Rotation((DOMAIN, "a", "x"), [DOMAIN])
    assert not asked(rotation)
    assert rotation.name == "a"
    rotation.failed(None, 1.0)
    assert rotation.name == "x"
    rotation.failed(None, 1.0)
    assert asked(rotation)
    rotation.found([A, B], 100.0)
    assert rotation.name == "b"
    rotation.failed(60.0, 1.0)
    assert rotation.name == "a"


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), max_size=6, unique=True),
            st.none() | st.floats(0, 5),
            st.floats(0, 1),
            st.floats(0, 50),
        ),
        max_size=60,
    )
)
def test_whatever_a_source_says_all_that_is_known_is_dialed(
    steps: list[tuple[list[int], float | None, float, float]],
) -> None:
    """Each name within two rounds, with answers, silence and breaks before in any order."""
    rotation, now = Rotation((DOMAIN, "x"), [DOMAIN]), 0.0
    for answer, lasted, jitter, more in steps:
        if asked(rotation, now) and answer:
            rotation.found([Target(str(n), n % 3) for n in answer], now + 30)
            assert set(rotation.names) == {"x", *map(str, answer)}
            assert not rotation.asks
        assert rotation.name in (*rotation.names, DOMAIN)
        assert RETRY_FIRST / 2 <= rotation.failed(lasted, jitter) <= RETRY_MAX
        now += more
    dialed = set()
    for _ in range(2 * len(rotation.names)):
        dialed.add(rotation.name)
        rotation.failed(None, 1.0)
    assert dialed == set(rotation.names)


@given(st.lists(st.builds(Target, names, st.integers(0, 9), st.integers(0, 65535))), st.text())
def test_an_order_has_all_of_them_by_priority(targets: list[Target], peer: str) -> None:
    targets = [target._replace(name=str(n)) for n, target in enumerate(targets)]
    order = in_order(targets, peer)
    assert sorted(order) == sorted(targets)
    assert [t.priority for t in order] == sorted(t.priority for t in targets)
