"""What is on its way to a session: one message, or the retained ones that it subscribed to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from .retained import Retained

#: Places looked at for retained messages before other clients get their turn.
_SEARCH = 2000


class Out:
    """One delivery to one session: waiting, sent, or (QoS 2) received there."""

    __slots__ = ("data", "own", "qos", "received", "retain", "row", "topic", "wire_topic")

    def __init__(
        self, topic: str, wire_topic: bytes, data: bytes, qos: int, retain: bool, row: int = 0
    ) -> None:
        self.topic = topic
        self.wire_topic = wire_topic
        self.data = data
        self.qos = qos
        self.retain = retain
        #: Its row in the journal; 0 for none.
        self.row = row
        self.received = False
        #: Whether its receiver has sent it itself.
        self.own = False


class Burst:
    """The retained messages that a subscription calls for, looked for and sent bit by bit.

    It waits as one entry, however many they are: nothing is copied for who does not take it.
    """

    __slots__ = ("asked", "begun", "filter", "found", "qos", "row", "search")

    def __init__(
        self,
        topic_filter: str,
        qos: int,
        search: Iterator[Retained | None],
        row: int,
        *,
        asked: bool,
    ) -> None:
        self.filter = topic_filter
        self.qos = qos
        self.row = row
        #: Whether it is known which of them the client may receive.
        self.asked = asked
        #: Whether some of it has been looked for.
        self.begun = False
        self.search: Iterator[Retained | None] | None = search
        self.found: deque[Retained] = deque()

    def look(self) -> bool:
        """Look at some more places; whether all is found, then in the order of publishing."""
        self.begun = True
        if self.search is not None:
            steps = list(islice(self.search, _SEARCH))
            self.found += [kept for kept in steps if kept is not None]
            if len(steps) == _SEARCH:
                return False
            self.search = None
            self.found = deque(sorted(self.found, key=lambda kept: kept.order))
        return True
