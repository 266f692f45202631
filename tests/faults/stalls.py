"""Whether this machine stood still: bounds in seconds say nothing of a call in such a time."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

#: How often it is looked, in seconds, and from when on a look that comes late is a standstill. A
#: shared machine is taken away now and then; what a busy one does in this suite stays below 0.3 s.
EVERY = 0.05
STOOD_STILL = 0.5


class Stalls:
    """Looks, while its ``with`` block runs, whether time goes on; ``worst``: the longest gap."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="stalls")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def stood_still(self) -> bool:
        return self.worst >= STOOD_STILL

    def _look(self) -> None:
        before = time.monotonic()
        while not self._over.wait(EVERY):
            now = time.monotonic()
            self.worst = max(self.worst, now - before - EVERY)
            before = now
