"""`bellwire-broker export`: every format from one registry, whole or not at all."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_config.access.acl import contains, may_publish, writable
from broker_config.access.hashes import bcrypt_hash, pbkdf2_sha512
from broker_config.access.registry import Device, Registry, load, save
from broker_config.admin import cli, setup
from broker_config.admin.export import FORMATS, MARK, export
from broker_config.admin.settings import load as settings_of
from broker_config.export.site import BrokerNode, ExportError
from device_sdk.cli.options import Options, add_options
from device_sdk.core.wire.topics import escape

CALL = "AAAAAAAAAAAAAAAAAAAAAA"
NODES = {
    "mosquitto": ["127.0.0.1:21000"],
    "mosquitto-bridge": ["127.0.0.1:21000", "127.0.0.1:21002"],
    "nats": ["127.0.0.1:21000", "127.0.0.1:21002", "127.0.0.1:21004"],
    "emqx": ["a.example", "b.example", "c.example"],
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A broker's directory with a few devices."""
    place = tmp_path_factory.mktemp("broker") / "dir"
    setup.init(place)
    setup.add(place, "front-door", may_call=("kitchen", "@panels"))
    setup.add(place, "kitchen.1", group="panels")
    setup.add(place, "kitchen")
    setup.add(place, "trace", watches=True)
    return place


def run(directory: Path, *words: object) -> int:
    return cli.main(["export", *map(str, words), "--dir", str(directory)])


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_secret_in_mosquittos_form_is_what_mosquitto_passwd_writes() -> None:
    version, rounds, salt, made = pbkdf2_sha512("secret")[1:].split("$")
    again = hashlib.pbkdf2_hmac("sha512", b"secret", base64.b64decode(salt), int(rounds))
    assert (version, base64.b64decode(made)) == ("7", again)


def test_a_secret_in_bcrypt() -> None:
    made = bcrypt_hash("secret").encode()
    assert bcrypt.checkpw(b"secret", made)
    assert not bcrypt.checkpw(b"another", made)


def test_a_device_has_its_secret_in_every_form_and_a_new_one_in_every_form(directory: Path) -> None:
    def forms() -> tuple[str | None, ...]:
        device = load(directory / "devices.json").devices["kitchen"]
        return device.secret, device.pbkdf2, device.bcrypt

    before = forms()
    secret, _ = setup.rotate(directory, "kitchen")
    after = forms()
    assert all(after)
    assert not set(before) & set(after)
    assert secret is not None
    assert bcrypt.checkpw(secret.encode(), (after[2] or "").encode())


NAMES = st.sampled_from(["a", "b", "c.1", "ü", "d"])


@given(st.dictionaries(NAMES, st.lists(st.sampled_from(["*", "a", "c*", "@g", "b"]), max_size=3)))
def test_lists_of_filters_say_what_the_rules_say(called: dict[str, list[str]]) -> None:
    """For every registered pair and kind of cell: allowed by a filter where the rules allow it."""
    from broker_config.access.naming import calls, turned

    devices = {
        name: Device(name, may_call=tuple(patterns), group="g" if name in "ab" else None)
        for name, patterns in called.items()
    }
    registry = Registry(devices)
    may = calls(devices)
    by = turned(may)
    for name in devices:
        filters = writable("sig", name, set(may[name]), set(by[name]), set(devices) - {name})
        for owner in devices:
            for writer in devices:
                for kind in ("invite", "answer"):
                    topic = f"sig/v1/{escape(owner)}/{kind}/{escape(writer)}/{CALL}"
                    if owner != writer:
                        listed = any(contains(each, topic) for each in filters)
                        assert listed == may_publish("sig", name, topic, registry.may_call)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_is_whole_and_private(directory: Path, tmp_path: Path, kind: str) -> None:
    """Every node has its certificate, every device is named, and nobody else reads the secrets."""
    nodes = [word for node in NODES[kind] for word in ("--node", node)]
    assert run(directory, kind, tmp_path / "out", *nodes) == 0
    written = content(tmp_path / "out")
    assert len([name for name in written if name.endswith("tls/server.key")]) == len(NODES[kind])
    everything = b"".join(written.values()).decode()
    for name in ("front-door", "kitchen%2E1", "kitchen", "trace"):
        assert name in everything
    parser = argparse.ArgumentParser()
    add_options(parser)
    told = Options(parser.parse_args(["--settings", str(tmp_path / "out" / "account.toml")]), {})
    hosts = [f"{url.host}:{url.port}" for url in told.checked()[0]]
    assert hosts == [node if ":" in node else f"{node}:8883" for node in NODES[kind]]
    assert told["subscribe_qos"] == (0 if kind == "nats" else None)
    assert told["accept_timeout"] == (None if kind == "mosquitto" else 20)
    assert len(written["README.md"].decode().strip().splitlines()) <= 5
    for path in (tmp_path / "out").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_a_further_export_keeps_what_the_broker_kept(
    directory: Path, tmp_path: Path, kind: str
) -> None:
    """And what the nodes show each other, so that they can be renewed one by one."""
    settings, out = settings_of(directory), tmp_path / "out"
    export(settings, kind, out, NODES[kind])
    shown = json.loads((out / MARK).read_text())["peer_secret"]
    (out / "node1" / "data").mkdir(exist_ok=True)
    (out / "node1" / "data" / "kept").write_text("retained")
    export(settings, kind, out, NODES[kind])
    assert (out / "node1" / "data" / "kept").read_text() == "retained"
    assert json.loads((out / MARK).read_text())["peer_secret"] == shown


