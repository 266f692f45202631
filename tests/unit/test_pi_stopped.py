"""A service that is stopped while something goes on: its ends are told, hooks included."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.config.homeassistant import read_homeassistant
from device_sdk.services.config.panel import read_panel
from device_sdk.services.config.sip import read_sip
from device_sdk.services.homeassistant.mqtt import HaConnection
from device_sdk.services.homeassistant.service import HomeAssistantService
from device_sdk.services.service import doorbell, panel, sip
from device_sdk.services.service.baresip import Baresip
from device_sdk.services.service.lanes import Lanes
from device_sdk.services.service.loop import Loop
from device_sdk.services.service.sd_notify import Notifier
from device_sdk.states import EndReason

ACCOUNT = '[account]\npeer = "me"\nbroker = "mqtt://b"\n'
HOOKS = "".join(f'[on.{name}]\ncommand = ["true"]\n' for name in ("call_ended", "canceled"))
SETTINGS = {
    "doorbell": '[[button]]\nname = "front"\npin = 17\nrings = ["other"]\n' + HOOKS,
    "panel": "[answer]\npin = 17\n" + HOOKS.partition("[on.canceled]")[0],
    "sip": '[sip]\nuri = "sip:me@10.0.0.2"\n' + HOOKS.partition("[on.canceled]")[0],
    "homeassistant": '[mqtt]\nbroker = "mqtt://ha"\n[[button]]\nname = "garden"\ntopic = "t"\n'
    'value = "ON"\nrings = ["other"]\n[[door]]\npeer = "other"\n[history]\nkeep = 0\n'
    + HOOKS.partition("[on.canceled]")[0],
}


class Link:
    """In place of a client; what it holds ends when it is stopped, as by a logout."""

    def __init__(self, *_: Any) -> None:
        self.client = SimpleNamespace(
            call_manager=self, watch=lambda _peer: None, busy=lambda: None, free=lambda: None
        )
        self.calls: list[Any] = []

    def pulse(self, beat: Callable[[], None]) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None:
        for call in self.calls:
            call.reason = EndReason.LOGGED_OUT

    def create_local_invitation(self, _peer: str) -> Any:
        return SimpleNamespace(call_id="c2", callee_id="other", group=None, reason=None)

    def send_local_invitation(self, *_: Any) -> None: ...

    def ring(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(group=b"\x01" * 16)


class Pins:
    """Contacts that nobody touches."""

    def watch(self, *_: Any) -> Any:
        return SimpleNamespace(active=lambda: False)

    def close(self) -> None: ...


class Stopped:
    """A service that is stopped after ``happens`` has, on its loop; what its hooks ran with."""

    def __init__(self, role: str, folder: Path, happens: Callable[[Any, Link], None]) -> None:
        path = folder / f"{role}.toml"
        path.write_text(ACCOUNT + SETTINGS[role])
        self.time = 100.0
        notifier, links = Notifier({}), []
        loop = Loop(notifier, lambda: self.time)

        def make(*arguments: Any) -> Any:
            links.append(Link(*arguments))
            return links[0]

        if role == "doorbell":
            service: Any = doorbell.DoorbellService(
                read_doorbell(path), Pins(), loop, notifier, make
            )
        elif role == "panel":
            service = panel.PanelService(read_panel(path), Pins(), loop, notifier, make)
        elif role == "sip":
            service = sip.SipService(read_sip(path), Pins(), loop, notifier, make)
        else:
            service = HomeAssistantService(read_homeassistant(path), loop, notifier, make)
        self.ran: list[dict[str, Any]] = []
        self.published: list[tuple[str, bytes]] = []
        service._actions.run = lambda _action, facts: self.ran.append(dict(facts))
        if role == "homeassistant":
            service._ha.publish = lambda topic, payload, *_: self.published.append((topic, payload))
        loop.post(lambda: service.on_link(True))
        loop.post(lambda: happens(service, links[0]))
        loop.post(self._time_passes)
        loop.post(loop.stop)
        assert service.run() == 0
        assert loop._exit == 0

    def _time_passes(self) -> None:
        self.time += 7


@pytest.fixture(autouse=True)
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Baresip, HaConnection):
        for name in ("start", "stop"):
            monkeypatch.setattr(kind, name, lambda _self: None)


@pytest.mark.parametrize("role", sorted(SETTINGS))
def test_the_end_of_a_call_that_went_on_is_told(role: str, tmp_path: Path) -> None:
    """What ``[on.accepted]`` switched on ``[on.call_ended]`` switches off."""

    def goes_on(service: Any, link: Link) -> None:
        invitation = SimpleNamespace(group=None)
        call = SimpleNamespace(
            call_id="c1", peer="other", reason=None, invitation=invitation, hang_up=lambda: None
        )
        service._started = True
        link.calls.append(call)
        if role == "doorbell":
            service.on_call(call, "front")
        else:
            service._call_started(call)

    facts = {"call_id": "c1", "peer": "other", "reason": "logged out", "seconds": 7.0}
    button = {"button": "front"} if role == "doorbell" else {}
    assert Stopped(role, tmp_path, goes_on).ran == [{"event": "call_ended"} | button | facts]


def test_a_doorbell_that_rings_is_canceled(tmp_path: Path) -> None:
    """``[on.canceled]`` as for any press that ended so."""

    def rings(service: Any, _link: Link) -> None:
        service._do(service.bell._pressed("front", 100.0))

    ran = Stopped("doorbell", tmp_path, rings).ran
    assert [facts["button"] for facts in ran if facts["event"] == "canceled"] == ["front"]


def test_an_mqtt_button_that_rings_is_canceled(tmp_path: Path) -> None:
    """Its outcome is published while Home Assistant's broker still hears it."""

    def rings(service: Any, _link: Link) -> None:
        service._started = True  # logged in
        service.on_ha_message("t", b"ON", False)

    told = Stopped("homeassistant", tmp_path, rings).published
    outcome, last = told[-2:]
    assert b'"outcome":"canceled"' in outcome[1]
    assert last[1] == b"offline"


def test_what_was_put_in_a_lane_is_sent_before_it_closes() -> None:
    """Within its time: the process ends next, and what was not sent by then never is."""
    lanes, begun, go_on, ran = Lanes(), threading.Event(), threading.Event(), []
    lanes.put("a", "a hook", lambda: (begun.set(), go_on.wait(10)), 20)
    assert begun.wait(10)
    lanes.put("a", "a hook", lambda: ran.append(1), 20)
    opener = threading.Timer(0.02, go_on.set)
    opener.start()
    lanes.close(time.monotonic() + 10)
    assert ran == [1]
    opener.join()
    for thread in threading.enumerate():
        if thread.name == "bellwire-hook":
            thread.join(10)
