"""A panel with its page as a process, a doorbell of the SDK, and a real Chromium."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from device_sdk import Call, CallEventListener, LocalInvitation, RemoteInvitation, SignalingClient
from tests.commands import Command
from tests.servers import BundledBroker, free_port

CLONE = Path(__file__).parents[2]
SECONDS = 30.0
AWAY = (StaleElementReferenceException, NoSuchElementException, ElementNotInteractableException)


def until(true: Callable[[], Any], what: str | Callable[[], str], seconds: float = SECONDS) -> Any:
    """Wait until something holds; fails with ``what`` was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(*AWAY):
            if found := true():
                return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(0.05)


class Panel:
    """``bellwire panel --web`` as a process, which can be killed and started again."""

    def __init__(self, folder: Path, broker: str, more: str, *options: str) -> None:
        self.port = free_port()
        self.settings = folder / "panel.toml"
        self.settings.write_text(
            f'[account]\npeer = "kitchen"\nbroker = "{broker}"\nkeepalive = 5\n{more}'
        )
        self._environ = {"STATE_DIRECTORY": str(folder / "state")}
        self._options = options
        self.scheme = "https" if "cert_file" in more else "http"
        self.command: Command | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/"

    @property
    def pid(self) -> int:
        assert self.command is not None
        return self.command.process.pid

    def start(self) -> None:
        words = ["panel", "--settings", self.settings, "--web", str(self.port), *self._options]
        self.command = Command(*words, environ=self._environ)
        self.command.line("online as kitchen")

    def kill(self) -> None:
        assert self.command is not None
        self.command.__exit__(None, None, None)

    def stop_kindly(self) -> None:
        """As systemd does."""
        assert self.command is not None
        self.command.signal(signal.SIGTERM)
        assert self.command.end() == 0

    def stop(self) -> None:
        if self.command is not None:
            self.command.__exit__(None, None, None)


class Bell(CallEventListener):
    """A doorbell: what it hears, by name; asked to open, it does what ``opens`` says."""

    def __init__(self, broker: str, name: str = "front-door") -> None:
        self.heard: list[str] = []
        self.messages: list[Any] = []
        self.invitations: list[RemoteInvitation] = []
        self.opens: Any = {"done": "open", "ok": True}
        self.client = SignalingClient(name, broker=broker, talk=True, keepalive=5)
        self.client.call_manager.add_event_listener(self)
        self.client.login()

    def ring(
        self, content: Any = "somebody is at the door", seconds: float = 60
    ) -> LocalInvitation:
        manager = self.client.call_manager
        invitation = manager.create_local_invitation("kitchen")
        invitation.content = content
        manager.send_local_invitation(invitation, seconds)
        return invitation

    def on_local_invitation_accepted(self, invitation: LocalInvitation, response: Any) -> None:
        self.heard.append("accepted")
        self.response = response

    def on_local_invitation_refused(self, invitation: LocalInvitation, response: Any) -> None:
        self.heard.append(f"refused: {invitation.reason}")

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        self.invitations.append(invitation)

    def on_call_started(self, call: Call) -> None:
        self.call = call
        self.heard.append("started")

    def on_call_message(self, call: Call, message: Any) -> None:
        self.messages.append(message)
        if message.get("do") == "open" and self.opens is not None:
            call.send(self.opens)

    def on_call_ended(self, call: Call, reason: Any) -> None:
        self.heard.append(f"over: {reason}")


class Browser:
    """Chromium, by what a person sees in its current tab."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, ready: bool = True) -> str:
        """The page in the current tab, once it has the panel's state; the tab's handle."""
        self.driver.get(url)
        if ready:
            script = "return document.documentElement.dataset.ready"
            until(lambda: self.driver.execute_script(script), "the page's first state")
        return self.driver.current_window_handle

    def tab(self, url: str) -> str:
        """The page in a new tab."""
        self.driver.switch_to.new_window("tab")
        return self.open(url)

    def to(self, handle: str) -> None:
        self.driver.switch_to.window(handle)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def see(self, selector: str, text: str = "") -> WebElement:
        """Wait until that is shown, with that text in it."""

        def shown() -> Any:
            found = self.find(selector)
            return found.is_displayed() and text in found.text and found

        return until(shown, lambda: f"{selector} with {text!r} on a page that says: {self.text()}")

    def gone(self, selector: str) -> None:
        """Wait until that is not shown."""
        until(
            lambda: not any(each.is_displayed() for each in self.all(selector)),
            lambda: f"no {selector} any more: {self.text()}",
        )

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def press(self, selector: str) -> None:
        self.see(selector)
        until(lambda: self.find(selector).click() or True, f"{selector} can be pressed")

    def text(self) -> str:
        return self.find("body").text

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)


#: A microphone that beeps and a camera that counts, allowed without asking.
FAKE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def chromium(
    *more: str, language: str = "en-GB", fake: bool = True, folder: Path
) -> webdriver.Chrome:
    """A new Chromium with a profile in ``folder``."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        if os.environ.get("BELLWIRE_REQUIRE_CHROMIUM"):
            pytest.fail("no chromium, or no chromedriver")
        pytest.skip("apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for each in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", f"--user-data-dir={folder}", f"--lang={language}",
        "--window-size=1000,900", "--ignore-certificate-errors", *more,
        *(FAKE if fake else ()),
    ):  # fmt: skip
        options.add_argument(each)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


@pytest.fixture(scope="session")
def broker() -> Iterator[BundledBroker]:
    with BundledBroker() as running:
        yield running


@pytest.fixture(scope="session")
def english(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = chromium(folder=tmp_path_factory.mktemp("english"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(english: webdriver.Chrome) -> Iterator[Browser]:
    """One browser for all tests; each begins with one empty tab, and no cookies."""
    yield Browser(english)
    complaints = [
        line["message"]
        for line in english.get_log("browser")
        if line["level"] == "SEVERE" and "Failed to load resource" not in line["message"]
        and "net::ERR_" not in line["message"]
        and "/go2rtc' from origin" not in line["message"]  # tried, then without what it forbids
    ]  # fmt: skip
    for handle in english.window_handles[1:]:
        english.switch_to.window(handle)
        english.close()
    english.switch_to.window(english.window_handles[0])
    english.get("about:blank")
    english.execute_cdp_cmd("Network.clearBrowserCookies", {})
    assert not complaints, complaints


@pytest.fixture
def make_panel(tmp_path: Path, broker: BundledBroker) -> Iterator[Callable[..., Panel]]:
    made: list[Panel] = []

    def make(more: str = "", *options: str) -> Panel:
        made.append(Panel(tmp_path, broker.url, more, *options))
        return made[-1]

    yield make
    for panel in made:
        panel.stop()


@pytest.fixture
def panel(make_panel: Callable[..., Panel]) -> Panel:
    return make_panel('[web]\npeers = ["front-door", "garden"]\n[answer]\nresponse = "coming"\n')


@pytest.fixture
def bell(broker: BundledBroker) -> Iterator[Bell]:
    made = Bell(broker.url)
    yield made
    made.client.logout()
