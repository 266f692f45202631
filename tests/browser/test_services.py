"""The page with the project's own doorbell at the other end, and by https with the broker's CA."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from broker_config import cli as broker_cli
from broker_config.access import pki
from tests.browser.conftest import Bell, Browser, Panel, chromium, until
from tests.commands import Command
from tests.servers import BundledBroker

pytestmark = pytest.mark.browser

DOORBELL = """\
[account]
peer = "front-door"
broker = "{broker}"

[[button]]
pin = 17
rings = ["kitchen", "study"]
content = "somebody is at the door"

[door]
pin = 23
obeys = ["{obeys}"]
"""


@pytest.mark.parametrize(
    ("obeys", "shown"), [("kitchen", "The door is open"), ("study", "The door was not opened: ")]
)
def test_the_doorbells_door(
    obeys: str, shown: str, browser: Browser, panel: Panel, broker: BundledBroker, tmp_path: Path
) -> None:
    """It opens for whom it obeys, and says why not to others; the page shows either."""
    settings = tmp_path / "doorbell.toml"
    settings.write_text(DOORBELL.format(broker=broker.url, obeys=obeys))
    browser.open(panel.url)
    words = ("doorbell", "--keyboard", "--settings", settings)
    with Command(*words, stdin=subprocess.PIPE) as bell:
        bell.line("online as front-door")
        assert bell.process.stdin is not None
        bell.process.stdin.write("\n")
        bell.process.stdin.flush()
        browser.see(".call .text", "somebody is at the door")
        browser.press(".call button.open")
        browser.see(".call .door", shown)
        browser.press(".call button.hang-up")
        bell.line("is over: hung up")


def test_https_with_the_brokers_ca(make_panel, bell: Bell, tmp_path: Path) -> None:
    """Certificate, PIN and microphone, as a phone in the house has it."""
    tls = tmp_path / "tls"
    tls.mkdir()
    pki.make_ca(tls)
    assert broker_cli.main(
        ["web-certificate", "panel.lan", "--dir", str(tmp_path), "--to", str(tmp_path)]
    ) == 0  # fmt: skip
    (tmp_path / "pin").write_text("314159\n")
    panel = make_panel(
        '[web]\nnames = ["panel.lan"]\npin_file = "pin"\ncert_file = "panel.lan.crt"\n'
        'key_file = "panel.lan.key"\nca_file = "tls/ca.crt"\n'
    )
    rule = f"MAP panel.lan 127.0.0.1:{panel.port}"
    browser = Browser(chromium(f"--host-resolver-rules={rule}", folder=tmp_path / "profile"))
    try:
        browser.open(f"https://panel.lan:{panel.port}/", ready=False)
        browser.see("#sign-in")
        browser.find("input[name=secret]").send_keys("314159", Keys.ENTER)
        browser.see("#idle")
        browser.gone("#https")
        (cookie,) = browser.driver.get_cookies()
        assert cookie["secure"]
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        bell.ring({"media": [{"kind": "webrtc"}]})
        browser.press(".call button.answer")
        browser.see(".call .state", "In a call")
        until(lambda: "started" in bell.heard, "the doorbell is in the call")
        assert browser.find(".call .problem").text == ""
        assert browser.run("return [...cards.values()][0].talk.stream.getAudioTracks().length") == 1
        browser.driver.get(f"https://panel.lan:{panel.port}/trust")
        browser.see("a.go", "Get the authority")
    finally:
        browser.driver.quit()
