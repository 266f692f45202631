"""What the bridge's decisions want done; pure."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias


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


class SayHa(NamedTuple):
    """Say something in that call."""

    call_id: str
    message: Any


class HangUpHa(NamedTuple):
    """Hang up that call."""

    call_id: str


class RingFor(NamedTuple):
    """Ring for a button of Home Assistant's side, by its number."""

    button: int


class NoteHa(NamedTuple):
    """A line for the log."""

    text: str
    warning: bool = False


HaEffect: TypeAlias = PublishHa | LogIn | AcceptHa | RefuseHa | SayHa | HangUpHa | RingFor | NoteHa
