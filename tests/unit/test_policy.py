"""A policy says what is off with it where it is made, not at the first call."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from device_sdk import InvalidArgument, Policy
from device_sdk.client.schedule import Window
from device_sdk.core.wire.cells import AnswerReason

NIGHT = datetime(2026, 6, 1, 23, 0)  # noqa: DTZ001 # local wall time is what it compares
DAY = datetime(2026, 6, 1, 12, 0)  # noqa: DTZ001 # as above


def turned_away(policy: Policy, now: datetime) -> AnswerReason | None:
    return policy.screen("front-door", open_calls=0, occupied=False, now=now)


@pytest.mark.parametrize("policy", [
    Policy(quiet=("22:00-07:00",)), Policy(quiet=["22:00-07:00"]),
    Policy.make(quiet=("22:00-07:00",)), Policy(quiet=Policy(quiet=["22:00-07:00"]).quiet),
    Policy()._replace(quiet=["22:00-07:00"]),
])  # fmt: skip
def test_quiet_hours_as_the_docstring_writes_them(policy: Policy) -> None:
    """At night nobody rings, by day everybody; and who may, does."""
    assert turned_away(policy, NIGHT) is AnswerReason.DO_NOT_DISTURB
    assert turned_away(policy, DAY) is None
    assert turned_away(policy._replace(allow={"front-door"}), NIGHT) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quiet", "22:00-07:00"),
        ("quiet", ["22-07"]),
        ("quiet", ["25:00-26:00"]),
        ("quiet", ["\u0662\u0662:00-07:00"]),
        ("quiet", [None]),
        ("quiet", 7),
        ("quiet", [Window(frozenset({7}), 0, 60)]),
        ("quiet", [Window(frozenset({1}), 60, 60)]),
        ("quiet", [Window(frozenset({1}), 0, 5000)]),
        ("allow", "kitchen"),
        ("allow", ["x" * 65]),
        ("allow", [7]),
        ("allow", None),
        ("busy_when_ringing", "no"),
        ("do_not_disturb", 1),
        ("do_not_disturb", None),
    ],
)
def test_what_is_off_is_named(name: str, value: Any) -> None:
    for make in (Policy, Policy.make, Policy()._replace):
        with pytest.raises(InvalidArgument) as caught:
            make(**{name: value})
        assert caught.value.argument == name
