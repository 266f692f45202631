"""The vectors of the small profile, played by the peer that it is for (docs/vectors/README.md)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from tools import make_vectors, small_profile

ROOT = Path(__file__).parents[2]


def module(name: str, path: str) -> Any:
    """A file of micro_sdk, of its own: its driver gives it another clock and socket."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "micro_sdk" / path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_profile() -> None:
    """Cells, malformed ones, peer ids and scenes; under MicroPython `make micro` plays them."""
    micro, player = module("micro_bellwire", "bellwire.py"), module("play", "vectors/play.py")
    played, found = player.differences(micro, str(ROOT / "docs/vectors"))
    assert found == []
    assert played > 400


def test_the_rule() -> None:
    """A scene is out for what it shows or needs, and each reason of the rule is some scene's."""
    scenes = json.loads((ROOT / "docs/vectors/calls.json").read_text())
    scenes += json.loads((ROOT / "docs/vectors" / make_vectors.TALK).read_text())["calls"]
    why = {scene["name"]: small_profile.left_out(scene) for scene in scenes}
    assert all(scene.get("small", False) == (why[scene["name"]] is None) for scene in scenes)
    assert why["caller: a ring group, one winner"] == "needs group"
    assert why["caller: restarted while it rang"] == "shows Caller 7"
    assert why["caller: the largest message"] == "a payload of over 512 bytes (h)"
    assert why["caller: three at once, acknowledged one by one"] == "two messages underway"
    bridged = "callee: a bridge hands on what was asked about"
    assert why[bridged] == "doubts what (b) takes for live"
    assert why["callee: a late copy cannot ring"] == "comes for a call that was cleared (e)"
