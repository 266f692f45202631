"""The service manager may be anything: what it says and how it listens ends no service."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from device_sdk.services.service.notify import Notifier


@pytest.mark.parametrize("text", ["", "0", "00", "-1", "1.5", "\u00b2", "\u0661", "soon", " 5"])
def test_what_is_no_time_is_no_watchdog(text: str) -> None:
    """A time of 0 would have the loop beat without a pause; superscripts are digits to Python."""
    assert Notifier({"WATCHDOG_USEC": text}).interval is None


def test_half_of_the_watchdogs_time_is_the_interval() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000"}).interval == 15


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """Its queue is full after some datagrams, and a blocking socket would wait for ever."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    other.sendto(b"x", address)
        notifier = Notifier({"NOTIFY_SOCKET": address})
        begun = time.monotonic()
        notifier.status("still here")
        notifier.close()
        assert time.monotonic() - begun < 5
