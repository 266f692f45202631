"""For your tests and ours: a broker in memory, a clock by hand, engines joined without a network.

::

    net = Network()
    door, kitchen = net.peer("front-door"), net.peer("kitchen")
    net.run()
    call = door.send("kitchen")
    net.run()
    assert kitchen.told("remote_invitation_received")

Everything happens when :meth:`Network.run` or :meth:`Network.advance` says so, in the calling
thread, in an order that is always the same. :class:`MemoryBroker` alone also serves real clients,
of both kinds and in any number of threads: ``SignalingClient("kitchen", broker=broker)``, all of
them with one ``broker = MemoryBroker()``.
"""

from __future__ import annotations

from .memory import ManualClock, MemoryBroker, MemoryLink, MemorySession, matches
from .simulated import Network, SimulatedPeer

__all__ = [
    "ManualClock",
    "MemoryBroker",
    "MemoryLink",
    "MemorySession",
    "Network",
    "SimulatedPeer",
    "matches",
]
