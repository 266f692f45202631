"""The states of the page that are looked at: by axe, and by people as pictures in docs/images.

``python -m tests.browser.states docs/images`` makes the pictures anew (Debian:
pngquant, fonts).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser.conftest import CLONE, Bell, Browser, Panel, chromium, until
from tests.servers import BundledBroker


@contextmanager
def fresh(folder: Path, broker: BundledBroker, more: str = "") -> Iterator[tuple[Panel, Bell]]:
    """A panel and a doorbell."""
    panel, bell = Panel(folder, broker.url, more), Bell(broker.url)
    try:
        yield panel, bell
    finally:
        bell.client.logout()
        panel.stop()


WEB = '[web]\npeers = ["front-door", "garden", "bedroom"]\n[answer]\nresponse = "coming"\n'


def quiet(browser: Browser, panel: Panel, bell: Bell, _picture: bytes | None) -> None:
    """Nobody rings; somebody did."""
    browser.open(panel.url)
    browser.press("h1")  # the one tap, so that it can ring aloud
    for content in ("a parcel for you", "somebody is at the door"):
        bell.ring(content).cancel()
    browser.see("#missed-title", "(2)")
    browser.see("#peers .on")


def rings(browser: Browser, panel: Panel, bell: Bell, picture: bytes | None) -> None:
    """Somebody rings, with a picture."""
    browser.open(panel.url)
    media = [] if picture is None else [{"kind": "snapshot", "data": picture}]
    bell.ring({"text": "A parcel for you", "media": media})
    browser.see(".call.rings")
    if picture:
        until(lambda: browser.run("return document.querySelector('.call img').naturalWidth"),
              "the picture")  # fmt: skip


def in_call(browser: Browser, panel: Panel, bell: Bell, picture: bytes | None) -> None:
    """In a call, and the door was opened."""
    rings(browser, panel, bell, picture)
    browser.press(".call button.open")
    browser.see(".call .door", "o")
    until(lambda: bell.messages, "the door is asked")
    bell.call.send({"text": "Thank you!"})
    browser.see(".call .said", "Thank you!")


def talking(browser: Browser, panel: Panel, bell: Bell, _picture: bytes | None) -> None:
    """In a call with somebody who can see this browser's camera."""
    browser.open(panel.url)
    bell.ring({"text": "It is me", "media": [{"kind": "webrtc"}]})
    browser.press(".call button.answer")
    until(lambda: "started" in bell.heard, "the call is up")
    browser.press(".call button.camera")
    browser.see(".call video.own")


def silent(browser: Browser, panel: Panel, bell: Bell, _picture: bytes | None) -> None:
    """Loaded anew by a browser that wants another tap before it sounds; and it rings."""
    browser.open(panel.url)
    browser.press("h1")
    browser.gone("#sound")
    browser.driver.refresh()
    browser.see("#sound.bad")
    bell.ring({"text": "A parcel for you", "media": []})
    browser.see(".call.rings")


def elsewhere(browser: Browser, panel: Panel, bell: Bell, _picture: bytes | None) -> None:
    """Another window of this panel has answered."""
    first = browser.open(panel.url)
    browser.tab(panel.url)
    bell.ring({"text": "A parcel for you", "media": []})
    browser.press(".call button.answer")
    until(lambda: "started" in bell.heard, "the call is up")
    browser.to(first)
    browser.see(".call button.hang-up")


def no_link(browser: Browser, panel: Panel, _bell: Bell, _picture: bytes | None) -> None:
    """The panel is gone."""
    browser.open(panel.url)
    panel.kill()
    browser.see("#lost")


State = Callable[[Browser, Panel, Bell, bytes | None], None]
STATES: dict[str, State] = {
    "quiet": quiet,
    "rings": rings,
    "in-call": in_call,
    "talking": talking,
    "silent": silent,
    "answered-elsewhere": elsewhere,
    "no-link": no_link,
}
#: Width, height, dark, language.
SHAPES = {
    "phone": (390, 844, False, "en-GB"),
    "tablet-dark": (1280, 800, True, "de-DE"),
}


def shape(browser: Browser, width: int, height: int, *, dark: bool) -> None:
    """Be a screen of that size."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def main(target: Path) -> int:
    """Write a picture of each state and shape into ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, BundledBroker() as broker:
        home = Path(name)
        picture = (CLONE / "examples" / "door.png").read_bytes()
        for shape_name, (width, height, dark, language) in SHAPES.items():
            folder = home / shape_name
            browser = Browser(chromium(language=language, folder=folder / "profile"))
            try:
                for state_name, make in STATES.items():
                    place = folder / state_name
                    place.mkdir()
                    with fresh(place, broker, WEB) as (panel, bell):
                        shape(browser, width, height, dark=dark)
                        make(browser, panel, bell, picture)
                        shape(browser, width, height, dark=dark)
                        file = target / f"page-{state_name}-{shape_name}.png"
                        browser.run("document.getAnimations().forEach((each) => each.cancel())")
                        browser.driver.save_screenshot(str(file))
                        squeeze(file)
                        print(file.name, file.stat().st_size)
                        for handle in browser.driver.window_handles[1:]:
                            browser.to(handle)
                            browser.driver.close()
                        browser.to(browser.driver.window_handles[0])
            finally:
                browser.driver.quit()
    return 0


def squeeze(file: Path) -> None:
    """Fewer colours: a page has few, and pictures stay in the repository for ever."""
    subprocess.run(["pngquant", "--force", "--output", file, "64", file], check=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
