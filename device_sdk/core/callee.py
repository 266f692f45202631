"""The callee's end of a call: its record, and what a step of its table makes of it.

The table, and the theory of it, is ``callee_table``.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..states import EndReason, RemoteInvitationError, RemoteInvitationState
from .callee_table import OPEN, TABLE, WATCHING, Do, On, Phase
from .talk import NO_TALK, OFFERED, Talk
from .values import evolver
from .wire import reasons
from .wire.cells import Answer, AnswerReason, AnswerState, Invite, InviteState, Offer

__all__ = [
    "OPEN", "OUTCOMES", "TABLE", "WATCHING", "CalleeCall", "Do", "On", "Phase",
    "evolve", "found", "heard", "new", "step",
]  # fmt: skip

#: How a step out of an open phase shows: answer said, its reason, app's state, error, our word.
#: None: as it was, or as the caller's reason says.
Ending = tuple[
    AnswerState,
    AnswerReason | None,
    RemoteInvitationState,
    RemoteInvitationError,
    EndReason | None,
]
_A, _S, _E = AnswerState, RemoteInvitationState, RemoteInvitationError


def _said(reason: AnswerReason) -> Ending:
    row = reasons.BY_REASON[reason]
    return row.answer, row.reason, *row.remote, row.word


_NO_ACCEPT: Final = _said(AnswerReason.ACCEPT_FAILURE)
_TOO_LATE: Final = _said(AnswerReason.CALLEE_EXPIRED)
_LOST: Final = _said(AnswerReason.CALLER_LOST)
_NOT_TAKEN: Final[Ending] = (*_NO_ACCEPT[:4], EndReason.NOT_ALLOWED)
OUTCOMES: Final[Mapping[tuple[Phase, On], Ending]] = {
    **{
        (p, on): _NO_ACCEPT
        for on in (On.ACCEPTED, On.TALKS)
        for p in (Phase.NEW, Phase.PROBING, Phase.SCREENING, Phase.RINGING)
    },
    (Phase.ACCEPTING, On.ACCEPTED): (_A.SEEN, None, _S.ACCEPTED, _E.OK, EndReason.ACCEPTED),
    (Phase.ACCEPTING, On.TALKS): (_A.TALKING, None, _S.ACCEPTED, _E.OK, EndReason.ACCEPTED),
    # Nothing of a call that went on was heard of here, and it is over: nothing is told.
    **{
        (p, On.TALK_OVER): (_A.SEEN, None, *_NO_ACCEPT[2:])
        for p in (Phase.NEW, Phase.PROBING, Phase.SCREENING, Phase.RINGING)
    },
    (Phase.ACCEPTING, On.ACCEPT_TIMEOUT): _NO_ACCEPT,
    (Phase.ACCEPTING, On.LOGOUT): (*_NO_ACCEPT[:4], EndReason.LOGGED_OUT),
    **{(p, On.NOT_TAKEN): _NOT_TAKEN for p in (Phase.RINGING, Phase.ACCEPTING)},
    (Phase.RINGING, On.REFUSE): (_A.REFUSED, None, _S.REFUSED, _E.OK, None),
    **{(p, On.RING_EXPIRED): _TOO_LATE for p in (Phase.SCREENING, Phase.RINGING)},
    (Phase.PROBING, On.KEEP_EXPIRED): _TOO_LATE,
    **{(p, On.CALLER_REPLACED): _LOST for p in (Phase.SCREENING, Phase.RINGING)},
}

#: Answers that carry talk, where a call has it.
_SAYS_TALK: Final = frozenset({AnswerState.ACCEPTED, AnswerState.TALKING, AnswerState.OVER})


class CalleeCall(NamedTuple):
    """One call as its callee knows it: a value; the engine holds the current one.

    ``epoch`` is that of the caller's login; ``answer`` what the answer cell says; ``quiet_until``:
    copies of the invite are not answered too often; ``live_at``: until when
    it rings by an invite that is asked about although it came without the RETAIN flag, if until
    ``vouch_at`` its caller is read online.
    """

    call_id: str
    caller: str
    epoch: bytes = b""
    phase: Phase = Phase.NEW
    state: RemoteInvitationState = RemoteInvitationState.IDLE
    error: RemoteInvitationError = RemoteInvitationError.OK
    reason: EndReason | None = None
    offer: Offer = Offer()
    response: bytes | None = None
    answer: AnswerState = AnswerState.RECEIVED
    answer_reason: AnswerReason | None = None
    seq: int = 0
    ring_at: float | None = None
    accept_at: float | None = None
    resend_at: float | None = None
    resend_delay: float = 0.0
    keep_at: float | None = None
    quiet_until: float = 0.0
    vouch_at: float | None = None
    live_at: float | None = None
    talk: Talk = NO_TALK

    @property
    def talks(self) -> bool:
        """Whether it goes on after *accepted*, here and now."""
        return self.talk.up

    @property
    def key(self) -> tuple[str, str]:
        """Peer and call id: what a call is known by."""
        return self.caller, self.call_id

    @property
    def due(self) -> float | None:
        """The earliest of its deadlines."""
        at = None
        talk_due = self.talk.due if self.talk.up else None
        for due in (self.ring_at, self.accept_at, self.resend_at, self.keep_at, talk_due):
            if due is not None and (at is None or due < at):
                at = due
        return at

    def cell(self, epoch: bytes, *, ask: bool = False) -> Answer:
        """What the answer cell says."""
        if not self.talk.can or self.answer not in _SAYS_TALK:
            return Answer(self.answer, epoch, self.seq, self.response, self.answer_reason, ask)
        number = reasons.over_number(self.talk.reason) if self.answer is AnswerState.OVER else None
        said = self.talk.messages.said()
        return Answer(self.answer, epoch, self.seq, self.response, number, ask, said)


evolve = evolver(CalleeCall)


def new(call_id: str, caller: str, invite: Invite) -> CalleeCall:
    """The record of a call heard of for the first time, by ``invite``."""
    return CalleeCall(
        call_id,
        caller,
        invite.epoch,
        offer=invite.offer,
        talk=NO_TALK if invite.talk is None else OFFERED,
    )


# Members by themselves: looking one up in its class takes Python 3.11 ten times as long. All of
# these together save a ring 8 µs of 650 there.
_NEW, _PROBING, _SCREENING, _RINGING, _ACCEPTING, _OVER, _CLEARING, _REMEMBERED = tuple(Phase)[:8]
_GONE, _TALKING = Phase.GONE, Phase.TALKING
_RECEIVED, _SAYS_RINGING = RemoteInvitationState.INVITATION_RECEIVED, InviteState.RINGING


def step(
    call: CalleeCall,
    on: On,
    invite: Invite | None = None,
    refusal: AnswerReason = AnswerReason.DECLINED,
    response: bytes | None = None,
) -> tuple[CalleeCall, tuple[Do, ...]]:
    """The record after ``on``, and what to do; raises ``KeyError`` where the table has no entry."""
    before = call.phase
    phase, todo = TABLE[before][on]
    if invite is not None and before in (_PROBING, _SCREENING):
        # What an earlier copy said of the content stays, where this one does not say it.
        call = evolve(
            call,
            epoch=invite.epoch,
            offer=invite.offer.over(call.offer),
            talk=NO_TALK if invite.talk is None else OFFERED,
        )
    elif invite is not None and invite.epoch != call.epoch and before is not _TALKING:
        call = evolve(call, epoch=invite.epoch)
    if phase is before:
        return call, todo
    if phase is _RINGING:
        return evolve(call, phase=phase, state=_RECEIVED,
            resend_at=None, keep_at=None,
        ), todo  # fmt: skip
    if phase is _SCREENING:
        return evolve(call, phase=phase, resend_at=None, keep_at=None), todo
    if before is _TALKING:
        answer = AnswerState.OVER if on is On.HANG_UP else AnswerState.SEEN
        return evolve(call, phase=phase, answer=answer, response=None, resend_at=None), todo
    if phase is _ACCEPTING:
        return evolve(call, phase=phase, state=RemoteInvitationState.ACCEPT_SENT_TO_LOCAL,
            answer=AnswerState.ACCEPTED, response=response, ring_at=None,
        ), todo  # fmt: skip
    quiet = evolve(call, phase=phase, ring_at=None, accept_at=None, resend_at=None, keep_at=None)
    if (before, on) in OUTCOMES:
        answer, number, state, error, reason = OUTCOMES[before, on]
        if on is On.NOT_TAKEN:
            quiet = evolve(quiet, response=None)  # what was too large, perhaps
        if on is On.REFUSE:
            number, reason = refusal, reasons.BY_REASON[refusal].word
            quiet = evolve(quiet, response=response)
        return evolve(
            quiet, answer=answer, answer_reason=number, state=state, error=error, reason=reason
        ), todo
    if on is On.ENDED and before in (_NEW, *WATCHING):
        row = reasons.ended(invite.reason if invite else None)
        (state, error), reason = row.remote, row.word
        return evolve(
            quiet, answer=AnswerState.SEEN, response=None, state=state, error=error, reason=reason
        ), todo
    if on in (On.TURN_AWAY, On.OVERLOAD):
        return evolve(quiet, answer=AnswerState.REFUSED, answer_reason=refusal,
            state=RemoteInvitationState.REFUSED, reason=reasons.BY_REASON[refusal].word,
        ), todo  # fmt: skip
    if on is On.CLEARED and before in WATCHING:
        return evolve(quiet, answer=AnswerState.SEEN, response=None,
            state=RemoteInvitationState.CANCELED, reason=EndReason.CANCELED,
        ), todo  # fmt: skip
    if on is On.LOGOUT and before is _RINGING:
        return evolve(quiet, state=RemoteInvitationState.FAILURE,
            error=RemoteInvitationError.INVITATION_EXPIRE, reason=EndReason.LOGGED_OUT,
        ), todo  # fmt: skip
    return quiet, todo


def heard(invite: Invite | None, *, retained: bool) -> On:
    """Which input an invite cell is; None stands for the cleared cell."""
    if invite is None:
        return On.CLEARED
    if invite.state is _SAYS_RINGING:
        return On.RINGING_RETAINED if retained or not invite.ttl else On.RINGING
    if invite.talk is not None:
        return On.TALK_OVER if invite.state is InviteState.OVER else On.TALKS
    return On.ACCEPTED if invite.state is InviteState.ACCEPTED else On.ENDED


def found(call_id: str, caller: str, cell: Answer) -> CalleeCall:
    """The record of a call that a previous login of this peer left in ``cell``.

    A final answer stands; one of *received* is asked about: does the caller still ring? An
    *accepted* may have won already, and nobody waits for that here: it goes on to *failed*. A call
    that went on is over, *restarted*: nothing that was said in it is said again.
    """
    call = CalleeCall(call_id=call_id, caller=caller, seq=cell.seq)
    if cell.state in (AnswerState.TALKING, AnswerState.OVER):
        word = reasons.over(cell.reason) if cell.state is AnswerState.OVER else EndReason.RESTARTED
        return evolve(call, phase=_OVER, answer=AnswerState.OVER, talk=Talk(can=True, reason=word))
    if cell.state is AnswerState.ACCEPTED:
        return evolve(
            call, phase=_OVER, answer=AnswerState.FAILED, answer_reason=AnswerReason.ACCEPT_FAILURE
        )
    if not cell.state.final:
        return evolve(call, phase=_PROBING)
    reason = next((r for r in AnswerReason if r == cell.reason), None)
    return evolve(
        call,
        phase=_OVER,
        answer=cell.state,
        answer_reason=reason,
        response=cell.response,
    )
