"""What is said of a connection that failed, and what a link does without a network."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_sdk.client.link.base import Will
from device_sdk.client.link.dialing import ResolveTimeout
from device_sdk.client.link.failures import login_error
from device_sdk.client.link.paho import PahoLink
from device_sdk.client.link.paho_client import LARGEST_PACKET, READ_AHEAD
from device_sdk.client.link.url import BrokerUrl, Tls
from device_sdk.core.effects import (
    Connected,
    Disconnected,
    LinkFailed,
    MessageReceived,
    PublishAcked,
    Subscribed,
)
from device_sdk.errors import BrokerRefused, BrokerUnreachable
from tests.integration.certificates import Authority

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
        (TimeoutError("timed out"), "timeout", "15 s"),
        (ResolveTimeout("the resolver has not answered"), "timeout", "name server"),
        (ConnectionRefusedError(111, "refused"), "connection refused", "nothing listens"),
        (ConnectionResetError(104, "reset"), "connection lost", "broke"),
        (OSError(101, "Network is unreachable"), "no route", "unreachable"),
    ],
)
def test_each_failure_has_its_cause_and_a_word_on_what_to_look_at(
    error: Exception, cause: str, words: str
) -> None:
    found = login_error(error, URL)
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


@contextlib.contextmanager
def greeted() -> Iterator[tuple[PahoLink, socket.socket]]:
    """A link that was greeted, and the broker's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = BrokerUrl("mqtt", "127.0.0.1", server.getsockname()[1])
        link = PahoLink(url, "kitchen", Will("t/v1/kitchen/presence", b"will"), keepalive=15)
        link.open()
        broker, _ = server.accept()
        with broker:
            broker.settimeout(5)
            broker.recv(4096)  # CONNECT
            broker.sendall(b"\x20\x02\0\0")
            assert happens(link) == [Connected()]
            yield link, broker
            link.close(clean=False)


@pytest.mark.parametrize("clean", [True, False])
def test_who_leaves_before_the_greeting_says_so(clean: bool) -> None:
    """DISCONNECT right after CONNECT: a broker that was slow publishes no will then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = BrokerUrl("mqtt", "127.0.0.1", server.getsockname()[1])
        link = PahoLink(url, "kitchen", Will("t/v1/kitchen/presence", b"will"), keepalive=15)
        link.open()
        broker, _ = server.accept()
        with broker, broker.makefile("rb") as came:
            broker.settimeout(5)
            link.close(clean=clean)
            assert came.read().endswith(b"\xe0\0") is clean


def happens(link: PahoLink) -> list[object]:
    """What happens next on the link."""
    while not (happened := link.drain()):
        assert select.select([link.fileno()], [], [], 5)[0]
        link.read()
    return list(happened)


def publish(topic: bytes, payload: bytes, mid: int) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big") + payload
    length, left = b"", len(body)
    while left > 127:
        length, left = length + bytes([left & 127 | 128]), left >> 7
    return b"\x33" + length + bytes([left]) + body


@pytest.mark.parametrize("topic", [b"t/v1/kitchen/invite/a/b", b"x" * 65_535])
def test_a_packet_that_is_too_large_is_read_away_and_acknowledged(topic: bytes) -> None:
    """Little of it is kept, the link lives on, and the broker does not send it again for ever."""
    with greeted() as (link, broker):
        large = publish(topic, b"v" * 8_000_000, 7) + publish(b"t/a", b"next", 8)
        sending = threading.Thread(target=broker.sendall, args=(large,))
        sending.start()
        tracemalloc.start()
        try:
            happened: list[object] = []
            while len(happened) < 2:  # one look may end the large one and have the next
                happened += happens(link)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        cut, after = happened
        assert isinstance(cut, MessageReceived)
        assert cut.topic == topic.decode()
        assert 20 * 1024 < len(cut.payload) < LARGEST_PACKET
        assert peak < 10 * LARGEST_PACKET
        assert after == MessageReceived("t/a", b"next", True)
        sending.join(5)
        link.acknowledge()
        assert broker.recv(8, socket.MSG_WAITALL) == b"\x40\x02\0\x07\x40\x02\0\x08"


def upgrade(broker: socket.socket) -> None:
    """Take the WebSocket, and read CONNECT."""
    asked = broker.recv(4096)
    key = re.search(rb"Sec-Websocket-Key: (\S+)", asked, re.I)
    assert key is not None
    guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key[1] + guid).digest())  # noqa: S324 - RFC 6455
    broker.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                   b"Connection: Upgrade\r\nSec-WebSocket-Protocol: mqtt\r\n"
                   b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")  # fmt: skip
    broker.recv(4096)


def test_a_websocket_frame_that_is_too_large_ends_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Paho would keep all of it, whatever its head says; over TCP it is read away, as above."""
    monkeypatch.setattr("device_sdk.client.link.paho_client.LARGEST_FRAME", 1 << 21)
    chunk, sent = bytes(1 << 20), []

    def serve(server: socket.socket) -> None:
        broker, _ = server.accept()
        with broker, contextlib.suppress(OSError):  # closed by the other end
            upgrade(broker)
            broker.sendall(b"\x82\x04\x20\x02\0\0")
            broker.sendall(b"\x82\x7f" + (1 << 40).to_bytes(8, "big") + publish(b"t", b"x", 1)[:1])
            broker.sendall(b"\xff\xff\xff\x7f")
            while len(sent) < 64:
                broker.sendall(chunk)
                sent.append(None)

    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=serve, args=(server,))
        serving.start()
        url = BrokerUrl("ws", "127.0.0.1", server.getsockname()[1], "/mqtt")
        link = PahoLink(url, "kitchen", Will("t/v1/kitchen/presence", b"will"), keepalive=15)
        link.open()
        assert happens(link) == [Connected()]
        assert happens(link) == [Disconnected()]
        assert link.fileno() == -1
        serving.join(10)
    assert len(sent) < 32  # what it took, and what the sockets hold


