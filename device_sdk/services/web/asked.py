"""What a browser asks of a page's state, and what comes of it: words that travel, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class Stage(StrEnum):
    """Where a call is, for the page."""

    RINGING = "ringing"
    #: Accepted here; the caller has not decided yet.
    ANSWERING = "answering"
    REFUSING = "refusing"
    #: Both are in it.
    UP = "up"


class Door(StrEnum):
    """What became of *open* in a call."""

    ASKED = "asked"
    OPEN = "open"
    NOT_OPENED = "not opened"
    #: Asked, and not answered in time.
    UNKNOWN = "unknown"


class Problem(StrEnum):
    """Why what a browser asked is not done; :mod:`.words` has the sentences."""

    #: Somebody else was first.
    ANSWERED = "answered"
    REFUSED = "refused"
    #: There is no such call any more.
    OVER = "over"
    #: It rings, or is being answered: nobody is in it yet.
    NOT_UP = "not up"
    #: The door was asked a moment ago.
    ASKED = "asked"
    #: The browser's answer does not fit.
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True)
class AcceptIt:
    """Accept that call with ``response`` (None: the panel's own)."""

    call: str
    response: Any = None


@dataclass(frozen=True, slots=True)
class RefuseIt:
    """Refuse that call."""

    call: str


@dataclass(frozen=True, slots=True)
class SayIt:
    """Say ``message`` in that call."""

    call: str
    message: Any


@dataclass(frozen=True, slots=True)
class HangUpIt:
    """Hang up that call."""

    call: str


Effect = AcceptIt | RefuseIt | SayIt | HangUpIt


class Verdict(NamedTuple):
    """What is to be done, or why not; ``by`` is who was first, where that is known."""

    effects: tuple[Effect, ...] = ()
    problem: Problem | None = None
    by: str = ""


class Asker(NamedTuple):
    """Which tab asks, and for whom; both may be empty."""

    tab: str = ""
    user: str = ""


NOBODY = Asker()
