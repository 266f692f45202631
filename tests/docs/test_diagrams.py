"""The diagrams in the documents are those of the tables."""

from __future__ import annotations

import re

import pytest

from device_sdk.core import callee, caller
from device_sdk.states import LocalInvitationState, RemoteInvitationState
from tools import draw_diagrams
from tools.draw_diagrams import DIAGRAMS, DOCUMENTS, ROOT


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_are_up_to_date(name: str) -> None:
    """Run ``python -m tools.draw_diagrams``."""
    text = (ROOT / name).read_text()
    assert draw_diagrams.drawn(text) == text


def test_the_readme_and_the_states_have_their_diagrams() -> None:
    """The app's states on the front page, everything in docs/states.md."""
    readme, states = ((ROOT / name).read_text() for name in DOCUMENTS)
    assert {"caller", "callee"} <= set(re.findall(r"<!-- diagram:([a-z-]+) -->", readme))
    assert set(DIAGRAMS) == set(re.findall(r"<!-- diagram:([a-z-]+) -->", states))


@pytest.mark.parametrize(
    ("name", "members"),
    [("caller", LocalInvitationState), ("callee", RemoteInvitationState),
     ("caller-phases", caller.Phase), ("callee-phases", callee.Phase)],
)  # fmt: skip
def test_every_state_is_drawn(name: str, members: type) -> None:
    """None is unreachable, none invented; labels have no colon, which Mermaid would not read."""
    lines = DIAGRAMS[name]().splitlines()[2:-1]
    names = {word for line in lines for word in re.findall(r"\b[A-Z][A-Z_]+\b", line.split(":")[0])}
    assert names == {member.name for member in members}  # type: ignore[attr-defined] # enums
    assert all(line.count(":") <= 1 and ";" not in line for line in lines)


def test_a_changed_document_is_noticed() -> None:
    """The check can fail."""
    text = "<!-- diagram:caller -->\nold\n<!-- /diagram:caller -->\nrest"
    drawn = draw_diagrams.drawn(text)
    assert drawn != text
    assert drawn.endswith("```\n<!-- /diagram:caller -->\nrest")
    assert draw_diagrams.drawn(drawn) == drawn
