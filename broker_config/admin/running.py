"""The broker that serves a directory at this moment: which process, told of changes, kept away."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..access.writing import own_lock
from .setup import SetupError

#: Held by the broker that serves the directory; its process id is in it.
LOCK = "broker.lock"


def broker_process(directory: Path) -> int | None:
    """The process id of the broker that serves ``directory`` at this moment, if one does."""
    try:
        with (directory / LOCK).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except (OSError, ValueError):
        return None
    return None


def tell_broker(directory: Path) -> bool:
    """Make the running broker read registry and certificates again; False if none could be told."""
    process = broker_process(directory)
    if process is None:
        return False
    try:
        os.kill(process, signal.SIGHUP)
    except OSError:
        return False
    return True


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Keep a broker from serving ``directory`` meanwhile; raises SetupError if one does."""
    with own_lock(directory / LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"a broker has just begun to serve {directory}; try again") from None
        yield
