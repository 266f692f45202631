"""Where edges come from and levels go: the port, and the choice of what drives the pins.

On a Raspberry Pi that is gpiozero on lgpio (both come with Raspberry Pi OS); where lgpio is not to
be had, gpiod, which speaks to the kernel's GPIO devices of any board; for tests gpiozero's mock.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ...errors import BellwireError
from ..config.account import Factory, Gpio, InputPin, Level, OutputPin, Pull

T = TypeVar("T")

#: Called with whether the contact is now active, from a thread of the driver's.
OnEdge = Callable[[bool], None]


class PinError(BellwireError, OSError):
    """A pin cannot be used; the message names pin and chip, and says what to do."""


class Input(Protocol):
    """A watched contact."""

    def active(self) -> bool:
        """Whether it is active at this moment."""
        ...


class Output(Protocol):
    """A light or a bell."""

    def set(self, on: bool) -> None:
        """Switch it; cheap when it is so already."""
        ...


class Pins(Protocol):
    """One driver of pins; ``name`` is for messages. Raises :class:`PinError`."""

    def watch(self, name: str, pin: InputPin, on_edge: OnEdge) -> Input:
        """Tell each edge of ``pin``, bounces included."""
        ...

    def output(self, name: str, pin: OutputPin) -> Output:
        """Drive ``pin``, off at first."""
        ...

    def close(self) -> None:
        """Let go of all pins, outputs off."""
        ...


def open_pins(gpio: Gpio) -> Pins:
    """The driver that ``gpio`` asks for; :class:`PinError` says what is missing and how to get it.

    ``auto``: gpiozero if a factory is set by ``GPIOZERO_PIN_FACTORY``; lgpio if it is there and
    this is a Raspberry Pi; else gpiod.
    """
    factory = gpio.factory
    if factory is Factory.AUTO:
        if os.environ.get("GPIOZERO_PIN_FACTORY") == "mock":
            factory = Factory.MOCK
        elif is_raspberry_pi() and _there("lgpio") and _there("gpiozero"):
            factory = Factory.LGPIO
        else:
            factory = Factory.GPIOD
    if factory is Factory.GPIOD:
        from .gpiod import GpiodPins

        if not _there("gpiod"):
            raise PinError(
                "no library for the pins: on Raspberry Pi OS `sudo apt install python3-gpiozero "
                "python3-lgpio` (and make the venv with --system-site-packages), elsewhere "
                "`pip install 'gpiod>=2'`; or try `--keyboard`"
            )
        return GpiodPins(gpio.chip)
    return GpiozeroPins(factory, gpio.chip)


def is_raspberry_pi() -> bool:
    """Whether the device tree says so."""
    try:
        model = Path("/proc/device-tree/model").read_bytes()
    except OSError:
        return False
    return model.startswith(b"Raspberry Pi")


def check_chip(path: Path) -> None:
    """Raise a :class:`PinError` that says why the GPIO device ``path`` cannot be opened, if so."""
    try:
        status = path.stat()
    except OSError:
        chips = ", ".join(sorted(p.name for p in path.parent.glob("gpiochip*"))) or "none"
        raise PinError(f"there is no GPIO chip {path}; this machine has: {chips}") from None
    if not os.access(path, os.R_OK | os.W_OK):
        group = _group_name(status.st_gid)
        if not stat.S_IMODE(status.st_mode) & stat.S_IWGRP or group == "root":
            raise PinError(
                f"no permission on {path}, and no group has it: add a udev rule that gives "
                f"gpiochip devices to a group gpio, and join that group"
            )
        raise PinError(
            f"no permission on {path}: join the group {group} "
            f"(`sudo usermod -aG {group} $USER`, then log in again)"
        )


def explain(name: str, pin: int, chip: str, error: Exception) -> PinError:
    """The driver's ``error`` about ``pin`` in words for who wired it."""
    number = getattr(error, "errno", None)
    text = str(error).strip("'\"")
    if number == errno.EBUSY or "busy" in text.lower() or "in use" in text.lower():
        problem = f"is taken by another program or a kernel driver (`gpioinfo {chip}` shows whom)"
    elif number == errno.EINVAL or any(
        w in text.lower() for w in ("invalid", "bad", "not a valid")
    ):
        problem = "does not exist there; see `gpioinfo` for the lines"
    else:
        problem = f"cannot be used: {text}"
    return PinError(f"{name}: pin {pin} of {chip} {problem}")


