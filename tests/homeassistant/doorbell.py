"""A real ``bellwire doorbell`` with a door, on pins in memory: pressed here, and looked at."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import gpiozero
from gpiozero.pins.mock import MockFactory

from device_sdk.services.config.account import Factory
from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.gpio.pins import GpiozeroPins
from device_sdk.services.service.doorbell import DoorbellService
from device_sdk.services.service.loop import Loop
from device_sdk.services.service.sd_notify import Notifier

BUTTON, DOOR = 17, 23
CONTENT = '"somebody is at the door"'


class MemoryDoorbell:
    """``front-door``, which rings ``home`` and is opened by it; it runs inside ``with``.

    ``content`` is TOML.
    """

    def __init__(self, folder: Path, broker: str, realm: str, content: str = CONTENT) -> None:
        path = folder / "doorbell.toml"
        path.write_text(
            f'[account]\npeer = "front-door"\nbroker = "{broker}"\nrealm = "{realm}"\n'
            f'[gpio]\nfactory = "mock"\n[[button]]\npin = {BUTTON}\nrings = ["home"]\n'
            f"content = {content}\nring_time = 170\n"
            f'[door]\npin = {DOOR}\nseconds = 1\nobeys = ["home"]\n'
        )
        gpiozero.Device.pin_factory = MockFactory()
        notifier = Notifier({})
        self._loop = Loop(notifier)
        pins = GpiozeroPins(Factory.MOCK, None)
        self._service = DoorbellService(read_doorbell(path), pins, self._loop, notifier)
        self._thread = threading.Thread(target=self._service.run)
        self._button: Any = gpiozero.Device.pin_factory.pin(BUTTON)
        self._door: Any = gpiozero.Device.pin_factory.pin(DOOR)

    def press(self) -> None:
        """The visitor's finger, longer than any bounce."""
        self._button.drive_low()
        time.sleep(0.2)
        self._button.drive_high()

    def opened(self) -> int:
        """How often the door's pin has gone on."""
        levels = [each.state for each in self._door.states]
        return sum(on and not before for before, on in zip([False, *levels], levels, strict=False))

    @property
    def open(self) -> bool:
        """Whether it is on now."""
        return bool(self._door.state)

    @property
    def online(self) -> bool:
        """Whether it is logged in."""
        return self._service.client.connection_state.name == "CONNECTED"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._loop.stop()
        self._thread.join(20)
        gpiozero.Device.pin_factory = None