@pytest.mark.parametrize(
    "packet",
    ["3200", "320100", "320400ff6162", "9000", "900100", "9003ffff55", "32ffffffff7f", "f000"],
)
def test_a_malformed_packet_ends_the_link_and_nothing_else(packet: str) -> None:
    """Older versions of paho raise at some of these; at the rest they are deaf, as newer are."""
    with greeted() as (link, broker):
        broker.sendall(bytes.fromhex(packet))
        broker.shutdown(socket.SHUT_WR)
        (last,) = happens(link)
        assert last == Disconnected() or isinstance(last, LinkFailed)
        assert link.fileno() == -1
        link.read()
        link.write()
        link.tick()
        link.acknowledge()
        assert link.drain() == []


@pytest.mark.parametrize(
    ("packet", "named"),
    [
        ("30020000", "a PUBLISH"),  # without a topic
        ("3003000261", "a PUBLISH"),  # whose topic is cut short
        ("3204000161aa", "a PUBLISH"),  # whose id is
        ("340500016100037a", "a PUBLISH"),  # QoS 2, which is never subscribed
        ("400100", "a PUBACK"),
        ("4003000100", "a PUBACK"),
    ],
)
def test_a_malformed_publish_is_named(packet: str, named: str) -> None:
    """Those two packets are read here, not by paho: nothing else is taken for one."""
    with greeted() as (link, broker):
        broker.sendall(bytes.fromhex(packet))
        (failed,) = happens(link)
        assert isinstance(failed, LinkFailed)
        assert f"{named} that is malformed" in str(failed.error)


