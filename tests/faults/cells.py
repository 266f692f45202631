"""One cell of the fault matrix: bring a call into a state, do the fault to one end, see what comes.

What has to come is in :func:`expected`; by when, in :attr:`Fault.bound`. Nothing may ring twice in
one life of a callee, no side may be told two ends, both ends have to agree as docs/protocol.md says
("Who may end how"), every cell of the call has to be cleared, and the next press has to ring.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from device_sdk.errors import InvitationApiCallError
from device_sdk.link import dialing
from device_sdk.wire import codec
from device_sdk.wire.cells import Answer, AnswerState, Invite, InviteState
from tests.broker_support.raw import Raw
from tests.faults.process import ProcessPeer
from tests.faults.registered import OBSERVER, RegisteredBroker
from tests.peers import AsyncioPeer, Heard, Loop, Peer, ThreadedPeer, raising
from tests.proxy import CONNECT, DOWN, PINGREQ, PUBLISH, UP, Proxy
from tests.servers import BrokerProcess

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
LOCAL_ENDS = {
    "local_invitation_accepted": "ACCEPTED",
    "local_invitation_refused": "REFUSED",
    "local_invitation_canceled": "CANCELED",
    "local_invitation_failure": "FAILURE",
}
REMOTE_ENDS = {
    "remote_invitation_accepted": "ACCEPTED",
    "remote_invitation_refused": "REFUSED",
    "remote_invitation_canceled": "CANCELED",
    "remote_invitation_failure": "FAILURE",
}

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
YEARS = 10 * 365.25 * 86400
STOPPED = 20.0
BROKER_STOPPED = 5.0  # longer than 1.5 times the keep-alive
BROKER_AWAY = 3.0
#: So long the resolver takes, where the end's broker has a name; over :data:`dialing._SLOW`.
RESOLVING = 3.0
SLOW_DOMAIN = ".slow.test"
SETUP = 30.0
STEP = 8.0
ATTEMPTS = 3
ALWAYS = 1_000_000
#: What an end writes, by topic kind.
WRITES = {"caller": "invite", "callee": "answer"}
DECODE: dict[str, Callable[[bytes], Invite | Answer]] = {
    "invite": codec.decode_invite,
    "answer": codec.decode_answer,
}
MESSAGE = "with a message"
#: So often one cell that is not taken closes the link: once, then at each of two trials. A caller's
#: is said once more when an answer to it comes ("What the broker does not take", 4): all again.
CLOSES = {"caller": 6, "callee": 3}
RINGS_IF_AT_ALL = 6.0
GHOST = 5.0  # so long a dead caller stays away behind a bridge, and may not ring
#: Known not to hold, left out, and said in the tables: fault and state. None at present.
OPEN: frozenset[tuple[str, str]] = frozenset()


class Resolver:
    """Knows every name in :data:`SLOW_DOMAIN` as 127.0.0.1; for a slow port it takes its time.

    It is the system's resolver while at least one ``with`` block is open.
    """

    def __init__(self) -> None:
        self.slow: set[int] = set()
        self._system = dialing._ask
        self._lock = threading.Lock()
        self._uses = 0

    def __enter__(self) -> None:
        with self._lock:
            self._uses += 1
            dialing._ask = self._ask

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._uses -= 1
            if not self._uses:
                dialing._ask = self._system

    def _ask(self, host: str, port: int) -> list[dialing.Address]:
        if host.endswith(SLOW_DOMAIN):
            if port in self.slow:
                threading.Event().wait(RESOLVING)  # the fault itself is that this much time passes
            host = "127.0.0.1"
        return self._system(host, port)


RESOLVER = Resolver()


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


def expected(fault: str, state: str, end: str) -> tuple[set[str], set[str]]:
    """How the caller and the callee may end; "-" is told no end, a killed end that of both lives.

    "+ lost": the caller was told besides that the peer was lost.
    """
    accepted = {"ACCEPTED"}
    if state in TALKS:
        return accepted, accepted
    if fault == "bridge-ghost":
        fault = "killed"  # the same, whatever flag its cells come with
    if fault == "removed":
        return _removed(state, end)
    if fault == "taken-over":
        return _taken_over(state, end)
    if fault == "kills-always" and state not in SAID:
        return _not_taken(state, end)
    if fault == "killed" and end == "caller":
        return {
            # The call ends with its caller; what it decided before stands.
            "sent, unseen": ({"-"}, {"FAILURE", "MISSED"}),
            "ringing": ({"-"}, {"FAILURE"}),
            "accepting": ({"-"}, {"FAILURE"}),
            "accepted, unseen": (accepted, accepted),
            "refused, uncleared": ({"-"}, {"REFUSED"}),
            "canceled, unseen": ({"CANCELED"}, {"CANCELED"}),
            "probing": ({"-"}, {"MISSED"}),
        }.get(state, (accepted, accepted))
    if fault == "killed":
        lost = {"ACCEPTED + lost"}
        return {
            # Whoever accepted is gone; its next life is not in that call.
            "accepting": (lost, {"-", "FAILURE"}),
            "accepted, unseen": (lost, {"-", "FAILURE"}),
            "refused, uncleared": ({"REFUSED"}, {"REFUSED"}),
            "canceled, unseen": ({"CANCELED"}, {"MISSED"}),
        }.get(state, (accepted, accepted))
    if state == "refused, uncleared":
        return {"REFUSED"}, {"REFUSED"}
    if state == "canceled, unseen":
        return {"CANCELED"}, {"CANCELED"}
    if fault == "stopped" and (
        state == "accepting" or (state, end) == ("accepted, unseen", ENDS[1])
    ):
        # 20 s is more than the 5 s that a callee waits for the decision.
        return {"ACCEPTED + lost"}, {"FAILURE"}
    return accepted, accepted


def expected_talk(fault: str, state: str, end: str) -> tuple[set[str], set[str]]:
    """Why a call that went on is over, as the caller and the callee are told; "-" is told no end.

    A link that comes back in time ends nothing: then one of them hangs up.
    """
    hung_up = {"hung up"}
    here, there = hung_up, hung_up
    if fault in ("killed", "bridge-ghost"):
        # Its next life is not in the call; what it had said before stands.
        here, there = (hung_up, hung_up) if state == "hanging up" else ({"-"}, {"restarted"})
    elif fault == "taken-over":
        here, there = {"logged out"}, {"restarted"}  # Newer logins 1
        if state == "hanging up":
            here, there = hung_up, hung_up | {"restarted"}
    elif fault == "removed":
        here, there = {"peer lost"}, {"peer lost"}
        if state == "hanging up":
            here, there = hung_up, hung_up | {"peer lost"}
    return (there, here) if end == "callee" else (here, there)


#: States in which all that decides how the call ends was taken before the fault, by end.
SAID = ("accepted, unseen", "refused, uncleared", "canceled, unseen")


def _not_taken(state: str, end: str) -> tuple[set[str], set[str]]:
    """Of a call whose ``end`` cannot say one cell any more ("What the broker does not take")."""
    lost, failed = {"ACCEPTED + lost"}, {"FAILURE"}
    if end == "caller":
        return {
            # It was heard before: what is accepted is decided, but that is never heard.
            "ringing": (lost, failed),
            "accepting": (lost, failed),
            # An ask may come first, and finds out that it cannot be answered.
            "sent, unseen": (lost | failed, failed | {"-"}),
        }.get(state, (failed, {"-"}))
    if state == "accepting":  # what it had to say was said
        return {"ACCEPTED"}, {"ACCEPTED"}
    if state == "ringing":
        return failed, failed
    return failed, failed | {"-", "MISSED"}


def _taken_over(state: str, end: str) -> tuple[set[str], set[str]]:
    """Of a call whose ``end`` has two logins; what both of them were told, the older one first."""
    accepted, failed = {"ACCEPTED"}, {"FAILURE"}
    if end == "caller":
        return {
            "sent, unseen": (failed, {"FAILURE", "MISSED"}),
            "ringing": (failed, failed),
            "refused, uncleared": ({"REFUSED", "FAILURE"}, {"REFUSED"}),
            "canceled, unseen": ({"CANCELED"}, {"CANCELED"}),
            "probing": (failed, {"MISSED"}),
        }.get(state, (accepted, accepted))
    return {
        "sent, unseen": (accepted, {"ACCEPTED", "FAILURE and ACCEPTED"}),
        "ringing": (accepted, {"FAILURE and ACCEPTED"}),
        "accepting": ({"ACCEPTED + lost"}, failed),
        "refused, uncleared": ({"REFUSED"}, {"REFUSED"}),
        "canceled, unseen": (
            {"CANCELED"},
            {f"{older} and MISSED" for older in ("CANCELED", "FAILURE")},
        ),
    }.get(state, (accepted, accepted))


def _removed(state: str, end: str) -> tuple[set[str], set[str]]:
    """Of a call whose ``end`` is removed: the broker clears its cells, and those to it."""
    failed = {"FAILURE"}
    if end == "caller":
        return {
            "ringing": (failed, {"CANCELED"}),
            "refused, uncleared": (failed, {"REFUSED"}),
            "canceled, unseen": ({"CANCELED"}, {"CANCELED"}),
        }.get(state, (failed, {"-", "CANCELED"}))
    return {
        "ringing": (failed, failed),
        "refused, uncleared": ({"REFUSED"}, {"REFUSED"}),
        "canceled, unseen": ({"CANCELED"}, {"FAILURE", "CANCELED"}),
    }.get(state, (failed, {"-"}))


@dataclass
class Result:
    """What came of a cell: ``seconds`` from the fault to the last thing that had to come."""

    fault: str
    state: str
    end: str
    broker: str
    seconds: float = 0.0
    problem: str = ""

    @property
    def name(self) -> str:
        return f"{self.broker}: {self.fault}, {self.state}, {self.end}"


class World:
    """What the cells of one fault at one broker share; ``meet`` holds until all are there."""

    def __init__(self, broker: BrokerProcess, realm: str) -> None:
        self.broker = broker
        self.realm = realm
        self.proxies = Loop()
        self.clients = Loop()
        self.meet: threading.Barrier | None = None

    def close(self) -> None:
        self.clients.close()
        self.proxies.close()


def peer_id(end: int, number: int, attempt: int) -> str:
    """Who is at that end of a cell."""
    return f"{('door', 'kitchen')[end]}-{number}-{attempt}"


def port_of(broker: BrokerProcess, end: int) -> int:
    """The port of the node that this end is at: of several nodes each end has its own."""
    return int(broker.urls[-end].rpartition(":")[2])


def every_peer_id() -> list[str]:
    """Whoever may be at an end of any cell of a fault."""
    numbers = range(len(STATES) * len(ENDS))
    return [peer_id(e, n, a) for n in numbers for e in range(len(ENDS)) for a in range(ATTEMPTS)]


class Cell:
    """One fault in one state at one end; ``run`` gives the result and never raises."""

    def __init__(self, world: World, fault: Fault, state: str, end: str, number: int) -> None:
        self.world, self.fault, self.state, self.end, self.number = (
            world, fault, state, end, number,
        )  # fmt: skip
        self.result = Result(fault.name, state, end, world.broker.name)
        self.timers = SHORT if fault.timers is None else fault.timers
        self.wall_offset = 0.0
        self.injected_at: float | None = None
        self.call: Any = None
        self.release_listener: threading.Event | None = None
        self.pings = 0
        self.older: Any = None
        self.alive = False  # whether the end under fault was linked before it

    def run(self) -> Result:
        try:
            with contextlib.ExitStack() as stack:
                self.more = stack
                self._into_the_state(stack)
                self._inject()
                self._heal()
                self._go_on()
                self._check()
        except BaseException:  # noqa: BLE001 - every problem belongs into the table
            self.result.problem = traceback.format_exc() + self._told()
        return self.result

    def _told(self) -> str:
        """What each end was told, one event a line; seconds before now."""
        now, lines = time.monotonic(), []
        for end, peer in getattr(self, "peer", {}).items():
            lives = [peer] if not isinstance(peer, ProcessPeer) else peer.lives
            for life in lives:
                heard: Heard = getattr(life, "heard", life)
                lines += [f"{end}: {t.name} {t.args} {t.at - now:.2f}" for t in heard.told]
        return "\n".join(lines)

    def _into_the_state(self, stack: contextlib.ExitStack) -> None:
        """Reach the state; on a machine with more to do a held link may break before: try again."""
        for self.attempt in range(ATTEMPTS):
            with contextlib.ExitStack() as this_time:
                try:
                    self._set_up(this_time)
                    self._reach()
                except Exception:
                    if self.attempt < ATTEMPTS - 1:
                        self.injected_at = None
                        continue
                    if self.world.meet is not None:
                        with contextlib.suppress(threading.BrokenBarrierError):
                            self.world.meet.wait(SETUP * 4)  # the others shall not wait for ever
                    raise
                stack.push(this_time.pop_all())
                return

    # --- the cast ------------------------------------------------------------------------------

    def _set_up(self, stack: contextlib.ExitStack) -> None:
        world = self.world
        self.proxy: dict[str, Proxy] = {}
        self.peer: dict[str, Any] = {}
        for i, end in enumerate(ENDS):
            self.proxy[end] = stack.enter_context(
                Proxy(
                    port_of(world.broker, i),
                    world.proxies,
                    seed=self.number * 2 + i,
                    source=self._address(i),
                )
            )
        for i, end in enumerate(ENDS):
            name = peer_id(i, self.number, self.attempt)
            options: dict[str, Any] = {
                "realm": world.realm,
                "subscribe_qos": world.broker.subscribe_qos,
                **self.timers,
            }
            if isinstance(world.broker, RegisteredBroker):
                options["password"] = world.broker.secrets[name]
            if self.state in TALKS:
                options["talk"] = True
            url = self._url(end)
            peer: Peer
            if self.fault.process and end == self.end:
                lives = 2 if self.fault.dies else 1
                peer = ProcessPeer(name, url, lives=lives, **options)
            else:
                if end == self.end:
                    options["wall"] = lambda: time.time() + self.wall_offset
                if (self.number + i) % 2:
                    peer = ThreadedPeer(name, url, **options)
                else:
                    peer = AsyncioPeer(name, url, loop=world.clients, **options)
            stack.callback(self._log_out, peer)
            self.peer[end] = peer
            if isinstance(peer, ProcessPeer):
                peer.ready()
        self.caller, self.callee = self.peer["caller"], self.peer["callee"]

    def _address(self, end: int) -> str:
        """One of its own where somebody is refused: those at one address wait for each other."""
        own = self.fault.name == "removed"
        return f"127.0.{self.number + 1}.{end + 1}" if own else "127.0.0.1"

    def _url(self, end: str) -> str:
        proxy = self.proxy[end]
        if self.fault.name == "resolver":
            return f"mqtt://{end}-{self.number}{SLOW_DOMAIN}:{proxy.port}"
        return proxy.url

    def _log_out(self, peer: Peer) -> None:
        if self.release_listener is not None:
            self.release_listener.set()
        peer.logout()

    @property
    def under_fault(self) -> Any:
        return self.peer["caller" if self.end == "both" else self.end]

    # --- into the state ------------------------------------------------------------------------

    def _log_in(self, *ends: str) -> None:
        for end in ends:
            self.peer[end].login(SETUP)

    def _act(self, end: str, action: Callable[[], Any], seen: Callable[[], None]) -> None:
        """The step into the state, by ``end``; a publish that gets lost is lost from here."""
        if self.fault.name == "lost-up" and self.end == end:
            self._inject()
            action()
            self.proxy[end].wait(lambda p: bool(p.swallowed), "a lost publish", SETUP)
        else:
            action()
            seen()

    def _held(self, end: str, said: InviteState | AnswerState | str) -> Callable[[], None]:
        """Waits until the proxy of ``end`` has a cell for it in that state, or with a message.

        Not only one more publish: a cell may be said again (an ``ask``) before it goes on.
        """
        name = "answer" if end == "caller" else "invite"

        def there(proxy: Proxy) -> bool:
            for direction, packet in list(proxy.packets):
                if (direction, packet.kind) != (DOWN, PUBLISH) or not packet.payload:
                    continue
                if packet.topic.split("/")[3] != name:
                    continue
                cell: Invite | Answer = DECODE[name](packet.payload)
                if cell.state == said or (
                    said == MESSAGE and cell.talk is not None and cell.talk.count > 0
                ):
                    return True
            return False

        what = f"{name} {getattr(said, 'name', said)} at the proxy of the {end}"
        return lambda: self.proxy[end].wait(there, what, STEP)

    def _press(self) -> None:
        self.call = self.caller.press(self.callee.peer_id)

    def _ring(self) -> None:
        self._press()
        self.theirs = self._rings(SETUP)
        self.caller.expect("local_invitation_received_by_peer", self.call.call_id, timeout=SETUP)

    def _rings(self, timeout: float) -> Any:
        told = self.callee.expect("remote_invitation_received", self.call.call_id, timeout=timeout)
        return told.invitation

    @property
    def _says(self) -> str:
        """Who says the message that is underway, or hangs up."""
        return self.end if self.end != "both" else ENDS[self.number % 2]

    def _reach_talk(self) -> None:
        """A call that goes on; in it something of the end's is held before the other."""
        self._ring()
        self.callee.accept(self.theirs)
        self._held("caller", AnswerState.TALKING)()  # before that it has only accepted
        self.talks = {
            end: self.peer[end].expect("call_started", self.call.call_id, timeout=SETUP).args[0]
            for end in ENDS
        }
        if self.state == "in a call":
            return
        says, call = self._says, self.talks[self._says]
        other = ENDS[1 - ENDS.index(says)]
        self.proxy[other].hold(DOWN)
        if self.state == "message underway":
            said: InviteState | AnswerState | str = MESSAGE
        else:
            said = InviteState.OVER if says == "caller" else AnswerState.OVER

        def action() -> None:
            if self.state == "hanging up":
                self.peer[says].hang_up(call)
            else:
                self.peer[says].send_message(call, "underway")

        self._act(says, action, self._held(other, said))

    def _reach(self) -> None:
        caller, callee = self.proxy["caller"], self.proxy["callee"]
        match self.state:
            case "logging in":
                end = self.end if self.end != "both" else ENDS[self.number % 2]
                other = ENDS[1 - ENDS.index(end)]
                self._log_in(other)
                self.proxy[end].hold(DOWN)
                self.logging_in = threading.Thread(
                    target=self._log_in_anyhow, args=(self.peer[end],), daemon=True
                )
                if not isinstance(self.peer[end], ProcessPeer):
                    self.logging_in.start()
                else:
                    self.peer[end].tell("login")
                self.proxy[end].wait(lambda p: p.came[UP, CONNECT] > 0, "CONNECT", SETUP)
                return
            case "probing":
                self._log_in("caller")
                self._press()
                caller.wait(lambda p: p.came[DOWN, 4] >= 2, "the broker's PUBACKs", SETUP)
                caller.hold(DOWN)
                if self.fault.dies and self.end == "caller":
                    # Unheard it says again that it rings: a living caller, and so a ring.
                    caller.hold(UP)
                self._act(
                    "callee",
                    lambda: self._log_in("callee"),
                    self._held("caller", AnswerState.RECEIVED),
                )
                return
        self._log_in("caller", "callee")
        if self.state in TALKS:
            self._reach_talk()
            return
        match self.state:
            case "sent, unseen":
                callee.hold(DOWN)
                self._act("caller", self._press, self._held("callee", InviteState.RINGING))
            case "ringing":
                self._ring()
            case "accepting":
                self._ring()
                caller.hold(DOWN)
                self._act(
                    "callee",
                    lambda: self.callee.accept(self.theirs),
                    self._held("caller", AnswerState.ACCEPTED),
                )
            case "accepted, unseen":
                self._ring()
                callee.hold(DOWN)

                def accept() -> None:
                    self.callee.accept(self.theirs)
                    self.caller.expect(
                        "local_invitation_accepted", self.call.call_id, timeout=SETUP
                    )

                self._act("caller", accept, self._held("callee", InviteState.ACCEPTED))
            case "refused, uncleared":
                self._ring()
                caller.hold(DOWN)

                def refuse() -> None:
                    self.callee.refuse(self.theirs)
                    self.callee.expect(
                        "remote_invitation_refused", self.call.call_id, timeout=SETUP
                    )

                self._act("callee", refuse, self._held("caller", AnswerState.REFUSED))
            case "canceled, unseen":
                self._ring()
                callee.hold(DOWN)

                def cancel() -> None:
                    self.caller.cancel(self.call)
                    self.caller.expect(
                        "local_invitation_canceled", self.call.call_id, timeout=SETUP
                    )

                self._act("caller", cancel, self._held("callee", InviteState.ENDED))

    def _log_in_anyhow(self, peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            peer.login(SETUP, keep_trying=True)

    # --- the fault -----------------------------------------------------------------------------

    def _inject(self) -> None:
        if self.injected_at is not None:
            return
        world, fault = self.world, self.fault.name
        peer = self.under_fault
        proxies = [self.proxy[end] for end in ENDS if self.end in (end, "both")]
        self.alive = self.state != "logging in"
        self.pings = proxies[0].came[UP, PINGREQ]
        if world.meet is not None:
            world.meet.wait(SETUP * 4)  # its action hurts the broker
        self.injected_at = time.monotonic()
        for proxy in proxies:
            match fault:
                case "reset":
                    proxy.reset()
                case "resolver":
                    RESOLVER.slow.add(proxy.port)
                    proxy.reset()
                case "half-open":
                    proxy.silence()
                case "slow":
                    proxy.slow(0.3, 0.2, 0.05)
                case "lost-up":
                    proxy.swallow(UP, 2)
                case "lost-down":
                    proxy.swallow(DOWN, 2)
                case "kills-once":
                    proxy.forbid(WRITES[self.end], 1)
                case "kills-always":
                    proxy.forbid(WRITES[self.end], ALWAYS)
                case "bridge":
                    proxy.bridge(peer.peer_id)
                    proxy.reset()
                case "duplicates":
                    proxy.duplicate()
        match fault:
            case "killed" | "bridge-ghost":
                peer.kill()
                if fault == "bridge-ghost":
                    proxies.append(self.proxy["callee"])
                    self.proxy["callee"].bridge(self.callee.peer_id)
                for proxy in proxies:
                    proxy.reset()  # what was on its way dies with it
            case "stopped":
                peer.stop()
            case "taken-over":
                self._log_in_elsewhere(peer)
            case "removed":
                assert isinstance(world.broker, RegisteredBroker)
                world.broker.remove(peer.peer_id)
                for proxy in proxies:
                    proxy.reset()  # what was on its way to it dies with it
            case "clock-back":
                self.wall_offset = -YEARS
            case "clock-forward":
                self.wall_offset = YEARS
            case "blocks":
                listener, self.release_listener = peer.blocking()
                peer.listen(listener)
            case "raises":
                peer.listen(raising())

    def _log_in_elsewhere(self, older: Peer) -> None:
        """A second login of the end, by a way of its own; both ways take their time."""
        port = port_of(self.world.broker, 1 - ENDS.index(self.end))  # of several nodes another
        way = self.more.enter_context(Proxy(port, self.world.proxies))
        for proxy in (way, self.proxy[self.end]):
            proxy.slow(0.05, 0.0, 0.0)
        qos = self.world.broker.subscribe_qos
        newer = ThreadedPeer(
            older.peer_id, way.url, realm=self.world.realm, subscribe_qos=qos, **self.timers
        )
        self.more.callback(self._log_out, newer)
        newer.login(SETUP)
        self.older, self.peer[self.end] = older, newer
        self.caller, self.callee = self.peer["caller"], self.peer["callee"]

    def _heal(self) -> None:
        for proxy in self.proxy.values():
            proxy.release()
        match self.fault.name:
            case "killed":
                self.under_fault.restart()
            case "taken-over":
                self.older.expect_state("ABORTED", timeout=self.left)
            case "bridge-ghost":
                self._stay_dead()
                self.under_fault.restart()
            case "stopped":
                # The fault itself is that this much time passes.
                threading.Event().wait(STOPPED)
                self.under_fault.resume()
            case "broker-stopped" | "broker-killed" | "broker-away":
                assert self.world.meet is not None
                if self.fault.name == "broker-away" and self.state == "idle":
                    self._press()
                self.world.meet.wait(SETUP * 4)  # its action mends the broker

    def _stay_dead(self) -> None:
        """The caller stays away; a call that did not ring before does not begin to."""
        rang = "remote_invitation_received"
        before = self.callee.names().count(rang)
        threading.Event().wait(GHOST)  # the fault itself is that this much time passes
        assert self.callee.names().count(rang) == before, "a dead caller rings"

    # --- what comes of it ----------------------------------------------------------------------

    @property
    def left(self) -> float:
        """Seconds left of the bound."""
        assert self.injected_at is not None
        return max(0.01, self.injected_at + self.fault.bound - time.monotonic())

    def _go_on(self) -> None:
        """What the people at both ends do next."""
        if self.state in TALKS:
            self._go_on_talking()
            return
        if self.state in ("logging in", "idle") and self.call is None:
            if self.state == "logging in":
                for peer in self.peer.values():
                    if isinstance(peer, ProcessPeer):
                        if not self.fault.dies:
                            peer.done(self.left)
                    else:
                        peer.expect_state("CONNECTED", timeout=self.left)
            self._press()
        caller_dead = self.fault.dies and self.end == "caller"
        here = self.state in ("logging in", "idle")
        if self.state == "ringing":
            if self.fault.name in ("killed", "taken-over") and self.end == "callee":
                self.theirs = self._rings(self.left)  # again, in its next life
            if not caller_dead and self.fault.name != "removed":
                self.callee.accept(self.theirs)
        elif self.fault.name == "removed":
            pass  # nobody is called, or heard, any more
        elif self.fault.name == "kills-always":
            if here or self.state in ("sent, unseen", "probing"):
                self._accept_if_it_rings()
        elif here or (self.state in ("sent, unseen", "probing") and not caller_dead):
            self.callee.accept(self._rings(self.left))
        want_caller, want_callee = expected(self.fault.name, self.state, self.end)
        for end, want, outcome in (
            ("caller", want_caller, self._caller_outcome),
            ("callee", want_callee, self._callee_outcome),
        ):
            heard: Heard = self.peer[end].heard

            def settled(_told: Any, want: set[str] = want, outcome: Any = outcome) -> bool:
                return outcome() in want

            what = f"{end} ends as {sorted(want)}"
            heard.wait_until(settled, self.left, what)
        assert self.injected_at is not None
        self.result.seconds = time.monotonic() - self.injected_at

    def _go_on_talking(self) -> None:
        """Where the call has outlived the fault both say something, and the other end hangs up."""
        gone = self.fault.dies or self.fault.name == "removed"
        if not gone and self.state != "hanging up":
            for end in ENDS:
                self.peer[end].send_message(self.talks[end], f"of the {end}")
            for end, other in (ENDS, ENDS[::-1]):
                said = ["underway"] * (self.state == "message underway" and self._says == other)
                said.append(f"of the {other}")
                wait = self.peer[end].heard.wait_until
                wait(lambda _told, e=end, s=said: self._messages(e) == s, self.left, f"{said}")
            other = ENDS[1 - ENDS.index(self._says)]
            self.peer[other].hang_up(self.talks[other])
        want = expected_talk(self.fault.name, self.state, self.end)
        wanted = dict(zip(ENDS, want, strict=True))
        while not all(self._talk_end(end) in wanted[end] for end in ENDS):
            found = {end: self._talk_end(end) for end in ENDS}
            assert self.left > 0.01, f"the call is over as {found}, not {wanted}"
            threading.Event().wait(0.02)  # of two lives there is no one place that tells of both
        assert self.injected_at is not None
        self.result.seconds = time.monotonic() - self.injected_at

    def _messages(self, end: str) -> list[Any]:
        told = [t for life in self._lives(end) for t in life.told]
        return [t.args[1] for t in told if t.name == "call_message"]

    def _talk_end(self, end: str) -> str:
        told = [t for life in self._lives(end) for t in life.told]
        return " and ".join(str(t.args[0].reason) for t in told if t.name == "call_ended") or "-"

    def _check_talk(self) -> None:
        """One end as expected, nothing after it or twice, and nothing of it in a next life."""
        want = expected_talk(self.fault.name, self.state, self.end)
        for end, reasons in zip(ENDS, want, strict=True):
            assert self._talk_end(end) in reasons, f"{end}: {self._talk_end(end)}"
            assert len(set(self._messages(end))) == len(self._messages(end)), self._messages(end)
            lives = [life.names(self.call.call_id) for life in self._lives(end)]
            assert "call_ended" not in lives[0][:-1], f"{end}: told after the end: {lives}"
            assert not any(name.startswith("call_") for life in lives[1:] for name in life), lives

    def _accept_if_it_rings(self) -> None:
        """It need not, and may be over again before it is accepted."""
        with contextlib.suppress(AssertionError, InvitationApiCallError):
            self.callee.accept(self._rings(RINGS_IF_AT_ALL))

    def _lives(self, end: str) -> list[Heard]:
        peer = self.peer[end]
        if self.fault.name == "taken-over" and end == self.end:
            return [self.older.heard, peer.heard]
        return peer.lives if isinstance(peer, ProcessPeer) else [peer.heard]

    def _caller_outcome(self) -> str:
        names = [n for life in self._lives("caller") for n in life.names(self.call.call_id)]
        ends = [LOCAL_ENDS[n] for n in names if n in LOCAL_ENDS]
        lost = " + lost" if "local_invitation_peer_lost" in names else ""
        return (" and ".join(ends) or "-") + lost

    def _callee_outcome(self) -> str:
        names = [n for life in self._lives("callee") for n in life.names(self.call.call_id)]
        ends = [REMOTE_ENDS[n] for n in names if n in REMOTE_ENDS]
        if "missed_call" in names:
            ends.append("MISSED")
        return " and ".join(ends) or "-"

    def _check(self) -> None:
        """Nothing is left, nothing came twice, and everything works again."""
        if self.fault.name in ("blocks", "raises"):
            self._check_keep_alive()
        if self.fault.name == "kills-always":
            # What may not be said may not be cleared: that has to wait for the end's next login.
            self._check_forbidden()
        else:
            self._check_cleared()
        if self.state in TALKS:
            self._check_talk()
        want_caller, want_callee = expected(self.fault.name, self.state, self.end)
        assert self._caller_outcome() in want_caller, f"caller: {self._caller_outcome()}"
        assert self._callee_outcome() in want_callee, f"callee: {self._callee_outcome()}"
        for life in self._lives("callee"):
            rings = life.names(self.call.call_id).count("remote_invitation_received")
            assert rings <= 1, f"rang {rings} times in one life: {life.told}"
        # What was killed after its end was told: no ring of that call in a life after it.
        if self.fault.name == "killed" and self.end == "callee" and "refused" in self.state:
            assert not self._lives("callee")[-1].names(self.call.call_id)
        if isinstance(self.world.broker, RegisteredBroker):
            self._register_again(self.world.broker)
        again = self.caller.press(self.callee.peer_id)
        told = self.callee.expect("remote_invitation_received", again.call_id, timeout=20)
        self.callee.refuse(told.invitation)
        self.caller.expect("local_invitation_refused", again.call_id, timeout=20)

    def _register_again(self, broker: RegisteredBroker) -> None:
        """Who was not removed kept its link all the time; a new device of the old name gets in."""
        other = ENDS[1 - ENDS.index(self.end)]
        assert self.proxy[other].accepted == 1, f"connected {self.proxy[other].accepted} times"
        old = self.peer[self.end]
        old.logout()
        broker.add(old.peer_id)
        new = ThreadedPeer(
            old.peer_id,
            self.proxy[self.end].url,
            realm=self.world.realm,
            password=broker.secrets[old.peer_id],
            **self.timers,
        )
        self.more.callback(self._log_out, new)
        new.login(SETUP, keep_trying=True)
        self.peer[self.end] = new
        self.caller, self.callee = self.peer["caller"], self.peer["callee"]

    def _check_forbidden(self) -> None:
        """The link holds; what is forbidden fails, alone; once it is allowed, the next rings."""
        proxy = self.proxy[self.end]
        self.peer[self.end].expect_state("CONNECTED")
        # First what the call before left to say: each close makes the next connection wait longer.
        self._check_link_holds(proxy)
        if self.end == "caller":
            refused = self.caller.press(self.callee.peer_id)
            told = self.caller.expect("local_invitation_failure", refused.call_id, timeout=20)
            assert str(told.invitation.reason) == "not allowed", told.invitation.reason
            assert not self.callee.names(refused.call_id)
        self._check_link_holds(proxy)
        proxy.forbid(WRITES[self.end], 0)

    def _check_link_holds(self, proxy: Proxy) -> None:
        """No cell closes the link more than :data:`CLOSES` times; then the link holds."""
        deadline = time.monotonic() + SETUP
        while True:
            before = len(proxy.killed)
            threading.Event().wait(3 * self.timers["resend_max"])  # that nothing comes takes time
            if len(proxy.killed) == before:
                break
            assert time.monotonic() < deadline, f"closed on and on: {proxy.killed}"
        for topic, times in Counter(proxy.killed).items():
            assert times <= CLOSES[self.end], f"{topic} closed the link {times} times"

    def _check_keep_alive(self) -> None:
        """While the listener blocks, or after it raised, the link is kept as before."""
        proxy = self.proxy[self.end]
        wanted = 5 if self.fault.name == "blocks" else 2  # five: it blocks for 10 s
        proxy.wait(lambda p: p.came[UP, PINGREQ] >= self.pings + wanted, "pings", 20)
        assert proxy.accepted == 1, f"connected {proxy.accepted} times"

    def _check_cleared(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            found = self._cells()
            if not found:
                return
            assert time.monotonic() < deadline, f"cells are left at the broker: {found}"
            threading.Event().wait(0.25)  # the broker has no way to say that it has cleared

    def _cells(self) -> list[str]:
        realm = self.world.realm
        several = len(self.world.broker.urls) > 1  # what another node knows may come later
        with Raw(self.world.broker.port, patient=several) as raw:
            as_device: dict[str, str] = {}
            if isinstance(self.world.broker, RegisteredBroker):
                secret = self.world.broker.secrets[OBSERVER]
                as_device = {"user": OBSERVER, "password": secret}
            assert raw.connect(f"{OBSERVER}:{self.number}", **as_device) == 0
            raw.subscribe(
                f"{realm}/v1/{self.callee.peer_id}/invite/+/+",
                f"{realm}/v1/{self.caller.peer_id}/answer/+/+",
            )
            return [m.topic for m in raw.gather() if m.data]


def cells_of(world: World, fault: Fault) -> Iterator[Cell]:
    """All cells of one fault."""
    number = 0
    for state in STATES:
        if (fault.name, state) in OPEN:
            continue
        for end in fault.cells(state):
            yield Cell(world, fault, state, end, number)
            number += 1


def run(fault: Fault, broker: BrokerProcess, states: tuple[str, ...] = STATES) -> list[Result]:
    """All cells of one fault at one broker, all at once: they mostly wait."""
    registered = isinstance(broker, RegisteredBroker)
    world = World(broker, "sig" if registered else f"m-{fault.name}")
    try:
        cells = [cell for cell in cells_of(world, fault) if cell.state in states]
        if fault.both:
            turns = iter((broker.kill, broker.start))
            if fault.name == "broker-away":
                turns = iter((broker.kill, lambda: _start_later(broker)))
            elif fault.name == "broker-stopped":
                turns = iter((lambda: broker.signal(signal.SIGSTOP), lambda: _thaw(broker)))

            def turn() -> None:
                next(turns)()

            world.meet = threading.Barrier(len(cells), action=turn)
        threads = [threading.Thread(target=cell.run, name="cell") for cell in cells]
        with RESOLVER:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return [cell.result for cell in cells]
    finally:
        world.close()


def _start_later(broker: BrokerProcess) -> None:
    threading.Event().wait(BROKER_AWAY)  # the fault itself is that this much time passes
    broker.start()


def _thaw(broker: BrokerProcess) -> None:
    threading.Event().wait(BROKER_STOPPED)  # the fault itself is that this much time passes
    broker.signal(signal.SIGCONT)
