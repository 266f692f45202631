"""The diagrams in the documents are those of the tables."""

from __future__ import annotations

import re

import pytest

from device_sdk.core import callee, caller
from device_sdk.states import LocalInvitationState, RemoteInvitationState
from tools import draw_diagrams, draw_rooms
from tools.draw_diagrams import DIAGRAMS, DOCUMENTS, ROOT


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_are_up_to_date(name: str) -> None:
    """Run ``python -m tools.draw_diagrams``."""
    text = (ROOT / name).read_text()
    assert draw_diagrams.drawn(text) == text


def test_the_documents_have_their_diagrams() -> None:
    """The app's states on the front page, all of the tables in docs/states.md, then the rooms."""
    readme, states, rooms = (
        set(re.findall(r"<!-- diagram:([a-z-]+) -->", (ROOT / name).read_text()))
        for name in DOCUMENTS
    )
    assert {"caller", "callee"} <= readme
    assert set(DIAGRAMS) - {"rooms"} == states
    assert rooms == {"rooms"}


def test_the_rooms_are_those_of_the_source() -> None:
    """Each folder is drawn, with a word of what it holds; nothing points upward."""
    folders = {
        f"{package}.{path.name}"
        for package in ("device_sdk", "broker_config")
        for path in (ROOT / package).iterdir()
        if path.is_dir() and (path / "__init__.py").exists()
    }
    drawn = draw_rooms.edges()
    assert folders <= {room for edge in drawn for room in edge}
    assert folders <= set(draw_rooms.WORDS)
    assert not drawn & {(there, here) for here, there in drawn}


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
