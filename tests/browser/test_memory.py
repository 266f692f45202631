"""What a page costs on a small machine: memory over a panel without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.conftest import Bell, Browser, Panel, until
from tests.commands import Command
from tests.servers import BundledBroker

pytestmark = pytest.mark.browser

#: MB over `bellwire panel`, with pages open and a call made.
MOST = 15.0


def memory(pid: int) -> float:
    """What it holds now, MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


def test_the_service_costs_at_most_15_mb_over_a_panel(
    browser: Browser, panel: Panel, bell: Bell, broker: BundledBroker, tmp_path: Path
) -> None:
    """Beside one in the same run."""
    settings = tmp_path / "plain.toml"
    settings.write_text(f'[account]\npeer = "study"\nbroker = "{broker.url}"\n')
    browser.open(panel.url)
    browser.tab(panel.url)
    bell.ring()
    browser.press(".call button.answer")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    with Command("panel", "--settings", settings) as plain:
        plain.line("online as study")
        more = memory(panel.pid) - memory(plain.process.pid)
    print(f"a page costs {more:.1f} MB")
    assert more <= MOST
