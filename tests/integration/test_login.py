"""What a login meets: each failure named, on both faces; every kind of connection."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from device_sdk import (
    BrokerRefused,
    BrokerUnreachable,
    ConnectionState,
    InvalidArgument,
    LoginError,
    LoginTimeout,
    SubscriptionRefused,
    Tls,
)
from tests.broker_support.running import SECRET, Running, registry_plugins
from tests.conftest import need_mosquitto
from tests.integration.certificates import Authority
from tests.integration.conftest import MakePeer
from tests.peers import AsyncioPeer, Loop, OffsetClock, Peer, ThreadedPeer
from tests.proxy import CONNECT, DOWN, Proxy, split
from tests.servers import BrokerProcess, free_port, mosquitto_binary

CONF = """\
per_listener_settings true
persistence false
set_tcp_nodelay true
log_type error

listener {passwords} 127.0.0.1
allow_anonymous false
password_file {folder}/passwords

listener {tls} 127.0.0.1
allow_anonymous true
cafile {folder}/tls-broker.pem
certfile {folder}/broker.crt
keyfile {folder}/broker.key

listener {mutual} 127.0.0.1
allow_anonymous true
require_certificate true
use_identity_as_username true
cafile {folder}/tls-broker.pem
certfile {folder}/broker.crt
keyfile {folder}/broker.key

listener {expired} 127.0.0.1
allow_anonymous true
cafile {folder}/tls-broker.pem
certfile {folder}/expired.crt
keyfile {folder}/expired.key

listener {early} 127.0.0.1
allow_anonymous true
cafile {folder}/tls-broker.pem
certfile {folder}/early.crt
keyfile {folder}/early.key

listener {other_host} 127.0.0.1
allow_anonymous true
cafile {folder}/tls-broker.pem
certfile {folder}/elsewhere.crt
keyfile {folder}/elsewhere.key

listener {ws} 127.0.0.1
protocol websockets
allow_anonymous true

listener {wss} 127.0.0.1
protocol websockets
allow_anonymous true
cafile {folder}/tls-broker.pem
certfile {folder}/broker.crt
keyfile {folder}/broker.key
"""


@dataclass(frozen=True)
class TlsBroker:
    """A mosquitto with a listener of every kind."""

    ports: dict[str, int]
    folder: Path

    def url(self, scheme: str, listener: str, host: str = "localhost") -> str:
        return f"{scheme}://{host}:{self.ports[listener]}"

    def tls(self, client: str | None = None, ca: str = "tls-broker") -> Tls:
        ca_file = str(self.folder / f"{ca}.pem")
        if client is None:
            return Tls(ca_file)
        return Tls(ca_file, str(self.folder / f"{client}.crt"), str(self.folder / f"{client}.key"))


@pytest.fixture(scope="module")
def tls_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    need_mosquitto()
    folder = tmp_path_factory.mktemp("tls-broker")
    for parent in (folder, *folder.parents[:3]):
        with contextlib.suppress(PermissionError):
            parent.chmod(0o755)  # mosquitto, started by root, reads as another user
    authority = Authority(folder, "tls-broker")
    Authority(folder, "stranger")
    authority.sign("broker")
    authority.sign("front-door")
    authority.sign("expired", since=-10, until=-2)
    authority.sign("early", since=5)
    authority.sign("elsewhere", host="broker.elsewhere.example")
    (folder / "passwords").write_text("front-door:correct horse\n")
    subprocess.run(["mosquitto_passwd", "-U", folder / "passwords"], check=True)
    (folder / "passwords").chmod(0o644)
    listeners = (
        "passwords", "tls", "mutual", "expired", "early", "other_host", "ws", "wss",
    )  # fmt: skip
    ports = {name: free_port() for name in listeners}
    conf = folder / "mosquitto.conf"
    conf.write_text(CONF.format(folder=folder, **ports))
    process = subprocess.Popen([str(mosquitto_binary()), "-c", str(conf)])
    try:
        deadline = time.monotonic() + 10
        for port in ports.values():
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert process.poll() is None, "mosquitto did not start"
                assert time.monotonic() < deadline, f"mosquitto does not listen on {port}"
        yield TlsBroker(ports, folder)
    finally:
        process.terminate()
        process.wait(10)


MakeAt = Callable[..., Peer]


@pytest.fixture
def make_at(face: str, loop: Loop) -> Iterator[MakeAt]:
    """Makes peers at any URL, not logged in; logs them out."""
    with contextlib.ExitStack() as stack:

        def make(peer_id: str, url: Any, **options: Any) -> Peer:
            peer: Peer = (
                ThreadedPeer(peer_id, url, **options)
                if face == "threaded"
                else AsyncioPeer(peer_id, url, loop=loop, **options)
            )
            stack.callback(peer.logout)
            return peer

        yield make


def fails(peer: Peer, kind: type[LoginError], *words: str, timeout: float = 5) -> Any:
    """Log in; it has to fail in time, with these words, and leave the client as before."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        peer.login(timeout)
    assert time.monotonic() - began < timeout + 1
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert peer.client.connection_state is ConnectionState.DISCONNECTED
    assert isinstance(caught.value, ConnectionError)
    return caught.value


