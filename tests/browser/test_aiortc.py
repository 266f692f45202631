"""examples/talk_aiortc.py against the real page: sound both ways, soon after accept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.browser.conftest import Browser, Panel, until
from tests.browser.test_talk import PAGE_PEER, heard
from tests.servers import BundledBroker

pytestmark = pytest.mark.browser
EXAMPLE = Path(__file__).parents[2] / "examples" / "talk_aiortc.py"


def test_the_example_and_the_page_hear_each_other(
    browser: Browser, panel: Panel, broker: BundledBroker, tmp_path: Path
) -> None:
    if find_spec("aiortc") is None:
        if os.environ.get("BELLWIRE_REQUIRE_CHROMIUM"):
            pytest.fail("aiortc is missing (pip install --group media)")
        pytest.skip("aiortc is missing (pip install --group media)")
    browser.open(panel.url)
    said = tmp_path / "said"
    with said.open("w") as out:
        door = subprocess.Popen(
            [sys.executable, EXAMPLE, "kitchen"], stdout=out, stderr=out,
            env=os.environ | {"BELLWIRE_BROKER": broker.url},
        )  # fmt: skip
    try:
        browser.see(".call")
        browser.press(".call button.answer")
        browser.see(".call .state", "In a call")
        until(lambda: "ms after accept" in said.read_text(), "the door hears the page")
        until(lambda: heard(browser, PAGE_PEER)[0] > 0, "the page hears the door")
        browser.driver.refresh()  # the talk goes on after that, too
        until(lambda: "talking again" in said.read_text(), "the door is offered another talk")
        until(lambda: said.read_text().count("after accept") == 2, "the door hears the page again")
        until(lambda: heard(browser, PAGE_PEER)[0] > 0, "the page hears the door again")
        assert browser.find(".call .problem").text == ""
        browser.press(".call button.hang-up")
        assert door.wait(15) == 0, said.read_text()
    finally:
        door.kill()
        door.wait()
    after, _ = re.findall(r"sound (\d+) ms after accept", said.read_text())
    assert int(after) < 5000
    assert said.read_text().splitlines()[-1] == "hung up"
