"""What a step of a call to here comes to: its cell said, its times armed, the app told.

Which step it is, the table in ``callee_table`` says; what brings it about is in ``callee_side``.
"""

from __future__ import annotations

import math

from ..states import EndReason, RemoteInvitationState
from . import callee
from .admission import Admission, Screen
from .bounded import once_more
from .callee import CalleeCall, Do, On, Phase, evolve
from .context import Context
from .events import Name, RemoteEvent
from .outbox import ANSWER
from .settings import MAX_KEPT, RESEND_INTERVAL
from .talk_side import TalkSide
from .wire.cells import AnswerReason, Invite
from .wire.keys import MAX_UINT

_TELLS = {
    Do.TELL_RECEIVED: Name.REMOTE_RECEIVED,
    Do.TELL_ACCEPTED: Name.REMOTE_ACCEPTED,
    Do.TELL_REFUSED: Name.REMOTE_REFUSED,
    Do.TELL_CANCELED: Name.REMOTE_CANCELED,
    Do.TELL_FAILURE: Name.REMOTE_FAILURE,
}
_TALK_TELLS = {
    Do.TELL_TALK_STARTED: Name.CALL_STARTED,
    Do.TELL_TALK_ENDED: Name.CALL_ENDED,
}
_SAYINGS = frozenset({Do.SAY, Do.ASK, Do.CLEAR})
_SPOKEN = frozenset({*_TELLS, Do.TELL_MISSED, Do.TELL_ENDED})
_SAYS_AGAIN = frozenset({Phase.PROBING, Phase.ACCEPTING, Phase.OVER})

# Members by themselves: looking one up in its class takes Python 3.11 ten times as long. All of
# these together save a ring 8 µs of 650 there.
_NEW, _PROBING, _SCREENING, _RINGING, _ACCEPTING, _OVER, _CLEARING, _REMEMBERED = tuple(Phase)[:8]
_GONE, _TALKING = Phase.GONE, Phase.TALKING
_SAY, _ASK, _CLEAR, _EXTEND = Do.SAY, Do.ASK, Do.CLEAR, Do.EXTEND
_TELL_MISSED, _TELL_ENDED, _REMOTE_RECEIVED = Do.TELL_MISSED, Do.TELL_ENDED, Name.REMOTE_RECEIVED
_ON_RESEND, _CANCELED = On.RESEND, RemoteInvitationState.CANCELED


