"""What idle devices, storms and abuse cost: round trip, connect time, memory.

``python -m tests.bench.broker_scale`` prints the tables; ``--quick`` leaves the slow rows out.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped] # ships no types

from .broker_servers import mosquitto, mosquitto_path, mosquitto_process, process_of
from .broker_wire import Client, connect, open_client, publish, subscribe

ROUNDS = 400
PAYLOAD = bytes(120)
SECRET = "correct horse"
STORM = 1000


def room_for_sockets() -> None:
    """As many open files as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _nothing(_kind: int, _body: bytes) -> None:
    pass


async def idle_devices(
    port: int, count: int, start: int = 0, *, gentle: bool = False
) -> list[Client]:
    """Logged-in devices that do nothing: inbox and own presence subscribed, presence retained.

    ``gentle``: no retained messages, and again when a connect breaks; stock amqtt needs both.
    """
    return [await _idle_device(port, number, gentle) for number in range(start, start + count)]


async def _idle_device(port: int, number: int, gentle: bool) -> Client:
    me = f"idle-{number}"
    base = f"sig/v1/{me}"
    for _ in range(20 if gentle else 1):
        settled = asyncio.get_running_loop().create_future()

        def on_packet(kind: int, _: bytes, settled: asyncio.Future[None] = settled) -> None:
            if kind == 0xD0 and not settled.done():
                settled.set_result(None)

        client = await open_client("127.0.0.1", port, connect(me), on_packet)
        wanted = subscribe(f"{base}/invite/+/+", f"{base}/answer/+/+", f"{base}/presence")
        if not gentle:
            wanted += publish(f"{base}/presence", bytes(24), 2, retain=True)
        client.transport.write(wanted + b"\xc0\0")
        waited = asyncio.wait((settled, client.lost), return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waited, 5)
        if settled.done():
            client.on_packet = _nothing
            return client
        client.transport.abort()
    raise ConnectionError(f"{me} could not stay connected")


async def round_trips(
    port: int, rounds: int = ROUNDS, *, retain: bool = True, seconds: float = 60.0
) -> list[float]:
    """Invite to receivedByPeer, in seconds: two QoS 1 messages, one each way.

    After ``seconds`` those that were made are enough.
    """
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    arrived = loop.create_future()

    def on_kitchen(kind: int, body: bytes) -> None:
        if kind == 0x90:
            ready.set_result(None)
        elif kind & 0xF0 == 0x30:
            call = body[2 : 2 + int.from_bytes(body[:2], "big")].decode().rpartition("/")[2]
            topic = f"sig/v1/front-door/answer/kitchen/{call}"
            kitchen.transport.write(publish(topic, PAYLOAD, 3, retain=retain))

    def on_door(kind: int, _: bytes) -> None:
        if kind & 0xF0 == 0x30 and not arrived.done():
            arrived.set_result(time.perf_counter())

    kitchen = await open_client("127.0.0.1", port, connect("kitchen"), on_kitchen)
    kitchen.transport.write(subscribe("sig/v1/kitchen/invite/+/+"))
    await ready
    door = await open_client("127.0.0.1", port, connect("front-door"), on_door)
    door.transport.write(subscribe("sig/v1/front-door/answer/+/+"))
    took = []
    for number in range(20 + rounds):
        arrived = loop.create_future()
        started = time.perf_counter()
        if started > until:
            break
        topic = f"sig/v1/kitchen/invite/front-door/{number % 50}"
        door.transport.write(publish(topic, PAYLOAD, 4, retain=retain))
        took.append(await asyncio.wait_for(arrived, 20) - started)
        await asyncio.sleep(0.001)
    for client in (kitchen, door):
        client.transport.close()
    return took[20:] or took  # the first twenty warm up


def p50(times: list[float]) -> float:
    """The median, in milliseconds."""
    return statistics.median(times) * 1000


@contextlib.contextmanager
def served(name: str) -> Iterator[tuple[int, int]]:
    """A broker's port and process id."""
    if name == "mosquitto":
        with mosquitto_process() as (port, pid):
            yield port, pid
    else:
        with process_of(name) as (port, pid):
            yield port, pid


async def _with_idle(
    port: int, pid: int, steps: tuple[int, ...], gentle: bool
) -> dict[int, tuple[float, float]]:
    process, found = psutil.Process(pid), {}
    clients: list[Client] = []
    await round_trips(port, 50, retain=not gentle)
    empty = process.memory_info().rss
    for step in steps:
        clients += await idle_devices(port, step - len(clients), len(clients), gentle=gentle)
        # The best of five: another's turn on this machine is not the broker's.
        best = min([p50(await round_trips(port, retain=not gentle)) for _ in range(5)])
        found[step] = best, (process.memory_info().rss - empty) / step / 1024
    for client in clients:
        client.transport.close()
    return found


