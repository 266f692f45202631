"""Work that waits: for time, for its turn, for a verdict, for the journal. Knows no MQTT."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import Any

from .journal import Journal
from .session import ClientLink

logger = logging.getLogger(__name__)

#: Why a link's packets wait: for a verdict or a commit, for its rate, for a full receiver.
ASKING, RATE, FULL = 1, 2, 4

#: A piece of work that may wait: yields where it needs a verdict or a commit, and is sent it.
Steps = Generator[None, bool, None]


class Turns:
    """The parts of a router that go on later. ``now`` is the time of what is being handled."""

    def __init__(self, journal: Journal, now: float) -> None:
        self.journal = journal
        self.now = now
        self._timers: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._timer = 0
        self._ready: dict[ClientLink, None] = {}
        self._steps: dict[object, Steps] = {}
        self._commits: deque[tuple[int, object]] = deque()
        self._holding: dict[ClientLink, None] = {}

    def end(self, link: ClientLink, cause: str, *, abort: bool = False) -> None:
        """End a connection, counted by ``cause``; ``abort``: what is unsent is thrown away."""
        raise NotImplementedError

    def turn(self, link: ClientLink) -> None:
        """Do for ``link`` what others' turns leave time for."""
        raise NotImplementedError

    def broke(self, link: ClientLink | None, error: Exception) -> None:
        """What was done for ``link`` failed: whatever it is, it is this client's alone."""
        logger.error("serving %s failed; its connection is closed", link, exc_info=error)
        if link is not None:
            self.end(link, "error")

    def guard(self, link: ClientLink | None, what: Callable[[Any], None], whom: Any) -> None:
        """Call ``what``; a fault in it stops nobody else."""
        try:
            what(whom)
        except Exception as error:  # noqa: BLE001 - told, and its connection ends
            self.broke(link, error)

    # --- time, and whose turn it is -----------------------------------------------------------

    def at(self, seconds: float, what: Callable[[Any], None], whom: Any) -> None:
        """Call ``what`` with ``whom`` in ``seconds``."""
        self._timer += 1
        heappush(self._timers, (self.now + seconds, self._timer, what, whom))

    def deadline(self) -> float:
        """When :meth:`tick` is due; now, while some link waits for its turn."""
        return self.now if self._ready else self._timers[0][0]

    def tick(self, now: float) -> None:
        """Do what time has made due, and give every link that wants one a turn.

        What one of these wants done at once is done in the next tick: others come in between.
        """
        self.now = now
        due = []
        while self._timers and self._timers[0][0] <= now:
            due.append(heappop(self._timers))
        for _, _, what, whom in due:
            self.guard(whom if isinstance(whom, ClientLink) else None, what, whom)
        ready, self._ready = self._ready, {}
        for link in ready:
            if not link.closed:
                self.guard(link, self.turn, link)

    def later(self, link: ClientLink) -> None:
        """Go on with ``link`` in its next turn."""
        self._ready[link] = None

    def go_on(self, link: ClientLink, bit: int) -> None:
        """``link`` waits for ``bit`` no more."""
        link.waits &= ~bit
        if not link.waits and not link.closed:
            self.later(link)

    # --- verdicts and commits -------------------------------------------------------------------

    def run(self, key: object, steps: Steps) -> bool:
        """Take ``steps`` as far as they go without waiting; whether that is to their end."""
        for _ in steps:
            self._steps[key] = steps
            if isinstance(key, ClientLink):
                key.waits |= ASKING
            return False
        return True

    def verdict(self, key: object, fits: bool, now: float) -> None:
        """What the steps of ``key`` wait for: allowed or not, kept or not."""
        self.now = now
        steps = self._steps.pop(key, None)
        if steps is None:
            return  # its link has ended
        link = key if isinstance(key, ClientLink) else None
        try:
            steps.send(fits)
        except StopIteration:
            if link is not None:
                self.go_on(link, ASKING)
        except Exception as error:  # noqa: BLE001 - told, and its connection ends
            self.broke(link, error)
        else:
            if link is None or not link.closed:
                self._steps[key] = steps

    def is_kept(self, key: object) -> bool:
        """Whether all that was noted is kept; else steps of ``key`` are to yield for it."""
        if self.journal.noted == self.journal.done:
            return True
        self._commits.append((self.journal.noted, key))
        return False

    def acknowledge(self, link: ClientLink, data: bytes, since: int) -> None:
        """Send ``data`` once all is kept that was noted after ``since``, if that is anything."""
        noted = self.journal.noted
        link.hold(data, noted if noted > since else 0)
        self.held(link)

    def held(self, link: ClientLink) -> None:
        """Come back to ``link`` when the journal is kept, if it holds anything."""
        if link.held:
            self._holding[link] = None

    def committed(self, mark: int, now: float) -> None:
        """The journal is kept up to ``mark``."""
        self.now = now
        self.journal.refusing = False
        self.journal.done = max(self.journal.done, mark)
        while self._commits and self._commits[0][0] <= self.journal.done:
            self.verdict(self._commits.popleft()[1], True, now)
        for link in list(self._holding):
            link.let_go()
            if not link.held:
                del self._holding[link]

    def failed(self, now: float) -> None:
        """The journal cannot be kept: who waits for it gets no acknowledgement and is cut."""
        self.now = now
        if self.journal.refusing:
            return  # what was taken since clears and forgets: it is acknowledged in the end
        self.journal.refusing = True
        commits, self._commits = self._commits, deque()
        for _, key in commits:
            self.verdict(key, False, now)
        for link in list(self._holding):
            self.end(link, "not stored")

    def forget(self, link: ClientLink) -> None:
        """``link`` has ended: nothing of it goes on."""
        for kept in (self._steps, self._holding, self._ready):
            kept.pop(link, None)
        link.held = None
