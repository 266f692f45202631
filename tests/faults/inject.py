"""The fault is done to an end, or to both; and it ends."""

from __future__ import annotations

import threading
import time

from tests.faults.faults import ENDS, GHOST, STOPPED
from tests.faults.registered import RegisteredBroker
from tests.faults.stage import RESOLVER, SETUP, Stage, port_of
from tests.peers import Peer, ThreadedPeer, raising
from tests.proxy import DOWN, PINGREQ, UP, Proxy

YEARS = 10 * 365.25 * 86400
ALWAYS = 1_000_000
#: What an end writes, by topic kind.
WRITES = {"caller": "invite", "callee": "answer"}


class Injecting(Stage):
    """A stage on which the fault may be done."""

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
                self.injected_at = world.broker.remove(peer.peer_id)
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
        way = self.newer_way = self.more.enter_context(Proxy(port, self.world.proxies))
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
