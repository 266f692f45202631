"""The doorbell service on gpiozero's mock pins, with a clock and a broker moved by hand."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from types import SimpleNamespace

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from device_sdk import EndReason
from device_sdk.services.config.account import Factory
from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.config.panel import read_panel
from device_sdk.services.gpio.pins import GpiozeroPins, PinError
from device_sdk.services.service.doorbell import DoorbellService
from device_sdk.services.service.loop import Loop
from device_sdk.services.service.panel import PanelService
from device_sdk.services.service.sd_notify import Notifier

BUTTON, LIGHT, CHIME = 17, 27, 22
TOML = f"""
[account]
peer = "front-door"
broker = "mqtt://broker.local"
[[button]]
pin = {BUTTON}
rings = ["kitchen"]
ring_time = 20
[light]
pin = {LIGHT}
[chime]
pin = {CHIME}
"""


class HandLoop(Loop):
    """The service's loop with time moved by the test."""

    def __init__(self) -> None:
        super().__init__(Notifier({}), lambda: self.time)
        self.time = 1000.0
        self._posted: list[Callable[[], None]] = []
        self.script: Callable[[], None] = lambda: None

    def post(self, call):
        self._posted.append(call)

    def run(self, tick, deadline):
        self._tick, self._deadline = tick, deadline
        self.advance(0)
        self.script()
        return 0

    def advance(self, seconds):
        end = self.time + seconds
        for _ in range(10_000):
            while self._posted:
                self._posted.pop(0)()
            self._tick()
            due = self._deadline()
            if self._posted:
                continue
            if due is None or due > end:
                self.time = end
                return
            self.time = max(self.time, due)
        pytest.fail("a deadline that never passes")


class HandBroker:
    """In place of link and call manager: notes what is rung, answers when told to."""

    def __init__(self, _account, listener, events, _post):
        self.listener, self.events = listener, events
        self.client = SimpleNamespace(call_manager=self)
        self.sent, self.canceled = [], []
        self._numbers = itertools.count()

    def start(self):
        pass

    def pulse(self, beat):
        beat()

    def stop(self):
        pass

    def create_local_invitation(self, peer):
        number = next(self._numbers)
        return SimpleNamespace(call_id=f"c{number}", callee_id=peer, group=None, reason=None)

    def send_local_invitation(self, invitation, _seconds):
        self.sent.append(invitation)

    def cancel_local_invitation(self, invitation):
        self.canceled.append(invitation)


@pytest.fixture
def bench(tmp_path):
    """Runs a script inside a doorbell service."""
    gpiozero.Device.pin_factory = MockFactory()
    path = tmp_path / "doorbell.toml"

    def run(script, toml=TOML):
        path.write_text(toml)
        loop, made = HandLoop(), []

        def make(*args):
            made.append(HandBroker(*args))
            return made[0]

        settings = read_doorbell(path)
        service = DoorbellService(
            settings, GpiozeroPins(Factory.MOCK, None), loop, Notifier({}), make
        )
        loop.script = lambda: script(service, loop, made[0])
        assert service.run() == 0

    yield run
    gpiozero.Device.pin_factory = None


def bounce(loop: HandLoop, rng: random.Random, *, pressed: bool) -> None:
    """One change of the contact as a real one makes it; it settles within 20 ms."""
    pin = gpiozero.Device.pin_factory.pin(BUTTON)
    to, back = (pin.drive_low, pin.drive_high) if pressed else (pin.drive_high, pin.drive_low)
    for _ in range(rng.randint(0, 5)):
        to()
        loop.advance(rng.uniform(0.0002, 0.002))
        back()
        loop.advance(rng.uniform(0.0002, 0.002))
    to()


