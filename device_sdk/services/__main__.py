"""``python -m device_sdk.services``: this package's commands alone."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    try:
        import argparse

        from .cli import add_commands

        parser = argparse.ArgumentParser(prog="bellwire")
        add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
        arguments = parser.parse_args(argv)
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
