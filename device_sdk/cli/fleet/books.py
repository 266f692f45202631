"""What became of each call, at both ends, and whether that may be: a pure account of a fleet."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import NamedTuple

from ...core.events import ENDS, Name

#: A ring that begins so long after its caller decided is none that the network was slow with.
GHOST_AFTER = 1.0


class Plan(StrEnum):
    """What is to become of a call."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    CANCEL = "cancel"


class CallFault(StrEnum):
    """What must not be."""

    #: It did not end as planned, or not at all, though both ends had their links all the time.
    LOST = "lost"
    #: One end was told something twice.
    DUPLICATE = "duplicate"
    #: It rang, though its caller had decided, was gone, or never called.
    GHOST = "ghost"
    #: One end has an accepted call, and the other one has not.
    SPLIT = "split"


_CALLER = {
    Plan.ACCEPT: Name.LOCAL_ACCEPTED,
    Plan.REFUSE: Name.LOCAL_REFUSED,
    Plan.CANCEL: Name.LOCAL_CANCELED,
}
_CALLEE = {
    Plan.ACCEPT: Name.REMOTE_ACCEPTED,
    Plan.REFUSE: Name.REMOTE_REFUSED,
    Plan.CANCEL: Name.REMOTE_CANCELED,
}


class CallRecord:
    """One call; times are those of the one process that has both its ends."""

    __slots__ = (
        "callee", "callee_end", "callee_gone", "caller", "caller_end", "caller_gone_at",
        "ended_at", "heard", "phase", "plan", "pressed_at", "rang_at", "received_at", "touched",
    )  # fmt: skip

    def __init__(self, plan: Plan, caller: str, callee: str, phase: str, pressed_at: float) -> None:
        self.plan, self.caller, self.callee, self.phase = plan, caller, callee, phase
        self.pressed_at = pressed_at
        #: When the panel rang, when the caller knew, when the caller's end was told.
        self.rang_at: float | None = None
        self.received_at: float | None = None
        self.ended_at: float | None = None
        self.caller_end: Name | None = None
        self.callee_end: Name | None = None
        #: One of both was without its link meanwhile.
        self.touched = False
        #: When the login that called was over, without a goodbye; whether the callee's was.
        self.caller_gone_at: float | None = None
        self.callee_gone = False
        self.heard: Counter[Name] = Counter()

    @property
    def over(self) -> bool:
        """Whether each end that is still there was told of its end, or never rang."""
        caller = self.caller_end is not None or self.caller_gone_at is not None
        callee = self.callee_end is not None or self.callee_gone or self.rang_at is None
        return caller and callee


class FoundFault(NamedTuple):
    """A fault, and what it was."""

    fault: CallFault
    text: str


