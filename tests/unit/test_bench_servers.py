"""What is measured can be made; whether it is fast, `make bench` says."""

from __future__ import annotations

import asyncio

import pytest

from tests.bench.broker_servers import PYTHON


@pytest.mark.parametrize("name", [each for each in PYTHON if "stored" not in each])
def test_every_broker_of_the_bench_can_be_made(name: str) -> None:
    make, _uvloop = PYTHON[name]

    async def made() -> object:
        return make()

    assert asyncio.run(made()) is not None
