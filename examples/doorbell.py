"""A doorbell: press the button (GPIO 17 if there is one, else Enter) and the kitchen rings."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from device_sdk import SignalingClient

if TYPE_CHECKING:
    from gpiozero import Button

BROKER = os.environ.get("BELLWIRE_BROKER", "mqtt://127.0.0.1:1883")


def button() -> Button | None:
    """The button on GPIO 17; None on a machine without pins, or without what reads them."""
    try:
        from gpiozero import BadPinFactory, Button
    except ImportError:
        return None
    warnings.filterwarnings("ignore", module="gpiozero")  # it tells of every driver it tries
    try:
        return Button(17, bounce_time=0.05)
    except BadPinFactory:
        return None


def presses() -> Iterator[None]:
    """Yield at each press: of the button, or of Enter where there is none."""
    if (pressed := button()) is None:
        print("press Enter to ring, Ctrl-C to leave", flush=True)
        while os.read(0, 1024):
            yield
    else:
        print("press the button on GPIO 17 to ring, Ctrl-C to leave", flush=True)
        while True:
            pressed.wait_for_press()
            yield
            pressed.wait_for_release()


def main(presses: Callable[[], Iterator[None]] = presses) -> None:
    with SignalingClient("front-door", BROKER) as client:
        for _ in presses():
            try:
                outcome = client.call("kitchen", content="somebody is at the door", timeout=30)
                print(outcome.reason, outcome.response or "", flush=True)
            except KeyboardInterrupt:  # Ctrl-C while it rings cancels the call
                print("canceled", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C leaves
        main()
