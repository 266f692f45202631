"""One device of a fleet: a session and engine as on a real one, on a light connection."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...client.link.base import Will
from ...core.connection import Closed, CloseLink, LoginEnded, LoginSession, OpenLink
from ...core.effects import (
    DeadlineReached,
    Disconnected,
    Dropped,
    Emit,
    Input,
    LinkFailed,
    LinkInput,
    Logout,
    Publish,
    Subscribe,
    Unsubscribe,
)
from ...core.engine import Engine
from ...core.events import ConnectionStateChanged, CoreEvent
from ...core.settings import Settings
from ...core.wire import topics
from ...errors import LoginError
from ...states import ConnectionState
from . import packets
from .connection import Address, FleetConnection, why

#: A login is tried for so long, link or no link: who waits for all has a time of its own.
_PATIENCE = 3600.0


class FleetSite(NamedTuple):
    """What all devices of a fleet have in common."""

    addresses: Sequence[Address]
    realm: str
    keepalive: int
    subscribe_qos: int
    settings: Settings


class FleetDevice:
    """A peer; ``told`` hears its events, ``changed`` that it can be called or no longer."""

    def __init__(
        self,
        name: str,
        password: str | None,
        number: int,
        site: FleetSite,
        told: Callable[[FleetDevice, CoreEvent], None],
        changed: Callable[[FleetDevice], None],
    ) -> None:
        self.name = name
        self.password = password
        self.site = site
        self.linked = False
        #: Why the last attempt failed.
        self.error: LoginError | None = None
        self.traffic: Counter[str] = Counter()
        self._told = told
        self._changed = changed
        self._number = number
        self._tried = 0  # which address is next
        self._session: LoginSession | None = None
        self._connection: FleetConnection | None = None
        self._dial: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # --- what is asked of it -----------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it has power."""
        return self._session is not None

    def start(self) -> None:
        """Log in anew, as after power on."""
        self._closed = asyncio.Event()
        engine = Engine(
            self.name, secrets.token_bytes(8), realm=self.site.realm, settings=self.site.settings
        )
        self._session = LoginSession(engine, random=random.random, keep_trying=True)
        self._session.start(_PATIENCE, time.monotonic())
        self._perform()

    def cut(self) -> None:
        """Lose the connection; the session goes on."""
        if self._connection is not None:
            self._connection.cut()

    def power_off(self) -> None:
        """Lose everything: no goodbye, and nobody who remembers."""
        self._session = None
        self._hang_up(clean=False)
        self._become(linked=False)

    async def log_out(self, patience: float) -> None:
        """Log out in due form, as far as the broker lets it within ``patience`` seconds."""
        session = self._session
        if session is None:
            return
        if self.linked:
            self.feed(Logout())
            try:
                async with asyncio.timeout(patience):
                    await self._closed.wait()
            except TimeoutError:
                pass
        self.power_off()

    def feed(self, what: Input | LinkInput) -> None:
        """Let the session take ``what``, and do what it says; raises as the engine does."""
        session = self._session
        if session is not None:
            try:
                session.handle(what, time.monotonic(), int(time.time()))
            finally:
                self._perform()

    def tick(self, now: float) -> None:
        """Look after the keep-alive."""
        if self._connection is not None:
            self._connection.tick(now)

    def happened(self, connection: FleetConnection, what: LinkInput) -> None:
        """See :class:`~.connection.Owner`."""
        if connection is self._connection:
            if isinstance(what, Disconnected | LinkFailed):
                self._connection = None
                self._lost(what.error if isinstance(what, LinkFailed) else None)
            self.feed(what)

    # --- feed, perform, re-arm ---------------------------------------------------------------

    def _perform(self) -> None:
        session = self._session
        while session is not None and (effects := session.effects()):
            for effect in effects:
                if isinstance(effect, Publish):
                    if self._connection is not None:
                        self._connection.publish(effect.topic, effect.payload, effect.token)
                elif isinstance(effect, Emit):
                    self._tell(effect.event)
                elif isinstance(effect, Subscribe):
                    if self._connection is not None:
                        self._connection.subscribe(effect.filters)
                elif isinstance(effect, Unsubscribe):
                    if self._connection is not None:
                        self._connection.unsubscribe(effect.filters)
                elif isinstance(effect, OpenLink):
                    self._dial = self._loop.create_task(self._open(session))
                elif isinstance(effect, CloseLink):
                    self._hang_up(clean=effect.clean)
                elif isinstance(effect, Closed):
                    self._closed.set()
                elif not isinstance(effect, LoginEnded | Dropped):
                    raise TypeError(f"an effect that a fleet does not know: {effect!r}")
            session = self._session
        self._rearm()

    def _tell(self, event: CoreEvent) -> None:
        if isinstance(event, ConnectionStateChanged):
            self._become(linked=event.state is ConnectionState.CONNECTED)
        self._told(self, event)

    def _become(self, *, linked: bool) -> None:
        if linked is not self.linked:
            self.linked = linked
            self._changed(self)

    def _rearm(self) -> None:
        """One timer, moved only when something is due before it: most things come to nothing."""
        session, timer = self._session, self._timer
        if session is not None and timer is not None and not session.due_before(timer.when()):
            return
        deadline = None if session is None else session.deadline()
        if deadline is None:
            if timer is not None:
                timer.cancel()
                self._timer = None
        else:
            if timer is not None:
                timer.cancel()
            # asyncio's clock is time.monotonic(), on every loop that there is.
            self._timer = self._loop.call_at(deadline, self._due)

    def _due(self) -> None:
        self._timer = None
        session = self._session
        deadline = None if session is None else session.deadline()
        if deadline is not None and deadline <= time.monotonic():
            self.feed(DeadlineReached())
        else:
            self._rearm()

    # --- the link ----------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """Where it connects now: spread over all, the next one after each failure."""
        addresses = self.site.addresses
        return addresses[(self._number + self._tried) % len(addresses)]

    async def _open(self, session: LoginSession) -> None:
        address, will = self.address, Will(*session.engine.will())
        user = None if self.password is None else topics.escape(self.name)
        greeting = packets.connect(
            will.client_id, self.site.keepalive, will=will, username=user, password=self.password
        )
        made = FleetConnection(
            self, greeting, self.site.keepalive, self.site.subscribe_qos, self.traffic
        )
        try:
            self._connection = made
            await self._loop.create_connection(
                lambda: made, address.host, address.port,
                ssl=address.context, server_hostname=address.server_name,
            )  # fmt: skip
        except OSError as error:
            if self._connection is made:
                self._connection = None
                failed = why(address, error)
                self._lost(failed)
                self.feed(LinkFailed(failed))

    def _lost(self, error: LoginError | None) -> None:
        self.error = error or self.error
        self._tried += 1

    def _hang_up(self, *, clean: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(clean=clean)
