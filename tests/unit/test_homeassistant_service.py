"""The bridge's service without a broker: hooks, history, and what happens to them."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_sdk.client.ring_plan import GroupOutcome
from device_sdk.services.config.homeassistant import read_homeassistant
from device_sdk.services.history.store import HistoryOutcome
from device_sdk.services.homeassistant.bridge import READ_FIRST
from device_sdk.services.homeassistant.service import HomeAssistantService
from device_sdk.services.service.loop import Loop
from device_sdk.services.service.sd_notify import Notifier
from device_sdk.states import EndReason, RemoteInvitationError

SETTINGS = """\
[account]
peer = "home"
broker = "mqtt://b"
[mqtt]
broker = "mqtt://ha"
[[door]]
peer = "front-door"
[[button]]
name = "garden"
topic = "t"
value = "ON"
rings = ["kitchen"]
content = "garden"
"""
HOOKS = "".join(
    f'[on.{name}]\ncommand = ["true"]\n'
    for name in ("ringing", "pressed", "missed", "accepted", "call_ended")
)


class Link:
    """In place of a client."""

    def __init__(self, *_: Any) -> None:
        self.watched: list[str] = []
        self.client = SimpleNamespace(call_manager=self, watch=self.watched.append, stats={})

    def start(self) -> None:
        """Nothing logs in."""

    def ring(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(group=b"\x01" * 16)


class Home:
    """The service; what it posts is run by hand, as the loop would."""

    def __init__(self, folder: Path, more: str = "") -> None:
        path = folder / "homeassistant.toml"
        path.write_text(SETTINGS + HOOKS + more)
        self.ran: list[dict[str, Any]] = []
        self.service = HomeAssistantService(
            read_homeassistant(path), Loop(Notifier({})), Notifier({}), Link
        )
        self.service._actions.run = lambda _action, facts: self.ran.append(dict(facts))  # type: ignore[method-assign]
        self.history = self.service._history

    def turn(self) -> None:
        """The loop's turn."""
        queue = self.service._loop._queue
        while not queue.empty():
            call = queue.get()
            assert call is not None
            call()
        self.service._tick()

    def invited(self, call_id: str, **more: Any) -> Any:
        facts = {"call_id": call_id, "caller_id": "front-door", "content": "parcel",
                 "response": None, "reason": None, "_talk": None} | more  # fmt: skip
        return SimpleNamespace(**facts)

    @property
    def events(self) -> list[tuple[str, Any]]:
        return [(facts["event"], facts.get("call_id") or facts.get("button")) for facts in self.ran]

    def rows(self) -> list[tuple[str, HistoryOutcome, str, bool]]:
        assert self.history.flush()
        found = self.history.read()
        return [(row.call_id, row.outcome, row.answered_by, row.opened) for row in found[::-1]]


@pytest.fixture
def home(tmp_path: Path) -> Any:
    made = Home(tmp_path, '[history]\nfile = "home.history"\n')
    yield made
    made.history.close()


def test_a_call_with_no_broker_there(home: Home) -> None:
    """Home Assistant's never was, Bellwire's is lost: hooks and history have both calls."""
    service = home.service
    service.on_remote_invitation_received(home.invited("c1"))
    service.on_link(True)
    service.on_link(False)
    lost = home.invited("c1", response="coming", _talk=object())
    service.on_remote_invitation_accepted(lost)
    call = SimpleNamespace(call_id="c1", peer="front-door", invitation=SimpleNamespace(group=None))
    service.on_call_started(call)  # type: ignore[arg-type]  # what is asked of it
    service.on_call_message(call, {"done": "open", "ok": True})  # type: ignore[arg-type]  # too
    service.on_call_ended(call, EndReason.PEER_LOST)  # type: ignore[arg-type]  # too
    service.on_remote_invitation_received(home.invited("c2"))
    service.on_remote_invitation_failure(
        home.invited("c2"), RemoteInvitationError.INVITATION_EXPIRE
    )
    service.on_remote_invitation_received(home.invited("c3"))
    service.on_remote_invitation_canceled(home.invited("c3", reason=EndReason.CANCELED))
    home.turn()
    assert home.events == [
        ("ringing", "c1"), ("accepted", "c1"), ("call_ended", "c1"),
        ("ringing", "c2"), ("missed", "c2"), ("ringing", "c3"), ("missed", "c3"),
    ]  # fmt: skip
    assert home.ran[1]["response"] == "coming"
    assert home.ran[2]["reason"] == "peer lost"
    assert home.rows() == [
        ("c1", HistoryOutcome.ANSWERED, "home", True),
        ("c2", HistoryOutcome.MISSED, "", False),
        ("c3", HistoryOutcome.CANCELED, "", False),
    ]


