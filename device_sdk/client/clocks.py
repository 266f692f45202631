"""What time it is: since when, for deadlines; and of the day, for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from ..core.wire.keys import MAX_UINT


def _counting_sleep() -> Callable[[], float]:
    """A clock that goes on while the machine sleeps, or ``time.monotonic`` where that is it.

    A laptop that wakes finds its calls over, as they are for everybody else. ``CLOCK_BOOTTIME`` is
    Linux's; on macOS ``CLOCK_MONOTONIC`` counts sleep and ``time.monotonic`` does not.
    """
    name = "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    number: int | None = getattr(time, name, None)
    if number is None:
        return time.monotonic
    clock = partial(time.clock_gettime, number)
    try:
        clock()
    except OSError:  # an old kernel, or a sandbox
        return time.monotonic
    return clock


#: Seconds that only go forward, sleep included.
since_start = _counting_sleep()


def unix_time(wall: Callable[[], float]) -> int | None:
    """Whole seconds since 1970, or None where the clock cannot be believed: it is advice only."""
    try:
        seconds = int(wall())
    except Exception:  # noqa: BLE001 - NaN, infinite, nothing, or it raises: then there is no time
        return None
    return seconds if 0 <= seconds <= MAX_UINT else None
