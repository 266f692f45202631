"""One measured peer in a process of its own, told what to do by lines of JSON on its input.

``python -m tests.bench.peers ROLE URL NAME PEER [--nagle] [--qos0]``. Roles: ``ping``/``pong`` are
bare paho clients, the floor; ``caller``/``callee`` are the threaded face, with ``aio-`` the asyncio
one, with ``talk-`` the threaded one whose calls go on. Each answers every command with one line of
JSON; times are milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

#: Between two measured calls: long enough for the last one's cells to be cleared everywhere.
PAUSE = 0.003
CONTENT = "somebody is at the front door"


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def commands() -> Any:
    for line in sys.stdin:
        yield json.loads(line)


# --- the floor -----------------------------------------------------------------------------------


def bare(role: str, url: str, name: str, peer: str, nagle: bool, qos: int) -> None:
    """A paho client that sends and waits for the echo, or echoes: QoS 1, one topic each way.

    Topics as long as those of a call's cells, so that as many bytes are on the wire.
    """
    import socket
    from urllib.parse import urlsplit

    import paho.mqtt.client as mqtt

    where = urlsplit(url)
    own, other = (f"sig/v1/{to}/invite/b-writer/{'A' * 22}" for to in (name, peer))
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name)
    ready, echoed = threading.Event(), threading.Event()
    stamp = [0.0]

    def opened(_c: Any, _u: Any, sock: Any) -> None:
        if not nagle:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def came(_c: Any, _u: Any, message: Any) -> None:
        if role == "pong":
            client.publish(other, message.payload, qos=1)
        else:
            stamp[0] = time.perf_counter()
            echoed.set()

    client.on_socket_open = opened
    client.on_message = came
    client.on_connect = lambda *_: client.subscribe(own, qos=qos)
    client.on_subscribe = lambda *_: ready.set()
    client.connect(where.hostname, where.port)
    client.loop_start()
    ready.wait(10)
    say("ready")
    for command in commands():
        times = []
        payload = b"x" * command["size"]
        for _ in range(command["calls"]):
            time.sleep(PAUSE)
            echoed.clear()
            start = time.perf_counter()
            client.publish(other, payload, qos=1)
            if not echoed.wait(5):
                raise SystemExit("no echo within 5 s")
            times.append((stamp[0] - start) * 1000)
        say(times)
    client.loop_stop()


# --- the threaded face ---------------------------------------------------------------------------


def threaded(url: str, name: str, peer: str, nagle: bool, qos: int, *, talk: bool) -> None:
    from device_sdk import CallEventListener, SignalingClient

    _allow_nagle(nagle)
    # A hundred calls underway are more than the caps against floods let through.
    client = SignalingClient(
        name, url, subscribe_qos=qos, max_calls_per_caller=200, max_calls=200, talk=talk
    )
    manager = client.call_manager
    heard: dict[str, Callable[[float], None]] = {}

    class Listener(CallEventListener):
        def on_local_invitation_received_by_peer(self, invitation: Any) -> None:
            heard["received"](time.perf_counter())

        def on_local_invitation_accepted(self, invitation: Any, response: Any) -> None:
            heard["accepted"](time.perf_counter())

        def on_local_invitation_failure(self, invitation: Any, error: Any) -> None:
            raise SystemExit(f"{invitation} failed: {error.name}")

        def on_remote_invitation_received(self, invitation: Any) -> None:
            if isinstance(invitation.content, str) and invitation.content.startswith("accept"):
                accepts[invitation.call_id] = time.perf_counter()
                manager.accept_remote_invitation(invitation)

        def on_remote_invitation_accepted(self, invitation: Any) -> None:
            start = accepts.pop(invitation.call_id, None)
            if start is not None:
                told.append((time.perf_counter() - start) * 1000)

        def on_remote_invitation_canceled(self, invitation: Any) -> None:
            silences.append(time.time())

    accepts: dict[str, float] = {}
    told: list[float] = []
    silences: list[float] = []
    manager.add_event_listener(Listener())
    client.login()
    talker: Talker | None = None
    say("ready")
    for command in commands():
        what = command["do"]
        if what == "told":
            say([told.copy(), silences.copy()])
            told.clear()
            silences.clear()
        elif what == "ring":
            say(_ring(client, heard, peer, command["calls"]))
        elif what == "cancel":
            say(_cancel(client, heard, peer, command["calls"]))
        elif what == "accept":
            say(_accepted(client, heard, peer, command["calls"]))
        elif what == "talk":
            talker = talker or Talker(client, heard, peer)
            say(talker.measure(command["calls"]))
        elif what == "rate":
            say(_rate(client, heard, peer, command["calls"], command["underway"]))
    client.logout()


def _settled(client: Any) -> None:
    """Wait until the last call's cells are cleared: the next one is measured alone."""
    until = time.monotonic() + 5
    while client._session.engine.caller.calls and time.monotonic() < until:
        time.sleep(0.0005)
    time.sleep(PAUSE)