# --- failures, each named ---------------------------------------------------------------------


def test_unknown_host(make_at: MakeAt) -> None:
    error = fails(make_at("a", "mqtt://no-such-host.invalid:1883"), BrokerUnreachable, "no-such")
    assert error.cause == "unknown host"


def test_closed_port(make_at: MakeAt) -> None:
    port = free_port()
    error = fails(make_at("a", f"mqtt://127.0.0.1:{port}"), BrokerUnreachable, "refused", str(port))
    assert error.cause == "connection refused"


@pytest.fixture
def listening() -> Iterator[Callable[[bytes], int]]:
    """Serves some bytes, then nothing, to whoever connects; gives its port."""
    with contextlib.ExitStack() as stack:

        def serve(greeting: bytes) -> int:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port: int = server.getsockname()[1]

            def run() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = server.accept()
                        stack.callback(connection.close)
                        connection.sendall(greeting)

            thread = threading.Thread(target=run, daemon=True)
            thread.start()

            def stop() -> None:
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                thread.join(5)

            stack.callback(stop)
            return port

        yield serve


def test_silent_port(make_at: MakeAt, listening: Callable[[bytes], int]) -> None:
    """It accepts and says nothing."""
    peer = make_at("a", f"mqtt://127.0.0.1:{listening(b'')}")
    fails(peer, LoginTimeout, "did not answer the greeting", timeout=0.5)
    with pytest.raises(TimeoutError):
        peer.login(0.2)


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64]
)
def test_a_port_that_speaks_something_else(
    make_at: MakeAt, listening: Callable[[bytes], int], greeting: bytes
) -> None:
    port = listening(greeting)
    fails(make_at("a", f"mqtt://127.0.0.1:{port}"), LoginError, timeout=0.5)


def test_plain_where_tls_is_wanted(make_at: MakeAt, tls_broker: TlsBroker) -> None:
    fails(make_at("a", tls_broker.url("mqtt", "tls")), BrokerUnreachable, "TLS", timeout=5)


def test_tls_where_plain_is_spoken(make_at: MakeAt, broker: BrokerProcess) -> None:
    url = f"mqtts://127.0.0.1:{broker.port}"
    error = fails(make_at("a", url), BrokerUnreachable, timeout=8)
    assert error.cause in ("tls", "connection lost", "timeout")


@pytest.mark.mosquitto
def test_wrong_password(make_at: MakeAt, tls_broker: TlsBroker) -> None:
    url = tls_broker.url("mqtt", "passwords")
    error = fails(make_at("front-door", url, password="wrong horse"), BrokerRefused, "refused")
    assert error.return_code in (4, 5)
    assert "wrong horse" not in str(error)
    fails(make_at("front-door", url), BrokerRefused)
    make_at("front-door", url, password="correct horse").login()


@pytest.mark.mosquitto
def test_wrong_authority(make_at: MakeAt, tls_broker: TlsBroker) -> None:
    peer = make_at("a", tls_broker.url("mqtts", "tls"), tls=tls_broker.tls(ca="stranger"))
    error = fails(peer, BrokerUnreachable, "not trusted", "ca_file")
    assert error.cause == "certificate"
    error = fails(make_at("a", tls_broker.url("mqtts", "tls")), BrokerUnreachable, "not trusted")
    assert error.cause == "certificate"


@pytest.mark.mosquitto
@pytest.mark.parametrize("listener", ["expired", "early"])
def test_certificate_out_of_time(make_at: MakeAt, tls_broker: TlsBroker, listener: str) -> None:
    peer = make_at("a", tls_broker.url("mqtts", listener), tls=tls_broker.tls())
    assert fails(peer, BrokerUnreachable, "clock").cause == "certificate"


@pytest.mark.mosquitto
def test_certificate_of_another_host(make_at: MakeAt, tls_broker: TlsBroker) -> None:
    peer = make_at("a", tls_broker.url("mqtts", "other_host"), tls=tls_broker.tls())
    assert fails(peer, BrokerUnreachable, "not trusted").cause == "certificate"


