"""The caller's end of a call: its record, and its transitions as one table.

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
from typing import Final, NamedTuple

from ..states import EndReason, LocalInvitationError, LocalInvitationState
from ..wire import reasons
from ..wire.cells import Answer, AnswerState, Invite, InviteState, Offer, Said
from .talk import NO_TALK, Talk
from .values import evolver


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

#: How each deciding input shows to the app: state, error, reason (None: the answer says).
Ending = tuple[LocalInvitationState, LocalInvitationError, EndReason | None]
_S, _E = LocalInvitationState, LocalInvitationError


def _decided(word: EndReason) -> Ending:
    return *reasons.BY_WORD[word].local, word


#: Of an answer that is refused or failed the state stands here; its reason has the rest.
OUTCOMES: Final[Mapping[On, Ending]] = {
    On.ANSWER_ACCEPTED: (_S.ACCEPTED_BY_REMOTE, _E.OK, EndReason.ACCEPTED),
    On.ANSWER_REFUSED: (_S.REFUSED_BY_REMOTE, _E.OK, None),
    On.ANSWER_FAILED: (_S.FAILURE, _E.PEER_NO_RESPONSE, None),
    On.CANCEL: _decided(EndReason.CANCELED),
    On.LOGOUT: _decided(EndReason.CANCELED),
    On.ANSWERED_ELSEWHERE: _decided(EndReason.ANSWERED_ELSEWHERE),
    On.RING_TIMEOUT: _decided(EndReason.EXPIRED),
    On.PEER_OFFLINE: _decided(EndReason.PEER_OFFLINE),
    On.NO_RESPONSE: _decided(EndReason.NO_RESPONSE),
    On.NOT_TAKEN: (_S.FAILURE, _E.PEER_NO_RESPONSE, EndReason.NOT_ALLOWED),
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


# Members by themselves: looking one up in its class takes Python 3.11 ten times as long. All of
# these together save a ring 8 µs of 650 there.
_RECEIVED, _SAYS_RINGING = Phase.RECEIVED, InviteState.RINGING
_RECEIVED_BY_REMOTE = LocalInvitationState.RECEIVED_BY_REMOTE
_CAN: Final = Said()  # what *ringing* says: I can stay in the call


class CallerCall(NamedTuple):
    """One call as its caller knows it: a value; the engine holds the current one.

    Times are the engine's seconds; a field that ends in ``_at`` is a deadline or None.
    ``previous_login``: it was made by a previous login of this peer, so the app knows nothing of
    it. ``said``: it was published, which without a link it is not. ``cancel_pending``: the app is
    told of its cancel once the broker has it. ``quiet_until``: who asks is not answered too often.
    ``offline_at``: when a callee of which the broker says nothing is one that is not there;
    ``offline_told``: the app knows that it is not.
    """

    call_id: str
    callee: str
    phase: Phase = Phase.SENT
    state: LocalInvitationState = LocalInvitationState.SENT_TO_REMOTE
    error: LocalInvitationError = LocalInvitationError.OK
    reason: EndReason | None = None
    offer: Offer = Offer()
    response: bytes | None = None
    seq: int = 0
    said: bool = False
    previous_login: bool = False
    cancel_pending: bool = False
    cancel_at: float | None = None
    sent_at: float = 0.0
    ring_at: float | None = None
    ack_at: float | None = None
    ack_timeout: float = 0.0
    resend_at: float | None = None
    resend_delay: float = 0.0
    keep_at: float | None = None
    quiet_until: float = 0.0
    offline_at: float | None = None
    offline_told: bool = False
    talk: Talk = NO_TALK

    @property
    def talks(self) -> bool:
        """Whether it goes on after *accepted*, here and now."""
        return self.talk.up

    @property
    def key(self) -> tuple[str, str]:
        """Peer and call id: what a call is known by."""
        return self.callee, self.call_id

    @property
    def due(self) -> float | None:
        """The earliest of its deadlines."""
        at = None
        for due in (
            self.ring_at,
            self.ack_at,
            self.resend_at,
            self.keep_at,
            self.cancel_at,
            self.offline_at,
            self.talk.due if self.talk.up else None,
        ):
            if due is not None and (at is None or due < at):
                at = due
        return at

    def cell(self, epoch: bytes, now: float, asker: bytes | None = None) -> Invite:
        """What the invite cell says at ``now``, to the callee's login that asked, if one did."""
        state = SAYS[self.phase]
        ttl = reason = None
        if state is _SAYS_RINGING:
            ttl = max(0, round(((self.ring_at or now) - now) * 1000))
        elif state is InviteState.ENDED:
            reason = reasons.BY_WORD.get(self.reason, reasons.ended(None)).reason
        else:  # the callee has the rest already
            talk = self.talk
            said = talk.messages.said(heard=talk.heard) if talk.can else None
            number = reasons.over_number(talk.reason) if state is InviteState.OVER else None
            return Invite(state, epoch, self.seq, reason=number, talk=said)
        return Invite.of(self.offer, state, epoch, self.seq, ttl=ttl, reason=reason,
                         asker=None if ttl is None else asker,
                         talk=_CAN if ttl is not None and self.talk.can else None,
                         )  # fmt: skip


