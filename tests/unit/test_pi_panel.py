"""The panel's decisions, with time as an argument."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from device_sdk import EndReason
from device_sdk.services.logic.appliance import EndCall, SayInCall
from device_sdk.services.logic.doorbell import Note
from device_sdk.services.logic.messages import OpenResult
from device_sdk.services.logic.panel import (
    AcceptCall,
    ButtonTiming,
    CallEnd,
    Effect,
    Occupied,
    Panel,
    PanelButton,
    RefuseCall,
    Sound,
    TellDoor,
    TellEnd,
    WhenQuiet,
)
from device_sdk.services.service.incoming import IncomingCalls


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
    assert out[2:] == [TellEnd("c1", "door", CallEnd.MISSED)], "it would have rung"
    assert (bench.panel.missed, bench.panel.ringer.level) == (1, False)
    assert bench.end(CallEnd.MISSED) == [], "told once"


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


def in_call(button: PanelButton = PanelButton.ANSWER) -> Bench:
    """A panel that answered ``c1`` of ``door`` with ``button``; it goes on."""
    bench = Bench()
    bench.call()
    bench.press(button)
    bench.panel.ended("c1", CallEnd.ACCEPTED, bench.now, goes_on=True)
    return bench


def test_in_a_call_the_panel_is_busy_and_both_buttons_hang_up():
    bench = in_call()
    assert bench.panel.call_started("c1", "door", bench.now) == [Occupied(True)]
    assert bench.panel.light.deadline is not None, "on, with a wink"
    assert bench.press(PanelButton.ANSWER) == [], "pressed twice by impatience"
    bench.now += 2
    assert bench.press(PanelButton.ANSWER) == [EndCall("c1")]
    assert bench.press(PanelButton.REFUSE) == [EndCall("c1")]
    assert bench.panel.call_ended("c1", bench.now) == [Occupied(False)]
    assert bench.panel.deadline is None
    assert bench.panel.call_ended("c1", bench.now) == []


def test_whoever_rings_beside_a_call_is_told_that_the_panel_is_busy():
    """Those that rang before it began, and one that crossed the word that it is busy."""
    bench = Bench()
    bench.call("c1")
    bench.call("c2", "gate")
    bench.press(PanelButton.ANSWER)
    bench.panel.ended("c1", CallEnd.ACCEPTED, bench.now, goes_on=True)
    out = bench.panel.call_started("c1", "door", bench.now)
    assert out == [Occupied(True), RefuseCall("c2", busy=True), Sound(False)]
    assert bench.end(CallEnd.MISSED, "c2") == [TellEnd("c2", "gate", CallEnd.MISSED)]
    out = bench.call("c3", "gate")
    assert out[0] == RefuseCall("c3", busy=True)
    assert TellEnd("c3", "gate", CallEnd.MISSED) in out
    assert bench.panel.missed == 2


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        (EndReason.DECLINED, CallEnd.REFUSED),
        (EndReason.BUSY, CallEnd.MISSED),
        (EndReason.DO_NOT_DISTURB, CallEnd.MISSED),
    ],
)
def test_a_refusal_that_nobody_pressed_is_a_call_missed(reason, end):
    told = []
    incoming = SimpleNamespace(
        _loop=SimpleNamespace(post=lambda call: call()), _over=lambda *over: told.append(over)
    )
    invitation = SimpleNamespace(reason=reason)
    IncomingCalls.on_remote_invitation_refused(incoming, invitation)
    assert told == [(invitation, end)]


def test_the_third_button_asks_for_the_door_once_until_its_word_is_back():
    bench = in_call()
    bench.panel.call_started("c1", "door", bench.now)
    assert bench.press(PanelButton.OPEN) == [SayInCall("c1", {"do": "open"})]
    assert not [e for e in bench.press(PanelButton.OPEN) if not isinstance(e, Note)]
    out = bench.panel.call_message("c1", {"done": "open", "ok": True}, bench.now)
    assert out == [TellDoor("c1", "door", OpenResult(True))]
    assert bench.press(PanelButton.OPEN) == [SayInCall("c1", {"do": "open"})]
    why = {"done": "open", "ok": False, "why": "no"}
    out = bench.panel.call_message("c1", why, bench.now)
    assert out == [TellDoor("c1", "door", OpenResult(False, "no"))]


@pytest.mark.parametrize("end", ["time", "the call"])
def test_a_door_that_says_nothing_is_shown_as_not_opened(end):
    bench = in_call()
    bench.panel.call_started("c1", "door", bench.now)
    bench.press(PanelButton.OPEN)
    if end == "time":
        out = bench.panel.tick(bench.now + 5)
    else:
        out = bench.panel.call_ended("c1", bench.now)
    (told,) = [e for e in out if isinstance(e, TellDoor)]
    assert not told.result.ok


def test_open_pressed_while_it_rings_answers_and_then_asks_for_the_door():
    bench = in_call(PanelButton.OPEN)
    out = bench.panel.call_started("c1", "door", bench.now)
    assert out == [Occupied(True), SayInCall("c1", {"do": "open"})]


def test_open_pressed_while_it_rings_says_so_where_no_call_goes_on():
    bench = Bench()
    bench.call()
    assert bench.press(PanelButton.OPEN) == [AcceptCall("c1"), Sound(False)]
    out = bench.panel.ended("c1", CallEnd.ACCEPTED, bench.now)
    (told,) = [e for e in out if isinstance(e, TellDoor)]
    assert not told.result.ok
    bench.call("c2")
    bench.press(PanelButton.ANSWER)
    assert bench.panel.ended("c2", CallEnd.ACCEPTED, bench.now, goes_on=True)
    assert bench.panel.call_started("c2", "door", bench.now) == [Occupied(True)], "asked no more"


def test_messages_that_are_no_word_of_the_door_do_nothing():
    bench = in_call()
    bench.panel.call_started("c1", "door", bench.now)
    for message in ("open", 3, None, [], {"done": "close"}, {"ok": True}):
        assert bench.panel.call_message("c1", message, bench.now) == []
    assert bench.panel.call_message("c9", {"done": "open", "ok": True}, bench.now) == []
