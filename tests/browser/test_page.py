"""The page in a real browser: what a person sees and presses, and what the doorbell hears."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from device_sdk.services.web.hub import MAX_PAGES
from tests.browser.conftest import Bell, Browser, Panel, chromium, until
from tests.servers import BundledBroker

pytestmark = pytest.mark.browser

#: The page says within this many seconds that it hears nothing.
PATIENCE = 5.0
#: How often it has sounded.
STRIKES = "return Number(document.documentElement.dataset.strikes || 0)"


def test_ring_answer_and_hang_up(browser: Browser, panel: Panel, bell: Bell) -> None:
    """It rings aloud, is answered, both are in it, and it is hung up here."""
    browser.open(panel.url)
    browser.see("#quiet", "All is quiet")
    browser.see("#peers .on", "front-door")
    bell.ring()
    browser.see(".call .caller", "front-door")
    browser.see(".call .text", "somebody is at the door")
    browser.see(".call.rings.loud")
    assert browser.run("return document.title").endswith("front-door rings")
    browser.press(".call button.answer")
    browser.see(".call .state", "In a call")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    assert bell.response == "coming"
    browser.press(".call button.hang-up")
    until(lambda: "over: hung up" in bell.heard, "the doorbell hears that it is over")
    browser.gone(".call")
    browser.see("#toast", "is over")


def test_refuse(browser: Browser, panel: Panel, bell: Bell) -> None:
    """The doorbell hears that it was declined."""
    browser.open(panel.url)
    bell.ring()
    browser.press(".call button.refuse")
    until(lambda: "refused: declined" in bell.heard, "the doorbell hears that it is refused")
    browser.gone(".call")
    browser.see("#toast", "Refused")


def test_the_doorbell_hangs_up(browser: Browser, panel: Panel, bell: Bell) -> None:
    """The page is told, and is ready for the next."""
    browser.open(panel.url)
    bell.ring()
    browser.press(".call button.answer")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    bell.call.send({"text": "never mind <b>!</b>"})
    browser.see(".call .said", "never mind <b>!</b>")
    bell.call.hang_up()
    browser.gone(".call")
    browser.see("#idle")


def test_open_while_it_rings_and_again_in_the_call(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """It answers first; each press asks once; what the door says is shown."""
    browser.open(panel.url)
    bell.ring()
    browser.press(".call button.open")
    browser.see(".call .door", "The door is open")
    bell.opens = {"done": "open", "ok": False, "why": "only for the <i>owner</i>"}
    browser.press(".call button.open")
    browser.see(".call .door", "not opened: only for the <i>owner</i>")
    assert bell.messages == [{"do": "open"}] * 2
    bell.opens = None
    browser.press(".call button.open")
    browser.see(".call .door", "Asking the door")
    browser.press(".call button.open")
    browser.see("#toast", "asked a moment ago")
    browser.press(".call button.hang-up")
    browser.gone(".call")
    until(lambda: "over: hung up" in bell.heard, "the doorbell has heard all that was said")
    assert bell.messages == [{"do": "open"}] * 3


def test_of_two_tabs_the_first_answer_wins_and_the_other_is_told(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """Any tab may hang up. What comes too late is a sentence, and changes nothing."""
    first = browser.open(panel.url)
    second = browser.tab(panel.url)
    invitation = bell.ring()
    browser.see(".call.rings")
    browser.to(first)
    browser.press(".call button.answer")
    browser.see(".call .state", "In a call")
    browser.to(second)
    browser.see(".call .state", "answered elsewhere here")
    browser.gone(".call button.answer")
    late = f"ask('/calls/{invitation.call_id}/answer', {{}})"
    browser.run(late)
    browser.see("#toast", "Somebody else has answered already.")
    browser.press(".call button.hang-up")
    until(lambda: "over: hung up" in bell.heard, "the doorbell hears that it is over")
    browser.to(first)
    browser.gone(".call")
    browser.run(late)
    browser.see("#toast", "Too late: this call is over.")


def test_nine_tabs(browser: Browser, panel: Panel, bell: Bell) -> None:
    """More than a browser has connections for one host: they share one."""
    handles = [browser.open(panel.url), *(browser.tab(panel.url) for _ in range(8))]
    bell.ring()
    browser.press(".call button.answer")
    for handle in handles[:-1]:
        browser.to(handle)
        browser.see(".call .state", "answered elsewhere here")


def test_answered_by_another_panel(
    browser: Browser, panel: Panel, bell: Bell, broker: BundledBroker
) -> None:
    """It stops, is said so, and is no missed call."""
    other = Bell(broker.url, "bedroom")
    try:
        browser.open(panel.url)
        bell.client.call_manager.ring(["kitchen", "bedroom"], content="at the door")
        browser.see(".call.rings")
        until(lambda: other.invitations, "the bedroom rings")[0].accept()
        browser.see("#toast", "answered elsewhere")
        browser.gone(".call")
        browser.gone("#missed")
    finally:
        other.client.logout()


def test_a_missed_call_is_shown_with_its_time_until_seen(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """Also to a page that comes later."""
    bell.ring().cancel()
    browser.open(panel.url)
    browser.see("#missed-title", "Missed calls (1)")
    browser.see("#missed li", "front-door")
    moment = browser.find("#missed time").get_attribute("datetime")
    assert moment.startswith(time.strftime("%Y-%m-", time.gmtime()))
    assert browser.run("return document.title").startswith("(1) kitchen")
    browser.press("#seen")
    browser.gone("#seen")
    assert browser.find("#missed-title").text == "Missed calls"


def test_all_calls_are_listed_also_after_a_restart(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """The page's service keeps them: `bellwire history` has the same."""
    browser.open(panel.url)
    bell.ring()
    browser.press(".call button.open")
    browser.see(".call .door", "The door is open")
    browser.press(".call button.hang-up")
    browser.gone(".call")
    browser.press("#listed summary")
    browser.see("#listed li", "answered · door opened")
    assert panel.command is not None
    assert panel.command.process.poll() is None
    panel.stop_kindly()
    panel.start()
    browser.gone("#lost")
    browser.see("#listed li", "answered · door opened")
    browser.gone("#missed")