def test_each_status_says_what_is_wrong_with_home_assistants_broker(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no longer when it is back: by it the doctor knows that the bridge is logged in."""
    said: list[str] = []
    for name in ("status", "ready"):
        monkeypatch.setattr(home.service._notifier, name, said.append)
    home.service.on_link(True)
    home.service.on_ha_down("away")
    home.service.on_link(False)
    home.service.on_link(True)
    home.service.on_ha_up()
    online, away = "online as home at mqtt://b", "; Home Assistant's broker: away"
    assert said == [
        online, online + away, "offline: mqtt://b is away" + away, online + away, online,
    ]  # fmt: skip


def test_each_connection_stands_by_itself(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Home Assistant's broker was never there: logged in all the same, and the status has both."""
    said: list[str] = []
    service = home.service
    for name in ("status", "ready"):
        monkeypatch.setattr(service._notifier, name, said.append)
    started: list[bool] = []
    monkeypatch.setattr(service._link, "start", lambda: started.append(True))
    loop, waiting = service._loop, "; waiting for Home Assistant's broker mqtt://ha"
    now = loop.now()
    monkeypatch.setattr(service._ha, "start", lambda: None)
    monkeypatch.setattr(service._ha, "stop", lambda: None)
    monkeypatch.setattr(loop, "now", lambda: now)

    def turns(tick: Any, deadline: Any) -> int:
        assert deadline() == now + READ_FIRST
        monkeypatch.setattr(loop, "now", lambda: now + READ_FIRST)
        tick()
        assert started == [True]
        service.on_link(True)
        service.on_ha_up()
        return 0

    monkeypatch.setattr(loop, "run", turns)
    monkeypatch.setattr(service._link, "stop", lambda: None, raising=False)
    assert service.run() == 0
    online = "online as home at mqtt://b"
    assert said == ["logging in at mqtt://b" + waiting, online + waiting, online]


def test_who_is_there_is_asked_anew_on_each_connection(home: Home) -> None:
    """A link that was lost makes it unknown, and the client tells changes only."""
    home.service.on_ha_up()
    home.service.on_ha_message(home.service._settings.names.read_mark, b"read", False)
    link: Any = home.service._link
    for online in (True, False, True):
        home.service.on_link(online)
        home.turn()
    assert link.watched == ["front-door"] * 2


def test_an_mqtt_button_is_a_press_and_a_row(home: Home) -> None:
    """Nobody answers: missed; its call is in the row of its ring."""
    service = home.service
    service._started = True
    service.on_ha_message("t", b"ON", False)
    legs = {"kitchen": SimpleNamespace(
        peer="kitchen", state=None, error=None, reason=EndReason.EXPIRED, response=None, call=None
    )}  # fmt: skip
    group = SimpleNamespace(group=b"\x01" * 16, outcome=GroupOutcome(None, None, legs))  # type: ignore[arg-type]  # as above
    service.on_ring_group_ended(group)  # type: ignore[type-var]  # as above
    home.turn()
    assert home.events == [("pressed", "garden"), ("missed", "garden")]
    assert home.rows() == [("01" * 16, HistoryOutcome.MISSED, "", False)]


def test_a_history_that_cannot_be_written_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said; the call rings on."""
    (tmp_path / "file").write_text("")
    home = Home(tmp_path, '[history]\nfile = "file/home.history"\n')
    with caplog.at_level(logging.WARNING):
        home.service.on_remote_invitation_received(home.invited("c1"))
        home.turn()
        assert home.rows() == []
    home.history.close()
    assert home.events == [("ringing", "c1")]
    assert "the history is not written or read: " in caplog.text


def test_no_history_is_a_choice(tmp_path: Path) -> None:
    """That is what 0 calls are."""
    home = Home(tmp_path, '[history]\nkeep = 0\nfile = "home.history"\n')
    home.service.on_remote_invitation_received(home.invited("c1"))
    home.turn()
    assert not home.history.kept
    assert home.rows() == []
    assert not (tmp_path / "home.history").exists()
