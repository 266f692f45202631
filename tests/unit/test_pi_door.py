"""The door: who may open it, when, for how long; and that its pin goes off whatever happens."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from device_sdk.services.cli import _release
from device_sdk.services.config.account import Factory
from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.config.toml_reader import SettingsError
from device_sdk.services.gpio.gpiod import GpiodPins, _Line
from device_sdk.services.gpio.pins import GpiozeroPins
from device_sdk.services.logic.appliance import SayInCall
from device_sdk.services.logic.door import DoorRules
from device_sdk.services.logic.doorbell import AuditDoor, ButtonRules, Doorbell, OpenDoor
from device_sdk.services.service.door_pin import DoorPin
from device_sdk.services.service.doorbell import DoorbellService
from device_sdk.services.service.sd_notify import Notifier
from tests.unit.test_pi_presses import HandBroker, HandLoop

OPEN = {"do": "open"}
DOOR = 23
TOML = f"""
[account]
peer = "front-door"
broker = "mqtt://127.0.0.1:1"
[[button]]
pin = 17
rings = ["kitchen", "office"]
[gpio]
factory = "mock"
[door]
pin = {DOOR}
seconds = 3
obeys = ["kitchen"]
"""


class Bench:
    """A doorbell with a door, in a call with the kitchen; what it says is kept."""

    def __init__(self, **rules: object) -> None:
        door = DoorRules(frozenset({"kitchen"}), **rules)  # type: ignore[arg-type] # **kwargs
        self.bell = Doorbell((ButtonRules(),), door=door)
        self.now = 100.0
        self.bell.start(frozenset(), self.now)
        self.bell.link(True, self.now)
        self.bell.call_started("c1", "kitchen", "door", self.now)

    def ask(self, message: object = OPEN, call="c1", peer="kitchen", late=0.0) -> tuple[bool, str]:
        """Whether it opens, and why not; what is answered and what is audited must agree."""
        effects = self.bell.call_message(call, peer, message, self.now - late, self.now)
        done = [e for e in effects if isinstance(e, OpenDoor)]
        for each in done:
            effects += self.bell.door_switched(each, "", self.now)
        (audit,) = [e for e in effects if isinstance(e, AuditDoor)]
        answers = [e.message for e in effects if isinstance(e, SayInCall)]
        if (call, peer) == ("c1", "kitchen"):
            assert [a["ok"] for a in answers] == [not audit.why]
        assert (audit.peer, audit.call) == (peer, call)
        return bool(done), audit.why

    def pass_by(self, seconds: float) -> None:
        until = self.now + seconds
        while self.bell.deadline is not None and self.bell.deadline <= until:
            self.now = self.bell.deadline
            self.bell.tick(self.now)
        self.now = until


def test_it_opens_for_its_seconds():
    bench = Bench(seconds=5.0)
    assert not bench.bell.door_open
    assert bench.ask() == (True, "")
    assert bench.bell.door_open
    bench.pass_by(4.9)
    assert bench.bell.door_open
    bench.pass_by(0.2)
    assert not bench.bell.door_open


def test_asked_again_it_stays_open_but_never_over_thirty_seconds():
    bench = Bench(seconds=10.0)
    opened = 0.0
    for _ in range(60):
        assert bench.ask()[0]
        bench.pass_by(0.5)
        opened += 0.5
        if not bench.bell.door_open:
            break
    assert opened == pytest.approx(30.0, abs=0.6)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"call": "c9"}, "no such call"),
        ({"peer": "office"}, "no such call"),
        ({"message": OPEN | {"door": "gate"}}, "no door of that name"),
        ({"message": OPEN | {"door": 3}}, "no door of that name"),
        ({"late": 2.5}, "too late"),
    ],
)
def test_what_it_does_not_open_for(asked, why):
    bench = Bench()
    done, said = bench.ask(**asked)
    assert not done
    assert why in said
    assert not bench.bell.door_open


def test_it_opens_by_its_name():
    assert Bench(name="gate").ask(OPEN | {"door": "gate"}) == (True, "")


def test_it_obeys_only_who_is_in_the_list_and_only_in_the_call():
    bench = Bench()
    bench.bell.call_started("c2", "office", "door", bench.now)
    effects = bench.bell.call_message("c2", "office", OPEN, bench.now, bench.now)
    why = "this door does not obey you"
    assert effects == [
        SayInCall("c2", {"done": "open", "ok": False, "why": why}),
        AuditDoor("office", "c2", why),
    ]
    bench.bell.call_ended("c1", bench.now)
    effects = bench.bell.call_message("c1", "kitchen", OPEN, bench.now, bench.now)
    assert effects == [AuditDoor("kitchen", "c1", "there is no such call")]
    assert not bench.bell.door_open


def test_a_doorbell_without_a_door_says_so():
    bell = Doorbell((ButtonRules(),))
    bell.start(frozenset(), 0.0)
    bell.link(True, 0.0)
    bell.call_started("c1", "kitchen", "door", 0.0)
    told = bell.call_message("c1", "kitchen", OPEN, 0.0, 0.0)
    assert told[0] == SayInCall("c1", {"done": "open", "ok": False, "why": "there is no door here"})
    assert bell.call_message("c1", "kitchen", {"text": "hello"}, 0.0, 0.0) == []


def test_the_end_of_the_call_leaves_the_door_open_for_its_time():
    """Who opens and hangs up at once still lets the visitor in."""
    bench = Bench()
    bench.ask()
    bench.bell.call_ended("c1", bench.now)
    assert bench.bell.door_open
    bench.pass_by(3.1)
    assert not bench.bell.door_open


# --- the pin ---------------------------------------------------------------------------------


class Call:
    call_id, peer = "c1", "kitchen"

    def __init__(self) -> None:
        self.said: list[object] = []
        self.invitation = SimpleNamespace(group=None)

    def send(self, message: object) -> None:
        self.said.append(message)


@pytest.fixture
def service(tmp_path):
    """Runs a script inside a doorbell with a door, on mock pins."""
    gpiozero.Device.pin_factory = MockFactory()
    path = tmp_path / "doorbell.toml"
    path.write_text(TOML)

    def run(script) -> None:
        loop, made = HandLoop(), []

        def make(*args):
            made.append(HandBroker(*args))
            return made[0]

        pins = GpiozeroPins(Factory.MOCK, None)
        bell = DoorbellService(read_doorbell(path), pins, loop, Notifier({}), make)

        def played() -> None:
            made[0].events.on_link(True)
            call = Call()
            made[0].listener.on_call_started(call)
            loop.advance(0.1)
            script(bell, loop, made[0].listener, call)

        loop.script = played
        bell.run()

    yield run
    gpiozero.Device.pin_factory = None


def level() -> bool:
    return bool(gpiozero.Device.pin_factory.pin(DOOR).state)


def test_the_pin_is_on_for_the_seconds_and_the_answer_goes_back(service, capsys):
    def script(_bell, loop, listener, call):
        assert not level()
        listener.on_call_message(call, OPEN)
        loop.advance(0.1)
        assert level()
        assert call.said == [{"done": "open", "ok": True}]
        loop.advance(3)
        assert not level()

    service(script)
    assert "door opened; asked by kitchen in call c1" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["stopped", "an error"])
def test_the_pin_goes_off_when_the_service_ends(service, how):
    def script(_bell, loop, listener, call):
        listener.on_call_message(call, OPEN)
        loop.advance(0.1)
        assert level()
        if how == "an error":
            raise RuntimeError("a defect of the loop's")

    if how == "an error":
        with pytest.raises(RuntimeError):
            service(script)
    else:
        service(script)
    assert not level()


def test_a_pin_that_cannot_be_switched_is_a_refusal(service, monkeypatch, capsys, caplog):
    def script(bell, loop, listener, call):
        def broken(on: bool) -> None:
            if on:
                raise OSError("the line is gone")

        monkeypatch.setattr(bell._door._output, "set", broken)
        listener.on_call_message(call, OPEN)
        loop.advance(0.1)
        assert call.said[0]["ok"] is False
        assert "cannot be switched" in call.said[0]["why"]
        assert not bell.bell.door_open

    service(script)
    assert "door not opened: the door's pin cannot be switched" in capsys.readouterr().out
    assert "the line is gone" in caplog.text


def test_a_pin_that_obeys_nothing_is_answered_and_on_record_before_the_service_ends(
    service, monkeypatch, capsys
):
    def script(bell, loop, listener, call):
        def broken(_on: bool) -> None:
            raise OSError("the line is gone")

        monkeypatch.setattr(bell._door._output, "set", broken)
        listener.on_call_message(call, OPEN)
        with pytest.raises(OSError, match="the line is gone"):
            loop.advance(0.1)
        assert call.said[0]["ok"] is False
        assert bell._door._guard is not None, "it goes on trying to switch it off"
        monkeypatch.undo()
        bell._door.set(False)

    service(script)
    assert "door not opened: the door's pin cannot be switched" in capsys.readouterr().out


class Line:
    def __init__(self) -> None:
        self.on, self.off = False, threading.Event()

    def set(self, on: bool) -> None:
        self.on = on
        if not on:
            self.off.set()


def test_a_loop_that_hangs_leaves_no_door_open(caplog):
    line = Line()
    pin = DoorPin(line, guard=0.05)
    assert pin.open() == ""
    assert line.on
    assert line.off.wait(5)
    assert not line.on
    assert "its service hangs" in caplog.text


def test_the_guard_counts_from_the_first_opening_and_rests_when_it_is_closed():
    line = Line()
    pin = DoorPin(line, guard=60)
    pin.open()
    first = pin._guard
    pin.open()
    assert pin._guard is first, "asked on and on, it is not put off"
    pin.set(False)
    assert not line.on
    assert first.finished.is_set()
    pin.set(True)
    assert not line.on, "only a request opens"


def test_release_switches_the_pin_off(tmp_path):
    """What systemd runs after a service that was killed."""
    gpiozero.Device.pin_factory = MockFactory()
    try:
        path = tmp_path / "doorbell.toml"
        path.write_text(TOML)
        pin = gpiozero.Device.pin_factory.pin(DOOR)
        pin.function = "output"
        pin.state = True
        assert _release(read_doorbell(path)) == 0
        assert not pin.state
        path.write_text(TOML.partition("[door]")[0])
        assert _release(read_doorbell(path)) == 0
    finally:
        gpiozero.Device.pin_factory = None


def test_gpiod_switches_its_outputs_off_before_it_lets_go():
    """Some chips keep the level of a line that is released."""
    done: list[object] = []
    request = SimpleNamespace(
        set_value=lambda _pin, value: done.append(value), release=lambda: done.append("released")
    )
    pins = GpiodPins.__new__(GpiodPins)
    values = SimpleNamespace(ACTIVE="on", INACTIVE="off")
    line = _Line(request, DOOR, values)
    pins._requests, pins._outputs, pins._thread = [request], [line], None
    pins._stop_r, pins._stop_w = __import__("os").pipe()
    line.set(True)
    pins.close()
    assert done == ["on", "off", "released"]


# --- the settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((f"pin = {DOOR}\n", ""), r"door\.pin: missing"),
        (("seconds = 3\n", "seconds = 31\n"), r":12: door\.seconds: expected seconds.*0\.1 to 30"),
        (("seconds = 3\n", "seconds = 0\n"), r"door\.seconds: expected seconds"),
        (('obeys = ["kitchen"]\n', ""), r"door\.obeys: missing"),
        (('obeys = ["kitchen"]', "obeys = []"), r"door\.obeys: expected at least one peer"),
        (('obeys = ["kitchen"]', 'obeys = ["kitchn"]'), r"no button rings kitchn"),
        (('obeys = ["kitchen"]', 'obeys = ["group:x"]'), r'no group "x" in \[groups\]'),
        ((f"pin = {DOOR}\n", "pin = 17\n"), r"pin 17 is used twice: by button door and by door"),
        (("seconds = 3\n", 'active = "on"\n'), r'door\.active: expected "low" or "high"'),
        (("seconds = 3\n", "for = 3\n"), r"door\.for: unknown key"),
    ],
)
def test_wrong_settings_are_named(tmp_path, change, says):
    path = tmp_path / "doorbell.toml"
    path.write_text(TOML.replace(*change))
    with pytest.raises(SettingsError, match=says):
        read_doorbell(path)


def test_groups_may_be_obeyed(tmp_path):
    path = tmp_path / "doorbell.toml"
    text = TOML.replace('obeys = ["kitchen"]', 'obeys = ["group:all"]')
    path.write_text(text + '[groups]\nall = ["kitchen", "office"]\n')
    settings = read_doorbell(path)
    assert settings.door.rules.obeys == {"kitchen", "office"}
