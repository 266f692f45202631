"""Whether the broker lets this device call whom it rings, and takes the largest cell.

Tried on a connection of its own, beside a service that runs: without presence, so nothing rings and
nobody is ousted. What is published comes back to its writer, who may read its own cells; a broker
that drops what is not allowed acknowledges it all the same, and one that cannot say no closes.
"""

from __future__ import annotations

import os
import select
import time
from enum import Enum

from ...client.link.paho import PahoLink
from ...client.link.url import BrokerUrl, Tls
from ...core.effects import Connected, Disconnected, LinkFailed, MessageReceived, Subscribed
from ...core.wire import codec, topics
from ...core.wire.codec import MAX_CELL
from ...errors import DecodeError, LoginError
from ..config.account import Account

#: How long the broker may take for what it passes on, in seconds.
PATIENCE = 3.0
#: And for what it has retained, once it has granted the subscription.
_RETAINED = 0.5
#: The largest cell there may be, of a version that no peer speaks: {0: 255, 1: h'00…'}, which
#: whoever is there drops unread.
_HEAD = b"\xa2\x00\x18\xff\x01\x59"
_LARGEST = _HEAD + (MAX_CELL - len(_HEAD) - 2).to_bytes(2, "big") + bytes(MAX_CELL - len(_HEAD) - 2)


class Came(Enum):
    """What became of a publish."""

    BACK = "it came back"
    NOT_BACK = "the broker dropped it"
    BROKE = "the broker closed the connection"


class ReachCheck:
    """One connection after another under the device's name; used by one thread."""

    def __init__(self, account: Account, url: BrokerUrl) -> None:
        self._account = account
        self._url = url
        self._link: PahoLink | None = None
        #: The last message that came.
        self._seen: MessageReceived | None = None

    def is_online(self) -> bool:
        """Whether the broker says that this device is logged in, here or on another machine.

        Raises :class:`LoginError`.
        """
        me, link = topics.presence(self._account.realm, self._account.peer), self._connected()
        link.subscribe((me,))
        if not self._until(link, Subscribed):
            self._broke()
            return False
        if (said := self._seen) is None and self._until(link, MessageReceived, _RETAINED):
            said = self._seen
        if said is None or said.topic != me or not said.payload:
            return False
        try:
            return codec.decode_presence(said.payload).online
        except DecodeError:
            return False

    def call(self, peer: str) -> Came:
        """Clear a cell that was never there in ``peer``'s inbox: a call that rings nobody."""
        return self._try(peer, b"")

    def largest(self, peer: str) -> Came:
        """The same with the largest cell there may be, cleared again at once."""
        return self._try(peer, _LARGEST)

    def close(self) -> None:
        """Leave."""
        if self._link is not None:
            self._link.close(clean=True)
            self._link = None

    def _try(self, peer: str, payload: bytes) -> Came:
        me, realm = self._account.peer, self._account.realm
        call = topics.call_id_from_bytes(os.urandom(topics.CALL_ID_BYTES))
        topic = topics.cell(realm, "invite", peer, me, call)
        link = self._connected()
        link.subscribe((topic,))
        if not self._until(link, Subscribed):
            return self._broke()
        link.publish(topic, payload, 1)
        came = self._until(link, MessageReceived)
        if came and payload:
            link.publish(topic, b"", 2)
            self._until(link, MessageReceived)
        if link.fileno() < 0:
            return self._broke()
        return Came.BACK if came else Came.NOT_BACK

    def _broke(self) -> Came:
        self._link = None
        return Came.BROKE

    def _connected(self) -> PahoLink:
        if self._link is not None:
            return self._link
        account, url = self._account, self._url
        name, password = topics.escape(account.peer), account.password()
        user = account.username or (name if password is not None else None)
        link = PahoLink(
            url,
            f"{user or name}:doctor-{os.urandom(4).hex()}",
            None,
            keepalive=account.keepalive,
            subscribe_qos=account.subscribe_qos,
            username=user,
            password=password,
            context=(account.tls() or Tls()).make_context() if url.tls else None,
        )
        link.open()
        if not self._until(link, Connected):
            link.close(clean=False)
            raise LoginError(f"{url} took the connection but did not greet")
        self._link = link
        return link

    def _until(self, link: PahoLink, kind: type, patience: float = PATIENCE) -> bool:
        """Turn the link until something of ``kind`` came; False if it broke or did not come."""
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            came = False
            for what in link.drain():
                if isinstance(what, LinkFailed):
                    raise what.error
                if isinstance(what, Disconnected):
                    link.close(clean=False)
                    return False
                if isinstance(what, MessageReceived):
                    self._seen = what
                came = came or isinstance(what, kind)
            if came:
                link.acknowledge()
                return True
            fd = link.fileno()
            if fd < 0:
                return False
            writers = [fd] if link.wants_write() else []
            readable, writable, _ = select.select([fd], writers, [], min(left, 0.5))
            if readable:
                link.read()
            if writable:
                link.write()
            link.tick()
        return False
