"""Real calls through the bundled broker while it is killed and restarted every few seconds.

``python -m tests.soak.real_calls [--calls 5000]``. A press either rang or was reported as failed:
nothing lost, no ghost, no duplicate, no split; the exit status says whether that held.

Four doors call four panels, each with several calls at once. What the panel does is chosen by the
call: accept, refuse, or let the door cancel. Timers are those of the protocol, shortened. With
``--talk`` calls go on after *accepted* (:mod:`tests.soak.real_talks`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from device_sdk import CallEventListener, LoginError
from device_sdk.aio import SignalingClient
from tests.servers import BundledBroker
from tests.soak import real_talks

REALM = "soak"
PANELS = 4
AT_ONCE = 5  # of each door
TIMERS: dict[str, Any] = {
    "keepalive": 2,
    "ring_timeout": 12.0,
    "ack_timeout": 8.0,
    "accept_timeout": 6.0,
    "caller_lost_grace": 6.0,
    "resend_first": 0.5,
    "resend_max": 2.0,
    "probe_interval": 0.5,
    "max_calls_per_caller": 32,
    "missed_call_ttl": 30.0,
}
LOCAL = ("accepted", "refused", "canceled", "failure")


@dataclass
class Call:
    """What both ends were told of one press."""

    plan: str
    door: list[str] = field(default_factory=list)
    panel: list[str] = field(default_factory=list)
    decided_at: float = 0.0
    rang_at: float = 0.0
    rang_late: bool = False


class Books:
    """Everything that was told, by call id."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.reconnects = 0

    def problems(self) -> Counter[str]:
        """What must not be, counted."""
        found: Counter[str] = Counter()
        for call in self.calls.values():
            door = [n for n in call.door if n in LOCAL]
            panel = [n for n in call.panel if n in (*LOCAL, "missed")]
            rings = call.panel.count("received")
            found["lost"] += not door  # neither rang nor was reported
            found["duplicate"] += len(door) > 1 or len(panel) > 1 or rings > 1
            found["unfinished"] += bool(rings) and not panel
            found["ghost"] += call.rang_late
            # A call that went on here may have been over, and told so, before the other end failed.
            lost = "peer_lost" in call.door or "talk over" in call.door
            found["split"] += not agree(door, panel, lost)
        return +found


def agree(door: list[str], panel: list[str], lost: bool) -> bool:
    """Whether these ends go together: the table "Who may end how" of docs/protocol.md."""
    if len(door) != 1:
        return True  # counted elsewhere
    end = panel[0] if panel else "missed"
    allowed = {
        "accepted": {"accepted"} | ({"failure"} if lost else set()),
        "canceled": {"canceled", "refused", "failure", "missed"},
        "refused": {"refused"},
        "failure": {"failure", "refused", "canceled", "missed"},
    }
    return end in allowed[door[0]]


class Door(CallEventListener):
    def __init__(self, books: Books) -> None:
        self._books = books

    def _note(self, invitation: Any, what: str) -> None:
        call = self._books.calls[invitation.call_id]
        call.door.append(what)
        if what in LOCAL:
            call.decided_at = time.monotonic()

    def on_local_invitation_received_by_peer(self, invitation: Any) -> None:
        self._note(invitation, "received")

    def on_local_invitation_accepted(self, invitation: Any, _response: Any) -> None:
        self._note(invitation, "accepted")

    def on_local_invitation_refused(self, invitation: Any, _response: Any) -> None:
        self._note(invitation, "refused")

    def on_local_invitation_canceled(self, invitation: Any) -> None:
        self._note(invitation, "canceled")

    def on_local_invitation_failure(self, invitation: Any, _error: Any) -> None:
        self._note(invitation, "failure")

    def on_local_invitation_peer_lost(self, invitation: Any, _reason: Any) -> None:
        self._note(invitation, "peer_lost")

    def on_call_ended(self, call: Any, _reason: Any) -> None:
        self._note(call, "talk over")


class Panel(CallEventListener):
    def __init__(self, books: Books) -> None:
        self._books = books

    def _note(self, call_id: str, what: str) -> Call:
        call = self._books.calls[call_id]
        call.panel.append(what)
        return call

    def on_remote_invitation_received(self, invitation: Any) -> Any:
        call = self._note(invitation.call_id, "received")
        call.rang_at = time.monotonic()
        # One process sees both ends: a ring after the door was told its end is a ghost.
        call.rang_late = bool(call.decided_at) and call.rang_at > call.decided_at + 0.5
        if call.plan == "accept":
            return invitation.accept("coming")
        if call.plan == "refuse":
            return invitation.refuse()
        return None

    def on_remote_invitation_accepted(self, invitation: Any) -> None:
        self._note(invitation.call_id, "accepted")

    def on_remote_invitation_refused(self, invitation: Any) -> None:
        self._note(invitation.call_id, "refused")

    def on_remote_invitation_canceled(self, invitation: Any) -> None:
        self._note(invitation.call_id, "canceled")

    def on_remote_invitation_failure(self, invitation: Any, _error: Any) -> None:
        self._note(invitation.call_id, "failure")

    def on_missed_call(self, missed: Any) -> None:
        self._note(missed.call_id, "missed")


