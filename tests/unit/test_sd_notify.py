"""The service manager may be anything: what it says and how it listens ends no service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_sdk.services.service.sd_notify import Notifier


@pytest.mark.parametrize("text", ["", "0", "00", "-1", "1.5", "\u00b2", "\u0661", "soon", " 5"])
def test_what_is_no_time_is_no_watchdog(text: str) -> None:
    """A time of 0 would have the loop beat without a pause; superscripts are digits to Python."""
    assert Notifier({"WATCHDOG_USEC": text}).interval is None


def test_half_of_the_watchdogs_time_is_the_interval() -> None:
    """Where it is this process that is watched."""
    assert Notifier({"WATCHDOG_USEC": "30000000"}).interval == 15
    mine = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier(mine).interval == 15
    assert Notifier(mine | {"WATCHDOG_PID": "1"}).interval is None


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


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(1)
        yield receiver


def test_a_state_arrives(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.ready()
    notifier.ready("online\nREADY=0")
    assert systemd.recv(100) == b"READY=1"
    assert systemd.recv(100) == b"READY=1\nSTATUS=online\\nREADY=0", "one line, whatever is in it"
    notifier.close()


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")  # Linux gives it an abstract name
        name = receiver.getsockname()
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name[1:].decode()})
        notifier.ready()
        notifier.close()
        assert receiver.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_a_listener_nothing_happens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.close()


def test_a_reload_has_its_time(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.reloading()
    notifier.close()
    first, second = systemd.recv(100).decode().split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_stuck_loop_gives_no_sign_of_life(
    systemd: socket.socket,
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "20000"})
    notifier.ready()
    systemd.recv(100)
    stuck, release = threading.Event(), threading.Event()

    async def live() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        started.append((loop, ended))
        alive = asyncio.create_task(notifier.keep_beating())
        await ended.wait()
        alive.cancel()

    def stick() -> None:
        stuck.set()
        release.wait()

    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    thread = threading.Thread(target=lambda: asyncio.run(live()))
    systemd.settimeout(10)
    thread.start()
    assert systemd.recv(100) == b"WATCHDOG=1"
    loop, ended = started[0]
    try:
        loop.call_soon_threadsafe(stick)
        assert stuck.wait(10)
        systemd.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while systemd.recv(100):  # what was said before
                pass
        systemd.settimeout(0.2)
        with pytest.raises(TimeoutError):
            systemd.recv(100)
        release.set()
        systemd.settimeout(10)
        assert systemd.recv(100) == b"WATCHDOG=1"
    finally:
        release.set()
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        notifier.close()
