"""The guide for Home Assistant: its settings are read, its blueprints are what the bridge says."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from device_sdk.services.config.homeassistant import read_homeassistant
from device_sdk.services.homeassistant.discovery import HaAction, discovery
from device_sdk.services.homeassistant.names import Names
from tests.commands import Command

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "home-assistant.md"
_BLOCK = re.compile(r"^( *)```toml\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def _beside(folder: Path) -> None:
    (folder / "secret").write_text("correct horse\n")
    (folder / "mqtt-secret").write_text("battery staple\n")


def test_the_guides_settings_and_its_check(tmp_path: Path) -> None:
    """All blocks together are a bridge with button and hooks; --check warns of clear text."""
    blocks = [textwrap.dedent(found[2]) for found in _BLOCK.finditer(GUIDE.read_text())]
    assert len(blocks) == 3
    path = tmp_path / "homeassistant.toml"
    path.write_text("\n".join(blocks).replace('ca_file = "ca.pem"\n', ""))
    _beside(tmp_path)
    found = read_homeassistant(path)
    assert found.doors == {"front-door": "Front door"}
    assert found.mqtt.password() == "battery staple"
    assert [(b.topic, b.json, b.value) for b in found.buttons] == [
        ("zigbee2mqtt/Garden button", "action", "single")
    ]
    assert list(found.on) == ["missed"]
    assert (found.history.keep, str(found.metrics)) == (1000, "127.0.0.1:9884")
    with Command("homeassistant", "--settings", path, "--check") as check:
        assert check.end() == 0
    assert check.lines == [f"{path}: 1 door(s), 1 button(s), as it should be"]
    assert "mqtt://homeassistant.local" in check.errors[0]


def test_all_that_can_be_set_is_accepted(tmp_path: Path) -> None:
    """The sample in deploy/."""
    path = tmp_path / "homeassistant.toml"
    path.write_text((ROOT / "deploy" / "homeassistant.toml").read_text())
    assert read_homeassistant(path).response == "coming"


def test_the_cards_entities_are_those_of_a_door_with_that_name() -> None:
    """Home Assistant makes an entity's id of the device's name and its own."""
    found = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    parts = discovery(Names("sig", "home"), "front-door", "Front door", "1")["components"].values()
    there = {
        f"{part['platform']}.front_door_{part['name'].lower().replace(' ', '_')}" for part in parts
    }
    shown = set(re.findall(r"entity: ([\w.]+)", found[1]))
    assert shown <= there
    assert {each for each in there if each.startswith("button.")} <= shown


def test_the_blueprints_send_commands_that_there_are() -> None:
    """Each action's word is one that the bridge knows; nothing is published with RETAIN."""
    for path in sorted((ROOT / "examples" / "homeassistant").glob("*.yaml")):
        text = path.read_text()
        words = re.findall(r"'bellwire\|(\w+)'", text)
        assert words == ["answer", "refuse", "open"]
        assert set(words) <= set(HaAction)
        assert "retain: false" in text
