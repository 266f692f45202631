"""A node dies while it rings: ``python -m tests.faults.cluster [--only nats|bridge] [--times N]``.

A hundred calls ring, and are answered, while a node of what ``bellwire-broker export`` wrote is
killed: each in turn, with NATS also the leaders; of the bridge also the way between the two is cut
and healed. Devices know all nodes. For each round it says what became of the calls:

* lost: it never rang, or one side was never told an end;
* split: one side has it accepted, the other not, and is not told so; or two ends on one side;
* ghost: it began to ring a second after the caller's end, or rings for ever;
* failed: accept was pressed, and it did not become a call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import logging
import random
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_sdk import RemoteInvitation
from device_sdk.aio import SignalingClient
from device_sdk.cli.options import Options, add_options
from device_sdk.core.events import ENDS, Name
from device_sdk.states import ConnectionState
from tests.broker_support.raw import Raw
from tests.exported import Bridge, Exported, Nats
from tests.peers import Loop
from tests.proxy import Proxy
from tests.servers import free_port

PAIRS, CALLS = 50, 100
#: Presses come in the first seconds; the fault comes in their middle. Answers take a moment.
PRESSES, FAULT_AT, ANSWER = 4.0, 2.0, (0.2, 2.0)
RING_TIMEOUT = 60.0
#: How many of the answered calls may fail, told to both sides.
MAY_FAIL = 0.01
#: How long the two ends of the bridge do not see each other.
CUT = 6.0
#: A ring that begins so long after the caller's end is a ghost.
LATE = 1.0


@dataclass
class PressedCall:
    """One press, and what either side was told of it."""

    pressed: float
    rang: float | None = None
    answered: float | None = None
    #: Name, reason and time of each end, for either side.
    caller: list[tuple[Name, str, float]] = field(default_factory=list)
    callee: list[tuple[Name, str, float]] = field(default_factory=list)
    peer_lost: bool = False

    @property
    def over(self) -> bool:
        return bool(self.caller) and (bool(self.callee) or self.rang is None)

    @property
    def accepted(self) -> bool:
        names = [end[0] for end in (*self.caller, *self.callee)]
        return names == [Name.LOCAL_ACCEPTED, Name.REMOTE_ACCEPTED]

    def verdicts(self) -> list[str]:
        """What is wrong with it."""
        found = []
        if self.rang is None or not self.caller or not self.callee:
            found.append("lost")
        won = bool(self.caller) and self.caller[0][0] is Name.LOCAL_ACCEPTED
        has = any(end[0] is Name.REMOTE_ACCEPTED for end in self.callee)
        twice = len(self.caller) > 1 or len(self.callee) > 1
        if twice or (has and not won) or (won and not has and not self.peer_lost):
            found.append("split")
        if self.rang is not None and self.caller and self.rang > self.caller[0][2] + LATE:
            found.append("ghost")
        if self.answered is not None and not self.accepted:
            found.append("failed")
        return found


class Site:
    """Bells and panels of one round, told what ``account.toml`` of an export says; on one loop."""

    def __init__(self, account: Path, seed: int) -> None:
        parser = argparse.ArgumentParser()
        add_options(parser)
        told = Options(parser.parse_args(["--settings", str(account)]), {})
        self.accept_timeout = told["accept_timeout"]
        self._random = random.Random(seed)
        self.calls: dict[str, PressedCall] = {}
        self.links: dict[str, list[tuple[float, ConnectionState]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

        def make(name: str) -> SignalingClient:
            client = SignalingClient(
                name,
                told.broker,
                subscribe_qos=1 if told["subscribe_qos"] is None else told["subscribe_qos"],
                accept_timeout=self.accept_timeout,
                ring_timeout=RING_TIMEOUT,
            )
            self.links[name] = []
            self._tasks.append(asyncio.create_task(self._hear(name, client)))
            return client

        self.bells = [make(f"bell-{number}") for number in range(PAIRS)]
        self.panels = [make(f"panel-{number}") for number in range(PAIRS)]

    async def _hear(self, name: str, client: SignalingClient) -> None:
        async for event in client.events():
            now = time.monotonic()
            if event.name is Name.CONNECTION_STATE_CHANGED:
                assert isinstance(event.state, ConnectionState)
                self.links[name].append((now, event.state))
                continue
            call = self.calls.get(event.call_id)
            if call is None:
                continue
            if event.name is Name.REMOTE_RECEIVED:
                call.rang = now
                self._tasks.append(asyncio.create_task(self._answer(call, event.invitation)))
            elif event.name is Name.LOCAL_PEER_LOST:
                call.peer_lost = True
            elif event.name in ENDS or event.name is Name.MISSED_CALL:
                ends = call.caller if event.name.startswith("local") else call.callee
                ends.append((event.name, str(event.reason), now))

    async def _answer(self, call: PressedCall, invitation: RemoteInvitation) -> None:
        await asyncio.sleep(self._random.uniform(*ANSWER))
        if not call.callee:
            call.answered = time.monotonic()
            await invitation.accept()  # type: ignore[func-returns-value]  # of this face

    async def log_in(self) -> None:
        """All of them, some at a time."""
        gate = asyncio.Semaphore(20)

        async def one(client: SignalingClient) -> None:
            async with gate:
                await client.login(20, keep_trying=True)

        await asyncio.gather(*map(one, (*self.bells, *self.panels)))

    async def press_all(self) -> None:
        """A hundred presses over some seconds."""

        async def press(number: int) -> None:
            await asyncio.sleep(number * PRESSES / CALLS)
            bell = self.bells[number % PAIRS]
            panel = self.panels[(number + number // PAIRS) % PAIRS]
            invitation = bell.call_manager.create_local_invitation(panel.peer_id)
            self.calls[invitation.call_id] = PressedCall(time.monotonic())
            await bell.call_manager.send_local_invitation(invitation)

        await asyncio.gather(*map(press, range(CALLS)))

    async def settle(self, timeout: float) -> None:
        """Wait until every call is over, and every link is back."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if all(call.over for call in self.calls.values()) and not self.away():
                await asyncio.sleep(LATE)  # what is told twice comes soon
                return
            await asyncio.sleep(0.1)

    def away(self) -> list[str]:
        """Who has no link."""
        return [n for n, told in self.links.items() if told[-1][1] is not ConnectionState.CONNECTED]

    async def leave(self) -> None:
        """Log out."""
        await asyncio.gather(*(c.logout() for c in (*self.bells, *self.panels)))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass
