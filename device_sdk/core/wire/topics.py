"""The only place where a topic is built or taken apart (docs/protocol.md, Topics).

``{realm}/v1/{peer}/presence``, ``{realm}/v1/{callee}/invite/{caller}/{call_id}`` and
``{realm}/v1/{caller}/answer/{callee}/{call_id}``. Topics carry peer ids in escaped form; everything
else in the library has them plain.
"""

import base64
import re
from functools import lru_cache
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote

from ...errors import InvalidArgument

VERSION_LEVEL = "v1"
DEFAULT_REALM = "sig"
#: A peer id's length in characters, and of its escaped form in bytes: two of the longest make a
#: topic of less than 512 bytes, which every broker takes.
MAX_PEER_ID = 64
MAX_ESCAPED = 192
CALL_ID_BYTES = 16

#: What a level holds unescaped. NATS refuses ``.`` and spaces, so these are few.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")

#: Control characters and lone surrogates (Unicode's categories Cc and Cs, which are closed).
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

Kind = Literal["invite", "answer"]

#: Realm, owner, kind, writer and call id (16 bytes in their one spelling).
_CALL = re.compile(
    rf"([^/]*)/{VERSION_LEVEL}/([^/]*)/(?:(invite)|answer)/([^/]*)/([A-Za-z0-9_-]{{21}}[AQgw])\Z"
)


class PresenceTopic(NamedTuple):
    """Whether ``peer`` is logged in; written by it and its will."""

    peer: str


class CallTopic(NamedTuple):
    """One cell of a call: ``owner``'s inbox, written by ``writer``.

    For an invite the owner is the callee and the writer the caller; for an answer the reverse.
    """

    kind: Kind
    owner: str
    writer: str
    call_id: str


Topic = PresenceTopic | CallTopic


def check_peer_id(value: object, argument: str = "peer_id") -> str:
    """Give ``value`` back if it is a peer id, else raise :class:`InvalidArgument`.

    A peer id is 1 to 64 characters without control characters, at most 192 bytes once escaped.
    """
    if not isinstance(value, str):
        raise InvalidArgument(argument, f"a peer id is a string, not {type(value).__name__}")
    if not 1 <= len(value) <= MAX_PEER_ID:
        raise InvalidArgument(
            argument, f"a peer id has 1 to {MAX_PEER_ID} characters, not {len(value)}"
        )
    if _CONTROL.search(value):
        raise InvalidArgument(argument, f"a peer id has no control characters: {value!r}")
    if len(_escape(value)) > MAX_ESCAPED:
        raise InvalidArgument(
            argument, f"{value!r} is over {MAX_ESCAPED} bytes once escaped for a topic; shorten it"
        )
    return value


def check_realm(value: object) -> str:
    """Give ``value`` back if it is a realm: 1 to 64 of ``A-Z a-z 0-9 _ -``, one topic level."""
    if not isinstance(value, str) or not 1 <= len(value) <= 64 or not _PLAIN.issuperset(value):
        raise InvalidArgument("realm", f"1 to 64 of A-Z, a-z, 0-9, '_' and '-', not {value!r}")
    return value


def call_id_from_bytes(random: bytes) -> str:
    """The call id made of 16 random bytes: base64url without padding, 22 characters."""
    if len(random) != CALL_ID_BYTES:
        raise InvalidArgument("random", f"a call id is made of {CALL_ID_BYTES} bytes")
    return base64.urlsafe_b64encode(random).rstrip(b"=").decode("ascii")


def _escape(peer: str) -> str:
    if _PLAIN.issuperset(peer):
        return peer
    return quote(peer, safe="").replace(".", "%2E").replace("~", "%7E")


@lru_cache(maxsize=1024)
def escape(peer: str) -> str:
    """A peer id as topic level and user name: ``kitchen.1`` is ``kitchen%2E1``."""
    return _escape(check_peer_id(peer))


@lru_cache(maxsize=1024)
def unescape(level: str) -> str | None:
    """The peer id that ``level`` spells, or None if it is not the one spelling of any."""
    if level and _PLAIN.issuperset(level):
        return level if len(level) <= MAX_PEER_ID else None
    try:
        peer = unquote(level, errors="strict")
        return peer if escape(peer) == level else None
    except (UnicodeError, InvalidArgument):
        return None


def presence(realm: str, peer: str) -> str:
    """The topic of ``peer``'s presence."""
    return f"{realm}/{VERSION_LEVEL}/{escape(peer)}/presence"


def cell(realm: str, kind: Kind, owner: str, writer: str, call_id: str) -> str:
    """The topic of one cell: in ``owner``'s inbox, written by ``writer``."""
    return f"{realm}/{VERSION_LEVEL}/{escape(owner)}/{kind}/{escape(writer)}/{call_id}"


def inbox(realm: str, peer: str) -> tuple[str, str]:
    """The filters of all that others write to ``peer``: invites, then answers."""
    base = f"{realm}/{VERSION_LEVEL}/{escape(peer)}"
    return f"{base}/invite/+/+", f"{base}/answer/+/+"


def outbox(realm: str, peer: str) -> tuple[str, str]:
    """The filters of all that ``peer`` writes to others: invites, then answers."""
    writer = escape(peer)
    base = f"{realm}/{VERSION_LEVEL}/+"
    return f"{base}/invite/{writer}/+", f"{base}/answer/{writer}/+"


def everything(realm: str) -> str:
    """The filter of the whole realm, for those who may watch it (``bellwire trace``)."""
    return f"{realm}/{VERSION_LEVEL}/#"


def parse(realm: str, topic: str) -> Topic | None:
    """Take a topic apart; None if it is not one of this realm's."""
    call = _CALL.match(topic)
    if call is not None:
        level, owner_level, invite, writer_level, call_id = call.groups()
        owner, writer = unescape(owner_level), unescape(writer_level)
        if owner is None or writer is None or level != realm:
            return None
        return CallTopic("invite" if invite else "answer", owner, writer, call_id)
    levels = topic.split("/")
    if len(levels) != 4 or levels[:2] != [realm, VERSION_LEVEL] or levels[3] != "presence":
        return None
    peer = unescape(levels[2])
    return None if peer is None else PresenceTopic(peer)
