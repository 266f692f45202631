"""The caller's end of a call: its transitions, as one table.

Theory (docs/protocol.md, Caller). The caller owns the invite cell and alone decides how the call
ends, once. A call is ``SENT`` until the callee shows that it rings (``RECEIVED``); from either the
first of an answer, the app or a timer decides: ``ACCEPTED`` or ``ENDED`` stand in the cell until
the callee's final answer shows that it knows; a refusal or failure needs no decision of ours. Then
the cell is cleared (``CLEARING``) and, once the broker has acknowledged that, the call is ``GONE``.
A call of two peers that both can goes on after ``ACCEPTED``: ``TALKING`` once the callee shows that
it knows, ``OVER`` until it has seen the end (docs/protocol.md, Talk).

:data:`TABLE` holds every legal step. A missing entry is illegal: from the app an error that
changes nothing, from the wire a counted drop. What may cross or repeat has an explicit entry that
does nothing. The diagrams in the README are drawn from this table.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from .wire.cells import AnswerState, InviteState


class Phase(Enum):
    """Where the caller's end is with its cell; the app sees :class:`LocalInvitationState`."""

    SENT = auto()
    RECEIVED = auto()
    ACCEPTED = auto()
    ENDED = auto()
    CLEARING = auto()
    GONE = auto()
    TALKING = auto()
    OVER = auto()

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a Python call


class On(Enum):
    """What can happen to the caller's end."""

    # the callee's answer says
    ANSWER_RECEIVED = auto()
    ANSWER_ACCEPTED = auto()
    ANSWER_REFUSED = auto()
    ANSWER_FAILED = auto()
    ANSWER_SEEN = auto()
    ANSWER_TALKING = auto()
    ANSWER_OVER = auto()
    # the app says
    CANCEL = auto()
    LOGOUT = auto()
    # another leg of the same ring group was accepted
    ANSWERED_ELSEWHERE = auto()
    # time says
    RING_TIMEOUT = auto()
    PEER_OFFLINE = auto()
    NO_RESPONSE = auto()
    RESEND = auto()
    KEEP_EXPIRED = auto()
    # the app, the callee's presence or time says, of a call that goes on
    HANG_UP = auto()
    # the broker does not take the cell: not allowed, or too large
    NOT_TAKEN = auto()
    # the broker has the cleared cell
    CLEAR_ACKED = auto()

    __hash__ = object.__hash__


class Do(Enum):
    """What the engine does for a step, in the order given."""

    SAY = auto()  # publish the invite cell
    CLEAR = auto()  # publish it empty
    END_OTHER_LEGS = auto()
    TELL_RECEIVED = auto()
    TELL_ACCEPTED = auto()
    TELL_REFUSED = auto()
    TELL_CANCELED = auto()  # once the broker has the decision
    TELL_FAILURE = auto()
    TELL_PEER_LOST = auto()
    TELL_TALK_ENDED = auto()  # if the call went on

    __hash__ = object.__hash__


Step = tuple[Phase, tuple[Do, ...]]

_IGNORED: Final[tuple[Do, ...]] = ()

_DECISIONS: Final[dict[On, Step]] = {
    On.CANCEL: (Phase.ENDED, (Do.SAY, Do.TELL_CANCELED)),
    On.LOGOUT: (Phase.ENDED, (Do.SAY, Do.TELL_CANCELED)),
    On.ANSWERED_ELSEWHERE: (Phase.ENDED, (Do.SAY, Do.TELL_CANCELED)),
    On.RING_TIMEOUT: (Phase.ENDED, (Do.SAY, Do.TELL_FAILURE)),
}

