"""The vectors that a small peer has to fulfil: cells, topics and what must be refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
#: What is in its profile besides the scenes that say so, by file and list.
PROFILE = json.loads((ROOT / "micro_sdk/profile.json").read_text())


def module(name: str, path: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "micro_sdk" / path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


micro, player = module("micro_bellwire", "bellwire.py"), module("micro_play", "vectors/play.py")


def load(name: str) -> Any:
    return json.loads((ROOT / "docs/vectors" / name).read_text())


def vectors(name: str) -> list[Any]:
    """Those of a list of the profile, as ``file/list``."""
    file, _, part = name.partition("/")
    found = load(f"{file}.json")
    return list(found[part] if part else found)


@pytest.mark.parametrize(
    "vector", [v for name in PROFILE["cells"] for v in vectors(name)], ids=lambda v: v["name"]
)
def test_a_cell_is_read(vector: dict[str, Any]) -> None:
    cell, means = micro.decode(vector["kind"], bytes.fromhex(vector["hex"])), vector["means"]
    names = {"epoch": 2, "seq": 3, "ttl": 4, "reason": 7, "count": 12, "got": 13, "asker": 16}
    for name in means.keys() & names.keys():  # what has no place there is read, and not used
        is_ = cell[names[name]]
        assert (is_.hex() if isinstance(is_, bytes) else is_) == means[name], name
    body = means.get("content", means.get("response"))
    assert (cell[5].hex() if 5 in cell else None) == body
    assert bool(cell.get(10)) == means.get("ask", False)


@pytest.mark.parametrize(
    "vector", [v for name in PROFILE["malformed"] for v in vectors(name)], ids=lambda v: v["name"]
)
def test_what_is_malformed_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        micro.decode(vector["kind"], bytes.fromhex(vector["hex"]))


def test_scenes() -> None:
    """The small profile, whole, with its own driver; under MicroPython `make micro` plays it."""
    # The driver gives it another clock and socket: a module of its own.
    played, found = player.differences(
        module("micro_played", "bellwire.py"), str(ROOT / "docs/vectors")
    )
    assert found == []
    assert played > 150


def test_peer_ids() -> None:
    """Each has one spelling, both ways; what is none is refused."""
    topics = load("topics.json")
    for each in topics["peers"]:
        assert micro.escape(each["peer"]) == each["level"]
        assert micro.unescape(each["level"]) == each["peer"]
    for level in topics["no_levels"]:
        with pytest.raises(ValueError):  # noqa: PT011 - of any cause
            micro.unescape(level)