@pytest.mark.parametrize(("reason", "chimes"), [(EndReason.BUSY, 1), (EndReason.DECLINED, 0)])
def test_the_chime_sounds_when_the_panel_is_in_another_call(bench, reason, chimes):
    def script(service, loop, broker):
        broker.events.on_link(True)
        rng = random.Random(3)
        press(loop, rng)
        bounce(loop, rng, pressed=False)
        loop.advance(0.5)
        (rung,) = broker.sent
        rung.reason = reason
        broker.listener.on_local_invitation_received_by_peer(rung)
        broker.listener.on_local_invitation_refused(rung, None)
        loop.advance(0.5)
        assert service.bell.chimes == chimes

    bench(script)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (EndReason.BUSY, ["refused"]),
        (EndReason.DO_NOT_DISTURB, ["refused"]),
        (EndReason.DECLINED, ["ringing", "refused"]),
    ],
)
def test_a_call_that_a_panel_turns_away_at_once_does_not_run_on_ringing(bench, reason, told):
    happened: list[str] = []

    def script(service, loop, broker):
        service._actions.run = lambda _action, facts: happened.append(facts["event"])
        broker.events.on_link(True)
        press(loop, random.Random(3))
        (rung,) = broker.sent
        rung.reason = reason
        broker.listener.on_local_invitation_received_by_peer(rung)
        loop.advance(0.1)
        broker.listener.on_local_invitation_refused(rung, None)
        loop.advance(2)

    hooks = "".join(f'[on.{name}]\ncommand = "true"\n' for name in ("ringing", "refused"))
    bench(script, TOML + hooks)
    assert [event for event in happened if event != "chime"] == told


def press(loop: HandLoop, rng: random.Random) -> None:
    bounce(loop, rng, pressed=True)
    loop.advance(rng.uniform(0.05, 0.4))
    bounce(loop, rng, pressed=False)
    loop.advance(0.05)


def test_a_thousand_presses_ring_exactly_as_often_as_they_should_and_none_is_silent(bench):
    """Random bounce; some presses while it rings, some without a broker, some unheard."""
    rng = random.Random(20)

    def script(service, loop, broker):
        expected = presses_offline = presses_ringing = silent = 0
        online, underway, heard = True, None, False
        broker.events.on_link(True)
        for _ in range(1000):
            if underway is None and rng.random() < 0.1:
                online = not online
                broker.events.on_link(online)
            chimes = service.bell.chimes
            press(loop, rng)
            if not online:
                presses_offline += 1
                silent += service.bell.chimes != chimes + 1
            elif underway is None:
                expected += 1
                underway, heard = broker.sent[-1], rng.random() < 0.8
                if heard:
                    loop.advance(rng.uniform(0.001, 0.3))
                    broker.listener.on_local_invitation_received_by_peer(underway)
                loop.advance(1.6)
                silent += service.bell.chimes != chimes + (not heard)
            else:
                presses_ringing += 1
                silent += service.bell.chimes != chimes + (not heard)
            assert len(broker.sent) == expected
            if underway is not None and rng.random() < 0.5:
                if rng.random() < 0.5:
                    broker.listener.on_local_invitation_refused(underway, None)
                else:
                    broker.listener.on_local_invitation_accepted(underway, "coming")
                underway = None
            loop.advance(rng.uniform(0.1, 2))
            if underway is not None:
                # Long rings are given up by the doorbell itself; keep the model in step.
                number = next(iter(service._ringer._rings), None)
                if number is None or broker.canceled:
                    underway = None
                    broker.canceled.clear()
        assert silent == 0
        assert min(expected, presses_offline, presses_ringing) > 100, "all kinds must occur"

    bench(script)


