"""The examples do what they say: the demo as a whole, the doorbell also with a button on a pin."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import NOWHERE, Command
from tests.servers import BrokerProcess

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Presses GPIO 17 of a board that is not there, once for each line on standard input.
PRESSER = """
import sys, threading
import gpiozero
from gpiozero.pins.mock import MockFactory
sys.path.insert(0, sys.argv[1])
gpiozero.Device.pin_factory = MockFactory()
pin = gpiozero.Device.pin_factory.pin(17)
import doorbell
def press():
    for line in sys.stdin:
        pin.drive_low() if line == "down\\n" else pin.drive_high()
wait = gpiozero.Button.wait_for_press
def tell_and_wait(button):
    print("waiting for a press", flush=True)
    return wait(button)
gpiozero.Button.wait_for_press = tell_and_wait
threading.Thread(target=press, daemon=True).start()
doorbell.main()
"""

#: On a machine that has no gpiozero.
PINLESS = """
import sys
sys.path.insert(0, sys.argv[1])
sys.modules["gpiozero"] = None
import doorbell
doorbell.main()
"""


def example(broker: BrokerProcess, *program: str | Path) -> Command:
    environ = {"BELLWIRE_BROKER": broker.url, "GPIOZERO_PIN_FACTORY": "none"}
    return Command(
        environ=environ, program=(sys.executable, *map(str, program)), stdin=subprocess.PIPE
    )


def press(command: Command, text: str) -> None:
    assert command.process.stdin is not None
    command.process.stdin.write(text)
    command.process.stdin.flush()


def close(command: Command) -> None:
    assert command.process.stdin is not None
    command.process.stdin.close()


def test_the_demo_shows_accept_refuse_and_cancel() -> None:
    """Also from a script without a terminal, whose background commands ignore Ctrl-C."""
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "-", sys.executable, EXAMPLES / "demo.py"],
        env=NOWHERE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for words in (
        'ringing · "somebody is at the door"',
        'accepted · "come in"',
        'refused: declined · "not now"',
        "ended: canceled",
    ):
        assert words in done.stdout
    rungs = re.findall(r"^ +([\d.,]+) ms +#\d", done.stdout, re.MULTILINE)
    assert len(rungs) >= 15


def test_the_demo_fails_with_the_cause(tmp_path: Path) -> None:
    """Without its broker: one line, and not 0."""
    broken = tmp_path / "broker_config"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "cli.py").write_text("def main(argv): return 3\n")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"],
        env={**NOWHERE, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("demo: failed: the broker did not start")


def test_doorbell_on_a_pin_rings_the_panel(bundled_broker: BrokerProcess) -> None:
    """One press is one call, and the next press is the next one."""
    pytest.importorskip("gpiozero")
    with (
        example(bundled_broker, EXAMPLES / "kitchen_panel.py") as panel,
        example(bundled_broker, "-c", PRESSER, EXAMPLES) as door,
    ):
        for number, (key, told) in enumerate(
            (("a", "accepted come in"), ("r", "declined not now")), 1
        ):
            door.until(
                lambda n=number: sum("waiting" in line for line in door.lines) == n, "readiness"
            )
            press(door, "down\n")
            panel.until(
                lambda n=number: sum("♪ front-door" in line for line in panel.lines) == n, "ring"
            )
            press(panel, f"{key}\n")
            door.line(told)
            press(door, "up\n")
        close(panel)
        assert panel.end() == 0
    assert door.errors == []


def test_doorbell_at_a_keyboard_leaves_at_the_end_of_input(bundled_broker: BrokerProcess) -> None:
    with example(bundled_broker, EXAMPLES / "doorbell.py") as door:
        door.line("press Enter to ring")
        close(door)
        assert door.end() == 0


def test_doorbell_at_a_keyboard_needs_nothing_for_pins(
    bundled_broker: BrokerProcess,
) -> None:
    """As after ``make demo``, which installs no gpiozero."""
    with example(bundled_broker, "-c", PINLESS, EXAMPLES) as door:
        door.line("press Enter to ring")
        close(door)
        assert door.end() == 0
    assert door.errors == []


def test_panel_says_when_nobody_rings(bundled_broker: BrokerProcess) -> None:
    with example(bundled_broker, EXAMPLES / "kitchen_panel.py") as panel:
        press(panel, "a\n")
        panel.line("nobody rings")
        close(panel)
        assert panel.end() == 0
