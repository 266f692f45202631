"""What strangers can take of a page's server: so many connections, and so long for a request.

uvicorn waits for a request as long as it takes, and answers 503 to everybody once too many wait.
Here whoever says nothing gives way to whoever comes, and a request that is not whole in time is
ended. Threads: the event loop of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import weakref
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger("bellwire.pi")

#: Connections at once: more than all pages that are heard (:data:`~.hub.MAX_PAGES`), and far from
#: the 1,024 files that systemd gives a service.
MAX_CONNECTIONS = 300
#: How long a connection may take until its request is whole, from its beginning or from the answer
#: before; seconds. What a browser's body may take is less, and told (:data:`~.app.BODY_TIME`).
REQUEST_TIME = 20.0


@dataclass(slots=True)
class Guest:
    """Somebody's connection. ``busy``: it is being answered, or hears the page's state."""

    host: str
    connection: weakref.ref[socket.socket]
    busy: bool = False

    @property
    def gone(self) -> bool:
        """Whether it is closed."""
        there = self.connection()
        return there is None or there.fileno() == -1

    def end(self) -> None:
        """Close it; the server hears of that as of an end by the other side."""
        there = self.connection()
        if there is not None:
            with contextlib.suppress(OSError):  # it is over by itself
                there.shutdown(socket.SHUT_RDWR)


class Entrance(socket.socket):
    """A listening socket that lets in :data:`MAX_CONNECTIONS` at once, TLS handshakes included.

    Beyond that the oldest connection that is not busy is ended, of the address that has most; where
    all are busy nobody more is let in.
    """

    def __init__(self, family: int, kind: int) -> None:
        super().__init__(family, kind)
        self._guests: dict[int, Guest] = {}
        self._told = False

    def accept(self) -> tuple[socket.socket, Any]:
        """See :meth:`socket.socket.accept`; ``ConnectionAbortedError`` where there is no room."""
        connection, address = super().accept()
        if len(self._guests) >= MAX_CONNECTIONS:
            self._guests = {key: guest for key, guest in self._guests.items() if not guest.gone}
        if len(self._guests) >= MAX_CONNECTIONS and not self._make_room():
            connection.close()
            raise ConnectionAbortedError("all connections are busy")
        self._guests.pop(connection.fileno(), None)  # the newest last
        self._guests[connection.fileno()] = Guest(address[0], weakref.ref(connection))
        return connection, address

    def set_busy(self, number: int, *, busy: bool) -> None:
        """Whether the connection of that file number is being answered."""
        if number in self._guests:
            self._guests[number].busy = busy

    def _make_room(self) -> bool:
        idle = {key: guest for key, guest in self._guests.items() if not guest.busy}
        if not idle:
            return False
        ((host, count),) = Counter(guest.host for guest in idle.values()).most_common(1)
        if not self._told:
            self._told = True
            log.warning(
                "the page has %d connections, %d of them from %s that ask for nothing: the oldest"
                " of these are closed from now on, as others come", MAX_CONNECTIONS, count, host,
            )  # fmt: skip
        oldest = next(key for key, guest in idle.items() if guest.host == host)
        self._guests.pop(oldest).end()
        return True


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, in which a request has :data:`REQUEST_TIME` to be whole."""

    entrance: ClassVar[Entrance]
    _late: asyncio.TimerHandle | None = None
    _number = -1

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        self._number = transport.get_extra_info("socket").fileno()
        self._look()

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._forget()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """See :class:`H11Protocol`: the next request may come."""
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Wait for a request to be whole, or not any more."""
        cycle = self.cycle
        whole = cycle is not None and not cycle.more_body and not cycle.response_complete
        self.entrance.set_busy(self._number, busy=whole)
        if whole:
            self._forget()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(REQUEST_TIME, self.transport.close)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
