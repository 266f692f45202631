"""What is changed of a broker while it serves: permissions, removals, secrets, certificates."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from broker_config import cli
from broker_config.access import pki
from broker_config.access.registry import load as load_registry
from broker_config.admin import outside
from broker_config.admin import setup as broker_setup
from broker_config.admin.running import alone, tell_broker
from broker_config.admin.settings import load as load_settings
from device_sdk import SignalingClient
from tests.broker_support.raw import Raw, Will
from tests.broker_support.served import Served, serving, setup_on_free_ports, trust
from tests.peers import Heard

Keep = Callable[[Raw], Raw]


def cell(owner: str, kind: str, writer: str, letter: str = "A") -> str:
    return f"sig/v1/{owner}/{kind}/{writer}/{letter * 22}"


RING = cell("kitchen", "invite", "front-door")
#: Seconds within which a change holds that nobody signalled.
SOON = 10


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = setup_on_free_ports(tmp_path / "broker")
    broker_setup.add(place, "front-door", may_call=("kitchen", "study"))
    broker_setup.add(place, "kitchen", may_call=("front-door",))
    broker_setup.add(place, "study")
    return place


@pytest.fixture
def clients() -> Iterator[Keep]:
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def secrets(directory: Path) -> dict[str, str]:
    found = {}
    for device in broker_setup.devices(directory):
        secret, _ = broker_setup.rotate(directory, device.name)
        assert secret is not None
        found[device.name] = secret
    return found


def login(
    served: Served, clients: Keep, secrets: dict[str, str], name: str, will: Will | None = None
) -> Raw:
    client = clients(Raw(served.ports["mqtt"]))
    assert client.connect(name, user=name, password=secrets[name], will=will) == 0
    return client


def run(*arguments: str, directory: Path) -> int:
    return cli.main(["device", *arguments, "--dir", str(directory)])


def test_a_removed_device_leaves_nothing_that_rings(
    directory: Path, clients: Keep, secrets: dict[str, str]
) -> None:
    """Its cells, those to it, its presence go; subscribers are told; its will rings nobody."""
    other = cell("study", "invite", "front-door", "Q")
    with serving(directory) as served:
        kitchen = login(served, clients, secrets, "kitchen")
        kitchen.subscribe("sig/v1/kitchen/invite/+/+", "sig/v1/+/presence")
        study = login(served, clients, secrets, "study")
        study.subscribe("sig/v1/study/invite/+/+")
        will = Will(cell("kitchen", "invite", "front-door", "w"), b"ringing", retain=True)
        door = login(served, clients, secrets, "front-door", will)
        door.publish(RING, b"ring", retain=True)
        door.publish(other, b"ring", retain=True)
        door.publish("sig/v1/front-door/presence", b"online", retain=True)
        kitchen.publish(cell("front-door", "answer", "kitchen"), b"received", retain=True)
        assert [message.data for message in kitchen.gather()] == [b"ring", b"online"]
        assert [message.data for message in study.gather()] == [b"ring"]

        assert run("remove", "front-door", directory=directory) == 0
        assert door.closed()
        told = {message.topic: message.data for message in kitchen.gather()}
        assert told == {RING: b"", "sig/v1/front-door/presence": b""}
        assert [(m.topic, m.data) for m in study.gather()] == [(other, b"")]
        again = login(served, clients, secrets, "kitchen")
        again.subscribe("sig/v1/kitchen/#", "sig/v1/+/presence", "sig/v1/+/answer/kitchen/+")
        assert again.gather() == []


def test_a_narrowed_device_stays_and_its_calls_end(
    directory: Path, clients: Keep, secrets: dict[str, str]
) -> None:
    """Only those cells are cleared that it may not write any more, its waiting will too."""
    stays = cell("study", "invite", "front-door", "Q")
    with serving(directory) as served:
        kitchen = login(served, clients, secrets, "kitchen")
        kitchen.subscribe("sig/v1/kitchen/invite/+/+")
        will = Will(cell("kitchen", "invite", "front-door", "w"), b"ringing", retain=True)
        door = login(served, clients, secrets, "front-door", will)
        door.publish(RING, b"ring", retain=True)
        door.publish(stays, b"ring", retain=True)
        assert [message.data for message in kitchen.gather()] == [b"ring"]
        assert run("set", "front-door", "--may-call", "study", directory=directory) == 0
        assert [(m.topic, m.data) for m in kitchen.gather()] == [(RING, b"")]
        door.send(b"\xc0\0")
        door.expect(0xD0)
        study = login(served, clients, secrets, "study")
        study.subscribe("sig/v1/study/invite/+/+")
        assert [message.topic for message in study.gather()] == [stays]
        door.close()
        assert kitchen.gather() == []


def test_what_was_changed_while_nobody_served_holds_from_the_start(
    directory: Path, clients: Keep, secrets: dict[str, str]
) -> None:
    """Cells, and the wills of those who were connected when the broker died."""
    with serving(directory) as served:
        will = Will(cell("kitchen", "invite", "front-door", "w"), b"ringing", retain=True)
        door = login(served, clients, secrets, "front-door", will)
        door.publish(RING, b"ring", retain=True)
        kitchen = login(served, clients, secrets, "kitchen")
        kitchen.publish(cell("front-door", "invite", "kitchen"), b"ring", retain=True)
    assert run("remove", "front-door", directory=directory) == 0
    with serving(directory) as served:
        kitchen = login(served, clients, secrets, "kitchen")
        kitchen.subscribe("sig/v1/kitchen/#", "sig/v1/+/invite/kitchen/+")
        assert kitchen.gather() == []
    with closing(sqlite3.connect(directory / "data" / "broker.sqlite3")) as database:
        wills = database.execute("SELECT topic FROM will").fetchall()
    assert not any("front-door" in topic for (topic,) in wills)


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_device_can_be_cleared(
    directory: Path,
    clients: Keep,
    secrets: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    running: bool,
) -> None:
    def said() -> None:
        assert run("clear", "front-door", directory=directory) == 0
        assert "2 cells of 'front-door' are cleared" in capsys.readouterr().out

    with serving(directory) as served:
        door = login(served, clients, secrets, "front-door")
        door.publish(RING, b"ring", retain=True)
        door.publish("sig/v1/front-door/presence", b"online", retain=True)
        kitchen = login(served, clients, secrets, "kitchen")
        kitchen.publish(cell("front-door", "answer", "kitchen"), b"received", retain=True)
        if running:
            said()
            door.send(b"\xc0\0")
            door.expect(0xD0)
    if not running:
        said()
    with serving(directory) as served:
        kitchen = login(served, clients, secrets, "kitchen")
        kitchen.subscribe("sig/v1/kitchen/#", "sig/v1/+/answer/kitchen/+", "sig/v1/+/presence")
        assert [message.topic for message in kitchen.gather()] == ["sig/v1/front-door/presence"]


def test_a_change_holds_though_all_descriptors_are_out(
    directory: Path, clients: Keep, secrets: dict[str, str]
) -> None:
    """Half-open connections have taken every descriptor that the broker may have."""
    served = Served(directory, files=64)
    try:
        port = served.ports["mqtt"]
        study = login(served, clients, secrets, "study")
        with ExitStack() as stack:
            for _ in range(80):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert run("remove", "study", directory=directory) == 0
            assert study.closed()
    finally:
        log = served.stop()
    assert "limits.connections is 20000, but this process may open 64 files only" in log


def test_what_cannot_be_read_is_tried_again_and_said(
    directory: Path, clients: Keep, secrets: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged registry: the old one holds, the command and doctor say so; mended, it is read."""
    registry = directory / "devices.json"
    with serving(directory) as served:
        study = login(served, clients, secrets, "study")
        good = registry.read_text()
        registry.write_text(good[:-9])
        served.logged("the registry cannot be read again")
        login(served, clients, secrets, "kitchen")
        assert cli.main(["doctor", str(directory)]) == 1
        assert "is damaged" in capsys.readouterr().out
        registry.write_text(good)
        assert run("remove", "study", directory=directory) == 0
        assert study.closed()


