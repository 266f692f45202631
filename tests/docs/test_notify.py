"""docs/notify.md: its settings are read, and it names every event of every service."""

from __future__ import annotations

import re
from pathlib import Path

from device_sdk.services.config import doorbell, panel

PAGE = (Path(__file__).parents[2] / "docs" / "notify.md").read_text()
ACCOUNT = '[account]\npeer = "kitchen"\nbroker = "mqtt://127.0.0.1:1883"\n'


def test_the_settings_are_accepted(tmp_path):
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "panel.toml").write_text(ACCOUNT + block)
    on = panel.read_panel(tmp_path / "panel.toml").on
    assert set(on) == {"ringing", "missed"}
    assert on["ringing"].link == "https://panel.lan/"


def test_every_event_is_in_the_tables():
    named = set(re.findall(r"`\[on\.(\w+)\]`", PAGE))
    assert named == set(doorbell.EVENTS) | set(panel.ON)
