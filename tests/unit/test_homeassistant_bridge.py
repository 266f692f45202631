"""The bridge's decisions, without a broker: what rings, when, and once."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from device_sdk.services.homeassistant.availability import WAIT_FOR_BIRTH
from device_sdk.services.homeassistant.bridge import (
    FORMER_WAIT,
    INTRODUCTION,
    MAX_OTHERS,
    READ_FIRST,
    HaBridge,
)
from device_sdk.services.homeassistant.buttons import REPEAT, MqttPresses
from device_sdk.services.homeassistant.commands import matches_value, read_command
from device_sdk.services.homeassistant.control import OPEN_TIMEOUT
from device_sdk.services.homeassistant.discovery import HaCall, discovery
from device_sdk.services.homeassistant.effects import (
    AcceptHa,
    CallOver,
    CallRang,
    DoorOpened,
    LogIn,
    PublishHa,
    RefuseHa,
)
from device_sdk.services.homeassistant.names import Names
from device_sdk.services.logic.appliance import EndCall, SayInCall

NAMES = Names("sig", "home")
DOOR = "front-door"


class World:
    """A bridge, the broker's retained messages, and a Home Assistant that counts."""

    def __init__(self) -> None:
        self.now = 100.0
        self.retained: dict[str, bytes] = {}
        #: Rings that Home Assistant heard, by call.
        self.rang: dict[str, int] = {}
        self.events: list[dict[str, Any]] = []
        self.said: list[PublishHa] = []
        self.others: list[Any] = []
        self.ha = True
        self.ringing = ""
        self.link = False
        self.start()
        self.pass_time(INTRODUCTION)

    def start(self, *, broker_away: bool = False) -> None:
        """A life of the bridge; with ``broker_away`` Home Assistant's is not there as it begins."""
        self.bridge = HaBridge(NAMES, {DOOR: "Front door"}, "1")
        self.bridge.start(self.now)
        self.logged_in = self.link = False
        if broker_away:
            self.bridge.link_down()
            self.pass_time(READ_FIRST)
            assert self.logged_in
            if self.ringing:
                self.come_back()
        self.connect()

    def connect(self) -> None:
        self.link = True
        self.bridge.link_up(self.now)
        for topic, payload in list(self.retained.items()):
            self.bridge.message(topic, payload, retained=True, now=self.now)
        self.run()
        if self.ringing and self.logged_in:
            self.come_back()

    def come_back(self) -> None:
        """Bellwire tells a login of what rings, once a life."""
        if not getattr(self.bridge, "told_" + self.ringing, False):
            door = self.bridge._doors.get(DOOR)
            if door is None or not door.live:
                self.bridge.rang(DOOR, self.ringing, {"text": "hi"}, "now", self.now)
                self.run()

    def lose(self, *, reached: bool = True, kept: bool = True) -> None:
        """The link to Home Assistant's broker, and perhaps what that kept."""
        self.link = False
        if not kept:
            self.retained.clear()
        self.bridge.link_down()
        self.run()

    def run(self) -> None:
        while effects := self.bridge.effects():
            for effect in effects:
                if isinstance(effect, LogIn):
                    self.logged_in = True
                    self.bridge.bellwire(True, self.now)
                elif isinstance(effect, PublishHa):
                    self.publish(effect)
                else:
                    self.others.append(effect)

    def publish(self, effect: PublishHa) -> None:
        if not self.link:
            return
        self.said.append(effect)
        if effect.retain:
            self.retained[effect.topic] = effect.payload
        if effect.topic == NAMES.read_mark:
            self.bridge.message(effect.topic, effect.payload, retained=False, now=self.now)
        if effect.topic == NAMES.door(DOOR, "event"):
            assert not effect.retain
            event = json.loads(effect.payload)
            self.events.append(event)
            if self.ha and event["event_type"] == "ring":
                self.rang[event["call_id"]] = self.rang.get(event["call_id"], 0) + 1
        if effect.token is not None:
            self.bridge.acknowledged(effect.token)

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.bridge.deadline) is not None and due <= until:
            self.now = max(self.now, due)
            self.bridge.tick(self.now)
            self.run()
        self.now = until
        self.bridge.tick(self.now)
        self.run()

    def ring(self, call: str = "c1", content: Any = "parcel") -> None:
        self.ringing = call
        self.bridge.rang(DOOR, call, content, "now", self.now)
        self.run()

    def status(self, word: str) -> None:
        self.ha = word == "online"
        if self.link:
            self.bridge.message(NAMES.ha_status, word.encode(), retained=False, now=self.now)
            self.run()

    def command(self, *, retained: bool = False, **facts: str) -> None:
        topic = NAMES.door(DOOR, "command")
        self.bridge.message(topic, json.dumps(facts).encode(), retained=retained, now=self.now)
        self.run()

    def end(self, how: HaCall, *, goes_on: bool = False, response: Any = None) -> None:
        self.bridge.ended(DOOR, self.ringing, how, response, goes_on=goes_on)
        self.run()

    @property
    def call(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.retained[NAMES.door(DOOR, "call")])
        return found

    @property
    def kinds(self) -> list[str]:
        return [event["event_type"] for event in self.events]

    @property
    def results(self) -> list[tuple[str, bool, str]]:
        topic = NAMES.door(DOOR, "result")
        said = [json.loads(each.payload) for each in self.said if each.topic == topic]
        return [(each["do"], each["ok"], each["why"]) for each in said]


