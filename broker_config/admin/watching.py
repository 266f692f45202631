"""Files that a running broker goes by: read when they have changed, tried again until they were."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

#: Descriptors kept closed in hand: enough to read a file while clients have taken all others.
_RESERVED = 3
#: Descriptors that connections leave to everything else: files, the store, metrics, handshakes.
SPARE = 24
#: Seconds between two lines about connections that cannot be accepted.
_QUIET = 60.0

Stamp = tuple[tuple[int, int, int], ...]


class Watched:
    """Some files that are read together, and which of their states was read last."""

    def __init__(
        self, what: str, files: Sequence[Path], apply: Callable[[], Awaitable[None]]
    ) -> None:
        self.what = what
        self.apply = apply
        self._files = files
        #: The stamp of what was read; None when the last reading failed.
        self.applied: Stamp | None = None
        #: Why what holds is not what the files say, for people; empty when it is.
        self.trouble = ""

    def stamp(self) -> Stamp:
        """What changes when a file does; no descriptor is needed."""
        return tuple(_stamp(file) for file in self._files)

    def failed(self, why: str) -> None:
        """Note that reading did not work; said once for each reason."""
        if why != self.trouble:
            logger.error("%s. What was read before still holds; tried again every second", why)
        self.trouble = why

    def read(self) -> None:
        """Note that it was read."""
        logger.info("%s was read", self.what)
        self.trouble = ""


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)


class Reserve:
    """Descriptors in reserve: released for a moment, files can be read when there are no others."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def take(self) -> None:
        """Hold what can be had."""
        with contextlib.suppress(OSError):
            while len(self._held) < _RESERVED:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def release(self) -> None:
        """Let all go."""
        while self._held:
            os.close(self._held.pop())


def room_for(connections: int, *, told: bool = True) -> int:
    """Have as many descriptors as ``connections`` need; gives how many there is room for.

    The soft limit is raised as far as the hard one lets it; what is short is ``told`` in the log.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    open_now = Path("/proc/self/fd")
    taken = len(list(open_now.iterdir())) if open_now.is_dir() else 16
    wanted = connections + taken + SPARE
    if soft != infinite and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            raised = wanted if hard == infinite else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == infinite or soft >= wanted:
        return connections
    room = max(soft - taken - SPARE, 1)
    logger.log(
        logging.WARNING if told else logging.DEBUG,
        "limits.connections is %d, but this process may open %d files only: no more than %d "
        "connections are taken. Raise it (LimitNOFILE= in the unit, `ulimit -n`), or lower "
        "limits.connections in broker.toml",
        connections, soft, room,
    )  # fmt: skip
    return room


def calm(loop: asyncio.AbstractEventLoop) -> None:
    """Say once a minute that no connection can be accepted, not thousands of times a second.

    asyncio calls its handler for each place of the listener's backlog, with a traceback each.
    """
    said = -_QUIET

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal said
        if "socket.accept()" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif loop.time() - said >= _QUIET:
            said = loop.time()
            logger.error(
                "no connection can be accepted: %s. Raise the files that the broker may open "
                "(LimitNOFILE= in the unit, `ulimit -n`)", context.get("exception"),
            )  # fmt: skip

    loop.set_exception_handler(handle)
