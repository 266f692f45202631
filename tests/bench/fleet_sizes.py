"""``bellwire fleet`` on each broker and in each size, as rows of a table.

``python -m tests.bench.fleet_sizes --broker bundled mosquitto nats --devices 10 1000 5000``; each
run has a broker of its own, started from the files that ``bellwire-broker export`` writes, at which
ten of the devices are alone first, for the ratio. ``--kill`` kills a node in the middle of calls
(the bundled broker and mosquitto are started again at once), ``--keep DIR`` keeps the reports.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broker_config.export.site import FAIL_OVER
from tests.exported import Exported, ExportedMosquitto, Nats
from tests.servers import BrokerProcess, BundledBroker

FLEET = (sys.executable, "-m", "device_sdk.cli", "fleet")
#: Of calls in peace: to the middle of it a kill comes.
SECONDS = 10
#: Before the first of them, for a cluster to have elected its leaders.
PATIENCE = 5.0
HEAD = (
    "| broker | devices | calls/s | rings p50 / p99 ms | knows p50 / p99 ms | ping-pong p50 ms"
    " | ÷ ping-pong | ten of them: knows p50, ÷ alone (rings, ping-pong)"
    " | first / reconnect / again s | broker CPU ms a call | KB a device"
    " | links down | lost, double, ghost, split |"
)


@contextlib.contextmanager
def started(name: str, folder: Path) -> Iterator[BrokerProcess]:
    """A broker of that name."""
    broker: BrokerProcess
    if name == "bundled":
        broker = BundledBroker()
    else:
        broker = ExportedMosquitto(folder) if name == "mosquitto" else Nats(folder)
    with broker:
        if name == "nats":
            time.sleep(PATIENCE)
        yield broker


def pids(broker: BrokerProcess) -> list[str]:
    """Its processes."""
    if isinstance(broker, Exported):
        return [str(each.pid) for each in broker.processes.values()]
    assert broker.process is not None
    return [str(broker.process.pid)]


def fleet(broker: BrokerProcess, devices: int, rate: float, *more: str) -> dict[str, Any]:
    """One run; its report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "fleet.json"
        words = ["--devices", str(devices), "--rate", str(rate), "--json", str(report)]
        words += ["--broker", *broker.urls, "--broker-pid", *pids(broker)]
        words += ["--subscribe-qos", str(broker.subscribe_qos)]
        # As account.toml of the export tells the devices of a cluster; else the default.
        words += ["--accept-timeout", str(FAIL_OVER if len(broker.urls) > 1 else 5.0), *more]
        done = subprocess.run([*FLEET, *words], check=False, stdout=subprocess.PIPE, text=True)
        print(done.stdout, file=sys.stderr, flush=True)
        found: dict[str, Any] = json.loads(report.read_text())
        return found


def kill(broker: BrokerProcess, after: float) -> None:
    """Kill a node, and start again what was alone."""
    time.sleep(after)
    if isinstance(broker, Nats):
        broker.kill_node(0)
    else:
        broker.kill()
        broker.start()


def row(name: str, found: dict[str, Any]) -> str:
    """A line of the table."""

    def both(figures: dict[str, Any]) -> str:
        return f"{figures['p50']:.2f} / {figures['p99']:.1f}" if figures["n"] else "-"

    logged_in = found["logged_in"]
    storms = " / ".join(
        f"{each['seconds']:.1f}" + (f" ({each['missing']} never)" if each["missing"] else "")
        for each in (logged_in.get(n) for n in ("first", "reconnect", "again")) if each
    )  # fmt: skip
    few, ten = found["few"], "-"
    if few is not None:
        grown = few["grown"]
        ten = f"{few['received']['among']['p50']:.2f}, {grown['received']:.2f}"
        ten += f" ({grown['rang']:.2f}, {grown['ping']:.2f})"
    faults = ", ".join(str(count) for count in found["faults"].values())
    broker = found.get("broker", {})
    cpu, memory = broker.get("cpu_ms_per_call"), broker.get("kb_per_device")
    outages = ", ".join(f"{each['seconds']:.1f} s" for each in found["outages"])
    return (
        f"| {name} | {found['asked']['devices']:,} | {found['calls_per_second']:.0f}"
        f" | {both(found['ring_ms'])} | {both(found['receipt_ms'])}"
        f" | {found['ping_pong_ms'].get('p50', 0):.2f} | {found['ratio'] or 0:.2f}"
        f" | {ten} | {storms}"
        f" | {'-' if cpu is None else f'{cpu:.2f}'}"
        f" | {'-' if memory is None else f'{memory:.1f}'} | {outages or '-'} | {faults} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.fleet_sizes", description=__doc__)
    parser.add_argument("--broker", nargs="+", default=["bundled", "mosquitto", "nats"])
    parser.add_argument("--devices", nargs="+", type=int, default=[100, 1000, 5000])
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--processes", default="1")
    parser.add_argument("--login-timeout", default="300")
    parser.add_argument("--accept-timeout", metavar="S", help="20 for NATS, else 5")
    parser.add_argument("--boot-spread", default="0", metavar="S")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n\n{HEAD}")
    print("|---" * HEAD.count(" | ") + "|---|", flush=True)
    for name in asked.broker:
        for devices in asked.devices:
            with tempfile.TemporaryDirectory() as folder, started(name, Path(folder)) as broker:
                seconds = SECONDS * (3 if asked.kill else 1)
                more = ["--seconds", str(seconds), "--processes", asked.processes]
                more += ["--login-timeout", asked.login_timeout]
                more += ["--boot-spread", asked.boot_spread]
                if asked.accept_timeout is not None:
                    more += ["--accept-timeout", asked.accept_timeout]
                if asked.kill:
                    more.append("--no-storms")
                    # Ten have been alone for as long as all call; the login of all is shorter.
                    killer = threading.Thread(target=kill, args=(broker, seconds * 1.5))
                    killer.start()
                found = fleet(broker, devices, asked.rate, *more)
                if asked.kill:
                    killer.join()
                print(row(name, found), flush=True)
                if asked.keep is not None:
                    what = "kill" if asked.kill else "storms"
                    file = asked.keep / f"{name}-{devices}-{what}.json"
                    file.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
