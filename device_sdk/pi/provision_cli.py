"""``bellwire provision`` and ``bellwire wheels``: the command line of ``card`` and ``wheels``."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

from ..shown import complain, say
from ..topics import check_peer_id
from . import settings
from .card import MARK, Format, ProvisionError, check_boot, detect_format, write
from .card_files import Card, Wifi, check_hostname, check_wifi, files
from .doorbell_settings import read_doorbell
from .panel_settings import read_panel
from .toml_reader import SettingsError
from .wheels import Arch, Target, download, read

_PYTHON = {Format.CLOUD_INIT: "3.13", Format.PRESEED: "3.13", Format.FIRSTRUN: "3.11"}

_DOORBELL = """\
[[button]]
name = "door"
pin = 17          # BCM number; the other wire to ground
rings = {rings}
content = "somebody is at the door"

[light]
pin = 27          # shows: offline, ringing, accepted, refused, nobody

[chime]
pin = 22          # sounds when no panel is reached
"""
_PANEL = """\
[answer]
pin = 17          # BCM number; the other wire to ground

[refuse]
pin = 18

[ringer]
pin = 22          # a buzzer

[light]
pin = 27

[missed]
pin = 23
"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    what = "make a freshly flashed card a doorbell, a panel or a broker"
    parser = subparsers.add_parser(
        "provision", help=what, description=what.capitalize(), allow_abbrev=False
    )
    parser.add_argument("boot", type=Path, metavar="BOOT", help="its mounted boot partition")
    parser.add_argument("--role", choices=("doorbell", "panel"), default="doorbell")
    parser.add_argument("--broker-role", action="store_true", help="make it the broker's Pi")
    parser.add_argument("--peer", metavar="ID", help="the name it is called by")
    parser.add_argument("--broker", metavar="URL", help="mqtts://HOST[:PORT]")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="the broker's authority (PEM)")
    parser.add_argument("--cert-file", type=Path, metavar="FILE", help="its certificate (PEM)")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="the certificate's key (PEM)")
    parser.add_argument("--secret-file", type=Path, metavar="FILE", help="holds its password")
    parser.add_argument(
        "--rings", action="append", default=[], metavar="ID", help="whom the button rings (kitchen)"
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FILE",
        help="a TOML file of your own; its [account] is replaced by the options",
    )  # fmt: skip
    parser.add_argument("--hostname", metavar="NAME", help="default: the peer id")
    parser.add_argument("--wifi-ssid", metavar="SSID")
    parser.add_argument("--wifi-password-file", type=Path, metavar="FILE")
    parser.add_argument("--wifi-country", metavar="CC", help="two letters, such as DE")
    parser.add_argument(
        "--ssh-key", type=Path, metavar="FILE", help="a public key that may log in as pi"
    )
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="what `bellwire wheels` made")
    parser.add_argument(
        "--online", action="store_true", help="the Pi fetches the rest from the internet itself"
    )
    parser.add_argument("--format", choices=("auto", *Format), default="auto")
    _target_options(parser)
    parser.set_defaults(run=_provision)

    what = "gather the wheels that a Pi without internet needs"
    wheels = subparsers.add_parser(
        "wheels", help=what, description=what.capitalize(), allow_abbrev=False
    )
    wheels.add_argument("folder", type=Path, metavar="DIR")
    wheels.add_argument("--bellwire", type=Path, required=True, metavar="WHEEL")
    wheels.add_argument("--role", choices=("doorbell", "panel", "broker"), default="doorbell")
    _target_options(wheels)
    wheels.set_defaults(run=_wheels)


def _target_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--python", choices=("3.11", "3.13"), help="the Pi's: bookworm 3.11, trixie 3.13"
    )
    parser.add_argument("--arch", type=Arch, choices=list(Arch), default=Arch.AARCH64)


def _wheels(args: argparse.Namespace) -> int:
    try:
        target = Target(args.python or "3.13", args.arch)
        download(args.folder, args.bellwire, args.role, target)
    except ProvisionError as error:
        complain(f"bellwire: {error}")
        return 2
    for path in sorted(args.folder.glob("*.whl")):
        say(path.name)
    return 0


def _provision(args: argparse.Namespace) -> int:
    try:
        form, changed = provision(args)
    except (ProvisionError, SettingsError, ValueError) as error:
        complain(f"bellwire: {error}")
        return 2
    for name in changed:
        say(name)
    say(f"{args.boot}: {len(changed)} file(s) changed, for {form}")
    return 0


