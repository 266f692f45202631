"""What one logged-in client costs beside a bare paho + cbor2 client: memory, import, idle CPU.

``python -m tests.bench.footprint [--idle SECONDS]``. Each is a fresh process that logs in and then
idles; memory is the peak of its resident set, CPU its user and system time while idle.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from tests.servers import BundledBroker

_REPORT = """
import json, sys, threading, time
def peak():
    # Of this program alone; getrusage counts what its parent had when it forked.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
def report(idle):
    before, start = time.process_time(), time.monotonic()
    time.sleep(idle)
    busy = (time.process_time() - before) / (time.monotonic() - start)
    print(json.dumps([peak(), busy * 100, threading.active_count()]), flush=True)
"""

_BARE = """
import cbor2, paho.mqtt.client as mqtt, threading
from urllib.parse import urlsplit
where = urlsplit(sys.argv[1])
ready = threading.Event()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bare")
client.on_connect = lambda *_: client.subscribe("bench/bare", qos=1)
client.on_subscribe = lambda *_: ready.set()
client.connect(where.hostname, where.port, keepalive=15)
client.loop_start()
ready.wait(10)
cbor2.loads(cbor2.dumps({0: 1}))
report(float(sys.argv[2]))
"""

_THREADED = """
from device_sdk import CallEventListener, SignalingClient
client = SignalingClient("threaded", sys.argv[1])
client.call_manager.add_event_listener(CallEventListener())
client.login()
report(float(sys.argv[2]))
"""

_AIO = """
import asyncio
from device_sdk.aio import SignalingClient
async def main():
    async with SignalingClient("aio", sys.argv[1]):
        # report() sleeps, which would stop the loop: count around an idle loop instead.
        before, start = time.process_time(), time.monotonic()
        await asyncio.sleep(float(sys.argv[2]))
        busy = (time.process_time() - before) / (time.monotonic() - start)
        print(json.dumps([peak(), busy * 100, threading.active_count()]), flush=True)
asyncio.run(main())
"""

_BARE_AIO = "import asyncio\n" + _BARE


def measure(program: str, url: str, idle: float) -> list[Any]:
    """Peak MB, idle CPU in percent of a core, threads."""
    done = subprocess.run(
        [sys.executable, "-c", _REPORT + program, url, str(idle)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[Any] = json.loads(done.stdout)
    return found


def import_ms(*statements: str) -> list[float]:
    """Milliseconds of each import in a fresh process: the median of 15, taken in turn."""
    codes = [
        f"import time; start = time.perf_counter(); {statement};"
        " print((time.perf_counter() - start) * 1000)"
        for statement in statements
    ]
    # Byte code is kept, as on every installed machine.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    rounds = [
        [float(subprocess.check_output([sys.executable, "-c", code], env=env)) for code in codes]
        for _ in range(15)
    ]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def run(idle: float) -> list[list[str]]:
    """Rows of the table."""
    rows = []
    with BundledBroker() as broker:
        bare = measure(_BARE, broker.url, idle)
        for name, program, floor in (
            ("bare paho + cbor2 (floor)", _BARE, bare),
            ("threaded face, one listener", _THREADED, bare),
            ("bare paho + cbor2, asyncio imported", _BARE_AIO, bare),
            ("asyncio face", _AIO, bare),
        ):
            peak, cpu, threads = bare if program is _BARE else measure(program, broker.url, idle)
            rows.append([name, f"{peak:.1f}", f"{peak - floor[0]:+.1f}", f"{cpu:.2f}",
                         f"{cpu - floor[1]:+.2f}", str(threads)])  # fmt: skip
    return rows


def imports() -> list[list[str]]:
    """Rows of the table of imports."""
    # paho comes with the first login; count it in, as on every device.
    floor, ours, looped, aio = import_ms(
        "import paho.mqtt.client, cbor2",
        "from device_sdk import SignalingClient; from device_sdk.client.link import paho",
        "import paho.mqtt.client, cbor2, asyncio",
        "from device_sdk import aio; from device_sdk.client.link import paho",
    )
    return [
        ["paho.mqtt.client and cbor2 (floor)", f"{floor:.0f}", "1.00"],
        ["device_sdk, with its transport", f"{ours:.0f}", f"{ours / floor:.2f}"],
        ["paho.mqtt.client, cbor2 and asyncio (floor)", f"{looped:.0f}", "1.00"],
        ["device_sdk.aio, with its transport", f"{aio:.0f}", f"{aio / looped:.2f}"],
    ]


HEAD = ["", "peak MB", "Δ MB", "idle CPU %", "Δ %", "threads"]
IMPORT_HEAD = ["", "import ms", "÷ floor"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=float, default=20)
    for row in [HEAD, *run(parser.parse_args().idle), IMPORT_HEAD, *imports()]:
        print(f"{row[0]:40}" + "".join(f"{cell:>12}" for cell in row[1:]))


if __name__ == "__main__":
    main()
