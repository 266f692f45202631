"""What others notice of one device that does its worst, and the memory it takes.

``python -m tests.bench.broker_attacks`` prints the table, mosquitto beside it;
``python -m tests.bench.broker_attacks ATTACK PORT`` is the attacker, a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

import psutil  # type: ignore[import-untyped] # ships no types

from .broker_scale import p50, round_trips, served
from .broker_servers import mosquitto_path
from .broker_wire import Client, connect, open_client, publish, remaining, subscribe, text

HOST = "127.0.0.1"


def _nothing(_kind: int, _body: bytes) -> None:
    pass


def _cell(number: int) -> str:
    return f"sig/v1/study/invite/mallory/{number:021d}A"


async def _mallory(port: int, number: int) -> Client:
    return await open_client(HOST, port, connect(f"mallory:{number}"), _nothing)


async def one_subscribe(port: int) -> None:
    """64 KB of one filter that matches 3,000 retained messages, again and again."""
    first = await _mallory(port, 0)
    for number in range(3000):
        first.transport.write(publish(_cell(number), bytes(40), number + 1, retain=True))
        if not number % 500:
            await asyncio.sleep(0.05)
    body = b"\0\1" + (text("sig/v1/+/invite/mallory/+") + b"\1") * 2300
    for number in itertools.count(1):
        with contextlib.suppress(ConnectionError):
            client = await _mallory(port, number)
            client.transport.write(b"\x82" + remaining(len(body)) + body)
            await asyncio.sleep(0.5)
            client.transport.abort()


async def fill(port: int) -> None:
    """Retained messages without end, from a new connection for each thousand."""
    for number in itertools.count():
        with contextlib.suppress(ConnectionError):
            client = await _mallory(port, number)
            client.transport.write(
                b"".join(
                    publish(_cell(number * 1000 + each), bytes(40), each + 1, retain=True)
                    for each in range(1000)
                )
            )
            await asyncio.wait({client.lost}, timeout=0.2)


async def wills(port: int) -> None:
    """A retained will of 60 KB from each of a thousand connections a minute."""
    for number in itertools.count():
        with contextlib.suppress(ConnectionError):
            will = text(_cell(number)) + (60_000).to_bytes(2, "big") + bytes(60_000)
            body = b"\0\4MQTT\4\x26\0\0" + text(f"mallory:{number}") + will
            client = await open_client(HOST, port, b"\x10" + remaining(len(body)) + body, _nothing)
            client.transport.abort()
            await asyncio.sleep(0.05)


async def sessions(port: int) -> None:
    """Persistent sessions without end, each subscribed to what everybody says."""
    for number in itertools.count():
        with contextlib.suppress(ConnectionError):
            body = b"\0\4MQTT\4\0\0\0" + text(f"mallory:{number}")
            client = await open_client(HOST, port, b"\x10" + remaining(len(body)) + body, _nothing)
            client.transport.write(subscribe("sig/v1/mallory/#"))
            await asyncio.sleep(0.02)
            client.transport.abort()


async def refused(port: int) -> None:
    """Logins that are refused, a hundred at a time."""
    body = b"\0\4MQTT\4\0\0\0" + text("")
    hello = b"\x10" + remaining(len(body)) + body

    async def knock() -> None:
        while True:
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(open_client(HOST, port, hello, _nothing), 1)
            await asyncio.sleep(0.1)

    await asyncio.gather(*(knock() for _ in range(100)))


ATTACKS: dict[str, Callable[[int], Awaitable[None]]] = {
    "one SUBSCRIBE of 64 KB": one_subscribe,
    "retained messages": fill,
    "wills": wills,
    "persistent sessions": sessions,
    "refused logins": refused,
}


@contextlib.contextmanager
def attacker(attack: str, port: int) -> Iterator[None]:
    """The attack goes on in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.broker_attacks", attack, str(port)],
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(3)
        yield
    finally:
        process.kill()
        process.wait()


def others(port: int) -> tuple[float, float]:
    """The median of three p50s of others, and the slowest round trip of all, in ms.

    A best of three would show the time before the attack bites.
    """
    with contextlib.suppress(TimeoutError, ConnectionError):
        times = [asyncio.run(round_trips(port, seconds=10)) for _ in range(3)]
        return statistics.median(map(p50, times)), max(map(max, times)) * 1000
    return float("inf"), float("inf")


def main() -> None:
    """The table, or the attacker."""
    if len(sys.argv) == 3:
        asyncio.run(_attack(ATTACKS[sys.argv[1]], int(sys.argv[2])))
        return
    print(
        "| abuse | broker | others' invite to received, ms | beside none | slowest ms | MB more |"
    )
    print("|---|---|---|---|---|---|")
    for name in ("bellwire limited", *(["mosquitto"] if mosquitto_path() else [])):
        for attack in ATTACKS:
            with served(name) as (port, pid):
                process = psutil.Process(pid)
                plain, _ = others(port)
                before = process.memory_info().rss
                with attacker(attack, port):
                    took, slowest = others(port)
                    more = (process.memory_info().rss - before) >> 20
                figures = f"{took:.2f} | {took / plain:.2f} x | {slowest:.0f} | {more}"
                print(f"| {attack} | {name.split()[0]} | {figures} |", flush=True)


async def _attack(attack: Callable[[int], Awaitable[None]], port: int) -> None:
    await attack(port)


if __name__ == "__main__":
    main()
