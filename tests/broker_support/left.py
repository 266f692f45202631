"""Whether anything of a call is left at a broker, of whatever make.

A node of NATS at which somebody subscribes about when a cell is said or cleared at another one may
give it out for two minutes more (docs/brokers.md): who looks again and again until all is cleared
brings about what he looks for. So where there are several nodes one subscriber follows, best from
before the call, what is said and cleared; what each node gives to somebody new is asked after that.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from tests.servers import BrokerProcess

from .raw import Raw


class Standing:
    """The cells under ``filters`` that stand at a broker; ``name`` and ``login`` are who looks."""

    def __init__(
        self, broker: BrokerProcess, *filters: str, name: str = "looks", **login: str
    ) -> None:
        self._filters, self._name, self._login = filters, name, login
        self._qos = broker.subscribe_qos
        self._ports = [int(url.rpartition(":")[2]) for url in broker.urls]
        self._followed: dict[str, bytes] = {}
        several = len(self._ports) > 1
        self._follower = self._subscribed(self._ports[0], "follows") if several else None

    def close(self) -> None:
        """Follow no more."""
        if self._follower is not None:
            self._follower.close()

    def now(self) -> list[str]:
        """Topic and node of each."""
        return self.followed() or self.stored()

    def followed(self) -> list[str]:
        """The topic of each that the follower was told of and not that it is cleared."""
        if self._follower is not None:
            for message in self._follower.gather():
                self._followed[message.topic] = message.data
        return [topic for topic, data in self._followed.items() if data]

    def stored(self) -> list[str]:
        """Topic and node of each that is given to somebody new."""
        with contextlib.ExitStack() as stack:
            nodes = [
                stack.enter_context(self._subscribed(port, f"node{number}"))
                for number, port in enumerate(self._ports, 1)
            ]
            found = []
            for number, node in enumerate(nodes, 1):
                found += [f"{m.topic} at node {number}" for m in node.gather() if m.data]
                for each in nodes:
                    each.patient = False  # they had the time that the first was given
            return found

    def until_none(
        self, seconds: float, meanwhile: Callable[[list[str]], None] = lambda _left: None
    ) -> None:
        """Wait until nothing stands anywhere; raises ``AssertionError``.

        ``meanwhile`` is told each time what does.
        """
        deadline = time.monotonic() + seconds
        while left := self.now():
            assert time.monotonic() < deadline, f"cells are left at the broker: {left}"
            meanwhile(left)
            threading.Event().wait(0.1)  # the broker has no way to say that it has cleared

    def _subscribed(self, port: int, what: str) -> Raw:
        raw = Raw(port, patient=len(self._ports) > 1)
        try:
            assert raw.connect(f"{self._name}:{what}", keep_alive=0, **self._login) == 0
            raw.subscribe(*self._filters, qos=self._qos)
        except BaseException:
            raw.close()
            raise
        return raw


def cells_of(realm: str) -> tuple[str, str]:
    """The filters of every cell of a call in ``realm``."""
    return f"{realm}/v1/+/invite/#", f"{realm}/v1/+/answer/#"


def nothing_is_left(broker: BrokerProcess, realm: str) -> None:
    """No cell of a call is at the broker any more, within a moment."""
    with contextlib.closing(Standing(broker, *cells_of(realm))) as standing:
        standing.until_none(15)
