"""The connection to the MQTT broker that Home Assistant has: it reconnects, and sends nothing old.

One thread owns it. What is published while it is away is dropped: the bridge says again what still
holds when it is back.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ...client.link.base import Will
from ...client.link.paho import PahoLink
from ...core.effects import (
    Connected,
    Disconnected,
    LinkFailed,
    MessageReceived,
    PublishAcked,
    Subscribed,
)
from ...errors import LoginError

#: Between two attempts, in seconds: at least, and at most.
RETRY = (0.5, 10.0)
#: Looked after at least so often, in seconds.
_TICK = 1.0


class HaEvents:
    """What comes of it, on the loop's thread."""

    def on_ha_up(self) -> None:
        """Connected and subscribed."""

    def on_ha_down(self, problem: str) -> None:
        """The connection is lost, or could not be made; it is tried again."""

    def on_ha_message(self, topic: str, payload: bytes, retained: bool) -> None:
        """A message."""

    def on_ha_acknowledged(self, token: int) -> None:
        """The broker has that publish."""

    def on_ha_failed(self, error: BaseException) -> None:
        """The thread has failed: start afresh."""


class HaConnection:
    """Start it, :meth:`publish` from any thread, :meth:`stop`.

    ``make`` makes a new connection with the will that it is given.
    """

    def __init__(
        self,
        make: Callable[[Will], PahoLink],
        will: Will,
        filters: tuple[str, ...],
        events: HaEvents,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._make, self._will, self._filters = make, will, filters
        self._events, self._post = events, post
        self._outgoing: deque[tuple[str, bytes, bool, int | None]] = deque()
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._stopping = threading.Event()
        #: Whether what is published is sent; false the moment that the connection is lost.
        self._up = False
        self._thread = threading.Thread(target=self._run, name="bellwire-ha", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye; waits for it, bounded."""
        self._stopping.set()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(5.0)

    def publish(self, topic: str, payload: bytes, retain: bool, token: int | None = None) -> None:
        """Publish, QoS 1, if there is a connection."""
        if self._up:
            self._outgoing.append((topic, payload, retain, token))
            self._wake()

    @property
    def online(self) -> bool:
        """Whether it is connected and subscribed."""
        return self._up

    def pulse(self, beat: Callable[[], None]) -> None:
        """Have ``beat`` called if the thread lives."""
        if self._thread.is_alive():
            beat()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake; closed: it has ended
            os.write(self._wake_out, b".")

    # --- on its own thread -------------------------------------------------------------------

    def _run(self) -> None:
        wait = RETRY[0]
        try:
            while not self._stopping.is_set():
                link = self._make(self._will)
                if self._serve(link):
                    wait = RETRY[0]
                self._stopping.wait(wait * random.uniform(0.8, 1.2))  # noqa: S311 # not a secret
                wait = min(wait * 2, RETRY[1])
        except BaseException as error:  # noqa: BLE001 - its supervisor: a failure is an exit code
            failure = error
            self._post(lambda: self._events.on_ha_failed(failure))

    def _serve(self, link: PahoLink) -> bool:
        """One connection, to its end; whether it came to be subscribed."""
        was_up, problem = False, "the connection is lost"
        try:
            link.open()
            while not self._stopping.is_set():
                if (ended := self._turn(link)) is not None:
                    problem = ended
                    break
                was_up = was_up or self._up
        except LoginError as error:
            problem = str(error)
        finally:
            self._up = False
            link.close(clean=self._stopping.is_set())
            self._outgoing.clear()
        if not self._stopping.is_set():
            self._post(lambda: self._events.on_ha_down(problem))
        return was_up

    def _turn(self, link: PahoLink) -> str | None:
        """Wait for what comes, and deal with it; why the connection ended, if it did."""
        descriptor = link.fileno()
        if descriptor >= 0:
            writes = [descriptor] if link.wants_write() else []
            readable, writable, _ = select.select([descriptor, self._wake_in], writes, [], _TICK)
            if self._wake_in in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_in, 4096)
            if descriptor in readable:
                link.read()
            if writable:
                link.write()
            link.tick()
        for what in link.drain():
            if (ended := self._happened(link, what)) is not None:
                return ended
        if self._stopping.is_set():
            # What was said last goes out before the goodbye.
            self._send(link)
            return None
        link.acknowledge()
        self._send(link)
        return None if link.fileno() >= 0 else "the connection is lost"

    def _send(self, link: PahoLink) -> None:
        while self._up and self._outgoing:
            topic, payload, retain, token = self._outgoing.popleft()
            link.publish(topic, payload, token, retain=retain)

    def _happened(self, link: PahoLink, what: Any) -> str | None:
        events = self._events
        if isinstance(what, Connected):
            link.subscribe(self._filters)
        elif isinstance(what, Subscribed):
            if what.refused:
                return f"the broker does not let it listen to {', '.join(what.refused)}"
            self._up = True
            self._post(events.on_ha_up)
        elif isinstance(what, MessageReceived):
            topic, payload, retained = what.topic, what.payload, what.retained
            self._post(lambda: events.on_ha_message(topic, payload, retained))
        elif isinstance(what, PublishAcked):
            token = what.token
            self._post(lambda: events.on_ha_acknowledged(token))
        elif isinstance(what, Disconnected):
            return "the connection is lost"
        elif isinstance(what, LinkFailed):
            return str(what.error)
        return None
