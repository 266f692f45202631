"""The engine's numbers, with the protocol's defaults; all times in seconds."""

from typing import Any, NamedTuple, Self

from ..errors import InvalidArgument
from .wire.keys import MAX_TTL


class _Numbers(NamedTuple):
    #: From send without an answer to *expired*.
    ring_timeout: float = 60.0
    #: From send without any word of the callee to *peer offline* or *no response*.
    ack_timeout: float = 30.0
    #: From accept without the caller's decision to *accept failure*.
    accept_timeout: float = 5.0
    #: What is left of ringing once the caller's presence went offline.
    caller_lost_grace: float = 10.0
    #: How much longer than the invite's ttl a callee rings: the caller is to decide first.
    ring_slack: float = 2.0
    #: How long a decided call waits for a callee that is away: its missed call.
    missed_call_ttl: float = 24 * 3600.0
    #: How long an ended call is remembered, so that a late copy cannot ring.
    dedup_window: float = 600.0
    #: A cell is said again after this, doubled each time up to ``resend_max``.
    resend_first: float = 2.0
    resend_max: float = 30.0
    #: The same for what a callee asks or accepts: somebody waits for it.
    probe_interval: float = 1.0
    #: How long the presence of a peer stays subscribed after the last call with it.
    presence_linger: float = 600.0
    #: How long at most the first connection waits to see what the previous login left.
    startup_timeout: float = 2.0
    #: How long at most a logout waits for the others to know how calls ended.
    logout_grace: float = 1.0
    #: A call that goes on ends so long after it began.
    talk_limit: float = 7200.0
    #: And so long after its peer went offline, or without a link, or any word of its presence.
    peer_lost_grace: float = 10.0
    link_lost_grace: float = 30.0
    #: Invitations underway at this callee from one caller, and in all; over it: busy.
    max_calls_per_caller: int = 8
    max_calls: int = 64


#: What these were called: refused with the word that holds now.
RENAMED = {
    "missed_keep": "missed_call_ttl",
    "remember": "dedup_window",
    "ask_first": "probe_interval",
    "settle": "startup_timeout",
    "farewell": "logout_grace",
}
#: Anything longer, or more, is as good as without bound, and no float may overflow on the way.
MOST = 1e300


def _shown(value: float) -> str:
    return repr(value) if abs(value) < 2**64 or isinstance(value, float) else "a number that long"


class Settings(_Numbers):
    """Timers and caps of one peer; raises :class:`InvalidArgument` naming the one that is off."""

    __slots__ = ()

    def __new__(cls, **numbers: Any) -> Self:  # noqa: D102 - the class says it
        for name in numbers:
            if name not in cls._fields:
                now = RENAMED.get(name)
                raise InvalidArgument(name, f"it is called {now}" if now else "no such setting")
        self = super().__new__(cls, **numbers)
        for name, value in self._asdict().items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidArgument(name, f"a number is wanted, not {value!r}")
            # Compared, not math.isfinite: that raises for whole numbers no float can hold.
            if not 0 < value < MOST:
                raise InvalidArgument(name, f"must be above 0 and finite, not {_shown(value)}")
        if self.ring_timeout * 1000 > MAX_TTL:
            raise InvalidArgument("ring_timeout", f"at most a day, not {self.ring_timeout!r} s")
        return self


#: Calls kept for resending after their end, at most, each side; of more no cell is left behind.
MAX_KEPT = 256
#: Ended calls remembered at most; the oldest go first.
MAX_REMEMBERED = 4096
#: What is said to those whom this peer's app does not know of: so many at once, then so many a
#: second, for each peer and for all. Who is not answered says it again by itself; a flood must not
#: use up what this peer may publish, nor what it may tell.
STRANGER, STRANGERS = (64.0, 20.0), (256.0, 80.0)
#: One cell is said again so often for the asking, after two at once.
RESEND_INTERVAL = 1.0
#: Seconds after which a peer of whose presence the broker has told nothing is not there.
NEVER_THERE = 1.0
#: Presences that linger, at most: brokers bound the filters of a client.
MAX_IDLE_WATCHES = 32
