"""A day of 500 devices in half an hour, one of them hostile: ``make soak-day``.

``python -m tests.soak.day [--minutes 30] [--devices 500]``. A call a second between doors and
panels; meanwhile devices are restarted (with a goodbye or without), removed, added, narrowed and
widened by ``bellwire-broker device …`` on the running broker; and one registered device attacks the
broker all the time (:mod:`tests.soak.hostile`). Every figure is printed. Exit 1 if a call was lost,
told twice, rang after its end or was split; if somebody could not log in, or could after having
been removed; if the broker's memory or places grew.

A call counts as *touched* if one of its ends was restarted, removed or changed while it went on:
then it has to end, once, and at both ends alike. Any other call has to end as it was meant to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped] # ships no types

from broker_config.access.registry import HASHER, Device, Registry, save
from device_sdk import ConnectionState, LoginError
from device_sdk.aio import SignalingClient
from tests.bench.broker_scale import room_for_sockets
from tests.broker_support.raw import Raw
from tests.servers import free_port

from .day_books import Books, Call, Teller

SECRET = "correct horse"
ATTACKER, WATCHER = "mallory", "watcher"
#: Those whom the attacker may call; they are called by others just the same.
VICTIMS = 5
TIMERS: dict[str, Any] = {"ring_timeout": 20.0, "ack_timeout": 15.0, "missed_call_ttl": 20.0}
#: Seconds after a change until a call counts as undisturbed, and until a removal has to be felt.
SETTLE, FELT = 3.0, 15.0
#: What the issue allows the broker to grow by; and, from the second third to the last, noise.
MEMORY, NOISE = 64.0, 6.0
SAMPLES = 2.0


@dataclass
class Member:
    """A device: its client, and what is being done to it."""

    name: str
    client: SignalingClient
    teller: Teller
    busy: bool = False
    changed: float = 0.0
    narrowed: bool = False

    def undisturbed(self, since: float) -> bool:
        """Whether nothing was done to it since then."""
        return not self.busy and self.changed < since - SETTLE


class Ringer(Teller):
    """Answers as the call's plan says, after a while, as people do."""

    def __init__(self, books: Books, life: int) -> None:
        super().__init__(books, life)
        self._answering: set[asyncio.Task[None]] = set()

    def on_remote_invitation_received(self, invitation: Any) -> None:
        call = self.at_panel(invitation.call_id, "received")
        if call is not None and call.plan != "cancel":
            task = asyncio.create_task(self._answer(invitation, call))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, invitation: Any, call: Call) -> None:
        await asyncio.sleep(random.uniform(0.1, 2.0))
        with contextlib.suppress(RuntimeError):  # it ended meanwhile
            if call.plan == "accept":
                await invitation.accept("coming")
            else:
                await invitation.refuse()


