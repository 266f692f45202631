"""The soaks, small enough for every run: see ``make soak`` for all of it."""

from __future__ import annotations

import asyncio

from tests.servers import BrokerProcess, BundledBroker
from tests.soak import real_calls, ring_group


def test_ring_groups_of_three_answered_by_two_at_once(bundled_broker: BrokerProcess) -> None:
    assert asyncio.run(ring_group.run(50, 7, bundled_broker.url))


def test_calls_while_the_broker_is_killed() -> None:
    with BundledBroker() as broker:
        assert asyncio.run(real_calls.run(150, 11, broker))


def test_calls_that_go_on_while_the_broker_is_killed() -> None:
    with BundledBroker() as broker:
        assert asyncio.run(real_calls.run(60, 11, broker, talk=True))
