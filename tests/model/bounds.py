"""The bounds that ``make model`` explores, and the smaller ones of ``make test``."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .scenarios import glare, group, pair
from .search import Found, Search

TWO_PEERS: Final = (
    pair("two peers", time=(2, 2)),
    pair("two peers", cut=1),
    pair("two peers", wipe=1),
    pair("two peers", lose=1, time=(1, 1)),
    pair("two peers", repeat=1, time=(1, 0)),
    pair("two peers", restart=1),
    pair("two peers", defer=1),
    pair("two peers", logout=1),
    replace(pair("two peers", kill=1), prompt=True),
    replace(pair("two peers", forbid=1), prompt=True),
    replace(pair("two peers, screened", lose=1), screened=True),
    replace(pair("two peers", bridge=1, restart=1), prompt=True),
    replace(pair("two peers", bridge=1), prompt=True),
    replace(glare("both call, and accept"), verbs=("accept",)),
    replace(glare("both call, promptly", lose=1), prompt=True, verbs=("accept",)),
)
GROUPS: Final = (
    replace(group("group of two, accepting", 2), verbs=("accept",)),
    replace(group("group of two, accepting", 2, lose=1), prompt=True, verbs=("accept",)),
    replace(group("group of three, accepting", 3), prompt=True, verbs=("accept",), first=200_000),
    replace(
        group("group of two, accepting", 2, forbid=1), prompt=True, verbs=("accept",), first=30_000
    ),
)
#: Further ones, for ``--wide``: what they take is hours rather than minutes on a small machine.
WIDE: Final = (
    pair("two peers", restart=2),
    pair("two peers", cut=1, **{"late will": 1}),
    pair("two peers", cut=1, time=(1, 1)),
    pair("two peers", restart=1, repeat=1),
    pair("two peers", restart=1, lose=1),
    pair("two peers", cut=1, restart=1),
    glare("both call"),
    group("group of two", 2),
    replace(group("group of two, accepting", 2, restart=1), prompt=True, verbs=("accept",)),
    replace(group("group of two, accepting", 2, cut=1), prompt=True, verbs=("accept",)),
    replace(group("group of three, accepting", 3), prompt=True, verbs=("accept",)),
)
ALL: Final = (*TWO_PEERS, *GROUPS, *WIDE)
DEFAULT: Final = range(len(TWO_PEERS) + len(GROUPS))

SMALL: Final = (
    pair("two peers"),
    replace(pair("two peers, screened"), screened=True),
    pair("two peers", lose=1),
    replace(pair("two peers", forbid=1), prompt=True, first=10_000),
    replace(group("group of two, accepting", 2), verbs=("accept",), first=15_000),
)


def explore(number: int, most: int | None = None) -> Found:
    """One of all bounds; every second world is drained, and with it all that come after it."""
    return Search(ALL[number], most=most, drain_each=2).run()
