"""One door as Home Assistant has it: its last call, and what was told of it; pure.

Its retained ``call`` is what people see, and the bridge's memory: a later life reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ...client.display import jsonable, shown
from ...core.wire.topics import MAX_PEER_ID
from ..logic.messages import MAX_TEXT, text_of
from .commands import read_json
from .discovery import HaAction, HaCall


class Told(StrEnum):
    """Whether Home Assistant has been told that this call rings."""

    NO = "no"
    #: It was said while nobody knew whether it hears.
    MAYBE = "maybe"
    YES = "yes"


def text_for_people(content: Any) -> str:
    """What a content or response says, in a line; "" where there is none."""
    if content is None:
        return ""
    text = text_of(content)
    return shown(content, MAX_TEXT) if text is None else text


def snapshot_of(content: Any) -> str:
    """The address of the picture that a content offers (docs/media.md), or ""."""
    media = content.get("media") if isinstance(content, dict) else None
    for each in media if isinstance(media, list) else ():
        url = each.get("url") if isinstance(each, dict) and each.get("kind") == "snapshot" else None
        if isinstance(url, str) and url.startswith(("http://", "https://")) and len(url) <= 2048:
            return url
    return ""


@dataclass(frozen=True, slots=True)
class DoorCall:
    """A call of that door. ``since``: when it began to ring, as people write it."""

    call_id: str = ""
    caller: str = ""
    #: As it was offered; of a former life's call what was left of it: a text.
    content: Any = None
    since: str = ""
    picture: str = ""
    #: Of the answer: what it says.
    response: str = ""


@dataclass(slots=True)
class HaDoor:
    """A door's state. ``title``: what people call it."""

    peer: str
    title: str
    #: Where commands for it are said.
    command_topic: str = ""
    state: HaCall = HaCall.IDLE
    call: DoorCall = field(default_factory=DoorCall)
    told: Told = Told.NO
    #: It rings or goes on for this life of the bridge: it can be answered or hung up.
    live: bool = False
    #: A call that goes on after it was answered.
    up: bool = False
    #: What was asked for and has not come to its end: by it the result is told.
    asked: HaAction | None = None
    #: Answered in order to be opened: to be asked for when the call goes on.
    open_next: bool = False
    #: When a request to open is given up.
    open_until: float | None = None
    #: Home Assistant does not know this door yet: until then nothing is told.
    known_at: float = 0.0
    #: The acknowledgement that the ring told last is waiting for.
    token: int | None = None
    #: Of a call that a former life left ringing: when it is given up.
    expires: float | None = None
    #: Whether the door itself is there; None: unknown.
    online: bool | None = None

    @property
    def can(self) -> list[HaAction]:
        """What may be asked for now."""
        if not self.live:
            return []
        if self.state is HaCall.RINGING:
            return (
                [] if self.asked is not None else [HaAction.ANSWER, HaAction.REFUSE, HaAction.OPEN]
            )
        return [HaAction.OPEN, HaAction.HANG_UP] if self.up else []

    def payload(self) -> bytes:
        """The retained ``call``: the sensor's state and attributes."""
        call = self.call
        facts: dict[str, Any] = {
            "state": self.state.value,
            "call_id": call.call_id,
            "caller": call.caller,
            "content": text_for_people(call.content),
            "since": call.since,
            "picture": call.picture,
            "response": call.response,
            "command_topic": self.command_topic,
            "can": [each.value for each in self.can],
            "told": self.told.value,
        }
        return as_json_bytes(facts)

    def event(self, kind: str) -> bytes:
        """An event of that type."""
        call = self.call
        facts = {"event_type": kind, "call_id": call.call_id, "caller": call.caller,
                 "content": text_for_people(call.content), "since": call.since,
                 "command_topic": self.command_topic}  # fmt: skip
        return as_json_bytes(facts | ({"response": call.response} if call.response else {}))

    def begin(self, call: DoorCall, *, live: bool = True) -> None:
        """A call rings that this door did not know."""
        self.state, self.call, self.told, self.live, self.up = (
            HaCall.RINGING, call, Told.NO, live, False,
        )  # fmt: skip
        self.asked = self.token = self.expires = self.open_until = None
        self.open_next = False

    def end(self, state: HaCall) -> None:
        """The call is over, or, answered, rings no more."""
        self.state, self.expires, self.token = state, None, None
        self.live = self.up = False

    def recall(self, remembered: RetainedCall) -> None:
        """Take over what a former life left."""
        self.state, self.call, self.told = remembered.state, remembered.call, remembered.told
        if self.state is HaCall.ANSWERED:
            # If it went on, it ended with that life.
            self.state = HaCall.ENDED


@dataclass(frozen=True, slots=True)
class RetainedCall:
    """What a retained ``call`` says."""

    state: HaCall
    call: DoorCall
    told: Told


def read_retained_call(payload: bytes) -> RetainedCall | None:
    """What stands in a retained ``call``; None where it is none of ours."""
    facts = read_json(payload)
    if not isinstance(facts, dict) or facts.get("state") not in list(HaCall):
        return None

    def text(name: str) -> str:
        value = facts.get(name, "")
        return value[:2048] if isinstance(value, str) else ""

    told = facts.get("told")
    return RetainedCall(
        HaCall(facts["state"]),
        DoorCall(text("call_id"), text("caller")[:MAX_PEER_ID], text("content"), text("since"),
                 text("picture"), text("response")),
        Told(told) if told in list(Told) else Told.YES,
    )  # fmt: skip


def as_json_bytes(facts: Mapping[str, Any]) -> bytes:
    """``facts`` as JSON that every reader takes."""
    return json.dumps(jsonable(facts), ensure_ascii=False, separators=(",", ":")).encode()
