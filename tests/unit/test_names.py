"""One name, one thing: a class has its name to itself among all modules of both packages."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import broker_config
import device_sdk

ROOTS = tuple(Path(package.__path__[0]) for package in (broker_config, device_sdk))
#: The two faces have the same names on purpose: together they count as one module.
FACES = {"aio.py", "threaded.py", "loop_calls.py", "threaded_calls.py"}
#: Names that two modules share all the same, and why.
TWINS = {
    "On": "each end of a call has a table, always named with its module",
    "Phase": "as On",
    "Do": "as On",
    "Publish": "MQTT's own word: the broker's packet, and what the engine wants of its link",
    "Subscribe": "as Publish",
}


def test_a_class_has_its_name_to_itself() -> None:
    """Except for twins with a reason, which is taken out again when there are no two."""
    places: defaultdict[str, set[str]] = defaultdict(set)
    for root in ROOTS:
        for path in root.rglob("*.py"):
            place = "a face" if path.name in FACES else str(path.relative_to(root.parent))
            for name in re.findall(r"^ *class (\w+)", path.read_text("utf-8"), re.MULTILINE):
                places[name].add(place)
    shared = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in shared.items() if name not in TWINS} == {}
    assert set(TWINS) <= set(shared), "no twins any more"
