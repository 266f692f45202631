"""docs/metrics.md: its settings are read as they stand."""

from __future__ import annotations

import re
from pathlib import Path

from device_sdk.services.config.panel import read_panel

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def test_the_settings_are_read(tmp_path):
    """And serve on this machine alone."""
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "panel.toml"
    path.write_text(f'[account]\npeer = "kitchen"\nbroker = "mqtt://127.0.0.1"\n{block}')
    metrics = read_panel(path).metrics
    assert metrics is not None
    assert metrics.url() == "http://127.0.0.1:9884/metrics"
