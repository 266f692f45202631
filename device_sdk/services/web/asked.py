"""What a browser asks of a page's state, and what comes of it: words that travel, no behaviour."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ..logic.appliance import EndCall, SayInCall
from ..logic.panel import AcceptCall, RefuseCall


class Stage(StrEnum):
    """Where a call is, for the page."""

    RINGING = "ringing"
    #: Accepted here; the caller has not decided yet.
    ANSWERING = "answering"
    REFUSING = "refusing"
    #: Both are in it.
    UP = "up"


class DoorState(StrEnum):
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


#: What is to be done for a browser: as for a button of the panel.
PageEffect = AcceptCall | RefuseCall | SayInCall | EndCall


class PageVerdict(NamedTuple):
    """What is to be done, or why not; ``by`` is who was first, where that is known."""

    effects: tuple[PageEffect, ...] = ()
    problem: Problem | None = None
    by: str = ""


class Asker(NamedTuple):
    """Which tab asks, and for whom; both may be empty."""

    tab: str = ""
    user: str = ""


NOBODY = Asker()
