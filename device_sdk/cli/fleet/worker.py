"""One process of a fleet: its devices, their calls, and what it is told to do with them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import resource
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from ...core.effects import Accept, Cancel, Refuse, Send
from ...core.events import (
    ConnectionStateChanged,
    CoreEvent,
    LocalEvent,
    Name,
    PeerLost,
    RemoteEvent,
)
from ...core.settings import Settings
from ...core.wire import topics
from ...errors import BellwireError, BrokerRefused, InvitationApiCallError
from .bare import Bare, PingPong, sweep
from .books import Books, CallRecord, Plan
from .connection import Address, resolve
from .device import FleetDevice, FleetSite
from .plan import Broker, Peer, Share

#: A call is rung for so long at most; nobody in a fleet lets it ring.
RING_TIMEOUT, ACK_TIMEOUT = 20.0, 15.0
#: From a ring to the answer, and from a press to a cancel.
THINKING = (0.05, 0.4)
_PLANS = (Plan.ACCEPT, Plan.REFUSE, Plan.CANCEL)
_WEIGHTS = (7, 2, 1)
#: Of one doorbell at one panel; a panel refuses the ninth as busy, and nobody presses so often.
_AT_ONCE = 4
#: After the last press, for calls to end.
_SETTLE = RING_TIMEOUT + 10.0
#: After a storm calls go on for so long.
_AFTER_STORM = 2.0
_LOGOUT = 10.0
_PING_EVERY = 0.02
#: Each device looks after its keep-alive once in so many ticks: a second.
_TICK, _TICKS = 0.05, 20
#: Ticks from one word of how far it is to the next.
_PROGRESS = 5
_chance = random.Random()  # noqa: S311 - who calls whom is no secret
#: Findings that are told in words.
_TOLD = 20


def site_of(broker: Broker) -> FleetSite:
    """The broker's addresses, resolved once; raises ``OSError``, :class:`InvalidArgument`."""
    context = None if not broker.urls[0].tls or broker.tls is None else broker.tls.make_context()
    addresses = []
    for url in broker.urls:
        host, port = resolve(url.host, url.port)
        name = url.certified if context is not None else None
        addresses.append(Address(host, port, str(url), context, name))
    settings = Settings(
        ring_timeout=RING_TIMEOUT, ack_timeout=ACK_TIMEOUT, accept_timeout=broker.accept_timeout
    )
    return FleetSite(addresses, broker.realm, broker.keepalive, broker.subscribe_qos, settings)


