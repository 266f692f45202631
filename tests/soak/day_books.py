"""What was told of each call in the long soak, and what must not be among it."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from device_sdk import CallEventListener

from .real_calls import LOCAL, agree

#: How a call ends at the caller that nothing was done to.
WANTED = {"accept": "accepted", "refuse": "refused", "cancel": "canceled", "forbidden": "failure"}
#: Seconds that a ring may begin after its caller was told the end: both are in one process.
LATE = 0.5


@dataclass
class Call:
    """One press, and what each life of either end was told of it."""

    plan: str
    door: str
    panel: str
    sent: float
    at_door: list[str] = field(default_factory=list)
    at_panel: dict[int, list[str]] = field(default_factory=dict)
    lives: set[int] = field(default_factory=set)  # lives of the panel that are over
    reason: str = ""
    door_died: bool = False
    touched: bool = False  # an end was restarted, removed or changed meanwhile
    decided: float = 0.0
    received: float = 0.0
    late: bool = False
    over: bool = False  # its door waits no more, and what was done meanwhile is written down

    def faults(self) -> set[str]:
        """The names of what is wrong with it."""
        door = [what for what in self.at_door if what in LOCAL]
        rings = [told.count("received") for told in self.at_panel.values()]
        found = set()
        if not door and not self.door_died:
            found.add("lost")
        if not self.touched and door and door[0] != WANTED[self.plan]:
            found.add("lost")
        if self.plan == "forbidden" and not self.touched and any(rings):
            found.add("allowed")
        ends = {life: [w for w in told if w != "received"] for life, told in self.at_panel.items()}
        if len(door) > 1 or any(n > 1 for n in rings) or any(len(e) > 1 for e in ends.values()):
            found.add("double")
        if self.late:
            found.add("ghost")
        open_ = [life for life, end in ends.items() if not end and life not in self.lives]
        if open_:
            found.add("unfinished")
        lost_after = "peer_lost" in self.at_door or self.door_died
        last = next(iter(ends[max(ends)][:1]), "") if ends else "missed"
        if len(door) == 1 and last and not self.door_died:
            died = bool(self.lives & set(self.at_panel))
            if not agree(door, [last], lost_after) and not (died and door[0] == "failure"):
                found.add("split")
        return found


class Books:
    """All calls, by their id."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.strange = 0  # told of calls that nobody here made: the hostile device's

    def faults(self) -> Counter[str]:
        """How many calls that are over have each fault; one that goes on has no verdict yet."""
        return Counter(f for call in self.calls.values() if call.over for f in call.faults())

    def latencies(self, begin: float, end: float) -> list[float]:
        """Seconds from press to the callee's receipt, of undisturbed calls sent in that time."""
        return sorted(
            call.received - call.sent
            for call in self.calls.values()
            if call.received and not call.touched and begin <= call.sent < end
        )


class Teller(CallEventListener):
    """Writes into the books what one life of a device hears; when that is over, nothing more."""

    def __init__(self, books: Books, life: int) -> None:
        self.books, self.life, self.over = books, life, False

    def at_door(self, invitation: Any, what: str) -> None:
        """A caller is told something."""
        call = self.books.calls.get(invitation.call_id)
        if self.over or call is None:
            return
        call.at_door.append(what)
        now = time.monotonic()
        if what == "received":
            call.received = call.received or now
        elif what in LOCAL:
            call.decided = now
            call.reason = str(invitation.reason or "")

    def at_panel(self, call_id: str, what: str) -> Call | None:
        """A callee is told something."""
        call = self.books.calls.get(call_id)
        if self.over:
            return None
        if call is None:
            self.books.strange += 1
            return None
        call.at_panel.setdefault(self.life, []).append(what)
        if what == "received" and call.decided:
            call.late |= time.monotonic() > call.decided + LATE
        return call

    def on_local_invitation_received_by_peer(self, invitation: Any) -> None:
        self.at_door(invitation, "received")

    def on_local_invitation_accepted(self, invitation: Any, _response: Any) -> None:
        self.at_door(invitation, "accepted")

    def on_local_invitation_refused(self, invitation: Any, _response: Any) -> None:
        self.at_door(invitation, "refused")

    def on_local_invitation_canceled(self, invitation: Any) -> None:
        self.at_door(invitation, "canceled")

    def on_local_invitation_failure(self, invitation: Any, _error: Any) -> None:
        self.at_door(invitation, "failure")

    def on_local_invitation_peer_lost(self, invitation: Any, _reason: Any) -> None:
        self.at_door(invitation, "peer_lost")

    def on_remote_invitation_accepted(self, invitation: Any) -> None:
        self.at_panel(invitation.call_id, "accepted")

    def on_remote_invitation_refused(self, invitation: Any) -> None:
        self.at_panel(invitation.call_id, "refused")

    def on_remote_invitation_canceled(self, invitation: Any) -> None:
        self.at_panel(invitation.call_id, "canceled")

    def on_remote_invitation_failure(self, invitation: Any, _error: Any) -> None:
        self.at_panel(invitation.call_id, "failure")

    def on_missed_call(self, missed: Any) -> None:
        self.at_panel(missed.call_id, "missed")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Units a second, by least squares; 0 of fewer than two points."""
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def spread(times: list[float]) -> str:
    """p50, p99 and the longest, in milliseconds."""
    if not times:
        return "none"
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    p50, longest = statistics.median(times), times[-1]
    return f"p50 {p50 * 1e3:.1f}, p99 {p99 * 1e3:.0f}, longest {longest * 1e3:.0f} ms"
