"""Bare connections: the ping-pong that a ring is measured beside, and the broom for the end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ...core.effects import (
    Connected,
    Disconnected,
    LinkFailed,
    LinkInput,
    MessageReceived,
    PublishAcked,
    Subscribed,
)
from ...core.wire import topics
from ...errors import BrokerUnreachable, LoginError, SubscriptionRefused
from . import packets
from .connection import Address, FleetConnection, why
from .device import FleetSite

#: As large as an invite is.
PING = bytes(120)
PATIENCE = 10.0
_SWEEPERS = 100
#: Of the ping-pong: a broker that thousands log in at may stand still for longer than PATIENCE.
_BALL_TIMEOUT = 60.0


class Bare:
    """A connection without an engine; what it waits for comes within :data:`PATIENCE`."""

    def __init__(
        self, name: str, password: str | None, site: FleetSite, traffic: Counter[str]
    ) -> None:
        self.name = name
        self._password = password
        self._site = site
        self._traffic = traffic
        self._loop = asyncio.get_running_loop()
        self._link: FleetConnection | None = None
        self._waited: asyncio.Future[Any] = self._loop.create_future()
        self._token = 0
        #: Messages that came and that nobody waited for.
        self.messages: list[MessageReceived] = []
        self._awaited: type[LinkInput] = Connected

    async def open(self, address: Address) -> None:
        """Connect; raises :class:`LoginError`."""
        user = None if self._password is None else topics.escape(self.name)
        greeting = packets.connect(
            f"{topics.escape(self.name)}:{secrets.token_hex(8)}", self._site.keepalive,
            username=user, password=self._password,
        )  # fmt: skip
        self._link = link = FleetConnection(
            self, greeting, self._site.keepalive, self._site.subscribe_qos, self._traffic
        )
        self._expect(Connected)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._loop.create_connection(
                    lambda: link, address.host, address.port,
                    ssl=address.context, server_hostname=address.server_name,
                )  # fmt: skip
        except OSError as error:
            raise why(address, error) from error
        await self._come(f"{address.shown}: the greeting (CONNECT) is not answered")

    async def open_any(self, addresses: Sequence[Address], first: int) -> None:
        """Connect to the first that lets it in; raises the :class:`LoginError` of the last."""
        for more in range(len(addresses)):
            try:
                await self.open(addresses[(first + more) % len(addresses)])
            except LoginError:
                if more == len(addresses) - 1:
                    raise
            else:
                return

    async def subscribe(self, *filters: str) -> None:
        """Subscribe; raises :class:`LoginError` where that is refused."""
        self._expect(Subscribed)
        self._opened().subscribe(filters)
        verdict = await self._come("a subscription is not answered")
        for refused in verdict.refused:
            raise SubscriptionRefused(refused, f"the broker refused the subscription {refused!r}")

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish, retained, and wait for the acknowledgement."""
        self._token += 1
        self._expect(PublishAcked)
        self._opened().publish(topic, payload, self._token)
        await self._come("a publish is not acknowledged")

    async def echo(self, topic: str) -> None:
        """Clear ``topic``, which is subscribed, and wait for the word of that: all older came."""
        self._expect(MessageReceived)
        self._opened().publish(topic, b"", None)
        await self._come("a message to itself does not come")

    def send(self, topic: str, payload: bytes) -> None:
        """Publish, not retained, and wait for nothing."""
        if self._link is not None:
            self._link.publish(topic, payload, None, retain=False)

    def message(self) -> asyncio.Future[Any]:
        """What is done when a message comes; a link that breaks is its error."""
        self._expect(MessageReceived)
        return self._waited

    def close(self) -> None:
        """End it."""
        if self._link is not None:
            self._link.close(clean=True)

    def tick(self, now: float) -> None:
        """Look after the keep-alive."""
        if self._link is not None:
            self._link.tick(now)

    def happened(self, _connection: FleetConnection, what: LinkInput) -> None:
        """See :class:`~.connection.Owner`."""
        waits = not self._waited.done()
        if isinstance(what, LinkFailed | Disconnected):
            lost = BrokerUnreachable("connection lost", "the broker closed the connection")
            self._link = None
            if waits:
                self._waited.set_exception(getattr(what, "error", lost))
        elif isinstance(what, MessageReceived) and (
            what.retained or what.payload not in (b"", PING)
        ):
            self.messages.append(what)
        elif waits and type(what) is self._awaited:
            self._waited.set_result(what)

    def _opened(self) -> FleetConnection:
        if self._link is None:
            raise BrokerUnreachable("connection lost", "the broker closed the connection")
        return self._link

    def _expect(self, kind: type[LinkInput]) -> None:
        self._awaited, self._waited = kind, self._loop.create_future()

    async def _come(self, problem: str) -> Any:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._waited
        except TimeoutError:
            raise BrokerUnreachable("timeout", f"{problem} within {PATIENCE:g} s") from None


class PingPong:
    """Two bare connections, a caller's and a callee's, on the topics that a call has."""

    def __init__(self, door: Bare, panel: Bare, realm: str) -> None:
        self._door, self._panel = door, panel
        call_id = topics.call_id_from_bytes(secrets.token_bytes(16))
        self._there = topics.cell(realm, "invite", panel.name, door.name, call_id)
        self._back = topics.cell(realm, "answer", door.name, panel.name, call_id)

    async def subscribe(self) -> None:
        """Subscribe, both; raises :class:`LoginError`."""
        await self._panel.subscribe(self._there)
        await self._door.subscribe(self._back)

    async def play(self) -> float:
        """There and back, in seconds; raises :class:`LoginError` when a link breaks."""
        ball, came = self._panel.message(), self._door.message()
        async with asyncio.timeout(_BALL_TIMEOUT):
            began = time.perf_counter()
            self._door.send(self._there, PING)
            await ball
            self._panel.send(self._back, PING)
            await came
        return time.perf_counter() - began


async def sweep(
    peers: Mapping[str, str | None], site: FleetSite, traffic: Counter[str]
) -> tuple[int, list[str]]:
    """Clear what ``peers`` left: presences, and cells between them; how many cells, and problems.

    Each looks at what was written to it, all clear what they wrote: so the access rules hold.
    """
    left: list[str] = []
    problems: list[str] = []
    gate = asyncio.Semaphore(_SWEEPERS)

    async def one(number: int, name: str, cells: list[str] | None) -> None:
        async with gate:
            bare = Bare(name, peers[name], site, traffic)
            try:
                await bare.open_any(site.addresses, number)
                if cells is None:
                    own = topics.presence(site.realm, name)
                    await bare.subscribe(own, *topics.inbox(site.realm, name))
                    await bare.echo(own)
                    left.extend(m.topic for m in bare.messages if m.payload and m.topic != own)
                else:
                    for cell in cells:
                        await bare.publish(cell, b"")
            except Exception as error:  # noqa: BLE001 - the others are swept all the same
                problems.append(f"{name}: {error}")
            finally:
                bare.close()

    await asyncio.gather(*(one(number, name, None) for number, name in enumerate(peers)))
    written: dict[str, list[str]] = {}
    for topic in left:
        cell = topics.parse(site.realm, topic)
        if isinstance(cell, topics.CallTopic) and cell.writer in peers:
            written.setdefault(cell.writer, []).append(topic)
    await asyncio.gather(*(one(n, name, cells) for n, (name, cells) in enumerate(written.items())))
    return sum(map(len, written.values())), problems
