"""What Home Assistant asks for, and what comes of it: answer, refuse, open, hang up; pure.

A command acts on the call that it names, or on the one that there is; each has one result, told
when its end is known: the caller decides whether it was answered, the door whether it was opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..logic.appliance import EndCall, SayInCall
from ..logic.messages import OpenResult, ask_to_open
from .commands import HaCommand
from .discovery import HaAction, HaCall
from .door import HaDoor
from .effects import AcceptHa, DoorOpened, RefuseHa
from .publisher import Publisher

#: How long a door may take to say whether it was opened; seconds.
OPEN_TIMEOUT = 10.0
_OVER = "that call is over"


@dataclass(slots=True)
class DoorControl:
    """The commands for all doors of a bridge. ``response``: what an answer says by default."""

    publisher: Publisher
    response: Any = None

    def command(self, door: HaDoor, command: HaCommand, now: float) -> None:
        """Do it, or say why it is not done."""
        call_id = command.call_id or door.call.call_id
        if (why := _refusal(door, command)) != "":
            self.publisher.result(door, command.action, call_id, why)
            return
        call_id, action = door.call.call_id, command.action
        if action is HaAction.HANG_UP:
            door.asked = action
            self.publisher.add(EndCall(call_id))
        elif action is HaAction.OPEN and door.up:
            if door.open_until is None:
                self._ask_to_open(door, now)
        elif action is HaAction.REFUSE:
            door.asked = action
            self.publisher.add(RefuseHa(call_id, command.response))
            self.publisher.call(door)
        else:
            door.asked, door.open_next = HaAction.ANSWER, action is HaAction.OPEN
            response = self.response if command.response is None else command.response
            self.publisher.add(AcceptHa(call_id, response))
            self.publisher.call(door)

    def tick(self, door: HaDoor, now: float) -> None:
        """Time has passed."""
        if door.open_until is not None and door.open_until <= now:
            self._opened(door, f"the door said nothing of it within {OPEN_TIMEOUT:.0f} s")

    def invitation_over(
        self, door: HaDoor, asked: HaAction | None, how: HaCall, *, goes_on: bool
    ) -> None:
        """It was answered, or refused, or ended before what was ``asked`` could be done."""
        if asked is None:
            return
        wanted = HaCall.REFUSED if asked is HaAction.REFUSE else HaCall.ANSWERED
        why = "" if how is wanted else f"the call ended first: {how.replace('_', ' ')}"
        if not door.open_next:
            self.publisher.result(door, asked, door.call.call_id, why)
        elif why or not goes_on:
            # There is nothing to open it by.
            self._opened(door, why or "this door does not stay in the call after the answer")

    def call_started(self, door: HaDoor, now: float) -> None:
        """The call goes on."""
        if door.open_next:
            door.open_next = False
            self._ask_to_open(door, now)

    def open_result(self, door: HaDoor, result: OpenResult) -> None:
        """The door says what became of it."""
        if result.ok:
            self.publisher.add(DoorOpened(door.call.call_id))
        if door.open_until is not None:
            self._opened(door, "" if result.ok else result.why or "the door says no")

    def call_over(self, door: HaDoor) -> None:
        """The call that went on is over."""
        if door.open_next or door.open_until is not None:
            self._opened(door, _OVER)
        if door.asked is HaAction.HANG_UP:
            door.asked = None
            self.publisher.result(door, HaAction.HANG_UP, door.call.call_id, "")

    def failed(self, door: HaDoor, why: str) -> None:
        """What was asked for could not be done."""
        if door.open_until is not None or door.open_next:
            door.asked = None
            self._opened(door, why)
        elif door.asked is not None:
            asked, door.asked = door.asked, None
            self.publisher.result(door, asked, door.call.call_id, why)
        self.publisher.call(door)

    def _ask_to_open(self, door: HaDoor, now: float) -> None:
        door.open_until = now + OPEN_TIMEOUT
        self.publisher.add(SayInCall(door.call.call_id, ask_to_open()))

    def _opened(self, door: HaDoor, why: str) -> None:
        door.open_next, door.open_until = False, None
        self.publisher.result(door, HaAction.OPEN, door.call.call_id, why)


def _refusal(door: HaDoor, command: HaCommand) -> str:
    """Why it does not apply; "" if it does."""
    if command.call_id and command.call_id != door.call.call_id:
        return _OVER
    if command.action in door.can:
        return ""
    if door.asked is not None:
        return f"the call is being {'refused' if door.asked is HaAction.REFUSE else 'answered'}"
    if door.state is HaCall.RINGING and not door.live:
        return "the bridge was started a moment ago: once more, please"
    if not door.live:
        return _OVER if command.call_id else "nobody rings"
    hang_up = command.action is HaAction.HANG_UP
    return "the call is not answered yet" if hang_up else "the call is answered already"
