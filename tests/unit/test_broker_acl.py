"""Who may do what, rule by rule and forged level by forged level."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_config.access.acl import contains, may_publish, may_subscribe
from tests.unit.test_broker_index import filters, matches

CALL = "AAAAAAAAAAAAAAAAAAAAAA"
TOPICS = st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=4).map("/".join)


@given(filters(), filters(), TOPICS)
def test_a_contained_filter_matches_nothing_more(pattern: str, asked: str, topic: str) -> None:
    if contains(pattern, asked) and matches(asked, topic):
        assert matches(pattern, topic)


@pytest.mark.parametrize(
    ("pattern", "asked", "verdict"),
    [
        ("a/+", "a/#", False),
        ("a/+", "a/+", True),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "a/#", True),
        ("a/#", "#", False),
        ("a/#", "+/b", False),
        ("+/b", "a/b", True),
        ("+/b", "$SYS/b", False),
        ("#", "$SYS/#", False),
        ("a/b", "a/+", False),
    ],
)
def test_containment(pattern: str, asked: str, verdict: bool) -> None:
    assert contains(pattern, asked) is verdict


@pytest.mark.parametrize(
    ("topic_filter", "verdict"),
    [
        ("sig/v1/kitchen/invite/+/+", True),
        ("sig/v1/kitchen/#", True),
        ("sig/v1/+/presence", True),
        ("sig/v1/bedroom/presence", True),
        ("sig/v1/+/invite/kitchen/+", True),
        ("sig/v1/+/answer/kitchen/+", True),
        ("sig/v1/bedroom/invite/+/+", False),
        ("sig/v1/+/invite/+/+", False),
        ("sig/v1/+/invite/bedroom/+", False),
        ("sig/v1/#", False),
        ("#", False),
        ("+/v1/kitchen/#", False),
        ("other/v1/kitchen/#", False),
    ],
)
def test_kitchen_subscribes_its_own_and_presences(topic_filter: str, verdict: bool) -> None:
    assert may_subscribe("sig", "kitchen", topic_filter) is verdict


def test_one_that_watches_reads_its_realm_only() -> None:
    assert may_subscribe("sig", "phone", "sig/v1/#", watches=True)
    assert not may_subscribe("sig", "phone", "#", watches=True)
    assert not may_subscribe("sig", "phone", "other/v1/#", watches=True)


@pytest.mark.parametrize(
    ("topic", "verdict"),
    [
        ("sig/v1/door/presence", True),
        ("sig/v1/kitchen/presence", False),
        (f"sig/v1/kitchen/invite/door/{CALL}", True),
        (f"sig/v1/garage/invite/door/{CALL}", False),
        (f"sig/v1/kitchen/invite/garage/{CALL}", False),
        (f"sig/v1/kitchen/answer/door/{CALL}", False),
        (f"sig/v1/porch/answer/door/{CALL}", True),
        (f"sig/v1/porch/answer/kitchen/{CALL}", False),
        (f"other/v1/kitchen/invite/door/{CALL}", False),
        ("sig/v1/kitchen/invite/door/short", False),
        ("sig/v1/kitchen/other/door/x", False),
    ],
)
def test_door_writes_its_own_cells_of_allowed_calls(topic: str, verdict: bool) -> None:
    """The door may call the kitchen; the porch may call the door, which answers."""
    allowed = {("door", "kitchen"), ("porch", "door")}
    assert may_publish("sig", "door", topic, lambda *pair: pair in allowed) is verdict


def test_a_peer_id_is_escaped_in_its_topics() -> None:
    assert may_subscribe("sig", "kitchen.1", "sig/v1/kitchen%2E1/#")
    assert not may_subscribe("sig", "kitchen.1", "sig/v1/kitchen.1/#")
    assert may_publish("sig", "kitchen.1", "sig/v1/kitchen%2E1/presence", lambda *_: False)