class Levels:
    """When to ask the inputs for their levels: a driver may lose an edge, a level it cannot.

    Pure but for the asking: give :meth:`ask` the time.
    """

    #: Seconds between two looks: shorter than a press, seldom enough to cost nothing.
    EVERY = 0.1

    def __init__(self) -> None:
        self.due = 0.0

    def ask(self, inputs: Mapping[T, Input], now: float) -> list[tuple[T, bool]]:
        """Each input with its level, if it is time."""
        if now < self.due or not inputs:
            return []
        self.due = now + self.EVERY
        return [(name, pin.active()) for name, pin in inputs.items()]

    def before(self, deadline: float | None) -> float:
        """``deadline``, or the next look if that is earlier."""
        return self.due if deadline is None else min(deadline, self.due)


class GpiozeroPins:
    """gpiozero with lgpio, or with its mock. Debouncing is ours, so gpiozero's stays off."""

    def __init__(self, factory: Factory, chip: int | None) -> None:
        try:
            import gpiozero
        except ImportError:
            raise PinError("gpiozero is missing: `pip install 'bellwire[pi]'`") from None
        self._gpiozero = gpiozero
        self._devices: list[Any] = []
        self._chip = f"gpiochip{chip or 0}"
        self._own_factory = factory is not Factory.MOCK
        if factory is Factory.MOCK:
            from gpiozero.pins.mock import MockFactory

            if not isinstance(gpiozero.Device.pin_factory, MockFactory):
                gpiozero.Device.pin_factory = MockFactory()
            self._factory = gpiozero.Device.pin_factory
            return
        if chip is not None:
            check_chip(Path(f"/dev/gpiochip{chip}"))
        # lgpio keeps its pipes in the working directory unless told otherwise.
        os.environ.setdefault("LG_WD", os.environ.get("RUNTIME_DIRECTORY", "/tmp"))  # noqa: S108 # its own files, made fresh
        try:
            from gpiozero.pins.lgpio import LGPIOFactory

            self._factory = LGPIOFactory(chip=chip)
            self._chip = f"gpiochip{self._factory.chip}"
        except ImportError:
            raise PinError("lgpio is missing: `sudo apt install python3-lgpio`") from None
        except Exception as error:
            # lgpio's error is no OSError: look for the cause ourselves before passing it on.
            for path in sorted(Path("/dev").glob("gpiochip*")) or [Path("/dev/gpiochip0")]:
                check_chip(path)
            raise PinError(f"the GPIO chip cannot be opened: {error}") from error

    def watch(self, name: str, pin: InputPin, on_edge: OnEdge) -> Input:
        """See :class:`Pins`."""
        pull_up = {Pull.UP: True, Pull.DOWN: False, Pull.NONE: None}[pin.pull]
        high = pin.active is Level.HIGH
        device = self._make(
            name,
            pin.pin,
            lambda: self._gpiozero.DigitalInputDevice(
                pin.pin,
                pull_up=pull_up,
                active_state=high if pull_up is None else None,
                bounce_time=None,
                pin_factory=self._factory,
            ),
        )
        # With a pull, gpiozero takes the other level for active.
        inverted = pull_up is not None and high == pull_up
        device.when_activated = lambda: on_edge(not inverted)
        device.when_deactivated = lambda: on_edge(inverted)
        return _GpiozeroInput(device, inverted)

    def output(self, name: str, pin: OutputPin) -> Output:
        """See :class:`Pins`."""
        device = self._make(
            name,
            pin.pin,
            lambda: self._gpiozero.DigitalOutputDevice(
                pin.pin,
                active_high=pin.active is Level.HIGH,
                initial_value=False,
                pin_factory=self._factory,
            ),
        )
        return _GpiozeroOutput(device)

    def close(self) -> None:
        """See :class:`Pins`."""
        for device in self._devices:
            if hasattr(device, "off"):
                device.off()  # some chips keep the level of a pin that is let go
            device.close()
        self._devices.clear()
        if self._own_factory:
            self._factory.close()

    def _make(self, name: str, pin: int, make: Callable[[], Any]) -> Any:
        try:
            device = make()
        except Exception as error:
            self.close()
            raise explain(name, pin, self._chip, error) from error
        self._devices.append(device)
        return device


class _GpiozeroInput:
    def __init__(self, device: Any, inverted: bool) -> None:
        self._device = device
        self._inverted = inverted

    def active(self) -> bool:
        """See :class:`Input`."""
        return bool(self._device.is_active) != self._inverted


class _GpiozeroOutput:
    def __init__(self, device: Any) -> None:
        self._device = device
        self._on: bool | None = False

    def set(self, on: bool) -> None:
        """See :class:`Output`."""
        if on != self._on:
            self._on = None  # not known, should the driver raise
            self._device.value = int(on)
            self._on = on


def _there(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
