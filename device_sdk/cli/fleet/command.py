"""``bellwire fleet``: a site of thousands, tried on its broker before people move in."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...client.display import jsonable, write
from ...client.link.srv import check_installed, look_up
from ...client.link.url import AnyUrl, BrokerUrl, Tls, clear_text, parse_broker
from ...client.vocabulary import BY_NAME, DEFAULT_BROKER
from ...core.wire.topics import DEFAULT_REALM, check_realm
from ...errors import BrokerUnreachable, InvalidArgument
from ..errors import CommandError, ExitCode, UsageError

if TYPE_CHECKING:
    from .plan import Broker, Peer

_MOST = 1_000_000


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "fleet",
        help="try a broker with thousands of devices",
        description="Log thousands of devices in, have them call each other, cut all their links,"
        " take the power of the whole site away, and tell what became of each call. It ends by"
        " itself, or with Ctrl-C, and leaves nothing behind. On a site of your own: before people"
        " move in, since it logs in as its devices.",
        epilog="exit: 0 all is as it must be, 1 something was lost, twice, a ghost, split, left"
        " behind or never got in, 14 broker unreachable or refused, 2 wrong usage",
        allow_abbrev=False,
    )
    who = parser.add_argument_group("who and where")
    who.add_argument("--devices", type=int, metavar="N", help="so many, on a broker for anybody")
    who.add_argument("--panels", type=int, metavar="M", help="so many of them are rung (a half)")
    who.add_argument(
        "--from", dest="table", type=Path, metavar="FILE",
        help="the CSV file that registered the devices (`bellwire-broker device add --from`)",
    )  # fmt: skip
    who.add_argument("--secrets", type=Path, metavar="DIR", help="with --from: their secrets")
    who.add_argument(
        "--broker", nargs="+", default=[_set("broker", DEFAULT_BROKER)], metavar="URL",
        help=f"mqtt:// or mqtts://, one for each node (default: {DEFAULT_BROKER})",
    )  # fmt: skip
    who.add_argument(
        "--ca-file",
        metavar="FILE",
        default=_set("ca_file", None),
        help="PEM file of the authority to trust",
    )
    who.add_argument(
        "--realm", default=_set("realm", DEFAULT_REALM), metavar="NAME", help="default: sig"
    )
    who.add_argument("--keepalive", type=int, default=_set("keepalive", 15), metavar="S",
                     help="default: 15")  # fmt: skip
    who.add_argument(
        "--subscribe-qos",
        type=int,
        metavar="0|1",
        default=_set("subscribe_qos", 1),
        help="a cluster of NATS wants 0",
    )
    who.add_argument(
        "--accept-timeout",
        type=float,
        metavar="S",
        default=_set("accept_timeout", 5.0),
        help="as the devices have it (default: 5)",
    )
    what = parser.add_argument_group("what they do")
    what.add_argument("--rate", type=float, default=10.0, metavar="CALLS_PER_S", help="default: 10")
    what.add_argument("--seconds", type=float, default=10.0, metavar="S",
                      help="of calls in peace, which are measured (default: 10)")  # fmt: skip
    what.add_argument("--no-storms", action="store_true",
                      help="leave the links and the power on")  # fmt: skip
    what.add_argument("--processes", type=int, default=1, metavar="P", help="default: 1")
    what.add_argument("--login-timeout", type=float, default=60.0, metavar="S",
                      help="how long all together may take to get in (default: 60)")  # fmt: skip
    what.add_argument("--boot-spread", type=float, default=0.0, metavar="S",
                      help="when the power comes, devices boot within so many seconds (default: 0,"
                      " all at one moment)")  # fmt: skip
    told = parser.add_argument_group("what is told")
    told.add_argument("--json", type=Path, metavar="FILE", help="the report for programs")
    told.add_argument("--plot", type=Path, metavar="FILE", help="its latencies as SVG")
    told.add_argument("--broker-pid", type=int, nargs="+", default=[], metavar="PID",
                      help="the broker's processes here: their CPU and memory")  # fmt: skip
    parser.set_defaults(run=run, interrupted=ExitCode.OK, verbose=False)


def run(args: argparse.Namespace) -> int:
    """Run the fleet; gives the exit code."""
    from . import plan, report
    from .run import BrokerUse, Fleet, WorkerEnded, machine

    broker = _broker(args)
    _in_range("--rate", args.rate, 0.0, 100_000)
    _in_range("--seconds", args.seconds, 0.1, 86_400)
    _in_range("--login-timeout", args.login_timeout, 1, 3600)
    _in_range("--boot-spread", args.boot_spread, 0.0, args.login_timeout)
    _in_range("--keepalive", args.keepalive, 1, 65535)
    _in_range("--subscribe-qos", args.subscribe_qos, 0, 1)
    _in_range("--accept-timeout", args.accept_timeout, 0.1, 3600)
    _in_range("--processes", args.processes, 1, 64)
    peers = _peers(args, broker)
    devices = len(peers) - 2
    for file in (args.json, args.plot):
        if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
            raise UsageError(f"{file}: no file can be written there")
    try:
        shares = plan.shares(
            broker, peers, args.processes,
            rate=args.rate, seconds=args.seconds, login_timeout=args.login_timeout,
            boot_spread=args.boot_spread,
        )  # fmt: skip
        if args.ca_file is not None:
            Tls(args.ca_file).make_context()
        use = BrokerUse(args.broker_pid)
    except InvalidArgument as error:
        raise UsageError(str(error).replace("ca_file", "--ca-file")) from None
    except ProcessLookupError as error:
        raise UsageError(f"--broker-pid: {error}") from None
    except ImportError:
        raise UsageError("--broker-pid needs psutil: pip install 'bellwire[fleet]'") from None
    panels = len({name for peer in peers[:-2] for name in peer.calls})
    asked = {
        "devices": devices, "panels": panels, "rate": args.rate, "seconds": args.seconds,
        "processes": args.processes, "boot_spread": args.boot_spread,
        "brokers": [str(url) for url in broker.urls],
    }  # fmt: skip
    progress = Progress(devices)
    fleet = Fleet(shares, use, progress.show)
    try:
        results = fleet.run(args.seconds, storms=not args.no_storms)
    except WorkerEnded as error:
        raise CommandError(ExitCode.DEFECT, str(error)) from None
    finally:
        progress.done()
    found = report.build(asked, fleet.phases, results, machine(), use.peak)
    for line in report.text(found):
        write(line + "\n", sys.stdout)
    _save(args, found)
    return ExitCode.OK if found["sound"] else ExitCode.LOST


def _save(args: argparse.Namespace, found: dict[str, Any]) -> None:
    from .plot import draw

    try:
        if args.json is not None:
            args.json.write_text(json.dumps(jsonable(found), indent=1) + "\n")
        if args.plot is not None:
            args.plot.write_text(draw(found))
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be written: {error.strerror}") from None


def _broker(args: argparse.Namespace) -> Broker:
    from .plan import Broker

    try:
        urls = tuple(url for each in args.broker for url in _found(parse_broker(each)))
        realm = check_realm(args.realm)
    except InvalidArgument as error:
        raise UsageError(f"--{error}") from None
    except BrokerUnreachable as error:
        raise CommandError(ExitCode.BROKER, str(error)) from None
    if any(url.websocket for url in urls):
        raise UsageError("--broker: a fleet speaks plain MQTT: say mqtt:// or mqtts://")
    if len({url.tls for url in urls}) > 1:
        raise UsageError("--broker: all of them mqtt://, or all of them mqtts://")
    if len(set(urls)) < len(urls):
        raise UsageError("--broker: one of them is there twice")
    if args.ca_file is not None and not urls[0].tls:
        raise UsageError(f"--ca-file: {urls[0]} is not encrypted: say mqtts://")
    if args.table is not None and (warning := clear_text(args.broker[0])):
        write(f"bellwire: warning: {warning}\n", sys.stderr)
    tls = Tls(args.ca_file) if urls[0].tls else None
    return Broker(urls, realm, args.keepalive, args.subscribe_qos, args.accept_timeout, tls)


def _found(url: AnyUrl) -> tuple[BrokerUrl, ...]:
    """The brokers of a domain: asked once, as addresses are."""
    if isinstance(url, BrokerUrl):
        return (url,)
    check_installed(url)
    return tuple(each.url for each in look_up(url).found)


def _peers(args: argparse.Namespace, broker: Broker) -> list[Peer]:
    from . import plan

    if (args.devices is None) == (args.table is None):
        raise UsageError("how many? --devices N, or --from FILE --secrets DIR (one of the two)")
    if args.table is None:
        if args.secrets is not None:
            raise UsageError("--secrets goes with --from")
        _in_range("--devices", args.devices, 2, _MOST)
        panels = args.devices // 2 if args.panels is None else args.panels
        _in_range("--panels", panels, 1, args.devices - 1)
        _check_room(args.devices, args, broker)
        return plan.anonymous(args.devices, panels)
    if args.secrets is None or args.panels is not None:
        raise UsageError(
            "--from wants --secrets DIR, and no --panels: the file says who calls whom"
        )
    try:
        peers = plan.registered(args.table, args.secrets)
    except InvalidArgument as error:
        raise UsageError(str(error)) from None
    _check_room(len(peers), args, broker)
    return peers


def _check_room(devices: int, args: argparse.Namespace, broker: Broker) -> None:
    from .plan import room_for

    try:
        room_for(devices, args.processes, broker.urls)
    except InvalidArgument as error:
        raise UsageError(str(error)) from None


def _set(name: str, default: Any) -> Any:
    """What the environment says, for those settings that a device has as well."""
    return os.environ.get(BY_NAME[name].variable) or default


def _in_range(flag: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{flag}: from {low:g} to {high:g}, not {value:g}")


_WORDS = {"alone": "few, alone", "login": "logging in", "calm": "calling", "cut": "links cut",
          "again": "power back", "finish": "putting in order"}  # fmt: skip
_WIDTH = 24


class Progress:
    """A bar on a terminal's standard error; elsewhere nothing."""

    def __init__(self, devices: int) -> None:
        self._devices = devices
        self._shown = False

    def show(self, phase: str, total: Counter[str]) -> None:
        """Draw it anew."""
        if sys.stderr is None or not sys.stderr.isatty():
            return
        full = _WIDTH * total["linked"] // self._devices
        bar = "█" * full + "·" * (_WIDTH - full)
        line = (
            f"{_WORDS[phase]:<16} {bar} {total['linked']:,} of {self._devices:,} in,"
            f" {total['calls']:,} calls, {total['faults']} faults"
        )
        write(f"\r\x1b[K{line}", sys.stderr)
        self._shown = True

    def done(self) -> None:
        """Take it away."""
        if self._shown:
            write("\r\x1b[K", sys.stderr)
