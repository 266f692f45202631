"""``bellwire provision`` and ``bellwire wheels``: the command line of ``card`` and ``wheels``."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from ...client.display import complain, say
from ...client.link.text_file import TextFileError, read_text
from ...core.wire.topics import check_peer_id
from ...errors import BellwireError
from ..arguments import sentence
from ..config import account as settings
from ..config.doorbell import DoorbellSettings, read_doorbell
from ..config.homeassistant import HomeAssistantSettings, read_homeassistant
from ..config.panel import PanelSettings, read_panel
from ..config.sip import SipSettings, read_sip
from ..config.timezone import check_timezone, local_timezone
from ..config.toml_reader import SettingsError
from ..roles import SERVICES
from ..service.link import make_client
from . import bridge, page, sip
from .broker_files import read_broker_directory
from .card import MARK, Format, ProvisionError, check_boot, detect_format, write
from .card_files import (
    Card,
    Wifi,
    check_hostname,
    check_wifi,
    files,
)
from .wheels import EXTRAS, Arch, WheelTarget, download, extras, read

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
_DOOR = """
[door]
pin = {pin}
active = "{active}"
seconds = 3
obeys = {rings}
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
    what = (
        "make a freshly flashed card a doorbell, a panel, a bridge to Home Assistant, a SIP phone"
        " or a broker"
    )
    parser = subparsers.add_parser(
        "provision", help=what, description=sentence(what), allow_abbrev=False
    )
    parser.add_argument("boot", type=Path, metavar="BOOT", help="its mounted boot partition")
    parser.add_argument("--role", choices=SERVICES, default="doorbell")
    parser.add_argument("--broker-role", action="store_true", help="make it the broker's Pi")
    parser.add_argument(
        "--broker-dir", type=Path, metavar="DIR",
        help="with --broker-role: what `bellwire-broker init` and `device add` made here",
    )  # fmt: skip
    parser.add_argument("--peer", metavar="ID", help="the name it is called by")
    parser.add_argument(
        "--broker", metavar="URL", action="append",
        help="mqtts://HOST[:PORT]; again for each further node of a cluster, or mqtts+srv://DOMAIN",
    )  # fmt: skip
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="the broker's authority (PEM)")
    parser.add_argument("--cert-file", type=Path, metavar="FILE", help="its certificate (PEM)")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="the certificate's key (PEM)")
    parser.add_argument("--secret-file", type=Path, metavar="FILE", help="holds its password")
    parser.add_argument(
        "--rings", action="append", default=[], metavar="ID", help="whom the button rings (kitchen)"
    )
    parser.add_argument(
        "--door-pin", type=int, metavar="PIN", help="the pin that opens the door, if there is one"
    )
    parser.add_argument(
        "--door-active", choices=("high", "low"), default="high",
        help="its level that opens (high); whom the button rings may open it for 3 s",
    )  # fmt: skip
    parser.add_argument(
        "--settings", type=Path, metavar="FILE",
        help="a TOML file of your own; its [account] is replaced by the options",
    )  # fmt: skip
    page.add_options(parser)
    bridge.add_options(parser)
    sip.add_options(parser)
    parser.add_argument("--hostname", metavar="NAME", help="default: the peer id")
    parser.add_argument("--wifi-ssid", metavar="SSID")
    parser.add_argument(
        "--wifi-password-file", type=Path, metavar="FILE",
        help="its first line is the password, or the key made of it (64 hexadecimal digits)",
    )  # fmt: skip
    parser.add_argument("--wifi-open", action="store_true", help="it has no password")
    parser.add_argument("--wifi-hidden", action="store_true", help="it does not tell its name")
    parser.add_argument("--wifi-country", metavar="CC", help="two letters, such as DE")
    parser.add_argument(
        "--timezone", metavar="NAME", help="quiet hours are its hours (default: this machine's)"
    )
    parser.add_argument(
        "--ssh-key", type=Path, metavar="FILE", help="a public key that may log in as pi"
    )
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="what `bellwire wheels` made")
    parser.add_argument(
        "--online", action="store_true", help="the Pi fetches the rest from the internet itself"
    )
    parser.add_argument(
        "--format", choices=("auto", *(each.value for each in Format)), default="auto"
    )
    _target_options(parser)
    parser.set_defaults(run=_provision)

    what = "gather the wheels that a Pi without internet needs"
    wheels = subparsers.add_parser(
        "wheels", help=what, description=sentence(what), allow_abbrev=False
    )
    wheels.add_argument("folder", type=Path, metavar="DIR")
    wheels.add_argument("--bellwire", type=Path, required=True, metavar="WHEEL")
    wheels.add_argument("--role", choices=(*SERVICES, "broker"), default="doorbell")
    wheels.add_argument(
        "--extra", action="append", default=[], choices=sorted(EXTRAS),
        help="also what [metrics], [web] or notify there needs, or mqtts+srv://DOMAIN (srv)",
    )  # fmt: skip
    _target_options(wheels)
    wheels.set_defaults(run=_wheels)