def test_picture_call_event_in_that_order() -> None:
    """Who reads the call or the picture on the event finds those of this ring."""
    world = World()
    world.said.clear()
    world.ring(content={"text": "hi", "media": [{"kind": "snapshot", "url": "http://d/s.jpg"}]})
    assert [each.topic.rpartition("/")[2] for each in world.said] == ["picture", "call", "event"]
    assert world.call["state"] == "ringing"
    assert world.events[-1] == {
        "event_type": "ring", "call_id": "c1", "caller": DOOR, "content": "hi", "since": "now",
        "command_topic": NAMES.door(DOOR, "command"),
    }  # fmt: skip


def test_answered_is_shown_when_the_caller_has_decided() -> None:
    """Not on the press."""
    world = World()
    world.ring()
    world.command(do="answer", call_id="c1")
    assert world.others[-1] == AcceptHa("c1")
    assert (world.call["state"], world.call["can"], world.kinds) == ("ringing", [], ["ring"])
    world.end(HaCall.ANSWERED, goes_on=True)
    assert (world.call["state"], world.call["can"]) == ("answered", ["open", "hang_up"])
    assert (world.kinds, world.results) == (["ring", "answered"], [("answer", True, "")])
    world.command(do="hang_up")
    assert world.others[-1] == EndCall("c1")
    world.bridge.call_ended(DOOR, "c1")
    world.run()
    assert world.call["state"] == "ended"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"do": "answer", "call_id": "old"}, "that call is over"),
        ({"do": "hang_up"}, "the call is not answered yet"),
        ({"do": "explode"}, "unknown command 'explode'; known are answer, refuse, open, hang_up"),
    ],
)
def test_what_does_not_apply_does_nothing_and_says_so(facts: dict[str, str], why: str) -> None:
    """A stale notification above all."""
    world = World()
    world.ring()
    before = list(world.others)
    world.command(**facts)
    assert [e for e in world.others if isinstance(e, AcceptHa | EndCall)] == [
        e for e in before if isinstance(e, AcceptHa | EndCall)
    ]
    assert world.results[-1][1:] == (False, why)


def test_a_retained_command_is_ignored() -> None:
    """It would answer every call from now on."""
    world = World()
    world.ring()
    world.command(do="answer", retained=True)
    assert not any(isinstance(each, AcceptHa) for each in world.others)


def test_open_while_it_rings_answers_and_then_asks_the_door() -> None:
    """Only in the live call; what the door says is the result."""
    world = World()
    world.ring()
    world.command(do="open", call_id="c1")
    assert world.others[-1] == AcceptHa("c1")
    world.end(HaCall.ANSWERED, goes_on=True)
    world.bridge.call_started(DOOR, "c1", world.now)
    world.run()
    assert SayInCall("c1", {"do": "open"}) in world.others
    world.bridge.call_message(DOOR, "c1", {"done": "open", "ok": False, "why": "no"})
    world.run()
    assert world.results == [("open", False, "no")]


def test_a_door_that_says_nothing_of_opening() -> None:
    """The one who asked hears that."""
    world = World()
    world.ring()
    world.command(do="open")
    world.end(HaCall.ANSWERED, goes_on=True)
    world.bridge.call_started(DOOR, "c1", world.now)
    world.pass_time(OPEN_TIMEOUT)
    assert world.results == [("open", False, "the door said nothing of it within 10 s")]