evolve = evolver(CallerCall)


def step(
    call: CallerCall, on: On, answer: Answer | None = None
) -> tuple[CallerCall, tuple[Do, ...]]:
    """The record after ``on``, and what to do; raises ``KeyError`` where the table has no entry."""
    phase, todo = TABLE[call.phase][on]
    if phase is call.phase:
        return call, todo
    if phase is _RECEIVED:
        return evolve(
            call,
            phase=phase,
            state=_RECEIVED_BY_REMOTE,
            ack_at=None,
            resend_at=None,
            offline_at=None,
        ), todo
    if call.phase not in UNDECIDED:
        return evolve(call, phase=phase, resend_at=None, keep_at=None), todo
    state, error, reason = OUTCOMES[on]
    response = call.response
    if answer is not None:
        response = answer.response
        if on is not On.ANSWER_ACCEPTED:
            row = reasons.answered(answer.state, answer.reason)
            (state, error), reason = row.local, row.word
    return evolve(
        call,
        phase=phase,
        state=state,
        error=error,
        reason=reason,
        response=response,
        cancel_pending=Do.TELL_CANCELED in todo,
        ring_at=None,
        ack_at=None,
        resend_at=None,
        offline_at=None,
    ), todo


def logged_out(call: CallerCall) -> CallerCall:
    """The record of a call that is given up because this login is no longer one."""
    return evolve(
        call,
        phase=Phase.GONE,
        state=LocalInvitationState.FAILURE,
        error=LocalInvitationError.NOT_LOGGEDIN,
        reason=EndReason.LOGGED_OUT,
    )


def found(call_id: str, callee: str, cell: Invite) -> CallerCall:
    """The record of a call that a previous login of this peer left in ``cell``.

    What still rang there is now ended, *caller restarted*; a decision stands. A call that went on
    is over, *restarted*: nothing that was said in it is said again.
    """
    if cell.talk is not None and cell.state is not _SAYS_RINGING:
        word = reasons.over(cell.reason) if cell.state is InviteState.OVER else EndReason.RESTARTED
        return left(call_id, callee, cell.seq, word)
    accepted = cell.state is InviteState.ACCEPTED
    reason = EndReason.CALLER_RESTARTED
    if cell.state is InviteState.ENDED:
        reason = reasons.ended(cell.reason).word
    return CallerCall(
        call_id=call_id,
        callee=callee,
        phase=Phase.ACCEPTED if accepted else Phase.ENDED,
        state=LocalInvitationState.FAILURE,
        reason=EndReason.ACCEPTED if accepted else reason,
        offer=cell.offer,
        seq=cell.seq,
        previous_login=True,
    )


def left(call_id: str, callee: str, seq: int, word: EndReason) -> CallerCall:
    """The record of a call that went on in a previous login of this peer, and does not in this."""
    return CallerCall(
        call_id=call_id,
        callee=callee,
        phase=Phase.OVER,
        state=LocalInvitationState.ACCEPTED_BY_REMOTE,
        reason=EndReason.ACCEPTED,
        seq=seq,
        previous_login=True,
        talk=Talk(can=True, heard=True, reason=word),
    )