class Round:
    """What became of the calls of one round."""

    fault: str
    counts: dict[str, int]
    answered: int
    #: Seconds: until all links were back; from accept to the last side's end, at most.
    back: float
    slowest: float
    moved: int
    problems: list[str]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return (
            f"{self.fault:<34} {counts} of {self.answered} answered; {self.moved} moved, all back"
            f" after {self.back:.1f} s; accept to end at most {self.slowest:.1f} s"
        )


def show(found: Round) -> None:
    """What it came to, and what is wrong with it."""
    print(found, *found.problems[:8], sep="\n    ", flush=True)


def judge(site: Site, fault: str, began: float) -> Round:
    """Look at all calls of a round whose fault came at ``began``."""
    counts = dict.fromkeys(("lost", "split", "ghost", "failed"), 0)
    problems, slowest = [], 0.0
    for call_id, call in site.calls.items():
        for verdict in call.verdicts():
            counts[verdict] += 1
            ends = [(str(n), reason, round(at - began, 2)) for n, reason, at in
                    (*call.caller, *call.callee)]  # fmt: skip
            times = [None if t is None else round(t - began, 2)
                     for t in (call.pressed, call.rang, call.answered)]  # fmt: skip
            problems.append(f"{verdict} {call_id[:6]}: pressed, rang, answered {times}: {ends}")
        if call.answered is not None and call.caller and call.callee:
            slowest = max(slowest, max(e[2] for e in (*call.caller, *call.callee)) - call.answered)
    if slowest > site.accept_timeout + 2:
        problems.append(f"slow: an accept came to its end after {slowest:.1f} s")
    moved = [told for told in site.links.values() if any(at > began for at, _ in told)]
    back = max((told[-1][0] - began for told in moved), default=0.0)
    problems += [f"away: {name}" for name in site.away()]
    answered = sum(call.answered is not None for call in site.calls.values())
    return Round(fault, counts, answered, back, slowest, len(moved), problems)


async def ring_through(
    broker: Exported, name: str, fault: Callable[[], None],
    mend: Callable[[], None], seed: int,
) -> Round:  # fmt: skip
    """One round; the broker is whole before and after."""
    site = Site(broker.folder / "account.toml", seed)
    try:
        await site.log_in()
        pressing = asyncio.create_task(site.press_all())
        await asyncio.sleep(FAULT_AT)
        began = time.monotonic()
        await asyncio.to_thread(fault)
        await pressing
        await site.settle(RING_TIMEOUT + site.accept_timeout)
        found = judge(site, name, began)
    finally:
        await asyncio.to_thread(mend)
        await site.leave()
    return found


def restart(broker: Exported) -> None:
    """All nodes at once: killed, and started again after a moment."""
    for number in range(broker.nodes):
        broker.kill_node(number)
    time.sleep(1)
    for number in range(broker.nodes):
        broker.start_node(number)


def joined(bridge: Bridge) -> None:
    """Return once what is published on either mosquitto is heard on the other."""
    until = time.monotonic() + 60
    for here, there in (bridge.ports, bridge.ports[::-1]):
        with Raw(here) as teller, Raw(there) as hearer:
            teller.connect("joined-teller")
            hearer.connect("joined-hearer")
            hearer.subscribe("sig/v1/joined/presence")
            while True:
                assert time.monotonic() < until, "the bridge does not connect again"
                teller.publish("sig/v1/joined/presence", b"")
                with contextlib.suppress(TimeoutError):
                    hearer.message(0.2)
                    break


