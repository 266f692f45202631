"""Memory of the running doorbell service beside a bare paho + cbor2 + gpiozero process.

``python -m tests.bench.pi_memory``: both are logged in to the same broker, have a button, a light
and a bell on gpiozero's mock pins, and have made one call (the bare one published its size).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers import BundledBroker

RUNS = 5
MOST_ABOVE = 6.0
SETTINGS = """\
[account]
peer = "front-door"
broker = "{url}"
[gpio]
factory = "mock"
[[button]]
pin = 17
rings = ["kitchen"]
ring_time = 1
[light]
pin = 27
[chime]
pin = 22
"""
#: What anybody would write: a client with its thread, a button, two outputs, one message.
BARE = """\
import sys, time, cbor2, gpiozero, paho.mqtt.client as mqtt
from gpiozero.pins.mock import MockFactory
gpiozero.Device.pin_factory = MockFactory()
button = gpiozero.DigitalInputDevice(17, pull_up=True)
light, bell = gpiozero.LED(27), gpiozero.Buzzer(22)
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bare")
client.connect("127.0.0.1", {port}, 15)
client.loop_start()
cell = cbor2.dumps({{0: 1, 1: 0}})
client.publish("sig/v1/kitchen/invite/bare/x", cell, 1, True).wait_for_publish()
light.blink(0.25, 0.25)
print("ready", flush=True)
sys.stdin.readline()
"""
#: The service itself, with the mock button pressed once from another thread.
SERVICE = """\
import sys, threading
from pathlib import Path
from device_sdk.services.service import base as service
from device_sdk.services.service.doorbell import DoorbellService
from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.service.loop import Loop
from device_sdk.services.service.sd_notify import Notifier
from device_sdk.services.gpio.pins import open_pins
settings = read_doorbell(Path({path!r}))
loop = Loop(Notifier())
pins = open_pins(settings.gpio)
def say(text):
    if text.startswith("online"):
        import gpiozero
        pin = gpiozero.Device.pin_factory.pin(17)
        pin.drive_low()
        threading.Timer(0.2, pin.drive_high).start()
    if text.endswith("nobody"):
        print("ready", flush=True)
import device_sdk.services.service.doorbell as module
module.say = service.say = say
threading.Thread(target=lambda: (sys.stdin.readline(), loop.stop()), daemon=True).start()
DoorbellService(settings, pins, loop, Notifier()).run()
"""


def measure(code: str) -> tuple[float, float]:
    """Peak and present resident memory in MB of ``code`` once it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        line = process.stdout.readline()
        assert line.strip() == "ready", line
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.stdin.write("\n")
        process.stdin.close()
        process.wait(20)
    found = dict(re.findall(r"(VmHWM|VmRSS):\s+(\d+)", status))
    return int(found["VmHWM"]) / 1024, int(found["VmRSS"]) / 1024


def main() -> int:
    """Print the table; exit 1 if the service is more than 6 MB above the floor."""
    with BundledBroker() as broker, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doorbell.toml"
        path.write_text(SETTINGS.format(url=broker.url))
        bare = [measure(BARE.format(port=broker.port)) for _ in range(RUNS)]
        ours = [measure(SERVICE.format(path=str(path))) for _ in range(RUNS)]
    floor, peak = (sorted(peak for peak, _ in each)[RUNS // 2] for each in (bare, ours))
    floor_now, now = (sorted(rss for _, rss in each)[RUNS // 2] for each in (bare, ours))
    print(f"| memory, median of {RUNS} | peak | present |\n|---|---|---|")
    print(f"| bare paho + cbor2 + gpiozero | {floor:.1f} MB | {floor_now:.1f} MB |")
    print(f"| doorbell service | {peak:.1f} MB | {now:.1f} MB |")
    print(f"| above | {peak - floor:.1f} MB | {now - floor_now:.1f} MB |")
    return int(peak - floor > MOST_ABOVE)


if __name__ == "__main__":
    sys.exit(main())
