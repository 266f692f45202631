"""The doorbell's decisions, with time as an argument."""

from __future__ import annotations

import pytest

from device_sdk.services.logic import lights
from device_sdk.services.logic.appliance import EndCall, SayInCall
from device_sdk.services.logic.doorbell import (
    ButtonRules,
    Doorbell,
    Effect,
    Note,
    PressOutcome,
    RunAction,
    StartRing,
    StopRing,
    TellRinging,
    WhileInCall,
    WhileRinging,
)


class Bench:
    """A doorbell with one button, a clock that is moved by hand and what came out."""

    def __init__(self, *, online: bool = True, **rules: object) -> None:
        self.bell = Doorbell((ButtonRules(name="door", **rules),))  # type: ignore[arg-type] # **kwargs
        self.now = 1000.0
        self.out: list[Effect] = []
        self.out += self.bell.start(frozenset(), self.now)
        if online:
            self.out += self.bell.link(True, self.now)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.bell.deadline is not None and self.bell.deadline <= until:
            assert self.bell.deadline >= self.now - 1e-6, "a deadline that stays in the past"
            self.now = max(self.now, self.bell.deadline)
            self.out += self.bell.tick(self.now)
        self.now = until

    def press(self, hold: float = 0.2) -> None:
        self.out += self.bell.edge("door", True, self.now)
        self.run(hold)
        self.out += self.bell.edge("door", False, self.now)
        self.run(0.1)

    def acknowledge(self, ring: int, peer: str = "kitchen") -> None:
        self.out += self.bell.acknowledged(ring, self.now, peer)

    def turn_away(self, ring: int, peer: str = "kitchen") -> None:
        self.out += self.bell.turned_away(ring, self.now, peer)

    def end(self, ring: int, outcome: PressOutcome, **more: object) -> None:
        self.out += self.bell.ended(ring, outcome, self.now, **more)  # type: ignore[arg-type] # **kwargs

    def effects(self) -> list[Effect]:
        """What is done; :meth:`rung` has that it rings."""
        return [effect for effect in self.out if not isinstance(effect, Note | TellRinging)]

    def rung(self) -> list[str]:
        return [effect.button for effect in self.out if isinstance(effect, TellRinging)]

    def notes(self) -> list[str]:
        return [effect.text for effect in self.out if isinstance(effect, Note)]


@pytest.mark.parametrize(("busy", "chimes"), [(True, 1), (False, 0)])
def test_a_visitor_whom_a_busy_panel_turns_away_is_heard_by_the_chime(busy, chimes):
    """It rang nowhere; who said no, or does not want to be disturbed, is not disturbed."""
    bench = Bench()
    bench.press()
    bench.acknowledge(1)  # as any answer, the refusal is a sign of life first
    bench.end(1, PressOutcome.REFUSED, peer="kitchen", busy=busy)
    assert bench.bell.chimes == chimes


def test_it_rings_where_it_is_not_turned_away():
    """What is acknowledged first and refused next, by busy or quiet hours, rang nowhere."""
    bench = Bench()
    bench.press()
    bench.acknowledge(1, "kitchen")
    bench.run(0.1)
    bench.turn_away(1, "kitchen")
    bench.end(1, PressOutcome.REFUSED, peer="kitchen")
    bench.run(60)
    assert bench.rung() == []
    bench.press()
    bench.acknowledge(2, "kitchen")
    bench.turn_away(2, "kitchen")
    bench.acknowledge(2, "attic")  # the other of a group
    bench.run(0.4)
    assert bench.rung() == []
    bench.run(0.2)
    bench.acknowledge(2, "cellar")
    bench.run(10)
    bench.end(2, PressOutcome.NOBODY)
    assert bench.rung() == ["door"], "once a ring"


@pytest.mark.parametrize(
    ("outcome", "busy", "rang"),
    [
        (PressOutcome.ACCEPTED, False, ["door"]),
        (PressOutcome.REFUSED, False, ["door"]),
        (PressOutcome.REFUSED, True, []),
        (PressOutcome.NOBODY, False, []),
        (PressOutcome.CANCELED, False, []),
    ],
)
def test_who_answers_in_a_moment_has_heard_it(outcome, busy, rang):
    """And is told of first; what ends so soon without an answer has not rung."""
    bench = Bench()
    bench.press()
    bench.acknowledge(1)
    bench.end(1, outcome, peer="kitchen", busy=busy)
    bench.run(60)
    assert bench.rung() == rang
    if rang:
        kinds = [type(effect) for effect in bench.out if not isinstance(effect, Note)]
        assert kinds == [StartRing, TellRinging, RunAction]


