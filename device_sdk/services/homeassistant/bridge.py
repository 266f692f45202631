"""What the bridge decides; pure, and all of it on one thread.

Events of Bellwire, messages of Home Assistant's side and time in, effects out.

Theory of operation. Bellwire tells each call once a life; Home Assistant hears an event if it is
there at that moment, and never again. Between them stands one cell a door, the retained ``call``,
which says which call rings and whether that was told. It is written before the event, so a life
that ends in between has told once or not at all, and never twice; a later life reads it before it
logs in. What could not be told is owed while the call rings; what was told before is told as
``still_ringing`` to a Home Assistant that was born since. docs/home-assistant.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..logic.messages import ask_to_open, result_of_open
from .commands import HaCommand, read_command
from .discovery import Do, HaCall, HaEvent, discovery
from .door import (
    DoorCall,
    HaDoor,
    Memory,
    Told,
    as_json_bytes,
    read_memory,
    snapshot_of,
    text_for_people,
)
from .effects import AcceptHa, HaEffect, HangUpHa, LogIn, NoteHa, PublishHa, RefuseHa, SayHa
from .names import Names
from .reach import Hears, Reach

#: A call that a former life left ringing is missed if it does not come back so soon after this life
#: has logged in; seconds.
FORMER_WAIT = 5.0
#: And if it cannot log in at all.
NO_LOGIN = 30.0
#: What Home Assistant takes to know a door that it has not had before; seconds.
INTRODUCTION = 3.0
#: How long a door may take to say whether it was opened; seconds.
OPEN_TIMEOUT = 10.0
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
_OVER = "that call is over"


@dataclass(slots=True)
class Bridge:
    """The bridge of one peer. ``doors`` by peer: what people call them."""

    names: Names
    doors: Mapping[str, str]
    version: str = ""
    response: Any = None
    reach: Reach = field(default_factory=Reach)
    _doors: dict[str, HaDoor] = field(default_factory=dict)
    _out: list[HaEffect] = field(default_factory=list)
    _remembered: dict[str, Memory] = field(default_factory=dict)
    _reading: bool = False
    _ready: bool = False
    _logged_in: bool = False
    _tokens: int = 0
    _online: bool = False

    # --- what the service asks ---------------------------------------------------------------

    def effects(self) -> list[HaEffect]:
        """What is to be done since the last time, in order."""
        out, self._out = self._out, []
        return out

    @property
    def ready(self) -> bool:
        """Whether its link is up, and what stood there was read."""
        return self._ready

    @property
    def known_doors(self) -> list[str]:
        """Their peers."""
        return list(self._doors)

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` is to be called at the latest."""
        due = [self.reach.deadline]
        for door in self._doors.values():
            due += [door.expires, door.open_until]
            if self._owed(door):
                due.append(door.known_at)
        return min((each for each in due if each is not None), default=None)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.reach.tick(now)
        for door in self._doors.values():
            if door.expires is not None and door.expires <= now:
                self._end(door, HaCall.MISSED)
            if door.open_until is not None and door.open_until <= now:
                seconds = f"{OPEN_TIMEOUT:.0f} s"
                self._opened(door, f"the door said nothing of it within {seconds}")
            if self._owed(door):
                self._tell(door, now)

    # --- the link to Home Assistant's broker -------------------------------------------------

    def link_up(self, now: float) -> None:
        """Connected and subscribed: read what stands there, to the mark."""
        self._reading, self._remembered = True, {}
        self.reach.link_up(now)
        self._out.append(PublishHa(self.names.read_mark, b"read"))

    def link_down(self) -> None:
        """The link is lost."""
        self._reading = self._ready = False
        self.reach.link_down()
        for door in self._doors.values():
            if door.told is Told.MAYBE and door.token is None and not self.reach.went:
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
            if self._reading and retained and not self._logged_in:
                self.reach.went = payload == b"offline"
        elif (found := self.names.parse(topic)) is not None:
            peer, what = found
            if what == "call" and retained and self._reading:
                if (memory := read_memory(payload)) is not None:
                    self._remembered[peer] = memory
            elif what == "command":
                self._command(peer, payload, retained=retained, now=now)

    def _status(self, word: bytes, *, retained: bool, now: float) -> None:
        went = self.reach.went
        self._heard_of(word, retained=retained, now=now)
        if self.reach.went is not went:
            self._publish_went()

    def _publish_went(self) -> None:
        word = b"offline" if self.reach.went else b"online"
        self._publish(self.names.last_status, word, retain=True)

    def _heard_of(self, word: bytes, *, retained: bool, now: float) -> None:
        if word == b"online":
            if retained:
                # Its owner had it retained: it says what was, not that it was born now.
                self.reach.proven()
                return
            self.reach.birth(now)
            for door in self._doors.values():
                if door.state is HaCall.RINGING and door.live:
                    self._born(door, now)
        elif word == b"offline" and not retained and self.reach.will(now):
            for door in self._doors.values():
                if door.told is Told.MAYBE:
                    door.told = Told.YES  # it was there, and heard
                    self._publish_call(door)  # a later life is to know it, too
                    self._publish_call(door)

    def _born(self, door: HaDoor, now: float) -> None:
        if door.told is Told.YES:
            self._publish_event(door, HaEvent.STILL_RINGING)
        else:
            self._tell(door, now)

    def _read(self, now: float) -> None:
        """What stands there has been read: this life begins, or its link goes on."""
        self._reading, self._ready = False, True
        first = not self._logged_in
        known = [*self.doors, *(peer for peer in self._remembered if peer not in self.doors)]
        for peer in known:
            memory = self._remembered.get(peer)
            door = self._doors.get(peer)
            if door is None:
                door = self._add(peer, 0.0 if memory else now + INTRODUCTION)
                if door is not None and memory is not None:
                    self._recall(door, memory, now)
            elif door.token is not None:
                # The link was lost before the broker had said that it has the ring.
                same = memory is not None and memory.call.call_id == door.call.call_id
                had = memory is not None and same and memory.told is not Told.NO
                door.told, door.token = Told.YES if had else Told.NO, None
        if first:
            self._logged_in = True
            self._out.append(LogIn())
        self._out.append(PublishHa(self.names.status, b"online", retain=True))
        self._publish_went()
        for door in self._doors.values():
            self._introduce(door)
            self._publish_online(door)
            self._publish_call(door)
            if self._owed(door):
                self._tell(door, now)

    def _recall(self, door: HaDoor, memory: Memory, now: float) -> None:
        door.recall(memory)
        if door.state is HaCall.RINGING:
            door.expires = now + NO_LOGIN

    # --- Bellwire ----------------------------------------------------------------------------

    def bellwire(self, online: bool, now: float) -> None:
        """Logged in and connected, or not any more."""
        self._online = online
        for door in self._doors.values():
            if online and door.expires is not None:
                door.expires = min(door.expires, now + FORMER_WAIT)
            if not online and door.online is not None:
                door.online = None
                self._publish_online(door)

    def presence(self, peer: str, online: bool | None) -> None:
        """The door is there, or not."""
        door = self._doors.get(peer)
        if door is not None and door.online is not bool(online):
            door.online = bool(online)
            self._publish_online(door)

    def rang(self, peer: str, call_id: str, content: Any, since: str, now: float) -> None:
        """A call came in, or came back after a restart."""
        door = self._doors.get(peer) or self._stranger(peer, now)
        if door is None:
            return
        if door.call.call_id == call_id and call_id:
            # A former life had it: it goes on, and has rung if that was told.
            told, call = door.told, door.call
            door.begin(call)
            door.told = told
        else:
            if door.state is HaCall.RINGING or door.up:
                self._end(door, HaCall.MISSED if door.state is HaCall.RINGING else HaCall.ENDED)
            picture = snapshot_of(content)
            door.begin(DoorCall(call_id, peer, text_for_people(content), since, picture))
        if not (self._owed(door) and self._tell(door, now)):
            self._publish_call(door)

    def ended(self, peer: str, call_id: str, how: HaCall, response: Any = None, *,
              goes_on: bool = False) -> None:  # fmt: skip
        """The invitation is over; ``goes_on``: accepted, and the call goes on."""
        door = self._of_call(peer, call_id)
        if door is None or door.state is not HaCall.RINGING:
            return
        asked, door.asked = door.asked, None
        wanted = HaCall.REFUSED if asked is Do.REFUSE else HaCall.ANSWERED
        if asked is not None and (how is not wanted or not door.open_next):
            why = "" if how is wanted else f"the call ended first: {how.replace('_', ' ')}"
            self._result(door, asked, call_id, why)
        text = text_for_people(response) if how in (HaCall.ANSWERED, HaCall.REFUSED) else ""
        self._end(door, how, text, up=goes_on)
        if door.open_next and not goes_on:
            self._opened(door, "this door does not stay in the call after the answer")

    def missed(self, peer: str, call_id: str, content: Any, since: str, now: float) -> None:
        """Somebody called, and it never rang."""
        door = self._doors.get(peer) or self._stranger(peer, now)
        if door is None or (door.live and door.call.call_id != call_id):
            return  # a call that goes on is not hidden by one that never rang
        if door.call.call_id != call_id:
            door.begin(DoorCall(call_id, peer, text_for_people(content), since), live=False)
            self._end(door, HaCall.MISSED)
        elif door.state is HaCall.RINGING:
            self._end(door, HaCall.MISSED)

    def call_started(self, peer: str, call_id: str, now: float) -> None:
        """The call goes on."""
        door = self._of_call(peer, call_id)
        if door is not None and door.open_next:
            door.open_next = False
            self._ask_to_open(door, now)

    def call_message(self, peer: str, call_id: str, message: Any) -> None:
        """The door says something."""
        door, result = self._of_call(peer, call_id), result_of_open(message)
        if door is not None and result is not None and door.open_until is not None:
            self._opened(door, "" if result.ok else result.why or "the door says no")

    def call_ended(self, peer: str, call_id: str) -> None:
        """The call that went on is over."""
        door = self._of_call(peer, call_id)
        if door is None or not door.up:
            return
        if door.open_next or door.open_until is not None:
            self._opened(door, _OVER)
        if door.asked is Do.HANG_UP:
            door.asked = None
            self._result(door, Do.HANG_UP, call_id, "")
        self._end(door, HaCall.ENDED, door.call.response)

    def failed(self, peer: str, call_id: str, why: str) -> None:
        """What was asked for could not be done."""
        door = self._of_call(peer, call_id)
        if door is None:
            return
        if door.open_until is not None or door.open_next:
            door.asked = None
            self._opened(door, why)
        elif door.asked is not None:
            asked, door.asked = door.asked, None
            self._result(door, asked, call_id, why)
        self._publish_call(door)

    # --- commands ----------------------------------------------------------------------------

    def _command(self, peer: str, payload: bytes, *, retained: bool, now: float) -> None:
        if retained:
            self._note(f"a command for {peer} is retained, and ignored: publish it without RETAIN")
            return
        door = self._doors.get(peer)
        if door is None:
            self._note(f"a command for {peer}, which is no door here, is ignored")
            return
        command = read_command(payload)
        if isinstance(command, str):
            self._result(door, None, "", command)
            return
        self.reach.proven()
        call_id = command.call_id or door.call.call_id
        if (why := self._refusal(door, command)) != "":
            self._result(door, command.do, call_id, why)
            return
        self._carry_out(door, command, now)

    def _refusal(self, door: HaDoor, command: HaCommand) -> str:
        if command.call_id and command.call_id != door.call.call_id:
            return _OVER
        if command.do in door.can:
            return ""
        if door.asked is not None:
            return f"the call is being {'refused' if door.asked is Do.REFUSE else 'answered'}"
        if door.state is HaCall.RINGING and not door.live:
            return "the bridge was started a moment ago: once more, please"
        if not door.live:
            return _OVER if command.call_id else "nobody rings"
        return "the call is not answered yet" if command.do is Do.HANG_UP else (
            "the call is answered already")  # fmt: skip

    def _carry_out(self, door: HaDoor, command: HaCommand, now: float) -> None:
        call_id, do = door.call.call_id, command.do
        if do is Do.HANG_UP:
            door.asked = do
            self._out.append(HangUpHa(call_id))
        elif do is Do.OPEN and door.up:
            if door.open_until is None:
                self._ask_to_open(door, now)
        elif do is Do.REFUSE:
            door.asked = do
            self._out.append(RefuseHa(call_id, command.response))
            self._publish_call(door)
        else:
            door.asked, door.open_next = Do.ANSWER, do is Do.OPEN
            response = self.response if command.response is None else command.response
            self._out.append(AcceptHa(call_id, response))
            self._publish_call(door)

    def _ask_to_open(self, door: HaDoor, now: float) -> None:
        door.open_until = now + OPEN_TIMEOUT
        self._out.append(SayHa(door.call.call_id, ask_to_open()))

    def _opened(self, door: HaDoor, why: str) -> None:
        door.open_next, door.open_until = False, None
        self._result(door, Do.OPEN, door.call.call_id, why)

    def _result(self, door: HaDoor, do: Do | None, call_id: str, why: str) -> None:
        what = "command" if do is None else do.replace("_", " ")
        text = f"{what}: {why or 'done'}"
        facts = {"do": do, "call_id": call_id, "ok": not why, "why": why, "text": text[:250]}
        self._publish(self.names.door(door.peer, "result"), as_json_bytes(facts))
        self._note(f"{door.peer}: {text}")

    # --- telling -----------------------------------------------------------------------------

    def _owed(self, door: HaDoor) -> bool:
        """Whether that it rings is still to be told, and can be."""
        there = self._ready and self.reach.hears is not Hears.NO
        return there and door.live and door.state is HaCall.RINGING and door.told is Told.NO

    def _tell(self, door: HaDoor, now: float) -> bool:
        """Say that it rings, and remember it first; whether that could be said."""
        if not self._ready or door.known_at > now:
            return False
        door.told = Told.YES if self.reach.hears is Hears.YES else Told.MAYBE
        if door.call.picture:
            self._publish(self.names.door(door.peer, "picture"), door.call.picture.encode())
        self._publish_call(door)
        self._tokens += 1
        door.token = self._tokens
        self._publish_event(door, HaEvent.RING, door.token)
        return True

    def _end(self, door: HaDoor, state: HaCall, response: str = "", *, up: bool = False) -> None:
        rang = state in _EVENT_OF
        door.end(state, response)
        door.live = door.up = up
        self._publish_call(door)
        if rang:
            self._publish_event(door, _EVENT_OF[state])

    def _stranger(self, peer: str, now: float) -> HaDoor | None:
        door = self._add(peer, now + INTRODUCTION)
        if door is not None and self._ready:
            self._introduce(door)
            self._publish_online(door)
        return door

    def _add(self, peer: str, known_at: float) -> HaDoor | None:
        if peer not in self.doors and len(self._doors) >= len(self.doors) + MAX_OTHERS:
            self._note(f"{peer} is not in the settings, and there are too many others", True)
            return None
        door = self._doors[peer] = HaDoor(
            peer, self.doors.get(peer, peer), self.names.door(peer, "command"), known_at=known_at
        )
        return door

    def _of_call(self, peer: str, call_id: str) -> HaDoor | None:
        door = self._doors.get(peer)
        return door if door is not None and door.live and door.call.call_id == call_id else None

    def _introduce(self, door: HaDoor) -> None:
        facts = discovery(self.names, door.peer, door.title, self.version)
        self._publish(self.names.config(door.peer), as_json_bytes(facts), retain=True)

    def _publish_call(self, door: HaDoor) -> None:
        self._publish(self.names.door(door.peer, "call"), door.payload(), retain=True)

    def _publish_online(self, door: HaDoor) -> None:
        word = {True: b"ON", False: b"OFF", None: b"None"}[door.online]
        self._publish(self.names.door(door.peer, "online"), word, retain=True)

    def _publish_event(self, door: HaDoor, kind: HaEvent, token: int | None = None) -> None:
        self._publish(self.names.door(door.peer, "event"), door.event(kind), token=token)

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False,
                 token: int | None = None) -> None:  # fmt: skip
        if self._ready:
            self._out.append(PublishHa(topic, payload, retain, token))

    def _note(self, text: str, warning: bool = False) -> None:
        self._out.append(NoteHa(text, warning))
