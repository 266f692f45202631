"""A panel's page on a card: its table in the settings, and what lies beside them for it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..config.web import parse_listen
from .card import ProvisionError

#: What lies beside the settings on a card, by the option that names it here.
BESIDE = {"web_pin_file": "web-pin", "web_users_file": "web-users",
          "web_cert_file": "web-cert.pem", "web_key_file": "web-key.pem"}  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    """What says that a panel shall have a page."""
    parser.add_argument(
        "--web", metavar="[HOST:]PORT", help="a panel's page, on every address of the Pi: 8080"
    )
    for option, what in (
        ("pin-file", "its first line is the PIN of the page"),
        ("users-file", "who may see the page: NAME PASSWORD on each line"),
        ("cert-file", "the page's certificate (PEM), for https"),
        ("key-file", "the certificate's key (PEM)"),
    ):
        parser.add_argument(f"--web-{option}", type=Path, metavar="FILE", help=what)


def table(args: argparse.Namespace, role: str, names: set[str]) -> str:
    """``[web]`` for the settings; empty without a page. ``names``: what lies beside them."""
    there = [option for option in BESIDE if getattr(args, option) is not None]
    if role != "panel" and (args.web is not None or there):
        raise ProvisionError("--web is for a panel: --role panel")
    if args.web is None:
        if there and args.settings is None:
            flag = f"--{there[0].replace('_', '-')}"
            raise ProvisionError(f"{flag} is for a page: --web 8080")
        return ""
    try:
        _, port = parse_listen(args.web)
    except ValueError as error:
        raise ProvisionError(f"--web: {error}") from None
    # Nobody sits at the Pi: without a host the page is for others.
    listen = args.web if ":" in args.web else f"0.0.0.0:{port}"
    lines = ["", "[web]", f'listen = "{listen}"']
    lines += [
        f'{option.removeprefix("web_")} = "{name}"'
        for option, name in BESIDE.items()
        if name in names
    ]
    if BESIDE["web_cert_file"] in names and "ca.pem" in names:
        lines.append('ca_file = "ca.pem"')
    return "\n".join(lines) + "\n"


def has_page(text: str) -> bool:
    """Whether settings of one's own have the table."""
    return re.search(r"(?m)^\s*\[\s*web\s*\]", text) is not None
