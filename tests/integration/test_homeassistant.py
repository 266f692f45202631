"""The Home Assistant bridge between the bundled broker and a mosquitto as Home Assistant's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from device_sdk.services.history.store import read_history
from tests import commands
from tests.conftest import need_mosquitto
from tests.servers import BrokerProcess, Mosquitto, free_port

PATIENCE = 25.0
_NOTE = "echo $BELLWIRE_EVENT $BELLWIRE_OTHER $BELLWIRE_CONTENT >>$NOTES"


class Hears:
    """Who listens at Home Assistant's broker, and says what Home Assistant would."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self._changed = threading.Condition()
        self._there = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.reconnect_delay_set(0.1, 0.2)  # type: ignore[arg-type]  # fractions do
        self.client.on_connect = self._connected
        self.client.on_subscribe = lambda *_: self._there.set()
        self.client.on_message = self._message
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._there.wait(PATIENCE)

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe("#", qos=1)

    def _message(self, _client: Client, _user: Any, message: Any) -> None:
        with self._changed:
            self.heard.append((message.topic, message.payload, bool(message.retain)))
            self._changed.notify_all()

    def say(self, topic: str, payload: str, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE)

    def until(self, true: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not (found := true()):
                assert time.monotonic() < deadline, f"no {what} in {self.heard[-20:]}"
                self._changed.wait(0.1)
        return found

    def of(self, ending: str) -> list[dict[str, Any]]:
        """What was said live at the topics that end so."""
        return [
            json.loads(payload)
            for topic, payload, retained in list(self.heard)
            if topic.endswith(ending) and payload and not retained
        ]

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        found = self.of("/event")
        return [e for e in found if not kind or e["event_type"] == kind]

    def event(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = self.until(lambda: self.events(kind)[:1], kind)[0]
        return found

    def state(self, word: str) -> dict[str, Any]:
        def last() -> Any:
            found = [c for c in self.of("/call") if c["state"] == word]
            return found[-1] if found and self.of("/call")[-1]["state"] == word else None

        found: dict[str, Any] = self.until(last, f"call {word}")
        return found

    def close(self) -> None:
        self.client.loop_stop()
        self.client.disconnect()


class Setup:
    """A bridge, both brokers, who listens."""

    def __init__(self, bell: BrokerProcess, folder: Path, realm: str) -> None:
        self.bell, self.realm = bell, realm
        self.broker = Mosquitto(folder)
        self.broker.start()
        self.metrics = free_port()
        self.deaf = socket.create_server(("127.0.0.1", 0))
        self.settings = folder / "homeassistant.toml"
        self.settings.write_text(
            f'[account]\npeer = "home"\nbroker = "{bell.url}"\nrealm = "{realm}"\n'
            f'[mqtt]\nbroker = "{self.broker.url}"\n'
            '[[door]]\npeer = "front-door"\nname = "Front door"\n'
            '[[button]]\nname = "z"\ntopic = "zigbee2mqtt/b"\njson = "action"\nvalue = "single"\n'
            'rings = "kitchen"\n'
            # What hangs delays nothing: somebody takes the hook's connection and says no word.
            f'[history]\nfile = "home.history"\n[metrics]\nlisten = "{self.metrics}"\n'
            f'[on.ringing]\ncommand = ["sh", "-c", "{_NOTE}; exec sleep 6 >&- 2>&-"]\n'
            f'webhook = "http://127.0.0.1:{self.deaf.getsockname()[1]}/"\n'
            f'[on.accepted]\ncommand = ["sh", "-c", "{_NOTE}"]\n'
        )
        self.hears = Hears(self.broker.port)
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        """A life of the bridge, logged in."""
        process = subprocess.Popen(
            [sys.executable, "-m", "device_sdk.services", "homeassistant", "--settings",
             str(self.settings)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "NOTES": str(self.folder / "notes")},
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen.append(line)
            if "online as" in line:
                break
        else:
            pytest.fail(f"the bridge ended: {seen}")
        threading.Thread(target=process.stdout.read, daemon=True).start()

    def stop(self) -> None:
        """Ask it to end; what hangs does not keep it."""
        self.processes[-1].terminate()
        assert self.processes[-1].wait(15) == 0

    def kill(self) -> None:
        self.processes[-1].kill()
        self.processes[-1].wait(10)

    def caller(self, *more: str) -> commands.Command:
        words = ("call", "home", "--peer", "front-door", "--broker", self.bell.url, "--realm",
                 self.realm, "--content", "parcel", *more)  # fmt: skip
        return commands.Command(*words)

    def command(self, **facts: str) -> None:
        self.hears.say(f"bellwire/{self.realm}/home/door/front-door/command", json.dumps(facts))

    def notes(self, *wanted: str) -> list[str]:
        """What the hooks' commands were run for, once that is ``wanted``; at most for a while.

        They are processes of their own, begun by threads of the bridge.
        """
        path, deadline = self.folder / "notes", time.monotonic() + PATIENCE
        while True:
            found = sorted(path.read_text().splitlines()) if path.exists() else []
            if found == sorted(wanted) or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()
        self.hears.close()
        self.broker.stop()
        self.deaf.close()


@pytest.fixture
def home(bundled_broker: BrokerProcess, tmp_path: Path) -> Iterator[Setup]:
    need_mosquitto()
    made = Setup(bundled_broker, tmp_path, f"ha{os.getpid()}{time.monotonic_ns() % 100000}")
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.mark.mosquitto
def test_answered_and_refused_give_the_caller_0_and_10(home: Setup) -> None:
    """Answered is shown when the caller has decided; a stale notification does nothing."""
    with urllib.request.urlopen(f"http://127.0.0.1:{home.metrics}/metrics", timeout=5) as page:
        figures = page.read().decode()
    assert 'bellwire_peer_online{peer="home"} 1.0' in figures
    assert 'bellwire_homeassistant_online{peer="home"} 1.0' in figures
    with home.caller() as caller:
        ring = home.hears.event("ring")
        assert (ring["caller"], ring["content"]) == ("front-door", "parcel")
        home.command(do="answer", call_id=ring["call_id"])
        assert caller.end() == 0
    home.hears.event("answered")
    home.command(do="answer", call_id=ring["call_id"])
    said = home.hears.until(lambda: home.hears.of("/result")[1:2], "result")[0]
    assert (said["ok"], said["why"]) == (False, "that call is over")
    with home.caller() as caller:
        home.hears.until(lambda: home.hears.events("ring")[1:], "the second ring")
        home.command(do="refuse")
        assert caller.end() == 10
    home.hears.event("refused")
    assert len(home.hears.events("ring")) == 2
    notes = [
        "accepted front-door parcel", "ringing front-door parcel", "ringing front-door parcel",
    ]  # fmt: skip
    assert home.notes(*notes) == notes
    home.stop()
    assert home.notes(*notes) == notes
    rows = [(row.caller, row.callee, row.outcome, row.answered_by, row.text)
            for row in read_history(home.folder / "home.history")]  # fmt: skip
    assert rows == [
        ("front-door", "home", "refused", "home", "parcel"),
        ("front-door", "home", "answered", "home", "parcel"),
    ]


@pytest.mark.mosquitto
def test_a_bridge_killed_while_it_rings_does_not_ring_again(home: Setup) -> None:
    """The retained call is its memory; the next life answers the same call."""
    with home.caller() as caller:
        ring = home.hears.event("ring")
        assert home.notes("ringing front-door parcel") == ["ringing front-door parcel"]
        home.kill()
        # Nor is a retained command obeyed, which stood there all the time.
        home.hears.say(f"bellwire/{home.realm}/home/door/front-door/command", "refuse", retain=True)
        before = len(home.hears.of("/call"))
        home.start()
        back = home.hears.state("ringing")
        home.hears.until(
            lambda: [c for c in home.hears.of("/call")[before:] if c["can"]], "the call, live again"
        )
        assert back["call_id"] == ring["call_id"]
        home.command(do="answer", call_id=ring["call_id"])
        assert caller.end() == 0
    home.hears.event("answered")
    assert len(home.hears.events("ring")) == 1
    notes = ["accepted front-door parcel", "ringing front-door parcel"]
    assert home.notes(*notes) == notes
    home.stop()
    assert home.notes(*notes) == notes


@pytest.mark.mosquitto
def test_a_call_that_ended_meanwhile_is_missed(home: Setup) -> None:
    """It does not come back within 5 s."""
    with home.caller() as caller:
        home.hears.event("ring")
        home.kill()
        caller.signal(signal.SIGINT)
        caller.end()
    home.start()
    home.hears.event("missed")
    assert home.hears.state("missed")["can"] == []


@pytest.mark.mosquitto
def test_home_assistant_away_is_owed_the_ring_until_its_birth(home: Setup) -> None:
    """And one that was told before hears that it still rings."""
    home.hears.say("homeassistant/status", "offline")
    home.command(do="answer", call_id="none")
    home.hears.until(lambda: home.hears.of("/result"), "that it has heard of both")
    with home.caller() as caller:
        assert home.hears.state("ringing")["told"] == "no"
        assert home.hears.events("ring") == []
        home.hears.say("homeassistant/status", "online")
        ring = home.hears.event("ring")
        home.hears.say("homeassistant/status", "offline")
        home.hears.say("homeassistant/status", "online")
        home.hears.event("still_ringing")
        home.command(do="refuse", call_id=ring["call_id"])
        assert caller.end() == 10
    assert len(home.hears.events("ring")) == 1


@pytest.mark.mosquitto
def test_an_mqtt_button_rings_the_kitchen_once(home: Setup) -> None:
    """Retained ones and repeats ring nobody; the outcome goes back as JSON."""
    home.hears.say("zigbee2mqtt/b", '{"action": "double"}')
    words = ("listen", "--peer", "kitchen", "--broker", home.bell.url, "--realm", home.realm)
    with commands.Command(*words, "--accept", "--response", "coming", "--count", "1") as kitchen:
        kitchen.ready()
        home.hears.say("zigbee2mqtt/b", '{"action": "single"}')
        home.hears.say("zigbee2mqtt/b", '{"action": "single"}')
        assert kitchen.end() == 0
    outcome = home.hears.until(lambda: home.hears.of("/button/z"), "outcome")
    assert [(o["outcome"], o["by"], o["response"]) for o in outcome] == [
        ("accepted", "kitchen", "coming")
    ]


@pytest.mark.mosquitto
def test_the_doctor_looks_at_both_brokers(home: Setup) -> None:
    """And says which is not there; to be started by hand, the bridge is not running meanwhile."""
    home.stop()
    with commands.Command("doctor", "--settings", home.settings) as doctor:
        doctor.end()
    assert f"ok    Home Assistant's broker {home.broker.url} lets the bridge in" in doctor.lines
    assert [line for line in doctor.lines if line.startswith("ok    metrics: http://127.0.0.1:")]
    home.hears.client.loop_stop()
    home.broker.stop()
    with commands.Command("doctor", "--settings", home.settings) as doctor:
        assert doctor.end() == 1
    assert [line for line in doctor.errors if line.startswith("WRONG [mqtt]: ")]