def test_the_outputs_follow(bench):
    rng = random.Random(1)
    factory = gpiozero.Device.pin_factory

    def script(_service, loop, broker):
        loop.advance(0.05)
        assert factory.pin(LIGHT).state, "a short blink: offline"
        broker.events.on_link(True)
        loop.advance(3)
        assert not factory.pin(LIGHT).state
        press(loop, rng)
        factory.pin(LIGHT).clear_states()
        loop.advance(1.0)
        assert len(factory.pin(LIGHT).states) >= 4, "it blinks while it rings"
        assert not factory.pin(CHIME).state
        loop.advance(0.5)
        assert factory.pin(CHIME).state, "nobody acknowledged"
        loop.advance(1.1)
        assert not factory.pin(CHIME).state
        broker.listener.on_local_invitation_accepted(broker.sent[0], None)
        loop.advance(2.0)
        assert factory.pin(LIGHT).state, "steady: accepted"

    bench(script)


def test_a_pin_that_does_not_exist_is_named_with_its_chip(bench):
    with pytest.raises(PinError, match=r"door: pin 99 of gpiochip0 does not exist"):
        bench(lambda *_: None, TOML.replace(f"pin = {BUTTON}", "pin = 99") + "[gpio]\nchip = 0\n")


def test_a_pin_that_is_taken_is_named_with_its_chip(bench):
    held = gpiozero.LED(LIGHT)
    with pytest.raises(PinError, match=r"light: pin 27 of gpiochip0 is taken"):
        bench(lambda *_: None)
    held.close()


class LossyPins:
    """A driver that loses the edges it is told to lose; the level it gives when asked is true."""

    def __init__(self) -> None:
        self.level = False
        self.asked = 0

    def watch(self, _name, _pin, on_edge):
        self.on_edge = on_edge
        return self

    def active(self):
        self.asked += 1
        return self.level

    def output(self, _name, _pin):
        return self

    def set(self, on): ...

    def close(self): ...

    def move(self, level, *, told):
        self.level = level
        if told:
            self.on_edge(level)


@pytest.mark.parametrize("lost", [(), (False,), (True,), (True, False)])
def test_a_lost_edge_loses_no_visitor(tmp_path, lost):
    """Whichever edge the driver swallows: levels are asked, and three presses ring three times."""
    path = tmp_path / "doorbell.toml"
    path.write_text(TOML.replace("ring_time = 20", "ring_time = 1"))
    loop, pins, made = HandLoop(), LossyPins(), []

    def make(*args):
        made.append(HandBroker(*args))
        return made[0]

    service = DoorbellService(read_doorbell(path), pins, loop, Notifier({}), make)

    def visitors():
        service.on_link(True)
        for number in range(3):
            for level in (True, False):
                pins.move(level, told=number != 0 or level not in lost)
                loop.advance(0.3)
            loop.advance(30)

    loop.script = visitors
    service.run()
    assert len(made[0].sent) == 3


@pytest.mark.parametrize("lost", [(False,), (True,), (True, False)])
def test_a_lost_edge_loses_no_answer(tmp_path, lost):
    """The panel asks for levels, too: each of two calls is answered by its own press."""
    path = tmp_path / "panel.toml"
    path.write_text('[account]\npeer = "kitchen"\nbroker = "mqtt://b"\n[answer]\npin = 17\n')
    loop, pins, answered = HandLoop(), LossyPins(), []
    manager = SimpleNamespace(
        accept_remote_invitation=lambda invitation, _response: answered.append(invitation.call_id)
    )

    def make(*_):
        return SimpleNamespace(
            client=SimpleNamespace(call_manager=manager),
            start=lambda: None, stop=lambda: None, pulse=lambda beat: beat(),
        )  # fmt: skip

    service = PanelService(read_panel(path), pins, loop, Notifier({}), make)

    def calls():
        service.on_link(True)
        for number in range(2):
            service.on_remote_invitation_received(
                SimpleNamespace(
                    call_id=f"c{number}", caller_id="door", content=None, channel_id=None
                )
            )
            loop.advance(1)
            for level in (True, False):
                pins.move(level, told=number != 0 or level not in lost)
                loop.advance(0.3)
            loop.advance(5)

    loop.script = calls
    service.run()
    assert answered == ["c0", "c1"]