def _target_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--python", choices=("3.11", "3.13"), help="the Pi's: bookworm 3.11, trixie 3.13"
    )
    words = [each.value for each in Arch]
    parser.add_argument("--arch", choices=words, default=Arch.AARCH64.value)


def _wheels(args: argparse.Namespace) -> int:
    try:
        target = WheelTarget(args.python or "3.13", Arch(args.arch))
        download(args.folder, args.bellwire, args.role, target, args.extra)
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
    say(f"time zone: {args.timezone or local_timezone()}")
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
    target = WheelTarget(args.python or _PYTHON[form], Arch(args.arch))
    beside: dict[str, bytes] = {}
    text = ""
    broker_dir: dict[str, bytes] = {}
    baresip: dict[str, bytes] = {}
    if role == "broker":
        hostname = check_hostname(args.hostname or "bellwire-broker")
        broker_dir = _read_broker_directory(args, hostname)
    elif args.broker_dir is not None:
        raise ProvisionError("--broker-dir is for the broker's Pi: --broker-role")
    else:
        beside, text, settings = _device(args, role)
        hostname = check_hostname(args.hostname or args.peer)
        if isinstance(settings, SipSettings):
            baresip = sip.baresip(args, settings, hostname, _text)
    more = _extras(text)
    card = Card(
        role=role,
        hostname=hostname,
        settings=text,
        beside=beside,
        wheels=read(args.wheels, role, target, online=args.online, more=more),
        extras=extras(role, more),
        online=args.online,
        wifi=_wifi(args),
        ssh_keys="" if args.ssh_key is None else _text(args.ssh_key, "--ssh-key"),
        timezone=_timezone(args.timezone),
        broker_dir=broker_dir,
        baresip=baresip,
    )
    cmdline = _text(args.boot / "cmdline.txt", "cmdline.txt")
    return form, write(args.boot, files(card, form, cmdline))


def _extras(text: str) -> list[str]:
    """What settings need beyond what every one does."""
    asked = tomllib.loads(text)
    broker = str(asked.get("account", {}).get("broker"))
    keys = {key for table in (asked, *asked.get("on", {}).values(), asked.get("chime", {}))
            for key in table}  # fmt: skip
    return [extra for extra in EXTRAS if extra in keys or f"+{extra}:" in broker]


def _read_broker_directory(args: argparse.Namespace, hostname: str) -> dict[str, bytes]:
    if args.broker_dir is not None:
        return read_broker_directory(args.broker_dir, hostname, login=args.ssh_key is not None)
    if args.ssh_key is None:
        raise ProvisionError(
            "nobody could add a device on this Pi, nor get the certificate that devices need: give "
            "it a broker that is set up here (--broker-dir DIR, from `bellwire-broker init DIR "
            f"--name {hostname}.local` and `bellwire-broker device add NAME --dir DIR`), or a "
            "way in (--ssh-key FILE)"
        )
    return {}


def _timezone(named: str | None) -> str:
    if named is not None:
        try:
            return check_timezone(named)
        except ValueError as error:
            raise ProvisionError(f"--timezone {error}") from None
    found = local_timezone()
    if found is None:
        raise ProvisionError(
            "--timezone NAME is missing, and this machine does not tell its own: quiet hours are"
            " local time. For instance --timezone Europe/Berlin"
        )
    return found


Settings = DoorbellSettings | PanelSettings | HomeAssistantSettings | SipSettings
_READ: dict[str, Callable[[Path], Settings]] = {
    "doorbell": read_doorbell, "panel": read_panel, bridge.ROLE: read_homeassistant,
    sip.ROLE: read_sip,
}  # fmt: skip

#: What lies beside the settings on a card, by the option that names it here.
_BESIDE = {"secret_file": "secret", "ca_file": "ca.pem", "cert_file": "cert.pem",
           "key_file": "key.pem"}  # fmt: skip


def _device(args: argparse.Namespace, role: str) -> tuple[dict[str, bytes], str, Settings]:
    for option, how in (
        ("peer", "how is it called? For instance --peer front-door"),
        ("broker", "where is the broker? For instance --broker mqtts://broker.local:8883"),
    ):
        if getattr(args, option) is None:
            raise ProvisionError(f"--{option} is missing: {how}")
    if args.secret_file is None and args.cert_file is None:
        raise ProvisionError(
            "--secret-file is missing: the file with the secret that `bellwire-broker device add`"
            " printed (or --cert-file and --key-file, of a device with a certificate)"
        )
    check_peer_id(args.peer, "--peer")
    settings.check_broker(", ".join(args.broker))
    bridge.check_options(args, role)
    sip.check_options(args, role)
    beside = {}
    for option, name in (_BESIDE | page.BESIDE | bridge.BESIDE).items():
        path, flag = getattr(args, option), "--" + option.replace("_", "-")
        if path is None:
            continue
        if option == "secret_file":
            beside[name] = _first_line(path, flag).encode() + b"\n"
        else:
            beside[name] = _text(path, flag).encode()
    text = _settings_text(args, role, beside)
    return beside, text, _check_settings(text, role, beside)