async def press(client: SignalingClient, panel: str, books: Books, plan: str) -> None:
    """One call from press to end."""
    invitation = client.create(panel)
    books.calls[invitation.call_id] = Call(plan)
    client.send(invitation)
    if plan == "cancel":
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(0, 0.5)):
                await invitation.wait()
                return
        with contextlib.suppress(RuntimeError):  # it ended in that moment
            client.cancel(invitation)
    await invitation.wait()
    if invitation.call is not None:
        await invitation.call.wait()


async def hurt(broker: BundledBroker, done: asyncio.Event, every: tuple[float, float]) -> int:
    """Kill and restart the broker until ``done``; how often."""
    kills = 0
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(*every)):
                await done.wait()
                return kills
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        kills += 1


async def run(calls: int, seed: int, broker: BundledBroker, *, talk: bool = False) -> bool:
    """Make the calls, print the totals; whether everything held."""
    random.seed(seed)
    books, done = Books(), asyncio.Event()
    talks, timers = real_talks.Talks(), {**TIMERS, **(real_talks.TIMERS if talk else {})}
    began = time.monotonic()
    clients: list[SignalingClient] = []
    try:
        pairs = []
        for i in range(PANELS):
            panel = SignalingClient(f"panel-{i}", broker.url, realm=REALM, **timers)
            door = SignalingClient(f"door-{i}", broker.url, realm=REALM, **timers)
            panel.call_manager.add_event_listener(Panel(books))
            door.call_manager.add_event_listener(Door(books))
            for name, client in (("door", door), ("panel", panel)):
                client.call_manager.add_event_listener(real_talks.Talker(talks, name))
            for client in (panel, door):
                await client.login()
                clients.append(client)
            pairs.append((door, panel.peer_id))
        hurting = asyncio.create_task(hurt(broker, done, (2.0, 4.0)))
        plans = iter(random.choices(("accept", "refuse", "cancel"), (6, 2, 2), k=calls))
        progress = 0

        async def keep_pressing(door: SignalingClient, panel: str) -> None:
            nonlocal progress
            for plan in plans:
                await press(door, panel, books, plan)
                progress += 1
                if progress % 1000 == 0:
                    print(f"{progress} calls, {time.monotonic() - began:.0f} s", flush=True)
                # A person does not press faster than this, and the kills are to hit many calls.
                await asyncio.sleep(random.uniform(0, 0.5))

        async with asyncio.TaskGroup() as group:
            for door, panel in pairs:
                for _ in range(AT_ONCE):
                    group.create_task(keep_pressing(door, panel))
        done.set()
        kills = await hurting
        # Both ends linked once more, every end has to be known and every cell cleared.
        deadline = time.monotonic() + 60
        while True:
            told = not (books.problems()["unfinished"] or talks.problems()["not ended"])
            over = told and not underway(clients)
            remains = await left(broker)
            if (over and not remains) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        connects = sum(client.stats["connects"] for client in clients)
    finally:
        for client in clients:
            with contextlib.suppress(LoginError):
                await client.logout()
    ends = Counter(next((n for n in c.door if n in LOCAL), "none") for c in books.calls.values())
    rang = sum("received" in c.panel for c in books.calls.values())
    problems = books.problems()
    print(
        f"{len(books.calls)} calls in {time.monotonic() - began:.0f} s, seed {seed}; broker killed"
        f" {kills} times, {connects - len(clients)} reconnects; {rang} rang; the callers' ends:"
        f" {dict(ends)}; {sum('peer_lost' in c.door for c in books.calls.values())} lost after"
        f" accept, and told so"
    )
    names = ("lost", "ghost", "duplicate", "split", "unfinished")
    print(", ".join(f"{problems[name]} {name}" for name in names) + f", {remains} cells left")
    if problems:
        for call_id, call in books.calls.items():
            one = Books()
            one.calls[call_id] = call
            if one.problems():
                print(call_id, call)
    wrong = talks.problems()
    if talk:
        print(f"{talks}; {dict(wrong) or 'nothing'} wrong with them")
    if wrong:
        for call_id, sides in talks.calls.items():
            one = real_talks.Talks()
            one.calls[call_id] = sides
            if one.problems():
                print(call_id, sides)
    return not problems and not wrong and not remains and len(books.calls) == calls


def underway(clients: list[SignalingClient]) -> bool:
    """Whether one has still to say or to clear a cell: a broker just restarted has none of them."""
    sessions = [client._session for client in clients if client._session is not None]
    return any(s.engine.caller.calls or s.engine.callee.calls for s in sessions)


async def left(broker: BundledBroker) -> int:
    """Cells at the broker, presence aside."""
    from tests.broker_support.raw import Raw

    def look() -> int:
        with Raw(broker.port) as raw:
            assert raw.connect("observer") == 0
            raw.subscribe(f"{REALM}/v1/+/invite/+/+", f"{REALM}/v1/+/answer/+/+")
            return sum(bool(message.data) for message in raw.gather())

    return await asyncio.to_thread(look)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.soak.real_calls", description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--talk", action="store_true", help="calls go on: messages, hanging up")
    args = parser.parse_args()
    with BundledBroker() as broker:
        return 0 if asyncio.run(run(args.calls, args.seed, broker, talk=args.talk)) else 1


if __name__ == "__main__":
    sys.exit(main())
