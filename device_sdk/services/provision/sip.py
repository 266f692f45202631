"""A SIP phone on a card: its table in the settings, and the settings of the baresip beside it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from ..config.sip import SipSettings
from .card import ProvisionError

ROLE = "sip"
_OPTIONS = ("sip_uri", "sip_open_key", "sip_accounts_file")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What says which phone rings, and who baresip is to it."""
    parser.add_argument(
        "--sip-uri", metavar="URI",
        help="with --role sip: the phone that rings, such as sip:kitchen@192.168.1.20",
    )  # fmt: skip
    parser.add_argument(
        "--sip-open-key", metavar="KEY", help="the key on that phone that asks for the door"
    )
    parser.add_argument(
        "--sip-accounts-file", type=Path, metavar="FILE",
        help="baresip's `accounts`, where a telephone system wants a password (default: none)",
    )  # fmt: skip


def check_options(args: argparse.Namespace, role: str) -> None:
    """Refuse what is for another role, or missing; raises :class:`ProvisionError`."""
    given = [option for option in _OPTIONS if getattr(args, option) is not None]
    if role != ROLE:
        if given:
            raise ProvisionError(f"{_flag(given[0])} is for a SIP phone: --role {ROLE}")
        return
    if args.settings is None and args.sip_uri is None:
        raise ProvisionError("say which phone rings: --sip-uri sip:kitchen@192.168.1.20")
    if args.settings is not None and (given := [one for one in given if one in _OPTIONS[:2]]):
        raise ProvisionError(f"{_flag(given[0])}: the settings of --settings say it in [sip]")
    if not args.online:
        raise ProvisionError(
            f"--role {ROLE} needs --online: the phone is called by baresip, which the Pi gets "
            "from Debian's packages at its first boot"
        )


def tables(args: argparse.Namespace) -> str:
    """``[sip]`` for the settings."""
    lines = ["[sip]", f"uri = {json.dumps(args.sip_uri, ensure_ascii=False)}"]
    if args.sip_open_key is not None:
        lines.append(f"open_key = {json.dumps(args.sip_open_key, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def baresip(
    args: argparse.Namespace, settings: SipSettings, hostname: str, read: Callable[[Path, str], str]
) -> dict[str, bytes]:
    """Baresip's settings and unit by their names on the card."""
    ours = resources.files("device_sdk.services.provision").joinpath("baresip")
    config = ours.joinpath("config").read_text(encoding="utf-8")
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    host = host.replace("localhost", "127.0.0.1")
    config = re.sub(r"(?m)^(ctrl_tcp_listen\s+).*$", rf"\g<1>{host}:{settings.port}", config)
    if args.sip_accounts_file is None:
        peer = settings.account.peer
        name = peer if re.fullmatch(r"[A-Za-z0-9._-]+", peer) else "door"
        accounts = f"<sip:{name}@{hostname}.local>;regint=0\n"
    else:
        accounts = read(args.sip_accounts_file, "--sip-accounts-file")
        if not re.search(r"(?m)^\s*(\"[^\"]*\"\s*)?<sips?:[^>\s]+>", accounts):
            raise ProvisionError(
                f"--sip-accounts-file {args.sip_accounts_file}: no line of it is an account, such"
                " as <sip:door@fritz.box>;auth_pass=SECRET"
            )
    return {
        "baresip/config": config.encode(),
        "baresip/accounts": accounts.encode(),
        "bellwire-baresip.service": ours.joinpath("bellwire-baresip.service").read_bytes(),
    }


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
