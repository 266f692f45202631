"""What doorbell and panel services share: signals, the link's state, where lines go."""

from __future__ import annotations

import signal
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from ...client.display import say
from ...client.logs import Log
from .loop import Loop
from .notify import Notifier

log = Log("bellwire.pi")


class Exit(IntEnum):
    """The exit codes of the services; systemd does not restart after the last two."""

    OK = 0
    #: Something failed that may mend itself: started again.
    FAILED = 1
    #: The settings or the wiring need a person.
    SETTINGS = 2
    #: Another login with the same peer id took over; starting again would only take it back.
    SUPERSEDED = 17


class LinkState:
    """Turns the link's news into status, readiness and lines; both services have one."""

    def __init__(self, peer: str, broker: str, notifier: Notifier, loop: Loop) -> None:
        self._peer = peer
        self._broker = broker
        self._notifier = notifier
        self._loop = loop
        self._online: bool | None = None
        self._trouble = ""

    def online(self, online: bool) -> bool:
        """Note the link's state; whether it is news."""
        if online == self._online or (self._online is None and not online):
            return False
        self._online = online
        self._trouble = ""
        if online:
            self._notifier.ready(f"online as {self._peer} at {self._broker}")
            say(f"online as {self._peer} at {self._broker}")
        else:
            self._notifier.status(f"offline: {self._broker} is away")
            say(f"offline: {self._broker} is away; trying again")
        return True

    def trouble(self, problem: str) -> None:
        """Say why logging in fails, once for each cause."""
        self._notifier.status(f"not logged in: {problem}")
        if problem != self._trouble:
            self._trouble = problem
            log.warning("not logged in: %s; trying again", problem)

    def lost(self, problem: str) -> None:
        """End: the client failed, and whoever starts this service starts it afresh."""
        log.error("the client is done: %s; ending, to be started afresh", problem)
        self._loop.stop(Exit.FAILED)

    def superseded(self) -> None:
        """End: somebody else is this peer now."""
        log.error("another login as %s took over; is the id used twice?", self._peer)
        self._loop.stop(Exit.SUPERSEDED)


def stop_on_signals(loop: Loop) -> Callable[[], None]:
    """SIGTERM and SIGINT end the loop; returns what puts the former handlers back."""

    def stop(_number: int, _frame: Any) -> None:
        loop.stop(Exit.OK)

    former = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    return restore
