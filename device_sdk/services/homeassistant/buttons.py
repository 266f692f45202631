"""MQTT buttons: which message is a press that rings; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from .commands import matches_value

#: The same again within this is the same press; seconds.
REPEAT = 2.0


class ButtonRule(Protocol):
    """When a message is a press."""

    @property
    def topic(self) -> str:
        """Where it is said."""

    @property
    def json(self) -> str:
        """Where in the message; "" for all of it."""

    @property
    def value(self) -> str:
        """What is said there."""


@dataclass(slots=True)
class MqttPresses:
    """Which of ``buttons`` is pressed; a button that rings, or was pressed just now, is not."""

    buttons: tuple[ButtonRule, ...]
    _pressed: dict[int, float] = field(default_factory=dict)
    _ringing: set[int] = field(default_factory=set)

    def message(self, topic: str, payload: bytes, *, retained: bool, now: float) -> list[int]:
        """The numbers of the buttons that are to ring."""
        rings = []
        for number, button in enumerate(self.buttons):
            if retained or topic != button.topic:
                continue
            if not matches_value(payload, button.json, button.value):
                continue
            last = self._pressed.get(number)
            self._pressed[number] = now
            if number in self._ringing or (last is not None and now - last < REPEAT):
                continue
            self._ringing.add(number)
            rings.append(number)
        return rings

    def rings(self, number: int) -> bool:
        """Whether that button's ring is underway."""
        return number in self._ringing

    def ended(self, number: int) -> None:
        """Its ring is over."""
        self._ringing.discard(number)
