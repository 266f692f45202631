"""All calls that one peer makes: commands, answers and time in; cells and events out.

What can happen to a call is here: the app's word, the callee's, the link's, time's. What a step
then comes to is in ``caller_steps``, what both ends share in ``side``.
"""

from __future__ import annotations

from ..errors import InvitationApiCallError
from ..states import EndReason, InvitationApiCallErrorCode
from . import caller
from .bounded import once_more
from .caller import CallerCall, Do, On, Phase, evolve
from .caller_steps import CallerSteps, without_large_content
from .context import CANCEL, Context, Key
from .effects import Cancel, Send
from .outbox import INVITE
from .settings import MAX_KEPT, NEVER_THERE, RESEND_INTERVAL
from .talk import NO_TALK, OFFERED
from .wire import reasons
from .wire.cells import Answer, AnswerState, Invite, InviteState

#: In these a call goes on only if its record says so.
_NOT_IN_TALK = frozenset({*caller.UNDECIDED, Phase.ACCEPTED})

# Members by themselves, as in caller_steps: every ring waits for these.
_SENT, _RECEIVED, _ACCEPTED, _ENDED, _CLEARING, _GONE, _TALKING, _OVER = Phase
_SAY, _ON_RESEND = Do.SAY, On.RESEND


class CallerSide(CallerSteps):
    """The caller's half of the engine."""

    def clone(self, context: Context) -> CallerSide:
        """An independent copy around a cloned context."""
        return self._copied_to(CallerSide(context))

    # --- the app ---------------------------------------------------------------------------

    def send(self, command: Send, now: float) -> None:
        """Ring ``callee``; raises ALREADY_SENT if that call is underway."""
        key = (command.callee, command.call_id)
        if key in self.calls:
            raise InvitationApiCallError(
                InvitationApiCallErrorCode.ALREADY_SENT,
                "it was sent before; make a new invitation for a new call",
                call_id=command.call_id,
                state=self.calls[key].state,
            )
        context, settings = self._context, self._context.settings
        ack_timeout = command.ack_timeout or settings.ack_timeout
        call = CallerCall(
            command.call_id,
            command.callee,
            offer=command.offer,
            sent_at=now,
            ring_at=now + (command.ring_timeout or settings.ring_timeout),
            ack_at=now + ack_timeout,
            ack_timeout=ack_timeout,
            talk=OFFERED if context.talk else NO_TALK,
        )
        context.stats.counters["sent"] += 1
        self._keep(self._say(call, now))
        context.watch(command.callee)
        if self._away(command.callee):  # by an earlier call, or because the app watches it
            self._note_offline(self.calls[key])

    def cancel(self, command: Cancel, now: float) -> None:
        """Cancel a call; raises ALREADY_END once it is decided or over."""
        call = self.calls.get((command.callee, command.call_id))
        if call is None or On.CANCEL not in caller.TABLE[call.phase]:
            raise InvitationApiCallError(
                InvitationApiCallErrorCode.ALREADY_END,
                "nothing to cancel: the call has ended",
                call_id=command.call_id,
                state=call.state if call else None,
            )
        self._step(call, On.CANCEL, now)

    def log_out(self, now: float) -> None:
        """End what is undecided as canceled, and what goes on."""
        self.end_talks(EndReason.LOGGED_OUT, now)
        for call in list(self.calls.values()):
            if call.phase in caller.UNDECIDED:
                self._step(call, On.LOGOUT, now)

    # --- the wire --------------------------------------------------------------------------

    def answered(self, key: Key, answer: Answer, now: float) -> bool:
        """Take in a callee's answer; False if the table has no place for it there."""
        call = self.calls.get(key)
        # Who answers has read it, so the broker took it.
        lifted = self._context.outbox.lift((INVITE, key))
        if call is None:
            if not self._is_aside(key):
                self._unknown(key, answer, now)
            return True
        on = caller.ANSWERS[answer.state]
        if on is On.ANSWER_OVER and call.phase in _NOT_IN_TALK and not call.talks:
            # Of a call that does not go on here, it is as final as any.
            on, answer = On.ANSWER_FAILED, Answer(AnswerState.FAILED, answer.epoch, answer.seq)
        entry = caller.TABLE[call.phase].get(on)
        if entry is None or (on is On.ANSWER_TALKING and not self._goes_on(call, answer)):
            return False
        if call.talks:
            if on is On.ANSWER_OVER and answer.talk is not None:
                call = self._hear(call, answer.talk, now, last=True)
            if Do.TELL_TALK_ENDED in entry[1]:
                over = on is On.ANSWER_OVER
                word = reasons.over(answer.reason) if over else EndReason.PEER_LOST
                call = self._with_talk(call, call.talk.ended(word))
        if entry != (call.phase, ()):  # else nothing changes, and nothing is to be done
            call = self._step(call, on, now, answer)
        if on is On.ANSWER_TALKING and answer.talk is not None:
            if call.talks:
                self._hear(self._shown(call, answer, now), answer.talk, now)
            return True
        if (answer.ask or lifted) and _SAY not in entry[1] and call.phase is not _CLEARING:
            self._say_for(call, now, answer.epoch if answer.ask else None)
        return True

    def answer_cleared(self, key: Key, now: float) -> None:
        """Take in that an answer cell was cleared: of a call that goes on here it goes on no more.

        Its callee clears it only once that is over there; else whoever runs the broker took the
        call away, and nothing that is said in it may come through any more.
        """
        call = self.calls.get(key)
        if call is not None and call.talks:
            lost = self._with_talk(call, call.talk.ended(EndReason.PEER_LOST))
            self._step(lost, On.ANSWER_SEEN, now)

    def asks_again(self, key: Key, now: float) -> bool:
        """Whether it rings, and an answer now, as a word before, would have the cell said again.

        Then what was said did not do: my presence as the callee knows it may be out of date.
        """
        call, context = self.calls.get(key), self._context
        return (
            call is not None
            and call.phase in caller.UNDECIDED
            and call.quiet_until > 0
            and once_more(call.quiet_until, now, RESEND_INTERVAL) is not None
            and context.up
            and context.outbox.may_say((INVITE, key))
        )

    def found(self, key: Key, cell: Invite, now: float) -> None:
        """Take over an invite cell that a previous login of this peer left."""
        if not self._may_find(key):
            return
        settings = self._context.settings
        call = without_large_content(caller.found(key[1], key[0], cell))
        call = evolve(call, keep_at=now + settings.missed_call_ttl)
        # Said with the resync, not while more is being read; a late one a little later.
        at = now + settings.probe_interval if self._context.inbox else None
        self._keep(evolve(call, resend_at=at, resend_delay=settings.probe_interval))
        self._context.watch(call.callee)

    def acked(self, purpose: str, key: Key, now: float) -> None:
        """The broker has a clear, or the decision to cancel."""
        call = self.calls.get(key)
        if call is None:
            return
        if purpose == CANCEL:
            self._tell_canceled(call)
        elif call.phase is _CLEARING:
            self._step(call, On.CLEAR_ACKED, now)
            self._remember(key, now)

    # --- the link and time -----------------------------------------------------------------

    def say(self, key: Key, now: float) -> None:
        """Say one cell once more, if there is still anything to say in it."""
        call = self.calls.get(key)
        if call is not None and call.phase is _CLEARING:
            self._clear(key)
        elif call is not None:
            self._keep(self._say(call, now))

    def set_aside(self, key: Key, now: float) -> None:
        """The broker does not take that cell: the call ends, and no more is said of it."""
        call = self.calls.get(key)
        if call is not None and not self._talk_not_taken(call, now):
            self._step(self.calls[key], On.NOT_TAKEN, now)
            if key not in self.calls:
                self._remember(key, now)

    def disconnected(self) -> None:
        """Nothing is said until the next resync; who waits for the broker's word waits no more."""
        for call in list(self.calls.values()):
            self._tell_canceled(call)
        for call in list(self.calls.values()):
            if call.resend_at is not None or call.offline_at is not None:
                self._keep(evolve(call, resend_at=None, offline_at=None))

    def callee_watched(self, callee: str, now: float) -> None:
        """The broker tells of a callee from now on; if it never does, nobody is there."""
        if self._away(callee):
            for call in list(self.calls.values()):
                if call.callee == callee and call.phase is _SENT and not call.offline_told:
                    self._keep(evolve(call, offline_at=now + NEVER_THERE))

    def callee_back(self, callee: str, now: float) -> None:
        """A callee that was away is online: say what it has not shown to know."""
        for call in list(self.calls.values()):
            if call.callee == callee and self._says_again(call):
                self._say_for(call, now)

    def callee_away(self, callee: str) -> None:
        """Nobody reads: what is decided waits in the broker until the callee is back."""
        for call in list(self.calls.values()):
            if call.callee != callee:
                continue
            if call.phase in caller.DECIDED or call.phase is _TALKING:
                self._keep(evolve(call, resend_at=None))
            elif call.phase is _SENT:
                self._note_offline(call)

    def unfinished(self) -> bool:
        """Whether somebody who is there has yet to learn how a call of mine ended."""
        return any(
            not call.previous_login
            and (call.phase is _CLEARING or not self._context.watches.of(call.callee).away)
            for call in self.calls.values()
        )

    # --- inside ----------------------------------------------------------------------------

    def _fire(self, call: CallerCall, now: float) -> None:
        if self._talk_due(call, now):
            return
        if call.cancel_at is not None and call.cancel_at <= now:
            call = evolve(call, cancel_at=None)
            self._keep(call)
            self._tell_canceled(call)
        elif call.ring_at is not None and call.ring_at <= now:
            self._step(call, On.RING_TIMEOUT, now)
        elif call.ack_at is not None and call.ack_at <= now:
            if not call.said:  # there is no link to say it on
                self._keep(evolve(call, ack_at=None))
                return
            self._step(call, On.PEER_OFFLINE if self._away(call.callee) else On.NO_RESPONSE, now)
        elif call.keep_at is not None and call.keep_at <= now:
            self._step(call, On.KEEP_EXPIRED, now)
        elif call.offline_at is not None and call.offline_at <= now:
            call = evolve(call, offline_at=None)
            self._keep(call)
            if self._away(call.callee):
                self._note_offline(call)
        else:
            self._context.stats.counters["resends"] += 1
            self._step(call, _ON_RESEND, now)

    def _goes_on(self, call: CallerCall, answer: Answer) -> bool:
        """Whether *talking* has a place there: of the login that accepted, if it still goes on."""
        if call.phase not in (_ACCEPTED, _TALKING):
            return True
        return call.talks and answer.epoch == call.talk.epoch

    def _shown(self, call: CallerCall, answer: Answer, now: float) -> CallerCall:
        """The record once the callee has shown that the call goes on there."""
        if call.talk.heard:
            return call
        there = self._context.watches.of(call.callee).there(answer.epoch)
        shown = self._with_talk(call, call.talk.shown(there=there))
        if not shown.talk.waits:
            return shown
        delay = self._context.settings.resend_first  # of what was said with the decision
        return evolve(shown, resend_at=now + delay, resend_delay=delay)

    def _adopt(self, call: CallerCall, now: float) -> None:
        """Keep a call that this login did not make."""
        call = evolve(call, keep_at=now + self._context.settings.missed_call_ttl)
        self._keep(self._say(call, now))
        self._context.watch(call.callee)

    def _unknown(self, key: Key, answer: Answer, now: float) -> None:
        """An answer to a call I know nothing of: clear it if it is over, end it if it is not.

        One that I cleared is over whatever a late copy says: nothing else is ever said of it. With
        no room to keep more it is cleared, too: a cell must not be left to stand by itself.
        """
        if not self._may_answer(key[0], now):
            return
        gone = Invite(state=InviteState.RINGING, epoch=b"", seq=0)
        call = caller.found(key[1], key[0], gone)
        if answer.state is AnswerState.TALKING:
            call = caller.left(key[1], key[0], 0, EndReason.RESTARTED)
        room = len(self.calls) < MAX_KEPT
        if room and not answer.state.final and self.remembered.get(key, now) <= now:
            self._adopt(call, now)
        elif room:
            self._keep(evolve(call, phase=_CLEARING))
            self._clear(key)
        else:
            self._clear(key, awaited=False)

    def _remember(self, key: Key, now: float) -> None:
        self.remembered[key] = now + self._context.settings.dedup_window
        while (oldest := self.remembered.oldest) is not None and oldest <= now:
            del self.remembered[next(iter(self.remembered))]
