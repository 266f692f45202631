"""What doorbell and panel decide alike: buttons, a status light, the link. Pure.

Every method takes ``now``, seconds of any monotonic clock, and returns what is to be done, in
order. :attr:`Appliance.deadline` says when :meth:`Appliance.tick` is due.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from . import lights
from .debounce import Contact, Debouncer

Key = TypeVar("Key", bound=Hashable)
Effect = TypeVar("Effect")


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log; ``warning`` when somebody should look."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class ButtonTiming:
    """How a button is debounced, in seconds."""

    bounce_time: float = 0.03
    stuck_after: float = 30.0

    def contact(self, *, active: bool = False) -> Debouncer:
        """A contact of this timing; ``active`` if it is closed from the start."""
        return Debouncer(bounce_time=self.bounce_time, stuck_after=self.stuck_after, active=active)


@dataclass(frozen=True, slots=True)
class SayInCall:
    """Say ``message`` in that call."""

    call: str
    message: Any


@dataclass(frozen=True, slots=True)
class EndCall:
    """Hang up that call."""

    call: str


class ApplianceLogic(ABC, Generic[Key, Effect]):
    """Buttons by their keys and one status light, read from :attr:`light`. Not thread-safe."""

    def __init__(self, buttons: Mapping[Key, ButtonTiming]) -> None:
        self._timing = dict(buttons)
        self._contacts = {key: timing.contact() for key, timing in buttons.items()}
        self._stuck: set[Key] = set()
        self._online = False
        #: Which buttons were pressed, for who tells of it; see :meth:`take_presses`.
        self._presses: list[Key] = []
        self.light = lights.Player(lights.OFFLINE)

    @property
    def online(self) -> bool:
        """Whether there is a link to the broker."""
        return self._online

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` is due, or None."""
        due = [contact.deadline for contact in self._contacts.values()]
        due += [self.light.deadline, *self._deadlines()]
        return min((at for at in due if at is not None), default=None)

    def start(self, held: frozenset[Key], now: float) -> list[Effect | Note]:
        """Begin; ``held`` are the buttons that are closed already: they are not pressed."""
        for key in held:
            contact = self._contacts[key] = self._timing[key].contact(active=True)
            contact.start(now)
        self._rest(now)
        self.light.tick(now)
        return [
            Note(f"button {key} is closed at the start: it counts once it was open", warning=True)
            for key in sorted(held, key=str)
        ]

    def edge(self, button: Key, active: bool, now: float) -> list[Effect | Note]:
        """The raw contact of ``button`` is now ``active``."""
        # What settled before this edge happened at its own time, whenever the loop came to it.
        effects = self._changed(button, self._contacts[button].edge(active, now), now)
        return effects + self.tick(now)

    def take_presses(self) -> list[Key]:
        """The buttons that were pressed since this was asked."""
        taken, self._presses = self._presses, []
        return taken

    @abstractmethod
    def link(self, online: bool, now: float) -> list[Effect | Note]:
        """The link to the broker came or went."""

    def tick(self, now: float) -> list[Effect | Note]:
        """Time has come to ``now``."""
        effects: list[Effect | Note] = []
        for key, contact in self._contacts.items():
            effects += self._changed(key, contact.tick(now), now)
        effects += self._due(now)
        self.light.tick(now)
        return effects

    @abstractmethod
    def _pressed(self, button: Key, now: float) -> list[Effect | Note]:
        """A button was pressed."""

    @abstractmethod
    def _due(self, now: float) -> list[Effect | Note]:
        """What else time does, by ``now``."""

    @abstractmethod
    def _deadlines(self) -> list[float | None]:
        """When :meth:`_due` has something to do."""

    @abstractmethod
    def _idle_light(self) -> lights.Pattern:
        """What the light shows when all is well and nothing goes on."""

    def _changed(self, key: Key, changes: list[Contact], now: float) -> list[Effect | Note]:
        effects: list[Effect | Note] = []
        for change in changes:
            if change is Contact.PRESSED:
                self._presses.append(key)
                effects += self._pressed(key, now)
            elif change is Contact.STUCK:
                self._stuck.add(key)
                seconds = self._timing[key].stuck_after
                text = f"button {key} has been held for {seconds:g} s: stuck, or a short circuit"
                effects.append(Note(text, warning=True))
            elif key in self._stuck:
                self._stuck.discard(key)
                effects.append(Note(f"button {key} is open again"))
            self._rest(now)
        return effects

    def _rest(self, now: float) -> None:
        """Show by the light, whenever it shows nothing else, what is the matter, if anything."""
        if self._stuck:
            pattern = lights.STUCK
        else:
            pattern = self._idle_light() if self._online else lights.OFFLINE
        self.light.rest(pattern, now)
