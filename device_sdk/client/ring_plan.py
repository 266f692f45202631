"""Ringing several peers for one answer: whom to ring when, and what came of it; pure.

All legs of a group share its 16 random bytes. At most one wins, because the caller's engine decides
``accepted`` once for a group and ends the other legs as *answered elsewhere* in the same step; here
stands only which legs are to be rung, and when the whole is over.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, get_args

from ..core.wire import reasons
from ..core.wire.topics import check_peer_id
from ..errors import InvalidArgument
from ..states import EndReason, LocalInvitationError, LocalInvitationState
from .invitations import LocalInvitationBase, Outcome

Strategy = Literal["parallel", "sequential"]

#: In a sequence each leg rings so long, and waits so long for a sign of life; seconds.
LEG_TIMEOUT = 20.0
LEG_ACK_TIMEOUT = 2.0


#: What a callee's policy says, without anybody having heard it ring.
_POLICIES = frozenset(row.word for row in reasons.REFUSALS if row.who is reasons.Who.POLICY)


class GroupOutcome(NamedTuple):
    """How a ring group ended; true if somebody accepted. ``legs`` by peer, those that were rung."""

    winner: str | None
    response: object
    legs: dict[str, Outcome]
    canceled: bool = False

    def __bool__(self) -> bool:
        return self.winner is not None

    @property
    def call(self) -> Any:
        """What goes on with the winner, if both sides can; else None."""
        return None if self.winner is None else self.legs[self.winner].call

    @property
    def decisive(self) -> Outcome | None:
        """The leg whose end says most, and so is the whole's; None if nobody was rung.

        Somebody who answered, yes or no; else a ring that nobody answered; else a peer that was
        not reached. What a policy said (*busy*, *do not disturb*) counts only where nobody else
        was rung: a phone that is silent at night does not answer for the house (as a forking proxy
        chooses the best of its responses, RFC 3261, 16.7).
        """
        return min(self.legs.values(), key=_rank, default=None)

    @property
    def reason(self) -> EndReason:
        """In a word: accepted, canceled, or what the decisive leg ended with."""
        if self.winner is not None:
            return EndReason.ACCEPTED
        if self.canceled:
            return EndReason.CANCELED
        leg = self.decisive
        return leg.reason if leg is not None and leg.reason else EndReason.EXPIRED


def _rank(leg: Outcome) -> int:
    if leg.state is LocalInvitationState.ACCEPTED_BY_REMOTE:
        return 0
    if leg.state is LocalInvitationState.REFUSED_BY_REMOTE:
        return 5 if leg.reason in _POLICIES else 1
    if leg.state is LocalInvitationState.CANCELED:
        return 6
    return {LocalInvitationError.NOT_LOGGEDIN: 2, LocalInvitationError.INVITATION_EXPIRE: 3}.get(
        leg.error, 4
    )


class RingPlan:
    """Which legs to ring next; ask :meth:`start` once, then :meth:`ended` for each leg's end.

    A leg is one only from :meth:`sending` on: what was never sent has no end.
    """

    def __init__(self, peers: Iterable[str], strategy: str = "parallel") -> None:
        self.peers = tuple(check_peer_id(peer, "peers") for peer in _listed(peers))
        if not self.peers:
            raise InvalidArgument("peers", "nobody to ring")
        if len(set(self.peers)) < len(self.peers):
            raise InvalidArgument("peers", "somebody is named twice")
        if strategy not in get_args(Strategy):
            raise InvalidArgument("strategy", f"'parallel' or 'sequential', not {strategy!r}")
        self.sequential = strategy == "sequential"
        self.legs: dict[str, Outcome] = {}
        self.winner: str | None = None
        self.canceled = False
        self._waiting = list(self.peers)
        self._ringing: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether nothing rings and nothing will."""
        return not self._ringing and not self._waiting

    def start(self) -> list[str]:
        """Whom to ring first."""
        return self._next()

    def sending(self, peer: str) -> None:
        """The leg to ``peer`` is being sent: its end will be told."""
        self._waiting.remove(peer)
        self._ringing.add(peer)

    def never_rang(self, peer: str) -> None:
        """The leg to ``peer`` could not be sent: it has no end to wait for."""
        self._ringing.discard(peer)

    def cancel(self) -> list[str]:
        """Ring nobody else; whose legs are to be canceled."""
        if not self.over:
            self.canceled = True
        self._waiting.clear()
        return sorted(self._ringing)

    def give_up(self) -> None:
        """Ring nobody else, for there is nobody to ring them; what rings has its own end."""
        self._waiting.clear()

    def ended(self, leg: Outcome) -> list[str]:
        """A leg has ended; whom to ring now."""
        self._ringing.discard(leg.peer)
        self.legs[leg.peer] = leg
        if leg.state is LocalInvitationState.ACCEPTED_BY_REMOTE:
            self.winner = leg.peer
            self._waiting.clear()
        # One that was canceled singly ends its own leg; the others ring on.
        return [] if self._ringing else self._next()

    def outcome(self) -> GroupOutcome:
        """How it ended, or how it stands."""
        response = self.legs[self.winner].response if self.winner is not None else None
        return GroupOutcome(
            self.winner, response, dict(self.legs), self.canceled and self.winner is None
        )

    def _next(self) -> list[str]:
        count = 1 if self.sequential else len(self._waiting)
        return self._waiting[:count]


class RingGroupBase:
    """What the application holds of a ring group; a client adds how to wait."""

    #: As of an invitation.
    _wake: Callable[[], None]

    def __init__(self, plan: RingPlan, group: bytes) -> None:
        self._plan = plan
        self._ended = False
        self._leg: tuple[Any, str | None, float | None] = (None, None, None)
        self.group = group
        self.peers = plan.peers
        #: The invitations rung so far, by peer.
        self.legs: dict[str, LocalInvitationBase] = {}

    @property
    def ended(self) -> bool:
        """Whether its end was told."""
        return self._ended

    @property
    def winner(self) -> str | None:
        """Who accepted, if somebody did."""
        return self._plan.winner

    @property
    def outcome(self) -> GroupOutcome:
        """How it ended, or how it stands."""
        return self._plan.outcome()

    def __repr__(self) -> str:
        stands = self.outcome.reason.value if self._ended else "ringing"
        return f"<RingGroup {', '.join(self.peers)}: {stands}>"


def _listed(peers: Iterable[str]) -> list[str]:
    if isinstance(peers, str):
        raise InvalidArgument("peers", "a list of peer ids, not one string")
    if not isinstance(peers, Iterable):
        raise InvalidArgument("peers", f"a list of peer ids, not {type(peers).__name__}")
    return list(peers)
