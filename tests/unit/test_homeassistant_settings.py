"""The bridge's settings file: each complaint names file, line, key and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_sdk.cli import main
from device_sdk.services.config.homeassistant import HomeAssistantSettings, read_homeassistant
from device_sdk.services.config.toml_reader import SettingsError
from device_sdk.services.doctor.check import examine
from device_sdk.services.doctor.fault import Fault
from device_sdk.services.doctor.patient import patient_of

GOOD = """\
[account]
peer = "home"
broker = "mqtt://b"
[mqtt]
broker = "mqtt://ha"
[[door]]
peer = "front-door"
"""
BUTTON = '[[button]]\ntopic = "t"\nvalue = "ON"\nrings = ["kitchen"]\n'


def _read(tmp_path: Path, text: str) -> HomeAssistantSettings:
    path = tmp_path / "homeassistant.toml"
    path.write_text(text)
    return read_homeassistant(path)


def test_what_is_needed_is_little(tmp_path: Path) -> None:
    """Two brokers and a door."""
    _read(tmp_path, GOOD + BUTTON)


def test_a_panel_that_is_named_twice_rings_once(tmp_path: Path) -> None:
    """As at a doorbell; each press failed by it, though the settings were as they should be."""
    made = _read(tmp_path, GOOD + BUTTON.replace('["kitchen"]', '["kitchen", "hall", "kitchen"]'))
    assert made.buttons[0].peers == ("kitchen", "hall")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD.replace('broker = "mqtt://ha"\n', ""), ":4: mqtt.broker: missing"),
        (GOOD.replace("mqtt://ha", "http://ha"), ":5: mqtt.broker: expected a broker"),
        (GOOD.replace("mqtt://ha", "mqtt://a, mqtt://b"), ":5: mqtt.broker: expected one broker"),
        (GOOD.replace('"mqtt://ha"', '"mqtt://ha"\nsecret_file = "s"'),
         ":6: mqtt.secret_file: a password without its user"),
        (GOOD.replace('"mqtt://ha"', '"mqtt://ha"\nca_file = "s"'),
         ":6: mqtt.ca_file: mqtt://ha is not encrypted"),
        (GOOD.replace('"mqtt://ha"', '"mqtt://ha"\npassword = "s"'),
         ":6: mqtt.password: put it into a file"),
        (GOOD.replace("front-door", "home"), ":7: door.peer: that is the bridge itself"),
        (GOOD + '[[door]]\npeer = "front-door"\n', ":9: door.peer: front-door is there twice"),
        (GOOD + BUTTON.replace('"t"', '"t/#"'), ":9: button.topic: expected one topic"),
        (GOOD + BUTTON.replace('"t"', '"bellwire/sig/home/x"'),
         ":9: button.topic: that is the bridge's"),
        (GOOD + BUTTON + 'outcome_topic = "t"\n', ":12: button.outcome_topic: expected a topic of"),
        (GOOD + BUTTON.replace("kitchen", "home"), ":11: button.rings: home is the bridge itself"),
        (GOOD + "colour = 3\n", ":8: door.colour: unknown key"),
    ],
)  # fmt: skip
def test_a_complaint_says_where_and_what(tmp_path: Path, text: str, problem: str) -> None:
    """Before anything is started."""
    with pytest.raises(SettingsError) as error:
        _read(tmp_path, text)
    assert problem in str(error.value)


def test_check_names_the_account_whose_file_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are two; and it warns of a history that nobody could write."""
    path = tmp_path / "homeassistant.toml"
    mqtt = GOOD.replace('"mqtt://ha"', '"mqtt://ha"\nusername = "b"\nsecret_file = "nowhere"')
    path.write_text(mqtt)
    assert main(["homeassistant", "--settings", str(path), "--check"]) == 2
    assert capsys.readouterr().err.startswith("bellwire: [mqtt]: secret_file: ")
    path.write_text(GOOD + f'[history]\nfile = "{path.name}/calls"\n')
    assert main(["homeassistant", "--settings", str(path), "--check"]) == 0
    assert "warning: history: " in capsys.readouterr().err


def test_the_doctor_says_where_calls_are_kept(tmp_path: Path) -> None:
    """Or why they cannot be; of a service that runs, which may keep them elsewhere, nothing."""
    path = tmp_path / "homeassistant.toml"
    path.write_text(GOOD.replace("mqtt://b", "mqtt://127.0.0.1:1") + '[history]\nfile = "calls"\n')
    told: list[str] = []
    asked = patient_of(path)
    asked.browse, asked.service, asked.mqtt = list, lambda: None, None
    with pytest.raises(Fault):
        told.extend(examine(asked))  # its broker is away
    assert f"history: {tmp_path / 'calls'}" in told
    (tmp_path / "calls").mkdir()
    with pytest.raises(Fault, match="history: "):
        list(examine(asked))