def _one_or_all(texts: list[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else texts


def _settings_text(args: argparse.Namespace, role: str, beside: Mapping[str, bytes]) -> str:
    lines = [
        f"# {MARK[0].upper()}{MARK[1:]}. Pins and the rest: docs/raspberry-pi.md.",
        "[account]",
        f"peer = {json.dumps(args.peer, ensure_ascii=False)}",
        f"broker = {json.dumps(_one_or_all(args.broker), ensure_ascii=False)}",
        *(f'{option} = "{name}"' for option, name in _BESIDE.items() if name in beside),
    ]
    if args.door_pin is not None and (role != "doorbell" or args.settings is not None):
        raise ProvisionError("--door-pin is for a doorbell without --settings: they have [door]")
    if args.settings is not None:
        rest = _without_account(_text(args.settings, "--settings"))
    elif role == "panel":
        rest = _PANEL
    elif role == bridge.ROLE:
        rest = bridge.tables(args, set(beside))
    elif role == sip.ROLE:
        rest = sip.tables(args)
    else:
        rings = json.dumps(args.rings or ["kitchen"], ensure_ascii=False)
        rest = _DOORBELL.format(rings=rings)
        if args.door_pin is not None:
            rest += _DOOR.format(pin=args.door_pin, active=args.door_active, rings=rings)
    table = page.table(args, role, set(beside))
    if table and page.has_page(rest):
        raise ProvisionError("--web: the settings of --settings have [web] already; say it there")
    return "\n".join(lines) + "\n\n" + rest + table


def _without_account(text: str) -> str:
    kept, skips = [], False
    for line in text.splitlines(keepends=True):
        if re.match(r"\s*\[", line) and not (skips and line.count("[") == line.count("]") == 0):
            skips = re.match(r"\s*\[\s*account\s*\]", line) is not None
        if not skips:
            kept.append(line)
    return "".join(kept)


def _check_settings(text: str, role: str, beside: Mapping[str, bytes]) -> Settings:
    """Read the card as the device will, files and all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{role}.toml"
        path.write_text(text, encoding="utf-8")
        for name, data in beside.items():
            (Path(folder) / name).write_bytes(data)
        try:
            settings = _READ[role](path)
            if isinstance(settings, PanelSettings):
                settings.web.check()
                if settings.web.for_nothing:
                    raise SettingsError(settings.web.for_nothing)
            elif isinstance(settings, HomeAssistantSettings):
                settings.mqtt.check_files()
            settings.account.check_files()
            make_client(settings.account)
        except BellwireError as error:
            problem = str(error).replace(f"{folder}/", "")
            option = problem.partition(":")[0]
            if option in _BESIDE:
                problem = problem.removeprefix(f"{option}: ").removeprefix(f"{_BESIDE[option]}: ")
                raise ProvisionError(f"--{option.replace('_', '-')}: {problem}") from None
            raise ProvisionError(f"--settings: {problem}") from None
    return settings


def _wifi(args: argparse.Namespace) -> Wifi | None:
    if args.wifi_ssid is None:
        for flag in ("wifi_password_file", "wifi_open", "wifi_hidden", "wifi_country"):
            if getattr(args, flag):
                raise ProvisionError(f"--{flag.replace('_', '-')} needs --wifi-ssid NAME")
        return None
    if args.wifi_country is None or (args.wifi_password_file is None and not args.wifi_open):
        raise ProvisionError(
            "--wifi-ssid needs --wifi-password-file FILE (or --wifi-open) and --wifi-country CC"
        )
    password = None
    if args.wifi_password_file is not None:
        if args.wifi_open:
            raise ProvisionError("--wifi-open has no password: leave --wifi-password-file out")
        password = _first_line(args.wifi_password_file, "--wifi-password-file")
    return check_wifi(Wifi(args.wifi_ssid, password, args.wifi_country, args.wifi_hidden))


def _first_line(path: Path, option: str) -> str:
    line = _text(path, option).partition("\n")[0].strip()
    if not line:
        raise ProvisionError(f"{option} {path}: its first line is empty")
    return line


def _text(path: Path, option: str) -> str:
    try:
        return read_text(path)
    except TextFileError as error:
        raise ProvisionError(f"{option} {error}") from None
