"""Real calls through the bundled broker, killed every few seconds, in which a door is asked for.

Part of ``python -m tests.soak.doors``. Four doors call four panels; who answers asks once or more
for the door, some as they hang up. The door's end is the doorbell's own decision. Each door logs in
anew, as after a crash, every so often: its former calls must open nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from typing import Any

from device_sdk import CallEventListener, EndReason, InvitationApiCallError, LoginError
from device_sdk.aio import Call, SignalingClient
from device_sdk.services.logic.appliance import SayInCall
from device_sdk.services.logic.door import DoorRules
from device_sdk.services.logic.doorbell import ButtonRules, Doorbell, OpenDoor
from tests.servers import BundledBroker

from .real_calls import REALM, TIMERS, hurt, left

PAIRS = 4
AT_ONCE = 3  # of each door


class DoorBooks:
    """Every request by its number: what was asked, answered, opened."""

    def __init__(self) -> None:
        self.asked: dict[int, str] = {}
        self.answered: dict[int, bool] = {}
        self.opened: Counter[int] = Counter()
        self.accepted: set[str] = set()
        self.wrong: list[str] = []
        self.ended = 0

    def problems(self) -> dict[str, int]:
        """What must not be, counted."""
        return {
            "opened without a live accepted call": len(self.wrong),
            "opened twice": sum(count > 1 for count in self.opened.values()),
            "acknowledged and not opened": sum(
                ok and not self.opened[number] for number, ok in self.answered.items()
            ),
        }


class DoorEnd(CallEventListener):
    """One life of a doorbell."""

    def __init__(self, books: DoorBooks) -> None:
        self._books = books
        self._bell = Doorbell((ButtonRules(),), door=DoorRules(frozenset({"panel"})))
        self._up: set[str] = set()

    def on_call_started(self, call: Call) -> None:
        self._up.add(call.call_id)
        self._bell.call_started(call.call_id, "panel", "door", time.monotonic())

    async def on_call_message(self, call: Call, message: Any) -> None:
        now = time.monotonic()
        for effect in self._bell.call_message(call.call_id, "panel", message, now, now):
            if isinstance(effect, OpenDoor):
                number = message["n"]
                self._books.opened[number] += 1
                asked_in = self._books.asked.get(number)
                if call.call_id not in self._up & self._books.accepted or asked_in != call.call_id:
                    self._books.wrong.append(f"{number} in {call.call_id}, asked in {asked_in}")
                for each in self._bell.door_switched(effect, "", now):
                    if isinstance(each, SayInCall):
                        with contextlib.suppress(InvitationApiCallError):  # hung up meanwhile
                            await call.send(each.message | {"n": number})

    def on_call_ended(self, call: Call, reason: EndReason) -> None:
        self._up.discard(call.call_id)
        self._bell.call_ended(call.call_id, time.monotonic())


class PanelEnd(CallEventListener):
    """Answers, asks for the door, hangs up."""

    def __init__(self, books: DoorBooks, group: asyncio.TaskGroup) -> None:
        self._books, self._group = books, group

    def on_remote_invitation_received(self, invitation: Any) -> Any:
        self._books.accepted.add(invitation.call_id)
        return invitation.accept("coming")

    def on_call_started(self, call: Call) -> None:
        self._group.create_task(self._talk(call))

    def on_call_message(self, call: Call, message: Any) -> None:
        self._books.answered[message["n"]] = message["ok"]

    def on_call_ended(self, call: Call, reason: EndReason) -> None:
        self._books.ended += 1

    async def _talk(self, call: Call) -> None:
        with contextlib.suppress(InvitationApiCallError):  # it is over
            for _ in range(random.choice((1, 1, 2, 4))):
                number = len(self._books.asked)
                self._books.asked[number] = call.call_id
                await call.send({"do": "open", "n": number})
                await asyncio.sleep(random.choice((0, random.uniform(0, 0.3))))
            await call.hang_up()


async def run(calls: int, seed: int, broker: BundledBroker) -> bool:
    """Make the calls, print the totals; whether everything held."""
    random.seed(seed)
    books, done, began = DoorBooks(), asyncio.Event(), time.monotonic()
    left_to_make, lives = iter(range(calls)), 0
    panels: list[SignalingClient] = []

    async def log_in(peer: str, listener: CallEventListener) -> SignalingClient:
        client = SignalingClient(peer, broker.url, realm=REALM, talk=True, **TIMERS)
        client.call_manager.add_event_listener(listener)
        while True:
            try:
                await client.login(10)
            except LoginError:
                continue
            return client

    async def live(number: int) -> None:
        """One doorbell, life after life."""
        nonlocal lives
        former: SignalingClient | None = None
        more = True
        while more:
            client = await log_in(f"door-{number}", DoorEnd(books))
            lives += 1
            if former is not None:
                await former.logout()  # superseded already: it says nothing any more
            former = client
            for _ in range(random.randint(5, 40)):
                legs = [
                    i for i in (next(left_to_make, None) for _ in range(AT_ONCE)) if i is not None
                ]
                more = bool(legs)
                await asyncio.gather(*(press(client, f"panel-{number}") for _ in legs))
                if not more:
                    break
        assert former is not None
        await asyncio.sleep(1)
        await former.logout()

    async def press(client: SignalingClient, panel: str) -> None:
        invitation = client.create(panel)
        client.send(invitation)
        await invitation.wait()
        await asyncio.sleep(random.uniform(0, 0.3))

    async with asyncio.TaskGroup() as group:
        panels += [await log_in(f"panel-{n}", PanelEnd(books, group)) for n in range(PAIRS)]
        hurting = asyncio.create_task(hurt(broker, done, (2.0, 4.0)))
        await asyncio.gather(*(live(number) for number in range(PAIRS)))
        done.set()
        kills = await hurting
    deadline = time.monotonic() + 60
    while (remains := await left(broker)) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    for client in panels:
        with contextlib.suppress(LoginError):
            await client.logout()
    problems = books.problems()
    print(
        f"{calls} real calls in {time.monotonic() - began:.0f} s, seed {seed}; broker killed"
        f" {kills} times, doors logged in {lives} times; {len(books.accepted)} accepted,"
        f" {books.ended} calls that went on ended, {len(books.asked)} requests,"
        f" {len(books.opened)} opened, {len(books.answered)} answered"
    )
    print(
        ", ".join(f"{count} {what}" for what, count in problems.items()) + f", {remains} cells left"
    )
    return not any(problems.values()) and not remains and len(books.opened) > len(books.asked) // 2
