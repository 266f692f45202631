"""The Raspberry Pi guide: its commands parse, its settings are accepted, its picture is fresh.

What the commands do is run elsewhere: the keyboard session in ``integration/test_pi_services``,
the doctor in ``test_pi_doctor``, cards in ``unit/test_pi_provision``, all of it by ``image-test``.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from broker_config.admin.cli import _parser as broker_parser
from device_sdk.cli import main as bellwire
from device_sdk.services.cli import add_commands
from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.config.panel import read_panel
from tools.wiring_svg import ROWS, WIRES, gap, position

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "raspberry-pi.md").read_text()
BLOCKS = re.findall(r"```shell\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("bellwire ")])
def test_commands_are_accepted(command):
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    assert callable(parser.parse_args(shlex.split(command)[1:]).run)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("bellwire-broker ")])
def test_broker_commands_are_accepted(command):
    broker_parser().parse_args(shlex.split(command)[1:])


def test_nothing_else_is_told_to_be_typed():
    others = [c for c in COMMANDS if not c.startswith(("bellwire ", "bellwire-broker "))]
    assert others == ["pip wheel --no-deps --wheel-dir dist ."]


def test_the_settings_in_the_guide_are_accepted(tmp_path):
    bell, panel = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "bell.toml").write_text(bell)
    (tmp_path / "panel.toml").write_text(panel)
    assert read_doorbell(tmp_path / "bell.toml").buttons[0].peers == ("kitchen",)
    assert read_panel(tmp_path / "panel.toml").response == "coming"


def test_what_the_guide_checks_is_there_and_right(tmp_path, monkeypatch, capsys):
    """Its `--check` commands, run as written beside the files that it has had its reader make."""
    bell, panel = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "bell.toml").write_text(bell)
    (tmp_path / "panel.toml").write_text(panel)
    monkeypatch.chdir(tmp_path)
    checks = [c for c in COMMANDS if "--check" in c]
    assert len(checks) == 2
    for command in checks:
        assert bellwire(shlex.split(command)[1:]) == 0, capsys.readouterr().err


def test_the_examples_in_deploy_are_accepted():
    assert read_doorbell(ROOT / "deploy" / "doorbell.toml").buttons[0].peers == (
        "kitchen",
        "office",
    )
    assert len(read_panel(ROOT / "deploy" / "panel.toml").quiet) == 2


def test_the_picture_is_what_the_script_draws():
    subprocess.run([sys.executable, str(ROOT / "tools" / "wiring_svg.py"), "--check"], check=True)


def test_no_wire_of_the_picture_runs_over_a_pin_of_another():
    """Or into another wire's gap between two rows."""
    wires = [(pin, gap(pin)) for _, _, signal, _, ground, _ in WIRES for pin in (signal, ground)]
    assert len({y for _, y in wires}) == len(wires)
    for pin, way in wires:
        x, begin = position(pin)
        for other in set(range(1, 2 * ROWS + 1)) - {pin}:
            ox, oy = position(other)
            beside = ox < x - 9 or abs(oy - way) > 9
            above = abs(ox - x) > 9 or not min(begin, way) - 9 < oy < max(begin, way) + 9
            assert beside, f"the wire of pin {pin} runs over pin {other}"
            assert above, f"the wire of pin {pin} leaves over pin {other}"