def test_a_call_left_ringing_by_a_former_life_is_missed_after_five_seconds() -> None:
    """If it does not come back; and it is told once."""
    world = World()
    world.ring()
    world.ringing = ""
    world.start()
    assert world.call["state"] == "ringing"
    world.pass_time(FORMER_WAIT - 0.1)
    assert world.kinds == ["ring"]
    world.pass_time(0.2)
    assert (world.kinds, world.call["state"]) == (["ring", "missed"], "missed")
    world.start()
    world.pass_time(60)
    assert world.kinds == ["ring", "missed"]


def test_home_assistants_broker_is_waited_for_and_not_for_ever() -> None:
    """Without it the bridge logs in all the same, and a visitor is missed, not unheard."""
    world = World()
    world.retained.clear()
    world.bridge = HaBridge(NAMES, {DOOR: "Front door"}, "1")
    world.logged_in = world.link = False
    world.bridge.start(world.now)
    world.pass_time(READ_FIRST - 0.1)
    assert not world.logged_in
    world.bridge.link_down()
    world.pass_time(0.2)
    assert world.logged_in
    world.ring("c1")
    world.end(HaCall.MISSED)
    assert [type(each).__name__ for each in world.others] == ["CallRang", "CallOver"]
    world.ring("c2")
    world.connect()
    world.pass_time(WAIT_FOR_BIRTH)
    assert world.rang == {"c2": 1}, "what rings still when it comes is told there"


def test_a_former_life_s_ring_is_missed_also_if_read_late() -> None:
    world = World()
    world.ring()
    world.ringing = ""
    world.start(broker_away=True)
    assert world.call["state"] == "ringing"
    world.pass_time(FORMER_WAIT)
    assert world.call["state"] == "missed"


def test_a_call_of_which_only_the_end_is_known() -> None:
    """It never rang here: missed, without a ring; one that goes on is not hidden by it."""
    world = World()
    world.bridge.missed(DOOR, "c0", None, "now", world.now)
    world.run()
    assert world.kinds == ["missed"]
    world.ring()
    world.bridge.missed(DOOR, "c2", None, "now", world.now)
    world.run()
    assert (world.kinds, world.call["call_id"]) == (["missed", "ring"], "c1")
    world.command(do="refuse")
    assert world.others[-1] == RefuseHa("c1")


def test_a_ring_while_home_assistant_is_away_is_owed_until_its_birth() -> None:
    """And told once more as still_ringing to one that was born again."""
    world = World()
    world.status("offline")
    world.ring()
    assert (world.kinds, world.call["told"]) == ([], "no")
    world.status("online")
    assert world.kinds == ["ring"]
    world.status("offline")
    world.status("online")
    assert world.kinds == ["ring", "still_ringing"]


def test_a_will_that_comes_late_is_of_the_life_before() -> None:
    """A machine that lost its power is missed only after the birth of its next life."""
    world = World()
    world.status("online")
    world.status("online")
    world.status("offline")
    world.ha = True
    world.ring()
    assert world.kinds == ["ring"]


def test_a_link_lost_without_a_birth_owes_the_ring_for_a_while_only() -> None:
    """If only the bridge's own link was gone there is no birth to wait for."""
    world = World()
    world.status("online")
    world.lose()
    world.ring()
    world.connect()
    world.pass_time(WAIT_FOR_BIRTH - 1)
    assert world.kinds == []
    world.pass_time(2)
    assert world.kinds == ["ring"]


STEPS = st.lists(
    st.sampled_from(
        [
            "kill",
            "kill, broker away",
            "ha restarts",
            "ha goes",
            "ha comes",
            "link",
            "broker",
            "broker empty",
            "time",
        ]
    ),
    max_size=8,
)