TABLE: Final[Mapping[Phase, Mapping[On, Step]]] = {
    Phase.SENT: {
        On.ANSWER_RECEIVED: (Phase.RECEIVED, (Do.TELL_RECEIVED,)),
        On.ANSWER_ACCEPTED: (
            Phase.ACCEPTED,
            (Do.SAY, Do.END_OTHER_LEGS, Do.TELL_RECEIVED, Do.TELL_ACCEPTED),
        ),
        On.ANSWER_REFUSED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_RECEIVED, Do.TELL_REFUSED)),
        On.ANSWER_FAILED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_RECEIVED, Do.TELL_FAILURE)),
        **_DECISIONS,
        On.PEER_OFFLINE: (Phase.ENDED, (Do.SAY, Do.TELL_FAILURE)),
        On.NO_RESPONSE: (Phase.ENDED, (Do.SAY, Do.TELL_FAILURE)),
        On.RESEND: (Phase.SENT, (Do.SAY,)),
        On.NOT_TAKEN: (Phase.GONE, (Do.TELL_FAILURE,)),
    },
    Phase.RECEIVED: {
        On.ANSWER_RECEIVED: (Phase.RECEIVED, _IGNORED),
        On.ANSWER_ACCEPTED: (Phase.ACCEPTED, (Do.SAY, Do.END_OTHER_LEGS, Do.TELL_ACCEPTED)),
        On.ANSWER_REFUSED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_REFUSED)),
        On.ANSWER_FAILED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_FAILURE)),
        **_DECISIONS,
        On.NOT_TAKEN: (Phase.GONE, (Do.TELL_FAILURE,)),
    },
    Phase.ACCEPTED: {
        On.ANSWER_RECEIVED: (Phase.ACCEPTED, _IGNORED),
        On.ANSWER_ACCEPTED: (Phase.ACCEPTED, _IGNORED),
        On.ANSWER_SEEN: (Phase.CLEARING, (Do.CLEAR, Do.TELL_TALK_ENDED)),
        On.ANSWER_FAILED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_PEER_LOST, Do.TELL_TALK_ENDED)),
        On.ANSWER_REFUSED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_PEER_LOST, Do.TELL_TALK_ENDED)),
        On.ANSWER_TALKING: (Phase.TALKING, _IGNORED),
        On.ANSWER_OVER: (Phase.CLEARING, (Do.CLEAR, Do.TELL_TALK_ENDED)),
        On.HANG_UP: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        On.RESEND: (Phase.ACCEPTED, (Do.SAY,)),
        # Silent from here: the callee's own word tells whether it learned of it.
        On.NOT_TAKEN: (Phase.ACCEPTED, _IGNORED),
        On.KEEP_EXPIRED: (Phase.CLEARING, (Do.CLEAR,)),
    },
    Phase.ENDED: {
        On.ANSWER_RECEIVED: (Phase.ENDED, _IGNORED),
        On.ANSWER_ACCEPTED: (Phase.ENDED, _IGNORED),
        On.ANSWER_SEEN: (Phase.CLEARING, (Do.CLEAR,)),
        On.ANSWER_REFUSED: (Phase.CLEARING, (Do.CLEAR,)),
        On.ANSWER_FAILED: (Phase.CLEARING, (Do.CLEAR,)),
        On.ANSWER_TALKING: (Phase.ENDED, _IGNORED),
        On.ANSWER_OVER: (Phase.CLEARING, (Do.CLEAR,)),
        On.RESEND: (Phase.ENDED, (Do.SAY,)),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
        On.KEEP_EXPIRED: (Phase.CLEARING, (Do.CLEAR,)),
    },
    Phase.CLEARING: {
        On.ANSWER_RECEIVED: (Phase.CLEARING, _IGNORED),
        On.ANSWER_ACCEPTED: (Phase.CLEARING, _IGNORED),
        On.ANSWER_REFUSED: (Phase.CLEARING, _IGNORED),
        On.ANSWER_FAILED: (Phase.CLEARING, _IGNORED),
        On.ANSWER_SEEN: (Phase.CLEARING, _IGNORED),
        On.ANSWER_TALKING: (Phase.CLEARING, _IGNORED),
        On.ANSWER_OVER: (Phase.CLEARING, _IGNORED),
        On.CLEAR_ACKED: (Phase.GONE, _IGNORED),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
    },
    Phase.TALKING: {
        On.ANSWER_RECEIVED: (Phase.TALKING, _IGNORED),
        On.ANSWER_ACCEPTED: (Phase.TALKING, _IGNORED),
        On.ANSWER_TALKING: (Phase.TALKING, _IGNORED),
        On.ANSWER_OVER: (Phase.CLEARING, (Do.CLEAR, Do.TELL_TALK_ENDED)),
        On.ANSWER_SEEN: (Phase.CLEARING, (Do.CLEAR, Do.TELL_TALK_ENDED)),
        On.ANSWER_FAILED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_TALK_ENDED)),
        On.ANSWER_REFUSED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_TALK_ENDED)),
        On.HANG_UP: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        On.RESEND: (Phase.TALKING, (Do.SAY,)),
    },
    Phase.OVER: {
        On.ANSWER_RECEIVED: (Phase.OVER, _IGNORED),
        On.ANSWER_ACCEPTED: (Phase.OVER, _IGNORED),
        On.ANSWER_TALKING: (Phase.OVER, _IGNORED),
        On.ANSWER_OVER: (Phase.CLEARING, (Do.CLEAR,)),
        On.ANSWER_SEEN: (Phase.CLEARING, (Do.CLEAR,)),
        On.ANSWER_REFUSED: (Phase.CLEARING, (Do.CLEAR,)),
        On.ANSWER_FAILED: (Phase.CLEARING, (Do.CLEAR,)),
        On.RESEND: (Phase.OVER, (Do.SAY,)),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
        On.KEEP_EXPIRED: (Phase.CLEARING, (Do.CLEAR,)),
    },
}

ANSWERS: Final[Mapping[AnswerState, On]] = {
    AnswerState.RECEIVED: On.ANSWER_RECEIVED,
    AnswerState.ACCEPTED: On.ANSWER_ACCEPTED,
    AnswerState.REFUSED: On.ANSWER_REFUSED,
    AnswerState.FAILED: On.ANSWER_FAILED,
    AnswerState.SEEN: On.ANSWER_SEEN,
    AnswerState.TALKING: On.ANSWER_TALKING,
    AnswerState.OVER: On.ANSWER_OVER,
}

#: What the invite cell says in each phase that has one.
SAYS: Final[Mapping[Phase, InviteState]] = {
    Phase.SENT: InviteState.RINGING,
    Phase.RECEIVED: InviteState.RINGING,
    Phase.ACCEPTED: InviteState.ACCEPTED,
    Phase.ENDED: InviteState.ENDED,
    Phase.TALKING: InviteState.ACCEPTED,
    Phase.OVER: InviteState.OVER,
}
UNDECIDED: Final = frozenset({Phase.SENT, Phase.RECEIVED})
DECIDED: Final = frozenset({Phase.ACCEPTED, Phase.ENDED, Phase.OVER})
