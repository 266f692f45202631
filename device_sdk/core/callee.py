"""The callee's end of a call: its record, and its transitions as one table.

Theory (docs/protocol.md, Callee). The callee owns the answer cell. An invite that arrives live
from a caller known to be there rings at once; any other is first asked about (``PROBING``), so that
a dead caller never rings. A policy that is the app's own code is waited for before it rings
(``SCREENING``). ``RINGING`` ends by the app, the caller's word, or time; after accept
(``ACCEPTING``) the caller's word alone counts. Once the outcome is known a final answer stands
(``OVER``), said again until the caller has cleared its invite; then the answer is cleared
(``CLEARING``) and the call remembered for a while (``REMEMBERED``), so that a late copy cannot
ring. A call of two peers that both can goes on after the caller's word: ``TALKING``
(docs/protocol.md, Talk).

:data:`TABLE` holds every legal step, as in ``caller``. ``Phase.NEW`` is a call not known here.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from ..states import EndReason, RemoteInvitationError, RemoteInvitationState
from ..wire import reasons
from ..wire.cells import Answer, AnswerReason, AnswerState, Invite, InviteState, Offer
from .talk import NO_TALK, OFFERED, Talk
from .values import evolver


class Phase(Enum):
    """Where the callee's end is; the app sees :class:`RemoteInvitationState`."""

    NEW = auto()
    PROBING = auto()
    SCREENING = auto()  # the app's policy is asked whether it may ring; nothing is said meanwhile
    RINGING = auto()
    ACCEPTING = auto()
    OVER = auto()
    CLEARING = auto()
    REMEMBERED = auto()
    GONE = auto()
    TALKING = auto()

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a Python call


class On(Enum):
    """What can happen to the callee's end."""

    # the caller's invite says
    RINGING = auto()  # live, with time left
    RINGING_RETAINED = auto()  # doubtful: it may be of the broker's store, or has no time left
    ACCEPTED = auto()
    ENDED = auto()
    CLEARED = auto()
    TALKS = auto()  # accepted, and it goes on
    TALK_OVER = auto()
    # the app says
    ACCEPT = auto()
    REFUSE = auto()
    LOGOUT = auto()
    # a policy of this peer says, before anything rings
    SCREEN = auto()  # wait for what it says
    ADMIT = auto()
    TURN_AWAY = auto()
    OVERLOAD = auto()
    DROP = auto()  # say nothing, as if it had not come
    # time says
    RING_EXPIRED = auto()
    ACCEPT_TIMEOUT = auto()
    RESEND = auto()
    KEEP_EXPIRED = auto()
    FORGET = auto()
    CALLER_REPLACED = auto()  # past the deadline, and another login of the caller's is there
    # the caller's presence says
    CALLER_ALIVE = auto()
    # the app, the caller's presence or time says, of a call that goes on
    HANG_UP = auto()
    # the broker does not take the cell: not allowed, or too large
    NOT_TAKEN = auto()
    # the broker has the cleared cell
    CLEAR_ACKED = auto()

    __hash__ = object.__hash__


class Do(Enum):
    """What the engine does for a step, in the order given."""

    SAY = auto()  # publish the answer cell
    ASK = auto()  # publish it with ``ask``: is it still so?
    CLEAR = auto()  # publish it empty
    EXTEND = auto()  # the deadline is what the invite says now
    TELL_RECEIVED = auto()
    TELL_ACCEPTED = auto()
    TELL_REFUSED = auto()
    TELL_CANCELED = auto()
    TELL_FAILURE = auto()
    TELL_ENDED = auto()  # canceled or failed, as the caller's reason says
    TELL_MISSED = auto()  # unless answered elsewhere
    TELL_TALK_STARTED = auto()
    TELL_TALK_ENDED = auto()

    __hash__ = object.__hash__


Step = tuple[Phase, tuple[Do, ...]]

_IGNORED: Final[tuple[Do, ...]] = ()
_RESEND: Final[Step] = (Phase.OVER, (Do.SAY,))

