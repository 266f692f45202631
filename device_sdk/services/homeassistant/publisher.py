"""What Home Assistant is told of its doors: each topic has this one writer; pure.

While the link is away nothing is kept for later: the bridge says again what still holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..logic.appliance import Note
from .discovery import HaAction, HaEvent, discovery
from .door import HaDoor, as_json_bytes
from .effects import HaEffect, HaEffects, PublishHa
from .names import Names


@dataclass(slots=True)
class Publisher:
    """All effects of one bridge, in order. ``ready``: its link is up, and what stood there read."""

    names: Names
    version: str = ""
    ready: bool = False
    _out: HaEffects = field(default_factory=list)

    def take(self) -> HaEffects:
        """What is to be done since the last time."""
        out, self._out = self._out, []
        return out

    def add(self, effect: HaEffect) -> None:
        """Have something else done."""
        self._out.append(effect)

    def note(self, text: str, warning: bool = False) -> None:
        """A line for the log."""
        self._out.append(Note(text, warning))

    def bridge_status(self, went: bool) -> None:
        """That the bridge is there."""
        self._publish(self.names.status, b"online", retain=True)
        self.last_status(went)

    def last_status(self, went: bool) -> None:
        """What Home Assistant said last of itself."""
        self._publish(self.names.last_status, b"offline" if went else b"online", retain=True)

    def door(self, door: HaDoor) -> None:
        """That there is such a door, with all its entities."""
        facts = discovery(self.names, door.peer, door.title, self.version)
        self._publish(self.names.config(door.peer), as_json_bytes(facts), retain=True)

    def online(self, door: HaDoor) -> None:
        """Whether the door is there."""
        word = {True: b"ON", False: b"OFF", None: b"None"}[door.online]
        self._publish(self.names.door(door.peer, "online"), word, retain=True)

    def call(self, door: HaDoor) -> None:
        """Its call as it is, which a later life reads."""
        self._publish(self.names.door(door.peer, "call"), door.payload(), retain=True)

    def picture(self, door: HaDoor) -> None:
        """The picture that the call offers, if it does."""
        if door.call.picture:
            self._publish(self.names.door(door.peer, "picture"), door.call.picture.encode())

    def event(self, door: HaDoor, kind: HaEvent, token: int | None = None) -> None:
        """Something has happened, now: never retained."""
        self._publish(self.names.door(door.peer, "event"), door.event(kind), token=token)

    def result(self, door: HaDoor, action: HaAction | None, call_id: str, why: str) -> None:
        """What came of a command; ``why`` it was not done, "" if it was."""
        what = "command" if action is None else action.replace("_", " ")
        text = f"{what}: {why or 'done'}"
        facts = {"do": action, "call_id": call_id, "ok": not why, "why": why, "text": text[:250]}
        self._publish(self.names.door(door.peer, "result"), as_json_bytes(facts))
        self.note(f"{door.peer}: {text}")

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False,
                 token: int | None = None) -> None:  # fmt: skip
        if self.ready:
            self._out.append(PublishHa(topic, payload, retain, token))
