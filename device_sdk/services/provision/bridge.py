"""The bridge to Home Assistant on a card: its tables in the settings, and what lies beside them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .card import ProvisionError

ROLE = "homeassistant"
#: What lies beside the settings on a card, by the option that names it here.
BESIDE = {"ha_secret_file": "mqtt-secret", "ha_ca_file": "mqtt-ca.pem"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What says where Home Assistant's broker is."""
    parser.add_argument(
        "--ha-broker", metavar="URL",
        help="with --role homeassistant: its MQTT broker, such as mqtt://homeassistant.local",
    )  # fmt: skip
    parser.add_argument("--ha-username", metavar="NAME", help="whom that broker lets in")
    parser.add_argument(
        "--ha-secret-file", type=Path, metavar="FILE", help="its first line is that password"
    )
    parser.add_argument("--ha-ca-file", type=Path, metavar="FILE", help="its authority (PEM)")
    parser.add_argument(
        "--door", action="append", default=[], metavar="ID", help="a doorbell that rings it"
    )


def check_options(args: argparse.Namespace, role: str) -> None:
    """Refuse what is for another role, or missing; raises :class:`ProvisionError`."""
    given = [
        option for option in ("ha_broker", "ha_username", *BESIDE, "door") if getattr(args, option)
    ]
    if role != ROLE:
        if given:
            flag = f"--{given[0].replace('_', '-')}"
            raise ProvisionError(f"{flag} is for the bridge to Home Assistant: --role {ROLE}")
    elif args.settings is None and (args.ha_broker is None or not args.door):
        missing = [
            *([] if args.ha_broker else ["--ha-broker mqtt://homeassistant.local"]),
            *([] if args.door else ["--door front-door"]),
        ]
        said = " ".join(missing)
        raise ProvisionError(f"say where Home Assistant is, and who rings there: {said}")


def tables(args: argparse.Namespace, names: set[str]) -> str:
    """``[mqtt]`` and the doors. ``names``: what lies beside the settings."""
    lines = ["[mqtt]", f"broker = {json.dumps(args.ha_broker)}"]
    if args.ha_username is not None:
        lines.append(f"username = {json.dumps(args.ha_username, ensure_ascii=False)}")
    lines += [
        f'{option.removeprefix("ha_")} = "{name}"'
        for option, name in BESIDE.items()
        if name in names
    ]
    for door in args.door:
        lines += ["", "[[door]]", f"peer = {json.dumps(door, ensure_ascii=False)}"]
    return "\n".join(lines) + "\n"
