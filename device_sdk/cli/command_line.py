"""The ``bellwire`` command's words: which command they mean, and what its errors look like.

argparse, and nothing imported that the command at hand does not need: it runs on small devices.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..client.display import LineHandler, complain
from ..services.arguments import Parser
from .errors import CommandError, ExitCode, Interrupted

#: Commands that live in :mod:`device_sdk.services`, which is loaded when one of them is used.
PI_COMMANDS = {
    "doorbell": "be a doorbell: buttons that ring panels",
    "panel": "be a panel: ring, answer, refuse",
    "homeassistant": "bring calls to Home Assistant, by the MQTT broker that it has",
    "sip": "be a SIP phone's end: it rings like a panel",
    "history": "who rang, when, and what became of it",
    "doctor": "find out what is wrong with this machine's set-up",
    "provision": "make a Raspberry Pi's card ready",
    "wheels": "collect what a card needs to be installed offline",
}
#: What is loaded when it is used, and takes its settings by flags alone.
FLEET = "fleet"

_AWAY = "; is the broker running (`bellwire-broker run`), and is --broker right?"
_REFUSED = {
    4: "; check --username and --secret-file",
    5: "; is this peer registered there (`bellwire-broker device list`), with the secret of"
    " --secret-file?",
}


def _parser(first: str | None) -> Parser:
    from .. import __version__
    from . import call, listen, talk, trace, watch

    parser = Parser(
        prog="bellwire",
        description="Call signalling over MQTT: ring a peer, be rung, see who is there.",
    )
    parser.add_argument("--version", action="version", version=f"bellwire {__version__}")
    commands: Any = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    call.add(commands)
    talk.add(commands)
    listen.add(commands)
    watch.add(commands)
    trace.add(commands)
    if first == FLEET:
        from .fleet import command as fleet

        fleet.add(commands)
    else:
        commands.add_parser(
            FLEET,
            help="try a broker with thousands of devices that call each other",
            add_help=False,
        )
    if first in PI_COMMANDS:
        from ..services.cli import add_commands

        add_commands(commands)
    else:
        for name, what in PI_COMMANDS.items():
            commands.add_parser(name, help=what, add_help=False)
    return parser


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code (:class:`ExitCode`). Errors are one line on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    first = next((word for word in words if not word.startswith("-")), None)
    parser = _parser(first)
    if not words:
        parser.print_help(sys.stderr)
        return ExitCode.USAGE
    try:
        args = parser.parse_args(words)
    except SystemExit as end:
        return int(end.code or 0)
    name = f"bellwire {args.command}"
    interrupted = getattr(args, "interrupted", ExitCode.OK)
    try:
        alone = args.command in PI_COMMANDS or args.command == FLEET
        return int(args.run(args)) if alone else _run(args)
    except Interrupted:
        return int(interrupted)
    except BrokenPipeError:
        # Who read the output is gone (`| head -1`); what is still buffered has nowhere to go.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return int(interrupted)
    except Exception as error:  # noqa: BLE001 - no traceback reaches the user
        code, text = _explain(error, verbose=getattr(args, "verbose", False))
        complain(f"{name}: {text}")
        return code


def _run(args: argparse.Namespace) -> int:
    from .options import Options

    logger = logging.getLogger("bellwire")
    handler: logging.Handler = logging.NullHandler()
    if args.verbose:
        handler = LineHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        options = Options(args)
        if options.warning:
            complain(f"bellwire: warning: {options.warning}")
        command: Any = args.run
        return int(command(args, options))
    finally:
        logger.removeHandler(handler)


def _explain(error: Exception, *, verbose: bool) -> tuple[int, str]:
    """Exit code and the one line of an error."""
    from ..errors import BrokerRefused, InvalidArgument, InvitationApiCallError, LoginError

    if isinstance(error, CommandError):
        return error.code, str(error)
    if isinstance(error, BrokerRefused):
        return ExitCode.BROKER, f"{error}{_REFUSED.get(error.return_code, '')}"
    if isinstance(error, LoginError):
        text = str(error).replace("is ca_file", "is --ca-file")
        return ExitCode.BROKER, f"{text}{_AWAY if _is_away(error) else ''}"
    if isinstance(error, InvalidArgument | InvitationApiCallError):
        return ExitCode.USAGE, str(error)
    if verbose:
        logging.getLogger("bellwire").exception("the command failed")
    return ExitCode.DEFECT, (
        f"{type(error).__name__}: {error}: this is a defect; --verbose shows where"
    )


def _is_away(error: Exception) -> bool:
    return getattr(error, "cause", "") in ("connection refused", "no route", "timeout")
