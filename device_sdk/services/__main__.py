"""``python -m device_sdk.services``: this package's commands alone."""

from __future__ import annotations

import argparse
import sys

from .cli import add_commands

parser = argparse.ArgumentParser(prog="bellwire")
add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
arguments = parser.parse_args()
sys.exit(arguments.run(arguments))
