"""Doors that are opened in calls while everything goes wrong: 100,000 simulated calls, 1,000 real.

``python -m tests.soak.doors [--calls N] [--seed S] [--real N]``. The simulation's engines stay in
the call after *accepted*; who answered asks for the door, some several times, some as they hang up;
at the other end is the doorbell's own decision (``services/logic``), whose loop hangs now and then.
What must not be: a door opened for whom no live, accepted call was; twice for one request; in
another life; long after; and a request that was acknowledged and came to nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass, field
from typing import Final

from device_sdk.core.caller import CallerCall
from device_sdk.core.effects import Accept, HangUp, Input, SayMessage
from device_sdk.core.engine import Engine
from device_sdk.core.events import CallEvent, CoreEvent, Name
from device_sdk.core.wire.talk_cells import decode_message, encode_message
from device_sdk.errors import InvitationApiCallError
from device_sdk.services.logic.appliance import SayInCall
from device_sdk.services.logic.door import DoorRules
from device_sdk.services.logic.doorbell import ButtonRules, Doorbell, OpenDoor
from device_sdk.states import EndReason
from tests.servers import BundledBroker

from . import real_doors
from .judge import Fault
from .simulation import SLOWEST, Episode, Peer, Totals

#: A request may be handled late by as long as a link was cut and the call held (docs/protocol.md,
#: Talk, 7), on clocks that differ, over slow hops, by a loop that hung; seconds.
LATEST: Final = 30.0 + 10.0 + 2 * SLOWEST + 2.0 + 2.0
#: The door of this peer obeys nobody but the kitchen.
STRICT: Final = "bed room"
_CHUNK: Final = 25


@dataclass
class Life:
    """One life of a peer's doorbell: until its process is killed."""

    engine: Engine
    bell: Doorbell
    #: Its loop comes to nothing before this.
    busy_until: float = 0.0


@dataclass
class Request:
    """One request for a door; ``number``: its place among the messages of that side of the call."""

    call: str
    door: str
    by: str
    engine: Engine
    number: int
    heard: bool = False
    opened: int = 0
    refused: bool = False
    lost_by_kill: bool = False


@dataclass
class Side:
    """One side's view of a call that goes on, in one life."""

    engine: Engine
    said: int = 0
    requests: list[Request] = field(default_factory=list)


