"""Who has to wait after wrong secrets: the one that shows them, and not all who are beside it."""

from __future__ import annotations

import asyncio

import pytest

from broker_config.access import auth
from broker_config.access.registry import HASHER

SECRET = HASHER.hash("correct horse")
HOME = "192.0.2.1"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each of those who had to wait would have."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(auth.asyncio, "sleep", sleep)
    monkeypatch.setattr(auth.Verifier, "_check", staticmethod(lambda _, data: data == b"it"))
    return waited


async def wrong(verifier: auth.Verifier, names: list[str]) -> None:
    for name in names:
        assert not await verifier.right(name, SECRET, "wrong", HOME)


def test_a_device_with_a_wrong_secret_holds_up_nobody_beside_it(waits: list[float]) -> None:
    """It waits itself, longer each time; its neighbour at the same address is let in at once."""

    async def run() -> None:
        verifier = auth.Verifier()
        await wrong(verifier, ["door"] * 13)
        assert len(waits) == 2
        assert 0 < waits[0] < waits[1] <= 30
        waits.clear()
        assert await verifier.right("kitchen", SECRET, "it", HOME)
        assert waits == []
        assert await verifier.right("door", SECRET, "it", HOME)
        assert len(waits) == 1
        waits.clear()
        await wrong(verifier, ["door"])  # what it had right is forgiven
        assert waits == []
        verifier.close()

    asyncio.run(run())


def test_an_address_that_tries_many_names_waits_for_each(waits: list[float]) -> None:
    """Also for one that was never tried; another address does not."""

    async def run() -> None:
        verifier = auth.Verifier()
        await wrong(verifier, [f"door-{number}" for number in range(60)])
        waits.clear()
        await wrong(verifier, ["kitchen"])
        assert len(waits) == 1
        assert await verifier.right("kitchen", SECRET, "it", "192.0.2.2")
        assert len(waits) == 1
        verifier.close()

    asyncio.run(run())