class CalleeSteps(TalkSide[CalleeCall, CalleeCall]):
    """The calls that come in to one peer, step by step.

    A call that is over is remembered whole, so that a late copy gets its answer once more; its
    ``keep_at`` is when it is forgotten.
    """

    kind = ANSWER

    def __init__(self, context: Context, screen: Screen | None = None) -> None:
        super().__init__(context)
        self.admission = Admission(context, screen, self.calls)

    def _step(
        self,
        call: CalleeCall,
        on: On,
        now: float,
        *,
        invite: Invite | None = None,
        refusal: AnswerReason = AnswerReason.DECLINED,
        response: bytes | None = None,
        copy: bool = False,
    ) -> None:
        settings = self._context.settings
        before = call.phase
        call, todo = callee.step(call, on, invite, refusal, response)
        if call.phase is _CLEARING and self._is_aside(call.key):
            call = evolve(call, phase=_GONE)  # its clear would not be taken either
        if call.phase is not before:
            if call.phase is _ACCEPTING:
                call = evolve(call, accept_at=now + settings.accept_timeout)
            elif call.phase in (_OVER, _PROBING):
                call = evolve(call, keep_at=now + settings.missed_call_ttl)
            elif call.phase is _REMEMBERED:
                call = evolve(call, keep_at=now + settings.dedup_window)
        ring_at = call.ring_at
        if _EXTEND in todo and invite is not None:
            ring_at = now + (invite.ttl or 0) / 1000 + settings.ring_slack
        if call.phase is _SCREENING:
            call = evolve(call, ring_at=ring_at)  # which is said of no other phase without a word
        if copy and (before not in (_NEW, _PROBING) or call.phase is before):
            quiet_until = once_more(call.quiet_until, now, RESEND_INTERVAL)
            if quiet_until is not None:
                call = evolve(call, quiet_until=quiet_until)
            elif call.phase is before:
                todo = tuple(do for do in todo if do not in _SAYINGS)
                call = evolve(call, ring_at=ring_at)
            elif call.phase is _OVER and before in (_CLEARING, _REMEMBERED):
                # Whoever said it may be gone, and not say it again: it is answered a little later.
                todo = ()
                call = evolve(call, resend_at=call.quiet_until, resend_delay=settings.resend_first)
        for do in todo:
            if do is _SAY or do is _ASK:
                ask, again = do is _ASK, on is _ON_RESEND
                call = self._say(call, now, ask=ask, again=again, ring_at=ring_at)
                if ask and invite is not None and self.admission.answers(invite):
                    # It speaks though it was read gone: by a late will, or an older login.
                    self._context.read_again(call.caller)
            elif do is _CLEAR:
                self._clear(call.key, awaited=call.phase is _CLEARING)
        # Whom the app answered is told until it is seen; the others say it again by themselves.
        told = before in (_ACCEPTING, _TALKING) or on is On.REFUSE
        unkept = call.phase is _OVER and not told
        if unkept and before is not _OVER and len(self.calls) >= MAX_KEPT:
            until = now + settings.dedup_window
            call = evolve(call, phase=_REMEMBERED, resend_at=None, keep_at=until)
        self._keep(call)
        if call.phase is _REMEMBERED:
            self.remembered[call.key] = call
            self._context.idle_until = -math.inf
        elif before is _REMEMBERED:
            del self.remembered[call.key]
        self.admission.moved(call.caller, before, call.phase, now)
        if call.phase is _SCREENING:
            self.admission.ask()
        for do in todo:
            if do in _SPOKEN:
                self._tell(do, call)
            elif do in _TALK_TELLS:
                self._tell_talk(_TALK_TELLS[do], call)

    def _say(
        self,
        call: CalleeCall,
        now: float,
        *,
        ask: bool = False,
        again: bool = False,
        ring_at: float | None = None,
    ) -> CalleeCall:
        """Publish the cell and arm the next time; while the link is down the resync will."""
        context, settings = self._context, self._context.settings
        ring_at = call.ring_at if ring_at is None else ring_at
        if not context.may_say(ANSWER, call.key):
            return evolve(call, ring_at=ring_at, resend_at=None)
        delay, at = call.resend_delay, None
        if call.phase in _SAYS_AGAIN or (call.phase is _TALKING and call.talk.waits):
            quick = call.phase in (_PROBING, _ACCEPTING)
            first = settings.probe_interval if quick else settings.resend_first
            delay = min(delay * 2, settings.resend_max) if again else first
            at = now + delay
        call = evolve(
            call, seq=min(call.seq + 1, MAX_UINT), ring_at=ring_at, resend_at=at, resend_delay=delay
        )
        context.say(ANSWER, call.key, call.cell(context.epoch, ask=ask))
        return call

    def _end_talk(self, call: CalleeCall, word: EndReason, now: float) -> None:
        self._step(self._with_talk(call, call.talk.ended(word)), On.HANG_UP, now)

    def _give_up(self, call: CalleeCall) -> None:
        if call.talks:
            ended = self._with_talk(call, call.talk.ended(EndReason.LOGGED_OUT))
            self._tell_talk(Name.CALL_ENDED, ended)
        if call.phase in callee.OPEN:
            gone = evolve(call, phase=_RINGING)
            self._tell(Do.TELL_FAILURE, callee.step(gone, On.LOGOUT)[0])

    def _tell(self, do: Do, call: CalleeCall) -> None:
        if do is _TELL_MISSED:
            if call.reason is not EndReason.ANSWERED_ELSEWHERE:
                self._context.stats.counters["missed"] += 1
                self._context.tell(RemoteEvent(Name.MISSED_CALL, call))
            return
        if do is _TELL_ENDED:
            do = Do.TELL_CANCELED if call.state is _CANCELED else Do.TELL_FAILURE
        name = _TELLS[do]
        if name is _REMOTE_RECEIVED:
            self._context.stats.counters["rang"] += 1
        else:
            self._context.stats.remote_ends[str(call.reason)] += 1
        self._context.tell(RemoteEvent(name, call))
