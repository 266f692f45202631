"""``make image-test``: a card is provisioned, booted, pressed, cut off and booted again.

Everything real but the board: Debian's systemd, cloud-init, kernel and GPIO subsystem, Bellwire's
own wheel in a fresh environment, the bundled broker with TLS and secrets, a GPIO interrupt.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from device_sdk import CallEventListener, SignalingClient
from device_sdk.client.link.url import Tls
from tools.image_test import broker_card, card, debian
from tools.image_test.broker import broker
from tools.image_test.machine import (
    FIRST_BOOT,
    HOST_ADDRESS,
    SECOND_BOOT,
    Machine,
    powered,
    wait_for,
)

CLONE = Path(__file__).resolve().parents[2]
CACHE = CLONE / ".cache" / "image"
BUTTON, LIGHT, CHIME = 5, 2, 1
#: A caller without power is given up after one and a half keep-alives and 10 s of grace.
LOST = 15 * 1.5 + 10 + 5

ONLINE = "online as front-door at"

SETTINGS = f"""\
[gpio]
factory = "gpiod"
chip = 0

[[button]]
name = "door"
pin = {BUTTON}
pull = "down"
rings = ["kitchen"]
content = "somebody is at the door"

[light]
pin = {LIGHT}

[chime]
pin = {CHIME}
"""


class Panel(CallEventListener):
    """The kitchen, on the host: notes what happens and when."""

    def __init__(self) -> None:
        self.rings: list[tuple[float, Any]] = []
        self.ended: dict[str, float] = {}
        self.online: bool | None = None

    def on_remote_invitation_received(self, invitation: Any) -> None:
        """It rings."""
        self.rings.append((time.monotonic(), invitation))

    def on_remote_invitation_canceled(self, invitation: Any) -> None:
        """It stops."""
        self.ended[invitation.call_id] = time.monotonic()

    def on_remote_invitation_failure(self, invitation: Any, error: Any) -> None:  # noqa: ARG002 # signature
        """It stops."""
        self.ended[invitation.call_id] = time.monotonic()

    def on_presence_changed(self, peer: str, online: bool | None) -> None:  # noqa: ARG002 # signature
        """The doorbell comes and goes."""
        self.online = online


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="image-test", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="build the system anew, no cache")
    parser.add_argument("--log", type=Path, default=CLONE / ".cache" / "image-test", metavar="DIR")
    parser.add_argument(
        "--role", choices=("doorbell", "broker"), action="append", help="default: both"
    )
    args = parser.parse_args()
    started = time.monotonic()
    args.log.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        shutil.rmtree(CACHE, ignore_errors=True)
    try:
        debian.prepare_host()
        system = debian.build(CACHE)
    except debian.Missing as missing:
        print(f"image-test: {missing}", file=sys.stderr)
        return 2
    built = time.monotonic()
    rows = [("system built, or from the cache", f"{built - started:.0f} s")]
    stories = {"doorbell": run, "broker": broker_card.run}
    for role in args.role or stories:
        with tempfile.TemporaryDirectory(prefix="bellwire-image-") as work:
            try:
                rows += stories[role](system, Path(work), args.log)
            except (TimeoutError, AssertionError) as failure:
                print(f"image-test: {role}: {failure}\nserial logs: {args.log}", file=sys.stderr)
                return 1
    rows.append(("all in all", f"{time.monotonic() - started:.0f} s"))
    table = ["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]
    (args.log / "table.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))
    print(f"serial logs: {args.log}")
    return 0


def run(system: debian.System, work: Path, log: Path) -> list[tuple[str, str]]:
    """The story itself; the table's rows. ``AssertionError`` or ``TimeoutError`` when it fails."""
    with broker(work / "broker") as (port, secrets):
        boot = make_card(work, port, secrets["front-door"], work / "broker" / "tls" / "ca.crt")
        root = work / "root.ext4"
        subprocess.run(["cp", "--sparse=always", str(system.root), str(root)], check=True)
        panel = Panel()
        client = SignalingClient(
            "kitchen",
            broker=f"mqtts://127.0.0.1:{port}",
            password=secrets["kitchen"],
            tls=Tls(ca_file=str(work / "broker" / "tls" / "ca.crt")),
        )
        client.call_manager.add_event_listener(panel)
        with client:
            client.watch("front-door")
            with powered(system, root, boot, work, log / "boot-1.log") as machine:
                rows = first_life(machine, panel, client)
                machine.cut_power()
                rows += panel_stops(panel)
            with powered(system, root, boot, work, log / "boot-2.log") as machine:
                rows += second_life(machine, panel, client)
    return rows


