"""Every bound of the broker in one place, and the counters of what ran into one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client, one address and all of them together may take; 0 turns a rate off."""

    packet_bytes: int = 65536
    #: A larger PUBLISH is read away up to this size, acknowledged and dropped; above, the
    #: connection ends.
    packet_bytes_dropped: int = 1 << 20
    topic_bytes: int = 512
    topic_levels: int = 32
    filters_per_client: int = 512
    connections: int = 20000
    connections_per_address: int = 0
    #: Of one device; the oldest gives way to one more.
    connections_per_device: int = 32
    #: Seconds from the TCP connection to a whole CONNECT, TLS included in front of it.
    connect_timeout: float = 5.0
    #: QoS 1 and 2 messages on their way to one client at once.
    inflight: int = 100
    #: QoS 2 messages received from one client and not yet released by it.
    inflight_incoming: int = 1000
    #: Messages that wait for one client. Offline, the oldest gives way; connected, see ``stall``.
    queued: int = 1000
    #: The same in bytes.
    queued_bytes: int = 1 << 20
    #: Seconds that publishers wait for a connected client whose queue is full, before it is cut.
    stall: float = 1.0
    #: Bytes written to a client and not taken by it.
    write_buffer: int = 2 << 20
    #: Messages a second from one device, with this many at once before the rate applies. One of
    #: over 4 KiB counts once more for each 4 KiB.
    publishes_per_second: float = 0.0
    publish_burst: int = 200
    #: Retained messages and their bytes, in all and of one device.
    retained: int = 200_000
    retained_bytes: int = 256 << 20
    retained_per_device: int = 10_000
    retained_bytes_per_device: int = 16 << 20
    #: Sessions that outlive their connection, in all and of one device; and seconds until an
    #: unused one is forgotten.
    persistent_sessions: int = 10_000
    persistent_sessions_per_device: int = 16
    session_expiry: float = 7 * 86400.0
    #: Names or addresses that fail to authenticate are remembered up to this many.
    failures_remembered: int = 10_000


@dataclass(slots=True)
class Stats:
    """Plain counters: the metrics read them, no message waits for a metrics library."""

    connections: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    takeovers: int = 0
    wills: int = 0
    keepalive_timeouts: int = 0
    janitor_cleared: int = 0
    #: By cause: connections not let in, connections cut, messages dropped, messages not allowed.
    refused: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)


class Allowance:
    """A token bucket; time is passed in."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at = now

    def take(self, now: float, cost: float = 1.0) -> float:
        """Take one, or ``cost``; gives the seconds to wait before the next."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - cost
        self._at = now
        return 0.0 if self._left >= 0 else -self._left / self._rate

    def owed(self, now: float) -> float:
        """The seconds to wait before the next, taking none."""
        left = self._left + (now - self._at) * self._rate
        return 0.0 if left >= 0 else -left / self._rate

    def full(self, now: float) -> bool:
        """Whether nothing is missing: it may be forgotten."""
        return self._left + (now - self._at) * self._rate >= self._burst


class Allowances:
    """A token bucket for each name; those that are full again are forgotten."""

    def __init__(self, rate: float, burst: int, remembered: int) -> None:
        self._rate, self._burst, self._remembered = rate, burst, remembered
        self._each: dict[str, Allowance] = {}

    def __len__(self) -> int:
        return len(self._each)

    def of(self, name: str, now: float) -> Allowance:
        """The one of ``name``; with too many, the longest known gives way."""
        found = self._each.get(name)
        if found is None:
            if len(self._each) >= self._remembered:
                self._forget(now)
            found = self._each[name] = Allowance(self._rate, self._burst, now)
        return found

    def owed(self, name: str, now: float) -> float:
        """The seconds that ``name`` is to wait."""
        found = self._each.get(name)
        return found.owed(now) if found is not None else 0.0

    def _forget(self, now: float) -> None:
        for name in [name for name, each in self._each.items() if each.full(now)]:
            del self._each[name]
        while len(self._each) >= self._remembered:
            del self._each[next(iter(self._each))]