class WatchedNats(Nats):
    """NATS that tells, on a port of its own for each node, who leads and whether all is well."""

    def __init__(self, folder: Path) -> None:
        self.monitors = [free_port() for _ in range(self.nodes)]
        super().__init__(folder)

    def options(self, number: int) -> list[str]:
        return ["-a", "127.0.0.1", "-m", str(self.monitors[number])]

    def _ask(self, number: int, what: str) -> Any:
        url = f"http://127.0.0.1:{self.monitors[number]}/{what}"
        with urllib.request.urlopen(url, timeout=3) as answer:
            return json.load(answer)

    def leader(self) -> int:
        """The node that leads JetStream, from 0."""
        name: str = self._ask(0, "jsz")["meta_cluster"]["leader"]
        return int(name.removeprefix("bellwire-")) - 1

    def whole(self) -> None:
        """Return once every node has caught up with the others."""
        self.ready()
        until = time.monotonic() + 60
        for number in range(self.nodes):
            while True:
                with contextlib.suppress(OSError):
                    if self._ask(number, "healthz")["status"] == "ok":
                        break
                assert time.monotonic() < until, f"node {number + 1} does not catch up"
                time.sleep(0.2)


async def nats(folder: Path, times: int, seed: int) -> list[Round]:
    """Each of three nodes in turn, and the leader, killed; then all, once."""
    found: list[Round] = []
    with WatchedNats(folder) as broker:

        async def one(name: str, fault: Callable[[], None], mend: Callable[[], None]) -> None:
            found.append(await ring_through(broker, name, fault, mend, seed + len(found)))
            show(found[-1])

        for which in (*(0, 1, 2, None) * times,):
            await asyncio.to_thread(broker.whole)
            leader = await asyncio.to_thread(broker.leader)
            number = leader if which is None else which
            name = f"NATS node {number + 1} killed" + (", leader" * (number == leader))
            kill = functools.partial(broker.kill_node, number)
            await one(name, kill, functools.partial(started, broker, number))
        await asyncio.to_thread(broker.whole)
        await one("NATS all killed, started again", lambda: restart(broker), broker.whole)
    return found


def started(broker: WatchedNats, number: int) -> None:
    """Start a node; return once it has caught up."""
    broker.start_node(number)
    broker.whole()


async def bridge(folder: Path, times: int, seed: int) -> list[Round]:
    """Either of two bridged mosquittos killed, the way between them cut; then both, once."""
    found: list[Round] = []
    loop = Loop()
    broker = Bridge(folder)
    with Proxy(broker.ports[0], loop) as between:
        conf = broker.folder / "node2" / "mosquitto.conf"
        text = conf.read_text()
        conf.write_text(text.replace(f"127.0.0.1:{broker.ports[0]}", f"127.0.0.1:{between.port}"))
        assert conf.read_text() != text

        def cut() -> None:
            between.refuse()
            between.reset()
            time.sleep(CUT)
            between.refuse(False)

        def started(number: int) -> None:
            broker.start_node(number)
            broker.ready()

        async def one(name: str, fault: Callable[[], None], mend: Callable[[], None]) -> None:
            found.append(await ring_through(broker, name, fault, mend, seed + len(found)))
            show(found[-1])
            await asyncio.to_thread(joined, broker)

        with broker:
            for number in (0, 1) * times:
                kill = functools.partial(broker.kill_node, number)
                name = f"mosquitto {number + 1} of the bridge killed"
                await one(name, kill, functools.partial(started, number))
            for _ in range(times):
                await one(f"bridge cut for {CUT:.0f} s, healed", cut, broker.ready)
            await one("both killed, started again", lambda: restart(broker), broker.ready)
    loop.close()
    return found


RUNS: dict[str, Callable[[Path, int, int], Awaitable[list[Round]]]] = {
    "nats": nats,
    "bridge": bridge,
}


def main() -> int:
    """Run; 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.faults.cluster")
    parser.add_argument("--only", choices=RUNS, help="one of them; both by default")
    parser.add_argument("--times", type=int, default=1, help="how often each fault comes")
    parser.add_argument("--seed", type=int, default=1, help="of what is random")
    args = parser.parse_args()
    logging.getLogger("bellwire").addHandler(logging.NullHandler())
    rounds: list[Round] = []
    for name, run in RUNS.items():
        if args.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="bellwire-") as folder:
                Path(folder).chmod(0o755)  # mosquitto, started by root, reads as another user
                rounds += asyncio.run(run(Path(folder), args.times, args.seed))
    total = {name: sum(r.counts[name] for r in rounds) for name in rounds[0].counts}
    answered = sum(r.answered for r in rounds)
    print(f"{len(rounds)} rounds, {CALLS * len(rounds)} calls, {answered} answered: {total}")
    bad = any(total[name] for name in ("lost", "split", "ghost"))
    others = [p for r in rounds for p in r.problems if p.startswith(("slow", "away"))]
    return int(bad or total["failed"] > MAY_FAIL * answered or bool(others))


if __name__ == "__main__":
    sys.exit(main())
