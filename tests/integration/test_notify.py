"""Notifications to an ntfy over HTTP, from services as people start them; hooks that hang."""

from __future__ import annotations

import http.server
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from device_sdk.services.doctor import check
from device_sdk.services.doctor.patient import patient_of
from device_sdk.services.logic.notice import Notice
from device_sdk.services.service import notify
from tests.integration.test_pi_services import (  # noqa: F401 # make_service is a fixture
    BUTTON,
    PANEL,
    make_service,
)

#: Long enough to be answered, short enough to be waited for.
BRIEF = BUTTON.replace("ring_time = 3", "ring_time = 1.5")
PICTURE = b"\xff\xd8\xff\xe0 a jpeg, or so it says \xff\xd9"


class FakeNtfy(http.server.ThreadingHTTPServer):
    """Takes messages as ntfy does, and has a camera's picture besides."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: queue.Queue[dict[str, Any]] = queue.Queue()
        self.status = 200
        self.picture = PICTURE

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeNtfy

    def do_GET(self) -> None:
        self._answer(self.server.picture, "image/jpeg")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told: dict[str, Any] = {k.lower(): v for k, v in self.headers.items()}
        asked = urlsplit(self.path)
        told |= {key: value[0] for key, value in parse_qs(asked.query).items()}
        told |= {"path": asked.path, "at": time.monotonic()}
        # Without a picture the message is JSON; with one that is the body.
        told |= json.loads(body) if body.startswith(b"{") else {"picture": body}
        self.server.got.put(told)
        self._answer(b"{}", "application/json", self.server.status)

    def _answer(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def ntfy() -> Iterator[FakeNtfy]:
    server = FakeNtfy()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hanging() -> Iterator[str]:
    """A web hook that takes what comes, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_a_ring_reaches_the_phone_with_link_and_picture(make_service, ntfy):  # noqa: F811
    told = f'notify = "ntfy://{ntfy.host}/door"\nlink = "https://panel.lan/"\n'
    on = f'[on.ringing]\n{told}picture = "http://{ntfy.host}/frame.jpg"\n[on.missed]\n{told}'
    panel = make_service("panel", "kitchen", PANEL + on)
    bell = make_service("doorbell", "front-door", BRIEF)
    panel.expect("online")
    bell.expect("online")
    bell.key()
    panel.expect("front-door rings")
    got = ntfy.got.get(timeout=20)
    assert (got["title"], got["picture"]) == ("front-door rings", PICTURE)
    assert "somebody is here" in got["message"]
    assert got["x-click"] == "https://panel.lan/"
    missed = ntfy.got.get(timeout=20)
    assert (missed["topic"], missed["title"]) == ("door", "missed: front-door")
    assert "icon" not in missed, "no picture from another host"


def test_a_doorbell_tells_of_presses_missed_calls_and_ends(make_service, ntfy):  # noqa: F811
    on = "".join(
        f'[on.{event}]\nnotify = "ntfy://{ntfy.host}/door"\n'
        for event in ("pressed", "ringing", "missed", "call_ended")
    )
    bell = make_service("doorbell", "front-door", BRIEF + on)
    panel = make_service("panel", "kitchen", PANEL)
    panel.expect("online")
    bell.expect("online")

    def titles(count: int) -> set[str]:
        return {ntfy.got.get(timeout=20)["title"] for _ in range(count)}

    bell.key()
    panel.expect("front-door rings")
    panel.key("answer")
    panel.expect("in a call")
    panel.key("refuse")
    assert titles(3) == {"door: pressed", "door rings", "call with kitchen is over"}
    assert panel.end() == 0
    bell.key()
    assert titles(2) == {"door: pressed", "missed: door"}


def test_a_hook_that_hangs_delays_nothing(make_service, ntfy, hanging):  # noqa: F811
    """Neither the ring, nor the answer, nor what goes elsewhere."""
    hook = f'webhook = "{hanging}"\n'
    on = f"[on.ringing]\n{hook}[on.pressed]\n{hook}[on.accepted]\n{hook}"
    told = f'[on.call_ended]\nnotify = "ntfy://{ntfy.host}/door"\n'
    panel = make_service("panel", "kitchen", PANEL + on + told)
    bell = make_service("doorbell", "front-door", BRIEF + on)
    panel.expect("online")
    bell.expect("online")
    for _ in range(2):
        bell.key()
        began = time.monotonic()
        panel.expect("front-door rings")
        panel.key("answer")
        bell.expect("door: accepted by kitchen")
        panel.key("refuse")
        bell.expect("is over: hung up")
        assert ntfy.got.get(timeout=20)["title"] == "call with front-door is over"
        assert time.monotonic() - began < 10, "half of what one hook waits"
    assert panel.end() == bell.end() == 0


@pytest.mark.parametrize("wrong", ["no picture", "too large", "refused"])
def test_what_the_camera_or_the_service_does_not_give(ntfy, caplog, monkeypatch, wrong):
    address, picture = f"ntfy://{ntfy.host}/door", f"http://{ntfy.host}/frame.jpg"
    if wrong == "refused":
        ntfy.status = 403
        with pytest.raises(notify.NotifyError, match="did not take it"):
            notify.send_notice(address, Notice("a", "b"))
        return
    if wrong == "too large":
        monkeypatch.setattr(notify, "MAX_PICTURE", 10)
    else:
        picture = "http://127.0.0.1:9/frame.jpg"
    notify.send_notice(address, Notice("a", "b"), "http://panel/", picture)
    assert ntfy.got.get(timeout=5)["message"] == "b"
    assert "picture" in caplog.text


def test_doctor_sends_one_to_try(ntfy, tmp_path):
    path = tmp_path / "panel.toml"
    path.write_text(
        '[account]\npeer = "kitchen"\nbroker = "mqtt://127.0.0.1:1"\n'
        f'[on.ringing]\nnotify = "ntfy://{ntfy.host}/door"\n'
    )
    lines = check.examine(replace(patient_of(path), send_notice=True, browse=list))
    assert f"notify: ntfy://{ntfy.host} took a message; does the phone show it?" in [
        next(lines) for _ in range(3)
    ]
    assert ntfy.got.get(timeout=5)["message"] == "kitchen can reach you"
