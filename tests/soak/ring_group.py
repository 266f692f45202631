"""Ring groups of three at the bundled broker, two of whom accept within the same millisecond.

``python -m tests.soak.ring_group [--times 1000]``: one wins, the others are told that it was
answered elsewhere, every time; the exit status says whether that held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections import Counter
from typing import Any

from device_sdk import EndReason, LocalInvitationState, RemoteInvitationState
from device_sdk.aio import SignalingClient
from tests.servers import BundledBroker

PANELS = ("kitchen", "bedroom", "phone")
PATIENCE = 10.0


async def once(
    door: SignalingClient, panels: dict[str, SignalingClient], rings: dict[str, asyncio.Queue[Any]]
) -> tuple[str, float]:
    """One group; the winner, and the seconds between the two accepts. Raises what did not hold."""
    group = await door.call_manager.ring(PANELS, content="somebody is here")
    theirs = {name: await rings[name].get() for name in PANELS}
    first, second = random.sample(PANELS, 2)
    at = time.monotonic()
    panels[first].accept(theirs[first], first)
    apart = time.monotonic() - at  # from press to press
    panels[second].accept(theirs[second], second)
    await group.wait()
    for invitation in theirs.values():
        await invitation.wait()
    outcome = group.outcome
    assert outcome.winner in (first, second), outcome
    assert outcome.response == outcome.winner, outcome
    for name, invitation in theirs.items():
        won = name == outcome.winner
        ended = (invitation.state, invitation.reason)
        leg = outcome.legs[name]
        if won:
            assert ended == (RemoteInvitationState.ACCEPTED, EndReason.ACCEPTED), (name, ended)
            assert leg.state is LocalInvitationState.ACCEPTED_BY_REMOTE, leg
        else:
            elsewhere = (RemoteInvitationState.CANCELED, EndReason.ANSWERED_ELSEWHERE)
            assert ended == elsewhere, (name, ended)
            assert leg.reason is EndReason.ANSWERED_ELSEWHERE, leg
    return outcome.winner, apart


async def run(times: int, seed: int, url: str) -> bool:
    """Ring so often, print the totals; whether it held each time."""
    random.seed(seed)
    door = SignalingClient("front-door", url, realm="groups")
    panels = {name: SignalingClient(name, url, realm="groups") for name in PANELS}
    rings: dict[str, asyncio.Queue[Any]] = {}
    missed: Counter[str] = Counter()

    async def hear(name: str) -> None:
        async for event in panels[name].events():
            if event.name == "remote_invitation_received":
                rings[name].put_nowait(event.invitation)
            elif event.name == "missed_call":
                missed[name] += 1

    winners: Counter[str] = Counter()
    together = failed = rung = 0
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(door)
        tasks = []
        for name, panel in panels.items():
            rings[name] = asyncio.Queue()
            await stack.enter_async_context(panel)
            tasks.append(asyncio.create_task(hear(name)))
        # A group with a pause of the machine between the presses has to hold, but is not counted.
        while together < times and rung < times * 4:
            rung += 1
            try:
                async with asyncio.timeout(PATIENCE):
                    winner, apart = await once(door, panels, rings)
            except (AssertionError, TimeoutError) as error:
                failed += 1
                print(f"seed {seed}: {error!r}")
                if failed > 3:
                    break
                continue
            winners[winner] += 1
            together += apart < 0.001
    await asyncio.gather(*tasks)
    print(
        f"{winners.total()} of {rung} groups had one winner, {together} of them with both accepts"
        f" pressed within 1 ms, in {time.monotonic() - began:.0f} s, seed {seed}; winners"
        f" {dict(winners)}; {sum(missed.values())} told as missed"
    )
    return winners.total() == rung and not missed and together == times


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.soak.ring_group", description=__doc__)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args()
    with BundledBroker() as broker:
        return 0 if asyncio.run(run(args.times, args.seed, broker.url)) else 1


if __name__ == "__main__":
    sys.exit(main())
