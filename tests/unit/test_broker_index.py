"""The subscription index against the plain reading of section 4.7."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_config.core.limits import Limits
from broker_config.core.retained import RetainedMessages
from broker_config.core.topics import Subscriptions

LEVELS = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), min_size=1, max_size=4))
    if draw(st.booleans()):
        levels[-1] = "#"
    return "/".join(levels) or "+"


def matches(topic_filter: str, topic: str) -> bool:
    """Section 4.7, level by level."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return index <= len(levels)
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


@given(st.lists(st.tuples(filters(), st.integers(0, 5), st.integers(0, 2)), max_size=12), TOPICS)
def test_match_is_the_highest_qos_of_each_matching_subscriber(
    added: list[tuple[str, int, int]], topic: str
) -> None:
    index: Subscriptions[int] = Subscriptions()
    expected: dict[tuple[str, int], int] = {}
    for topic_filter, who, qos in added:
        index.add(topic_filter, who, qos)
        expected[topic_filter, who] = qos
    best: dict[int, int] = {}
    for (topic_filter, who), qos in expected.items():
        if matches(topic_filter, topic):
            best[who] = max(qos, best.get(who, 0))
    assert index.match(topic) == best
    assert len(index) == len(expected)


@given(st.lists(filters(), max_size=12, unique=True))
def test_nothing_is_left_of_what_was_removed(added: list[str]) -> None:
    index: Subscriptions[int] = Subscriptions()
    for topic_filter in added:
        index.add(topic_filter, 1, 1)
    for topic_filter in added:
        assert index.remove(topic_filter, 1)
        assert not index.remove(topic_filter, 1)
    assert len(index) == 0
    assert list(index.items()) == []
    assert index.root.children is None


WRITERS = st.sampled_from(["x", "y", "$x", ""])
LONG = st.lists(WRITERS, min_size=4, max_size=7).map("/".join)


@st.composite
def long_filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.sampled_from(["x", "y", "", "+"]), min_size=4, max_size=7))
    if draw(st.booleans()):
        levels[-1] = "#"
    return "/".join(levels)


@given(
    st.lists(st.one_of(TOPICS, LONG), max_size=30, unique=True),
    st.one_of(filters(), long_filters()),
)
def test_retained_topics_are_found_by_filter(topics: list[str], topic_filter: str) -> None:
    """By their levels from the left, and by their writer where there are many owners."""
    retained = RetainedMessages(Limits())
    for topic in topics:
        retained.set(topic, b"x", 1, "", 0.0)
    found = [kept.topic for kept in retained.search(topic_filter) if kept is not None]
    assert sorted(found) == sorted(topic for topic in topics if matches(topic_filter, topic))
    for topic in topics:
        retained.clear(topic)
    assert not [kept for kept in retained.search("#") if kept is not None]
    assert retained._tree.root.children is None
    assert (retained._written, retained.held, retained.bytes) == ({}, {}, 0)


def test_a_writers_cells_cost_what_they_are() -> None:
    """Who logs in looks for its own cells at every owner: not at those of all others."""
    retained = RetainedMessages(Limits())
    for number in range(2000):
        retained.set(f"sig/v1/p{number}/invite/door{number % 50}/c", b"x", 1, "", 0.0)
    steps = list(retained.search("sig/v1/+/invite/door7/+"))
    assert len(steps) == len([each for each in steps if each is not None]) == 40


def test_a_filter_of_the_parent_matches_it() -> None:
    """Section 4.7.1.2: sport/tennis/player1/# matches sport/tennis/player1."""
    index: Subscriptions[str] = Subscriptions()
    index.add("sport/#", "x", 1)
    assert index.match("sport") == {"x": 1}
    assert index.match("sports") == {}
