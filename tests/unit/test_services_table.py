"""Every service has the same five things: command, --check, a card, a unit, lines of the doctor."""

from __future__ import annotations

import argparse
import tomllib
from importlib import resources

import pytest

from device_sdk.services import cli
from device_sdk.services.doctor import check, patient
from device_sdk.services.doctor.fault import Fault
from device_sdk.services.provision import wheels
from device_sdk.services.roles import SERVICES, settings_file
from tests.unit.test_pi_provision import boot, run  # noqa: F401 # fixtures

ACCOUNT = '[account]\npeer = "me"\nbroker = "mqtt://127.0.0.1:1"\n'
#: Of each service: the least that its file says beside the account, its options on a card, and
#: what its lines of the doctor begin with (a doorbell's calls are told by the broker alone).
TABLE = {
    "doorbell": (
        '[[button]]\npin = 17\nrings = ["kitchen"]\n[door]\npin = 23\nobeys = ["kitchen"]\n',
        (),
        "door: ",
    ),
    "panel": ('[web]\nlisten = "8080"\n', (), "page: "),
    "homeassistant": (
        '[mqtt]\nbroker = "mqtt://127.0.0.1:1"\n[[door]]\npeer = "gate"\n',
        ("--ha-broker", "mqtt://ha.local", "--door", "gate"),
        "[mqtt]: ",
    ),
    "sip": (
        '[sip]\nuri = "sip:a@b"\ncontrol = "127.0.0.1:1"\n',
        ("--online", "--sip-uri", "sip:a@b"),
        "sip: ",
    ),
}


def test_the_table_is_of_all_services():
    """A service that is added gets a row here, and with it all of what is below."""
    assert tuple(TABLE) == SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_its_command_has_check_and_the_cards_settings(service, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())
    assert parser.parse_args([service]).settings == settings_file(service)
    path = tmp_path / "own.toml"
    path.write_text(ACCOUNT + TABLE[service][0])
    args = parser.parse_args([service, "--check", "--settings", str(path)])
    assert args.run(args) == 0
    assert "as it should be" in capsys.readouterr().out
    path.write_text(path.read_text() + "[nonsense]\nx = 1\n")
    assert args.run(args) == 2
    assert "own.toml" in capsys.readouterr().err


@pytest.mark.parametrize("service", SERVICES)
def test_its_card_has_settings_unit_and_credentials(service, run, boot):  # noqa: F811 # a fixture
    """What lies beside the settings is what systemd hands over; nothing of it is forgotten."""
    code, out = run("--role", service, *TABLE[service][1])
    assert code == 0, out
    made = boot / "bellwire"
    assert tomllib.loads((made / f"{service}.toml").read_text())["account"]["peer"] == "front-door"
    unit = (made / f"bellwire-{service}.service").read_text()
    assert f"/bin/bellwire {service} --settings %d/{service}.toml" in unit
    assert f"LoadCredential={service}.toml:{settings_file(service)}" in unit
    assert "beside='secret ca.pem'" in (made / "install.sh").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_it_has_a_unit_in_the_package_and_wheels(service):
    folder = resources.files("device_sdk.services.provision").joinpath("units")
    assert folder.joinpath(f"bellwire-{service}.service").is_file()
    assert wheels._NEEDED[service]


@pytest.mark.parametrize("service", SERVICES)
def test_the_doctor_has_a_line_of_its_own(service, tmp_path):
    """Its broker is away here; what concerns this service alone is told all the same."""
    path = tmp_path / f"{service}.toml"
    path.write_text(ACCOUNT + TABLE[service][0])
    asked = patient.patient_of(path)
    asked.browse, asked.service = list, lambda: None
    told: list[str] = []
    with pytest.raises(Fault) as caught:
        told.extend(check.examine(asked))
    assert any(line.startswith(TABLE[service][2]) for line in (*told, *caught.value.problems))


@pytest.mark.parametrize("service", SERVICES)
def test_the_doctor_knows_its_unit(service, monkeypatch):
    """Which runs there, and may not be logged out by being tried."""

    class Shown:
        def __init__(self, command, **_):
            self.stdout = "active\nonline as me" if command[2] == f"bellwire-{service}" else "\n"

    monkeypatch.setattr(patient.subprocess, "run", Shown)
    assert patient.running_service() == (f"bellwire-{service}", "online as me")
