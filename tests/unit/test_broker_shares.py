"""Shares, rates and log lines, by arithmetic alone."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from broker_config.limits import Allowances, Limits
from broker_config.seldom import Seldom, short
from broker_config.shares import FLOOR, Shares

LIMITS = replace(
    Limits(), retained=4000, retained_per_device=1000, retained_bytes_per_device=100_000
)


def filled(count: int, device: str = "greedy", size: int = 10) -> Shares:
    shares = Shares(LIMITS)
    for _ in range(count):
        shares.add(device, size)
    return shares


def test_a_device_has_its_share() -> None:
    shares = filled(999)
    assert shares.refusal("greedy", 10, None, known=True) is None
    shares.add("greedy", 10)
    why = shares.refusal("greedy", 10, None, known=True)
    assert why is not None
    assert "1000 retained messages" in why
    assert shares.refusal("other", 10, None, known=True) is None


def test_a_share_has_bytes() -> None:
    shares = filled(1, size=99_000)
    assert shares.refusal("greedy", 1000, None, known=True) is None
    assert shares.refusal("greedy", 1001, None, known=True) is not None


def test_what_does_not_grow_is_never_refused() -> None:
    """A register that says something new in the place of the old."""
    shares = filled(1000, size=200)
    assert shares.refusal("greedy", 200, ("greedy", 200), known=True) is None
    assert shares.refusal("greedy", 201, ("greedy", 200), known=True) is not None
    assert shares.refusal("greedy", 200, ("other", 200), known=True) is not None


@pytest.mark.parametrize("known", [True, False])
def test_the_greed_of_others_leaves_each_device_its_floor(known: bool) -> None:
    """However full the broker is; those that anybody may invent have none."""
    shares = Shares(LIMITS)
    for number in range(4):
        for _ in range(1000):
            shares.add(f"greedy-{number}", 1)
    assert (shares.refusal("modest", 100, None, known=known) is None) is known
    for _ in range(FLOOR):
        shares.add("modest", 100)
    assert shares.refusal("modest", 100, None, known=known) is not None


def test_nobody_takes_more_than_a_quarter_of_a_small_broker() -> None:
    shares = Shares(replace(LIMITS, retained=40))
    for _ in range(10):
        shares.add("greedy", 1)
    assert shares.refusal("greedy", 1, None, known=True) is not None


def test_what_is_taken_away_is_free_again() -> None:
    shares = filled(1000)
    for _ in range(1000):
        shares.remove("greedy", 10)
    assert (shares.all.count, shares.all.bytes, shares.of) == (0, 0, {})


def test_shares_nearly_full_are_told() -> None:
    assert filled(800).nearly_full() == []
    assert filled(900).nearly_full() == ["900 of its 1000 retained messages are held by 'greedy'"]
    (whole,) = [line for line in filled(3600).nearly_full() if "held by" not in line]
    assert whole == "3600 of 4000 retained messages"


def test_allowances_forget_only_those_who_owe_nothing() -> None:
    """However many names come: who is in debt stays so as long as there is room."""
    allowances = Allowances(rate=1.0, burst=2, remembered=3)
    for _ in range(5):
        allowances.of("greedy", 0.0).take(0.0)
    for number in range(100):
        allowances.of(f"n{number}", 0.0)
        assert len(allowances) <= 3
        assert allowances.owed("greedy", 0.0) == pytest.approx(3.0)
    assert allowances.owed("stranger", 0.0) == 0.0


def test_a_line_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    seldom = Seldom(logging.getLogger("seldom"), lambda: now[0])
    for second in range(100):
        now[0] = float(second)
        seldom.warning("pair", "%s knocks", "x")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["x knocks", "x knocks (and 59 times more since the last such line)"]


def test_many_who_knock_fill_no_disk(caplog: pytest.LogCaptureFixture) -> None:
    """A key of one's own for each line buys nothing."""
    seldom = Seldom(logging.getLogger("seldom"), lambda: 0.0)
    for number in range(10_000):
        seldom.warning(number, "%s knocks", number)
    assert len(caplog.records) <= 40
    assert seldom.suppressed == 10_000 - len(caplog.records)


def test_what_a_client_sent_is_shown_short_and_escaped() -> None:
    assert short("kitchen\n\x1b[31m") == "'kitchen\\n\\x1b[31m'"
    assert len(short("x" * 60_000)) < 100
    assert "60000 characters" in short("x" * 60_000)
