"""What both sides of an engine do of calls that go on after *accepted* (docs/protocol.md, Talk).

The steps are in the tables of ``caller`` and ``callee``, the register and its times in ``talk``;
here stands what happens between: messages handed over and acknowledged, ends, who is gone.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from ..errors import InvalidArgument, InvitationApiCallError, TooManyMessages
from ..states import EndReason, InvitationApiCallErrorCode
from . import callee, caller
from .bounded import once_more
from .effects import HangUp, SayMessage
from .events import CallEvent, Name
from .settings import RESEND_INTERVAL
from .side import Side
from .talk import Talk
from .wire.cells import Presence, Said

C = TypeVar("C", caller.CallerCall, callee.CalleeCall)
R = TypeVar("R")


class TalkSide(Side[C, R]):
    """A side whose calls may go on."""

    # --- the app ---------------------------------------------------------------------------

    def message(self, command: SayMessage, now: float) -> None:
        """Say one message more; raises ALREADY_END, :class:`TooManyMessages`, InvalidArgument."""
        call, talk = self._in_talk(command)
        try:
            messages = talk.messages.send(command.message)
        except ValueError as error:
            raise InvalidArgument("message", str(error)) from None
        except OverflowError as error:
            raise TooManyMessages(f"{error}; send again when it has handled some") from None
        call = self._with_talk(call, talk.saying(messages))
        # What finds no room in the cell waits until there is some.
        self._keep(self._say(call, now) if messages.fits else call)

    def hang_up(self, command: HangUp, now: float) -> None:
        """End a call that goes on; raises ALREADY_END."""
        call, _ = self._in_talk(command)
        self._end_talk(call, command.reason, now)

    def end_talks(self, word: EndReason, now: float) -> None:
        """End all that go on."""
        for call in list(self.calls.values()):
            if call.talks:
                self._end_talk(call, word, now)

    # --- the wire --------------------------------------------------------------------------

    def _hear(self, call: C, said: Said, now: float, *, last: bool = False) -> C:
        """Take in what the other's cell says of the talk; after the ``last`` no answer is due."""
        before = call.talk.messages
        messages, news = before.read(said)
        more = not before.fits and messages.said().count > before.said().count  # there is room now
        talk = call.talk.saying(messages)
        call = self._with_talk(call, talk)
        if last:
            pass
        elif news.messages or more:
            call = self._say(call, now)
        elif news.repeated or said.got is None:
            quiet_until = once_more(talk.quiet_until, now, RESEND_INTERVAL)
            if quiet_until is not None:
                call = self._say(self._with_talk(call, talk._replace(quiet_until=quiet_until)), now)
        elif not talk.waits:
            call = self._rested(call)
        self._keep(call)
        for message in news.messages:
            self._context.tell(CallEvent(Name.CALL_MESSAGE, call, message))
        return call

    def peer_seen(self, peer: str, presence: Presence | None, now: float) -> None:
        """Take in the presence of somebody who may be in a call with this peer."""
        for call in list(self.calls.values()):
            talk = call.talk
            if talk.up and call.key[0] == peer:
                online = presence.online if presence else None
                same = presence is not None and presence.epoch == talk.epoch
                told = talk.seen(now, self._context.settings, online=online, same=same)
                if told is not talk:
                    self._keep(self._with_talk(call, told))

    def peer_watched(self, peer: str, now: float) -> None:
        """The broker tells of a peer from now on; if it does not, nobody may be there."""
        if not self._context.watches.of(peer).read:
            self.peer_seen(peer, None, now)

    # --- the link and time -----------------------------------------------------------------

    def cut(self, now: float) -> None:
        """The link is gone: what goes on ends if it does not come back."""
        at = now + self._context.settings.link_lost_grace
        for call in list(self.calls.values()):
            if call.talks and call.talk.cut_at is None:
                self._keep(self._with_talk(call, call.talk._replace(cut_at=at)))

    def resync(self, now: float) -> None:
        """Say every live cell once more."""
        for call in list(self.calls.values()):
            if call.talk.cut_at is not None:
                self._keep(self._with_talk(call, call.talk._replace(cut_at=None)))
        super().resync(now)

    # --- inside ----------------------------------------------------------------------------

    def _begun(self, call: C, epoch: bytes, now: float, *, heard: bool) -> C:
        """The record of a call that goes on from now on."""
        context = self._context
        talk = call.talk.begun(epoch, now, context.settings, heard=heard)
        known = context.watches.of(call.key[0])
        if heard and known.current and not known.there(epoch):
            talk = talk._replace(lost_at=now + context.settings.link_lost_grace)
        return self._with_talk(call, talk)

    def _talk_due(self, call: C, now: float) -> bool:
        """Whether a deadline of the talk was due; it has ended then."""
        word = call.talk.due_reason(now) if call.talks else None
        if word is not None:
            self._end_talk(call, word, now)
        return word is not None

    def _talk_not_taken(self, call: C, now: float) -> bool:
        """The broker does not take a cell of a talk: it is over; True if its last word is tried.

        It may have been too large by its messages: it is said without them.
        """
        talk = call.talk
        if not talk.up and talk.reason is None:
            return False
        if talk.up:
            self._end_talk(call, EndReason.NOT_ALLOWED, now)
        call = self.calls[call.key]
        self._keep(self._with_talk(call, call.talk.spent()))
        if talk.waits:
            self._context.outbox.lift((self.kind, call.key))
        return talk.waits

    def _in_talk(self, command: SayMessage | HangUp) -> tuple[C, Talk]:
        call = self.calls.get((command.peer, command.call_id))
        if call is None or not call.talks:
            raise InvitationApiCallError(
                InvitationApiCallErrorCode.ALREADY_END,
                "the call is over, or never went on after accepted",
                call_id=command.call_id,
                state=call.state if call else None,
            )
        return call, call.talk

    def _tell_talk(self, name: Name, call: C) -> None:
        self._context.tell(CallEvent(name, call, reason=call.talk.reason))

    def _with_talk(self, call: C, talk: Talk) -> C:
        evolve = caller.evolve if isinstance(call, caller.CallerCall) else callee.evolve
        told: C = evolve(call, talk=talk)
        return told

    def _rested(self, call: C) -> C:
        """All is acknowledged: nothing is to be said again."""
        evolve = caller.evolve if isinstance(call, caller.CallerCall) else callee.evolve
        told: C = evolve(call, resend_at=None)
        return told

    @abstractmethod
    def _end_talk(self, call: C, word: EndReason, now: float) -> None:
        """End a call that goes on, of this side's own accord."""

    @abstractmethod
    def _say(self, call: C, now: float) -> C:
        """Publish the cell and arm the next time."""
