"""The ``bellwire`` command: call, talk, listen, watch, trace, and a Pi's services.

Nothing is imported before :func:`main` runs: Ctrl-C may come while it is, which takes most of a
short command's time.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself need not be loaded for it
if TYPE_CHECKING:
    from collections.abc import Sequence

#: What an interrupted command gives to a shell: 128, and the number of SIGINT.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code (:class:`.errors.ExitCode`). Errors are one line."""
    try:
        from .command_line import run

        return run(argv)
    except KeyboardInterrupt:  # before the command has begun, or after it has ended
        return INTERRUPTED