class Broker:
    """``bellwire-broker run`` in a directory that is set up, and its figures."""

    def __init__(self, home: Path, names: list[str]) -> None:
        self.home, self.port, self._metrics = home, free_port(), free_port()
        (home / "broker.toml").write_text(
            f'listen.mqtts = ""\nlisten.mqtt = "127.0.0.1:{self.port}"\nlisten.announce = false\n'
            f'metrics.listen = "127.0.0.1:{self._metrics}"\nlog.level = "warning"\n'
        )
        hashed = HASHER.hash(SECRET)
        devices = {name: Device(name, hashed, may_call=allowed(name)) for name in names}
        devices[WATCHER] = Device(WATCHER, hashed, watches=True)
        save(home / "devices.json", Registry(devices))
        self.log = (home / "broker.log").open("w")
        self.process = subprocess.Popen([*COMMAND, "run", str(home)], stdout=subprocess.PIPE,
                                        stderr=self.log, text=True)  # fmt: skip
        assert self.process.stdout is not None
        assert "listening" in self.process.stdout.readline(), (home / "broker.log").read_text()
        self._seen = psutil.Process(self.process.pid)
        self.late = 0  # changes that it had not applied within the five seconds they wait for it

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def figures(self) -> dict[str, Any]:
        """What /status says, with memory in MB and open descriptors."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/status", timeout=30) as got:
            status: dict[str, Any] = json.load(got)
        return status | {"mb": self._seen.memory_info().rss / 2**20, "files": self._seen.num_fds()}

    async def device(self, *arguments: str) -> None:
        """``bellwire-broker device …``; a failure ends the soak, one that is late is counted."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "device", *arguments, "--dir", str(self.home),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        if "has not read it" in said.decode():  # it is written, and the broker is busy
            self.late += 1
        else:
            assert process.returncode == 0, f"device {arguments}: {said.decode()}"

    def stop(self) -> None:
        """End it, by force if it does not listen."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            print("the broker does not stop within 20 s")
            self.process.kill()
            self.process.wait(20)
        self.log.close()


COMMAND = [sys.executable, "-c", "import sys; from broker_config.cli import main; sys.exit(main())"]


def allowed(name: str) -> tuple[str, ...]:
    """Whom a device may call."""
    if name == ATTACKER:
        return tuple(f"panel-{i}" for i in range(VICTIMS))
    return ("panel-*",) if name.startswith("door") else ()


@dataclass
class Day:
    """The broker, its books, and all that is done to it."""

    broker: Broker
    minutes: float
    books: Books = field(default_factory=Books)
    members: dict[str, Member] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    numbers: Any = field(default_factory=itertools.count)

    def fault(self, name: str, text: str) -> None:
        """Something that must not be, and where to look."""
        self.faults[name] += 1
        self.told.append(f"{name}: {text}")

    # --- devices ---------------------------------------------------------------------------

    async def log_in(self, name: str, password: str = SECRET) -> None:
        """Begin a life of a device; that it gets in is part of what is promised."""
        kind = Ringer if name.startswith("panel") else Teller
        teller = kind(self.books, next(self.numbers))
        client = SignalingClient(name, self.broker.url, password=password, **TIMERS)
        client.call_manager.add_event_listener(teller)
        began = time.monotonic()
        try:
            await client.login(30, keep_trying=True)
        except LoginError as error:
            self.fault("locked out", f"{name} after {time.monotonic() - began:.1f} s: {error!r}")
            return
        self.members[name] = Member(name, client, teller, changed=time.monotonic())

    async def end(self, member: Member, *, abruptly: bool) -> None:
        """End a life of a device: the calls it is in are touched, and it is told nothing more."""
        member.busy = True
        if abruptly:
            member.teller.over = True
            cut(member.client)
        await member.client.logout()
        await asyncio.sleep(0)
        member.teller.over = True
        for call in self.books.calls.values():
            if member.name in (call.door, call.panel) and not call.decided:
                call.touched = True
                call.door_died |= call.door == member.name and not call.at_door
            if call.panel == member.name:
                call.lives.add(member.teller.life)
            if call.door == member.name and not [w for w in call.at_door if w != "received"]:
                call.door_died = True
        self.members.pop(member.name, None)

    async def restart(self) -> None:
        member = self.somebody()
        abruptly = random.random() < 0.5
        await self.end(member, abruptly=abruptly)
        await asyncio.sleep(random.uniform(0, 4))
        secret = self.broker.home / f"{member.name}.secret"
        await self.log_in(member.name, secret.read_text().strip() if secret.exists() else SECRET)
        self.done["restarted without a goodbye" if abruptly else "restarted"] += 1

    async def replace(self) -> None:
        """Remove a device, see that it is out, and add another."""
        member = self.somebody()
        member.busy = True
        secret = self.broker.home / f"{member.name}.secret"
        password = secret.read_text().strip() if secret.exists() else SECRET
        await self.broker.device("remove", member.name)
        began = time.monotonic()
        while await asyncio.to_thread(self.lets_in, member.name, password):
            if time.monotonic() > began + FELT:
                self.fault(
                    "not removed", f"{member.name} can log in {FELT:.0f} s after its removal"
                )
                break
            await asyncio.sleep(0.5)
        while linked(member.client) and time.monotonic() < began + FELT:
            await asyncio.sleep(0.2)
        if linked(member.client):
            self.fault("not removed", f"{member.name} is connected {FELT:.0f} s after its removal")
        await self.end(member, abruptly=True)
        self.done["removed"] += 1
        secret.unlink(missing_ok=True)
        kind = member.name.split("-")[0]
        name = f"{kind}-new-{next(self.numbers)}" if random.random() < 0.5 else member.name
        if name.startswith("panel") and int(name.split("-")[-1]) < VICTIMS:
            name = member.name
        may = ["--may-call", *allowed(name)] if allowed(name) else []
        secret = self.broker.home / f"{name}.secret"
        await self.broker.device("add", name, *may, "--secret-file", str(secret))
        await self.log_in(name, secret.read_text().strip())
        self.done["added"] += 1

    async def narrow(self) -> None:
        """Let a door call one panel alone for a while; what it may not must not ring."""
        member = self.somebody("door")
        member.busy = True
        await self.broker.device("set", member.name, "--may-call", "panel-0")
        member.narrowed, member.busy, member.changed = True, False, time.monotonic()
        self.done["narrowed"] += 1
        await asyncio.sleep(SETTLE + 1)
        if self.members.get(member.name) is member:
            await self.call(member, self.somebody("panel", but="panel-0"), "forbidden")
            await self.call(member, self.members.get("panel-0"), "accept")
        if self.members.get(member.name) is member:
            member.busy = True
            await self.broker.device("set", member.name, "--may-call", "panel-*")
            member.narrowed, member.busy, member.changed = False, False, time.monotonic()
            self.done["widened"] += 1

    def lets_in(self, name: str, password: str) -> bool:
        """Whether the broker lets a device in; silence is a no, which may come late on purpose."""
        source = f"127.0.1.{next(self.numbers) % 250 + 1}"  # who is refused often waits for it
        try:
            with Raw(self.broker.port, source=source) as raw:
                return raw.connect(f"{name}.again", user=name, password=password) == 0
        except TimeoutError:
            return False

    def somebody(self, kind: str = "", but: str = "") -> Member:
        """Anybody to whom nothing is being done."""
        free = [
            m for m in self.members.values()
            if m.name.startswith(kind) and m.name != but and not m.busy and not m.narrowed
        ]  # fmt: skip
        return random.choice(free)

    # --- calls -----------------------------------------------------------------------------

    async def call(self, door: Member, panel: Member | None, plan: str) -> None:
        """One call from press to end."""
        if panel is None:
            return
        invitation = door.client.create(panel.name)
        call = Call(plan, door.name, panel.name, time.monotonic())
        self.books.calls[invitation.call_id] = call
        call.touched = not (door.undisturbed(call.sent) and panel.undisturbed(call.sent))
        try:
            door.client.send(invitation)
            if plan == "cancel":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(invitation.wait(), random.uniform(0.2, 3))
                with contextlib.suppress(RuntimeError):  # it ended in that moment
                    door.client.cancel(invitation)
            async with asyncio.timeout(60):
                await invitation.wait()
        except TimeoutError:
            pass  # the books see that it never ended
        except RuntimeError as error:  # the door was ended in that moment
            call.touched = call.door_died = True
            self.done[f"not sent: {type(error).__name__}"] += 1
        call.touched |= self.members.get(door.name) is not door or door.busy
        call.touched |= self.members.get(panel.name) is not panel or panel.busy
        call.touched |= max(door.changed, panel.changed) > call.sent
        call.over = True

    async def calling(self, group: asyncio.TaskGroup, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(random.expovariate(1.0))
            panel = self.members.get(f"panel-{random.randrange(VICTIMS)}")
            if panel is None or random.random() < 0.8:
                panel = self.somebody("panel")
            plan = random.choices(("accept", "refuse", "cancel"), (6, 2, 2))[0]
            group.create_task(self.call(self.somebody("door"), panel, plan))

    async def changing(self, group: asyncio.TaskGroup, until: float) -> None:
        """Something is done to a device every other second, by one hand as in a real one."""
        while time.monotonic() < until - 30:
            await asyncio.sleep(random.expovariate(0.5))
            what = random.choices((self.restart, self.replace, self.narrow), (6, 2, 2))[0]
            if what is self.replace:  # it changes the registry: one after the other
                await what()
            else:
                group.create_task(what())

    async def sampling(self, until: float) -> None:
        while time.monotonic() < until:
            try:
                figures = await asyncio.to_thread(self.broker.figures)
            except OSError as error:
                self.fault("standstill", f"no /status: {error}")
                continue
            self.samples.append((time.monotonic(), figures | {"members": len(self.members)}))
            await asyncio.sleep(SAMPLES)


def linked(client: SignalingClient) -> bool:
    """Whether it has a connection."""
    return client.connection_state is ConnectionState.CONNECTED


def cut(client: SignalingClient) -> None:
    """Take the connection away, as a power cut does: nothing more is said."""
    link = client._owner._link if client._owner is not None else None
    if link is not None and link.fileno() >= 0:
        with socket.socket(fileno=os.dup(link.fileno())) as sock, contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.soak.day", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--peaceful", action="store_true", help="without the hostile device")
    asked = parser.parse_args()
    random.seed(asked.seed)
    room_for_sockets()
    from .day_report import spend

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(spend(Path(folder), asked))


if __name__ == "__main__":
    sys.exit(main())
