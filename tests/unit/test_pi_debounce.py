"""Contacts, lights and quiet hours: pure, so that hours pass in milliseconds."""

from __future__ import annotations

import random
from datetime import datetime

import pytest

from device_sdk.client.schedule import is_quiet, parse_window
from device_sdk.services.logic import lights
from device_sdk.services.logic.debounce import Contact, Debouncer


def play(contact: Debouncer, edges: list[tuple[float, bool]], until: float) -> list[Contact]:
    """Feed edges and every deadline in order of time."""
    told: list[Contact] = []
    for at, active in [*edges, (until, None)]:
        while contact.deadline is not None and contact.deadline <= at:
            told += contact.tick(contact.deadline)
        if active is not None:
            told += contact.edge(active, at)
    return told


def test_a_burst_of_bounces_is_one_press():
    edges = [(1 + n * 0.004, n % 2 == 0) for n in range(9)]
    assert play(Debouncer(), [*edges, (1.5, False)], 3) == [Contact.PRESSED, Contact.RELEASED]


def test_a_spike_shorter_than_the_bounce_time_is_no_press():
    assert play(Debouncer(bounce_time=0.03), [(1, True), (1.02, False)], 3) == []


def test_a_press_is_told_at_the_moment_it_settled():
    contact = Debouncer(bounce_time=0.03)
    contact.edge(True, 5.0)
    assert contact.deadline == pytest.approx(5.03)
    assert contact.tick(5.029) == []
    assert contact.tick(5.03) == [Contact.PRESSED]


def test_a_late_loop_loses_no_press():
    contact = Debouncer(bounce_time=0.03)
    assert contact.edge(True, 1.0) == []
    # No tick in between: the loop was busy. The level had held, so it was a press.
    assert contact.edge(False, 1.2) == [Contact.PRESSED]
    assert contact.tick(1.3) == [Contact.RELEASED]


def test_a_stuck_press_is_told_once():
    told = play(Debouncer(stuck_after=30), [(1, True), (100, False)], 200)
    assert told == [Contact.PRESSED, Contact.STUCK, Contact.RELEASED]


def test_a_contact_closed_from_the_start_does_not_press():
    contact = Debouncer(active=True)
    contact.start(0.0)
    assert play(contact, [(40, False), (41, True)], 42) == [
        Contact.STUCK,
        Contact.RELEASED,
        Contact.PRESSED,
    ]


def test_any_bouncing_gives_as_many_presses_as_there_were():
    rng = random.Random(7)
    for _ in range(200):
        edges, at, presses = [], 1.0, rng.randint(1, 5)
        for _ in range(presses):
            for level in (True, False):
                for _ in range(rng.randint(0, 6)):
                    edges += [(at, level), (at + 0.001, not level)]
                    at += rng.uniform(0.002, 0.012)
                edges.append((at, level))
                at += rng.uniform(0.04, 0.4)
        told = play(Debouncer(bounce_time=0.03), edges, at + 1)
        assert told.count(Contact.PRESSED) == presses
        assert told.count(Contact.RELEASED) == presses


def test_a_pattern_changes_when_it_says():
    pattern = lights.Pattern((0.1, 0.2), repeat=2)
    assert pattern.level(0.0) == (True, pytest.approx(0.1))
    assert pattern.level(0.15) == (False, pytest.approx(0.15))
    assert pattern.level(0.3) == (True, pytest.approx(0.1))
    assert pattern.level(0.6) == (False, None)


def test_following_the_deadlines_shows_every_stroke():
    player = lights.Player(lights.OFF)
    player.show(lights.REFUSED, 100.0)
    levels, now = [player.level], 100.0
    while player.deadline is not None:
        now = player.deadline
        player.tick(now)
        levels.append(player.level)
        assert len(levels) < 50
    assert levels == [True, False] * 4 + [False]
    assert now == pytest.approx(101.2)


def test_a_shown_pattern_gives_way_to_the_resting_one():
    player = lights.Player(lights.ON)
    player.show(lights.NOBODY, 0.0)
    player.rest(lights.OFFLINE, 1.0)
    player.tick(3.6)
    assert (player.level, player.deadline) == (True, pytest.approx(3.7))
    player.clear(3.8)
    player.rest(lights.OFF, 4.0)
    assert (player.level, player.deadline) == (False, None)


@pytest.mark.parametrize(
    ("text", "when", "quiet"),
    [
        ("22:00-07:00", "2026-01-05 23:30", True),
        ("22:00-07:00", "2026-01-05 06:59", True),
        ("22:00-07:00", "2026-01-05 07:00", False),
        ("13:00-15:00", "2026-01-05 14:00", True),
        ("sat-sun 13:00-15:00", "2026-01-05 14:00", False),  # a Monday
        ("sat-sun 13:00-15:00", "2026-01-10 14:00", True),
        ("fri 22:00-07:00", "2026-01-10 06:00", True),  # begun on Friday
        ("fri 22:00-07:00", "2026-01-11 06:00", False),
        ("mon,wed 00:00-24:00", "2026-01-07 12:00", True),
        ("22:00-07:00", "1970-01-01 23:00", False),  # the clock was never set
    ],
)
def test_quiet_hours(text, when, quiet):
    assert is_quiet((parse_window(text),), datetime.fromisoformat(when)) is quiet


@pytest.mark.parametrize(
    "text", ["", "22:00", "25:00-07:00", "22:70-07:00", "07:00-07:00", "someday 1:00-2:00"]
)
def test_a_bad_window_is_refused_with_what_is_wrong(text):
    with pytest.raises(ValueError, match=r"window|time of day|begins|no day"):
        parse_window(text)
