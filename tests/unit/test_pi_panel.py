"""The panel's decisions, with time as an argument."""

from __future__ import annotations

import pytest

from device_sdk.services.logic.doorbell import Note
from device_sdk.services.logic.panel import (
    AcceptCall,
    ButtonTiming,
    CallEnd,
    Effect,
    Panel,
    PanelButton,
    RefuseCall,
    Sound,
    TellEnd,
    WhenQuiet,
)


class Bench:
    """A panel with both buttons and a clock moved by hand."""

    def __init__(self, **settings: object) -> None:
        self.panel = Panel({button: ButtonTiming() for button in PanelButton}, **settings)  # type: ignore[arg-type] # **kwargs
        self.now = 50.0
        self.panel.start(frozenset(), self.now)
        self.panel.link(True, self.now)

    def press(self, button: PanelButton) -> list[Effect]:
        out = self.panel.edge(button, True, self.now)
        out += self.panel.tick(self.now + 0.1)
        out += self.panel.edge(button, False, self.now + 0.2)
        self.now += 0.5
        return out + self.panel.tick(self.now)

    def call(self, call: str = "c1", caller: str = "door", quiet: bool = False) -> list[Effect]:
        return self.panel.call(call, caller, self.now, quiet=quiet)

    def end(self, end: CallEnd, call: str = "c1") -> list[Effect]:
        return self.panel.ended(call, end, self.now)


def test_a_call_rings_until_it_is_answered():
    bench = Bench()
    assert bench.call() == [Sound(True)]
    assert bench.panel.ringer.level
    assert bench.press(PanelButton.ANSWER) == [AcceptCall("c1"), Sound(False)]
    assert not bench.panel.ringer.level
    assert bench.end(CallEnd.ACCEPTED) == [TellEnd("c1", "door", CallEnd.ACCEPTED)]
    assert bench.panel.missed == 0
    assert bench.panel.deadline is None


def test_a_call_is_refused_by_the_other_button():
    bench = Bench()
    bench.call()
    assert bench.press(PanelButton.REFUSE) == [RefuseCall("c1"), Sound(False)]


def test_the_ringer_is_silent_as_soon_as_the_call_ends():
    bench = Bench()
    bench.call()
    assert bench.end(CallEnd.ANSWERED_ELSEWHERE) == [
        Sound(False),
        TellEnd("c1", "door", CallEnd.ANSWERED_ELSEWHERE),
    ]
    assert (bench.panel.ringer.level, bench.panel.missed) == (False, 0)


def test_a_missed_call_is_shown_until_a_button_is_pressed():
    bench = Bench()
    bench.call()
    bench.end(CallEnd.MISSED)
    bench.panel.missed_call("c2", "gate", bench.now)
    assert bench.panel.missed == 2
    assert bench.press(PanelButton.REFUSE) == []
    assert bench.panel.missed == 0


def test_two_calls_are_answered_oldest_first():
    bench = Bench()
    bench.call("c1")
    assert bench.call("c2", "gate") == []
    assert bench.press(PanelButton.ANSWER) == [AcceptCall("c1")]
    assert bench.panel.ringer.deadline is not None, "the second still rings"
    assert bench.press(PanelButton.REFUSE) == [RefuseCall("c2"), Sound(False)]
    assert bench.press(PanelButton.REFUSE) == [], "nothing is left to answer"


def test_quiet_hours_refuse_and_remember():
    bench = Bench()
    out = bench.call(quiet=True)
    assert out[0] == RefuseCall("c1", quiet=True)
    assert isinstance(out[1], Note)
    assert (bench.panel.missed, bench.panel.ringer.level) == (1, False)
    assert bench.end(CallEnd.REFUSED) == []


def test_quiet_hours_can_be_silent_but_shown():
    bench = Bench(when_quiet=WhenQuiet.SILENT)
    assert bench.call(quiet=True) == []
    assert bench.panel.light.level
    assert not bench.panel.ringer.level
    assert bench.press(PanelButton.ANSWER) == [AcceptCall("c1")]


def test_a_stuck_button_answers_one_call_only_and_is_noticed():
    bench = Bench()
    bench.call("c1")
    bench.panel.edge(PanelButton.ANSWER, True, bench.now)
    assert bench.panel.tick(bench.now + 0.1)[0] == AcceptCall("c1")
    notes = bench.panel.tick(bench.now + 31)
    assert any(isinstance(note, Note) and "stuck" in note.text for note in notes)
    bench.end(CallEnd.ACCEPTED)
    assert bench.panel.light.deadline is not None, "the light says it, as a doorbell's does"
    bench.now += 40
    assert bench.call("c2") == [Sound(True)]
    assert bench.panel.tick(bench.now + 5) == []
    bench.end(CallEnd.MISSED, "c2")
    bench.panel.edge(PanelButton.ANSWER, False, bench.now + 6)
    assert bench.panel.tick(bench.now + 7) == [Note("button answer is open again")]
    assert bench.panel.light.deadline is None


@pytest.mark.parametrize("button", list(PanelButton))
def test_a_button_closed_at_the_start_answers_nothing(button):
    panel = Panel({each: ButtonTiming() for each in PanelButton})
    notes = panel.start(frozenset({button}), 0.0)
    assert isinstance(notes[0], Note)
    panel.call("c1", "door", 1.0, quiet=False)
    assert [e for e in panel.tick(20.0) if isinstance(e, AcceptCall | RefuseCall)] == []


def test_the_light_tells_that_the_broker_is_away():
    bench = Bench()
    bench.panel.link(False, bench.now)
    assert bench.panel.light.deadline is not None
    bench.panel.link(True, bench.now)
    assert bench.panel.light.deadline is None