def test_do_not_disturb(browser: Browser, panel: Panel, bell: Bell) -> None:
    """The doorbell is told, nothing rings, the call is shown as missed; a restart keeps it."""
    browser.open(panel.url)
    browser.press("#disturb")
    browser.see("#quiet", "nothing rings aloud")
    bell.ring()
    until(lambda: "refused: do not disturb" in bell.heard, "the doorbell is told")
    browser.see("#missed li", "front-door")
    panel.kill()
    panel.start()
    browser.see("#quiet", "nothing rings aloud")
    browser.press("#disturb")
    browser.see("#quiet", "All is quiet")
    bell.ring()
    browser.see(".call.rings")


def test_the_server_is_killed_while_it_rings(browser: Browser, panel: Panel, bell: Bell) -> None:
    """The page says so within 5 s; started again, it rings on for the same call."""
    browser.open(panel.url)
    invitation = bell.ring()
    browser.see(".call.rings")
    panel.kill()
    start = time.monotonic()
    browser.see("#lost", "No link to the panel")
    assert time.monotonic() - start < PATIENCE + 1  # and what looking takes here
    strikes = browser.run(STRIKES)
    panel.start()
    browser.gone("#lost")
    browser.see(f'.call.rings[data-call="{invitation.call_id}"]')
    until(lambda: browser.run(STRIKES) > strikes, "it sounds on")
    browser.press(".call button.answer")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")


