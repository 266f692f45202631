"""The one reader of text files: settings, secrets, WiFi passwords, certificates.

People write them with any editor of any system: a byte order mark and CRLF are taken, what is no
UTF-8 is refused with what to do. Nothing is read without bound.
"""

from __future__ import annotations

import os
import select
import stat
import time
from pathlib import Path

from ...errors import BellwireError

#: No text that a person writes for us is longer; bytes.
MAX_TEXT = 1 << 20
MAX_SECRET = 4096
#: A pipe is read too (``<(pass show door)``), but not waited for without end; seconds.
WRITER_TIMEOUT = 2.0
PIPE_TIMEOUT = 30.0
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class TextFileError(BellwireError, ValueError):
    """A file is no text that can be used; the message reads ``FILE[:LINE]: what is wrong``."""


def read_text(path: Path | str, limit: int = MAX_TEXT) -> str:
    """The file's text, newlines alone ending lines, no byte order mark; at most ``limit`` bytes.

    Raises :class:`TextFileError`.
    """
    try:
        data = _read(path, limit + 1)
    except FileNotFoundError:
        raise TextFileError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise TextFileError(f"{path}: this is a directory; name a file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise TextFileError(f"{path}: cannot be read: {why}") from None
    if len(data) > limit:
        raise TextFileError(f"{path}: is longer than {limit} bytes: is it the right file?")
    if data.startswith(_UTF16) or b"\0" in data[:512]:
        halves = max(data[:512:2].count(0), data[1:512:2].count(0))
        kind = "UTF-16" if data.startswith(_UTF16) or 4 * halves >= len(data[:512]) else "no text"
        raise TextFileError(f"{path}: this is {kind}; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TextFileError(f"{path}:{line}: this is not UTF-8 text; save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(path: Path | str, limit: int) -> bytes:
    # Opened without waiting: a pipe that nobody writes into would hold whoever opens it for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return _read_pipe(path, descriptor, limit)
        os.set_blocking(descriptor, True)  # a terminal, where somebody types
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


def _read_pipe(path: Path | str, descriptor: int, limit: int) -> bytes:
    data, until = b"", time.monotonic() + WRITER_TIMEOUT
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(data) < limit:
        try:
            piece = os.read(descriptor, limit - len(data))
        except BlockingIOError:  # somebody has it open, and has not written yet
            if not poll.poll(PIPE_TIMEOUT * 1000):
                raise TextFileError(f"{path}: nothing comes out of this pipe") from None
            continue
        if piece:
            data += piece
        elif data:
            break
        elif time.monotonic() >= until:
            raise TextFileError(f"{path}: this is a pipe, and nobody writes into it")
        else:
            time.sleep(0.02)  # who writes may be about to open it
    return data


def read_secret(path: Path | str) -> str:
    """The secret in the file's first line, blanks around it dropped; :class:`TextFileError`."""
    text = read_text(path, MAX_SECRET)
    secret = text.partition("\n")[0].strip()
    if not secret:
        raise TextFileError(f"{path}: its first line is empty; put the secret there")
    if not secret.isprintable():
        raise TextFileError(f"{path}: its first line has characters that cannot be seen")
    return secret