def test_what_is_not_ours_is_left_alone(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory with anything in it, a file, an export of another kind; nothing half-written."""
    other, file, ours = tmp_path / "other", tmp_path / "file", tmp_path / "ours"
    other.mkdir()
    (other / "mosquitto.conf").write_text("mine")
    file.write_text("mine")
    assert run(directory, "mosquitto", ours, "--node", "127.0.0.1") == 0
    before = content(tmp_path)
    capsys.readouterr()
    for target, said in (
        (other, "no export of ours"),
        (file, "no directory"),
        (tmp_path / "none" / "out", "make it first"),
        (directory, "no export of ours"),
    ):
        assert run(directory, "mosquitto", target) == 2
        assert said in capsys.readouterr().err
    three = [word for node in NODES["nats"] for word in ("--node", node)]
    assert run(directory, "nats", ours, *three) == 2
    assert "is an export of mosquitto for 127.0.0.1:8883" in capsys.readouterr().err
    (ours / MARK).write_text("damaged")
    assert run(directory, "mosquitto", ours, "--node", "127.0.0.1") == 2
    (ours / MARK).write_bytes(before[f"ours/{MARK}"])
    assert content(tmp_path) == before


def test_what_fails_in_the_middle_leaves_nothing(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk does."""
    from broker_config.admin import export as module

    done: list[Path] = []

    def full(path: Path, data: str | bytes) -> None:
        if len(done) == 3:
            raise OSError(28, "No space left on device")
        done.append(path)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    monkeypatch.setattr(module, "write_private", full)
    with pytest.raises(ExportError, match="No space left"):
        export(settings_of(directory), "nats", tmp_path / "out", NODES["nats"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (Device("panel", certificate="ab" * 32), "'panel': known by the fingerprint"),
        (Device("panel", secret="$argon2id$x"), "'panel': registered before"),
    ],
)
def test_devices_that_a_broker_cannot_express_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], device: Device, said: str
) -> None:
    setup.init(tmp_path / "dir")
    save(tmp_path / "dir" / "devices.json", Registry({device.name: device}))
    assert run(tmp_path / "dir", "mosquitto", tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "nodes", "said"),
    [
        ("nats", [], "nats has 3 or 5 nodes, not 1"),
        ("mosquitto-bridge", ["a"], "has 2 nodes"),
        ("mosquitto-bridge", ["a", "a"], "in common"),
        ("mosquitto-bridge", ["a:1883", "a:1884"], "in common"),
        ("mosquitto-bridge", ["a.b", "A.b"], "in common"),
        ("mosquitto-bridge", ["localhost", "127.0.0.1"], "in common"),
        ("mosquitto", ["a:b"], "a port is"),
        ("mosquitto", ["a:65535"], "a port is"),
        ("mosquitto", ["a\nb"], "HOST or HOST:PORT"),
        ("mosquitto", ["mqtt://a"], "HOST or HOST:PORT"),
        ("mosquitto", [""], "HOST or HOST:PORT"),
        ("mosquitto", ["a..b"], "HOST or HOST:PORT"),
        ("mosquitto", ["a" * 64], "HOST or HOST:PORT"),
        ("mosquitto", [".".join(["a" * 50] * 5)], "HOST or HOST:PORT"),
    ],
)
def test_nodes_that_make_no_sense(
    directory: Path, tmp_path: Path, kind: str, nodes: list[str], said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        export(settings_of(directory), kind, tmp_path / "out", nodes)
    assert not (tmp_path / "out").exists()


def test_anybody_is_let_in_on_loopback_only(tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text(
        'anonymous = true\n[listen]\nmqtts = ""\nmqtt = "127.0.0.1:1883"\n'
    )
    settings = settings_of(tmp_path)
    with pytest.raises(ExportError, match="everybody who reaches"):
        export(settings, "mosquitto", tmp_path / "out", ["a.example"])
    export(settings, "mosquitto", tmp_path / "out", [])
    assert "allow_anonymous true" in (tmp_path / "out/node1/mosquitto.conf").read_text()


def test_the_command_knows_every_format() -> None:
    assert FORMATS == cli.EXPORTS


def test_a_node_listens_for_those_who_reach_it() -> None:
    assert BrokerNode.parse("broker.lan", 8883) == BrokerNode("broker.lan", 8883)
    assert BrokerNode.parse("broker.lan:1", 8883).bound == "0.0.0.0"  # noqa: S104
    assert BrokerNode.parse("localhost", 8883).bound == "127.0.0.1"
    # Devices are told that address, at which nobody listened; three of them are a cluster.
    assert BrokerNode.parse("127.0.0.2", 1).bound == "127.0.0.2"


def test_emqx_is_written_by_its_documentation(directory: Path, tmp_path: Path) -> None:
    """No EMQX can be had here: names and values that its manual has, braces that close."""
    export(settings_of(directory), "emqx", tmp_path / "out", NODES["emqx"])
    node = tmp_path / "out" / "node2"
    conf = (node / "emqx.conf").read_text()
    assert "NOT TESTED" in conf
    assert conf.count("{") == conf.count("}")
    assert conf.count("[") == conf.count("]")
    for wanted in (
        'name = "emqx@b.example"', "no_match = deny", "deny_action = ignore",
        "user_id_type = username", "name = bcrypt", "bootstrap_type = hash", "nodelay = true",
    ):  # fmt: skip
        assert wanted in conf
    rows = (node / "users.csv").read_text().splitlines()
    assert rows[0] == "user_id,password_hash,salt,is_superuser"
    for row in rows[1:]:
        _, hashed, salt, superuser = row.split(",")
        assert hashed.startswith(salt)
        assert len(salt) == 29
        assert superuser == "false"
    rule = re.compile(r'\{allow, \{username, "[^"]+"\}, (publish|subscribe), \["[^\]]+"\]\}\.')
    *rules, last = (node / "acl.conf").read_text().splitlines()
    assert last == "{deny, all}."
    assert all(rule.fullmatch(each) for each in rules)
