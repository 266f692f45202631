"""The time zone: quiet hours are local time, and a card that nobody told has London's."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ...client.link.text_file import TextFileError, read_text

_ZONES = Path("/usr/share/zoneinfo")


def check_timezone(name: str) -> str:
    """``name`` if there is such a time zone, else ``ValueError``."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", name) or (
        _is_zone("Europe/Berlin") and not _is_zone(name)  # unless this system knows none
    ):
        raise ValueError(
            f"{name!r}: there is no such time zone; they are called as Europe/Berlin is"
        )
    return name


def _is_zone(name: str) -> bool:
    return (_ZONES / name).is_file()


def local_timezone(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> str | None:
    """The time zone of this machine by its name; None where it does not tell."""
    said = [environ.get("TZ", "").removeprefix(":")]
    said += [os.path.realpath(root / "etc/localtime").rpartition("zoneinfo/")[2]]
    with contextlib.suppress(TextFileError):
        said += [read_text(root / "etc/timezone").strip()]
    for name in said:
        with contextlib.suppress(ValueError):
            return check_timezone(name.removeprefix("posix/").removeprefix("right/"))
    return None


def described(now: datetime | None = None) -> str:
    """``Europe/Berlin (CET, UTC+01:00)``: the zone in which this machine tells the time."""
    here = (now or datetime.now(UTC)).astimezone()
    offset = f"{here:%z}"
    return f"{local_timezone() or 'of no name'} ({here:%Z}, UTC{offset[:3]}:{offset[3:5]})"
