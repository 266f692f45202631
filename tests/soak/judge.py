"""What must hold of one press of a button in the simulation: the same monitor as the model's."""

from __future__ import annotations

from collections.abc import Iterable

from device_sdk.core.events import ENDS, Name
from device_sdk.states import EndReason
from tests.model.automaton import Call, Violation
from tests.model.monitor import Monitor

_KINDS = (
    ("late", ("after the end", "never went on in this life", "hears two lives")),
    ("order", ("handles message",)),
    ("split", ("split", "second")),
    ("duplicate", ("again", "twice", "two ends", "missed after")),
    ("ghost", ("ghost", "without a live", "told by none")),
    ("lost", ("never", "lost", "not told", "not handled")),
)
#: What can be wrong: of calls, of messages in them (late: also in another life), and of the rest.
KINDS = ("lost", "ghost", "duplicate", "split", "late", "order", "stuck", "error")


class Fault(Exception):
    """An episode went wrong; ``kind`` is one of :data:`KINDS`."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)  # both, so that it can be pickled
        self.kind = kind
        self.seed = 0
        self.time = 0.0

    def __str__(self) -> str:
        return f"{self.kind} (seed {self.seed}, at {self.time:.3f} s): {self.args[1]}"


class Ring:
    """One press: one invitation, or the legs of a ring group."""

    def __init__(self, caller: str, legs: tuple[tuple[str, str], ...], at: float) -> None:
        self.caller = caller
        self.legs = legs
        self.at = at
        group = b"g" if len(legs) > 1 else None
        self._monitor = Monitor(tuple(Call(0, i + 1, group) for i in range(len(legs))))
        self._seen = self._monitor.start()
        self._decided: list[float | None] = [None] * len(legs)
        self._rang = [False] * len(legs)

    def sent(self, leg: int) -> None:
        """The app sent a leg."""
        self._see(("sent", leg))

    def told_caller(self, leg: int, name: Name, reason: EndReason | None, at: float) -> None:
        """The caller was told something."""
        if name in ENDS and self._decided[leg] is None:
            self._decided[leg] = at
        self._see(("told caller", leg, name, reason))

    def told_lost(self, leg: int) -> None:
        """The caller was told that the peer was lost."""
        self._see(("told lost", leg))

    def told_callee(
        self, leg: int, name: Name, reason: EndReason | None, at: float, live: bool, slack: float
    ) -> None:
        """The callee was told something; a ring may start ``slack`` after the decision at most."""
        if name is Name.REMOTE_RECEIVED:
            self._rang[leg] = True
            decided = self._decided[leg]
            if decided is not None and at > decided + slack:
                raise Fault("ghost", f"{self} rings {at - decided:.1f} s after the decision")
        self._see(("told callee", leg, name, reason, live))

    def said_message(self, leg: int, made: bool) -> None:
        """The caller's app (``made``) or the callee's said something in the call that goes on."""
        self._see(("said message", leg, made))

    def told_talk(self, leg: int, made: bool, name: Name, message: object) -> None:
        """One side was told of the call that goes on."""
        self._see(("talk", leg, made, name, message))

    def acknowledged(self, leg: int, made: bool, messages: int) -> None:
        """So many of one side's messages were acknowledged by the other."""
        self._see(("acknowledged", leg, made, messages))

    def must_have_heard(self, now: float) -> None:
        """The network is sound: what was said in the calls that went on was handled."""
        for leg, record in enumerate(self._monitor.records(self._seen)):
            for who, mine, other in (
                ("caller", record.made, record.taken),
                ("callee", record.taken, record.made),
            ):
                if mine.said != other.handled:
                    raise Fault("lost", f"{self} leg {leg}: the {who} said {mine.said} messages, "
                                f"{other.handled} were handled by {now:.0f} s")  # fmt: skip

    def restarted(self, peer: str) -> None:
        """A peer's process was killed."""
        for number, name in enumerate((self.caller, *(callee for callee, _ in self.legs))):
            if name == peer:
                self._see(("restart", number))

    def must_have_rung(self, now: float) -> None:
        """The network is sound: it rang, or its caller was told already how it ended."""
        for leg, rang in enumerate(self._rang):
            if not rang and self._decided[leg] is None:
                raise Fault("lost", f"{self} leg {leg} does not ring after {now - self.at:.1f} s")

    def over(self) -> None:
        """Everybody was told the end; it rang, or the caller knows that it failed."""
        try:
            self._monitor.over(self._seen)
        except Violation as violation:
            raise self._fault(violation) from None
        for leg, record in enumerate(self._monitor.records(self._seen)):
            if not record.orphan and not self._rang[leg] and record.caller in (None, "ACCEPTED"):
                raise Fault("lost", f"{self} leg {leg} never rang, and its caller was told "
                            f"{record.caller}")  # fmt: skip

    def ends(self) -> Iterable[str]:
        """How each leg ended for its caller."""
        for leg, record in enumerate(self._monitor.records(self._seen)):
            yield record.caller or "caller restarted"
            if self._rang[leg]:
                yield "rang"

    def _see(self, event: tuple[object, ...]) -> None:
        try:
            self._seen = self._monitor.see(self._seen, (event,))
        except Violation as violation:
            raise self._fault(violation) from None

    def _fault(self, violation: Violation) -> Fault:
        text = str(violation)
        kind = next((k for k, words in _KINDS if any(w in text for w in words)), "error")
        return Fault(kind, f"{self} {text}")

    def __str__(self) -> str:
        return f"{self.caller} -> {', '.join(callee for callee, _ in self.legs)}:"
