"""Calls that go on, exhaustively in a small bound; ``python -m tests.model.talk`` has the rest."""

from __future__ import annotations

import pytest

from .search import Search
from .talk import MUTATIONS, mutate, talk


def test_nothing_is_handled_twice_late_or_by_a_later_life() -> None:
    """Each message and each end is told once, and no cell is left."""
    found = Search(talk("talk", says=(1, 0)), drain_each=2).run()
    assert found.violation is None, "\n".join(found.ladder)
    assert found.complete


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=lambda n: MUTATIONS[n].name)
def test_a_wrong_engine_is_found_out(number: int) -> None:
    """Each mutation breaks what is looked at."""
    assert mutate(number).violation
