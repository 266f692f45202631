"""One MQTT connection of a fleet: an asyncio protocol that says what happened to whoever owns it.

A client of paho-mqtt is 20 KB and a hundred Python calls a message: right on a device, too heavy
for five thousand in one process, where the fleet and not the broker would be measured.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from typing import NamedTuple, Protocol, cast

from ...core.effects import (
    Connected,
    Disconnected,
    LinkFailed,
    LinkInput,
    LinkOpened,
    MessageReceived,
    PublishAcked,
    Subscribed,
)
from ...errors import BrokerRefused, BrokerUnreachable
from . import packets

#: Of a keep-alive; one that was not answered by then is a dead connection.
_DEAD_AFTER = 1.5


class Address(NamedTuple):
    """Where a broker is, resolved, and how one is let in there."""

    host: str
    port: int
    shown: str
    context: ssl.SSLContext | None = None
    server_name: str | None = None


class ConnectionOwner(Protocol):
    """Whose connection it is."""

    def happened(self, connection: FleetConnection, what: LinkInput) -> None:
        """Take what the broker said, in order."""


class FleetConnection(asyncio.Protocol):
    """From CONNECT to its end; ``traffic`` counts packets and bytes, and may be shared."""

    def __init__(
        self,
        owner: ConnectionOwner,
        greeting: bytes,
        keepalive: int,
        qos: int,
        traffic: Counter[str],
    ) -> None:
        self._owner: ConnectionOwner | None = owner
        self._greeting = greeting
        self._keepalive = keepalive
        self._qos = qos
        self._traffic = traffic
        self._reader = packets.Reader()
        self._transport: asyncio.Transport | None = None
        self._time = asyncio.get_running_loop().time
        self._heard = self._said = self._time()
        self._packet_id = 0
        self._tokens: dict[int, int | None] = {}
        self._filters: dict[int, tuple[str, ...]] = {}

    # --- the loop's side ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        if self._owner is None:  # given up while it was being opened
            self._transport.abort()
            return
        self._write(self._greeting)
        self._owner.happened(self, LinkOpened())

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self._heard = self._time()
        self._traffic["bytes_in"] += len(data)
        try:
            for first, body in self._reader.feed(data):
                self._traffic["packets_in"] += 1
                self._take(first, body)
        except packets.MalformedPacket as error:
            self._end(LinkFailed(BrokerUnreachable("connection lost", f"the broker sent {error}")))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """See :class:`asyncio.Protocol`."""
        if self._owner is not None:
            self._end(Disconnected())

    def _take(self, first: int, body: bytes) -> None:
        owner = self._owner
        if owner is None:
            return
        kind = first & 0xF0
        if kind == packets.PUBLISH:
            topic, payload, retained, packet_id = packets.read_publish(first, body)
            owner.happened(self, MessageReceived(topic, payload, retained))
            if packet_id:
                self._write(packets.puback(packet_id))
        elif kind == packets.PUBACK:
            token = self._tokens.pop(int.from_bytes(body[:2], "big"), None)
            if token is not None:
                owner.happened(self, PublishAcked(token))
        elif kind == packets.SUBACK:
            asked = self._filters.pop(int.from_bytes(body[:2], "big"), ())
            verdicts = list(zip(asked, body[2:], strict=False))
            granted = tuple(each for each, code in verdicts if code < 0x80)
            refused = tuple(each for each, code in verdicts if code >= 0x80)
            owner.happened(self, Subscribed(granted, refused))
        elif kind == packets.CONNACK:
            code = body[1] if len(body) > 1 else 0
            if code:
                self._end(LinkFailed(BrokerRefused(code, f"the broker says no ({code})")))
            else:
                owner.happened(self, Connected())

    def _end(self, what: LinkInput) -> None:
        owner, self._owner = self._owner, None
        if self._transport is not None:
            self._transport.abort()
        if owner is not None:
            owner.happened(self, what)

    # --- the owner's side --------------------------------------------------------------------

    def publish(
        self, topic: str, payload: bytes, token: int | None, *, retain: bool = True
    ) -> None:
        """Publish, QoS 1; the acknowledgement comes with ``token``."""
        number = self._number()
        self._tokens[number] = token
        self._write(packets.publish(topic, payload, number, retain=retain))

    def subscribe(self, filters: tuple[str, ...]) -> None:
        """Subscribe, in one packet."""
        number = self._number()
        self._filters[number] = filters
        self._write(packets.subscribe(filters, number, self._qos))

    def unsubscribe(self, filters: tuple[str, ...]) -> None:
        """Unsubscribe."""
        self._write(packets.unsubscribe(filters, self._number()))

    def tick(self, now: float) -> None:
        """Look after the keep-alive; called about once a second."""
        if now - self._heard > self._keepalive * _DEAD_AFTER:
            self._end(Disconnected())
        elif now - min(self._said, self._heard) >= self._keepalive * 0.9:
            self._write(packets.PING)

    def close(self, *, clean: bool) -> None:
        """End it; ``clean``: with DISCONNECT. Its owner hears no more of it."""
        self._owner = None
        if self._transport is None:
            return
        if clean:
            self._write(packets.DISCONNECT)
            self._transport.close()
        else:
            self._transport.abort()

    def cut(self) -> None:
        """Take the connection away as a cable does that is pulled: the owner hears of it."""
        self._end(Disconnected())

    def _number(self) -> int:
        self._packet_id = number = self._packet_id % 65535 + 1
        return number

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._said = self._time()
            self._traffic["packets_out"] += 1
            self._traffic["bytes_out"] += len(data)
            self._transport.write(data)


def resolve(host: str, port: int) -> tuple[str, int]:
    """The first address of ``host``: asked once, not by each of thousands; raises ``OSError``."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][:2]  # type: ignore[return-value]  # of AF_INET and AF_INET6


def why(address: Address, error: OSError) -> BrokerUnreachable:
    """What is said of a connection that did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = f"{address.shown}: {error.verify_message}: is --ca-file its authority's?"
        return BrokerUnreachable("certificate", problem)
    if isinstance(error, ssl.SSLError):
        return BrokerUnreachable("tls", f"{address.shown}: {error.reason or error}")
    if isinstance(error, ConnectionRefusedError):
        return BrokerUnreachable("connection refused", f"{address.shown}: connection refused")
    if isinstance(error, TimeoutError):
        return BrokerUnreachable("timeout", f"{address.shown}: no answer")
    return BrokerUnreachable("no route", f"{address.shown}: {error.strerror or error}")
