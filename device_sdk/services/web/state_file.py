"""What a page keeps over restarts: the key of its cookies, and whether it may ring aloud.

One small file beside the history, written when one of the two changes, never for a call. Where
nothing can be written, a restart asks everybody to sign in again.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path

from ...client.link.text_file import TextFileError, read_text
from ...client.logs import Log
from ...core.wire.topics import escape

log = Log("bellwire.pi")
KEY_BYTES = 32


class PageState:
    """``key`` and ``disturb`` of the page of ``peer``, as they were, or new ones."""

    def __init__(self, peer: str, folder: Path) -> None:
        self._path = folder / f"page-{escape(peer)}.json"
        self.key = secrets.token_bytes(KEY_BYTES)
        self.disturb = True
        with contextlib.suppress(TextFileError, ValueError, TypeError, KeyError):
            kept = json.loads(read_text(self._path, 4096))
            key = bytes.fromhex(kept["key"])
            if len(key) == KEY_BYTES:
                self.key, self.disturb = key, kept["disturb"] is not False
                return
        self._write()

    def set_disturb(self, disturb: bool) -> None:
        """Keep that."""
        if disturb != self.disturb:
            self.disturb = disturb
            self._write()

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        try:
            new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            new.touch(0o600, exist_ok=False)
            new.write_text(json.dumps({"key": self.key.hex(), "disturb": self.disturb}))
            new.replace(self._path)
        except OSError as error:
            log.warning(
                "%s cannot be written: %s; after a restart everybody has to sign in again",
                self._path,
                error.strerror or error,
            )
