"""How much a broker does: calls of functions, counted, where seconds would depend on the machine.

``python -m tests.broker_support.counting {stock,ours} {publish,formatted} CLIENTS``
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from tests.bench import broker_servers
from tests.bench.broker_wire import Client, connect, open_client, publish, subscribe


def _nothing(_kind: int, _body: bytes) -> None:
    pass


async def _answered(client: Client, request: bytes, kind: int) -> None:
    answer = asyncio.get_running_loop().create_future()

    def on_packet(first: int, _body: bytes) -> None:
        if first & 0xF0 == kind and not answer.done():
            answer.set_result(None)

    client.on_packet = on_packet
    client.transport.write(request)
    await asyncio.wait_for(answer, 10)


async def _settle() -> None:
    # Stock amqtt goes on in tasks after its answer: let them come to an end.
    for _ in range(200):
        await asyncio.sleep(0)


async def count(name: str, what: str, clients: int) -> int:
    """Calls from the arrival of one packet until all is quiet, with ``clients`` idle ones."""
    maker = broker_servers._amqtt if name == "stock" else broker_servers._bellwire
    broker = maker()
    await broker.start()
    port = broker._servers["default"].instance.sockets[0].getsockname()[1]
    idle = []
    for number in range(clients):
        client = await open_client("127.0.0.1", port, connect(f"idle-{number}"), _nothing)
        await _answered(client, subscribe(f"idle/{number}/invite/+/+"), 0x90)
        idle.append(client)
    door = await open_client("127.0.0.1", port, connect("door"), _nothing)
    await _answered(door, publish("idle/3/invite/door/1", b"x", 1), 0x40)
    await _settle()
    calls = 0

    def profile(frame: Any, event: str, _argument: object) -> None:
        nonlocal calls
        if what == "publish":
            calls += event in ("call", "c_call")
        elif event == "call":
            calls += frame.f_code.co_name == "__repr__" and "amqtt" in frame.f_code.co_filename

    sys.setprofile(profile)
    try:
        if what == "publish":
            await _answered(door, publish("idle/3/invite/door/1", b"x", 2), 0x40)
        else:
            await _answered(door, subscribe("idle/3/answer/+/+", packet_id=3), 0x90)
        await _settle()
    finally:
        sys.setprofile(None)
    for client in (*idle, door):
        client.transport.close()
    return calls


def main() -> None:
    """Print the number."""
    logging.disable(logging.CRITICAL)
    _, name, what, clients = sys.argv
    loop = asyncio.new_event_loop()
    print(loop.run_until_complete(count(name, what, int(clients))), flush=True)
    # The broker is not asked to stop: the process ends, and stock amqtt takes its time.
    import os

    os._exit(0)


if __name__ == "__main__":
    main()
