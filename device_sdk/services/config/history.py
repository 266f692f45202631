"""The table ``[history]``: where calls are kept, and how many."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .toml_reader import Table

#: Enough for a year of a busy door, some 200 KB.
KEEP = 1000


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """Where calls are kept and how many; ``keep`` 0: none. ``named``: the file has the table."""

    file: Path
    keep: int = KEEP
    named: bool = False

    def problem(self) -> str:
        """What keeps this user from writing it, as far as can be seen; "" for nothing."""
        if not self.keep:
            return ""
        # Not Path.exists(), which raises where this user may not look.
        if os.access(self.file, os.F_OK):
            usable = self.file.is_file() and os.access(self.file, os.W_OK)
            return "" if usable else f"{self.file} is no file that can be written"
        folder = next(each for each in self.file.absolute().parents if os.access(each, os.F_OK))
        usable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
        return "" if usable else f"{self.file} cannot be made: nothing can be written in {folder}"


def read_history_settings(
    root: Table, path: Path, peer: str, environ: Mapping[str, str] | None = None
) -> HistorySettings:
    """The table ``[history]``; a relative ``file`` is in systemd's state directory.

    Where there is none it is beside the settings file.
    """
    environ = os.environ if environ is None else environ
    named = "history" in root
    table = root.table("history")
    file = table.text("file", None)
    keep = table.whole("keep", KEEP, low=0, high=1_000_000)
    table.done()
    default = default_file(peer, environ)
    beside = default.parent if environ.get("STATE_DIRECTORY") else path.parent
    return HistorySettings(default if file is None else beside / file, keep, named)


def default_file(peer: str, environ: Mapping[str, str]) -> Path:
    """Where a peer's calls are kept if nothing is set: systemd's state directory, or the user's."""
    if state := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(state) / f"{peer}.history"
    own = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "/")) / ".local" / "state"
    return Path(own) / "bellwire" / f"{peer}.history"