class DoorEpisode(Episode):
    """An episode whose calls go on; ``talks`` has what became of requests."""

    def __init__(self, seed: int) -> None:
        self._lives: dict[str, Life] = {}
        self._requests: dict[int, Request] = {}
        self._sides: dict[tuple[str, str], Side] = {}
        #: Which calls somebody pressed *accept* for; when a side was told its end, or was killed.
        self._accepted: set[str] = set()
        self._gone: dict[tuple[str, str], float] = {}
        super().__init__(seed)

    def run(self) -> Totals:
        """All of it, and then: whatever was acknowledged came to something."""
        totals = super().run()
        count = totals.talks
        for request in self._requests.values():
            count["asked"] += 1
            count["opened"] += request.opened
            count["refused"] += request.refused
            count["killed before the loop came to it"] += request.lost_by_kill
        return totals

    # --- lives -------------------------------------------------------------------------------

    def _engine(self, name: str) -> Engine:
        engine = Engine(name, self.random.randbytes(8), talk=True)
        obeys = frozenset({"kitchen"}) if name == STRICT else frozenset(
            {"door", "kitchen", "bed room", "phone.1"}
        )  # fmt: skip
        bell = Doorbell((ButtonRules(),), door=DoorRules(obeys))
        former = self._lives.get(name)
        if former is not None:
            for request in self._requests.values():
                if request.door == name and request.heard and not self._settled(request):
                    request.lost_by_kill = True
            for (peer, call), side in self._sides.items():
                if peer == name and side.engine is former.engine:
                    self._gone.setdefault((peer, call), self.time)
        self._lives[name] = Life(engine, bell)
        return engine

    @staticmethod
    def _settled(request: Request) -> bool:
        return bool(request.opened or request.refused or request.lost_by_kill)

    # --- what happens in calls ---------------------------------------------------------------

    def _feed(self, peer: Peer, what: Input) -> None:
        if isinstance(what, Accept):
            self._accepted.add(what.call_id)
        super()._feed(peer, what)
        for (name, call_id), side in self._sides.items():
            if name == peer.name and side.engine is peer.engine and side.requests:
                self._check_acknowledged(peer.engine, call_id, side)

    def _check_acknowledged(self, engine: Engine, call_id: str, side: Side) -> None:
        for record in engine.callee.calls.values():
            if record.call_id == call_id:
                acknowledged = record.talk.messages.acknowledged
                for request in side.requests:
                    if request.number <= acknowledged and not request.heard:
                        raise Fault("lost", f"acknowledged, and never heard: {request}")

    def _told(self, peer: Peer, event: CoreEvent, cause: Input) -> None:
        if not isinstance(event, CallEvent):
            super()._told(peer, event, cause)
            return
        life, engine = self._lives[peer.name], peer.engine
        other, call_id = event.call.key
        made = isinstance(event.call, CallerCall)
        if event.name is Name.CALL_STARTED:
            self._sides[peer.name, call_id] = Side(engine)
            if not made:
                self._people(peer, other, call_id)
            elif self.random.random() < 0.3:
                self._hang_up(peer, other, call_id, made=True)
        elif event.name is Name.CALL_ENDED:
            self._gone.setdefault((peer.name, call_id), self.time)
        elif made and event.message is not None:
            number = decode_message(event.message)["n"]
            self._requests[number].heard = True
        if made:
            self._at_door(peer, life, event)

    def _at_door(self, peer: Peer, life: Life, event: CallEvent) -> None:
        """The doorbell's loop comes to it: mostly at once, in order, sometimes late."""
        heard_at = peer.clock(self.time)
        hung = self.random.uniform(0, 5) if self.random.random() < 0.05 else 0.0
        life.busy_until = max(life.busy_until, self.time + hung)

        def handle() -> None:
            if self._lives[peer.name] is not life:
                return  # killed before it came to that
            other, call_id = event.call.key
            now = peer.clock(self.time)
            if event.name is Name.CALL_STARTED:
                life.bell.call_started(call_id, other, "door", now)
            elif event.name is Name.CALL_ENDED:
                life.bell.call_ended(call_id, now)
            elif event.message is not None:
                message = decode_message(event.message)
                request = self._requests[message["n"]]
                effects = life.bell.call_message(call_id, other, message, heard_at, now)
                opens = [each for each in effects if isinstance(each, OpenDoor)]
                request.refused = not opens
                for each in opens:
                    self._opened(peer, request)
                    effects += life.bell.door_switched(each, "", now)
                for each in effects:
                    if isinstance(each, SayInCall):
                        self._say(peer, other, each.call, each.message, made=True)

        self._at(life.busy_until, handle)

    def _opened(self, peer: Peer, request: Request) -> None:
        request.opened += 1
        if request.opened > 1:
            raise Fault("duplicate", f"opened twice for one request: {request}")
        side = self._sides.get((peer.name, request.call))
        if request.door != peer.name or side is None or side.engine is not peer.engine:
            raise Fault("ghost", f"opened by another life, or another door: {request}")
        if request.call not in self._accepted:
            raise Fault("ghost", f"opened in a call that nobody accepted: {request}")
        if peer.name == STRICT and request.by != "kitchen":
            raise Fault("ghost", f"opened for whom it does not obey: {request}")
        for name in (request.door, request.by):
            gone = self._gone.get((name, request.call))
            if gone is not None and self.time - gone > LATEST:
                raise Fault(
                    "ghost", f"opened {self.time - gone:.1f} s after {name} left it: {request}"
                )

    # --- people ------------------------------------------------------------------------------

    def _people(self, peer: Peer, other: str, call_id: str) -> None:
        """Who answered asks for the door, and somebody hangs up."""
        pick = self.random
        for _ in range(pick.choice((0, 1, 1, 1, 2, 5))):
            after = pick.choice((0.0, pick.uniform(0, 1), pick.uniform(0, 20)))
            self._later(after, lambda: self._ask(peer, other, call_id))
        self._hang_up(peer, other, call_id, made=False)

    def _hang_up(self, peer: Peer, other: str, call_id: str, *, made: bool) -> None:
        pick, engine = self.random, peer.engine

        def hang_up() -> None:
            if peer.engine is engine and not peer.dead:
                if not made and pick.random() < 0.3:
                    self._ask(peer, other, call_id)  # opens, and hangs up in the same breath
                self._command(peer, HangUp(other, call_id, made, EndReason.HUNG_UP))

        self._later(pick.choice((pick.uniform(0, 1), pick.uniform(0, 25))), hang_up)

    def _ask(self, peer: Peer, other: str, call_id: str) -> None:
        side = self._sides[peer.name, call_id]
        if side.engine is not peer.engine or peer.dead:
            return
        number = len(self._requests)
        request = Request(call_id, other, peer.name, peer.engine, side.said + 1)
        self._requests[number] = request
        side.requests.append(request)
        if not self._say(peer, other, call_id, {"do": "open", "n": number}, made=False):
            side.requests.remove(request)
            del self._requests[number]

    def _say(self, peer: Peer, other: str, call_id: str, message: object, *, made: bool) -> bool:
        side = self._sides[peer.name, call_id]
        side.said += 1
        said = self._command(peer, SayMessage(other, call_id, made, encode_message(message)))
        side.said -= not said
        return said

    def _command(self, peer: Peer, what: Input) -> bool:
        """Whether the engine takes it: the call may be over."""
        try:
            self._feed(peer, what)
        except Fault as fault:
            if isinstance(fault.__cause__, InvitationApiCallError):
                return False
            raise
        return True


def simulate(first: int, episodes: int) -> Totals:
    """Some episodes in a row."""
    totals = Totals()
    for seed in range(first, first + episodes):
        totals.add(DoorEpisode(seed).run())
    return totals


def main() -> int:
    """Run what the command line asks for; 1 if anything went wrong."""
    from .__main__ import report, spread

    parser = argparse.ArgumentParser(prog="tests.soak.doors", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000, help="simulated ones")
    parser.add_argument("--seed", type=int, help="this episode alone")
    parser.add_argument("--real", type=int, default=1000, help="calls through a broker")
    options = parser.parse_args()
    if options.seed is not None:
        return report(simulate(options.seed, 1), 0.0, "tests.soak.doors")
    if options.calls and report(*spread(simulate, options.calls, _CHUNK), "tests.soak.doors"):
        return 1
    if not options.real:
        return 0
    with BundledBroker() as broker:
        return 0 if asyncio.run(real_doors.run(options.real, 7, broker)) else 1


if __name__ == "__main__":
    sys.exit(main())
