"""The one way to show a foreign value, and to write a line.

What a peer, a broker or a file says is shown to a person, a log, a terminal, a command or a web
hook only through here: nothing in it can be obeyed, end a line, or end the program.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import math
import os
import sys
import time
from typing import IO, Any

#: A content or response in a line for a person; characters.
MAX_SHOWN = 160
#: Earlier than this (2025-01-01) a clock was never set, later (9999) it is no time at all.
_PLAUSIBLE = range(1_735_689_600, 253_370_764_800)


def plain(text: str) -> str:
    """``text`` without anything that a terminal would obey, one line: it may come from a stranger.

    Controls, line ends, directions of writing, lone surrogates and the like are spelt out.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(char: str) -> str:
    return char if char.isprintable() else repr(char)[1:-1]


def shown(value: Any, limit: int = MAX_SHOWN) -> str:
    """A content or response for a person: a text as it is, anything else as JSON, cut."""
    text = value if isinstance(value, str) else as_json(value)
    text = plain(text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def jsonable(value: Any) -> Any:
    """``value`` as JSON has it: bytes as {"base64": …}, other keys and numbers as texts.

    What JSON cannot say at all is said by its ``repr``; two keys that would be one stay two.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _no_surrogates(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(each) for each in value]
    if isinstance(value, dict):
        made: dict[str, Any] = {}
        for key, each in value.items():
            name = _no_surrogates(key if isinstance(key, str) else _key(key))
            while name in made:
                name += "'"
            made[name] = jsonable(each)
        return made
    return _no_surrogates(repr(value))


def _key(key: object) -> str:
    return str(jsonable(key)) if not isinstance(key, bytes) else repr(key)


def _no_surrogates(text: str) -> str:
    """Lone surrogates are no text in any encoding (RFC 8259, 8.2)."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def as_json(value: Any) -> str:
    """``value`` as strict JSON (RFC 8259), one line, other than ASCII as it is."""
    return json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False)


def as_text(value: object) -> str:
    """A value for a command's variable: a text as it is, nothing as nothing, else JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _no_surrogates(value).replace("\0", "")
    return as_json(value)


def is_plausible(seconds: float | None) -> bool:
    """Whether a clock that was set may have said it: others' are whatever a stranger sends."""
    return seconds is not None and _PLAUSIBLE.start <= seconds < _PLAUSIBLE.stop


def at_time(seconds: float | None) -> str:
    """`` at 2026-01-31 12:00``, local time; empty where a clock that was never set said it."""
    if seconds is None or not is_plausible(seconds):
        return ""
    try:
        return time.strftime(" at %Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return ""


def write(text: str, out: IO[str] | None) -> None:
    """Write ``text`` to ``out``, at once. Raises nothing but :class:`BrokenPipeError`.

    What the output cannot spell is spelt out in ASCII; what it cannot take, as a full disk, is
    lost, and tried anew with the next line: nothing waits in a buffer.
    """
    if out is None:
        return
    try:
        out.flush()
        number = out.fileno()
    except BrokenPipeError:
        raise
    except (OSError, ValueError):  # no file at all, or closed
        with contextlib.suppress(OSError, ValueError):
            out.write(text)
            out.flush()
        return
    data = text.encode(getattr(out, "encoding", None) or "utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(number, data) :]
    except BrokenPipeError:
        raise
    except OSError:
        return


def say(text: str) -> None:
    """One line of a service, for a terminal or the journal; never raises."""
    with contextlib.suppress(BrokenPipeError):
        write(plain(text) + "\n", sys.stdout)


def complain(text: str) -> None:
    """One line on standard error; never raises."""
    with contextlib.suppress(BrokenPipeError):
        write(plain(text) + "\n", sys.stderr)


class LineHandler(logging.Handler):
    """Log records on standard error, each one line whatever is in it; a traceback below it."""

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 # a record that cannot be told is still told of
            text = f"{record.levelname}: {record.msg!r} with {record.args!r}"
        trace = text.splitlines() if record.exc_info else [text]
        with contextlib.suppress(BrokenPipeError):
            write("".join(plain(line) + "\n" for line in trace), sys.stderr)
