"""What is said of a connection that failed, and what a link does without a network."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import pytest
from paho.mqtt.client import WebsocketConnectionError

from device_sdk.errors import BrokerUnreachable
from device_sdk.paho_transport import PahoLink, explain
from device_sdk.transport import BrokerUrl, Will

URL = BrokerUrl("mqtts", "broker.lan", 8883)


def certificate(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code, error.verify_message = code, f"reason {code}"
    return error


@pytest.mark.parametrize(
    ("error", "cause", "words"),
    [
        (certificate(10), "certificate", "clock"),
        (certificate(9), "certificate", "clock"),
        (certificate(19), "certificate", "ca_file"),
        (certificate(62), "certificate", "reason 62"),
        (ssl.SSLError(1, "wrong version number"), "tls", "TLS"),
        (socket.gaierror(-2, "Name or service not known"), "unknown host", "broker.lan"),
        (TimeoutError("timed out"), "timeout", "5 s"),
        (WebsocketConnectionError("no"), "connection lost", "WebSocket"),
        (ConnectionRefusedError(111, "refused"), "connection refused", "nothing listens"),
        (ConnectionResetError(104, "reset"), "connection lost", "broke"),
        (OSError(101, "Network is unreachable"), "no route", "unreachable"),
    ],
)
def test_each_failure_has_its_cause_and_a_word_on_what_to_look_at(
    error: Exception, cause: str, words: str
) -> None:
    found = explain(error, URL)
    assert isinstance(found, BrokerUnreachable)
    assert found.cause == cause
    assert cause in BrokerUnreachable.CAUSES
    assert words in str(found)
    assert str(URL) in str(found)


def test_a_link_that_was_never_opened_is_inert() -> None:
    link = PahoLink(URL, "kitchen", Will("sig/v1/kitchen/presence", b"will"), keepalive=15)
    assert link.fileno() == -1
    assert not link.wants_write()
    link.close(clean=True)
    assert link.drain() == []


def test_the_socket_of_a_failed_handshake_is_closed() -> None:
    """Paho leaves it open; it would stay so as long as somebody keeps the error."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = BrokerUrl("mqtts", "127.0.0.1", server.getsockname()[1])
        server.settimeout(5)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                with contextlib.suppress(ConnectionResetError):  # closed, too
                    while connection.recv(4096):
                        continue

        thread = threading.Thread(target=answer)
        thread.start()
        link = PahoLink(url, "kitchen", Will("t/v1/kitchen/presence", b""), keepalive=15)
        with pytest.raises(BrokerUnreachable) as caught:
            link.open()
        thread.join(5)
        assert not thread.is_alive(), "the connection stayed open while the error was kept"
        assert caught.value.cause == "tls"
        assert link.fileno() == -1
