"""The subscription index against the plain reading of section 4.7."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_config.index import SubscriptionIndex, TopicTree

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
    index: SubscriptionIndex[int] = SubscriptionIndex()
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
    index: SubscriptionIndex[int] = SubscriptionIndex()
    for topic_filter in added:
        index.add(topic_filter, 1, 1)
    for topic_filter in added:
        assert index.remove(topic_filter, 1)
        assert not index.remove(topic_filter, 1)
    assert len(index) == 0
    assert list(index.items()) == []
    assert index._root.children is None


@given(st.lists(TOPICS, max_size=12, unique=True), filters())
def test_retained_topics_are_found_by_filter(topics: list[str], topic_filter: str) -> None:
    tree: TopicTree[str] = TopicTree()
    for topic in topics:
        tree.set(topic, topic)
    assert sorted(tree.match(topic_filter)) == sorted(
        topic for topic in topics if matches(topic_filter, topic)
    )
    for topic in topics:
        tree.remove(topic)
    assert tree.match("#") == []
    assert tree._root.children is None


def test_a_filter_of_the_parent_matches_it() -> None:
    """Section 4.7.1.2: sport/tennis/player1/# matches sport/tennis/player1."""
    index: SubscriptionIndex[str] = SubscriptionIndex()
    index.add("sport/#", "x", 1)
    assert index.match("sport") == {"x": 1}
    assert index.match("sports") == {}
