"""The ``bellwire-broker`` command."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

EXIT_USAGE = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bellwire-broker", description="The MQTT broker that comes with Bellwire."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve until SIGTERM or Ctrl-C")
    run.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    run.add_argument(
        "--port", type=int, default=1883, help="TCP port, 0 for a free one (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit status: 0 well, 2 wrong usage or settings."""
    args = _parser().parse_args(argv)
    # Here, not above: `--help` need not load a broker.
    from .serve import Refused, serve_anonymous

    try:
        asyncio.run(serve_anonymous(args.host, args.port))
    except Refused as refusal:
        print(f"bellwire-broker: {refusal}", file=sys.stderr)
        return EXIT_USAGE
    return 0
