"""What the bridge decides; pure, and all of it on one thread.

Events of Bellwire, messages of Home Assistant's side and time in, effects out.

Theory of operation. Bellwire tells each call once a life; Home Assistant hears an event if it is
there at that moment, and never again. Between them stands one cell a door, the retained ``call``,
which says which call rings and whether that was told. It is written before the event, so a life
that ends in between has told once or not at all, and never twice; a later life reads it before it
logs in, or, if that broker is away, before it tells anything. What could not be told is owed while
the call rings; what was told before is told as ``still_ringing`` to a Home Assistant that was born
since. docs/home-assistant.md has the table.

::

    bridge.py         which call rings, ended, is owed: this one
    availability.py   whether Home Assistant hears what is said now
    control.py        what it asks for, and what comes of that
    publisher.py      what it is told of its doors
    door.py           one door: its call, and what was told of it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..logic.messages import result_of_open
from .availability import HaAvailability, HaStatus
from .commands import read_command
from .control import DoorControl
from .discovery import HaCall, HaEvent
from .door import (
    DoorCall,
    HaDoor,
    RetainedCall,
    Told,
    read_retained_call,
    snapshot_of,
    text_for_people,
)
from .effects import CallOver, CallRang, HaEffects, LogIn, PublishHa
from .names import Names
from .publisher import Publisher

#: A call that a former life left ringing is missed if it does not come back so soon after this life
#: has logged in; seconds.
FORMER_WAIT = 5.0
#: And if it cannot log in at all.
NO_LOGIN = 30.0
#: What stands at Home Assistant's broker is waited for so long before this life logs in; seconds.
READ_FIRST = 3.0
#: What Home Assistant takes to know a door that it has not had before; seconds.
INTRODUCTION = 3.0
#: Callers that are not in the settings and get a door all the same.
MAX_OTHERS = 16

_EVENT_OF = {
    HaCall.ANSWERED: HaEvent.ANSWERED,
    HaCall.REFUSED: HaEvent.REFUSED,
    HaCall.MISSED: HaEvent.MISSED,
    HaCall.CANCELED: HaEvent.CANCELED,
    HaCall.ANSWERED_ELSEWHERE: HaEvent.ANSWERED_ELSEWHERE,
    HaCall.FAILED: HaEvent.FAILED,
}


class HaBridge:
    """The bridge of one peer. ``doors`` by peer: what people call them."""

    def __init__(
        self, names: Names, doors: Mapping[str, str], version: str = "", response: Any = None
    ) -> None:
        self.names, self.doors = names, doors
        self.availability = HaAvailability()
        self._publisher = Publisher(names, version)
        self._control = DoorControl(self._publisher, response)
        self._doors: dict[str, HaDoor] = {}
        #: What stands at Home Assistant's broker, while it is read.
        self._retained: dict[str, RetainedCall] = {}
        self._reading = self._was_read = False
        #: When to log in if nothing was read by then.
        self._log_in_at: float | None = None
        self._logged_in = self._online = False
        self._tokens = 0

    # --- what the service asks ---------------------------------------------------------------

    def effects(self) -> HaEffects:
        """What is to be done since the last time, in order."""
        return self._publisher.take()

    @property
    def known_doors(self) -> list[str]:
        """Their peers."""
        return list(self._doors)

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` is to be called at the latest."""
        due = [self.availability.deadline, self._log_in_at]
        for door in self._doors.values():
            due += [door.expires, door.open_until]
            if self._owed(door):
                due.append(door.known_at)
        return min((each for each in due if each is not None), default=None)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.availability.tick(now)
        if self._log_in_at is not None and self._log_in_at <= now:
            self._log_in()
        for door in self._doors.values():
            if door.expires is not None and door.expires <= now:
                self._end(door, HaCall.MISSED)
            self._control.tick(door, now)
            if self._owed(door):
                self._tell(door, now)

    # --- the link to Home Assistant's broker -------------------------------------------------

    def start(self, now: float) -> None:
        """This life begins: it logs in once it has read what stands there, or soon without."""
        self._log_in_at = now + READ_FIRST

    def _log_in(self) -> None:
        self._log_in_at = None
        if not self._logged_in:
            self._logged_in = True
            self._publisher.add(LogIn())

    def link_up(self, now: float) -> None:
        """Connected and subscribed: read what stands there, to the mark."""
        self._reading, self._retained = True, {}
        self.availability.link_up(now)
        self._publisher.add(PublishHa(self.names.read_mark, b"read"))

    def link_down(self) -> None:
        """The link is lost."""
        self._reading = self._publisher.ready = False
        self.availability.link_down()
        for door in self._doors.values():
            if door.told is Told.MAYBE and door.token is None and not self.availability.went:
                # Who is born after its broker was away was there before, more likely than not.
                door.told = Told.YES

    def acknowledged(self, token: int) -> None:
        """The broker has a ring."""
        for door in self._doors.values():
            if door.token == token:
                door.token = None

    def message(self, topic: str, payload: bytes, *, retained: bool, now: float) -> None:
        """A message of Home Assistant's side."""
        if topic == self.names.ha_status:
            self._status(payload.strip().lower(), retained=retained, now=now)
        elif topic == self.names.read_mark:
            if self._reading and not retained:
                self._read(now)
        elif topic == self.names.last_status:
            if self._reading and retained and not self._was_read:
                self.availability.went = payload == b"offline"
        elif (parsed := self.names.parse(topic)) is not None:
            peer, what = parsed
            if what == "call" and retained and self._reading:
                if (found := read_retained_call(payload)) is not None:
                    self._retained[peer] = found
            elif what == "command":
                self._command(peer, payload, retained=retained, now=now)

    def _status(self, word: bytes, *, retained: bool, now: float) -> None:
        went = self.availability.went
        self._heard_of(word, retained=retained, now=now)
        if self.availability.went is not went:
            self._publisher.last_status(self.availability.went)

    def _heard_of(self, word: bytes, *, retained: bool, now: float) -> None:
        if word == b"online":
            if retained:
                # Its owner had it retained: it says what was, not that it was born now.
                self.availability.proven()
                return
            self.availability.birth(now)
            for door in self._doors.values():
                if door.state is HaCall.RINGING and door.live:
                    self._born(door, now)
        elif word == b"offline" and not retained and self.availability.will(now):
            for door in self._doors.values():
                if door.told is Told.MAYBE:
                    door.told = Told.YES  # it was there, and heard
                    self._publisher.call(door)  # a later life is to know it, too

    def _born(self, door: HaDoor, now: float) -> None:
        if door.told is Told.YES:
            self._publisher.event(door, HaEvent.STILL_RINGING)
        else:
            self._tell(door, now)

    def _read(self, now: float) -> None:
        """What stands there has been read: this life begins, or its link goes on."""
        self._reading, self._publisher.ready = False, True
        first, self._was_read = not self._was_read, True
        for peer in dict.fromkeys([*self.doors, *self._retained, *self._doors]):
            retained = self._retained.get(peer)
            door = self._doors.get(peer)
            if door is None:
                door = self._add(peer, 0.0 if retained else now + INTRODUCTION)
                if door is not None and retained is not None:
                    self._recall(door, retained, now)
            elif first:
                self._meet(door, retained, now)
            elif door.token is not None:
                # The link was lost before the broker had said that it has the ring.
                same = retained is not None and retained.call.call_id == door.call.call_id
                had = retained is not None and same and retained.told is not Told.NO
                door.told, door.token = Told.YES if had else Told.NO, None
        self._log_in()
        self._publisher.bridge_status(self.availability.went)
        for door in self._doors.values():
            self._publisher.door(door)
            self._publisher.online(door)
            self._publisher.call(door)
            if self._owed(door):
                self._tell(door, now)

    def _recall(self, door: HaDoor, retained: RetainedCall, now: float) -> None:
        door.recall(retained)
        door.told = self._was_told(retained)
        if door.state is HaCall.RINGING:
            door.expires = now + (FORMER_WAIT if self._online else NO_LOGIN)

    def _meet(self, door: HaDoor, retained: RetainedCall | None, now: float) -> None:
        """It rang here before it was known what stands there: what was told is not told again."""
        door.known_at = now + INTRODUCTION if retained is None else 0.0
        if retained is not None and retained.call.call_id == door.call.call_id:
            door.told = self._was_told(retained)

    def _was_told(self, retained: RetainedCall) -> Told:
        """As of a link that was lost in this life, if its broker was away as this one began."""
        away = self.availability.status is HaStatus.OFFLINE and not self.availability.went
        return Told.YES if retained.told is Told.MAYBE and away else retained.told

    # --- Bellwire ----------------------------------------------------------------------------

    def bellwire(self, online: bool, now: float) -> None:
        """Logged in and connected, or not any more."""
        self._online = online
        for door in self._doors.values():
            if online and door.expires is not None:
                door.expires = min(door.expires, now + FORMER_WAIT)
            if not online and door.online is not None:
                door.online = None
                self._publisher.online(door)

    def presence(self, peer: str, online: bool | None) -> None:
        """The door is there, or not."""
        door = self._doors.get(peer)
        if door is not None and door.online is not bool(online):
            door.online = bool(online)
            self._publisher.online(door)

    def rang(self, peer: str, call_id: str, content: Any, since: str, now: float) -> None:
        """A call came in, or came back after a restart."""
        door = self._doors.get(peer) or self._stranger(peer, now)
        call = DoorCall(call_id, peer, content, since, snapshot_of(content))
        if door is None:
            self._publisher.add(CallRang(call))
            return
        if door.call.call_id == call_id and call_id:
            # A former life had it: it goes on, and has rung if that was told.
            told = door.told
            door.begin(replace(door.call, content=content))
            door.told = told
            self._publisher.add(CallRang(door.call, again=True))
        else:
            if door.state is HaCall.RINGING or door.up:
                self._end(door, HaCall.MISSED if door.state is HaCall.RINGING else HaCall.ENDED)
            door.begin(call)
            self._publisher.add(CallRang(call))
        if not (self._owed(door) and self._tell(door, now)):
            self._publisher.call(door)

    def ended(self, peer: str, call_id: str, how: HaCall, response: Any = None, *,
              goes_on: bool = False) -> None:  # fmt: skip
        """The invitation is over; ``goes_on``: accepted, and the call goes on."""
        door = self._of_call(peer, call_id)
        if peer not in self._doors:
            self._publisher.add(CallOver(DoorCall(call_id, peer), how, response))
        if door is None or door.state is not HaCall.RINGING:
            return
        door.asked, asked = None, door.asked
        self._end(door, how, response, up=goes_on)
        self._control.invitation_over(door, asked, how, goes_on=goes_on)

    def missed(self, peer: str, call_id: str, content: Any, since: str, now: float) -> None:
        """Somebody called, and it never rang."""
        door = self._doors.get(peer) or self._stranger(peer, now)
        call = DoorCall(call_id, peer, content, since)
        if door is None or (door.live and door.call.call_id != call_id):
            # A call that goes on is not hidden by one that never rang.
            self._publisher.add(CallOver(call, HaCall.MISSED, rang=False))
        elif door.call.call_id != call_id:
            door.begin(call, live=False)
            self._end(door, HaCall.MISSED, rang=False)
        elif door.state is HaCall.RINGING:
            self._end(door, HaCall.MISSED)

    def call_started(self, peer: str, call_id: str, now: float) -> None:
        """The call goes on."""
        door = self._of_call(peer, call_id)
        if door is not None:
            self._control.call_started(door, now)

    def call_message(self, peer: str, call_id: str, message: Any) -> None:
        """The door says something."""
        door, result = self._of_call(peer, call_id), result_of_open(message)
        if door is not None and result is not None:
            self._control.open_result(door, result)

    def call_ended(self, peer: str, call_id: str) -> None:
        """The call that went on is over."""
        door = self._of_call(peer, call_id)
        if door is None or not door.up:
            return
        self._control.call_over(door)
        self._end(door, HaCall.ENDED)

    def failed(self, peer: str, call_id: str, why: str) -> None:
        """What was asked for could not be done."""
        door = self._of_call(peer, call_id)
        if door is not None:
            self._control.failed(door, why)

    def _command(self, peer: str, payload: bytes, *, retained: bool, now: float) -> None:
        if retained:
            why = "is retained, and ignored: publish it without RETAIN"
            self._publisher.note(f"a command for {peer} {why}")
            return
        door = self._doors.get(peer)
        if door is None:
            self._publisher.note(f"a command for {peer}, which is no door here, is ignored")
            return
        command = read_command(payload)
        if isinstance(command, str):
            self._publisher.result(door, None, "", command)
            return
        self.availability.proven()
        self._control.command(door, command, now)

    # --- what Home Assistant is told, and what is kept of the doors --------------------------

    def _owed(self, door: HaDoor) -> bool:
        """Whether that it rings is still to be told, and can be."""
        there = self._publisher.ready and self.availability.status is not HaStatus.OFFLINE
        return there and door.live and door.state is HaCall.RINGING and door.told is Told.NO

    def _tell(self, door: HaDoor, now: float) -> bool:
        """Say that it rings, and remember it first; whether that could be said."""
        if not self._publisher.ready or door.known_at > now:
            return False
        door.told = Told.YES if self.availability.status is HaStatus.ONLINE else Told.MAYBE
        self._publisher.picture(door)
        self._publisher.call(door)
        self._tokens += 1
        door.token = self._tokens
        self._publisher.event(door, HaEvent.RING, door.token)
        return True

    def _end(self, door: HaDoor, state: HaCall, response: Any = None, *,
             up: bool = False, rang: bool = True) -> None:  # fmt: skip
        if state in (HaCall.ANSWERED, HaCall.REFUSED):
            door.call = replace(door.call, response=text_for_people(response))
        door.end(state)
        door.live = door.up = up
        self._publisher.call(door)
        if state in _EVENT_OF:
            self._publisher.event(door, _EVENT_OF[state])
            self._publisher.add(CallOver(door.call, state, response, rang))

    def _stranger(self, peer: str, now: float) -> HaDoor | None:
        door = self._add(peer, now + INTRODUCTION)
        if door is not None and self._publisher.ready:
            self._publisher.door(door)
            self._publisher.online(door)
        return door

    def _add(self, peer: str, known_at: float) -> HaDoor | None:
        if peer not in self.doors and len(self._doors) >= len(self.doors) + MAX_OTHERS:
            self._publisher.note(
                f"{peer} is not in the settings, and there are too many others", True
            )
            return None
        door = self._doors[peer] = HaDoor(
            peer, self.doors.get(peer, peer), self.names.door(peer, "command"), known_at=known_at
        )
        return door

    def _of_call(self, peer: str, call_id: str) -> HaDoor | None:
        door = self._doors.get(peer)
        return door if door is not None and door.live and door.call.call_id == call_id else None
