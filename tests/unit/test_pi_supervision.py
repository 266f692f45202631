"""What ends a service and what does not: an exception in each place, in doorbell and panel.

The places and what becomes of them are those of test_supervision, where the client's part is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_sdk import Policy, SignalingClient
from device_sdk.client.clocks import since_start
from device_sdk.core.wire import codec
from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.config.panel import read_panel
from device_sdk.services.service.doorbell import DoorbellService
from device_sdk.services.service.link import ClientRunner
from device_sdk.services.service.loop import Loop
from device_sdk.services.service.panel import PanelService
from device_sdk.services.service.sd_notify import Notifier
from device_sdk.testing import MemoryBroker
from tests.peers import PATIENCE, ThreadedPeer, raising
from tests.unit.test_supervision import OUTCOMES, Faulty, FaultyLinks, handler

ACCOUNT = '[account]\npeer = "{}"\nbroker = "mqtt://127.0.0.1:1"\n'
DOORBELL = '[[button]]\npin = 17\nrings = ["other"]\nring_time = 20\n'
PANEL = "[answer]\npin = 5\n[refuse]\npin = 6\n"


class Beats(Notifier):
    """Counts what the watchdog is fed with."""

    def __init__(self) -> None:
        super().__init__({})
        self.interval = 0.05
        self.beats = 0

    def beat(self) -> None:
        self.beats += 1


class Contacts:
    """In place of pins: whatever is watched can be pressed."""

    def __init__(self) -> None:
        self.edges: dict[str, Callable[[bool], None]] = {}
        self.held = False

    def watch(self, name: str, _pin: Any, edge: Callable[[bool], None]) -> Any:
        self.edges[name] = edge
        return self

    def output(self, _name: str, _pin: Any) -> Any:
        return self

    def active(self) -> bool:
        return self.held

    def set(self, _on: bool) -> None:
        """Nothing shows it."""

    def close(self) -> None:
        """Nothing is open."""


class Service:
    """One service on a broker in memory, on a thread of its own, and another peer beside it."""

    def __init__(self, role: str, folder: Path) -> None:
        self.role, self.broker = role, MemoryBroker()
        self.links = FaultyLinks(self.broker)
        self.clock, self.wall = Faulty(since_start), Faulty(time.time)
        self.contacts, self.notifier = Contacts(), Beats()
        self.loop = Loop(self.notifier)
        self.other = ThreadedPeer("other", self.broker)
        path = folder / f"{role}.toml"
        path.write_text(ACCOUNT.format(role) + (DOORBELL if role == "doorbell" else PANEL))
        settings = read_doorbell(path) if role == "doorbell" else read_panel(path)
        made = DoorbellService if role == "doorbell" else PanelService
        self.service: Any = made(settings, self.contacts, self.loop, self.notifier, self._link)
        self.code: list[int] = []
        self.thread = threading.Thread(target=lambda: self.code.append(self.service.run()))

    @property
    def client(self) -> SignalingClient:
        client: SignalingClient = self.service._link.client
        return client

    def _link(self, *args: Any) -> ClientRunner:
        def make(account: Any) -> SignalingClient:
            return SignalingClient(
                account.peer, self.links, clock=self.clock, wall=self.wall, keepalive=1
            )

        return ClientRunner(*args, make=make)

    def start(self) -> None:
        self.other.login()
        self.thread.start()
        self.other.watch(self.role)
        self.other.expect("presence_changed")
        self.until(lambda: self.client.connection_state.name == "CONNECTED")

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def provoke(self) -> None:
        """Have the other peer call it."""
        self.other.press(self.role)

    def works(self) -> None:
        """The doorbell rings the other, the panel is rung by it; and the watchdog is fed."""
        if self.role == "doorbell":
            before = self.other.names().count("remote_invitation_received")
            self.contacts.held = True
            self.contacts.edges["door"](True)
            self.other.expect("remote_invitation_received", nth=before + 1)
            self.contacts.held = False
            self.contacts.edges["door"](False)
        else:
            call = self.other.press(self.role)
            self.other.expect("local_invitation_received_by_peer", call.call_id)
        before = self.notifier.beats
        self.until(lambda: self.notifier.beats > before + 1)
        assert self.thread.is_alive()

    def stop(self) -> None:
        self.loop.stop(0)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.other.logout()


@pytest.fixture(params=["doorbell", "panel"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    made = Service(request.param, tmp_path)
    made.start()
    yield made
    made.stop()


def fail(_record: logging.LogRecord) -> None:
    raise RuntimeError("injected")


class Bad(Policy):
    def screen(self, *_args: Any, **_options: Any) -> Any:
        raise RuntimeError("injected")


def no_thread_once() -> Callable[[threading.Thread], None]:
    start, refused = threading.Thread.start, []

    def none(self: threading.Thread) -> None:
        if not refused and self.name.endswith("-connect"):
            refused.append(self)
            raise RuntimeError("can't start new thread")
        start(self)

    return none


@pytest.mark.parametrize("place", OUTCOMES)
def test_a_service_ends_with_1_where_its_client_ends_and_works_on_where_not(
    service: Service, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Exit code 1 is what systemd starts afresh."""
    ends = OUTCOMES[place]
    with monkeypatch.context() as patched:
        if place == "clock":
            service.clock.faulty = True
        elif place == "engine":
            engine = service.client._session.engine  # type: ignore[union-attr]  # it is logged in
            faulty = Faulty(engine.handle)
            patched.setattr(engine, "handle", faulty)
            faulty.faulty = True
            service.provoke()
        elif place == "codec, writing":
            mine, encode = threading.current_thread(), codec.encode

            def broken(cell: Any) -> bytes:
                if threading.current_thread() is not mine and "other" not in (
                    threading.current_thread().name
                ):
                    raise RuntimeError("injected")
                return encode(cell)

            patched.setattr(codec, "encode", broken)
            service.provoke()
        elif place == "codec, reading":
            decode = Faulty(codec.decode_invite)
            decode.faulty = True
            patched.setattr(codec, "decode_invite", decode)
            service.provoke()
            service.until(lambda: service.client.stats["drops"].get("defect"))
        elif place == "wall clock":
            service.wall.faulty = True
        elif place == "log handler":
            with handler(fail):
                service.works()
            return
        elif place == "policy":
            service.client.set_policy(Bad(do_not_disturb=True))
            service.provoke()
        elif place == "listener":
            service.client.call_manager.add_event_listener(raising())
        elif place.startswith("link") or place == "thread start":
            if place == "link, opening":
                service.links.faulty.add("open")
            elif place == "thread start":
                patched.setattr(threading.Thread, "start", no_thread_once())
            service.links.faulty.add("publish" if place == "link, writing" else "read")
            service.provoke()
            service.until(lambda: service.client.stats["connects"] > 1)
        if ends:
            service.thread.join(PATIENCE)
            assert service.code == [1]
            return
    service.works()


def test_the_watchdog_is_not_fed_while_the_network_stands(service: Service) -> None:
    """A service whose own loop turns, but which nobody can reach, is not alive."""
    service.until(lambda: service.notifier.beats > 1)
    with service.client._guard:  # what a network thread that hangs would hold
        before = service.notifier.beats
        time.sleep(0.3)
        assert service.notifier.beats <= before + 1
    service.works()
