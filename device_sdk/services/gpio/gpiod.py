"""The kernel's GPIO devices by way of gpiod (libgpiod 2): any board, wheels for 64-bit Arm."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from pathlib import Path
from typing import Any

from ..config.account import InputPin, Level, OutputPin, Pull
from .pins import Input, OnEdge, Output, PinError, check_chip, explain

log = logging.getLogger("bellwire.pi")

#: The chip with the header's pins: on a Raspberry Pi 5 it is not the first one.
_HEADER_LABELS = ("pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835")
_CONSUMER = "bellwire"


class GpiodPins:
    """One chip's lines; edges are read on a thread of its own."""

    def __init__(self, chip: int | None) -> None:
        import gpiod

        self._gpiod: Any = gpiod
        self._path = _find_chip(gpiod) if chip is None else Path(f"/dev/gpiochip{chip}")
        check_chip(self._path)
        self._requests: list[Any] = []
        self._outputs: list[_Line] = []
        self._watched: dict[int, tuple[Any, OnEdge, int]] = {}
        self._stop_r, self._stop_w = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._stop_r, select.POLLIN)
        self._thread: threading.Thread | None = None

    def watch(self, name: str, pin: InputPin, on_edge: OnEdge) -> Input:
        """See :class:`Pins`."""
        line = self._gpiod.line
        bias = {
            Pull.UP: line.Bias.PULL_UP,
            Pull.DOWN: line.Bias.PULL_DOWN,
            Pull.NONE: line.Bias.AS_IS,
        }
        wanted = {
            "direction": line.Direction.INPUT,
            "edge_detection": line.Edge.BOTH,
            "active_low": pin.active is Level.LOW,
        }
        try:
            request = self._request(name, pin.pin, **wanted, bias=bias[pin.pull])
        except PinError as refused:
            # Some chips have no resistors of their own; the contact then has one outside.
            if "cannot be used" not in str(refused):
                raise
            request = self._request(name, pin.pin, **wanted)
        self._watched[request.fd] = (request, on_edge, pin.pin)
        self._poll.register(request.fd, select.POLLIN)
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="bellwire-gpio", daemon=True)
            self._thread.start()
        return _Line(request, pin.pin, line.Value)

    def output(self, name: str, pin: OutputPin) -> Output:
        """See :class:`Pins`."""
        line = self._gpiod.line
        request = self._request(
            name,
            pin.pin,
            direction=line.Direction.OUTPUT,
            active_low=pin.active is Level.LOW,
            output_value=line.Value.INACTIVE,
        )
        self._outputs.append(_Line(request, pin.pin, line.Value))
        return self._outputs[-1]

    def close(self) -> None:
        """See :class:`Pins`."""
        os.write(self._stop_w, b"x")
        if self._thread is not None:
            self._thread.join()
        for line in self._outputs:
            # Some chips keep the level of a line that is let go.
            with contextlib.suppress(OSError, ValueError):
                line.set(False)
        for request in self._requests:
            request.release()
        self._requests.clear()
        os.close(self._stop_r)
        os.close(self._stop_w)

    def _request(self, name: str, pin: int, **settings: Any) -> Any:
        try:
            request = self._gpiod.request_lines(
                str(self._path),
                consumer=_CONSUMER,
                config={pin: self._gpiod.LineSettings(**settings)},
            )
        except (OSError, ValueError) as error:
            raise explain(name, pin, self._path.name, error) from error
        self._requests.append(request)
        return request

    def _read(self) -> None:
        try:
            self._read_edges()
        except Exception:  # what is left are the levels, which the services ask for
            log.exception("the driver tells no edges any more: short presses may be lost")

    def _read_edges(self) -> None:
        rising = self._gpiod.EdgeEvent.Type.RISING_EDGE
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._stop_r:
                    return
                request, on_edge, _pin = self._watched[fd]
                for event in request.read_edge_events():
                    # With active_low the kernel has turned the edges round already.
                    on_edge(event.event_type == rising)


class _Line:
    def __init__(self, request: Any, pin: int, values: Any) -> None:
        self._request = request
        self._pin = pin
        self._values = values
        self._on: bool | None = False

    def active(self) -> bool:
        """See :class:`Input`."""
        return bool(self._request.get_value(self._pin) == self._values.ACTIVE)

    def set(self, on: bool) -> None:
        """See :class:`Output`."""
        if on != self._on:
            self._on = None  # not known, should the driver raise
            value = self._values.ACTIVE if on else self._values.INACTIVE
            self._request.set_value(self._pin, value)
            self._on = on


def _find_chip(gpiod: Any) -> Path:
    paths = sorted(Path("/dev").glob("gpiochip*"))
    for path in paths:
        if not os.access(path, os.R_OK | os.W_OK):
            continue
        with gpiod.Chip(str(path)) as chip:
            if chip.get_info().label in _HEADER_LABELS:
                return path
    return paths[0] if paths else Path("/dev/gpiochip0")
