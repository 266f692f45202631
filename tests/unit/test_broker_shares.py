"""Shares, rates and log lines, by arithmetic alone."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from broker_config.core.limits import Allowances, Limits, Seldom, short
from broker_config.core.retained import RetainedMessages

LIMITS = replace(
    Limits(), retained=4000, retained_per_device=1000, retained_bytes_per_device=100_000
)
FLOOR = 256


def filled(
    count: int, device: str = "greedy", size: int = 10, kept: RetainedMessages | None = None
) -> RetainedMessages:
    """Messages of ``size`` bytes each, topics included."""
    if kept is None:
        kept = RetainedMessages(LIMITS)
    for number in range(count):
        topic = f"{device[0]}{number:04d}"
        kept.set(topic, bytes(size - 7), 1, device, 0.0)
    return kept


def refusal(kept: RetainedMessages, device: str, size: int, *, known: bool = True) -> str | None:
    return kept.refusal("x0000", size - 7, device, known=known)


def test_a_device_has_its_share() -> None:
    kept = filled(999)
    assert refusal(kept, "greedy", 10) is None
    kept.set("another", b"x", 1, "greedy", 0.0)
    why = refusal(kept, "greedy", 10)
    assert why is not None
    assert "1000 retained messages" in why
    assert refusal(kept, "other", 10) is None


def test_a_share_has_bytes() -> None:
    kept = filled(1, size=99_000)
    assert refusal(kept, "greedy", 1000) is None
    assert refusal(kept, "greedy", 1001) is not None


def test_what_does_not_grow_is_never_refused() -> None:
    """A register that says something new in the place of the old."""
    kept = filled(1000, size=100)
    assert kept.refusal("g0000", 93, "greedy", known=True) is None
    assert kept.refusal("g0000", 94, "greedy", known=True) is not None
    filled(1, "other", 100, kept)
    assert kept.refusal("o0000", 93, "greedy", known=True) is not None


@pytest.mark.parametrize("known", [True, False])
def test_the_greed_of_others_leaves_each_device_its_floor(known: bool) -> None:
    """However full the broker is; those that anybody may invent have none."""
    kept = RetainedMessages(LIMITS)
    for device in ("a", "b", "c", "d"):
        filled(1000, device, 10, kept)
    assert (refusal(kept, "modest", 100, known=known) is None) is known
    filled(FLOOR, "modest", 100, kept)
    assert refusal(kept, "modest", 100, known=known) is not None


def test_nobody_takes_more_than_a_quarter_of_a_small_broker() -> None:
    kept = filled(10, kept=RetainedMessages(replace(LIMITS, retained=40)))
    assert refusal(kept, "greedy", 10) is not None


def test_what_is_taken_away_is_free_again() -> None:
    kept = filled(1000)
    for topic in list(kept.messages):
        assert kept.clear(topic) is not None
    assert (len(kept), kept.bytes, kept.held) == (0, 0, {})


def test_shares_nearly_full_are_told() -> None:
    assert filled(800).nearly_full() == []
    assert filled(900).nearly_full() == ["900 of its 1000 retained messages are held by 'greedy'"]
    kept = RetainedMessages(LIMITS)
    for device in ("a", "b", "c", "d"):
        filled(900, device, 10, kept)
    (whole,) = [line for line in kept.nearly_full() if "held by" not in line]
    assert whole == "3600 of 4000 retained messages"


def test_of_too_many_allowances_the_longest_untouched_is_forgotten() -> None:
    allowances = Allowances(rate=1.0, burst=2, remembered=3)
    for _ in range(5):
        allowances.take("greedy", 0.0)
    for number in range(100):
        allowances.take(f"n{number}", 0.0)
        if not number % 2:
            assert allowances.take("greedy", 0.0) > number / 2
    assert allowances.take("n0", 0.0) == 0.0


def test_a_line_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    seldom = Seldom(logging.getLogger("seldom"))
    for second in range(100):
        seldom.warning(float(second), "pair", "%s knocks", "x")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["x knocks", "x knocks (and 59 times more since the last such line)"]


def test_many_who_knock_fill_no_disk(caplog: pytest.LogCaptureFixture) -> None:
    """A key of one's own for each line buys nothing."""
    seldom = Seldom(logging.getLogger("seldom"))
    for number in range(10_000):
        seldom.warning(0.0, number, "%s knocks", number)
    assert len(caplog.records) <= 40


def test_what_a_client_sent_is_shown_short_and_escaped() -> None:
    assert short("kitchen\n\x1b[31m") == "'kitchen\\n\\x1b[31m'"
    assert len(short("x" * 60_000)) < 100
    assert "60000 characters" in short("x" * 60_000)