@example(before=["kill"], during=["ha goes", "kill"])
@example(before=["kill, broker away"], during=["kill, broker away", "ha restarts"])
@example(before=["kill"], during=["kill, broker away", "ha restarts"])
@given(before=STEPS, during=STEPS)
@settings(max_examples=150)
def test_a_call_rings_exactly_once_whatever_restarts(before: list[str], during: list[str]) -> None:
    """Bridge, Home Assistant, its broker: in any order, while it rings and before."""
    world = World()
    world.status("online")

    def step(what: str) -> None:
        if what == "kill":
            world.start()
            if world.ringing:
                world.come_back()
        elif what == "kill, broker away":
            world.start(broker_away=True)
        elif what in ("ha restarts", "ha goes") and world.ha:
            world.status("offline")
        if what in ("ha restarts", "ha comes") and not world.ha:
            world.pass_time(3)
            world.status("online")
        if what == "link":
            world.lose()
            world.pass_time(1)
            world.connect()
        elif what in ("broker", "broker empty"):
            world.lose(kept=what == "broker")
            world.pass_time(1)
            world.connect()
            if world.ha:
                # It is back a moment later, and says so when it has subscribed.
                world.pass_time(8)
                world.status("online")
        elif what == "time":
            world.pass_time(2)

    for each in before:
        step(each)
    world.ring()
    for each in during:
        step(each)
    if not world.ha:
        world.status("online")
    world.pass_time(WAIT_FOR_BIRTH + INTRODUCTION)
    assert world.rang == {"c1": 1}
    world.end(HaCall.MISSED)
    assert world.call["state"] == "missed"


def test_a_ring_that_the_broker_never_got_is_told_again() -> None:
    """What the retained call says decides: it was written before the event."""
    for got in (True, False):
        world = World()
        world.status("online")
        world.bridge.rang(DOOR, "c1", None, "now", world.now)
        lost = world.bridge.effects()
        if got:
            for effect in lost:
                if isinstance(effect, PublishHa):
                    world.publish(effect._replace(token=None))
        world.ringing = "c1"
        world.lose()
        world.connect()
        world.status("online")
        assert world.rang == {"c1": 1}


def _noted(world: World) -> list[tuple[str, str]]:
    """What the history and the hooks are told, in order."""
    noted = []
    for each in world.others:
        if isinstance(each, CallRang):
            noted.append(("again" if each.again else "rang", each.call.call_id))
        elif isinstance(each, CallOver):
            noted.append((each.how.value if each.rang else "never rang", each.call.call_id))
        elif isinstance(each, DoorOpened):
            noted.append(("opened", each.call_id))
    return noted


def test_history_and_hooks_hear_of_each_call_once() -> None:
    """A ring that comes back after a restart is told as such; its content is what was offered."""
    world = World()
    world.ring(content={"text": "hi", "camera": 2})
    world.start()
    assert _noted(world) == [("rang", "c1"), ("again", "c1")]
    assert isinstance(world.others[0], CallRang)
    assert world.others[0].call.content == {"text": "hi", "camera": 2}
    world.command(do="answer")
    world.end(HaCall.ANSWERED, goes_on=True, response="coming")
    world.bridge.call_started(DOOR, "c1", world.now)
    world.command(do="open")
    world.bridge.call_message(DOOR, "c1", {"done": "open", "ok": True})
    world.bridge.call_ended(DOOR, "c1")
    world.run()
    assert _noted(world)[2:] == [("answered", "c1"), ("opened", "c1")]
    assert [e.response for e in world.others if isinstance(e, CallOver)] == ["coming"]


def test_history_and_hooks_need_no_home_assistant() -> None:
    """Its broker is away, then Bellwire's as well: the call's end is known all the same."""
    world = World()
    world.lose()
    world.ring()
    world.bridge.bellwire(False, world.now)
    world.end(HaCall.CANCELED)
    assert _noted(world) == [("rang", "c1"), ("canceled", "c1")]
    world.bridge.missed(DOOR, "c2", None, "now", world.now)
    world.run()
    assert _noted(world)[2:] == [("never rang", "c2")]


def test_a_missed_call_is_kept_where_home_assistant_shows_another() -> None:
    """One that goes on is not hidden by it; a former life's ring that is over is missed once."""
    world = World()
    world.ring()
    world.bridge.missed(DOOR, "c2", None, "now", world.now)
    world.run()
    assert _noted(world) == [("rang", "c1"), ("never rang", "c2")]
    assert world.call["call_id"] == "c1"
    world.ringing = ""
    world.start()
    world.pass_time(FORMER_WAIT)
    world.bridge.missed(DOOR, "c1", None, "now", world.now)
    world.run()
    assert _noted(world)[2:] == [("missed", "c1")]


def test_a_stranger_too_many_is_in_the_history_all_the_same() -> None:
    """Home Assistant gets no door for it."""
    world = World()
    for number in range(MAX_OTHERS + 1):
        world.bridge.rang(f"gate{number}", f"g{number}", None, "now", world.now)
    last = f"gate{MAX_OTHERS}"
    world.bridge.ended(last, f"g{MAX_OTHERS}", HaCall.MISSED)
    world.run()
    assert last not in world.bridge.known_doors
    assert _noted(world)[-2:] == [("rang", f"g{MAX_OTHERS}"), ("missed", f"g{MAX_OTHERS}")]


