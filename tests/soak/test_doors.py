"""Doors under faults, in short, and that the simulation can fail; ``make soak`` has all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest

from device_sdk.core.talk import Messages, News
from device_sdk.core.wire.cells import Said
from device_sdk.services.logic.door import DoorLogic
from tests.servers import BundledBroker
from tests.soak import real_doors
from tests.soak.doors import simulate

_read = Messages.read


def test_no_door_opens_without_a_live_accepted_call_none_twice_and_no_request_is_lost() -> None:
    totals = simulate(1, 6)
    assert not totals.faults, "\n".join(map(str, totals.faults))
    ends = totals.talks
    assert ends["opened"] > ends["asked"] // 2
    assert ends["refused"]


def handled_again(self: Messages, said: Said) -> tuple[Messages, News]:
    """A register that hands over whatever a cell carries, each time."""
    mine, news = _read(self, said)
    return mine, news._replace(messages=said.messages)


def not_handled(self: Messages, said: Said) -> tuple[Messages, News]:
    """One that acknowledges what it drops."""
    mine, news = _read(self, said)
    return mine, news._replace(messages=())


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda: patch.object(Messages, "read", handled_again), "duplicate"),
        (lambda: patch.object(Messages, "read", not_handled), "lost"),
        (lambda: patch.object(DoorLogic, "refusal", lambda *_: ""), "ghost"),
    ],
    ids=["handled again", "acknowledged and dropped", "obeys anybody"],
)
def test_a_wrong_door_is_found(wrong: Callable[[], AbstractContextManager], kind: str) -> None:
    with wrong():
        faults = next((f for seed in range(1, 40) if (f := simulate(seed, 1).faults)), None)
    assert faults, "no episode found it"
    assert faults[0].kind == kind, str(faults[0])


def test_real_doors_while_the_broker_is_killed() -> None:
    with BundledBroker() as broker:
        assert asyncio.run(real_doors.run(40, 3, broker))
