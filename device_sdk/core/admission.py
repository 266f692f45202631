"""Whether what comes in may ring here: is it live, the caps against floods, the peer's own screen.

A screen decides at once or wants the peer's policy asked: one call at a time, the others wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum, auto

from . import callee
from .callee import CalleeCall, On, Phase, evolve
from .caller import CallerCall
from .context import Context, Key
from .effects import AskPolicy
from .wire.cells import AnswerReason, Invite


class Held(Enum):
    """What a screen gives for a call that its policy is to be asked about."""

    HELD = auto()


#: Decides before anything rings: None to ring, or why not; or HELD: :class:`AskPolicy` asks, and
#: :class:`PolicyVerdict` is what it says. Called with the call's record and the number of
#: invitations that are open here; pure, quick, and no code of the app's.
Screen = Callable[[CalleeCall, int], AnswerReason | Held | None]

# Members by themselves, as in callee_steps: every ring waits for these.
_NEW, _PROBING, _SCREENING = Phase.NEW, Phase.PROBING, Phase.SCREENING
_ON_RINGING = On.RINGING


class Admission:
    """Who may ring; it counts the calls that are underway, and asks the policy."""

    def __init__(
        self, context: Context, screen: Screen | None, calls: Mapping[Key, CalleeCall]
    ) -> None:
        self._context = context
        self.screen = screen
        self._calls = calls
        #: The calls that this peer makes.
        self.made: Mapping[Key, CallerCall] = {}
        #: Of each caller the number of calls that ring, or would, or were accepted.
        self.live: Counter[str] = Counter()
        #: And of those that it is asked about: what stands there of a dead one takes no live place.
        self.probed: Counter[str] = Counter()
        #: The call that the policy is asked about now; one at a time.
        self.asked: Key | None = None

    def copied_to(self, other: Admission) -> None:
        """Let ``other`` know what this one does."""
        other.live, other.probed = self.live.copy(), self.probed.copy()
        other.asked = self.asked

    def moved(self, caller: str, before: Phase, after: Phase, now: float) -> None:
        """A call from ``caller`` is in another phase: while it is underway, presence matters."""
        was, now_in = self._counter(before), self._counter(after)
        if was is now_in:
            return
        if was is not None:
            was[caller] -= 1
            if was[caller] <= 0:
                del was[caller]
        if now_in is not None:
            now_in[caller] = now_in.get(caller, 0) + 1
        if was is None:
            self._context.watch(caller)
        elif now_in is None:
            self._context.leave(caller, now)

    def _counter(self, phase: Phase) -> Counter[str] | None:
        if phase not in callee.WATCHING:
            return None
        return self.probed if phase is _PROBING else self.live

    def is_live(self, call: CalleeCall, invite: Invite) -> bool:
        """Whether an invite that came without the RETAIN flag is its caller's word of now.

        It is if it answers what this login asked, unless its caller has gone since; and, where
        nothing is in doubt yet, if its caller was read online on this connection.
        """
        known = self._context.watches.of(call.caller)
        if call.phase is not _NEW and self.answers(invite):
            return not known.gone(invite.epoch)
        return call.phase is not _PROBING and known.there(invite.epoch)

    def answers(self, invite: Invite) -> bool:
        """Whether it is said because this login asked."""
        return invite.asker == self._context.epoch

    def turn_away(
        self, call: CalleeCall, on: On, invite: Invite | None
    ) -> tuple[On, AnswerReason | None] | None:
        """What becomes of a call that comes in instead of ringing, and why; None to let it ring."""
        if on is not _ON_RINGING:  # what is in doubt is asked about first
            over = call.phase is not _PROBING and self._overloaded(call.caller, self.probed)
            return (On.OVERLOAD, AnswerReason.BUSY) if over else None
        if call.phase is _PROBING and invite is not None:
            call = evolve(call, offer=invite.offer)
        return self.would_ring(call)

    def would_ring(self, call: CalleeCall) -> tuple[On, AnswerReason | None] | None:
        """What becomes of a call that is live now instead of ringing; None to let it ring."""
        if self._overloaded(call.caller, self.live):
            return On.OVERLOAD, AnswerReason.BUSY
        told = None if self.screen is None else self.screen(call, self._open())
        if told is None:
            return None
        return (On.SCREEN, None) if told is Held.HELD else (On.TURN_AWAY, told)

    def ask(self) -> None:
        """Ask about the next call that waits for it, unless one is being asked about already."""
        if self.asked is None:
            for call in self._calls.values():
                if call.phase is _SCREENING:
                    self.asked = call.key
                    self._context.out.append(AskPolicy(call, self._open()))
                    return

    def _overloaded(self, caller: str, places: Counter[str]) -> bool:
        settings = self._context.settings
        if (
            places.get(caller, 0) < settings.max_calls_per_caller
            and sum(places.values()) < settings.max_calls
        ):
            return False
        self._context.stats.counters["turned_away"] += 1
        return True

    def _open(self) -> int:
        rings = [c.phase in callee.OPEN or c.talks for c in self._calls.values()].count(True)
        return rings + [c.talks for c in self.made.values()].count(True)
