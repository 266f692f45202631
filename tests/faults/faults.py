"""The states of a call, the faults of the matrix, and by when what has to come has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STATES = (
    "sent, unseen",
    "ringing",
    "accepting",
    "accepted, unseen",
    "refused, uncleared",
    "canceled, unseen",
    "probing",
    "logging in",
    "idle",
    "in a call",
    "message underway",
    "hanging up",
)
#: Of a call that goes on: both said ``talk``, and both were told that it began.
TALKS = STATES[-3:]
ENDS = ("caller", "callee")

#: The timers of a cell: those of the protocol, shortened alike, so that a cell takes seconds.
SHORT: dict[str, Any] = {
    "keepalive": 2,
    "ring_timeout": 30.0,
    "ack_timeout": 20.0,
    "accept_timeout": 12.0,
    "caller_lost_grace": 8.0,
    "resend_first": 0.5,
    "resend_max": 2.0,
    "probe_interval": 0.5,
}
STOPPED = 20.0
BROKER_STOPPED = 5.0  # longer than 1.5 times the keep-alive
BROKER_AWAY = 3.0
#: So long the resolver takes, where the end's broker has a name; over :data:`dialing._SLOW`.
RESOLVING = 3.0
GHOST = 5.0  # so long a dead caller stays away behind a bridge, and may not ring
#: Known not to hold, left out, and said in the tables: fault and state. None at present.
OPEN: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Fault:
    """``bound``: seconds from the fault to what has to come; ``why`` it is what it is."""

    name: str
    title: str
    bound: float
    why: str
    timers: dict[str, Any] | None = None  # None: SHORT
    both: bool = False  # hits both ends at once: there is no choosing one
    process: bool = False  # the end is a process of its own
    only: str = ""  # the one end that can have it
    brokers: tuple[str, ...] = ("bundled", "mosquitto", "bridge", "nats")
    without: frozenset[tuple[str, str]] = frozenset()  # state and end: there is no such cell

    @property
    def ends(self) -> tuple[str, ...]:
        if self.only:
            return (self.only,)
        return ("both",) if self.both else ENDS

    def cells(self, state: str) -> tuple[str, ...]:
        """The ends that have a cell in that state."""
        return tuple(end for end in self.ends if (state, end) not in self.without)

    @property
    def dies(self) -> bool:
        """Whether the end loses its life, and has another one afterwards."""
        return self.name in ("killed", "bridge-ghost", "taken-over")


#: Of one node: what hits the whole broker, which tests/faults/cluster.py does to several, and what
#: makes a bridge of one.
WHOLE = ("bundled", "mosquitto")
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("reset", "connection reset", 5, "reconnects from 0.1 s, then resync"),
        Fault(
            "half-open",
            "silent half-open link",
            9,
            "two keep-alives of 2 s and a tick until it is noticed, then as a reset",
        ),
        Fault(
            "slow",
            "300 ms ± 200 ms, 5 % of connections die each second",
            20,
            "a login is some ten times 0.5 s on this link, and it may have to begin again",
            timers={**SHORT, "keepalive": 4},
        ),
        Fault(
            "broker-killed",
            "broker SIGKILL, restart with an empty store",
            12,
            "its start, up to 5 s between two attempts, then resync",
            both=True,
            brokers=WHOLE,
        ),
        Fault(
            "broker-stopped",
            "broker SIGSTOP for 5 s, over 1.5 times the keep-alive",
            BROKER_STOPPED + 15,
            "the stop, 10 s for a greeting that fell into it, up to 5 s to the next attempt",
            both=True,
            brokers=WHOLE,
        ),
        Fault(
            "broker-away",
            "broker away for 3 s, its store empty afterwards; idle: pressed meanwhile",
            BROKER_AWAY + 12,
            "the time it is away, then as the broker's SIGKILL",
            both=True,
            brokers=WHOLE,
        ),
        Fault(
            "resolver",
            "connection reset, and the resolver takes 3 s from then on",
            RESOLVING + 5,
            "one look-up, then as a reset",
        ),
        Fault(
            "killed",
            "peer SIGKILL and restart",
            8,
            "its login with 2 s of settling (not the start of Python), two resends of 2 s",
            process=True,
        ),
        Fault(
            "stopped",
            "peer SIGSTOP for 20 s, default timers",
            STOPPED + 10,
            "the stop, then what has come meanwhile, and up to 8 s to the next resend",
            timers={},
            process=True,
        ),
        Fault(
            "lost-up",
            "broker loses the end's next 2 publishes, acknowledged",
            6,
            "said again after 0.5 and 1 s",
        ),
        Fault(
            "lost-down",
            "broker loses the next 2 publishes to the end",
            6,
            "said again after 0.5 and 1 s",
        ),
        Fault(
            "kills-once",
            "the end's next publish of a cell closes its link",
            8,
            "reconnects, settles in 2 s at most, one trial, then as a reset",
        ),
        Fault(
            "kills-always",
            "each publish of a cell of the end closes its link",
            40,
            "the ring_timeout of 30 s of a caller that hears no decision, and two trials",
            without=frozenset((state, end) for state in TALKS for end in ENDS),
        ),
        Fault(
            "bridge",
            "behind a bridge that was down: all comes again, without RETAIN",
            5,
            "as a reset",
            brokers=WHOLE,
        ),
        Fault(
            "bridge-ghost",
            "caller SIGKILL, its cells come over a bridge, without RETAIN; back after 5 s",
            GHOST + 8,
            "the time it is away, then as a restart",
            process=True,
            only="caller",
            brokers=WHOLE,
        ),
        Fault(
            "taken-over",
            "the end logs in once more, elsewhere; 50 ms on the links of both logins",
            12,
            "the older one reads that it is, then as a restart with links of 0.1 s",
            timers={**SHORT, "keepalive": 4},
            # The older login may act on what it has not read yet when the newer one has spoken.
            without=frozenset(
                {
                    ("accepting", "caller"),
                    ("accepted, unseen", "callee"),
                    *(("logging in", end) for end in ENDS),
                }
            ),
        ),
        Fault(
            "removed",
            "device removed from the broker that it is at",
            40,
            "the ring_timeout of 30 s of a call that is answered no more",
            # They are removed one after the other, and held links shall outlast that.
            timers={**SHORT, "keepalive": 10},
            brokers=("bundled",),
            # Who is removed has no word left to say, so nothing can be expected of what it was
            # just deciding; nor can it log in, or press.
            without=frozenset(
                {
                    *(
                        (s, e)
                        for s in ("accepting", "accepted, unseen", "logging in")
                        for e in ENDS
                    ),
                    ("idle", "caller"),
                }
            ),
        ),
        Fault("duplicates", "every publish two or three times", 3, "nothing to wait for"),
        Fault("clock-back", "wall clock 10 years back", 3, "nothing to wait for"),
        Fault("clock-forward", "wall clock 10 years forward", 3, "nothing to wait for"),
        Fault("blocks", "listener blocks for 10 s", 3, "nothing waits for it"),
        Fault("raises", "listener raises", 3, "nothing waits for it"),
    )
}
