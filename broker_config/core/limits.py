"""Every bound of the broker in one place, and the counters of what ran into one."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client, device or address, and all of them, may take; 0 turns a rate off.

    A device is a user, or what the client id names where nobody is known.
    """

    packet_bytes: int = 65536
    #: A larger PUBLISH is acknowledged and dropped; above this, the connection ends.
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
class BrokerStats:
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


class Allowances:
    """A token bucket for each name; of too many, the one used least lately is forgotten."""

    def __init__(self, rate: float, burst: int, remembered: int) -> None:
        self._rate, self._burst, self._remembered = rate, burst, remembered
        self._each: dict[str, Allowance] = {}

    def take(self, name: str, now: float, cost: float = 1.0) -> float:
        """Take ``cost`` of ``name``'s; gives the seconds to wait before the next."""
        if not self._rate:
            return 0.0
        found = self._each.pop(name, None) or Allowance(self._rate, self._burst, now)
        if len(self._each) >= self._remembered:
            del self._each[next(iter(self._each))]
        self._each[name] = found
        return found.take(now, cost)


def user_of(client_id: str) -> str:
    """Whose client id it is: all before the first ``:`` or ``.``; no escaped peer id has them."""
    return client_id.replace(".", ":").partition(":")[0]


def short(value: object) -> str:
    """``value`` as a log line shows what a client sent: escaped, and of bounded length."""
    text = str(value)
    return repr(text) if len(text) <= 64 else f"{text[:64]!r}... ({len(text)} characters)"


class Seldom:
    """Logs what anybody may cause: a line a minute for each key, and a line a second for all."""

    def __init__(self, logger: logging.Logger, keys: int = 1000) -> None:
        self._logger = logger
        self._keys = keys
        self._said: dict[object, list[float]] = {}
        self._all: Allowance | None = None

    def warning(self, now: float, key: object, text: str, *values: object) -> None:
        """Log at warning level, unless there was a line of this ``key`` within the minute."""
        self._all = self._all or Allowance(1.0, 30, now)
        at, left_out = self._said.pop(key, (now - 61.0, 0.0))
        if len(self._said) >= self._keys:
            del self._said[next(iter(self._said))]
        if now - at < 60.0 or self._all.owed(now):
            self._said[key] = [at, left_out + 1]
            return
        self._all.take(now)
        self._said[key] = [now, 0.0]
        if left_out:
            text += " (and %d times more since the last such line)"
            values = (*values, int(left_out))
        self._logger.warning(text, *values)
