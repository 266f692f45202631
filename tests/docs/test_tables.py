"""What the documents say of keys and reasons is what their tables in the source say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import make_tables


@pytest.mark.parametrize("path", make_tables.documents(), ids=lambda path: path.name)
def test_the_documents_are_up_to_date(path: Path) -> None:
    """Run ``python -m tools.make_tables``."""
    assert path.read_text() == make_tables.documents()[path]


def test_the_protocol_has_every_table() -> None:
    """Once each."""
    text = (make_tables.DOCS / "protocol.md").read_text()
    for name in make_tables.TABLES:
        assert text.count(f"<!-- table:{name} -->") == 1
