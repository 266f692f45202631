"""How soon Home Assistant's broker has the event of a ring, beside the bridge's own receipt.

Doorbell, Bellwire's broker, ``bellwire homeassistant`` and a mosquitto as Home Assistant's are four
processes; who listens at that mosquitto is the doorbell's process, so both times are of one clock.
"""

from __future__ import annotations

import json
import queue
import tempfile
import time
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from device_sdk import SignalingClient
from tests.commands import Command
from tests.servers import BundledBroker, Mosquitto

from .web_page import HEAD, PATIENCE, Door, row

__all__ = ["HEAD", "run"]


class Rings:
    """When each ring's event came to somebody who is connected as Home Assistant is."""

    def __init__(self, port: int) -> None:
        self.came: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        self._there: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = self._message
        self.client.on_subscribe = lambda *_: self._there.put(None)
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("bellwire/+/+/door/+/event", qos=1)
        self.client.loop_start()
        self._there.get(timeout=PATIENCE)

    def _message(self, _client: Client, _user: Any, message: Any) -> None:
        at, facts = time.perf_counter(), json.loads(message.payload)
        if facts["event_type"] == "ring":
            self.came.put((at, facts["call_id"]))

    def of(self, call_id: str) -> float:
        """When the ring of that call came."""
        while True:
            at, found = self.came.get(timeout=PATIENCE)
            if found == call_id:
                return at

    def close(self) -> None:
        """Hang up."""
        self.client.disconnect()
        self.client.loop_stop()


def run(calls: int = 300) -> list[list[str]]:
    """Rows of the table."""
    receipts, events = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder, BundledBroker() as broker:
        theirs = Mosquitto(Path(folder))
        theirs.start()
        settings = Path(folder) / "homeassistant.toml"
        settings.write_text(
            f'[account]\npeer = "home"\nbroker = "{broker.url}"\n'
            f'[mqtt]\nbroker = "{theirs.url}"\n'
            '[[door]]\npeer = "front-door"\nname = "Front door"\n'
        )
        rings, door = Rings(theirs.port), Door()
        try:
            with (
                Command("homeassistant", "--settings", settings) as bridge,
                SignalingClient("front-door", broker.url) as client,
            ):
                bridge.line("online as home")
                rings.client.publish("homeassistant/status", "online", qos=1)
                client.call_manager.add_event_listener(door)
                for number in range(calls + 20):
                    invitation = client.call_manager.create_local_invitation("home")
                    invitation.content = "somebody is at the door"
                    start = time.perf_counter()
                    client.call_manager.send_local_invitation(invitation)
                    came = rings.of(invitation.call_id) - start
                    received = door.received.get(timeout=PATIENCE) - start
                    if number >= 20:  # the first ones are warmth, and wait until the door is known
                        events.append(came * 1000)
                        receipts.append(received * 1000)
                    invitation.cancel()
                    door.ended.get(timeout=PATIENCE)
                    time.sleep(0.005)
        finally:
            rings.close()
            theirs.stop()
    return [row("invite → receivedByPeer, the bridge's", receipts, receipts),
            row("invite → event at Home Assistant's broker", events, receipts)]  # fmt: skip


if __name__ == "__main__":
    print(*run(), sep="\n")