TABLE: Final[Mapping[Phase, Mapping[On, Step]]] = {
    Phase.NEW: {
        On.RINGING: (Phase.RINGING, (Do.SAY, Do.EXTEND, Do.TELL_RECEIVED)),
        On.RINGING_RETAINED: (Phase.PROBING, (Do.ASK,)),
        # Answered by a previous login of mine: the caller must learn that nobody is there.
        On.ACCEPTED: (Phase.OVER, (Do.SAY,)),
        On.TALKS: (Phase.OVER, (Do.SAY,)),
        On.TALK_OVER: (Phase.OVER, (Do.SAY,)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.SCREEN: (Phase.SCREENING, (Do.EXTEND,)),
        On.TURN_AWAY: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.OVERLOAD: (Phase.OVER, (Do.SAY,)),
    },
    Phase.PROBING: {
        On.RINGING: (Phase.RINGING, (Do.SAY, Do.EXTEND, Do.TELL_RECEIVED)),
        On.RINGING_RETAINED: (Phase.PROBING, (Do.ASK,)),
        On.ACCEPTED: (Phase.OVER, (Do.SAY,)),
        On.TALKS: (Phase.OVER, (Do.SAY,)),
        On.TALK_OVER: (Phase.OVER, (Do.SAY,)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR,)),
        On.SCREEN: (Phase.SCREENING, (Do.EXTEND,)),
        On.TURN_AWAY: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.OVERLOAD: (Phase.OVER, (Do.SAY,)),
        On.CALLER_ALIVE: (Phase.RINGING, (Do.TELL_RECEIVED,)),
        On.RESEND: (Phase.PROBING, (Do.ASK,)),
        On.KEEP_EXPIRED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.LOGOUT: (Phase.GONE, _IGNORED),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
    },
    Phase.SCREENING: {
        On.RINGING: (Phase.SCREENING, (Do.EXTEND,)),
        On.RINGING_RETAINED: (Phase.PROBING, (Do.ASK,)),  # in doubt by now: screened anew, if ever
        On.ACCEPTED: (Phase.OVER, (Do.SAY,)),
        On.TALKS: (Phase.OVER, (Do.SAY,)),
        On.TALK_OVER: (Phase.OVER, (Do.SAY,)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR,)),
        On.ADMIT: (Phase.RINGING, (Do.SAY, Do.TELL_RECEIVED)),
        On.TURN_AWAY: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.OVERLOAD: (Phase.OVER, (Do.SAY,)),
        On.DROP: (Phase.GONE, _IGNORED),
        On.RING_EXPIRED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.CALLER_REPLACED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.LOGOUT: (Phase.GONE, _IGNORED),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
    },
    Phase.RINGING: {
        On.RINGING: (Phase.RINGING, (Do.SAY, Do.EXTEND)),
        On.RINGING_RETAINED: (Phase.RINGING, (Do.ASK,)),
        On.ACCEPTED: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.TALKS: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.TALK_OVER: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_ENDED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_CANCELED)),
        On.ACCEPT: (Phase.ACCEPTING, (Do.SAY,)),
        On.REFUSE: (Phase.OVER, (Do.SAY, Do.TELL_REFUSED)),
        On.RING_EXPIRED: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.CALLER_REPLACED: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.RESEND: (Phase.RINGING, (Do.ASK,)),  # of the caller, once its presence is quiet again
        On.LOGOUT: (Phase.GONE, (Do.TELL_FAILURE,)),
        On.NOT_TAKEN: (Phase.GONE, (Do.TELL_FAILURE,)),
    },
    Phase.ACCEPTING: {
        On.RINGING: (Phase.ACCEPTING, (Do.SAY,)),
        On.RINGING_RETAINED: (Phase.ACCEPTING, (Do.SAY,)),
        On.ACCEPTED: (Phase.OVER, (Do.SAY, Do.TELL_ACCEPTED)),
        On.TALKS: (Phase.TALKING, (Do.SAY, Do.TELL_ACCEPTED, Do.TELL_TALK_STARTED)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_ENDED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_CANCELED)),
        On.ACCEPT_TIMEOUT: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.RESEND: (Phase.ACCEPTING, (Do.SAY,)),
        On.LOGOUT: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.NOT_TAKEN: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
    },
    Phase.TALKING: {
        On.RINGING: (Phase.TALKING, _IGNORED),
        On.RINGING_RETAINED: (Phase.TALKING, _IGNORED),
        On.TALKS: (Phase.TALKING, _IGNORED),
        On.TALK_OVER: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        # A later login of the caller's, which does not talk.
        On.ACCEPTED: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_TALK_ENDED)),
        On.HANG_UP: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        On.RESEND: (Phase.TALKING, (Do.SAY,)),
    },
    Phase.OVER: {
        On.RINGING: _RESEND,
        On.RINGING_RETAINED: _RESEND,
        On.ACCEPTED: _RESEND,
        On.ENDED: _RESEND,
        On.TALKS: _RESEND,
        On.TALK_OVER: _RESEND,
        On.RESEND: _RESEND,
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR,)),
        On.KEEP_EXPIRED: (Phase.CLEARING, (Do.CLEAR,)),
        On.LOGOUT: (Phase.OVER, _IGNORED),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
    },
    Phase.CLEARING: {
        On.RINGING: _RESEND,
        On.RINGING_RETAINED: _RESEND,
        On.ACCEPTED: _RESEND,
        On.ENDED: _RESEND,
        On.TALKS: _RESEND,
        On.TALK_OVER: _RESEND,
        On.CLEARED: (Phase.CLEARING, _IGNORED),
        On.CLEAR_ACKED: (Phase.REMEMBERED, _IGNORED),
        On.LOGOUT: (Phase.CLEARING, _IGNORED),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
    },
    Phase.REMEMBERED: {
        On.RINGING: _RESEND,
        On.RINGING_RETAINED: _RESEND,
        On.ACCEPTED: _RESEND,
        On.ENDED: _RESEND,
        On.TALKS: _RESEND,
        On.TALK_OVER: _RESEND,
        # Said once without being kept, perhaps: then the answer still stands there.
        On.CLEARED: (Phase.REMEMBERED, (Do.CLEAR,)),
        On.FORGET: (Phase.GONE, _IGNORED),
        On.LOGOUT: (Phase.REMEMBERED, _IGNORED),
    },
}

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

#: Phases in which the app has an invitation that has not ended.
OPEN: Final = frozenset({Phase.RINGING, Phase.ACCEPTING})
#: Phases in which the caller's presence matters.
WATCHING: Final = frozenset({Phase.PROBING, Phase.SCREENING, Phase.TALKING, *OPEN})


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
