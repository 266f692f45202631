"""Files that appear whole or not at all, several of them together, and no half-done command."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _give_to_owner_of(path: Path, descriptor: int) -> None:
    """Made by root, a file is still the service user's to read and to change."""
    if os.geteuid() == 0:
        owner = path.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _written(path: Path, data: bytes) -> Path:
    """``data`` on the disk beside ``path``, of mode 600, under a name of its own."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            _give_to_owner_of(path if path.exists() else path.parent, descriptor)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def write_private(path: Path, text: str | bytes) -> None:
    """Write a file of mode 600 in one step: a crash leaves the old one or the new one."""
    data = text.encode() if isinstance(text, str) else text
    written = _written(path, data)
    try:
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise


class NotPlaced(OSError):
    """A staged file could not take its place; the text says where its content is."""


class Staged:
    """Files that are on the disk, under other names, until :meth:`place` gives them theirs.

    Whatever can fail (no permission, a full disk) has failed by then. Left without ``place``,
    nothing of them stays.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path, bool]] = []

    def add(self, path: Path, data: str | bytes, *, over: bool = False) -> None:
        """Write ``data`` for ``path``; ``over`` what is there. Raises OSError."""
        if not over and path.exists():
            raise FileExistsError(f"{path} is there already")
        content = data.encode() if isinstance(data, str) else data
        self._files.append((_written(path, content), path, over))

    def place(self) -> None:
        """Give all files their names; raises :class:`NotPlaced`."""
        while self._files:
            written, path, over = self._files[0]
            try:
                if not over and path.exists():
                    raise FileExistsError(f"{path} has come into being meanwhile")
                written.replace(path)
            except OSError as error:
                self._files.clear()  # what they hold is nowhere else
                raise NotPlaced(f"{error}; its content is in {written}") from error
            del self._files[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for written, _, _ in self._files:
            written.unlink(missing_ok=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def own_lock(path: Path) -> Iterator[IO[str]]:
    """A file to lock, made when it is not there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as lock:
        _give_to_owner_of(path.parent, descriptor)
        yield lock
