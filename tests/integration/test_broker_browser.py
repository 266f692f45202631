"""The bundled broker and web pages: a real Chromium, and who may open a WebSocket at all."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from amqtt.contexts import ListenerConfig, ListenerType
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as ws_connect
from websockets.typing import Origin, Subprotocol

from broker_config.net.origins import may_come_from
from tests.bench.broker_wire import connect, publish, subscribe
from tests.broker_support.running import SECRET, Running, registry_plugins, with_tls

MQTT = [Subprotocol("mqtt")]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = """<!doctype html><body><script>
const socket = new WebSocket("wss://localhost:PORT/mqtt", "mqtt");
socket.binaryType = "arraybuffer";
socket.onopen = () => socket.send(new Uint8Array([HELLO]));
socket.onmessage = event => fetch("/told/" + new Uint8Array(event.data).join("-"));
socket.onclose = event => fetch("/told/closed-" + event.code);
</script></body>"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Running]:
    """A broker that is reached by WebSockets, with TLS and without."""
    files = with_tls(tmp_path / "tls")
    listeners = {
        "default": ListenerConfig(bind="127.0.0.1:0"),
        "wss": ListenerConfig(type=ListenerType.WS, bind="127.0.0.1:0", **files),
        "ws": ListenerConfig(type=ListenerType.WS, bind="127.0.0.1:0"),
    }
    with Running(plugins=registry_plugins(tmp_path), listeners=listeners) as running:
        yield running


def test_chromium_gets_its_connack(broker: Running, tmp_path: Path) -> None:
    """Chromium cancels every WebSocket handshake that asks it for a certificate."""
    if CHROMIUM is None:
        if os.environ.get("BELLWIRE_REQUIRE_CHROMIUM"):
            pytest.fail("no chromium")
        pytest.skip("no chromium: apt install chromium")
    hello = connect("kitchen:web", user="kitchen", password=SECRET)
    page = PAGE.replace("PORT", str(broker.broker.bound()["wss"][1]))
    page = page.replace("HELLO", ",".join(map(str, hello)))
    told: queue.Queue[str] = queue.Queue()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/told/"):
                told.put(self.path.removeprefix("/told/"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.encode() if self.path == "/" else b"")

        def log_message(self, *_: object) -> None:
            """Nothing: it is asked by one page."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        browser = subprocess.Popen(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-dev-shm-usage", "--ignore-certificate-errors",
                "--remote-debugging-port=0", f"--user-data-dir={tmp_path / 'profile'}",
                f"http://localhost:{site.server_port}/",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert told.get(timeout=40) == "32-2-0-0"
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait(10)
            site.shutdown()


def url(broker: Running, path: str = "/mqtt") -> str:
    return f"ws://127.0.0.1:{broker.broker.bound()['ws'][1]}{path}"


def test_mqtt_is_at_its_path_alone(broker: Running) -> None:
    for path in ("/mqtt", "/", "/mqtt?x=1"):
        with ws_connect(url(broker, path), subprotocols=MQTT):
            pass
    with pytest.raises(InvalidStatus, match="404"):
        ws_connect(url(broker, "/admin"))


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("http://127.0.0.1:8080", True),
        ("null", True),
        ("https://stranger.example", False),
        ("http://127.0.0.1.stranger.example", False),
    ],
)
def test_a_strangers_page_opens_nothing(broker: Running, origin: str, let_in: bool) -> None:
    if let_in:
        with ws_connect(url(broker), subprotocols=MQTT, origin=Origin(origin)):
            pass
        return
    with pytest.raises(InvalidStatus, match="403"):
        ws_connect(url(broker), subprotocols=MQTT, origin=Origin(origin))


@pytest.mark.parametrize(
    ("origin", "allowed", "may"),
    [
        (None, "https://app.example", True),
        ("https://app.example", "https://app.example https://other.example", True),
        ("https://app.example:8443", "https://app.example", False),
        ("null", "https://app.example", False),
        ("https://anything.example", "*", True),
        ("https://bell.example", "", True),
        ("http://[::1", "", False),
        ("not an origin", "", False),
    ],
)
def test_origins_are_those_that_the_settings_say(
    origin: str | None, allowed: str, may: bool
) -> None:
    assert may_come_from(origin, "bell.example:8884", allowed) is may


def test_a_frame_may_hold_many_packets(broker: Running) -> None:
    """[MQTT-6.0.0-4]: packets need not be one to a WebSocket message, however large it is."""
    with ws_connect(url(broker), subprotocols=MQTT, max_size=None) as page:
        page.send(connect("front-door", user="front-door", password=SECRET))
        assert page.recv(5) == b"\x20\2\0\0"
        topic = "sig/v1/front-door/presence"
        page.send(
            subscribe(topic, qos=0)
            + b"".join(publish(topic, bytes(1000), each) for each in range(1, 101))
        )
        got = b""
        while got.count(b"\x40\2") < 100:
            data = page.recv(5)
            assert isinstance(data, bytes)
            got += data


def test_an_unknown_client_sends_no_large_frame(broker: Running) -> None:
    with ws_connect(url(broker), subprotocols=MQTT) as page:
        page.send(connect("x" * 60) + bytes(70_000))
        with pytest.raises(Exception, match=r"1009|too big"):
            page.recv(5)


def test_metrics_on_ipv6_and_idle_readers(broker: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that connects and says nothing holds no thread for ever."""
    from broker_config.admin import metrics
    from device_sdk.services.metrics import http_server

    monkeypatch.setattr(http_server._Quiet, "timeout", 0.2)
    window = metrics.MetricsServer(broker.broker, "::1", 0)
    try:
        with socket.create_connection(("::1", window.port)) as idle:
            idle.settimeout(5)
            assert idle.recv(1) == b""
    finally:
        window.close()
