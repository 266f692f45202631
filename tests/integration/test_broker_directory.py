"""``bellwire-broker`` as its user meets it: init, device, run over TLS, reload, status, doctor."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect as ws_connect

from broker_config import cli
from broker_config.access import pki
from broker_config.admin import running
from broker_config.admin import setup as broker_setup
from tests.bench.broker_wire import connect
from tests.broker_support.killing import free_port
from tests.broker_support.raw import Raw
from tests.broker_support.running import for_threads
from tests.broker_support.served import Served, serving, setup_on_free_ports, trust

Keep = Callable[[Raw], Raw]
RING = f"sig/v1/kitchen/invite/front-door/{'A' * 22}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory set up by ``init``, on free ports."""
    return setup_on_free_ports(tmp_path / "broker", "--name", "door.example")


@pytest.fixture
def clients() -> Iterator[Keep]:
    with ExitStack() as stack:
        yield stack.enter_context


def let_in(port: int, tls: ssl.SSLContext, name: str) -> bool:
    """Whether the handshake and CONNECT succeed; TLS 1.3 tells of a bad certificate only later."""
    try:
        with Raw(port, tls=tls) as client:
            return client.connect(name) == 0
    except (ssl.SSLError, ConnectionError):
        return False


def secret_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a ``device`` command and read the secret it prints."""
    assert cli.main(["device", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("secret:")]
    return line.split()[1]


def test_a_broker_over_tls_with_passwords_and_certificates(
    directory: Path, clients: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--dir", str(directory))
    secret = secret_of(capsys, "add", "front-door", "--may-call", "kitchen", *where)
    assert cli.main(["device", "add", "kitchen", "--certificate", *where]) == 0
    with serving(directory) as served:
        port = served.ports["mqtts"]
        kitchen = clients(Raw(port, tls=trust(directory, "kitchen")))
        assert kitchen.connect("kitchen") == 0
        assert kitchen.subscribe("sig/v1/kitchen/invite/+/+") == [1]
        door = clients(Raw(port, tls=trust(directory), name="door.example"))
        assert door.connect("front-door", user="front-door", password=secret) == 0
        door.publish(RING, b"ring", retain=True)
        assert kitchen.message().data == b"ring"

        # A certificate opens its own device's door and no other's.
        liar = clients(Raw(port, tls=trust(directory, "kitchen")))
        assert liar.connect("front-door", user="front-door", password=secret) == 5
        liar = clients(Raw(port, tls=trust(directory, "kitchen")))
        assert liar.connect("front-door") == 2
        # Of another CA, the handshake fails.
        other = directory.parent / "other"
        broker_setup.init(other)
        broker_setup.add(other, "kitchen", certificate=True)
        foreign = trust(other, "kitchen")
        foreign.load_verify_locations(directory / "tls" / "ca.crt")
        assert let_in(port, foreign, "kitchen") is False
        # Plain MQTT on loopback asks for the same secrets.
        assert clients(Raw(served.ports["mqtt"])).connect("kitchen", user="kitchen") == 5
        # And so does MQTT over WebSocket.
        with ws_connect(
            f"wss://localhost:{served.ports['wss']}",
            ssl=for_threads(trust(directory)),
            subprotocols=["mqtt"],  # type: ignore[list-item] # a Subprotocol is a str
        ) as websocket:
            assert websocket.subprotocol == "mqtt"
            hello = connect("front-door:ws", user="front-door", password=secret)
            websocket.send(hello[:7])
            websocket.send(hello[7:])
            assert websocket.recv() == b"\x20\x02\x00\x00"

        assert cli.main(["status", str(directory)]) == 0
        assert "retained: 1" in capsys.readouterr().out
        assert cli.main(["doctor", str(directory)]) == 0
        # Removed, it is cut at once; the others are not.
        assert cli.main(["device", "remove", "kitchen", *where]) == 0
        assert kitchen.closed()
        again = clients(Raw(port, tls=trust(directory)))
        assert again.connect("kitchen", user="kitchen", password=secret) == 5
        door.send(b"\xc0\0")
        door.expect(0xD0)


def test_a_rotated_certificate_replaces_the_old_one(directory: Path, clients: Keep) -> None:
    broker_setup.add(directory, "kitchen", certificate=True)
    old = trust(directory, "kitchen")
    with serving(directory) as served:
        port = served.ports["mqtts"]
        kitchen = clients(Raw(port, tls=old))
        assert kitchen.connect("kitchen") == 0
        assert cli.main(["device", "rotate", "kitchen", "--dir", str(directory)]) == 0
        assert kitchen.closed()
        assert clients(Raw(port, tls=old)).connect("kitchen") == 5
        assert clients(Raw(port, tls=trust(directory, "kitchen"))).connect("kitchen") == 0


def test_a_renewed_certificate_is_served_without_a_break(
    directory: Path, clients: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = secret_of(capsys, "add", "kitchen", "--dir", str(directory))
    with serving(directory) as served:
        port = served.ports["mqtts"]
        kitchen = clients(Raw(port, tls=trust(directory)))
        assert kitchen.connect("kitchen", user="kitchen", password=secret) == 0
        before = ssl.get_server_certificate(("127.0.0.1", port))
        assert cli.main(["renew", str(directory), "--name", "new.example"]) == 0
        served.wait_for("READY=1")
        assert ssl.get_server_certificate(("127.0.0.1", port)) != before
        names = pki.extra_names(directory / "tls" / "server.crt")
        assert {"door.example", "new.example", "localhost"} <= set(names)
        clients(Raw(port, tls=trust(directory), name="new.example"))
        kitchen.send(b"\xc0\0")
        kitchen.expect(0xD0)


def test_what_is_seen_from_outside(
    directory: Path, clients: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    """/metrics, /healthz, JSON logs without secrets, one broker for a directory."""
    settings = directory / "broker.toml"
    settings.write_text(settings.read_text().replace('"plain"           #', '"json" #'))
    secret = secret_of(capsys, "add", "kitchen", "--dir", str(directory))
    served = Served(directory)
    try:
        second = subprocess.run(
            [sys.executable, "-m", "broker_config.cli", "run", str(directory)],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert second.returncode == 2
        assert f"process {served.process.pid}" in second.stderr
        port = served.ports["mqtt"]
        assert clients(Raw(port)).connect("kitchen", user="kitchen", password=secret) == 0
        assert clients(Raw(port)).connect("kitchen", user="kitchen", password="not it") == 5
        at = settings.read_text().split('listen = "127.0.0.1:')[1].split('"')[0]
        until = time.monotonic() + 10
        metrics = ""
        # The refused connection counts until the broker has seen it close.
        while "bellwire_connections 1.0" not in metrics:
            assert time.monotonic() < until, metrics
            with urllib.request.urlopen(f"http://127.0.0.1:{at}/metrics", timeout=5) as answer:
                metrics = answer.read().decode()
        assert 'bellwire_refused_total{cause="not authenticated"} 1.0' in metrics
        with urllib.request.urlopen(f"http://127.0.0.1:{at}/healthz", timeout=5) as answer:
            assert answer.read() == b"ok\n"
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"http://127.0.0.1:{at}/secrets", timeout=5)
        refusal.value.close()
        assert refusal.value.code == 404
    finally:
        log = served.stop()
    lines = [json.loads(line) for line in log.splitlines()]
    assert any("authentication failed" in line["message"] for line in lines)
    assert secret not in log
    assert "not it" not in log


def test_systemd_is_told_ready_alive_and_stopping(directory: Path) -> None:
    """As the unit says: Type=notify, WatchdogSec. Ready is said once connections are accepted."""
    settings = directory / "broker.toml"
    port = free_port()
    settings.write_text(
        settings.read_text().replace('mqtts = "127.0.0.1:0"', f'mqtts = "127.0.0.1:{port}"')
    )
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(directory / "systemd"))
    notified.settimeout(10)
    process = subprocess.Popen(
        [sys.executable, "-m", "broker_config.cli", "run", str(directory)],
        stdout=subprocess.DEVNULL,
        env={
            **os.environ, "NOTIFY_SOCKET": notified.getsockname(), "WATCHDOG_USEC": "100000",
        },
    )  # fmt: skip
    try:
        assert notified.recv(200) == b"READY=1"
        Raw(port, tls=trust(directory)).close()
        for _ in range(3):
            assert notified.recv(200) == b"WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        state = b"WATCHDOG=1"
        while state == b"WATCHDOG=1":
            state = notified.recv(200)
        assert state == b"STOPPING=1"
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        notified.close()


@pytest.mark.parametrize("setting", ["mqtts", "listen", None], ids=["mqtts", "metrics", "no DIR"])
def test_what_may_pass_is_not_exit_2(directory: Path, setting: str | None) -> None:
    """After 2 systemd gives up; a port that is taken is no wrong setting and may become free."""
    settings = directory / "broker.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--port", str(port)]
        if setting is not None:
            address = f'{setting} = "127.0.0.1:{port}"'
            text, found = re.subn(rf'(?m)^{setting} = "[^"]*"', address, settings.read_text())
            assert found == 1
            settings.write_text(text)
            arguments = [str(directory)]
        ended = subprocess.run(
            [sys.executable, "-m", "broker_config.cli", "run", *arguments],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert "in use" in ended.stderr.splitlines()[-1]


def test_a_stuck_loop_is_not_healthy() -> None:
    from threading import Event

    from broker_config.admin.metrics import MetricsServer
    from tests.broker_support.running import Running

    with Running() as broker:
        window = MetricsServer(broker.broker, "127.0.0.1", 0)
        release = Event()
        try:
            broker.loop.call_soon_threadsafe(release.wait)
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(f"http://127.0.0.1:{window.port}/healthz", timeout=10)
            assert refusal.value.code == 503
            assert b"event loop" in refusal.value.read()
            refusal.value.close()
        finally:
            release.set()
            window.close()


def test_doctor_finds_what_is_wrong(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker_setup.add(directory, "kitchen")
    (directory / "devices.json").chmod(0o644)
    (directory / "data").mkdir(exist_ok=True)
    (directory / "data" / "broker.sqlite3").touch()
    (directory / "data" / "broker.sqlite3.unusable-20260101T000000Z").touch()
    monkeypatch.setattr(pki, "SERVER_DAYS", 10)
    broker_setup.renew(directory, [])
    assert cli.main(["doctor", str(directory)]) == 1
    out = capsys.readouterr().out
    for wrong in (
        "nobody may call 'kitchen'", "chmod 600", "was set aside", "ends in 9 days",
        "no broker serves",
    ):  # fmt: skip
        assert any(line.startswith("WRONG") and wrong in line for line in out.splitlines()), wrong


def test_doctor_before_the_first_run_says_what_comes_next(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is wrong with a directory that was just set up."""
    assert cli.main(["doctor", str(directory)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert notes == [
        f"note  no devices yet: `bellwire-broker device add NAME --dir {directory}`",
        f"note  next: `bellwire-broker run {directory}`",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "{}/nowhere"], "bellwire-broker init"),
        (["run", "--host", "192.0.2.1"], "bellwire-broker init DIR"),
        (["run", "{}", "--port", "1"], "broker.toml"),
        (["init", "{}"], "is there already"),
        (["device", "remove", "nobody", "--dir", "{}"], "device list"),
        (["device", "add", "a\nb", "--dir", "{}"], "NAME"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_exit_2(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main([each.format(directory) for each in arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["run", "--prt", "1"], "bellwire-broker run"),
        (["rn"], "bellwire-broker"),
        (["device"], "bellwire-broker device"),
        (["run", "--port", "x"], "bellwire-broker run"),
    ],
)
def test_wrong_usage_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], command: str
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{command}: ")
    assert line.endswith(f"see `{command} --help`")


def test_without_a_command_it_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    err = capsys.readouterr().err
    assert all(f"\n    {name} " in err for name in ("run", "init", "device", "status", "doctor"))


def test_status_without_a_broker_says_how_to_start_one(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", str(directory)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "(Connection refused)" in line
    assert f"`bellwire-broker run {directory}`" in line


def test_renew_elsewhere_says_where_the_directory_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["renew", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "`bellwire-broker renew DIR`" in line


def test_a_broken_settings_file_starts_nothing(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "broker.toml").write_text("[listen]\nmqtts = 3\n")
    assert cli.main(["run", str(directory)]) == 2
    out = capsys.readouterr()
    assert "broker.toml:2: listen.mqtts" in out.err
    assert out.out == ""
    assert not (directory / running.LOCK).exists()


def test_certificates_are_back_dated_and_strict(directory: Path) -> None:
    """A Raspberry Pi's clock may lag; OpenSSL's strict checks are Python 3.13's default."""
    import datetime as dt

    start, end = pki.expiry(directory / "tls" / "server.crt")
    now = dt.datetime.now(dt.UTC)
    assert start < now - dt.timedelta(hours=23)
    assert end > now + dt.timedelta(days=800)
    context = trust(directory)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    with serving(directory) as served:
        Raw(served.ports["mqtts"], tls=context).close()
    for name in ("ca.key", "server.key"):
        assert (directory / "tls" / name).stat().st_mode & 0o777 == 0o600
