"""A panel without pins: its page, or a command, is all there is to it."""

from __future__ import annotations

from ..config.account import InputPin, OutputPin
from .pins import Input, OnEdge, Output, PinError


class NoPins:
    """See :class:`~.pins.Pins`; there is nothing to open, so no library is asked for."""

    def watch(self, name: str, pin: InputPin, on_edge: OnEdge) -> Input:  # noqa: ARG002 - the port's
        """None is set, so none is asked for."""
        raise PinError(f"{name}: pin {pin.pin} was not set")

    def output(self, name: str, pin: OutputPin) -> Output:
        """As :meth:`watch`."""
        raise PinError(f"{name}: pin {pin.pin} was not set")

    def close(self) -> None:
        """There is nothing to let go of."""
