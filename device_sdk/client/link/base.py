"""The port: what a client needs of MQTT.

A :class:`Link` is one connection, from CONNECT to its end, and never used again: nothing of an old
connection can reach a new one. Whoever owns a link calls all of it from one thread, except
:meth:`Link.open`, which blocks and so is called where blocking is welcome.
"""

import hashlib
import secrets
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ...core.effects import LinkInput


class Link(Protocol):
    """One MQTT connection: clean session, QoS 1, with a will."""

    def open(self) -> None:
        """Resolve, connect, greet; blocks up to the connect time-out; raises ``LoginError``."""

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once it is gone."""

    def wants_write(self) -> bool:
        """Whether there is more to write than the socket took."""

    def read(self) -> None:
        """Take in what has come."""

    def write(self) -> None:
        """Write on."""

    def tick(self) -> None:
        """Look after the keep-alive; call this every few seconds."""

    def publish(self, topic: str, payload: bytes, token: int | None) -> None:
        """Publish, retained, QoS 1; the acknowledgement comes back with ``token``."""

    def subscribe(self, filters: tuple[str, ...]) -> None:
        """Subscribe, QoS 1, in one packet."""

    def unsubscribe(self, filters: tuple[str, ...]) -> None:
        """Unsubscribe."""

    def close(self, *, clean: bool) -> None:
        """End the connection; ``clean``: with DISCONNECT, so that the will is not published."""

    def drain(self) -> list[LinkInput]:
        """What has happened since the last time, in order."""

    def acknowledge(self) -> None:
        """Acknowledge what was read: once it is dealt with, and answered."""


#: Of this process: the will's payload can be read by all, and alone would tell the client id.
_KEY = secrets.token_bytes(16)


class Will(NamedTuple):
    """What the broker publishes, retained, QoS 1, when the connection breaks."""

    topic: str
    payload: bytes

    @property
    def client_id(self) -> str:
        """The client id of the login whose will this is: its peer, and what is its alone.

        All connections of one login have the same, so that each takes over the one before, which
        may be half open; two logins of one peer have two, and so never break each other's. Nobody
        else can know it: where a broker lets any user take any client id, that is what keeps
        others from ending this one's connections.
        """
        login = hashlib.blake2b(self.payload, digest_size=8, key=_KEY)  # the epoch is in it
        return f"{self.topic.split('/')[-2]}:{login.hexdigest()}"


#: Makes a fresh link; called for every connection.
LinkFactory = Callable[[Will], Link]