class Worker:
    """The devices of one process; everything runs in its one event loop."""

    def __init__(self, share: Share, report: Callable[[str, Any], None]) -> None:
        self._share = share
        self._report = report
        self._site = site_of(share.broker)
        self._traffic: Counter[str] = Counter()
        self.books = Books()
        self.phase = "login"
        self.devices = {
            peer.name: FleetDevice(
                peer.name, peer.password, n, self._site, self._told, self._changed
            )
            for n, peer in enumerate(share.peers)
        }
        for device in self.devices.values():
            device.traffic = self._traffic
        self._calls = {peer.name: peer.calls for peer in share.peers if peer.calls}
        self._callers = list(self._calls)
        self._linked = 0
        self._all_linked = asyncio.Event()
        #: Times without a link of everybody: from, until, how many at most were without.
        self.outages: list[list[float]] = []
        self._complete = False
        #: How late this process was at most, by phase: so long it served nobody.
        self._late: dict[str, float] = {}
        #: What the broker said to one that it does not let in.
        self._refusal: BrokerRefused | None = None
        #: Seconds of the ping-pong, there and back, by phase.
        self._pings: dict[str, list[float]] = {}
        self._bare: list[Bare] = []
        self._caller_task: asyncio.Task[None] | None = None
        self._ticker_task: asyncio.Task[None] | None = None
        self._ping_task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._boots: list[asyncio.TimerHandle] = []

    # --- what it is told to do ---------------------------------------------------------------

    async def login(self) -> dict[str, Any]:
        """All boot and log in; the calling begins with the first who are in.

        Raises :class:`LoginError` for a broker that is not there, or that refuses one of them.
        """
        await self._begin()
        return await self._storm("login", self._boot)

    async def alone(self, seconds: float) -> dict[str, Any]:
        """The few have the broker for themselves; the others are not in yet.

        Raises as :meth:`login` does.
        """
        if self._share.apart:
            await self._begin()
            await self._storm("first", lambda device: device.start())
        self.phase = "alone"
        return await self._measured(lambda: asyncio.sleep(seconds))

    async def calm(self, seconds: float) -> dict[str, Any]:
        """Calls, and nothing that disturbs them."""
        self.phase = "calm"
        return await self._measured(lambda: asyncio.sleep(seconds))

    async def cut(self) -> dict[str, Any]:
        """All links break at once; the devices are on."""
        return await self._storm("reconnect", lambda device: device.cut())

    async def again(self) -> dict[str, Any]:
        """The power of the whole site goes and comes: all log in anew, as they have booted."""
        now = time.monotonic()
        for device in self.devices.values():
            self.books.powered_off(device.name, now)
            device.power_off()
        return await self._storm("again", self._boot)

    async def finish(self) -> dict[str, Any]:
        """Let calls end, log all out, judge, and leave nothing behind."""
        self.phase = "end"
        for boot in self._boots:
            boot.cancel()  # it was stopped before all were on
        self._complete = False
        _end(self._caller_task)
        _end(self._ping_task)
        until = time.monotonic() + _SETTLE
        while self.books.open and time.monotonic() < until:
            await asyncio.sleep(0.05)
        self.books.judge()
        await asyncio.gather(*(device.log_out(_LOGOUT) for device in self.devices.values()))
        _end(self._ticker_task)
        for bare in self._bare:
            bare.close()
        peers = (*self._share.peers, *(self._share.pair or ()))
        secrets_of = {peer.name: peer.password for peer in peers}
        left, problems = await sweep(secrets_of, self._site, Counter())
        return self._result(left, problems)

    # --- storms and calm ---------------------------------------------------------------------

    async def _begin(self) -> None:
        """Once: see that every address is there, and begin to call and to play ping-pong."""
        if self._caller_task is not None:
            return
        if self._share.pair is not None:
            door = self._share.pair[0]
            for address in self._site.addresses:
                probe = Bare(door.name, door.password, self._site, Counter())
                await probe.open(address)
                probe.close()
            await self._begin_ping(*self._share.pair)
        self._caller_task = self._loop.create_task(self._calling())
        self._ticker_task = self._loop.create_task(self._ticking())

    def _boot(self, device: FleetDevice) -> None:
        if not device.alive:
            after = _chance.uniform(0.0, self._share.boot_spread)
            self._boots.append(self._loop.call_later(after, device.start))

    async def _storm(self, phase: str, blow: Callable[[FleetDevice], None]) -> dict[str, Any]:
        self.phase = phase
        self._all_linked.clear()

        async def all_in() -> None:
            for device in self.devices.values():
                blow(device)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._share.login_timeout):
                    while self._linked < len(self.devices):
                        self._all_linked.clear()
                        await self._all_linked.wait()
                        if self._refusal is not None and phase in ("first", "login"):
                            raise self._refusal
            self._complete = self._linked == len(self.devices)

        figures = await self._measured(all_in)
        figures["missing"] = len(self.devices) - self._linked
        errors = Counter(
            str(device.error) for device in self.devices.values()
            if not device.linked and device.error is not None
        )  # fmt: skip
        figures["errors"] = dict(errors.most_common(3))
        await asyncio.sleep(min(_AFTER_STORM, self._share.seconds))
        return figures

    async def _measured(self, run: Callable[[], Awaitable[None]]) -> dict[str, Any]:
        before, used, began = Counter(self._traffic), _cpu(), time.monotonic()
        made = len(self.books.calls)
        await run()
        ended = time.monotonic()
        return {
            "began": began,
            "ended": ended,
            "calls": len(self.books.calls) - made,
            "cpu": _cpu() - used,
            "traffic": {name: self._traffic[name] - before[name] for name in self._traffic},
        }

    async def _begin_ping(self, door: Peer, panel: Peer) -> None:
        ends = [Bare(p.name, p.password, self._site, Counter()) for p in (door, panel)]
        for number, bare in enumerate(ends):
            await bare.open_any(self._site.addresses, number)
        self._bare += ends
        ping = PingPong(ends[0], ends[1], self._site.realm)
        self._ping_task = self._loop.create_task(self._pinging(ping))

    async def _pinging(self, ping: PingPong) -> None:
        with contextlib.suppress(BellwireError, TimeoutError):
            # When its link breaks, what it has is told.
            await ping.subscribe()
            while True:
                phase = self.phase
                took = await ping.play()
                self._pings.setdefault(phase, []).append(took)
                await asyncio.sleep(_PING_EVERY)

    async def _ticking(self) -> None:
        devices = list(self.devices.values())
        for turn in itertools.count():
            due = time.monotonic() + _TICK
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self._late[self.phase] = max(self._late.get(self.phase, 0.0), now - due)
            # Some at a time: thousands that ping at one moment are not what a site is like.
            for device in devices[turn % _TICKS :: _TICKS]:
                device.tick(now)
            if turn % _TICKS == 0:
                for bare in self._bare:
                    bare.tick(now)
            if turn % _PROGRESS:
                continue
            self._report(
                "progress",
                {"linked": self._linked, "calls": len(self.books.calls),
                 "faults": len(self.books.findings)},
            )  # fmt: skip

    # --- calls -------------------------------------------------------------------------------

    async def _calling(self) -> None:
        at = time.monotonic()
        while True:
            at = max(at, time.monotonic() - 1.0) + _chance.expovariate(self._share.rate or 1e-6)
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            name = _chance.choice(self._callers) if self._callers else ""
            callee = _chance.choice(self._calls[name]) if name else ""
            if not name or self.books.underway(name, callee) >= _AT_ONCE:
                continue
            if self.devices[name].linked and self.devices[callee].linked:
                self._press(self.devices[name], callee)

    def _press(self, door: FleetDevice, callee: str) -> None:
        (plan,) = _chance.choices(_PLANS, _WEIGHTS)
        call_id = topics.call_id_from_bytes(secrets.token_bytes(16))
        call = CallRecord(plan, door.name, callee, self.phase, time.monotonic())
        self.books.pressed(call_id, call)
        try:
            door.feed(Send(call_id, callee))
        except InvitationApiCallError:
            self.books.not_made(call_id)
            return
        if plan is Plan.CANCEL:
            self._later(lambda: door.feed(Cancel(callee, call_id)))

    def _told(self, device: FleetDevice, event: CoreEvent) -> None:
        now = time.monotonic()
        if isinstance(event, LocalEvent | PeerLost):
            self.books.heard(event.name, event.call.call_id, device.name, now)
        elif isinstance(event, RemoteEvent):
            call_id, caller = event.call.call_id, event.call.caller
            self.books.heard(event.name, call_id, device.name, now)
            if event.name == Name.REMOTE_RECEIVED and (call := self.books.calls.get(call_id)):
                if call.plan is Plan.ACCEPT:
                    self._later(lambda: device.feed(Accept(caller, call_id)))
                elif call.plan is Plan.REFUSE:
                    self._later(lambda: device.feed(Refuse(caller, call_id)))
        elif isinstance(event, ConnectionStateChanged) and isinstance(device.error, BrokerRefused):
            code = device.error.return_code
            self._refusal = BrokerRefused(code, f"{device.name}: {device.error}")
            self._all_linked.set()

    def _later(self, act: Callable[[], None]) -> None:
        """Do it as a person would, after a moment; it may have ended by then."""

        def do() -> None:
            with contextlib.suppress(InvitationApiCallError):
                act()

        self._loop.call_later(_chance.uniform(*THINKING), do)

    def _changed(self, device: FleetDevice) -> None:
        self._linked += 1 if device.linked else -1
        if not device.linked:
            self.books.unlinked(device.name)
        missing = len(self.devices) - self._linked
        if missing and self._complete:
            if not self.outages or self.outages[-1][1]:
                self.outages.append([time.monotonic(), 0.0, 0])
            self.outages[-1][2] = max(missing, self.outages[-1][2])
        elif not missing and self.outages and not self.outages[-1][1]:
            self.outages[-1][1] = time.monotonic()
        if not missing:
            self._all_linked.set()

    # --- what came of it ---------------------------------------------------------------------

    def _result(self, left: int, problems: list[str]) -> dict[str, Any]:
        rang: dict[str, list[float]] = {}
        received: dict[str, list[float]] = {}
        for call in self.books.calls.values():
            if call.touched:
                continue  # how long a link was away is told as such
            if call.rang_at is not None:
                rang.setdefault(call.phase, []).append(call.rang_at - call.pressed_at)
            if call.received_at is not None:
                received.setdefault(call.phase, []).append(call.received_at - call.pressed_at)
        faults = Counter(str(finding.fault) for finding in self.books.findings)
        return {
            "apart": self._share.apart,
            "devices": len(self.devices),
            "late": self._late,
            "rang": rang,
            "received": received,
            "ping": self._pings,
            "calls": self.books.counts(),
            "faults": dict(faults),
            "findings": [f"{f.fault}: {f.text}" for f in self.books.findings[:_TOLD]],
            "outages": self.outages,
            "left": left,
            "problems": problems[:_TOLD],
        }


def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