def test_a_press_rings_once_and_shows_it():
    bench = Bench()
    bench.press()
    assert bench.effects() == [StartRing(1, "door", 60.0)]
    bench.acknowledge(1)
    bench.run(5)
    assert bench.bell.chimes == 0
    bench.end(1, PressOutcome.ACCEPTED, peer="kitchen", response="coming")
    assert bench.effects()[1:] == [RunAction("door", PressOutcome.ACCEPTED, "kitchen", "coming")]
    assert bench.bell.light.level
    bench.run(10)
    assert not bench.bell.light.level
    assert bench.bell.deadline is None, "an idle doorbell has nothing to wake up for"


def test_no_acknowledgement_in_time_sounds_the_chime_once():
    bench = Bench()
    bench.press()
    bench.run(1.2)
    assert bench.bell.chimes == 0
    bench.run(0.2)
    assert (bench.bell.chimes, bench.bell.chime.level) == (1, True)
    bench.run(20)
    assert (bench.bell.chimes, bench.bell.chime.level) == (1, False)
    bench.acknowledge(1)
    bench.run(20)
    assert bench.bell.chimes == 1


def test_without_a_broker_the_chime_sounds_at_once_and_nothing_rings():
    bench = Bench(online=False)
    bench.press()
    assert bench.bell.chimes == 1
    assert bench.effects() == [RunAction("door", PressOutcome.OFFLINE)]


@pytest.mark.parametrize("rule", list(WhileRinging))
def test_what_was_pressed_without_a_link_rings_when_it_is_back(rule: WhileRinging):
    """For the rest of its time, counted from the last press; once, however often it was pressed."""
    bench = Bench(online=False, ring_time=30.0, ring_limit=30.0, while_ringing=rule)
    bench.press()
    bench.run(5)
    bench.press()
    pressed = bench.now
    bench.run(12)
    bench.out += bench.bell.link(True, bench.now)
    assert bench.bell.chimes == 2
    (ring,) = [e for e in bench.effects() if isinstance(e, StartRing)]
    assert (ring.ring, ring.button) == (1, "door")
    left = 30 - (bench.now - pressed)
    if rule is WhileRinging.EXTEND:  # the invitation lasts longer; here it is ended in time
        bench.out += bench.bell.tick(bench.now)
        assert bench.bell._rings[1].ends_at - bench.now == pytest.approx(left, abs=0.5)
    else:
        assert ring.seconds == pytest.approx(left, abs=0.5)
    bench.acknowledge(1)
    bench.end(1, PressOutcome.ACCEPTED, peer="kitchen")
    assert bench.effects()[-1] == RunAction("door", PressOutcome.ACCEPTED, "kitchen")
    bench.out += bench.bell.link(False, bench.now)
    bench.out += bench.bell.link(True, bench.now)
    assert [e for e in bench.effects() if isinstance(e, StartRing)] == [ring]


def test_a_link_that_comes_back_too_late_rings_nobody():
    """The visitor has long gone."""
    bench = Bench(online=False, ring_time=30.0)
    bench.press()
    bench.run(31)
    bench.out += bench.bell.link(True, bench.now)
    assert bench.effects() == [RunAction("door", PressOutcome.OFFLINE)]


def test_a_press_while_a_ring_goes_on_without_a_link_does_not_ring_twice():
    """The client itself says again what it was told before the link broke."""
    bench = Bench()
    bench.press()
    bench.out += bench.bell.link(False, bench.now)
    bench.press()
    bench.out += bench.bell.link(True, bench.now)
    assert bench.effects() == [StartRing(1, "door", 60.0)]


def test_losing_the_broker_before_the_acknowledgement_sounds_the_chime():
    bench = Bench()
    bench.press()
    bench.out += bench.bell.link(False, bench.now)
    assert bench.bell.chimes == 1
    bench.run(10)
    assert bench.bell.chimes == 1


def test_a_ring_that_ends_unheard_sounds_the_chime():
    bench = Bench()
    bench.press()
    bench.end(1, PressOutcome.NOBODY)
    assert bench.bell.chimes == 1


def test_a_second_press_does_not_ring_twice():
    bench = Bench()
    bench.press()
    bench.acknowledge(1)
    bench.run(2)
    bench.press()
    assert bench.effects() == [StartRing(1, "door", 60.0)]
    assert bench.bell.chimes == 0