def test_a_link_that_hangs_is_said_and_comes_back(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """Not closed, only silent: a Wi-Fi that is gone."""
    browser.open(panel.url)
    os.kill(panel.pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        browser.see("#lost", "No link to the panel")
        assert time.monotonic() - start < PATIENCE + 1
    finally:
        os.kill(panel.pid, signal.SIGCONT)
    browser.gone("#lost")
    bell.ring()
    browser.see(".call.rings")


def test_the_panels_own_link_is_lost(browser: Browser, tmp_path: Path) -> None:
    """The page says that nobody can ring here, and when that is over."""
    with BundledBroker() as broker:
        panel = Panel(tmp_path, broker.url, "")
        try:
            browser.open(panel.url)
            browser.see("#link.good", "Connected")
            broker.kill()
            browser.see("#link:not(.good)", "no link to its broker")
            browser.see("#quiet", "Nobody can ring here")
            broker.start()
            browser.see("#link.good", "Connected")
        finally:
            panel.stop()


def test_with_a_pin(browser: Browser, make_panel, tmp_path: Path, bell: Bell) -> None:
    """Nothing is seen without; a wrong one is said; the right one lasts over a restart."""
    (tmp_path / "pin").write_text("314159\n")
    panel = make_panel('[web]\npin_file = "pin"\n')
    bell.ring("a secret")
    browser.open(panel.url, ready=False)
    browser.see("#sign-in h2", "Who is there?")
    assert "secret" not in browser.text()
    browser.find("input[name=secret]").send_keys("271828", Keys.ENTER)
    browser.see("#sign-in .problem", "not right")
    browser.find("input[name=secret]").send_keys("314159", Keys.ENTER)
    browser.see(".call .text", "a secret")
    browser.gone("#sign-in")
    panel.kill()
    panel.start()
    browser.open(panel.url)
    browser.see(".call .text", "a secret")


def test_with_users_it_is_shown_who_answered(
    browser: Browser, make_panel, tmp_path: Path, bell: Bell
) -> None:
    """By name, in the other browser's window."""
    (tmp_path / "users").write_text("# who\nAnna correct horse\nBen battery staple\n")
    panel = make_panel('[web]\nusers_file = "users"\n')
    browser.open(panel.url, ready=False)
    browser.see("input[name=user]").send_keys("Anna")
    browser.find("input[name=secret]").send_keys("correct horse", Keys.ENTER)
    first = browser.driver.current_window_handle
    browser.see("#idle")
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    bell.ring()
    browser.see(".call.rings")
    browser.press(".call button.answer")
    browser.see("#toast", "Sign in first.")
    browser.driver.refresh()
    browser.see("input[name=user]").send_keys("Ben")
    browser.find("input[name=secret]").send_keys("battery staple", Keys.ENTER)
    second = browser.tab(panel.url)
    browser.press(".call button.answer")
    browser.to(first)
    browser.see(".call .state", "In a call with Ben")
    assert second != first


def test_keyboard_only(browser: Browser, panel: Panel, bell: Bell) -> None:
    """Enter answers what rings, tab and space hang up: focus is where it is needed."""
    browser.open(panel.url)
    bell.ring()
    browser.see(".call.rings")
    until(
        lambda: browser.driver.switch_to.active_element.get_attribute("class") == "answer",
        "the focus is on answer",
    )
    assert browser.driver.switch_to.active_element.accessible_name == "Answer front-door"
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    browser.see(".call .state", "In a call")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    for _ in range(8):
        if browser.driver.switch_to.active_element.get_attribute("class") == "hang-up":
            break
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
    ActionChains(browser.driver).send_keys(Keys.SPACE).perform()
    until(lambda: "over: hung up" in bell.heard, "the doorbell hears that it is over")


def test_html_in_content_is_shown_and_never_run(browser: Browser, panel: Panel, bell: Bell) -> None:
    """Nor is what an address says that is none."""
    browser.open(panel.url)
    text = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
    media = [
        {"kind": "page", "url": "javascript:window.hacked=1"},
        {"kind": "page", "url": "http://127.0.0.1:9/<b>"},
    ]
    bell.ring({"text": text, "media": media})
    browser.see(".call .text", text)
    browser.see(".call .media", "127.0.0.1:9/<b>")
    assert browser.all(".call img, .call script, .call b, .call iframe") == []
    assert browser.run("return window.hacked") is None


def test_an_address_that_a_browser_does_not_take_keeps_no_call_from_ringing(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """It is one for Python: what a page cannot parse it shows as a caller's words."""
    browser.open(panel.url)
    bell.ring({"text": "look", "media": [{"kind": "page", "url": "http://999.1.1.1/x"}]})
    browser.see(".call .text", "look")
    browser.see(".call .media", "http://999.1.1.1/x")
    browser.press(".call .answer")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")


def test_a_content_that_is_no_map_is_shown_as_text(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """Whatever it is."""
    browser.open(panel.url)
    bell.ring([1, {"two": b"\xff"}])
    browser.see(".call .text", '"two"')


def test_a_browser_would_install_it(browser: Browser, panel: Panel) -> None:
    """Manifest and icons are as Chromium wants them; this machine's own is a secure origin."""
    browser.open(panel.url)
    asked = "Page.getInstallabilityErrors"
    until(
        lambda: not browser.driver.execute_cdp_cmd(asked, {})["installabilityErrors"],
        lambda: str(browser.driver.execute_cdp_cmd(asked, {})),
    )


def test_german(panel: Panel, bell: Bell, tmp_path: Path) -> None:
    """The browser's language is the page's, and the server's sentences'."""
    browser = Browser(chromium(language="de-DE", folder=tmp_path / "german"))
    try:
        browser.open(panel.url)
        browser.see("#quiet", "Alles ruhig")
        assert browser.run("return document.documentElement.lang") == "de"
        bell.ring()
        browser.see(".call button.answer", "Annehmen")
        browser.press(".call button.answer")
        browser.see(".call .state", "Im Gespräch")
        browser.run("ask('/calls/none/answer', {})")
        browser.see("#toast", "Zu spät: Dieser Anruf ist vorbei.")
        browser.driver.get(panel.url + "trust")
        browser.see("h1", "Sprechen geht nur mit https")
    finally:
        browser.driver.quit()


def test_one_page_too_many_is_told_so_and_comes_in_when_there_is_room(
    browser: Browser, panel: Panel
) -> None:
    """200 are heard; the next says so, in the place of *no link*."""
    ask = f"GET /events HTTP/1.1\r\nHost: localhost:{panel.port}\r\n\r\n".encode()
    crowd = [socket.create_connection(("127.0.0.1", panel.port), 10) for _ in range(MAX_PAGES)]
    try:
        for each in crowd:
            each.sendall(ask)
        for each in crowd:
            assert each.recv(12) == b"HTTP/1.1 200"
        browser.open(panel.url, ready=False)
        browser.see("#lost", "Too many pages are open at once")
    finally:
        for each in crowd:
            each.close()
    browser.gone("#lost")
    browser.see("#link.good")


SOUND = "return audio.state"


def test_sound_outlives_a_reload_where_the_browser_remembers_the_tap(
    browser: Browser, panel: Panel
) -> None:
    """Tapped once, it rings aloud; the same tab, loaded anew, does so by itself."""
    browser.open(panel.url)
    browser.see("#sound", "Tap once")
    browser.press("#sound")
    browser.gone("#sound")
    browser.run("delete document.documentElement.dataset.ready; location.reload()")
    until(lambda: browser.run("return document.documentElement.dataset.ready"), "the page again")
    until(lambda: browser.run(SOUND) == "running", "sound without another tap")
    browser.gone("#sound")


def test_where_it_does_not_the_page_asks_for_the_tap_at_once(
    browser: Browser, panel: Panel, bell: Bell
) -> None:
    """It says that it is silent, also while it rings, and rings aloud from the tap on."""
    browser.open(panel.url)
    browser.press("h1")  # anywhere
    browser.gone("#sound")
    browser.driver.refresh()  # to Chromium another visit
    browser.see("#sound.bad", "Silent since this page was loaded")
    assert browser.run(SOUND) == "suspended"
    bell.ring()
    browser.see(".call.loud")
    browser.see("#sound.bad")
    browser.press("#sound")
    until(lambda: browser.run(SOUND) == "running", "sound from the tap on")
    browser.gone("#sound")
    browser.see(".call.rings")