def idle_table(names: tuple[str, ...], steps: tuple[int, ...]) -> None:
    """Round trip and memory with more and more idle devices."""
    print("| broker | idle devices | invite to received, p50 ms | beside fewest | KB a device |")
    print("|---|---|---|---|---|")
    for name in names:
        reach = tuple(step for step in steps if name != "amqtt" or step <= 1000)
        with served(name) as (port, pid):
            found = asyncio.run(_with_idle(port, pid, reach, name == "amqtt"))
        first = found[reach[0]][0]
        for step, (took, memory) in found.items():
            shown = f"{memory:.1f}" if step >= 1000 else "-"
            print(
                f"| {name} | {step:,} | {took:.2f} | {took / first:.2f} x | {shown} |", flush=True
            )


async def storm(port: int, count: int) -> tuple[float, int]:
    """Seconds until all of ``count`` devices that start at once are subscribed; how many broke."""
    loop = asyncio.get_running_loop()

    async def one(number: int) -> Client:
        settled = loop.create_future()

        def on_packet(kind: int, _: bytes) -> None:
            if kind == 0x90 and not settled.done():
                settled.set_result(None)

        me = f"idle-{number}"
        client = await open_client(
            "127.0.0.1", port, connect(me, user=me, password=SECRET), on_packet
        )
        base = f"sig/v1/{me}"
        client.transport.write(subscribe(f"{base}/invite/+/+", f"{base}/answer/+/+"))
        await asyncio.wait((settled, client.lost), return_when=asyncio.FIRST_COMPLETED)
        if not settled.done():
            raise ConnectionError("cut")
        return client

    started = time.perf_counter()
    done = await asyncio.gather(*(one(number) for number in range(count)), return_exceptions=True)
    took = time.perf_counter() - started
    broken = 0
    for each in done:
        if isinstance(each, Client):
            each.transport.close()
        else:
            broken += 1
    return took, broken


def storm_table() -> None:
    """A thousand devices that connect, authenticate and subscribe at once."""
    print(f"| broker | {STORM:,} devices at once | s | broken |\n|---|---|---|---|")
    with process_of("bellwire devices") as (port, _):
        for what in ("first time (argon2 for each)", "again (verified secrets remembered)"):
            took, broken = asyncio.run(storm(port, STORM))
            print(f"| bellwire | {what} | {took:.2f} | {broken} |", flush=True)
    if mosquitto_path() is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        passwords = Path(folder) / "passwords"
        passwords.write_text("".join(f"idle-{number}:{SECRET}\n" for number in range(STORM)))
        passwords.chmod(0o644)
        Path(folder).chmod(0o755)
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
        with mosquitto(f"allow_anonymous false\npassword_file {passwords}\n") as port:
            took, broken = asyncio.run(storm(port, STORM))
            print(f"| mosquitto | with its password file | {took:.2f} | {broken} |")


async def _abused(port: int) -> None:
    loop = asyncio.get_running_loop()
    plain = min([p50(await round_trips(port)) for _ in range(3)])
    print(f"| none | {plain:.2f} | 1.00 x |", flush=True)

    def row(what: str, took: float) -> None:
        print(f"| {what} | {took:.2f} | {took / plain:.2f} x |", flush=True)

    half = [
        (await loop.create_connection(asyncio.Protocol, "127.0.0.1", port))[0] for _ in range(1000)
    ]
    row("1,000 half-open connections", p50(await round_trips(port)))
    for transport in half:
        transport.abort()

    dripping = True

    async def drip(number: int) -> None:
        while dripping:
            transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            for byte in connect(f"drip-{number}" + "x" * 100):
                if transport.is_closing() or not dripping:
                    break
                transport.write(bytes((byte,)))  # type: ignore[attr-defined] # a TCP transport
                await asyncio.sleep(0.1)
            transport.abort()

    drips = [loop.create_task(drip(number)) for number in range(200)]
    row("200 that drip their CONNECT", p50(await round_trips(port)))
    dripping = False
    await asyncio.gather(*drips)

    stuck = await open_client("127.0.0.1", port, connect("stuck"), _nothing)
    stuck.transport.write(subscribe("flood/#"))
    await asyncio.sleep(0.1)
    stuck.transport.pause_reading()
    flooding = True

    async def flood() -> None:
        client = await open_client("127.0.0.1", port, connect("flood"), _nothing)
        number = 0
        while flooding and not client.transport.is_closing():
            number += 1
            client.transport.write(publish("flood/x", bytes(1000), number % 65535 + 1))
            await asyncio.sleep(0.002)
        client.transport.close()

    task = loop.create_task(flood())
    row("a subscriber that does not read 500 messages/s", p50(await round_trips(port)))
    flooding = False
    await task
    stuck.transport.abort()


def abuse_table() -> None:
    """What others notice of those who misbehave."""
    print("| abuse | others' invite to received, p50 ms | beside none |\n|---|---|---|")
    with process_of("bellwire") as (port, _):
        asyncio.run(_abused(port))


def main() -> None:
    """Print all tables."""
    room_for_sockets()
    quick = "--quick" in sys.argv
    names = ("bellwire", "amqtt", *(["mosquitto"] if mosquitto_path() else []))
    idle_table(names, (10, 100) if quick else (10, 1000, 5000))
    print()
    storm_table()
    print()
    abuse_table()


if __name__ == "__main__":
    main()
