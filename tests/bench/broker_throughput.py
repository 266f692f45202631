"""QoS 1 messages of 120 bytes a second, publisher to subscriber, through one broker.

``python -m tests.bench.broker_throughput`` measures each broker in its own process, in turns.
"""

from __future__ import annotations

import asyncio
import time

from .broker_servers import SERVERS, running
from .broker_wire import connect, open_client, publish, subscribe

PAYLOAD = bytes(120)
#: Messages not yet acknowledged at once: as a busy client has them, not as a test would like it.
WINDOW = 64


async def throughput(port: int, count: int, *, retain: bool) -> float:
    """Messages a second from PUBLISH to the subscriber."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    subscribed = loop.create_future()
    received = sent = acknowledged = 0

    def on_subscriber(kind: int, _: bytes) -> None:
        nonlocal received
        if kind == 0x90:
            subscribed.set_result(None)
        elif kind & 0xF0 == 0x30:
            received += 1
            if received == count and not done.done():
                done.set_result(None)

    def pump() -> None:
        nonlocal sent
        out = []
        while sent < count and sent - acknowledged < WINDOW:
            sent += 1
            topic = f"load/{sent % 50}"
            out.append(publish(topic, PAYLOAD, sent % 65535 + 1, retain=retain))
        if out:
            publisher.transport.write(b"".join(out))

    def on_publisher(kind: int, _: bytes) -> None:
        nonlocal acknowledged
        if kind == 0x40:
            acknowledged += 1
            if sent - acknowledged <= WINDOW // 2:
                pump()

    subscriber = await open_client("127.0.0.1", port, connect("subscriber"), on_subscriber)
    subscriber.transport.write(subscribe("load/+"))
    await subscribed
    publisher = await open_client("127.0.0.1", port, connect("publisher"), on_publisher)
    started = time.perf_counter()
    pump()
    await asyncio.wait_for(done, 120)
    took = time.perf_counter() - started
    publisher.transport.close()
    subscriber.transport.close()
    return count / took


def measure(names: tuple[str, ...], rounds: int = 3, count: int = 10_000) -> dict[str, float]:
    """The best of some rounds for each broker, taken in turns so that noise meets all."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name in names:
            retain = "persistent" in name
            with running(name) as port:
                asyncio.run(throughput(port, 500, retain=retain))
                rate = asyncio.run(throughput(port, count, retain=retain))
            best[name] = max(best.get(name, 0.0), rate)
    return best


def main() -> None:
    """Print the table."""
    best = measure(tuple(SERVERS))
    stock = best["amqtt"]
    print("| broker | QoS 1 messages/s | beside stock amqtt |\n|---|---|---|")
    for name, rate in best.items():
        print(f"| {name} | {rate:,.0f} | {rate / stock:.2f} x |")


if __name__ == "__main__":
    main()
