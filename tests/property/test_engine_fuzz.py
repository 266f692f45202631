"""A helping of the engine's fuzz (tests/fuzz/engine_wire.py; CI runs a million inputs)."""

from __future__ import annotations

import pytest

from tests.fuzz.engine_wire import run


@pytest.mark.parametrize("seed", range(3))
def test_nothing_from_the_wire_raises_or_passes_a_bound(seed: int) -> None:
    """Thousands of random inputs against an engine that holds three of everything."""
    assert run(4000, seed).lives >= 1
