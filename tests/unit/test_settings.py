"""The numbers and their defaults, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from device_sdk.core.settings import MAX_KEPT, MAX_REMEMBERED, RENAMED, Settings
from device_sdk.errors import InvalidArgument


def test_the_defaults_are_the_protocols() -> None:
    """Every number of docs/protocol.md, in seconds."""
    assert Settings()._asdict() == {
        "ring_timeout": 60, "ack_timeout": 30, "accept_timeout": 5, "caller_lost_grace": 10,
        "ring_slack": 2, "missed_call_ttl": 86_400, "dedup_window": 600, "resend_first": 2,
        "resend_max": 30, "probe_interval": 1, "presence_linger": 600, "startup_timeout": 2,
        "logout_grace": 1, "max_calls_per_caller": 8, "max_calls": 64,
        "talk_limit": 7200, "peer_lost_grace": 10, "link_lost_grace": 30,
    }  # fmt: skip
    assert (MAX_KEPT, MAX_REMEMBERED) == (256, 4096)


@pytest.mark.parametrize("name", Settings._fields)
@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "5", None, True, 10**400])
def test_what_is_no_number_above_zero_is_refused_by_name(name: str, bad: Any) -> None:
    """Before any network use, naming the argument."""
    with pytest.raises(InvalidArgument, match=rf"^{name}: ") as caught:
        Settings(**{name: bad})
    assert caught.value.argument == name


@pytest.mark.parametrize(("former", "now"), RENAMED.items())
def test_a_former_name_is_refused_with_the_one_that_holds(former: str, now: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{former}: it is called {now}$"):
        Settings(**{former: 5})
    assert now in Settings._fields


def test_what_is_no_setting_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match=r"^patience: no such setting$"):
        Settings(patience=5)


def test_ringing_lasts_at_most_a_day() -> None:
    """Its milliseconds go into ttl, which ends there."""
    assert Settings(ring_timeout=86_400).ring_timeout == 86_400
    with pytest.raises(InvalidArgument, match=r"^ring_timeout"):
        Settings(ring_timeout=86_400.1)
