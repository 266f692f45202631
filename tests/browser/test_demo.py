"""``make demo-web``, as a newcomer does it: the line it prints is opened, Enter rings."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.browser.conftest import CLONE, Browser
from tests.commands import Command

pytestmark = pytest.mark.browser


def test_the_demo_rings_a_browser(browser: Browser) -> None:
    """It is answered, the door is opened, it is hung up; Ctrl-C ends it."""
    program = (sys.executable, CLONE / "examples" / "demo_web.py")
    with Command("--port", "0", program=program, stdin=subprocess.PIPE) as demo:
        line = demo.line("in a browser")
        browser.open(line.split()[1])
        assert demo.process.stdin is not None
        demo.process.stdin.write("\n")
        demo.process.stdin.flush()
        browser.see(".call .text", "A parcel for you")
        browser.see(".call img")
        browser.press(".call button.answer")
        demo.line("accepted: coming")
        browser.press(".call button.open")
        demo.line("the door is open")
        browser.see(".call .door", "The door is open")
        browser.press(".call button.hang-up")
        demo.line("the call is over: hung up")
        demo.signal(signal.SIGINT)
        assert demo.end() == 0
