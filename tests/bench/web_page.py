"""How soon a page shows who rings, beside the panel's own receipt of the same calls.

Doorbell, broker and ``bellwire panel --web`` are three processes; the page is one connection of
server-sent events, read by the doorbell's process, so both times are of one clock.
"""

from __future__ import annotations

import http.client
import os
import queue
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from device_sdk import CallEventListener, LocalInvitation, SignalingClient
from tests.commands import Command
from tests.servers import BundledBroker, free_port

from .latency import p50_p99

HEAD = ["", "p50 ms", "p99 ms", "p50 ÷ receipt"]
PATIENCE = 15.0


class Events:
    """A page's stream: when each line came, by a thread of its own."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()
        self._lines: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in iter(self._answer.readline, b""):
            self._lines.put((time.perf_counter(), line))

    def until(self, words: bytes, *, there: bool = True) -> float:
        """When a state came that has ``words`` in it, or not."""
        deadline = time.monotonic() + PATIENCE
        while True:
            at, line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            if line.startswith(b"data: {") and (words in line) is there:
                return at


class Door(CallEventListener):
    """When each call was received by the panel, and that it has ended."""

    def __init__(self) -> None:
        self.received: queue.SimpleQueue[float] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()

    def on_local_invitation_received_by_peer(self, invitation: LocalInvitation) -> None:
        self.received.put(time.perf_counter())

    def on_local_invitation_canceled(self, invitation: LocalInvitation) -> None:
        self.ended.put(invitation.call_id)


def run(calls: int = 300) -> list[list[str]]:
    """Rows of the table."""
    port, receipts, pages = free_port(), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder, BundledBroker() as broker:
        settings = Path(folder) / "panel.toml"
        settings.write_text(
            f'[account]\npeer = "kitchen"\nbroker = "{broker.url}"\n[history]\nkeep = 0\n'
        )
        words = ("panel", "--settings", settings, "--web", str(port))
        door = Door()
        with (
            Command(*words, environ={"STATE_DIRECTORY": folder}) as panel,
            SignalingClient("front-door", broker.url) as client,
        ):
            panel.line("online as kitchen")
            events = Events(port)
            client.call_manager.add_event_listener(door)
            for number in range(calls + 20):
                invitation = client.call_manager.create_local_invitation("kitchen")
                invitation.content = "somebody is at the door"
                words_of_it = f'"id": "{invitation.call_id}"'.encode()
                start = time.perf_counter()
                client.call_manager.send_local_invitation(invitation)
                shown = events.until(words_of_it) - start
                received = door.received.get(timeout=PATIENCE) - start
                if number >= 20:  # the first ones are warmth
                    pages.append(shown * 1000)
                    receipts.append(received * 1000)
                invitation.cancel()
                door.ended.get(timeout=PATIENCE)
                events.until(b'"stage"', there=False)
                time.sleep(0.005)
    return [row("invite → receivedByPeer, the panel's", receipts, receipts),
            row("invite → on a page", pages, receipts)]  # fmt: skip


def row(what: str, times: Sequence[float], base: Sequence[float]) -> list[str]:
    p50, p99 = p50_p99(times)
    return [what, f"{p50:.2f}", f"{p99:.2f}", f"{p50 / p50_p99(base)[0]:.2f}"]


if __name__ == "__main__":
    print(os.cpu_count(), *run(), sep="\n")