def test_a_second_press_that_no_panel_hears_is_heard_here():
    bench = Bench()
    bench.press()
    bench.run(3)
    bench.press()
    assert bench.bell.chimes == 2
    bench.acknowledge(1)
    bench.out += bench.bell.link(False, bench.now)
    bench.press()
    assert bench.bell.chimes == 3


def test_extend_rings_on_up_to_the_limit():
    bench = Bench(while_ringing=WhileRinging.EXTEND, ring_time=60, ring_limit=100)
    bench.press()
    assert bench.effects() == [StartRing(1, "door", 100)]
    bench.acknowledge(1)
    bench.run(50)
    bench.press()
    bench.run(45)
    assert StopRing(1) not in bench.out
    bench.run(10)
    assert bench.effects()[1:] == [StopRing(1), RunAction("door", PressOutcome.NOBODY)]


def test_extend_without_a_second_press_ends_after_the_ring_time():
    bench = Bench(while_ringing=WhileRinging.EXTEND, ring_time=20)
    bench.press()
    bench.run(20.5)
    assert StopRing(1) in bench.out


def test_re_ring_cancels_and_rings_anew():
    bench = Bench(while_ringing=WhileRinging.RE_RING)
    bench.press()
    bench.acknowledge(1)
    bench.run(2)
    bench.press()
    assert bench.effects() == [
        StartRing(1, "door", 60.0),
        StopRing(1),
        RunAction("door", PressOutcome.CANCELED),
        StartRing(2, "door", 60.0),
    ]
    bench.end(1, PressOutcome.CANCELED)
    assert bench.effects()[4:] == [], "the canceled ring's end is no news"
    assert bench.bell.light.level or bench.bell.light.deadline, "the new ring still shows"


def test_pressing_on_and_on_does_not_put_off_the_chime():
    bench = Bench(while_ringing=WhileRinging.RE_RING)
    for _ in range(6):
        bench.press(hold=0.2)
        bench.run(0.2)
    assert bench.bell.chimes >= 1


def test_a_ring_whose_end_is_never_told_is_given_up():
    bench = Bench(ring_time=10)
    bench.press()
    bench.acknowledge(1)
    bench.run(16)
    assert bench.effects()[1:] == [StopRing(1), RunAction("door", PressOutcome.NOBODY)]
    bench.press()
    assert bench.effects()[-1] == StartRing(2, "door", 10)


def test_a_stuck_button_is_noticed_rings_once_and_recovers():
    bench = Bench(stuck_after=30)
    bench.out += bench.bell.edge("door", True, bench.now)
    bench.run(31)
    bench.end(1, PressOutcome.REFUSED)
    bench.run(100)
    assert [e for e in bench.out if isinstance(e, StartRing)] == [StartRing(1, "door", 60.0)]
    assert any("held for 30 s" in note for note in bench.notes())
    assert bench.bell.light.deadline is not None, "the light shows that it is stuck"
    bench.out += bench.bell.edge("door", False, bench.now)
    bench.run(1)
    assert "button door is open again" in bench.notes()
    bench.press()
    assert bench.effects()[-1] == StartRing(2, "door", 60.0)


def test_a_button_closed_at_the_start_does_not_ring():
    bench = Bench()
    bench.bell = Doorbell((ButtonRules(name="door"),))
    bench.out = bench.bell.start(frozenset({"door"}), bench.now)
    bench.out += bench.bell.link(True, bench.now)
    bench.run(100)
    assert bench.effects() == []
    assert any("closed at the start" in note for note in bench.notes())


def test_two_buttons_ring_side_by_side():
    bell = Doorbell((ButtonRules(name="door"), ButtonRules(name="gate")))
    bell.start(frozenset(), 0.0)
    bell.link(True, 0.0)
    bell.edge("door", True, 1.0)
    bell.edge("gate", True, 1.0)
    rings = [effect for effect in bell.tick(1.1) if isinstance(effect, StartRing)]
    assert [ring.button for ring in rings] == ["door", "gate"]
    bell.acknowledged(1, 1.2)
    bell.acknowledged(2, 1.2)
    assert bell.tick(1.8) == [TellRinging("door"), TellRinging("gate")]
    assert bell.ended(1, PressOutcome.REFUSED, 2.0) == [RunAction("door", PressOutcome.REFUSED)]
    bell.tick(2.1)
    assert bell.light.deadline is not None, "one still rings"