def test_whatever_paho_raises_ends_the_link(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading, writing and ticking: told once, with what it was.

    Nothing is logged by the link itself: a guard is held, and a handler is the application's.
    """
    caplog.set_level(0)

    def fail(*_args: object) -> None:
        raise RuntimeError("a defect of paho's")

    for name, move in (("loop_read", "read"), ("loop_write", "write"), ("loop_misc", "tick")):
        with greeted() as (link, _):
            monkeypatch.setattr(link._client, name, fail)
            getattr(link, move)()
            (failed,) = link.drain()
            assert isinstance(failed, LinkFailed)
            assert 'the connection is given up: RuntimeError("a defect of paho\'s")' in str(
                failed.error
            )
            assert link.fileno() == -1
            getattr(link, move)()
            assert link.drain() == []
    assert not caplog.records


def test_a_greeting_may_take_longer_than_the_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paho would give up then; three of them are waited for."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = BrokerUrl("mqtt", "127.0.0.1", server.getsockname()[1])
        link = PahoLink(url, "kitchen", Will("t/v1/kitchen/presence", b"will"), keepalive=2)
        link.open()
        now = time.monotonic()
        for passed in (2.5, 5.5):
            monkeypatch.setattr(time, "monotonic", lambda at=now + passed: at)
            link.tick()
            assert link.drain() == []
        monkeypatch.setattr(time, "monotonic", lambda: now + 6.5)
        link.tick()
        (failed,) = link.drain()
        assert isinstance(failed, LinkFailed)
        assert isinstance(failed.error, BrokerUnreachable)
        assert failed.error.cause == "timeout"
        assert f"{url}: took the connection but did not answer" in str(failed.error)
        link.close(clean=False)


@pytest.mark.parametrize("clean", [True, False])
def test_only_a_clean_end_says_goodbye(clean: bool) -> None:
    """DISCONNECT drops the will (MQTT 3.1.1, 3.14.4-3), which tells of who is not through."""
    with greeted() as (link, broker):
        link.close(clean=clean)
        sent = b""
        while more := broker.recv(64):
            sent += more
        assert sent == (b"\xe0\0" if clean else b"")


@pytest.mark.parametrize("qos", [0, 1])
def test_a_subscription_asks_for_the_quality_it_was_told(qos: int) -> None:
    """SUBSCRIBE's last byte (MQTT 3.1.1, 3.8.3): a cluster may have to be asked for 0."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = BrokerUrl.parse(f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        link = PahoLink(url, "kitchen", None, keepalive=15, subscribe_qos=qos)
        link.open()
        other, _ = server.accept()
        with other:
            other.recv(1024)
            other.sendall(b"\x20\x02\x00\x00")
            assert happens(link) == [Connected()]
            link.subscribe(("a/b",))
            assert other.recv(1024).endswith(b"a/b" + bytes((qos,)))
        link.close(clean=False)


def test_a_client_id_is_of_its_login_and_known_to_nobody_else() -> None:
    """Who reads the presence in which the epoch stands does not learn the client id by it."""
    will, same = (Will("sig/v1/kitchen%2E1/presence", b"epoch 1") for _ in range(2))
    peer, _, login = will.client_id.partition(":")
    assert (peer, len(login)) == ("kitchen%2E1", 16)
    assert will.client_id == same.client_id
    assert will._replace(payload=b"epoch 2").client_id != will.client_id
    readable = hashlib.blake2b(will.payload, digest_size=8).hexdigest()
    assert login != readable
    ask = (
        "from device_sdk.client.link.base import Will;"
        "print(Will('s/v1/k/presence', b'1').client_id)"
    )
    ids = {subprocess.check_output([sys.executable, "-c", ask]) for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("code", "why"), [(1, "MQTT 3.1.1"), (4, "authentication failed"), (5, "not authorized")]
)
def test_a_refusal_says_why_and_ends_the_link(code: int, why: str) -> None:
    """With the broker's number, and the user name that was shown."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = BrokerUrl("mqtt", "127.0.0.1", server.getsockname()[1])
        link = PahoLink(url, "kitchen", None, keepalive=15, username="panel", password="secret")
        link.open()
        broker, _ = server.accept()
        with broker:
            assert b"panel" in broker.recv(4096)
            broker.sendall(bytes((0x20, 2, 0, code)))
            (failed,) = happens(link)
        assert isinstance(failed, LinkFailed)
        assert isinstance(failed.error, BrokerRefused)
        assert failed.error.return_code == code
        assert why in str(failed.error)
        link.close(clean=False)


def test_a_broker_that_hangs_up_before_it_greets_is_asked_about() -> None:
    """Another port, or one that wants TLS: what it is cannot be known from here."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = BrokerUrl("mqtt", "127.0.0.1", server.getsockname()[1])
        link = PahoLink(url, "kitchen", None, keepalive=15)
        link.open()
        broker, _ = server.accept()
        with broker:
            broker.recv(4096)
        (failed,) = happens(link)
        assert isinstance(failed, LinkFailed)
        assert isinstance(failed.error, BrokerUnreachable)
        assert failed.error.cause == "connection lost"
        assert f"{url} closed the connection without a word" in str(failed.error)
        assert "TLS" in str(failed.error)


def test_a_topic_that_is_no_text_is_read_and_acknowledged() -> None:
    """As one that is none of ours; else it would be handed out for ever."""
    with greeted() as (link, broker):
        broker.sendall(publish(b"\xff\xfe", b"x", 3))
        assert happens(link) == [MessageReceived("", b"x", True)]
        link.acknowledge()
        assert broker.recv(4, socket.MSG_WAITALL) == b"\x40\x02\0\x03"


def test_each_filter_is_granted_or_refused() -> None:
    with greeted() as (link, broker):
        link.subscribe(("a", "b"))
        asked = broker.recv(4096)
        broker.sendall(b"\x90\x04" + asked[2:4] + b"\x01\x80")
        assert happens(link) == [Subscribed(("a",), ("b",))]
        broker.sendall(b"\x90\x03\x7f\x7f\x01")  # of nothing that was asked
        assert happens(link) == [Subscribed((), ())]


def test_a_subscription_of_a_link_that_broke_is_none() -> None:
    """That it broke has been told; nothing of it is waited for."""
    with greeted() as (link, broker):
        broker.shutdown(socket.SHUT_RDWR)
        assert happens(link) == [Disconnected()]
        link.subscribe(("a", "b"))
        link.unsubscribe(("a",))
        link.publish("t", b"x", 7)
        assert link.drain() == []


def test_what_was_read_before_a_link_broke_is_not_acknowledged() -> None:
    """The broker hands it out again on the next one; QoS 0 is never acknowledged at all."""
    with greeted() as (link, broker):
        broker.sendall(publish(b"t/a", b"x", 3) + b"\x30\x06\0\x03t/by")
        happened: list[object] = []
        while len(happened) < 2:
            happened += happens(link)
        assert happened == [MessageReceived("t/a", b"x", True), MessageReceived("t/b", b"y", False)]
        broker.shutdown(socket.SHUT_WR)
        assert happens(link) == [Disconnected()]
        link.acknowledge()
        assert broker.recv(64) == b""


def test_packets_that_share_a_tls_record_are_read_together(tmp_path: Path) -> None:
    """The socket shows nothing any more: the rest of them waits in TLS, and would for a ping."""
    authority = Authority(tmp_path, "authority")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*authority.sign("broker"))
    large = b"x" * (READ_AHEAD - 100)  # what one look gives ends within the second one
    record = b"\x20\x02\0\0" + publish(b"t/a", large, 1) + publish(b"t/b", large, 2)
    read = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with serving.wrap_socket(connection, server_side=True) as broker:
            broker.recv(4096)  # CONNECT
            broker.sendall(record)
            read.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        url = BrokerUrl("mqtts", "127.0.0.1", server.getsockname()[1])
        context = Tls(str(authority.path)).make_context()
        link = PahoLink(url, "kitchen", None, keepalive=15, context=context)
        link.open()
        happened = happens(link)
        read.set()
        assert happened == [
            Connected(),
            MessageReceived("t/a", large, True),
            MessageReceived("t/b", large, True),
        ]
        link.close(clean=False)
        thread.join(10)


def test_a_link_is_forgotten_without_a_word() -> None:
    """In a child process the connection is the parent's: no DISCONNECT."""
    with greeted() as (link, broker):
        link.forget()
        assert link.fileno() == -1
        assert broker.recv(16) == b""
        link.forget()


def test_whatever_a_connect_raises_is_a_login_error(monkeypatch: pytest.MonkeyPatch) -> None:
    link = PahoLink(URL, "kitchen", None, keepalive=15)

    def fail(*_args: object) -> None:
        raise KeyError("injected")

    monkeypatch.setattr(link._client, "connect", fail)
    with pytest.raises(BrokerUnreachable, match="injected"):
        link.open()


def test_a_publish_is_acknowledged_once() -> None:
    """An acknowledgement of nothing is nothing."""
    with greeted() as (link, broker):
        link.publish("t", b"x", 7)
        link.publish("t", b"y", None)
        packets = b""
        while len(packets) < 2 * 8:
            packets += broker.recv(4096)
        first, second = packets[5:7], packets[13:15]
        broker.sendall(b"\x40\x02" + second + b"\x40\x02" + first + b"\x40\x02\x7f\x7f")
        assert happens(link) == [PublishAcked(7)]
