"""Who holds how much of what all share: retained messages, by device. Pure, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from .limits import Limits

#: What a registered device may always keep, however full the broker is: nobody's presence or call
#: is refused for the greed of others.
FLOOR, FLOOR_BYTES = 256, 1 << 20
#: From this part of a share on it counts as nearly full.
NEARLY = 0.9


@dataclass(slots=True)
class Held:
    """Messages and their bytes, topics included."""

    count: int = 0
    bytes: int = 0


class Shares:
    """The retained messages of each device, against its share and the whole."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.all = Held()
        self.of: dict[str, Held] = {}

    def add(self, device: str, size: int) -> None:
        """``device`` keeps one more message."""
        held = self.of.setdefault(device, Held())
        for each in (held, self.all):
            each.count += 1
            each.bytes += size

    def remove(self, device: str, size: int) -> None:
        """One of ``device`` is gone."""
        held = self.of[device]
        for each in (held, self.all):
            each.count -= 1
            each.bytes -= size
        if not held.count:
            del self.of[device]

    def share(self, *, known: bool = True) -> tuple[int, int]:
        """Messages and bytes that one device may keep: of the whole a quarter at most."""
        limits = self._limits
        if not known:
            return limits.retained_per_device, limits.retained_bytes_per_device
        return (
            min(limits.retained_per_device, max(1, limits.retained // 4)),
            min(limits.retained_bytes_per_device, max(1, limits.retained_bytes // 4)),
        )

    def refusal(
        self, device: str, size: int, replaced: tuple[str, int] | None, *, known: bool
    ) -> str | None:
        """Why ``device`` may not keep ``size`` bytes (in place of ``replaced``), or None.

        ``known``: it is a registered device, of which there are not endlessly many.
        """
        limits, held = self._limits, self.of.get(device) or Held()
        count, more = (1, size) if replaced is None else (0, size - replaced[1])
        if replaced is not None and replaced[0] != device:
            mine, mine_bytes = held.count + 1, held.bytes + size
        else:
            mine, mine_bytes = held.count + count, held.bytes + more
        if not count and more <= 0 and replaced is not None and replaced[0] == device:
            return None  # nothing grows
        most, most_bytes = self.share(known=known)
        if mine > most:
            return f"it has its share of {most} retained messages"
        if mine_bytes > most_bytes:
            return f"it has its share of {most_bytes} retained bytes"
        if known and mine <= FLOOR and mine_bytes <= FLOOR_BYTES:
            return None
        if self.all.count + count > limits.retained:
            return f"there are {self.all.count} retained messages, no more are taken"
        if self.all.bytes + more > limits.retained_bytes:
            return f"there are {self.all.bytes} retained bytes, no more are taken"
        return None

    def nearly_full(self) -> list[str]:
        """A line for everything that is nearly full, the whole first, at most ten of devices."""
        limits = self._limits
        lines = [
            f"{used} of {limit} {what}"
            for used, limit, what in (
                (self.all.count, limits.retained, "retained messages"),
                (self.all.bytes, limits.retained_bytes, "retained bytes"),
            )
            if used >= limit * NEARLY
        ]
        most, most_bytes = self.share()
        greedy = [
            f"{used} of its {limit} {what} are held by {device!r}"
            for device, held in list(self.of.items())  # asked from another thread
            for used, limit, what in (
                (held.count, most, "retained messages"),
                (held.bytes, most_bytes, "retained bytes"),
            )
            if used >= limit * NEARLY
        ]
        return lines + greedy[:10]
