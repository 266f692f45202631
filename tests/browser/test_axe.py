"""What a screen reader, weak eyes or no mouse would stumble over: axe finds nothing serious."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser.conftest import CLONE, Browser
from tests.browser.states import STATES, WEB, fresh, shape
from tests.servers import BundledBroker

pytestmark = pytest.mark.browser

#: From npm, by `make test-web`.
AXE = CLONE / ".cache" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
RUN = """
const done = arguments[0];
axe.run().then((found) => done([found.passes.length, found.violations]));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        if os.environ.get("BELLWIRE_REQUIRE_CHROMIUM"):
            pytest.fail(f"no {AXE}: make test-web gets it")
        pytest.skip("no axe-core: make test-web gets it")
    return AXE.read_text()


def serious(browser: Browser, axe: str) -> list[str]:
    """What axe calls serious or critical, and where."""
    # A debugger may run what the page's own policy would not let in.
    browser.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})
    browser.run("document.getAnimations().forEach((each) => each.cancel())")
    passed, violations = browser.driver.execute_async_script(RUN)
    assert passed > 10, "axe has looked"
    return [
        f"{found['id']} ({found['impact']}): {node['html'][:120]}"
        for found in violations
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("name", STATES)
def test_nothing_serious(
    name: str, axe: str, browser: Browser, broker: BundledBroker, tmp_path: Path
) -> None:
    """On a phone by day and on a dark tablet."""
    with fresh(tmp_path, broker, WEB) as (panel, bell):
        STATES[name](browser, panel, bell, None)
        found = {}
        for width, height, dark in ((390, 844, False), (390, 844, True), (1280, 800, True)):
            shape(browser, width, height, dark=dark)
            found[f"{width}, dark: {dark}"] = serious(browser, axe)
        assert not any(found.values()), found


def test_nothing_serious_at_the_door_of_the_page(
    axe: str, browser: Browser, broker: BundledBroker, tmp_path: Path
) -> None:
    """Signing in, and the page about https."""
    (tmp_path / "pin").write_text("314159")
    with fresh(tmp_path, broker, '[web]\npin_file = "pin"\n') as (panel, _):
        browser.open(panel.url, ready=False)
        browser.see("#sign-in")
        assert serious(browser, axe) == []
        browser.driver.get(panel.url + "trust")
        assert serious(browser, axe) == []
