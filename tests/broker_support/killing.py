"""SIGKILL under load, again and again, and what must be there afterwards.

``python -m tests.broker_support.killing [KILLS]`` (``make broker-soak``: 200) prints the figures.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.broker_wire import publish
from tests.servers import free_port

from .raw import PUBACK, Raw

TOPICS = 25
_SETTINGS = """\
anonymous = true
[listen]
mqtts = ""
mqtt = "127.0.0.1:{port}"
[metrics]
listen = ""
[limits]
publishes_per_second = 0
queued = 1000000
queued_bytes = 1000000000
[log]
level = "error"
"""


@dataclass
class Tally:
    """What was sent, acknowledged, and found missing."""

    kills: int = 0
    sent: int = 0
    acknowledged: int = 0
    retained_checked: int = 0
    queued_checked: int = 0
    beyond: int = 0
    lost: list[str] = field(default_factory=list)


class Process:
    """``bellwire-broker run DIR``, to be killed."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "broker_config.cli", "run", str(directory)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise AssertionError(f"the broker did not start: {line!r}")

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()


def _open(port: int, client_id: str, *, clean: bool) -> Raw:
    client = Raw(port)
    if client.connect(client_id, clean=clean):
        raise AssertionError("refused")
    return client


def _check(port: int, tally: Tally, acked: dict[int, int], sent: dict[int, int]) -> None:
    """Every retained register holds at least what was acknowledged, and nothing unheard of."""
    with _open(port, "checker", clean=True) as checker:
        checker.subscribe("k/r/+")
        held = {message.topic: int(message.data) for message in checker.gather()}
    for number, value in acked.items():
        tally.retained_checked += 1
        found = held.get(f"k/r/{number}", -1)
        if not value <= found <= sent[number]:
            tally.lost.append(f"retained {number}: acknowledged {value}, found {found}")


def kill_again_and_again(kills: int, directory: Path, seed: int = 1) -> Tally:
    """Kill the broker ``kills`` times at random moments under load, checking after each."""
    # Seeded: a run that fails can be run again, though not to the microsecond.
    chance = random.Random(seed)
    port, tally = free_port(), Tally()
    (directory / "broker.toml").write_text(_SETTINGS.format(port=port))
    acked: dict[int, int] = {}
    sent: dict[int, int] = {}
    owed: set[int] = set()
    value = 0
    process = Process(directory)
    try:
        for life in range(kills + 1):
            _check(port, tally, acked, sent)
            panel = _open(port, "panel", clean=False)
            if life:
                if not panel.session_present:
                    tally.lost.append("the session")
                received = set()
                while some := panel.gather():  # a window at a time
                    received |= {int(message.data) for message in some}
                tally.queued_checked += len(owed)
                tally.beyond += len(received - owed)
                tally.lost += [f"queued {number}" for number in owed - received]
            else:
                panel.subscribe("k/q")
            owed = set()
            if life == kills:
                panel.close()
                break
            if life % 2:
                panel.disconnect()  # queued while away; else: in flight while there, unacknowledged
            door = _open(port, "door", clean=True)
            until = time.monotonic() + chance.uniform(0.02, 0.25)
            waiting: dict[int, tuple[str, int]] = {}
            packet_id = 0
            while time.monotonic() < until:
                out = []
                for _ in range(10):
                    value += 1
                    packet_id += 1
                    if value % 3:
                        number = value % TOPICS
                        sent[number] = value
                        waiting[packet_id] = ("r", value)
                        out.append(publish(f"k/r/{number}", b"%d" % value, packet_id, retain=True))
                    else:
                        waiting[packet_id] = ("q", value)
                        out.append(publish("k/q", b"%d" % value, packet_id))
                door.send(b"".join(out))
                tally.sent += len(out)
                while len(waiting) > 40:
                    _acknowledged(door.expect(PUBACK), waiting, acked, owed, tally)
            process.end()
            tally.kills += 1
            with contextlib.suppress(ConnectionError):
                while True:  # what had arrived before the end counts as acknowledged
                    _acknowledged(door.expect(PUBACK), waiting, acked, owed, tally)
            door.close()
            panel.close()
            process = Process(directory)
    finally:
        process.end(signal.SIGTERM)
    return tally


def _acknowledged(
    body: bytes,
    waiting: dict[int, tuple[str, int]],
    acked: dict[int, int],
    owed: set[int],
    tally: Tally,
) -> None:
    kind, value = waiting.pop(int.from_bytes(body, "big"))
    tally.acknowledged += 1
    if kind == "q":
        owed.add(value)
    else:
        acked[value % TOPICS] = max(value, acked.get(value % TOPICS, 0))


def main() -> int:
    """Print the tally; 1 if anything acknowledged was lost. Arguments: kills, and a seed."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_again_and_again(kills, Path(folder), seed=seed)
    print(
        f"seed {seed}: {tally.kills} kills, {tally.sent} messages sent, "
        f"{tally.acknowledged} acknowledged; "
        f"{tally.retained_checked} retained and {tally.queued_checked} queued checked, "
        f"{tally.beyond} more delivered that were not acknowledged; {len(tally.lost)} lost"
    )
    for each in tally.lost[:20]:
        print(f"  lost: {each}")
    return bool(tally.lost)


if __name__ == "__main__":
    sys.exit(main())
