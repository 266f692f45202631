"""The topics and ids of the bridge on Home Assistant's broker; pure (docs/home-assistant.md).

Everything of one bridge is below ``bellwire/REALM/PEER``; a door's below ``…/DOOR``. The discovery
message of a door is where Home Assistant looks for it.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from ...core.wire.topics import escape, unescape

#: Of all bridges, at Home Assistant's broker.
ROOT = "bellwire"
#: What Home Assistant takes as an id in a discovery topic.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


class Names(NamedTuple):
    """One bridge's topics; ``discovery`` is Home Assistant's prefix."""

    realm: str
    peer: str
    discovery: str = "homeassistant"

    @property
    def root(self) -> str:
        """Below it is all that the bridge writes, and its commands."""
        return f"{ROOT}/{escape(self.realm)}/{escape(self.peer)}"

    @property
    def status(self) -> str:
        """Whether the bridge is there: its will's topic."""
        return f"{self.root}/bridge/status"

    @property
    def read_mark(self) -> str:
        """What the bridge says to itself, to know that it has read what stood there."""
        return f"{self.root}/bridge/read"

    @property
    def last_status(self) -> str:
        """What Home Assistant said last of itself: for a later life of the bridge."""
        return f"{self.root}/bridge/homeassistant"

    @property
    def ha_status(self) -> str:
        """Home Assistant's birth and will."""
        return f"{self.discovery}/status"

    def button_outcome(self, button: str) -> str:
        """How a ring of an MQTT button ended."""
        return f"{self.root}/button/{escape(button)}"

    def door(self, peer: str, what: str) -> str:
        """``what`` is ``call``, ``event``, ``picture``, ``online``, ``command`` or ``result``."""
        return f"{self.root}/door/{escape(peer)}/{what}"

    def of_each_door(self, what: str) -> str:
        """The filter for ``what`` of all doors."""
        return f"{self.root}/door/+/{what}"

    def parse(self, topic: str) -> tuple[str, str] | None:
        """The door and what of it a topic is; None if it is no door's."""
        own, _, rest = topic.partition(f"{self.root}/door/")
        level, _, what = rest.partition("/")
        peer = unescape(level) if not own and level else None
        return None if peer is None or not what or "/" in what else (peer, what)

    def unique(self, door: str) -> str:
        """The door's id in Home Assistant: of realm, bridge and door, and nobody else's."""
        words = [self.realm, self.peer, door]
        # Between the words stand two of them, so that no two doors have one id.
        if all(_PLAIN.fullmatch(word) and "__" not in f"_{word}_" for word in words):
            return "__".join(["bellwire", *words])
        digest = hashlib.blake2b("\0".join(words).encode(), digest_size=8).hexdigest()
        return f"bellwire__{digest}"

    def config(self, door: str) -> str:
        """Where the door's discovery message is retained."""
        return f"{self.discovery}/device/{self.unique(door)}/config"

    @property
    def client_id(self) -> str:
        """The same for each of its connections: a new one takes over one that is half open."""
        digest = hashlib.blake2b(self.root.encode(), digest_size=6).hexdigest()
        return f"bellwire-{digest}"
