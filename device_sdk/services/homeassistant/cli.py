"""``bellwire homeassistant``: its command line."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ...client.display import LineHandler, complain, say
from ...errors import BellwireError
from ...link.url import clear_text
from ..roles import settings_file

_CARD = settings_file("homeassistant")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    what = "bring calls to Home Assistant, by the MQTT broker that it has"
    parser = subparsers.add_parser(
        "homeassistant", help=what, description=what.capitalize(), allow_abbrev=False
    )
    parser.add_argument(
        "--settings", type=Path, default=_CARD, metavar="FILE",
        help=f"the TOML file (default: {_CARD})",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="read the settings, then exit")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..config.toml_reader import SettingsError
    from ..service.appliance import Exit

    try:
        return _serve(args)
    except SettingsError as error:
        for problem in error.problems:
            complain(f"bellwire: {problem}")
        return Exit.SETTINGS
    except BellwireError as error:
        complain(f"bellwire: {error}")
        return Exit.SETTINGS if isinstance(error, ValueError) else Exit.FAILED


def _serve(args: argparse.Namespace) -> int:
    from ... import __version__
    from ..config.homeassistant import read_homeassistant
    from ..service.appliance import Exit, stop_on_signals
    from ..service.link import make_client
    from ..service.loop import Loop
    from ..service.sd_notify import Notifier
    from .service import HomeAssistantService

    settings = read_homeassistant(args.settings)
    logging.getLogger("bellwire").addHandler(logging.NullHandler())  # it is said below, or later
    settings.account.check_files()
    settings.mqtt.check_files()
    make_client(settings.account)
    for account in (settings.mqtt, *((settings.account,) if args.check else ())):
        if account.secret_file and (warning := clear_text(account.broker)):
            complain(f"bellwire: warning: {warning}")
    if args.check:
        what = f"{len(settings.doors)} door(s), {len(settings.buttons)} button(s)"
        say(f"{args.settings}: {what}, as it should be")
        return Exit.OK
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[LineHandler()]
    )
    logging.getLogger("bellwire.pi").setLevel(logging.INFO)
    notifier = Notifier()
    loop = Loop(notifier)
    service = HomeAssistantService(settings, loop, notifier, version=__version__)
    restore = stop_on_signals(loop)
    try:
        return service.run()
    finally:
        restore()
        notifier.close()
