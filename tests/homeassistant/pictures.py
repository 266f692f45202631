"""``python -m tests.homeassistant.pictures``: a real Home Assistant while it rings, in docs/images.

Takes what ``make test-homeassistant`` does (root), and of Debian: chromium-driver, pngquant.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import tempfile
import textwrap
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from selenium import webdriver

from tests.browser.conftest import Browser, chromium
from tests.browser.states import shape, squeeze
from tests.homeassistant.doorbell import MemoryDoorbell
from tests.homeassistant.server import HomeAssistant, add, install
from tests.integration.test_homeassistant import Setup
from tests.servers import BundledBroker

CLONE = Path(__file__).resolve().parents[2]
IMAGES = CLONE / "docs" / "images"
CONFIG = """\
frontend:
lovelace:
  dashboards:
    door-card:
      mode: yaml
      title: Front door
      filename: card.yaml
"""
REALM = "sig"
#: What Home Assistant loads when its frontend asks what there is; there are wheels of these.
MORE = ("pymicro-vad==2.1.0", "pyspeex-noise==2.0.1")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nobody asks."""


def card() -> str:
    """The one in the guide, as a dashboard of its own."""
    text = (CLONE / "docs" / "home-assistant.md").read_text()
    found = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return "views:\n  - cards:\n      - " + textwrap.indent(found[1], " " * 8).lstrip()


def log_in(browser: webdriver.Chrome, ha: HomeAssistant) -> None:
    """Be the browser of somebody who has logged in."""
    here = f"http://127.0.0.1:{ha.port}"
    browser.get(f"{here}/manifest.json")
    tokens = ha.tokens | {"hassUrl": here, "clientId": f"{here}/",
                          "expires": int(time.time() * 1000) + 1_700_000}  # fmt: skip
    browser.execute_script("localStorage.hassTokens = arguments[0]", json.dumps(tokens))


#: All text of a page, that in its components included.
TEXT = """
const all = (node) => [...node.childNodes].map((each) => each.nodeType === 3 ? each.data :
  ["STYLE", "SCRIPT"].includes(each.tagName) ? "" :
  all(each) + (each.shadowRoot ? all(each.shadowRoot) : "")).join(" ");
return all(document.body);
"""


def picture(browser: Browser, ha: HomeAssistant, path: str, words: str, name: str) -> None:
    """Write what is at ``path`` once it has these words."""
    browser.driver.get(f"http://127.0.0.1:{ha.port}{path}")
    ha.until(lambda: words in str(browser.run(TEXT)), f"{words!r} at {path}", 60)
    time.sleep(3)  # what slides or fades in has come, and the picture
    file = IMAGES / f"home-assistant-{name}.png"
    browser.driver.save_screenshot(str(file))
    squeeze(file)
    print(file.name, file.stat().st_size, flush=True)
    assert file.stat().st_size < 80_000, file.name


def main() -> int:
    """Ring, and look."""
    root, _ = install()
    add(root, *MORE)
    with tempfile.TemporaryDirectory() as name, BundledBroker() as bell:
        folder = Path(name)
        serve = functools.partial(_Quiet, directory=str(CLONE / "examples"))
        web = ThreadingHTTPServer(("127.0.0.1", 0), serve)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        snapshot = f"http://127.0.0.1:{web.server_port}/door.png"
        content = (
            f'{{text = "A parcel for you", media = [{{kind = "snapshot", url = "{snapshot}"}}]}}'
        )
        home = Setup(bell, folder, REALM)
        ha = HomeAssistant(root, CLONE / "examples" / "homeassistant", CONFIG)
        (ha.config / "card.yaml").write_text(card())
        browser = Browser(chromium(language="en-GB", folder=folder / "profile"))
        try:
            home.start()
            ha.start()
            ha.onboard(home.broker.port)
            ha.finish_onboarding()
            ha.until(lambda: ha.state("sensor.front_door_call").get("state") == "idle", "the door")
            log_in(browser.driver, ha)
            template = {"template": "{{ device_id('sensor.front_door_call') }}"}
            device = ha.call("POST", "/api/template", template)
            with MemoryDoorbell(folder, bell.url, REALM, content) as door:
                ha.until(lambda: door.online, "doorbell")
                door.press()
                ha.until(
                    lambda: ha.state("sensor.front_door_call").get("state") == "ringing", "ringing"
                )
                shape(browser, 1000, 900, dark=False)
                picture(browser, ha, f"/config/devices/device/{device}", "Answer", "device")
                shape(browser, 390, 570, dark=False)
                picture(browser, ha, "/door-card/0", "Answer", "card")
        finally:
            browser.driver.quit()
            ha.stop()
            home.close()
            web.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
