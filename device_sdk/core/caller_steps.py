"""What a step of a call made here comes to: its cell said, its times armed, the app told.

Which step it is, the table in ``caller_table`` says; what brings it about is in ``caller_side``.
"""

from __future__ import annotations

from ..states import EndReason
from . import caller
from .bounded import once_more
from .caller import CallerCall, Do, On, Phase, evolve
from .context import CANCEL
from .events import LocalEvent, Name, PeerLost
from .outbox import INVITE
from .settings import RESEND_INTERVAL
from .talk import NO_TALK
from .talk_side import TalkSide
from .wire import reasons
from .wire.cells import Answer, AnswerState
from .wire.keys import MAX_UINT

#: An end that is said again carries no content of more bytes than this.
ENDED_CONTENT = 512

_TELLS = {
    Do.TELL_RECEIVED: Name.LOCAL_RECEIVED_BY_PEER,
    Do.TELL_ACCEPTED: Name.LOCAL_ACCEPTED,
    Do.TELL_REFUSED: Name.LOCAL_REFUSED,
    Do.TELL_FAILURE: Name.LOCAL_FAILURE,
}
_SAYS_AGAIN = frozenset({Phase.SENT, *caller.DECIDED})

# Members by themselves: looking one up in its class takes Python 3.11 ten times as long. All of
# these together save a ring 8 µs of 650 there.
_SENT, _RECEIVED, _ACCEPTED, _ENDED, _CLEARING, _GONE, _TALKING, _OVER = Phase
_SAY, _CLEAR, _TELL_RECEIVED = Do.SAY, Do.CLEAR, Do.TELL_RECEIVED
_ON_RESEND = On.RESEND


