"""All calls that come in to one peer: invites, commands and time in; cells and events out.

What can happen to a call is here: the app's word, the caller's, the link's, time's. What a step
then comes to is in ``callee_steps``, what both ends share in ``side``, who may ring at all in
``admission``.
"""

from __future__ import annotations

from ..errors import InvitationApiCallError
from ..states import EndReason, InvitationApiCallErrorCode
from . import callee
from .bounded import once_more
from .callee import CalleeCall, On, Phase, evolve
from .callee_steps import CalleeSteps
from .context import Context, Key
from .effects import Accept, PolicyVerdict, Refuse
from .events import CallEvent, Name
from .outbox import ANSWER
from .settings import RESEND_INTERVAL
from .talk import NO_TALK
from .wire import reasons
from .wire.cells import Answer, AnswerReason, Invite, InviteState, Presence

_TALKS = frozenset({On.TALKS, On.TALK_OVER})
_RINGS = frozenset({On.RINGING, On.RINGING_RETAINED})

# Members by themselves, as in callee_steps: every ring waits for these.
_NEW, _PROBING, _SCREENING, _RINGING, _ACCEPTING, _OVER, _CLEARING, _REMEMBERED = tuple(Phase)[:8]
_TALKING = Phase.TALKING
_ON_RINGING, _ON_RESEND = On.RINGING, On.RESEND


