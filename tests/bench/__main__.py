"""``make bench``: everything that is measured, into docs/performance.md.

``python -m tests.bench [--quick] [--only PART…] [--print] [--runs N] [--beside COMMIT]``. Every
figure stands beside its floor, measured in the same run; the tables are made here and nowhere else.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import brokers, flood, footprint, homeassistant, latency, medians, web_page, wire

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"

INTRO = """\
# Performance

Made by `make bench` (`python -m tests.bench --only PART` for a part, `--quick` for a look,
`--runs N` for the latencies' medians of N whole runs, `--beside COMMIT` for an old commit,
too); every figure beside its floor, measured in the same run. Ratios carry over to
other machines, milliseconds do not. Measured on {cores} cores, {machine}, Python {python}.

One call is rung, answered and told with {call} publishes. `invite → receivedByPeer` is the time
from `send` to the event on the caller's listener: the invite's way to the callee, its receipt's
way back, both decided and encoded on the way. `message → handled → acknowledged` is of a call that
goes on, from `send` until the sender's engine has read that the other has handled it. The floor is
the ping-pong of two bare paho clients with QoS 1, TCP_NODELAY and as many bytes. Caller, callee and
broker are three processes on either side, with some milliseconds between two calls, so that each is
measured alone and with cold caches: what is on top of the floor is Python between the sockets.
Floor and measured take turns in blocks of a dozen calls, and a ratio at p50 is the median of the
blocks': whatever else the machine does hits both. The first ring of two peers takes a round trip
more, for the callee asks whether the caller is there; it is not among these. Wanted are 1.3 times
the floor at p50 and 1.6 times at p99.
"""


ON_EVERY_BROKER = """\
`invite → receivedByPeer`, threaded, beside the ping-pong on the same broker, each as
`bellwire-broker export` configures it; of several nodes the two ends are at different ones. What
the ping-pong publishes is not retained, as a call's cells are: that makes no difference but at
NATS, where three nodes agree on it first (1.44 ms for 0.81 at p50).

"""


class Options(NamedTuple):
    """How much is measured: ``runs`` and ``beside`` are of the latency and broker-before parts."""

    quick: bool = False
    runs: int = 1
    beside: str | None = None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def other(module: str, *args: str) -> str:
    """What another bench prints."""
    # Byte code is kept, as on every installed machine.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", f"tests.bench.{module}", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


def of_latency(options: Options) -> str:
    results = medians.run(200 if options.quick else 1000, options.runs, options.beside)
    median = (
        f"Each cell is the median of {options.runs} whole runs.\n\n" if options.runs > 1 else ""
    )
    return median + "\n".join(
        f"### On {name}{commit and f', at {commit}'}\n\n{table(latency.HEAD, rows)}"
        for commit, tables in results.items()
        for name, rows in tables.items()
    )


def of_brokers(options: Options) -> str:
    return ON_EVERY_BROKER + table(brokers.HEAD, brokers.run(200 if options.quick else 1000))


def of_footprint(options: Options) -> str:
    rows = footprint.run(5 if options.quick else 30)
    return table(footprint.HEAD, rows) + "\n" + table(footprint.IMPORT_HEAD, footprint.imports())


def of_wire(_options: Options) -> str:
    return table(wire.HEAD, wire.run())


def of_flood(options: Options) -> str:
    return table(flood.HEAD, flood.run(1000 if options.quick else 10_000))


def of_broker(options: Options) -> str:
    scale = other("broker_scale", *(["--quick"] if options.quick else []))
    return "\n".join((other("broker_throughput"), scale, other("broker_attacks")))


def of_broker_before(options: Options) -> str:
    rounds = 1 if options.quick else max(5, options.runs)
    commit = [options.beside] if options.beside else []
    return other("broker_before", *commit, "--rounds", str(rounds))


def of_page(options: Options) -> str:
    return table(web_page.HEAD, web_page.run(100 if options.quick else 300))


def of_home(options: Options) -> str:
    return table(homeassistant.HEAD, homeassistant.run(100 if options.quick else 300))


def of_pi(_options: Options) -> str:
    return other("pi_memory")


PARTS: dict[str, tuple[str, Callable[[Options], str]]] = {
    "latency": ("How long a call takes", of_latency),
    "brokers": ("A ring on every broker", of_brokers),
    "footprint": ("What a client costs", of_footprint),
    "wire": ("Bytes on the wire", of_wire),
    "flood": ("While another peer floods", of_flood),
    "broker": ("The bundled broker beside stock amqtt and mosquitto", of_broker),
    "broker-before": ("The bundled broker beside itself as it was", of_broker_before),
    "page": ("A panel's page", of_page),
    "home": ("A bridge to Home Assistant", of_home),
    "pi": ("The doorbell service", of_pi),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls; for a look")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts; the page stays")
    parser.add_argument("--print", action="store_true", help="print only; the page stays")
    parser.add_argument(
        "--runs", type=int, default=1, help="latency, broker-before: the median of so many"
    )
    parser.add_argument(
        "--beside", metavar="COMMIT", help="latency, broker-before: beside an old one"
    )
    args = parser.parse_args()
    if args.runs < 1:
        parser.error("--runs: 1 or more")
    if args.beside and not medians.is_commit(args.beside):
        parser.error(f"--beside: {args.beside!r} is no commit of this repository")
    options = Options(args.quick, args.runs, args.beside)
    call = len(wire.scenes()["accepted"])
    page = INTRO.format(
        cores=os.cpu_count(),
        machine=platform.machine(),
        python=platform.python_version(),
        call=call,
    )
    for name in args.only or PARTS:
        title, measure = PARTS[name]
        print(f"measuring: {title}", file=sys.stderr, flush=True)
        section = f"\n## {title}\n\n{measure(options)}"
        print(section, flush=True)
        page += section
    if not (args.only or args.print or args.quick or args.beside):
        PAGE.write_text(page)
        print(f"written: {PAGE.relative_to(Path.cwd())}", file=sys.stderr)


if __name__ == "__main__":
    main()