class CallerSteps(TalkSide[CallerCall, float]):
    """The calls that one peer makes, step by step; remembered of one that is over: until when."""

    kind = INVITE

    def _step(
        self, call: CallerCall, on: On, now: float, answer: Answer | None = None
    ) -> CallerCall:
        before = call.phase
        call, todo = caller.step(call, on, answer)
        if call.phase is _ACCEPTED and before is not _ACCEPTED and call.talk.can:
            if answer is not None and answer.talk is not None:
                call = self._begun(call, answer.epoch, now, heard=False)
            else:
                call = evolve(call, talk=NO_TALK)
        if call.phase is _CLEARING and self._is_aside(call.key):
            call = evolve(call, phase=_GONE)  # its clear would not be taken either
        if call.phase in caller.DECIDED and before is not call.phase:
            call = evolve(call, keep_at=now + self._context.settings.missed_call_ttl)
        for do in todo:
            if do is _SAY:
                call = self._say(call, now, again=on is _ON_RESEND)
            elif do is _CLEAR:
                self._clear(call.key)
        self._keep(call)
        if call.phase in (_CLEARING, _GONE) and before is not _CLEARING:
            self._context.leave(call.callee, now)
            call = self._tell_canceled(call)  # the callee saw the end, so the broker had it
        if before is _SENT and answer is not None:
            self._context.stats.round_trip(now - call.sent_at)
        for do in todo:
            if do in _TELLS:
                self._tell(do, call)
                if do is Do.TELL_ACCEPTED and call.talks:
                    self._tell_talk(Name.CALL_STARTED, call)
            elif do is Do.TELL_TALK_ENDED and call.talk.reason is not None:
                self._tell_talk(Name.CALL_ENDED, call)
            elif do is Do.END_OTHER_LEGS:
                self._end_other_legs(call, now)
            elif do is Do.TELL_CANCELED and not self._context.up:
                self._tell_canceled(call)
            elif do is Do.TELL_CANCELED and call.cancel_pending:
                # A broker that acknowledges nothing keeps nobody waiting.
                call = evolve(call, cancel_at=now + self._context.settings.resend_first)
                self._keep(call)
            elif do is Do.TELL_PEER_LOST and answer is not None and not call.previous_login:
                self._context.tell(
                    PeerLost(call, reasons.answered(AnswerState.FAILED, answer.reason).word)
                )
        return call

    def _say(
        self, call: CallerCall, now: float, *, again: bool = False, asker: bytes | None = None
    ) -> CallerCall:
        """Publish the cell and arm the next time; while the link is down the resync will."""
        context, settings, key = self._context, self._context.settings, call.key
        if not context.may_say(INVITE, key):
            return evolve(call, resend_at=None)
        delay, at = call.resend_delay, None
        if self._says_again(call) and not (
            call.phase is not _SENT and context.watches.of(call.callee).away
        ):
            delay = min(delay * 2, settings.resend_max) if again else settings.resend_first
            at = now + delay
        said, ack_at = call.said, call.ack_at
        if not said and call.phase is _SENT:  # nobody could answer before
            said, ack_at = True, now + call.ack_timeout
        call = evolve(call, seq=min(call.seq + 1, MAX_UINT), resend_at=at, resend_delay=delay,
            said=said, ack_at=ack_at,
        )  # fmt: skip
        canceling = call.phase is _ENDED and call.cancel_pending
        cell = call.cell(context.epoch, now, asker)
        context.say(INVITE, key, cell, CANCEL if canceling else None)
        return without_large_content(call) if call.phase is _ENDED else call

    def _say_for(self, call: CallerCall, now: float, asker: bytes | None = None) -> None:
        """Say the cell because of a word of the callee's; not for each of a flood of them.

        ``asker``: the epoch of that word, if it was a question.
        """
        quiet_until = once_more(call.quiet_until, now, RESEND_INTERVAL)
        if quiet_until is not None:
            self._keep(evolve(self._say(call, now, asker=asker), quiet_until=quiet_until))
        elif call.phase in _SAYS_AGAIN and call.resend_at is None and self._context.up:
            self._keep(evolve(call, resend_at=call.quiet_until))

    @staticmethod
    def _says_again(call: CallerCall) -> bool:
        """Whether the callee has yet to show that it knows what the cell says."""
        if call.phase is _TALKING:
            return call.talk.waits
        return call.phase in _SAYS_AGAIN

    def _away(self, callee: str) -> bool:
        """Whether nobody is there; without a link of my own I know nothing of the peer."""
        return self._context.inbox and self._context.watches.of(callee).away

    def _note_offline(self, call: CallerCall) -> None:
        """Say once of a call without a sign of life that its callee is not there."""
        if not call.offline_told:
            call = evolve(call, offline_at=None, offline_told=True)
            self._keep(call)
            self._context.tell(LocalEvent(Name.LOCAL_PEER_OFFLINE, call))

    def _end_other_legs(self, winner: CallerCall, now: float) -> None:
        group = winner.offer.group
        if group is None:
            return
        for call in list(self.calls.values()):
            if (
                call.offer.group == group
                and call.phase in caller.UNDECIDED
                and call.key != winner.key
            ):
                self._step(call, On.ANSWERED_ELSEWHERE, now)

    def _tell_canceled(self, call: CallerCall) -> CallerCall:
        if call.cancel_pending:
            call = evolve(call, cancel_pending=False, cancel_at=None)
            self._keep(call)
            self._ended(call)
            self._context.tell(LocalEvent(Name.LOCAL_CANCELED, call))
        return call

    def _tell(self, do: Do, call: CallerCall) -> None:
        if do is not _TELL_RECEIVED:
            self._ended(call)
        self._context.tell(LocalEvent(_TELLS[do], call))

    def _give_up(self, call: CallerCall) -> None:
        if call.phase in caller.UNDECIDED:
            self._tell(Do.TELL_FAILURE, caller.logged_out(call))
        elif call.talks:
            ended = self._with_talk(call, call.talk.ended(EndReason.LOGGED_OUT))
            self._tell_talk(Name.CALL_ENDED, ended)
        else:
            self._tell_canceled(call)  # the broker's word for it does not come any more

    def _end_talk(self, call: CallerCall, word: EndReason, now: float) -> None:
        self._step(self._with_talk(call, call.talk.ended(word)), On.HANG_UP, now)

    def _ended(self, call: CallerCall) -> None:
        self._context.stats.local_ends[str(call.reason or EndReason.CANCELED)] += 1


def without_large_content(call: CallerCall) -> CallerCall:
    """What is said again of an end: whoever missed the call may see a short content."""
    content = call.offer.content
    if content is None or len(content) <= ENDED_CONTENT:
        return call
    return evolve(call, offer=call.offer._replace(content=None))