def test_half_a_pair_of_certificates_ends_nothing(directory: Path, clients: Keep) -> None:
    """TLS is served with the old pair until the new one is whole."""
    key = directory / "tls" / "server.key"
    with serving(directory) as served:
        port = served.ports["mqtts"]
        before = ssl.get_server_certificate(("127.0.0.1", port))
        whole = key.read_bytes()
        key.write_bytes(whole[:40])
        served.logged("the certificate cannot be read again")
        clients(Raw(port, tls=trust(directory)))
        key.write_bytes(whole)
        broker_setup.renew(directory, [])
        until = time.monotonic() + SOON
        while ssl.get_server_certificate(("127.0.0.1", port)) == before:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_who_is_online_and_who_was(
    directory: Path, clients: Keep, secrets: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    def listed() -> dict[str, dict[str, object]]:
        capsys.readouterr()
        assert run("list", "--json", directory=directory) == 0
        return {each["name"]: each for each in json.loads(capsys.readouterr().out)}

    with serving(directory) as served:
        door = login(served, clients, secrets, "front-door")
        kitchen = login(served, clients, secrets, "kitchen")
        kitchen.close()
        until = time.monotonic() + SOON
        while (found := listed())["kitchen"]["online"]:
            assert time.monotonic() < until
        assert found["front-door"]["online"] is True
        assert found["front-door"]["calls"] == ["kitchen", "study"]
        assert found["kitchen"]["last_seen"]
        assert found["study"]["last_seen"] is None
        door.send(b"\xc0\0")
        door.expect(0xD0)
    found = listed()
    assert found["front-door"]["online"] is False
    assert found["front-door"]["last_seen"]
    assert run("list", directory=directory) == 0
    out = capsys.readouterr().out
    assert re.search(r"front-door: .*may call kitchen, study; .*offline, last seen 20", out)
    assert re.search(r"study: .*may be called by front-door; has not connected yet", out)


def test_a_broker_that_keeps_nothing_knows_nothing_of_who_is_online(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = directory / "broker.toml"
    settings.write_text(settings.read_text().replace('"data/broker.sqlite3"', '""'))
    assert run("list", directory=directory) == 0
    said = capsys.readouterr()
    assert "storage.file is empty" in said.err
    assert said.out.count("online or not is not known") == 3


def test_a_refusal_names_the_command_that_cures_it(
    directory: Path, clients: Keep, secrets: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Taken from the log and run, it does."""
    topic = cell("study", "invite", "kitchen")
    with serving(directory) as served:
        kitchen = login(served, clients, secrets, "kitchen")
        kitchen.publish(topic, b"ring", retain=True, wait=False)
        line = served.logged("kitchen may not call study: ")
        found = re.search(
            r"(bellwire-broker device set kitchen --may-call front-door study .*?)(;|$)", line
        )
        assert found is not None
        assert cli.main(found[1].split()[1:]) == 0
        assert "may call front-door, study." in capsys.readouterr().out
        again = login(served, clients, secrets, "kitchen")
        again.publish(topic, b"ring", retain=True)


# --- nothing half-done -------------------------------------------------------------------------


def no_room(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """The disk takes nothing more whose name has ``part`` in it."""
    from broker_config.access import writing

    before = writing._written

    def full(path: Path, data: bytes) -> Path:
        if part in path.name:
            raise OSError(28, "No space left on device")
        return before(path, data)

    monkeypatch.setattr(writing, "_written", full)


@pytest.mark.parametrize("action", ["add", "rotate"])
@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("nowhere/bell.secret", "there is no directory"),
        ("other.secret", "it is not the secret of"),
        (".", "it is not the secret of"),
        ("broker/devices.json", "it is not the secret of"),
        ("/dev/full", "it is not the secret of"),
        ("other.secret/bell.secret", "there is no directory"),
    ],
)
def test_a_secret_that_cannot_be_written_changes_nothing(
    directory: Path, capsys: pytest.CaptureFixture[str], action: str, file: str, told: str
) -> None:
    other = directory.parent / "other.secret"
    other.write_text("another's\n")
    before = (directory / "devices.json").read_bytes()
    name = "bell" if action == "add" else "kitchen"
    target = str(directory.parent / file)
    assert run(action, name, "--secret-file", target, directory=directory) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert (directory / "devices.json").read_bytes() == before
    assert other.read_text() == "another's\n"
    assert not list(directory.parent.glob(".*.secret.*"))


@pytest.mark.parametrize("part", ["bell.secret", "devices.json", "bell.crt", "bell.key"])
def test_a_full_disk_changes_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    before = (directory / "devices.json").read_bytes()
    no_room(monkeypatch, part)
    options = ["--certificate"] if part.endswith(("crt", "key")) else (
        ["--secret-file", str(directory.parent / "bell.secret")]
    )  # fmt: skip
    assert run("add", "bell", *options, directory=directory) == 2
    monkeypatch.undo()
    assert (directory / "devices.json").read_bytes() == before
    assert not list(directory.parent.rglob("*bell*"))


def test_init_cut_short_leaves_nothing_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, at each of its files; in a directory that was there, the CA is kept."""
    for part in ("ca.key", "ca.crt", "server.key", "server.crt", "devices.json", "broker.toml"):
        with monkeypatch.context() as patch:
            no_room(patch, part)
            assert cli.main(["init", str(tmp_path / "new")]) == 2
            assert not (tmp_path / "new").exists()
    there = tmp_path / "there"
    there.mkdir()
    with monkeypatch.context() as patch:
        no_room(patch, "broker.toml")
        assert cli.main(["init", str(there)]) == 2
    ca = (there / "tls" / "ca.crt").read_bytes()
    assert cli.main(["init", str(there)]) == 0
    assert (there / "tls" / "ca.crt").read_bytes() == ca


@pytest.mark.parametrize("shell", ['"$@" >/dev/full', '"$@" | true', '"$@" >&-'])
@pytest.mark.parametrize("action", ["add", "rotate"])
def test_a_secret_that_nobody_sees_changes_nothing(
    directory: Path, shell: str, action: str
) -> None:
    before = (directory / "devices.json").read_bytes()
    name = "bell" if action == "add" else "kitchen"
    # The reader has gone for certain before the command begins to write.
    command = shell.replace("| true", "| exec true").replace('"$@"', '{ sleep 0.2; "$@"; }')
    ended = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-m", "broker_config.cli", "device", action,
         name, "--dir", str(directory)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "so nothing has changed" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (directory / "devices.json").read_bytes() == before


def test_rotate_writes_over_the_devices_own_secret(
    directory: Path, secrets: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And says that the device has to be given the new one."""
    file = directory.parent / "kitchen.secret"
    file.write_text(secrets["kitchen"] + "\n")
    assert run("rotate", "kitchen", "--secret-file", str(file), directory=directory) == 0
    assert "give 'kitchen' this one, and start it again" in capsys.readouterr().out
    assert file.read_text().strip() != secrets["kitchen"]
    assert file.stat().st_mode & 0o777 == 0o600


# --- many at once ------------------------------------------------------------------------------


def test_a_table_of_devices(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = directory.parent / "devices.csv"
    table.write_bytes(
        b"\xef\xbb\xbfname,may_call,group,watches,certificate\r\n"
        b"gate,kitchen;@flats,,,\r\n# a remark\r\n\r\nflat-1,,flats,,\r\nflat 2,,flats,yes,\r\n"
        b"tablet,,flats,,yes\r\n"
    )
    folder = directory.parent / "secrets"
    options = ("add", "--from", str(table), "--secrets", str(folder))
    assert run(*options, directory=directory) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "flat%202.secret", "flat-1.secret", "gate.secret",
    ]  # fmt: skip
    assert "4 devices are registered" in capsys.readouterr().out
    devices = {device.name: device for device in broker_setup.devices(directory)}
    assert devices["gate"].may_call == ("kitchen", "@flats")
    assert devices["flat 2"].watches
    assert devices["tablet"].certificate
    before = (directory / "devices.json").read_bytes()
    assert run(*options, directory=directory) == 2
    assert "is registered" in capsys.readouterr().err
    assert (directory / "devices.json").read_bytes() == before


def test_every_fault_of_a_table_is_named_and_nothing_is_done(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = directory.parent / "devices.csv"
    table.write_text(
        "name,may_call,watches\ngate,kichen,\nkitchen,,\nbell,,maybe\nporch,@nobody,\n"
        "gate,,\n,,\nthis,is,no,good\nCaf\u00e9,,\nCafe\u0301,,\n"
    )
    before = (directory / "devices.json").read_bytes()
    folder = directory.parent / "secrets"
    options = ("add", "--from", str(table), "--secrets", str(folder))
    assert run(*options, directory=directory) == 2
    said = capsys.readouterr().err
    for fault in (
        "devices.csv:2: may_call: no device is called 'kichen'; did you mean 'kitchen'?",
        "devices.csv:3: 'kitchen' is registered",
        "devices.csv:4: watches: yes or no, not 'maybe'",
        "devices.csv:5: may_call: no device is in @nobody",
        "devices.csv:6: 'gate' is on line 2 too",
        "devices.csv:8: ",
        "devices.csv:10: ",
        "nothing has changed",
    ):
        assert fault in said, fault
    assert (directory / "devices.json").read_bytes() == before
    assert not folder.exists()


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["set", "front-dor", "--may-call", "kitchen"], "did you mean 'front-door'?"),
        (["set", "front-door", "--may-call", "kitchn"], "did you mean 'kitchen'?"),
        (["set", "front-door", "--may-call", "@panels"], "no device is in @panels"),
        (["set", "front-door", "--may-call", "flat-*"], "no device is called like 'flat-*'"),
        (["set", "front-door", "--may-call", "front-door"], "nobody calls himself"),
        (["set", "front-door"], "say what to change"),
        (["set", "front-door", "--group", "@panels"], "--group panels"),
        (["clear", "nobody"], "device list"),
        (["add", "Cafe\u0301"], "looks the same"),
        (["add", "bell", "--may-call", ""], "is no pattern"),
        (["add", "--from", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["add"], "NAME is missing"),
    ],
)
def test_names_that_mean_nobody_are_refused(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    broker_setup.add(directory, "Caf\u00e9")
    before = (directory / "devices.json").read_bytes()
    assert run(*arguments, directory=directory) == 2
    assert told in capsys.readouterr().err
    assert (directory / "devices.json").read_bytes() == before


def test_a_directory_that_is_none_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for action in (["add", "bell"], ["list"], ["remove", "bell"], ["set", "bell", "--watches"]):
        assert run(*action, directory=tmp_path) == 2
        assert f"`bellwire-broker init {tmp_path}`" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_changes_stays_the_service_users(directory: Path) -> None:
    """As with `sudo bellwire-broker` on the broker's Pi."""
    owner = 12345
    for path in (directory, *directory.rglob("*")):
        os.chown(path, owner, owner)
    (directory / ".devices.json.lock").unlink()
    assert run("add", "bell", directory=directory) == 0
    assert run("add", "gate", "--certificate", directory=directory) == 0
    assert cli.main(["renew", str(directory)]) == 0
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert {path.stat().st_uid for path in files if path.parent.name != "devices"} == {owner}


def test_add_says_what_it_may_and_how_to_change_that(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("add", "porch", directory=directory) == 0
    out = capsys.readouterr().out
    assert f"device set porch --may-call NAME --dir {directory}" in out
    assert f"device set OTHER --may-call porch --dir {directory}" in out
    assert run("add", "gate", "--may-call", "kichen", directory=directory) == 0
    out = capsys.readouterr().out
    assert "did you mean 'kitchen'? bellwire-broker device set gate --may-call kitchen --dir" in out
    assert run("remove", "kitchen", directory=directory) == 0
    assert "device set front-door --may-call study --dir" in capsys.readouterr().out
    assert run("set", "study", "--group", "rooms", directory=directory) == 0
    assert run("set", "front-door", "--may-call", "@rooms", "study", directory=directory) == 0
    capsys.readouterr()
    assert run("set", "study", "--group", "", directory=directory) == 0
    out = capsys.readouterr().out
    assert "'front-door' may still call '@rooms', who is nobody now" in out
    assert "device set front-door --may-call study --dir" in out


def test_doctor_knows_what_nobody_meant(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker_setup.add(directory, "gate", may_call=("kichen", "@flats"))
    broker_setup.add(directory, "attic")
    broker_setup.add(directory, "porch", may_call=("kitchen",))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = directory / "broker.toml"
        settings.write_text(
            settings.read_text().replace('mqtt = "127.0.0.1:0"', f'mqtt = "127.0.0.1:{port}"')
        )
        assert cli.main(["doctor", str(directory)]) == 1
    out = capsys.readouterr().out
    assert "note  nobody may call porch: right for a doorbell, not for a panel" in out
    wrong = [line for line in out.splitlines() if line.startswith("WRONG")]
    for what in (
        "'gate' may call 'kichen', but no device is called 'kichen'; did you mean 'kitchen'?",
        "'gate' may call '@flats', but no device is in @flats",
        "nobody may call 'attic', and it may call nobody",
        f"listen.mqtt: port {port} is in use",
    ):
        assert any(what in line for line in wrong), what
    assert not any("not connected" in line for line in wrong), "a new device is not wrong"


def test_doctor_knows_who_has_nearly_all(
    directory: Path, clients: Keep, secrets: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = directory / "broker.toml"
    settings.write_text(settings.read_text() + "\n[limits]\nretained_per_device = 5\n")
    with serving(directory) as served:
        door = login(served, clients, secrets, "front-door")
        for letter in "AQgw":
            door.publish(cell("kitchen", "invite", "front-door", letter), b"ring", retain=True)
        assert cli.main(["doctor", str(directory)]) == 1
        told = "'front-door' has nearly all of its share, 4 of 5 retained messages"
        out = capsys.readouterr().out
        assert told in out
        assert f"bellwire-broker device clear front-door --dir {directory}" in out
        assert run("clear", "front-door", directory=directory) == 0
        capsys.readouterr()
        cli.main(["doctor", str(directory)])
        assert "share" not in capsys.readouterr().out


# --- run ----------------------------------------------------------------------------------------


def started(
    directory: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`run` where it cannot go on for long: its lock is held."""
    with alone(directory):
        return subprocess.run(
            [sys.executable, "-m", "broker_config.cli", "run", *arguments],
            cwd=environment.pop("cwd", directory.parent),
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1]), **environment},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip


def test_a_set_up_directory_is_served_as_it_is_set_up(directory: Path) -> None:
    """Not by an anonymous broker: with the directory as the current one, or in the environment."""
    for ended in (
        started(directory, cwd=str(directory)),
        started(directory, BELLWIRE_BROKER_DIR=str(directory)),
    ):
        assert ended.returncode == 2
        assert "another broker" in ended.stderr
    for ended in (
        started(directory, "--port", "0", cwd=str(directory)),
        started(directory, "--port", "0", BELLWIRE_BROKER_DIR=str(directory)),
    ):
        assert ended.returncode == 2
        assert "--anonymous" in ended.stderr
    (directory / "broker.toml").unlink()
    ended = started(directory, cwd=str(directory))
    assert ended.returncode == 2
    assert "there is no broker.toml" in ended.stderr


def test_a_change_while_it_starts_does_not_end_it(directory: Path) -> None:
    """Whoever changes the registry signals the process that has the lock."""
    code = (
        "import os, signal, sys\n"
        "from broker_config import cli\nfrom broker_config.admin import serve\n"
        "start = serve.DirectoryBroker.start\n"
        "async def changed(served):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    await start(served)\n"
        "serve.DirectoryBroker.start = changed\n"
        "sys.exit(cli.main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on ")
    finally:
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_port_in_use_is_one_line(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "broker_config.cli", "run", "--port", str(port)],
            cwd=directory.parent,
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if "there is no broker.toml" not in line]
    assert f"cannot listen on 127.0.0.1:{port}" in line
    assert "in use" in line


@pytest.mark.parametrize(
    ("days", "told"),
    [(10, "ends in 9 days: bellwire-broker renew"), (-1, "no device connects any more")],
)
def test_a_certificate_that_ends_is_said(
    directory: Path, monkeypatch: pytest.MonkeyPatch, days: int, told: str
) -> None:
    """By the broker itself, whose log somebody reads; not by devices that stay away."""
    monkeypatch.setattr(pki, "SERVER_DAYS", days)
    monkeypatch.setattr(pki, "_BACKDATED", dt.timedelta(days=3))
    broker_setup.renew(directory, [])
    with serving(directory) as served:
        assert "WARNING" in served.logged(told)


@pytest.mark.usefixtures("broker_here")
def test_a_certificate_that_was_moved_is_one_line(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "tls" / "server.crt").unlink()
    assert cli.main(["run", str(directory)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "server.crt" in line]
    assert f"there is no {directory / 'tls' / 'server.crt'}" in line
    assert "bellwire-broker renew" in line
    assert broker_setup.renew(directory, [])


def test_a_browser_at_the_websocket_port_is_one_line(directory: Path) -> None:
    served = Served(directory)
    try:
        for request in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-scan\r\n\r\n"):
            with (
                socket.create_connection(("127.0.0.1", served.ports["wss"])) as plain,
                trust(directory).wrap_socket(plain, server_hostname="localhost") as tls,
            ):
                tls.sendall(request)
                while tls.recv(4096):
                    pass
            assert " INFO " in served.logged("is no WebSocket client")
    finally:
        log = served.stop()
    assert "Traceback" not in log


def test_a_doorbell_removed_while_it_rings_stops_the_panel_and_nothing_else(
    directory: Path, secrets: dict[str, str]
) -> None:
    """The panel's link lives, its ringing ends at once, and the next doorbell rings it."""
    broker_setup.change(directory, "study", may_call=("kitchen",))
    with serving(directory) as served, ExitStack() as stack:
        url = f"mqtt://127.0.0.1:{served.ports['mqtt']}"

        def online(name: str) -> tuple[SignalingClient, Heard]:
            heard = Heard()
            client = SignalingClient(name, url, password=secrets[name])
            client.call_manager.add_event_listener(heard)
            stack.callback(client.logout)
            client.login()
            return client, heard

        def ring(client: SignalingClient) -> None:
            invitation = client.call_manager.create_local_invitation("kitchen")
            client.call_manager.send_local_invitation(invitation)

        panel, rung = online("kitchen")
        door, _ = online("front-door")
        study, _ = online("study")
        ring(door)
        rung.wait_until(lambda _: rung.names() == ["remote_invitation_received"], SOON, "a ring")
        assert run("remove", "front-door", directory=directory) == 0
        over = ["remote_invitation_received", "remote_invitation_canceled"]
        rung.wait_until(lambda _: rung.names() == over, SOON, "its end")
        ring(study)
        rung.wait_until(lambda _: rung.names() == [*over, over[0]], SOON, "the next ring")
        assert panel.stats["connects"] == 1


def test_of_two_commands_at_once_both_are_told_that_it_was_read(directory: Path) -> None:
    """The broker may read in one go what both have written: the earlier state it never goes by."""
    served = Served(directory)
    try:
        broker_setup.add(directory, "garage")
        earlier = load_registry(directory / "devices.json").digest
        broker_setup.add(directory, "attic")
        now = load_registry(directory / "devices.json").digest
        settings = load_settings(directory)
        assert tell_broker(directory)
        assert outside.applied(settings, now)
        assert outside.applied(settings, earlier, patience=0.5)
    finally:
        served.stop()
