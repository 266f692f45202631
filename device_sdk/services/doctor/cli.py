"""``bellwire doctor``: the command line of ``doctor``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ...client.display import complain, say
from ..arguments import sentence
from ..roles import CARD, SERVICES, own_settings, settings_file


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    what = "say the first thing that is wrong between this device and its broker"
    parser = subparsers.add_parser(
        "doctor", help=what, description=sentence(what), allow_abbrev=False
    )
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help=f"default: what is in {CARD}, or ~/.config/bellwire.toml",
    )
    parser.add_argument(
        "--notify", action="store_true", help="send a message to each address of `notify`"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="only what is wrong")
    parser.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from ..config.toml_reader import SettingsError
    from .check import examine
    from .fault import Fault
    from .patient import patient_of

    own = own_settings(os.environ)
    path = args.settings or next(
        (each for each in (*map(settings_file, SERVICES), own) if each.exists()), None
    )
    if path is None:
        complain(f"WRONG no settings in {CARD}, and no {own}: say --settings FILE")
        return 2
    try:
        patient = patient_of(path)
        patient.send_notice = args.notify
        for line in examine(patient):
            if not args.quiet:
                say(f"ok    {line}")
    except SettingsError as error:
        for problem in error.problems:
            complain(f"WRONG {problem}")
        return 2
    except Fault as fault:
        for problem in fault.problems:
            complain(f"WRONG {problem}")
        return 1
    if not args.quiet:
        say("ok    all is well")
    return 0
