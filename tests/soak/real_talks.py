"""What the real soak does in calls that go on (``--talk``), and what must hold of each.

Both sides say numbered messages that name their call, and one hangs up, or both at once, or nobody
until the time is up. Whatever the broker does: each side is told one end, what is handled is
handled once, in order, before it, and nothing of another call.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from device_sdk import CallEventListener, EndReason, InvitationApiCallError
from device_sdk.aio import Call

SIDES = ("door", "panel")
#: Who hangs up, and how often of a hundred.
HANG_UPS = {"door": 40, "panel": 40, "both": 15, "nobody": 5}
TIMERS: dict[str, Any] = {
    "talk": True, "talk_limit": 8.0, "peer_lost_grace": 3.0, "link_lost_grace": 6.0,
}  # fmt: skip


@dataclass
class Side:
    """One side of a call: what it said, and what it was told."""

    started: int = 0
    said: int = 0
    heard: list[Any] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    late: int = 0  # told of it after its end
    hung_up: bool = False


class Talks:
    """All calls that went on, by call id and side."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, Side]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def side(self, call_id: str, name: str) -> Side:
        """One side of a call."""
        return self.calls.setdefault(call_id, {each: Side() for each in SIDES})[name]

    def begin(self, call: Call, name: str) -> None:
        """Say something in the call, and perhaps hang up."""
        task = asyncio.create_task(self._talk(call, name))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _talk(self, call: Call, name: str) -> None:
        # The two sides know one another by the call alone, and so agree on who hangs up.
        who = random.Random(call.call_id).choices([*HANG_UPS], [*HANG_UPS.values()])[0]
        side = self.side(call.call_id, name)
        try:
            for _ in range(random.randrange(6)):
                await call.send([call.call_id, side.said + 1])
                side.said += 1
                await asyncio.sleep(random.choice((0, random.uniform(0, 0.3))))
            if who in (name, "both"):
                side.hung_up = True
                await call.hang_up()
        except InvitationApiCallError:
            side.hung_up = False  # it was over before

    def problems(self) -> Counter[str]:
        """What must not be, counted."""
        found: Counter[str] = Counter()
        for call_id, sides in self.calls.items():
            for name, other in (SIDES, SIDES[::-1]):
                mine, theirs = sides[name], sides[other]
                numbers = [n for about, n in mine.heard if about == call_id]
                found["in another call"] += len(mine.heard) - len(numbers)
                found["twice"] += len(numbers) - len(set(numbers))
                found["out of order"] += numbers != sorted(numbers)
                found["gaps"] += bool(numbers) and set(numbers) != set(range(1, max(numbers) + 1))
                found["never said"] += bool(numbers) and max(numbers) > theirs.said + 1
                found["after the end"] += mine.late
                alone = name == "door" and theirs.started > mine.started
                found["began at the panel alone"] += alone
                found["two ends"] += len(mine.ends) > 1 or mine.started > 1
                found["not ended"] += mine.started != len(mine.ends)
                # Who reads the other's last word handles all that is in it.
                read_it = mine.ends == [str(EndReason.HUNG_UP)] and not mine.hung_up
                found["not handled"] += read_it and theirs.hung_up and len(numbers) != theirs.said
        return +found

    def __str__(self) -> str:
        sides = [side for call in self.calls.values() for side in call.values()]
        ends = Counter(end for side in sides for end in side.ends)
        said, heard = sum(s.said for s in sides), sum(len(s.heard) for s in sides)
        return (
            f"{len(self.calls)} calls went on; {said} messages said, {heard} handled;"
            f" over: {dict(ends)}"
        )


class Talker(CallEventListener):
    """Hears one side of all calls, and says what that side says."""

    def __init__(self, talks: Talks, name: str) -> None:
        self._talks, self._name = talks, name

    def on_call_started(self, call: Any) -> None:
        self._talks.side(call.call_id, self._name).started += 1
        self._talks.begin(call, self._name)

    def on_call_message(self, call: Any, message: Any) -> None:
        side = self._talks.side(call.call_id, self._name)
        side.heard.append(message)
        side.late += bool(side.ends)

    def on_call_ended(self, call: Any, reason: EndReason) -> None:
        self._talks.side(call.call_id, self._name).ends.append(str(reason))
