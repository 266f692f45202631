"""What the bridge's decisions want done; pure."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from ..logic.appliance import EndCall, Note, SayInCall
from .discovery import HaCall
from .door import DoorCall


class PublishHa(NamedTuple):
    """Publish at Home Assistant's broker; ``token`` comes back when the broker has it."""

    topic: str
    payload: bytes
    retain: bool = False
    token: int | None = None


class LogIn(NamedTuple):
    """Log in to Bellwire: what stood at Home Assistant's broker has been read."""


class AcceptHa(NamedTuple):
    """Accept that call."""

    call_id: str
    response: Any = None


class RefuseHa(NamedTuple):
    """Refuse that call."""

    call_id: str
    response: Any = None


class CallRang(NamedTuple):
    """A call rings: for the history and the settings' hooks; ``again``: a former life had it."""

    call: DoorCall
    again: bool = False


class CallOver(NamedTuple):
    """How a call ended; ``rang`` is false of one that was never heard here. For the same."""

    call: DoorCall
    how: HaCall
    response: Any = None
    rang: bool = True


class DoorOpened(NamedTuple):
    """The door was opened in that call. For the history."""

    call_id: str


CallEvent: TypeAlias = CallRang | CallOver | DoorOpened
InCall: TypeAlias = AcceptHa | RefuseHa | SayInCall | EndCall
HaEffect: TypeAlias = PublishHa | LogIn | InCall | CallEvent
#: As they are handed out, in order.
HaEffects: TypeAlias = list[HaEffect | Note]
