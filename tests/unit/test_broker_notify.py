"""sd_notify: what systemd would read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_config.admin.sd_notify import keep_alive, notify, reloading, watchdog_interval


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(1)
        yield receiver


def test_a_state_arrives(systemd: socket.socket) -> None:
    assert notify("READY=1", {"NOTIFY_SOCKET": systemd.getsockname()})
    assert systemd.recv(100) == b"READY=1"


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")  # Linux gives it an abstract name
        name = receiver.getsockname()
        assert notify("READY=1", {"NOTIFY_SOCKET": "@" + name[1:].decode()})
        assert receiver.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_a_listener_nothing_happens(address: str) -> None:
    assert not notify("READY=1", {"NOTIFY_SOCKET": address})


def test_a_reload_has_its_time() -> None:
    first, second = reloading().split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_half_the_watchdogs_patience() -> None:
    assert watchdog_interval({"WATCHDOG_USEC": "10000000"}) == 5.0
    assert watchdog_interval({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}) == 5.0
    assert watchdog_interval({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_interval({}) is None
    assert watchdog_interval({"WATCHDOG_USEC": "x"}) is None


def test_a_stuck_loop_gives_no_sign_of_life(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    stuck, release = threading.Event(), threading.Event()

    async def live() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        started.append((loop, ended))
        alive = asyncio.create_task(keep_alive())
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