@pytest.mark.parametrize(
    ("how", "goes_on", "why"),
    [
        (HaCall.MISSED, False, "the call ended first: missed"),
        (HaCall.ANSWERED, False, "this door does not stay in the call after the answer"),
    ],
)
def test_why_a_door_was_not_opened_is_said_once(how: HaCall, goes_on: bool, why: str) -> None:
    """Of a call that ended before it was answered nobody says that it does not stay in it."""
    world = World()
    world.ring()
    world.command(do="open")
    world.end(how, goes_on=goes_on)
    assert world.results == [("open", False, why)]


def test_a_caller_that_is_in_no_settings_has_a_door_all_the_same() -> None:
    """Home Assistant is told of it first, and of its ring when it knows it."""
    world = World()
    world.bridge.rang("gate", "g1", None, "now", world.now)
    world.run()
    topics = [each.topic for each in world.said]
    assert NAMES.config("gate") in topics
    assert NAMES.door("gate", "event") not in topics
    world.pass_time(INTRODUCTION)
    assert NAMES.door("gate", "event") in [each.topic for each in world.said]


def test_discovery_is_as_it_was_measured_to_be_right() -> None:
    """No availability where it would ring again; unique ids with the realm; a ring type."""
    parts = discovery(NAMES, DOOR, "Front door", "1")["components"]
    assert "availability" not in parts["ring"]
    assert "availability" not in parts["call"]
    assert parts["ring"]["event_types"][0] == "ring"
    assert parts["ring"]["unique_id"] == "bellwire__sig__home__front-door__ring"
    other = discovery(Names("s.g", "home"), DOOR, "Front door", "1")["components"]
    assert other["ring"]["unique_id"] != parts["ring"]["unique_id"]


def test_names_are_read_back() -> None:
    """A peer with blanks and slashes as well; what is another's is nobody's."""
    names = Names("sig", "my home")
    assert names.parse(names.door("front / door", "command")) == ("front / door", "command")
    assert names.parse(Names("sig", "other").door("x", "command")) is None
    assert names.parse("bellwire/x") is None


def test_no_two_doors_have_one_id_and_a_bridge_listens_to_its_own() -> None:
    """Nor where a name begins with what stands between the names; nor a bridge that is called x."""
    assert Names("sig", "home").unique("_gate") != Names("sig", "home_").unique("gate")
    assert Names("x", "x").of_each_door("call") == "bellwire/x/x/door/+/call"


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"[1]", b"{}", b'{"do": 3}', b'{"do": "answer", "call_id": 3}',
                b"[" * 5000, b"x" * 20000]
)  # fmt: skip
def test_rubbish_is_no_command(payload: bytes) -> None:
    """And raises nothing."""
    assert isinstance(read_command(payload), str)


@pytest.mark.parametrize(
    ("payload", "path", "value", "press"),
    [
        (b'{"action": "single"}', "action", "single", True),
        (b'{"action": ""}', "action", "single", False),
        (b'{"event": "S", "event_cnt": 7}', "event", "S", True),
        (b'{"Button1": {"Action": "SINGLE"}}', "Button1.Action", "SINGLE", True),
        (b'{"pressed": true}', "pressed", "true", True),
        (b"ON", "", "ON", True),
        (b"\xff", "action", "single", False),
    ],
)
def test_what_is_a_press(payload: bytes, path: str, value: str, press: bool) -> None:
    """Of Zigbee2MQTT, Shelly, Tasmota, ESPHome."""
    assert matches_value(payload, path, value) is press


class _Button:
    topic, json, value = "t", "", "ON"


def test_retained_and_repeated_presses_ring_nobody() -> None:
    """Nor one while it rings."""
    presses = MqttPresses((_Button(),))
    assert presses.message("t", b"ON", retained=True, now=1) == []
    assert presses.message("t", b"ON", retained=False, now=1) == [0]
    presses.ended(0)
    assert presses.message("t", b"ON", retained=False, now=1 + REPEAT / 2) == []
    assert presses.message("t", b"ON", retained=False, now=10) == [0]
    assert presses.message("t", b"ON", retained=False, now=20) == []
