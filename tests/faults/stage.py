"""Where a cell of the matrix plays: a broker, two proxies, two peers, and who they are."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import Any

import cbor2

from device_sdk.client.link import dialing
from tests.broker_support.left import Standing
from tests.faults.faults import ENDS, RESOLVING, SHORT, STATES, TALKS, Fault
from tests.faults.process import ProcessPeer
from tests.faults.registered import OBSERVER, RegisteredBroker
from tests.peers import AsyncioPeer, Heard, Loop, Peer, ThreadedPeer
from tests.proxy import CONNECT, PUBLISH, Packet, Proxy
from tests.servers import BrokerProcess

SLOW_DOMAIN = ".slow.test"
SETUP = 30.0
ATTEMPTS = 3


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


@dataclass
class Result:
    """What came of a cell: ``seconds`` from the fault to the last thing that had to come."""

    fault: str
    state: str
    end: str
    broker: str
    seconds: float = 0.0
    problem: str = ""
    #: Cells that a node of NATS gave out though they were cleared.
    given_out: int = 0

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


def _shown(packet: Packet) -> str:
    """A packet of a call in a line: its kind of cell, its flags, and its fields."""
    if packet.kind != PUBLISH:
        return "CONNECT"
    flags = " retain" * (packet.data[0] & 1) + " dup" * (packet.data[0] >> 3 & 1)
    shown = cbor2.loads(packet.payload) if packet.payload else "cleared"
    return f"{packet.topic.split('/')[3]}{flags} {shown}"


def every_peer_id() -> list[str]:
    """Whoever may be at an end of any cell of a fault."""
    numbers = range(len(STATES) * len(ENDS))
    return [peer_id(e, n, a) for n in numbers for e in range(len(ENDS)) for a in range(ATTEMPTS)]


class Stage:
    """What a cell needs before anything happens in it."""

    #: What is closed at the end of the cell, whatever comes of it.
    more: contextlib.ExitStack
    attempt = 0
    call: Any = None

    def __init__(self, world: World, fault: Fault, state: str, end: str, number: int) -> None:
        self.world, self.fault, self.state, self.end, self.number = (
            world, fault, state, end, number,
        )  # fmt: skip
        self.result = Result(fault.name, state, end, world.broker.name)
        self.timers = SHORT if fault.timers is None else fault.timers
        self.wall_offset = 0.0
        self.injected_at: float | None = None
        self.release_listener: threading.Event | None = None
        self.pings = 0
        self.older: Any = None
        self.newer_way: Proxy | None = None  # to the broker, of a login that took over
        self.given_out: set[str] = set()  # what stood at the last look though it was cleared
        self.alive = False  # whether the end under fault was linked before it

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
        login: dict[str, str] = {}
        if isinstance(world.broker, RegisteredBroker):
            login = {"user": OBSERVER, "password": world.broker.secrets[OBSERVER]}
        self.standing = Standing(
            world.broker,
            f"{world.realm}/v1/{self.callee.peer_id}/invite/+/+",
            f"{world.realm}/v1/{self.caller.peer_id}/answer/+/+",
            name=f"{OBSERVER}:{self.number}",
            **login,
        )
        stack.callback(self.standing.close)

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

    @property
    def left(self) -> float:
        """Seconds left of the bound."""
        assert self.injected_at is not None
        return max(0.01, self.injected_at + self.fault.bound - time.monotonic())

    def _told(self) -> str:
        """What each end was told, one event a line; seconds before now."""
        now, lines = time.monotonic(), []
        for end, peer in getattr(self, "peer", {}).items():
            lives = [peer] if not isinstance(peer, ProcessPeer) else peer.lives
            for life in lives:
                heard: Heard = getattr(life, "heard", life)
                lines += [f"{end}: {t.name} {t.args} {t.at - now:.2f}" for t in heard.told]
        return "\n".join(lines)

    def _on_the_wire(self) -> str:
        """What came to the proxies of the call, and each CONNECT, in order; seconds before now."""
        now = time.monotonic()
        lines = [
            (packet.at, f"{end} {direction}: {_shown(packet)} {packet.at - now:.2f}")
            for end, proxy in getattr(self, "proxy", {}).items()
            for direction, packet in list(proxy.packets)
            if packet.kind == CONNECT
            or (packet.kind == PUBLISH and self.call and packet.topic.endswith(self.call.call_id))
        ]
        return "\n".join(line for _, line in sorted(lines))

    def _press(self) -> None:
        self.call = self.caller.press(self.callee.peer_id)

    def _rings(self, timeout: float) -> Any:
        told = self.callee.expect("remote_invitation_received", self.call.call_id, timeout=timeout)
        return told.invitation
