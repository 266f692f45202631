"""Quiet hours: pure, local wall time as argument.

``"22:00-07:00"``, ``"sat-sun 13:00-15:00"``, ``"mon,wed 09:00-12:00"``. A window that ends before
it begins runs into the next day and belongs to the day on which it began.
"""

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from ..errors import InvalidArgument

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ALL_DAYS = frozenset(range(len(_DAYS)))
_WINDOW = r"(?:(?P<days>[a-z,\- ]+)\s+)?(?P<start>\d\d?:\d\d)\s*-\s*(?P<end>\d\d?:\d\d)"
#: A clock that shows an earlier year was never set (a Pi without network has no time).
FIRST_PLAUSIBLE_YEAR = 2025


class Window(NamedTuple):
    """From ``start`` to ``end`` (minutes of the day) on each of ``days`` (0 is Monday)."""

    days: frozenset[int]
    start: int
    end: int

    def covers(self, when: datetime) -> bool:
        """Whether ``when`` (local time) lies in it."""
        minute = when.hour * 60 + when.minute
        if self.start < self.end:
            return when.weekday() in self.days and self.start <= minute < self.end
        yesterday = (when - timedelta(days=1)).weekday()
        return (when.weekday() in self.days and minute >= self.start) or (
            yesterday in self.days and minute < self.end
        )


def check_window(window: Window) -> Window:
    """``window`` if there can be such a one, else :class:`InvalidArgument`."""
    days, start, end = window
    whole = all(type(each) is int and 0 <= each <= 24 * 60 for each in (start, end))
    if not whole or start == end or not isinstance(days, frozenset) or not days <= _ALL_DAYS:
        raise InvalidArgument("quiet", f"no time window: {window!r}")
    return window


def parse_window(text: str) -> Window:
    """A window from its text; ``ValueError`` says what is wrong with it."""
    match = re.fullmatch(_WINDOW, text.strip().lower(), re.ASCII)
    if match is None:
        raise ValueError(
            f'{text!r} is no time window; write "22:00-07:00" or "sat-sun 13:00-15:00"'
        )
    start, end = _minutes(match["start"]), _minutes(match["end"])
    if start == end:
        raise ValueError(f'{text!r} begins when it ends; for all day write "00:00-24:00"')
    return Window(_days(match["days"] or "mon-sun"), start, end)


def is_quiet(windows: tuple[Window, ...], when: datetime) -> bool:
    """Whether ``when`` lies in quiet hours. A clock that was never set is never quiet.

    To ring at night is a nuisance, to stay silent because the clock says 1970 is a fault.
    """
    return when.year >= FIRST_PLAUSIBLE_YEAR and any(window.covers(when) for window in windows)


def _minutes(text: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise ValueError(f"{text!r} is no time of day (00:00 to 24:00)")
    return hours * 60 + minutes


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        for name in (first, last or first):
            if name not in _DAYS:
                raise ValueError(f"{name!r} is no day; they are {', '.join(_DAYS)}")
        start, end = _DAYS.index(first), _DAYS.index(last or first)
        days.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(days)
