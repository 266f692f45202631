"""The caller's end of a call: its record, and what a step of its table makes of it.

The table, and the theory of it, is ``caller_table``.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..states import EndReason, LocalInvitationError, LocalInvitationState
from .caller_table import ANSWERS, DECIDED, SAYS, TABLE, UNDECIDED, Do, On, Phase
from .talk import NO_TALK, Talk
from .values import evolver
from .wire import reasons
from .wire.cells import Answer, Invite, InviteState, Offer, Said

__all__ = [
    "ANSWERS", "DECIDED", "OUTCOMES", "TABLE", "UNDECIDED", "CallerCall", "Do", "On", "Phase",
    "evolve", "found", "left", "logged_out", "step",
]  # fmt: skip

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