class Books:
    """All calls of a fleet, or of one process of it."""

    def __init__(self) -> None:
        self.calls: dict[str, CallRecord] = {}
        #: Those that are not over.
        self.open: dict[str, CallRecord] = {}
        self.findings: list[FoundFault] = []
        #: Calls that were underway at each device.
        self._of: dict[str, set[str]] = {}

    def underway(self, caller: str, callee: str) -> int:
        """How many calls of the one to the other are not over."""
        return len(self._of.get(caller, set()) & self._of.get(callee, set()))

    def pressed(self, call_id: str, call: CallRecord) -> None:
        """A call is about to be made."""
        self.calls[call_id] = self.open[call_id] = call
        for name in (call.caller, call.callee):
            self._of.setdefault(name, set()).add(call_id)

    def not_made(self, call_id: str) -> None:
        """It was not made after all."""
        self._close(call_id, self.calls.pop(call_id))

    def unlinked(self, name: str) -> None:
        """A device lost its link: what is underway there is a matter of patience."""
        for call_id in self._of.get(name, ()):
            self.open[call_id].touched = True

    def powered_off(self, name: str, now: float) -> None:
        """A login is over without a goodbye: it is told nothing more."""
        self.unlinked(name)
        for call_id in tuple(self._of.get(name, ())):
            call = self.open[call_id]
            if call.caller == name:
                call.caller_gone_at = now
            else:
                call.callee_gone = True
            self._close_if_over(call_id, call)

    def heard(self, name: Name, call_id: str, at: str, now: float) -> None:
        """A device ``at`` was told ``name`` of a call."""
        call = self.calls.get(call_id)
        if call is None:
            if name == Name.REMOTE_RECEIVED:
                self._find(CallFault.GHOST, f"{at} rings for {call_id}, which nobody here called")
            return
        call.heard[name] += 1
        if name == Name.LOCAL_RECEIVED_BY_PEER:
            call.received_at = call.received_at or now
        elif name == Name.REMOTE_RECEIVED:
            self._rings(call_id, call, now)
        elif name in ENDS or name == Name.MISSED_CALL:
            self._ends(name, call_id, call, now)
        if call.heard[name] == 2 and name in ENDS | {Name.MISSED_CALL, Name.REMOTE_RECEIVED}:
            self._find(CallFault.DUPLICATE, f"{at} was told {name} of {call_id} twice")

    def _rings(self, call_id: str, call: CallRecord, now: float) -> None:
        decided = call.ended_at if call.caller_gone_at is None else call.caller_gone_at
        if decided is not None and now - decided > GHOST_AFTER:
            self._find(
                CallFault.GHOST,
                f"{call.callee} rings for {call_id}, {now - decided:.1f} s after {call.caller}"
                " had ended it",
            )
        call.rang_at = call.rang_at or now

    def _ends(self, name: Name, call_id: str, call: CallRecord, now: float) -> None:
        if name.startswith("local_"):
            call.caller_end, call.ended_at = call.caller_end or name, call.ended_at or now
        else:
            call.callee_end = call.callee_end or name
        self._close_if_over(call_id, call)

    def _close_if_over(self, call_id: str, call: CallRecord) -> None:
        if call.over:
            self._close(call_id, call)

    def _close(self, call_id: str, call: CallRecord) -> None:
        self.open.pop(call_id, None)
        for name in (call.caller, call.callee):
            self._of.get(name, set()).discard(call_id)

    # --- the end -----------------------------------------------------------------------------

    def judge(self) -> None:
        """At the very end: find what is wrong with each call."""
        for call_id, call in self.calls.items():
            if (fault := self._fault_of(call)) is not None:
                self._find(fault, f"{call.caller} to {call.callee}, {call_id}: {_told(call)}")

    def _fault_of(self, call: CallRecord) -> CallFault | None:
        gone = call.caller_gone_at is not None or call.callee_gone
        if not gone:
            accepted = call.caller_end == Name.LOCAL_ACCEPTED
            lost_after = accepted and call.heard[Name.LOCAL_PEER_LOST]
            at_callee = call.callee_end == Name.REMOTE_ACCEPTED
            if accepted is not at_callee and not lost_after:
                return CallFault.SPLIT
        if not call.over:
            return CallFault.LOST
        if call.touched or gone:
            return None
        callee = call.callee_end
        if call.plan is Plan.CANCEL and call.rang_at is None:
            callee = Name.REMOTE_CANCELED  # it came too late to ring
        as_planned = call.caller_end == _CALLER[call.plan] and callee == _CALLEE[call.plan]
        return None if as_planned else CallFault.LOST

    def _find(self, fault: CallFault, text: str) -> None:
        self.findings.append(FoundFault(fault, text))

    def counts(self) -> dict[str, int]:
        """How many calls ended how at their caller; ``cut short``: failed for want of a link."""
        ends = Counter(
            "cut short" if call.caller_gone_at is not None or call.caller_end is None
            or (call.touched and call.caller_end == Name.LOCAL_FAILURE)
            else call.caller_end.removeprefix("local_invitation_")
            for call in self.calls.values()
        )  # fmt: skip
        return {"made": len(self.calls), **dict(sorted(ends.items()))}


def _told(call: CallRecord) -> str:
    told = ", ".join(f"{name} x{count}" for name, count in call.heard.items()) or "nothing"
    cut = ", a link was down meanwhile" if call.touched else ""
    return f"to be {call.plan}ed in phase {call.phase}, told: {told}{cut}"