def first_life(machine: Machine, panel: Panel, client: SignalingClient) -> list[tuple[str, str]]:
    """Up from a card that was never booted; one call answered, one left ringing."""
    wait_for(lambda: panel.online, FIRST_BOOT, "front-door online, first boot", machine)
    rows = [("first boot: power on → online, installation included", f"{machine.age:.0f} s")]
    # Others see its presence a moment before the service itself learns that it is let in.
    machine.wait_serial(ONLINE, 60)
    wait_for(lambda: machine.output(LIGHT) is False, 30, "the light off once online", machine)
    delay = ring(machine, panel, expected=1)
    rows.append(("press → ring, first press", f"{delay * 1000:.0f} ms"))
    seen = blinks(machine)
    assert seen >= 2, f"the light did not blink while it rang: {seen} changes"
    client.call_manager.accept_remote_invitation(panel.rings[0][1], "coming")
    wait_for(lambda: panel.rings[0][1].state.name == "ACCEPTED", 10, "accepted", machine)
    wait_for(lambda: steady(machine), 10, "the light steady: accepted", machine)
    assert machine.output(CHIME) is False, "the chime sounded though the panel rang"
    machine.wait_serial("probe: done", 120)
    rows += memory(machine.serial())
    wait_for(lambda: machine.output(LIGHT) is False, 10, "the light off again", machine)
    delays = [delay := ring(machine, panel, expected=2)]
    rows.append(("press → ring, second press", f"{delays[0] * 1000:.0f} ms"))
    return rows


def panel_stops(panel: Panel) -> list[tuple[str, str]]:
    """The power was cut while it rang: the panel must not ring on."""
    cut = time.monotonic()
    call = panel.rings[-1][1].call_id
    wait_for(lambda: call in panel.ended, LOST, "the panel stops after the power cut")
    return [("power cut while ringing → panel silent", f"{panel.ended[call] - cut:.1f} s")]


def second_life(machine: Machine, panel: Panel, client: SignalingClient) -> list[tuple[str, str]]:
    """The same card again: online without help, nothing rings by itself, a press does."""
    wait_for(lambda: panel.online is False, 60, "front-door offline in between", machine)
    wait_for(lambda: panel.online, SECOND_BOOT, "front-door online, second boot", machine)
    rows = [("second boot: power on → online", f"{machine.age:.0f} s")]
    machine.wait_serial(ONLINE, 60)
    assert len(panel.rings) == 2, f"a ghost rang: {panel.rings[2:]}"
    delay = ring(machine, panel, expected=3)
    rows.append(("press → ring, after the power cut", f"{delay * 1000:.0f} ms"))
    client.call_manager.refuse_remote_invitation(panel.rings[-1][1])
    wait_for(lambda: panel.rings[-1][1].ended, 10, "refused", machine)
    calls = {invitation.call_id for _, invitation in panel.rings}
    assert len(calls) == len(panel.rings) == 3, "one ring for each press"
    return rows


def ring(machine: Machine, panel: Panel, expected: int) -> float:
    """Press with bounces; wait for the ring; the seconds from the settled contact to the panel."""
    rng = random.Random(expected)  # noqa: S311 # repeatable bounces, no secret
    assert len(panel.rings) == expected - 1
    for level in (True, False):
        for _ in range(rng.randint(3, 7)):
            machine.set_line(BUTTON, level)
            machine.set_line(BUTTON, not level)
        machine.set_line(BUTTON, level)
        if level:
            pressed = time.monotonic()
            wait_for(lambda: len(panel.rings) >= expected, 20, "the panel rings", machine)
    assert len(panel.rings) == expected, f"{len(panel.rings)} rings of {expected} presses"
    return panel.rings[-1][0] - pressed


def blinks(machine: Machine) -> int:
    """How often the light changes within two seconds."""
    changes, level, end = 0, machine.output(LIGHT), time.monotonic() + 2
    while time.monotonic() < end:
        now = machine.output(LIGHT)
        changes += now != level
        level = now
    return changes


def steady(machine: Machine) -> bool:
    """Whether the light is on and stays on for a second."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if not machine.output(LIGHT):
            return False
    return True


def memory(serial: str) -> list[tuple[str, str]]:
    """What the probe saw of the running service."""
    found = dict(re.findall(r"(VmHWM|VmRSS|RssAnon|Threads):\s+(\d+)", serial))
    return [
        ("doorbell service: memory, peak", f"{int(found['VmHWM']) / 1024:.1f} MB"),
        ("doorbell service: memory, of its own", f"{int(found['RssAnon']) / 1024:.1f} MB"),
        ("doorbell service: threads", found["Threads"]),
    ]


def make_card(work: Path, port: int, secret: str, ca: Path) -> Path:
    """The doorbell's boot partition; the FAT image."""
    (work / "secret").write_text(secret)
    (work / "doorbell.toml").write_text(SETTINGS)
    return card.make(
        work, "doorbell",
        "--role", "doorbell", "--peer", "front-door",
        "--broker", f"mqtts://{HOST_ADDRESS}:{port}", "--ca-file", str(ca),
        "--secret-file", str(work / "secret"), "--settings", str(work / "doorbell.toml"),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
