"""The page in a real browser: what a person sees and presses, and what the doorbell hears."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Bell, Browser, Panel, until

pytestmark = pytest.mark.browser


def test_ring_answer_and_hang_up(browser: Browser, panel: Panel, bell: Bell) -> None:
    """The first slice of all: it rings, is answered, both are in it, and it is hung up here."""
    browser.open(panel.url)
    browser.see("#quiet", "All is quiet")
    browser.see("#peers .on", "front-door")
    bell.ring()
    browser.see(".call .caller", "front-door")
    browser.see(".call .text", "somebody is at the door")
    browser.see(".call.rings.loud")
    browser.press(".call button.answer")
    browser.see(".call .state", "In a call")
    until(lambda: "started" in bell.heard, "the doorbell is in the call")
    assert bell.response == "coming"
    browser.press(".call button.hang-up")
    until(lambda: "over: hung up" in bell.heard, "the doorbell hears that it is over")
    browser.gone(".call")
    browser.see("#toast", "is over")


def test_refuse(browser: Browser, panel: Panel, bell: Bell) -> None:
    browser.open(panel.url)
    bell.ring()
    browser.press(".call button.refuse")
    until(lambda: "refused: declined" in bell.heard, "the doorbell hears that it is refused")
    browser.gone(".call")
    browser.see("#toast", "Refused")