def _ring(client: Any, heard: Any, peer: str, calls: int) -> list[float]:
    """Invite to receivedByPeer, one call at a time."""
    event = threading.Event()
    stamp = [0.0]

    def received(at: float) -> None:
        stamp[0] = at
        event.set()

    heard["received"] = received
    times = []
    for _ in range(calls):
        _settled(client)
        event.clear()
        invitation = client.call_manager.create_local_invitation(peer)
        invitation.content = CONTENT
        start = time.perf_counter()
        client.call_manager.send_local_invitation(invitation)
        if not event.wait(5):
            raise SystemExit("not received within 5 s")
        times.append((stamp[0] - start) * 1000)
        client.call_manager.cancel_local_invitation(invitation)
        invitation.wait(5)
    return times


def _cancel(client: Any, heard: Any, peer: str, calls: int) -> list[float]:
    """When each cancel was said, by the wall clock that all processes share."""
    event = threading.Event()
    heard["received"] = lambda _: event.set()
    starts = []
    for _ in range(calls):
        _settled(client)
        event.clear()
        invitation = client.call_manager.create_local_invitation(peer)
        client.call_manager.send_local_invitation(invitation)
        event.wait(5)
        time.sleep(PAUSE)
        starts.append(time.time())
        client.call_manager.cancel_local_invitation(invitation)
        invitation.wait(5)
    _settled(client)
    return starts


def _accepted(client: Any, heard: Any, peer: str, calls: int) -> list[float]:
    """Send to accepted, told here."""
    event = threading.Event()
    stamp = [0.0]

    def accepted(at: float) -> None:
        stamp[0] = at
        event.set()

    heard["received"] = lambda _: None
    heard["accepted"] = accepted
    times = []
    for _ in range(calls):
        _settled(client)
        event.clear()
        invitation = client.call_manager.create_local_invitation(peer)
        invitation.content = "accept"
        start = time.perf_counter()
        client.call_manager.send_local_invitation(invitation)
        event.wait(5)
        times.append((stamp[0] - start) * 1000)
    _settled(client)
    return times


class Talker:
    """Messages in one call that goes on; acknowledged is when this engine has read that."""

    def __init__(self, client: Any, heard: Any, peer: str) -> None:
        from device_sdk.core.talk_side import TalkSide

        hear, note = TalkSide._hear, self._note

        def heard_it(self: Any, call: Any, *args: Any, **options: Any) -> Any:
            after = hear(self, call, *args, **options)
            if call.talk.waits and not after.talk.waits:
                note()
            return after

        TalkSide._hear = heard_it  # type: ignore[method-assign]  # the app is not told of it
        heard["received"] = heard["accepted"] = lambda _: None
        self._event, self._at = threading.Event(), 0.0
        self._call = client.call(peer, "accept").call

    def _note(self) -> None:
        self._at = time.perf_counter()
        self._event.set()

    def measure(self, messages: int) -> list[float]:
        """Message to acknowledged, one at a time."""
        times = []
        for _ in range(messages):
            time.sleep(PAUSE)
            self._event.clear()
            start = time.perf_counter()
            self._call.send({"text": CONTENT})
            if not self._event.wait(5):
                raise SystemExit("not acknowledged within 5 s")
            times.append((self._at - start) * 1000)
        return times


def _rate(client: Any, heard: Any, peer: str, calls: int, underway: int) -> float:
    """Whole calls (sent, rung, accepted, told) a second, with so many underway at once."""
    heard["received"] = lambda _: None
    heard["accepted"] = lambda _: slots.release()
    slots = threading.Semaphore(underway)
    start = time.perf_counter()
    for _ in range(calls):
        if not slots.acquire(timeout=30):
            raise SystemExit("no call was accepted for 30 s")
        invitation = client.call_manager.create_local_invitation(peer)
        invitation.content = "accept"
        client.call_manager.send_local_invitation(invitation)
    for _ in range(underway):
        slots.acquire()
    return calls / (time.perf_counter() - start)


# --- the asyncio face ----------------------------------------------------------------------------


def asynchronous(url: str, name: str, peer: str, nagle: bool) -> None:
    _allow_nagle(nagle)
    asyncio.run(_asynchronous(url, name, peer))


async def _asynchronous(url: str, name: str, peer: str) -> None:
    from device_sdk.aio import SignalingClient

    loop = asyncio.get_running_loop()
    async with SignalingClient(name, url) as client:
        events = client.events()
        say("ready")
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command = json.loads(line)
            times = []
            for _ in range(command["calls"]):
                while client._session and client._session.engine.caller.calls:
                    await asyncio.sleep(0.0005)
                await asyncio.sleep(PAUSE)
                invitation = client.create(peer)
                invitation.content = CONTENT
                start = time.perf_counter()
                client.send(invitation)
                while (await anext(events)).name != "local_invitation_received_by_peer":
                    pass
                times.append((time.perf_counter() - start) * 1000)
                await invitation.cancel()
                await invitation.wait()
            say(times)


def _allow_nagle(nagle: bool) -> None:
    """Leave the sockets as paho makes them, to show what that costs."""
    if nagle:
        from device_sdk.client.link import dialing

        dialing._set_nodelay = lambda *_: None


if __name__ == "__main__":
    role, url, name, peer = sys.argv[1:5]
    nagle = "--nagle" in sys.argv
    qos = 0 if "--qos0" in sys.argv else 1
    if role in ("ping", "pong"):
        bare(role, url, name, peer, nagle, qos)
    elif role.startswith("aio-"):
        asynchronous(url, name, peer, nagle)
    else:
        threaded(url, name, peer, nagle, qos, talk=role.startswith("talk-"))
