"""A doorbell: press the button (GPIO 17 if there is one, else Enter) and the kitchen rings."""

import os
import warnings
from collections.abc import Callable, Iterator

from device_sdk import SignalingClient

BROKER = os.environ.get("BELLWIRE_BROKER", "mqtt://127.0.0.1:1883")


def presses() -> Iterator[None]:
    """Yield at each press: of a button on GPIO 17, or of Enter on a machine without pins."""
    try:
        from gpiozero import BadPinFactory, Button

        warnings.filterwarnings("ignore", module="gpiozero")  # it tells of every driver it tries
        button = Button(17, bounce_time=0.05)
    except (ImportError, BadPinFactory):
        print("press Enter to ring, Ctrl-D to leave", flush=True)
        while os.read(0, 1024):
            yield
    else:
        while True:
            button.wait_for_press()
            yield
            button.wait_for_release()


def main(presses: Callable[[], Iterator[None]] = presses) -> None:
    with SignalingClient("front-door", BROKER) as client:
        for _ in presses():
            try:
                outcome = client.call("kitchen", content="somebody is at the door", timeout=30)
                print(outcome.reason, outcome.response or "", flush=True)
            except KeyboardInterrupt:  # Ctrl-C while it rings cancels the call
                print("canceled", flush=True)


if __name__ == "__main__":
    main()
