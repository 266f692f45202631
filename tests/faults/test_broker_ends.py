"""How connections end, and that each end gives its place back and says what can be said."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from amqtt.contexts import ListenerConfig, ListenerType
from websockets.sync.client import connect as ws_connect

from broker_config.access import pki
from broker_config.net.connection import StreamConnection
from tests.bench.broker_wire import connect
from tests.broker_support.running import Running, for_threads, registry_plugins, tls_files


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority and the broker's certificate."""
    folder = tmp_path_factory.mktemp("tls")
    pki.make_ca(folder)
    pki.make_server(folder, [])
    return folder


@pytest.fixture
def broker(tls: Path, tmp_path: Path) -> Iterator[Running]:
    """A broker over TLS, by MQTT and by WebSocket."""
    files = tls_files(tls)
    listeners = {
        "default": ListenerConfig(bind="127.0.0.1:0", **files),
        "wss": ListenerConfig(type=ListenerType.WS, bind="127.0.0.1:0", **files),
    }
    with Running(plugins=registry_plugins(tmp_path), listeners=listeners) as running:
        yield running


def trust(tls: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls / "ca.crt"))


def last_words(port: int, context: ssl.SSLContext, data: bytes) -> None:
    """Send ``data`` and TLS's close_notify in one segment, then close."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65536))
        session.write(data)
        with pytest.raises(ssl.SSLWantReadError):
            session.unwrap()
        connection.sendall(outgoing.read())
        connection.recv(65536)


def empty(broker: Running, patience: float = 5.0) -> bool:
    """Whether every place comes free."""
    deadline = time.monotonic() + patience
    while broker.broker.connection_count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("data", [b"\0\0", b"\x10", connect("x"), connect("x") + b"\xe0\0"])
def test_an_end_within_tls_gives_its_place_back(
    broker: Running, tls: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """close_notify with the last bytes: asyncio's transport then raises at every question."""
    context = trust(tls)
    for _ in range(10):
        last_words(broker.port, context, data)
    assert empty(broker)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_transport_that_raises_at_its_end_keeps_no_place(
    broker: Running, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the transport says: session, place and address are given back."""

    def raises(_connection: StreamConnection, *_arguments: object, **_options: object) -> int:
        raise OSError("a transport at its end")

    monkeypatch.setattr(StreamConnection, "finish", raises)
    raw = socket.create_connection(("127.0.0.1", broker.port))
    with trust(tls).wrap_socket(raw, server_hostname="localhost") as client:
        client.sendall(connect("kitchen", user="kitchen", password="correct horse"))
        assert client.recv(4) == b"\x20\x02\x00\x00"
        monkeypatch.setattr(StreamConnection, "unsent", property(raises))
        client.sendall(b"\xe0\0")
    assert empty(broker)
    assert not broker.broker.sessions
    assert not broker.broker._addresses


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (connect("kitchen", user="kitchen", password="wrong"), 5),
        (connect("kitchen", user="front-door", password="correct horse"), 2),
        (connect("x").replace(b"MQTT\4", b"MQTT\5"), 1),
    ],
    ids=["wrong secret", "another's client id", "MQTT 5"],
)
def test_a_refusal_is_said_over_a_websocket(
    broker: Running, tls: Path, hello: bytes, code: int
) -> None:
    """The connection closes after CONNACK, not in place of it [MQTT-3.2.2-4]."""
    with ws_connect(
        f"wss://localhost:{broker.broker.bound()['wss'][1]}/mqtt",
        ssl=for_threads(trust(tls)),
        subprotocols=["mqtt"],  # type: ignore[list-item] # a Subprotocol is a str
    ) as websocket:
        websocket.send(hello)
        assert websocket.recv(5) == bytes((0x20, 2, 0, code))
    assert empty(broker)
