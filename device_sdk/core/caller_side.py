"""All calls that one peer makes: commands, answers and time in; cells and events out.

The transitions are ``caller``'s table, what both ends share is ``side``'s; here stands the rest:
which timer is armed, when a cell is said again, when a call is forgotten.
"""

from __future__ import annotations

from ..errors import InvitationApiCallError
from ..states import EndReason, InvitationApiCallErrorCode
from ..wire import reasons
from ..wire.cells import Answer, AnswerState, Invite, InviteState
from ..wire.keys import MAX_UINT
from . import caller
from .bounded import once_more
from .caller import CallerCall, Do, On, Phase, evolve
from .context import CANCEL, Context, Key
from .effects import Cancel, Send
from .events import LocalEvent, Name, PeerLost
from .outbox import INVITE
from .settings import MAX_KEPT, NEVER_THERE, RESEND_INTERVAL
from .talk import NO_TALK, OFFERED
from .talk_side import TalkSide

#: An end that is said again carries no content of more bytes than this.
ENDED_CONTENT = 512

_TELLS = {
    Do.TELL_RECEIVED: Name.LOCAL_RECEIVED_BY_PEER,
    Do.TELL_ACCEPTED: Name.LOCAL_ACCEPTED,
    Do.TELL_REFUSED: Name.LOCAL_REFUSED,
    Do.TELL_FAILURE: Name.LOCAL_FAILURE,
}
_SAYS_AGAIN = frozenset({Phase.SENT, *caller.DECIDED})
#: In these a call goes on only if its record says so.
_NOT_IN_TALK = frozenset({*caller.UNDECIDED, Phase.ACCEPTED})


# Members by themselves: looking one up in its class takes Python 3.11 ten times as long. All of
# these together save a ring 8 µs of 650 there.
_SENT, _RECEIVED, _ACCEPTED, _ENDED, _CLEARING, _GONE, _TALKING, _OVER = Phase
_SAY, _CLEAR, _TELL_RECEIVED = Do.SAY, Do.CLEAR, Do.TELL_RECEIVED
_ON_RESEND = On.RESEND


class CallerSide(TalkSide[CallerCall, float]):
    """The caller's half of the engine; of a call that is over it remembers until when to."""

    kind = INVITE

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
        call = self._step(call, on, now, answer)
        if on is On.ANSWER_TALKING and answer.talk is not None:
            if call.talks:
                there = self._context.watches.of(call.callee).there(answer.epoch)
                heard = self._with_talk(call, call.talk.shown(there=there))
                if heard.talk.waits and not call.talk.heard:  # what was said with the decision
                    delay = self._context.settings.resend_first
                    heard = evolve(heard, resend_at=now + delay, resend_delay=delay)
                self._hear(heard, answer.talk, now)
            return True
        if (answer.ask or lifted) and _SAY not in entry[1] and call.phase is not _CLEARING:
            self._say_for(call, now, answer.epoch if answer.ask else None)
        return True

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
        call = _without_large_content(caller.found(key[1], key[0], cell))
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
            if call.callee == callee and _says_again(call):
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
        if _says_again(call) and not (
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
        return _without_large_content(call) if call.phase is _ENDED else call

    def _say_for(self, call: CallerCall, now: float, asker: bytes | None = None) -> None:
        """Say the cell because of a word of the callee's; not for each of a flood of them.

        ``asker``: the epoch of that word, if it was a question.
        """
        quiet_until = once_more(call.quiet_until, now, RESEND_INTERVAL)
        if quiet_until is not None:
            self._keep(evolve(self._say(call, now, asker=asker), quiet_until=quiet_until))
        elif call.phase in _SAYS_AGAIN and call.resend_at is None and self._context.up:
            self._keep(evolve(call, resend_at=call.quiet_until))

    def _away(self, callee: str) -> bool:
        """Whether nobody is there; without a link of my own I know nothing of the peer."""
        return self._context.inbox and self._context.watches.of(callee).away

    def _goes_on(self, call: CallerCall, answer: Answer) -> bool:
        """Whether *talking* has a place there: of the login that accepted, if it still goes on."""
        if call.phase not in (_ACCEPTED, _TALKING):
            return True
        return call.talks and answer.epoch == call.talk.epoch

    def _note_offline(self, call: CallerCall) -> None:
        """Say once of a call without a sign of life that its callee is not there."""
        if not call.offline_told:
            call = evolve(call, offline_at=None, offline_told=True)
            self._keep(call)
            self._context.tell(LocalEvent(Name.LOCAL_PEER_OFFLINE, call))

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


def _says_again(call: CallerCall) -> bool:
    """Whether the callee has yet to show that it knows what the cell says."""
    if call.phase is _TALKING:
        return call.talk.waits
    return call.phase in _SAYS_AGAIN


def _without_large_content(call: CallerCall) -> CallerCall:
    """What is said again of an end: whoever missed the call may see a short content."""
    content = call.offer.content
    if content is None or len(content) <= ENDED_CONTENT:
        return call
    return evolve(call, offer=call.offer._replace(content=None))
