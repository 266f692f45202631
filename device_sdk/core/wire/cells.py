"""The three cells of the protocol, as values (docs/protocol.md, Cells).

A cell is what its one writer says of itself at this moment: frozen, comparable, without identity.
``codec`` turns them into bytes and back. Bodies stay encoded: only the application looks inside.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

#: Bytes of an epoch: random for each login of a peer, kept across its reconnects.
EPOCH_BYTES = 8
GROUP_BYTES = 16


class InviteState(IntEnum):
    """What the caller says of a call; ``ENDED`` and ``OVER`` are final, ``ACCEPTED`` without talk.

    ``OVER`` is of a call that went on (docs/protocol.md, Talk).
    """

    RINGING = 0
    ACCEPTED = 1
    ENDED = 2
    OVER = 3


class AnswerState(IntEnum):
    """What the callee says of a call; all but the first two and ``TALKING`` are final.

    ``TALKING`` and ``OVER`` are of a call that goes on (docs/protocol.md, Talk).
    """

    RECEIVED = 0
    ACCEPTED = 1
    REFUSED = 2
    FAILED = 3
    SEEN = 4
    TALKING = 5
    OVER = 6

    @property
    def final(self) -> bool:
        """Whether the callee says nothing else about the call after this."""
        return self >= AnswerState.REFUSED and self is not AnswerState.TALKING


class EndedReason(IntEnum):
    """Why the caller ended a call."""

    CANCELED = 1
    ANSWERED_ELSEWHERE = 2
    EXPIRED = 3
    PEER_OFFLINE = 4
    NO_RESPONSE = 5
    CALLER_RESTARTED = 6


class AnswerReason(IntEnum):
    """Why the callee refused (1 to 3) or failed (4 to 6)."""

    DECLINED = 1
    BUSY = 2
    DO_NOT_DISTURB = 3
    ACCEPT_FAILURE = 4
    CALLEE_EXPIRED = 5
    CALLER_LOST = 6


class OverReason(IntEnum):
    """Why a call that went on is over."""

    HUNG_UP = 7
    PEER_LOST = 8
    RESTARTED = 9
    TIME_UP = 10
    LOGGED_OUT = 11


class Said(NamedTuple):
    """What a cell says of a call that goes on; its presence alone says *I can stay in the call*.

    ``messages``: those of its writer that the other has not acknowledged, encoded, the last of them
    numbered ``count``; ``got``: of the other's messages, those that its writer has handled, None
    while it has not heard the other at all.
    """

    count: int = 0  # type: ignore[assignment]  # no one counts the fields of a cell
    got: int | None = None
    messages: tuple[bytes, ...] = ()


class Offer(NamedTuple):
    """What a caller says of a call to the callee: carried whole from the one app to the other.

    ``content`` encoded; ``channel`` a name for where to talk; ``group`` that of a ring group;
    ``time`` unix seconds, advisory.
    """

    content: bytes | None = None
    channel: str | None = None
    group: bytes | None = None
    time: int | None = None

    def over(self, earlier: Offer) -> Offer:
        """This one, and of what it does not say what an earlier copy said."""
        return earlier._replace(**{k: v for k, v in self._asdict().items() if v is not None})


class Invite(NamedTuple):
    """The caller's register. ``ttl`` in milliseconds, only while ringing; ``time`` is advisory.

    ``reason`` is a number of :class:`EndedReason`, or one of a later version. ``asker``: this
    *ringing* answers the ``ask`` of the callee's login with that epoch.
    """

    state: InviteState
    epoch: bytes
    seq: int
    ttl: int | None = None
    content: bytes | None = None
    channel: str | None = None
    reason: int | None = None
    group: bytes | None = None
    time: int | None = None
    asker: bytes | None = None
    talk: Said | None = None

    @property
    def offer(self) -> Offer:
        """What it says of the call; an empty channel is none."""
        return Offer(self.content, self.channel or None, self.group, self.time)

    @classmethod
    def of(cls, offer: Offer, state: InviteState, epoch: bytes, seq: int, *,
           ttl: int | None = None, reason: int | None = None, asker: bytes | None = None,
           talk: Said | None = None) -> Invite:  # fmt: skip
        """The register of a call of which ``offer`` is said."""
        return cls(state, epoch, seq, ttl, offer.content, offer.channel, reason, offer.group,
                   offer.time, asker, talk)  # fmt: skip


class Answer(NamedTuple):
    """The callee's register. ``ask`` is true when the invite came retained: is it still so?

    ``reason`` is a number of :class:`AnswerReason`, or :class:`OverReason`, or one of a later
    version.
    """

    state: AnswerState
    epoch: bytes
    seq: int
    response: bytes | None = None
    reason: int | None = None
    ask: bool = False
    talk: Said | None = None


class Presence(NamedTuple):
    """Whether a peer is logged in, and under which epoch.

    ``ask``, ``generation`` and ``age`` (milliseconds since that login) are for other logins of the
    same peer.
    """

    online: bool
    epoch: bytes
    time: int | None = None
    ask: bool = False
    generation: int = 0
    age: int = 0


Cell = Invite | Answer | Presence
