"""Keys in place of pins: a name or a number and Enter presses that button (``--keyboard``)."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from ...client.display import say
from ..config.account import InputPin, OutputPin
from .pins import Input, OnEdge, Output

#: How long a key holds its button: longer than the longest bounce time worth having.
HOLD = 0.15


class KeyboardPins:
    """Buttons by their names, their numbers or their first letter; ``q`` or end of file quits.

    Lights and bells show nothing: what they would tell is printed by the services anyway.
    """

    def __init__(self, quit_: Callable[[], None], lines: TextIO | None = None) -> None:
        self._quit = quit_
        self._lines = lines or sys.stdin
        self._keys: dict[str, _Key] = {}
        self._names: list[str] = []
        self._thread = threading.Thread(target=self._read, name="bellwire-keys", daemon=True)

    def watch(self, name: str, pin: InputPin, on_edge: OnEdge) -> Input:
        """See :class:`Pins`."""
        key = _Key(on_edge, max(HOLD, 2 * pin.bounce_time))
        self._names.append(name)
        for word in (name.lower(), str(len(self._names)), name[0].lower()):
            self._keys.setdefault(word, key)
        return key

    def output(self, name: str, pin: OutputPin) -> Output:  # noqa: ARG002 # the port's signature
        """See :class:`Pins`."""
        return _Nothing()

    def start(self) -> None:
        """Begin to read, once all buttons are known."""
        self._thread.start()

    def close(self) -> None:
        """See :class:`Pins`. The thread ends with the process: reading cannot be interrupted."""

    def help(self) -> str:
        """One line that says what to type."""
        return f"type and press Enter: {', '.join(self._names)} (Enter alone is {self._first}), q"

    @property
    def _first(self) -> str:
        return self._names[0] if self._names else "nothing"

    def _read(self) -> None:
        reconfigure = getattr(self._lines, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a key of another keyboard is a wrong key, no end
        for line in self._lines or ():
            word = line.strip().lower()
            if word in ("q", "quit"):
                break
            key = self._keys.get(word) or (
                next(iter(self._keys.values()), None) if not word else None
            )
            if key is None:
                say(f"no button {word!r}; {self.help()}")
                continue
            key.press()
        self._quit()


class _Key:
    def __init__(self, on_edge: OnEdge, hold: float) -> None:
        self._on_edge = on_edge
        self._hold = hold
        self._down = False

    def active(self) -> bool:
        """See :class:`Input`."""
        return self._down

    def press(self) -> None:
        """Down, and up again."""
        for down in (True, False):
            self._down = down
            self._on_edge(down)
            time.sleep(self._hold)


class _Nothing:
    def set(self, on: bool) -> None:
        """See :class:`Output`."""
