"""The ``bellwire-broker`` command: ``python -m broker_config.cli``.

Nothing is imported before :func:`main` runs: Ctrl-C may come while it is.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing itself need not be loaded for it
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit status: 0 well, 1 something is wrong, 2 wrong usage."""
    try:
        from .admin.cli import main as run

        return run(argv)
    except KeyboardInterrupt:
        print("bellwire-broker: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