@pytest.mark.mosquitto
def test_no_client_certificate(make_at: MakeAt, tls_broker: TlsBroker) -> None:
    peer = make_at("a", tls_broker.url("mqtts", "mutual"), tls=tls_broker.tls())
    fails(peer, BrokerUnreachable, "client certificate")


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The bundled broker with a registry of devices."""
    with Running(plugins=registry_plugins(tmp_path_factory.mktemp("registry"))) as running:
        yield running


def _refuse_subscriptions(server: socket.socket) -> None:
    """A broker that takes everybody and refuses what ends in ``answer/...``, one at a time.

    By hand: mosquitto grants every subscription, and the bundled one refuses the will before.
    """
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                buffer = bytearray()
                while data := connection.recv(4096):
                    buffer += data
                    for packet in split(buffer):
                        if packet.kind == CONNECT:
                            connection.sendall(b"\x20\x02\0\0")
                        elif packet.data[0] == 0x82:  # SUBSCRIBE
                            identifier, rest = packet.data[2:4], packet.data[4:]
                            codes = b""
                            while rest:
                                length = int.from_bytes(rest[:2], "big")
                                refused = b"answer" in rest[2 : 2 + length]
                                codes += b"\x80" if refused else b"\x01"
                                rest = rest[3 + length :]
                            body = identifier + codes
                            connection.sendall(bytes([0x90, len(body)]) + body)


def test_a_refused_subscription_names_its_filter(make_at: MakeAt) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_refuse_subscriptions, args=(server,), daemon=True)
        thread.start()
        try:
            peer = make_at("front-door", f"mqtt://127.0.0.1:{server.getsockname()[1]}")
            error = fails(peer, SubscriptionRefused)
            assert error.topic_filter == "sig/v1/+/answer/front-door/+"
            assert error.topic_filter in str(error)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def test_the_bundled_broker_refuses_a_wrong_password(make_at: MakeAt, registered: Running) -> None:
    url = f"mqtt://127.0.0.1:{registered.port}"
    error = fails(make_at("front-door", url, password="wrong"), BrokerRefused, "refused")
    assert error.return_code in (4, 5)
    make_at("front-door", url, password=SECRET).login()


def test_bad_tls_files(tls_broker: TlsBroker) -> None:
    """Named before any network use."""
    missing = Tls(str(tls_broker.folder / "none.pem"))
    with pytest.raises(InvalidArgument, match=r"ca_file"):
        ThreadedPeer("a", "mqtts://localhost", tls=missing)
    with pytest.raises(InvalidArgument, match=r"cert_file"):
        ThreadedPeer(
            "a", "mqtts://localhost", tls=Tls(cert_file=str(tls_broker.folder / "mosquitto.conf"))
        )
    with pytest.raises(InvalidArgument, match=r"ca_file: mqtt://localhost:1883 is not encrypted"):
        ThreadedPeer("a", "mqtt://localhost", tls=tls_broker.tls())


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("peer", {"peer_id": ""}),
        ("peer", {"peer_id": "x" * 65}),
        ("realm", {"realm": "a/b"}),
        ("broker", {"broker": "http://localhost"}),
        ("broker", {"broker": "mqtt://"}),
        ("broker", {"broker": "mqtt://host:99999"}),
        ("broker", {"broker": "mqtt://user:secret@host"}),
        ("broker", {"broker": 7}),
        ("keepalive", {"keepalive": 0}),
        ("keepalive", {"keepalive": 1.5}),
        ("subscribe_qos", {"subscribe_qos": 2}),
        ("subscribe_qos", {"subscribe_qos": True}),
        ("ring_timeout", {"ring_timeout": 0}),
        ("ack_timeout", {"ack_timeout": float("nan")}),
        ("accept_timeout", {"accept_timeout": -1}),
        ("no_such_timer", {"no_such_timer": 1}),
        ("password", {"password": b"bytes"}),
    ],
)
def test_bad_arguments(face: str, loop: Loop, argument: str, options: dict[str, Any]) -> None:
    """A ValueError that names the argument, before any network use, with no secret in it."""
    given = {"peer_id": "a", "broker": "mqtt://localhost", **options}
    peer_id, broker = given.pop("peer_id"), given.pop("broker")
    make = ThreadedPeer if face == "threaded" else partial(AsyncioPeer, loop=loop)
    with pytest.raises(ValueError, match=argument) as caught:
        make(peer_id, broker, **given)
    assert "secret" not in str(caught.value)


# --- what does work ---------------------------------------------------------------------------


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("scheme", "listener", "client"),
    [
        ("mqtts", "tls", None),
        ("mqtts", "mutual", "front-door"),
        ("ws", "ws", None),
        ("wss", "wss", None),
    ],
)
def test_calls_over_every_transport(
    make_at: MakeAt, tls_broker: TlsBroker, scheme: str, listener: str, client: str | None
) -> None:
    options: dict[str, Any] = {}
    if scheme in ("mqtts", "wss"):
        options["tls"] = tls_broker.tls(client)
    url = tls_broker.url(scheme, listener)
    door = make_at("front-door", url, **options)
    kitchen = make_at("kitchen", url, **options)
    for peer in (door, kitchen):
        peer.login()
    for size in (1, 8000):  # more than one record, more than one frame
        mine = door.press("kitchen", "x" * size)
        told = kitchen.expect("remote_invitation_received", mine.call_id)
        kitchen.accept(told.invitation, "y" * size)
        assert door.expect("local_invitation_accepted", mine.call_id).args[1] == "y" * size
        kitchen.expect("remote_invitation_accepted", mine.call_id)


def test_a_failed_login_may_be_tried_again(
    make_at: MakeAt, broker: BrokerProcess, loop: Loop
) -> None:
    with Proxy(broker.port, loop) as proxy:
        peer = make_at("again", proxy.url)
        proxy.refuse()
        fails(peer, BrokerUnreachable)
        proxy.refuse(False)
        peer.login()
        assert peer.client.connection_state is ConnectionState.CONNECTED


def test_keep_trying(make_at: MakeAt, broker: BrokerProcess, loop: Loop) -> None:
    """A device that is up before its broker logs in as soon as there is one, or says why not."""
    with Proxy(broker.port, loop) as proxy:
        proxy.refuse()
        clock = OffsetClock()
        peer = make_at("patient", proxy.url, clock=clock)
        with ThreadPoolExecutor(1) as pool:
            login = pool.submit(peer.login, 30, keep_trying=True)
            proxy.wait(lambda p: p.accepted >= 3, "a third attempt, after two that failed")
            clock.ahead += 30
            with pytest.raises(BrokerUnreachable):
                login.result(10)
        threading.Timer(0.3, lambda: proxy.refuse(False)).start()
        peer.login(10, keep_trying=True)
        peer.expect_state("CONNECTED")


def test_a_login_that_takes_too_long(make_at: MakeAt, broker: BrokerProcess, loop: Loop) -> None:
    """The broker answers, but too late: the login fails, and nothing comes of it afterwards."""
    with Proxy(broker.port, loop) as proxy:
        proxy.hold(DOWN)
        peer = make_at("late", proxy.url)
        fails(peer, LoginTimeout, timeout=0.4)
        proxy.release()
        peer.login()
        peer.expect_state("CONNECTED")


def test_refused_while_reconnecting_is_said(make_peer: MakePeer) -> None:
    """A broker that refuses is told from one that is away, and both are tried again."""
    codes = [0x05]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(bytes([0x20, 2, 0, codes[0]]))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        clock = OffsetClock()
        peer = make_peer("kitchen", login=False, url=f"mqtt://127.0.0.1:{port}", clock=clock)
        with ThreadPoolExecutor(1) as pool:
            login = pool.submit(peer.login, 30, keep_trying=True)
            peer.heard.wait_until(
                lambda told: "refused" in [str(t.args[1]) for t in told], 10, "refused"
            )
            clock.ahead += 30
            with pytest.raises(BrokerRefused) as caught:
                login.result(10)
        assert caught.value.return_code == 5
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_a_slow_resolver_delays_a_login_and_does_not_prevent_it(
    make_at: MakeAt, broker: BrokerProcess, face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it takes longer than a login waits: the next one goes on waiting for the same."""
    answers, asked, look_up = threading.Event(), [], socket.getaddrinfo
    # Nobody else's: what took a second, as it may on a busy machine, is kept for the next one.
    name = f"{face}.{broker.name}.lan"

    def slow(host: str, *args: Any, **more: Any) -> Any:
        if host != name:
            return look_up(host, *args, **more)
        asked.append(host)
        answers.wait(30)
        return look_up("127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    peer = make_at("slowly", f"mqtt://{name}:{broker.port}")
    try:
        with pytest.raises(LoginTimeout, match="name is not resolved"):
            peer.login(0.3, keep_trying=True)
    finally:
        answers.set()
    peer.login(10)
    peer.expect_state("CONNECTED")
    assert len(asked) <= 2  # the second one only if the answer came before it