def provision(args: argparse.Namespace) -> tuple[Format, list[str]]:
    """Write the card that ``args`` describe: the format used and the names of changed files.

    Raises :class:`ProvisionError`; then nothing was written.
    """
    check_boot(args.boot)
    form = detect_format(args.boot) if args.format == "auto" else Format(args.format)
    role = "broker" if args.broker_role else args.role
    if args.wheels is None:
        raise ProvisionError(
            "say where its programs come from: --wheels DIR (what `bellwire wheels` gathered; the "
            "Pi then needs no internet), or --online --wheels DIR with Bellwire's own wheel in it"
        )
    target = Target(args.python or _PYTHON[form], args.arch)
    secret = ca = None
    text = ""
    if role == "broker":
        hostname = args.hostname or "bellwire-broker"
    else:
        secret, ca, text = _device(args, role)
        hostname = args.hostname or args.peer
    card = Card(
        role=role,
        hostname=check_hostname(hostname),
        settings=text,
        secret=secret,
        ca=ca,
        wheels=read(args.wheels, role, target, online=args.online),
        online=args.online,
        wifi=_wifi(args),
        ssh_keys="" if args.ssh_key is None else _text(args.ssh_key, "--ssh-key"),
    )
    cmdline = _text(args.boot / "cmdline.txt", "cmdline.txt")
    return form, write(args.boot, files(card, form, cmdline))


def _device(args: argparse.Namespace, role: str) -> tuple[bytes, bytes | None, str]:
    for option in ("peer", "broker", "secret_file"):
        if getattr(args, option) is None:
            how = {
                "peer": "how is it called? For instance --peer front-door",
                "broker": "where is the broker? For instance --broker mqtts://broker.local:8883",
                "secret_file": "the file with the secret that `bellwire-broker device add` printed",
            }[option]
            raise ProvisionError(f"--{option.replace('_', '-')} is missing: {how}")
    check_peer_id(args.peer, "--peer")
    settings.check_broker(args.broker)
    secret = _text(args.secret_file, "--secret-file").strip()
    if not secret:
        raise ProvisionError(f"--secret-file {args.secret_file} is empty")
    ca = None
    if args.ca_file is not None:
        ca = _text(args.ca_file, "--ca-file").encode()
        if b"-----BEGIN CERTIFICATE-----" not in ca:
            raise ProvisionError(f"--ca-file {args.ca_file} is no certificate in PEM form")
    text = _settings_text(args, role, ca is not None)
    _check_settings(text, role)
    return secret.encode() + b"\n", ca, text


def _settings_text(args: argparse.Namespace, role: str, with_ca: bool) -> str:
    lines = [
        f"# {MARK[0].upper()}{MARK[1:]}. Pins and the rest: docs/raspberry-pi.md.",
        "[account]",
        f"peer = {json.dumps(args.peer, ensure_ascii=False)}",
        f"broker = {json.dumps(args.broker)}",
        'secret_file = "secret"',
    ]
    if with_ca:
        lines.append('ca_file = "ca.pem"')
    if args.settings is None:
        rest = (
            _PANEL
            if role == "panel"
            else _DOORBELL.format(rings=json.dumps(args.rings or ["kitchen"]))
        )
    else:
        text = _text(args.settings, "--settings")
        rest = re.sub(r"(?ms)^\[account\][^\[]*", "", text)
    return "\n".join(lines) + "\n\n" + rest


def _check_settings(text: str, role: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{role}.toml"
        path.write_text(text, encoding="utf-8")
        try:
            (read_panel if role == "panel" else read_doorbell)(path)
        except SettingsError as error:
            raise ProvisionError(f"--settings: {str(error).removeprefix(folder + '/')}") from None


def _wifi(args: argparse.Namespace) -> Wifi | None:
    if args.wifi_ssid is None:
        return None
    if args.wifi_password_file is None or args.wifi_country is None:
        raise ProvisionError("--wifi-ssid needs --wifi-password-file FILE and --wifi-country CC")
    password = _text(args.wifi_password_file, "--wifi-password-file").strip("\r\n")
    return check_wifi(Wifi(args.wifi_ssid, password, args.wifi_country))


def _text(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProvisionError(f"{option} {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProvisionError(f"{option} {path}: cannot be read: {error}") from None
