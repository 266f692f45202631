"""The simulation with calls that go on: messages both ways, hanging up, and the same trouble.

Most peers can stay in a call, some cannot, and one that restarts may have become another. What each
says in a call is numbered and names the login that said it, so that the judge sees a message that
is lost, double, late, out of order, or of another life.
"""

from __future__ import annotations

from typing import Final

from device_sdk.core.callee import CalleeCall
from device_sdk.core.callee import Phase as CalleePhase
from device_sdk.core.caller import CallerCall
from device_sdk.core.effects import Accept, HangUp, Input, SayMessage
from device_sdk.core.engine import Engine
from device_sdk.core.events import CallEvent, CoreEvent, Name
from device_sdk.core.settings import Settings
from device_sdk.core.wire.talk_cells import decode_message, encode_message
from device_sdk.errors import TooManyMessages
from device_sdk.states import EndReason

from .simulation import FAULTY, SLOWEST, Episode, Peer

#: Seconds after which a call that nobody hung up ends by itself.
TALK_LIMIT: Final = 90.0
#: On a sound network all is said within this, and nobody hangs up before it was handled.
SAYING: Final = 5.0
HANDLED: Final = SAYING + 2 * SLOWEST + 1.0


class TalkingEpisode(Episode):
    """An episode whose calls go on after *accepted*."""

    def __init__(self, seed: int) -> None:
        self._lives = 0
        self._acknowledged: dict[tuple[Engine, bool, tuple[str, str]], int] = {}
        super().__init__(seed)

    def _engine(self, name: str) -> Engine:
        epoch = self.random.randbytes(8)
        talk = self.random.random() < 0.9
        return Engine(name, epoch, settings=Settings(talk_limit=TALK_LIMIT), talk=talk)

    def _log_in_again(self) -> None:
        for ring in self._rings:
            if ring.at >= FAULTY:
                ring.must_have_heard(self.time)
        super()._log_in_again()

    # --- people ------------------------------------------------------------------------------

    def _answer(self, peer: Peer, caller: str, call_id: str) -> None:
        if not self._sound:
            super()._answer(peer, caller, call_id)
            return
        engine = peer.engine

        def accept() -> None:
            call = engine.callee.calls.get((caller, call_id))
            if peer.engine is engine and call and call.phase is CalleePhase.RINGING:
                self._feed(peer, Accept(caller, call_id))

        self._later(self.random.uniform(0, 2), accept)

    def _converse(self, peer: Peer, other: str, call_id: str, made: bool) -> None:
        """One side of a call says some things, and perhaps hangs up."""
        pick, engine = self.random, peer.engine
        self._lives += 1
        life, said = self._lives, 0

        def goes_on() -> bool:
            return peer.engine is engine and not peer.dead and _talks(engine, made, other, call_id)

        def say() -> None:
            nonlocal said
            if not goes_on():
                return
            filler = bytes(pick.choice((0, 0, 20, 3000)))
            message = encode_message([life, said + 1, filler])
            ring, leg = self._by_call[call_id]
            try:
                self._feed_message(peer, SayMessage(other, call_id, made, message))
            except TooManyMessages:
                self.totals.talks["refused: too many wait"] += 1
                return
            said += 1
            ring.said_message(leg, made)
            self.totals.talks["said"] += 1

        def hang_up() -> None:
            if goes_on():
                self._feed(peer, HangUp(other, call_id, made, EndReason.HUNG_UP))

        span = SAYING if self._sound else 40.0
        for _ in range(pick.choice((0, 1, 2, 5)) if pick.random() < 0.97 else 100):
            self._later(pick.choice((0.0, pick.uniform(0, span))), say)
        if pick.random() < 0.6:
            self._later(pick.uniform(HANDLED if self._sound else 0, 60), hang_up)

    def _feed_message(self, peer: Peer, what: SayMessage) -> None:
        """Feed a message; one that finds no room raises, and must have changed nothing."""
        before = _register(peer.engine, what)
        try:
            self._feed(peer, what)
        except Exception as error:
            if (
                isinstance(error.__cause__, TooManyMessages)
                and _register(peer.engine, what) == before
            ):
                raise error.__cause__ from None
            raise

    def _told(self, peer: Peer, event: CoreEvent, cause: Input) -> None:
        if not isinstance(event, CallEvent):
            super()._told(peer, event, cause)
            return
        call = event.call
        made = isinstance(call, CallerCall)
        ring, leg = self._by_call[call.call_id]
        message = None if event.message is None else tuple(decode_message(event.message)[:2])
        ring.told_talk(leg, made, event.name, message)
        if event.name is Name.CALL_STARTED:
            self.totals.talks["went on"] += made
            self._converse(peer, call.key[0], call.call_id, made)
        elif event.name is Name.CALL_MESSAGE:
            self.totals.talks["handled"] += 1
        else:
            self.totals.talks[f"over: {event.reason}"] += 1

    def _feed(self, peer: Peer, what: Input) -> None:
        super()._feed(peer, what)
        engine = peer.engine
        sides: tuple[dict[tuple[str, str], CallerCall] | dict[tuple[str, str], CalleeCall], ...]
        sides = (engine.callee.calls, engine.caller.calls)
        for made, calls in enumerate(sides):
            for key, call in calls.items():
                done = call.talk.messages.acknowledged
                if done and self._acknowledged.get((engine, bool(made), key)) != done:
                    self._acknowledged[engine, bool(made), key] = done
                    ring, leg = self._by_call[call.call_id]
                    ring.acknowledged(leg, bool(made), done)


def _talks(engine: Engine, made: bool, other: str, call_id: str) -> bool:
    side = engine.caller if made else engine.callee
    call = side.calls.get((other, call_id))
    return call is not None and call.talks


def _register(engine: Engine, what: SayMessage) -> object:
    side = engine.caller if what.made else engine.callee
    return side.calls[what.peer, what.call_id].talk.messages
