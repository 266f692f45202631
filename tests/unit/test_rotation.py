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
