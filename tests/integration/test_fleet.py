"""``bellwire fleet`` for real: few devices, every phase, and nothing left on the broker."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_config import cli as broker_cli
from device_sdk import cli
from tests.broker_support.raw import Raw
from tests.broker_support.served import serving, setup_on_free_ports
from tests.commands import Command
from tests.servers import BundledBroker, free_port

SMALL = ("--rate", "30", "--seconds", "0.5")


@pytest.fixture(scope="module")
def broker() -> Iterator[BundledBroker]:
    with BundledBroker() as started:
        yield started


def left_on(broker: BundledBroker) -> list[str]:
    """Topics of what is retained there."""
    with Raw(broker.port) as raw:
        raw.connect("looker")
        raw.subscribe("sig/#")
        return [message.topic for message in raw.gather()]


def test_twenty_devices_go_through_every_phase(broker: BundledBroker, tmp_path: Path) -> None:
    """Two processes; the report as JSON and picture; no cell and no presence is left."""
    report, picture = tmp_path / "fleet.json", tmp_path / "fleet.svg"
    assert broker.process is not None
    with Command(
        "fleet", "--devices", "20", "--panels", "6", "--broker", broker.url, "--processes", "2",
        "--json", report, "--plot", picture, "--broker-pid", str(broker.process.pid),
        "--boot-spread", "0.5", *SMALL,
    ) as fleet:  # fmt: skip
        assert fleet.end() == 0, "\n".join([*fleet.lines, *fleet.errors])
        assert fleet.errors == []
        assert fleet.line("0 lost, 0 duplicate, 0 ghost, 0 split")
    found: dict[str, Any] = json.loads(report.read_text())
    assert {name: each["missing"] for name, each in found["logged_in"].items()} == {
        "first": 0, "reconnect": 0, "again": 0,
    }  # fmt: skip
    assert found["calls"]["accepted"] > 0
    assert found["ring_ms"]["n"] > 0
    assert found["ping_pong_ms"]["n"] > 0
    assert found["broker"]["cpu_ms_per_call"] > 0
    assert picture.read_text().startswith("<svg")
    assert left_on(broker) == []


def test_ctrl_c_ends_it_and_tells_what_there_is(broker: BundledBroker, tmp_path: Path) -> None:
    """The devices log out, and nothing is left."""
    report = tmp_path / "fleet.json"
    with Command(
        "fleet", "--devices", "6", "--broker", broker.url, "--seconds", "60", "--json", report
    ) as fleet:
        with Raw(broker.port) as raw:
            raw.connect("looker")
            raw.subscribe("sig/v1/+/presence")
            for _ in range(6):
                raw.message(timeout=10)
        fleet.signal(signal.SIGINT)
        assert fleet.end() == 0, "\n".join([*fleet.lines, *fleet.errors])
        assert fleet.line("interrupted: this is what there is")
    assert json.loads(report.read_text())["interrupted"]
    assert left_on(broker) == []


def test_an_installer_tries_his_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The registry's table and secrets, over TLS, within the access rules."""
    directory = setup_on_free_ports(tmp_path / "broker")
    table, secrets = tmp_path / "devices.csv", tmp_path / "secrets"
    table.write_text(
        "name,may_call\npanel.1,\npanel 2,\ndoor-1,panel.1\ndoor-2,panel 2\ndoor-3,panel*\n"
    )
    words = ["--dir", str(directory), "--from", str(table), "--secrets", str(secrets)]
    assert broker_cli.main(["device", "add", *words]) == 0
    capsys.readouterr()
    with serving(directory) as served:
        url = f"mqtts://127.0.0.1:{served.ports['mqtts']}"
        words = ["fleet", "--broker", url, "--ca-file", str(directory / "tls" / "ca.crt")]
        with Command(*words, "--from", table, "--secrets", secrets, *SMALL, "--no-storms") as fleet:
            assert fleet.end() == 0, "\n".join([*fleet.lines, *fleet.errors])
            assert fleet.line("3 devices, 1 of them panels")
        (secrets / "door-1.secret").write_text("wrong\n")
        with Command(*words, "--from", table, "--secrets", secrets, *SMALL, "--no-storms") as fleet:
            assert fleet.end() == 14
            assert len(fleet.errors) == 1
            assert "door-1" in fleet.errors[0]


def test_a_broker_that_is_not_there_is_one_line() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    with Command("fleet", "--devices", "4", "--broker", url) as fleet:
        assert fleet.end() == 14
        assert len(fleet.errors) == 1
        assert "connection refused" in fleet.errors[0]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("", "how many?"),
        ("--devices 10 --from x --secrets y", "how many?"),
        ("--devices 1", "--devices: from 2"),
        ("--devices 10 --panels 10", "--panels: from 1 to 9, not 10"),
        ("--devices ten", "--devices wants a whole number"),
        ("--devices 10 --rate nan", "--rate: from 0"),
        ("--devices 10 --processes 0", "--processes: from 1"),
        ("--devices 10 --broker wss://x", "plain MQTT"),
        ("--devices 10 --broker mqtt://x mqtts://x", "all of them"),
        ("--devices 10 --broker mqtt://x mqtt://x", "there twice"),
        ("--devices 10 --ca-file x", "is not encrypted"),
        ("--devices 10 --broker mqtts://x --ca-file /nowhere", "--ca-file: /nowhere"),
        ("--devices 10 --secrets x", "--secrets goes with --from"),
        ("--from /nowhere", "--secrets DIR"),
        ("--from /nowhere --secrets /nowhere", "/nowhere"),
        ("--devices 10 --json /nowhere/x.json", "no file can be written"),
        ("--devices 10 --broker-pid 999999999", "there is no process"),
        ("--devices 900000", "open files"),
        ("--devices 10 --boot-spread 61", "--boot-spread: from 0 to 60"),
        ("--device 10", "did you mean --devices?"),
    ],
)
def test_wrong_input_is_one_line(
    words: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before anything starts; exit code 2."""
    assert cli.main(["fleet", *words.split()]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert problem in said.err