class CalleeSide(CalleeSteps):
    """The callee's half of the engine."""

    def clone(self, context: Context) -> CalleeSide:
        """An independent copy around a cloned context."""
        other = CalleeSide(context, self.admission.screen)
        self.admission.copied_to(other.admission)
        return self._copied_to(other)

    # --- the app ---------------------------------------------------------------------------

    def accept(self, command: Accept, now: float) -> None:
        """Accept what rings; raises ALREADY_ACCEPT or ALREADY_END."""
        call = self._ringing(command, "accept")
        self._step(call, On.ACCEPT, now, response=command.response)

    def refuse(self, command: Refuse, now: float) -> None:
        """Refuse what rings; raises ALREADY_ACCEPT or ALREADY_END."""
        call = self._ringing(command, "refuse")
        self._step(call, On.REFUSE, now, response=command.response, refusal=command.reason)

    def verdict(self, said: PolicyVerdict, now: float) -> None:
        """The policy has answered :class:`AskPolicy`; what is not waiting any more is let be."""
        key, admission = (said.caller, said.call_id), self.admission
        if admission.asked != key:
            return
        call, admission.asked = self.calls.get(key), None
        if call is not None and call.phase is _SCREENING:
            if said.refusal is None:
                self._step(call, On.ADMIT, now)
            elif self._may_answer(call.caller, now):
                self._step(call, On.TURN_AWAY, now, refusal=said.refusal)
            else:
                self._step(call, On.DROP, now)
        admission.ask()

    def log_out(self, now: float) -> None:
        """What rings here rings on at the next login; what was accepted has nobody to it."""
        self.end_talks(EndReason.LOGGED_OUT, now)
        for call in list(self.calls.values()):
            self._step(call, On.LOGOUT, now)

    # --- the wire --------------------------------------------------------------------------

    def invited(self, key: Key, invite: Invite | None, now: float, *, retained: bool) -> None:
        """Take in a caller's cell; None is the cleared one."""
        if self._is_aside(key) and key not in self.calls:
            return  # it is over here, and cannot be answered
        if invite is not None and invite.talk is not None and not self._context.talk:
            invite = _without_talk(invite)
        on = callee.heard(invite, retained=retained)
        call = self.calls.get(key) or self.remembered.get(key)
        if call is None:
            if invite is None:
                return
            call = callee.new(key[1], key[0], invite)
        if on is _ON_RINGING and invite is not None and not self.admission.is_live(call, invite):
            # A bridge, too, hands on what its far side had retained, without the RETAIN flag.
            on = On.RINGING_RETAINED
            if call.phase is _NEW:
                settings = self._context.settings
                live_at = now + (invite.ttl or 0) / 1000 + settings.ring_slack
                vouch_at = min(live_at, now + settings.resend_first)
                call = evolve(call, live_at=live_at, vouch_at=vouch_at)
        screening = call.phase is _SCREENING and on is not _ON_RINGING
        if on in _RINGS and (call.phase in (_NEW, _PROBING) or screening):
            refusal = self.admission.turn_away(call, on, invite)
            if refusal is not None:
                on, told = refusal
                if told is None:
                    self._step(call, on, now, invite=invite)
                elif call.phase is _PROBING or self._may_answer(call.caller, now):
                    self._step(call, on, now, invite=invite, refusal=told)
                return
        elif call.phase in (_NEW, _REMEMBERED) and not self._may_answer(call.caller, now):
            return
        if call.phase in (_ACCEPTING, _TALKING) and (call.talk.can or on in _TALKS):
            self._talked(call, on, invite, now)
        else:
            self._step(call, on, now, invite=invite, copy=True)

    def _talked(self, call: CalleeCall, on: On, invite: Invite | None, now: float) -> None:
        """Take in the caller's cell of a call that goes on, or may do so now."""
        said = None if invite is None else invite.talk
        if call.phase is _ACCEPTING:
            if said is None or invite is None or not call.talk.can or on not in _TALKS:
                if on in _TALKS or on is On.ACCEPTED:  # one of the two cannot
                    call, on = evolve(call, talk=NO_TALK), On.ACCEPTED
                self._step(call, on, now, invite=invite, copy=True)
                return
            call = self._begun(call, invite.epoch, now, heard=True)
            # Handed over once the app knows that the call goes on; acknowledged with this word.
            messages, news = call.talk.messages.read(said)
            call = self._with_talk(call, call.talk._replace(messages=messages))
            self._step(call, On.TALKS, now, invite=invite)
            call = self.calls[call.key]
            for message in news.messages:
                self._context.tell(CallEvent(Name.CALL_MESSAGE, call, message))
            if on is On.TALKS:
                return
        talk = call.talk
        if on is On.TALKS or on in _RINGS:
            if said is not None and on is On.TALKS and invite and invite.epoch == talk.epoch:
                self._hear(call, said, now)
            return
        word = EndReason.RESTARTED if invite is not None else EndReason.PEER_LOST
        if on is On.TALK_OVER and invite is not None and said is not None:
            word = reasons.over(invite.reason)
            call = self._hear(call, said, now, last=True)
            talk = call.talk
        self._step(self._with_talk(call, talk.ended(word)), on, now, invite=invite)

    def found(self, key: Key, cell: Answer, now: float) -> None:
        """Take over an answer cell that a previous login of this peer left."""
        if not self._may_find(key):
            return
        settings = self._context.settings
        call = callee.found(key[1], key[0], cell)
        call = evolve(call, keep_at=now + settings.missed_call_ttl)
        # Said, or asked, with the resync, not while more is being read; a late one a little later.
        late = self._context.inbox
        at = now + settings.probe_interval if late or call.phase is _PROBING else None
        self._keep(evolve(call, resend_at=at, resend_delay=settings.probe_interval))
        if call.phase is _PROBING:
            self.admission.moved(call.caller, _NEW, _PROBING, now)

    def acked(self, purpose: str, key: Key, now: float) -> None:  # noqa: ARG002 - one signature
        """The broker has a clear."""
        call = self.calls.get(key)
        if call is not None and call.phase is _CLEARING:
            self._step(call, On.CLEAR_ACKED, now)

    def caller_seen(self, caller: str, presence: Presence | None, now: float, *,
                    retained: bool, changed: bool, back: bool = False) -> None:  # fmt: skip
        """Take in the presence of a caller."""
        if presence is None:
            return
        settings = self._context.settings
        for call in list(self.calls.values()):
            if call.caller != caller or call.phase not in callee.WATCHING or call.talks:
                continue
            same = presence.epoch == call.epoch
            if call.phase is _PROBING:
                if presence.online and same and (call.vouch_at or now) > now:
                    self._rings_after_all(call, now)
                elif presence.online and changed and not retained:
                    self._ask(call, now)
            elif call.phase is _SCREENING and presence.online != same:
                on, told = self.admission.turn_away(call, On.RINGING_RETAINED, None) or (
                    On.RINGING_RETAINED,
                    None,
                )
                self._step(call, on, now, refusal=told or AnswerReason.DECLINED)
            elif presence.online and same and back and call.phase is _RINGING:
                # It was away, or a late will said so: its word on the time left is wanted again.
                self._ask(call, now)
            elif call.phase is _RINGING and presence.online != same:
                # Gone, or, by an old word of a broker's or bridge's, not at all: not long, then.
                at = min(call.ring_at or now, now + settings.caller_lost_grace)
                self._keep(doubted := evolve(call, ring_at=at))
                self._ask(doubted, now)

    # --- the link and time -----------------------------------------------------------------

    def say(self, key: Key, now: float) -> None:
        """Say one cell once more, if there is still anything to say in it."""
        call = self.calls.get(key)
        if call is not None and call.phase is _CLEARING:
            self._clear(key)
        elif call is not None and call.phase is not _SCREENING:
            self._keep(self._say(call, now, ask=call.phase is _PROBING))

    def set_aside(self, key: Key, now: float) -> None:
        """The broker does not take that cell: the call ends.

        An answer that carried a response may have been too large by that: it is tried without one.
        """
        call = self.calls.get(key)
        if call is None or self._talk_not_taken(call, now):
            return
        call = self.calls[key]
        carried = call.response is not None and call.phase in (_ACCEPTING, _OVER)
        if call.phase is _ACCEPTING and not carried:
            return  # the broker may have taken it before; the caller's word alone counts
        if call.phase is _OVER and carried:
            self._keep(evolve(call, response=None))
        else:
            self._step(call, On.NOT_TAKEN, now)
        if carried:
            self._context.outbox.lift((ANSWER, key))

    def disconnected(self) -> None:
        """Nothing is said until the next resync."""
        for call in list(self.calls.values()):
            # What came on this connection may be over before the next.
            if call.resend_at is not None or call.vouch_at is not None:
                self._keep(evolve(call, resend_at=None, vouch_at=None))

    def unfinished(self) -> bool:
        """Whether a caller who is there has yet to clear a call that ended here."""
        return any(
            call.phase is _CLEARING
            or (call.phase is _OVER and not self._context.watches.of(call.caller).away)
            for call in self.calls.values()
        )

    def deadline(self) -> float | None:
        """When :meth:`fire` has something to do."""
        due = super().deadline()
        oldest = self.remembered.oldest
        if oldest is None or oldest.keep_at is None:
            return due
        return oldest.keep_at if due is None else min(due, oldest.keep_at)

    def fire(self, now: float) -> None:
        """Do what is due, the earliest call first."""
        super().fire(now)
        while (call := self.remembered.oldest) is not None:
            if call.keep_at is None or call.keep_at > now:
                break
            self._step(call, On.FORGET, now)

    # --- inside ----------------------------------------------------------------------------

    def _ringing(self, command: Accept | Refuse, verb: str) -> CalleeCall:
        call = self.calls.get((command.caller, command.call_id))
        if call is not None and call.phase is _RINGING:
            return call
        if call is not None and call.phase is _ACCEPTING:
            code = InvitationApiCallErrorCode.ALREADY_ACCEPT
            why = f"cannot {verb} it: it was accepted here, and the caller is about to decide"
        else:
            code = InvitationApiCallErrorCode.ALREADY_END
            why = f"nothing to {verb}: the call has ended"
        state = call.state if call else None
        raise InvitationApiCallError(code, why, call_id=command.call_id, state=state)

    def _rings_after_all(self, call: CalleeCall, now: float) -> None:
        """Its caller is there: what came live was live."""
        on, told = self.admission.would_ring(call) or (On.CALLER_ALIVE, None)
        call = evolve(call, ring_at=call.live_at)
        self._step(call, on, now, refusal=told or AnswerReason.DECLINED)

    def _ask(self, call: CalleeCall, now: float) -> None:
        """Ask because of the caller's presence; if it comes and goes in a moment, after that."""
        quiet_until = once_more(call.quiet_until, now, RESEND_INTERVAL)
        if quiet_until is not None:
            self._keep(evolve(self._say(call, now, ask=True), quiet_until=quiet_until))
        elif call.resend_at is None and self._context.up:
            self._keep(evolve(call, resend_at=call.quiet_until))

    def _fire(self, call: CalleeCall, now: float) -> None:
        if self._talk_due(call, now):
            return
        if call.ring_at is not None and call.ring_at <= now:
            replaced = self._context.watches.of(call.caller).replaced(call.epoch)
            self._step(call, On.CALLER_REPLACED if replaced else On.RING_EXPIRED, now)
        elif call.accept_at is not None and call.accept_at <= now:
            self._step(call, On.ACCEPT_TIMEOUT, now)
        elif call.keep_at is not None and call.keep_at <= now:
            self._step(call, On.KEEP_EXPIRED, now)
        else:
            self._context.stats.counters["resends"] += 1
            self._step(call, _ON_RESEND, now)


def _without_talk(invite: Invite) -> Invite:
    """What a peer that cannot stay in a call reads; but of one that it was in, that it is over."""
    return invite if invite.state is InviteState.OVER else invite._replace(talk=None)