@pytest.mark.parametrize(
    ("outcome", "pattern"),
    [
        (PressOutcome.ACCEPTED, lights.ACCEPTED),
        (PressOutcome.REFUSED, lights.REFUSED),
        (PressOutcome.NOBODY, lights.NOBODY),
    ],
)
def test_each_outcome_has_its_own_light(outcome, pattern):
    bench = Bench()
    bench.press()
    bench.acknowledge(1)
    bench.end(1, outcome)
    strokes, level = 0, False
    until = bench.now + 10
    while bench.bell.light.deadline is not None and bench.now < until:
        strokes += bench.bell.light.level and not level
        level = bench.bell.light.level
        bench.now = bench.bell.light.deadline
        bench.out += bench.bell.tick(bench.now)
    assert strokes == pattern.repeat


def test_offline_is_shown():
    bench = Bench(online=False)
    bench.run(10)
    assert bench.bell.light.deadline is not None
    bench.out += bench.bell.link(True, bench.now)
    assert (bench.bell.light.level, bench.bell.light.deadline) == (False, None)


def test_panels_that_are_not_there_are_shown_and_heard_at_once():
    """The chime does not wait, the light says so; and one that comes back rings as ever."""
    bench = Bench(ring_time=30)
    bench.press()
    bench.out += bench.bell.unreached(1, bench.now)
    assert bench.bell.chimes == 1
    assert any("nobody is online" in note for note in bench.notes())
    shown = []
    for _ in range(20):
        bench.run(0.1)
        shown.append(bench.bell.light.level)
    assert 1 <= sum(shown) <= 4, "a short blink each second"
    bench.acknowledge(1)
    bench.run(5)
    assert bench.bell.chimes == 1
    bench.end(1, PressOutcome.ACCEPTED, peer="kitchen")
    assert bench.effects()[-1] == RunAction("door", PressOutcome.ACCEPTED, "kitchen", None)
    assert bench.bell.unreached(1, bench.now) == []


def in_call(in_call: WhileInCall = WhileInCall.TELL) -> Bench:
    """A doorbell whose press was accepted, and the call goes on."""
    bench = Bench(in_call=in_call)
    bench.press()
    bench.acknowledge(1)
    bench.end(1, PressOutcome.ACCEPTED, peer="kitchen")
    bench.out += bench.bell.call_started("c1", "kitchen", "door", bench.now)
    bench.run(4)
    bench.out.clear()
    return bench


def test_the_light_shows_a_call_until_it_is_over():
    bench = in_call()
    shown = set()
    for _ in range(40):
        bench.run(0.1)
        shown.add(bench.bell.light.level)
    assert shown == {True, False}, "on, with a wink"
    bench.out += bench.bell.call_ended("c1", bench.now)
    assert not bench.bell.light.level
    assert bench.bell.deadline is None
    assert bench.effects() == []


def test_a_press_in_its_call_is_told_there_and_heard_here():
    """Who is in the call, or forgot to hang up, learns that somebody is at the door."""
    bench = in_call()
    bench.press()
    assert bench.effects() == [SayInCall("c1", {"text": "door: pressed again"})]
    assert bench.bell.chimes == 1
    bench.out += bench.bell.call_ended("c1", bench.now)
    bench.press()
    assert bench.effects()[-1] == StartRing(2, "door", 60.0)


def test_a_press_in_its_call_hangs_up_or_rings_anew_where_that_is_set():
    bench = in_call(WhileInCall.HANG_UP)
    bench.press()
    assert bench.effects() == [EndCall("c1")]
    bench = in_call(WhileInCall.RE_RING)
    bench.press()
    assert bench.effects() == [EndCall("c1"), StartRing(2, "door", 60.0)]


def test_another_button_rings_whatever_call_goes_on():
    bell = Doorbell((ButtonRules(name="up"), ButtonRules(name="down")))
    bell.start(frozenset(), 0.0)
    bell.link(True, 0.0)
    bell.call_started("c1", "kitchen", "up", 1.0)
    bell.edge("down", True, 2.0)
    assert [e for e in bell.tick(2.1) if not isinstance(e, Note)] == [StartRing(1, "down", 60.0)]


def test_the_end_of_a_call_that_is_not_known_is_no_news():
    bench = Bench()
    assert bench.bell.call_ended("c9", bench.now) == []
