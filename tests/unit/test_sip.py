"""A SIP phone as a peer: what the bridge decides, and how baresip's words are read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from device_sdk.services.config.sip import read_sip
from device_sdk.services.config.toml_reader import SettingsError
from device_sdk.services.logic.appliance import EndCall, Note, SayInCall
from device_sdk.services.logic.panel import AcceptCall, CallEnd, RefuseCall
from device_sdk.services.logic.sip import (
    CLOSES_WITHIN,
    DialSip,
    Effect,
    HangUpSip,
    PhoneRings,
    SipBridge,
)
from device_sdk.services.service.baresip import Netstrings, netstring
from device_sdk.services.service.sip import SipService

CLOSED, ESTABLISHED, KEY = "CALL_CLOSED", "CALL_ESTABLISHED", "CALL_DTMF_START"


class Bench:
    """A bridge whose baresip is there; ``do`` leaves notes out."""

    def __init__(self) -> None:
        self.bridge = SipBridge(talk_limit=100.0, open_key="9")
        self.now = 10.0
        assert self.bridge.connected() == [HangUpSip()]

    def do(self, effects: list[Effect]) -> list[Effect]:
        return [each for each in effects if not isinstance(each, Note)]

    def ring(self, call: str = "c1", caller: str = "door") -> list[Effect]:
        return self.do(self.bridge.call(call, caller))

    def event(self, kind: str, parameter: str = "") -> list[Effect]:
        return self.do(self.bridge.event(kind, parameter))

    def ended(self, end: CallEnd, call: str = "c1", *, goes_on: bool = False) -> list[Effect]:
        return self.do(self.bridge.ended(call, end, self.now, goes_on=goes_on))


def ringing() -> Bench:
    bench = Bench()
    assert bench.ring() == [DialSip()]
    assert bench.bridge.dialed("") == []
    assert bench.event("CALL_RINGING") == [PhoneRings("c1")]
    return bench


def up() -> Bench:
    bench = ringing()
    assert bench.event(ESTABLISHED) == [AcceptCall("c1")]
    assert bench.ended(CallEnd.ACCEPTED, goes_on=True) == []
    assert bench.bridge.call_started("c1") == []
    return bench


def test_the_phone_answers_and_hangs_up():
    bench = up()
    assert bench.event(CLOSED, "Connection reset by peer") == [EndCall("c1")]
    assert bench.do(bench.bridge.call_ended("c1", bench.now)) == []
    assert bench.ring("c2") == [DialSip()]


def test_the_door_hangs_up():
    bench = up()
    assert bench.do(bench.bridge.call_ended("c1", bench.now)) == [HangUpSip()]
    assert bench.event(CLOSED, "Connection reset by user") == []
    assert bench.ring("c2") == [DialSip()]


@pytest.mark.parametrize(
    ("said", "busy"),
    [
        ("486 Busy Here", True),
        ("480 Temporarily Unavailable", True),
        ("404 Not Found", True),
        ("603 Decline", False),
        ("Connection timed out", True),
    ],
)
def test_the_phone_does_not_answer(said, busy):
    assert ringing().event(CLOSED, said) == [RefuseCall("c1", busy=busy)]


@pytest.mark.parametrize("end", [CallEnd.MISSED, CallEnd.ANSWERED_ELSEWHERE, CallEnd.FAILED])
def test_the_phone_stops_ringing_when_the_caller_gives_up(end):
    bench = ringing()
    assert bench.ended(end) == [HangUpSip()]
    assert bench.event(CLOSED, "Connection reset by user") == []


def test_one_call_at_a_time():
    bench = ringing()
    assert bench.ring("c2", "gate") == [RefuseCall("c2", busy=True)]


@pytest.mark.parametrize("how", ["event", "response", "time"])
def test_who_rings_while_the_former_call_closes_is_dialed_then(how):
    bench = ringing()
    bench.ended(CallEnd.MISSED)
    assert bench.ring("c2") == []
    assert bench.ring("c3") == [RefuseCall("c3", busy=True)]
    if how == "event":
        assert bench.event(CLOSED) == [DialSip()]
        assert bench.do(bench.bridge.hung_up()) == [], "the former call's"
    elif how == "response":
        assert bench.do(bench.bridge.hung_up()) == [DialSip()]
    else:
        assert bench.do(bench.bridge.tick(bench.now + CLOSES_WITHIN)) == [DialSip()]
    assert bench.event(CLOSED, "486 of the former call") == [], "it has not heard of the new one"
    bench.bridge.dialed("")
    assert bench.event(ESTABLISHED) == [AcceptCall("c2")]


def test_who_gave_up_while_waiting_is_not_dialed():
    bench = ringing()
    bench.ended(CallEnd.MISSED)
    bench.ring("c2")
    bench.ended(CallEnd.MISSED, "c2")
    assert bench.event(CLOSED) == []


def test_baresip_is_killed_while_it_rings_and_comes_back():
    bench = ringing()
    assert bench.do(bench.bridge.disconnected()) == [RefuseCall("c1", busy=True)]
    assert bench.ring("c2") == [RefuseCall("c2", busy=True)]
    assert bench.bridge.connected() == [HangUpSip()]
    assert bench.ring("c3") == [DialSip()]


def test_baresip_is_killed_in_a_call_or_while_one_waits():
    assert up().bridge.disconnected() == [EndCall("c1")]
    bench = ringing()
    bench.ended(CallEnd.MISSED)
    bench.ring("c2")
    assert bench.do(bench.bridge.disconnected()) == [RefuseCall("c2", busy=True)]


def test_what_baresip_will_not_dial_is_refused():
    bench = Bench()
    bench.ring()
    assert bench.do(bench.bridge.dialed("could not find UA")) == [RefuseCall("c1", busy=True)]
    assert bench.bridge.dialed("twice") == []


def test_picked_up_and_put_down_before_the_caller_decided():
    bench = ringing()
    bench.event(ESTABLISHED)
    assert bench.event(CLOSED) == []
    assert bench.ended(CallEnd.ACCEPTED, goes_on=True) == []
    assert bench.bridge.call_started("c1") == [EndCall("c1")]


def test_an_accept_that_failed_hangs_the_phone_up():
    bench = ringing()
    bench.event(ESTABLISHED)
    assert bench.ended(CallEnd.FAILED) == [HangUpSip()]


def test_a_caller_that_does_not_stay_has_a_limit():
    bench = ringing()
    bench.event(ESTABLISHED)
    assert bench.ended(CallEnd.ACCEPTED) == []
    assert bench.do(bench.bridge.tick(bench.now + 99)) == []
    assert bench.do(bench.bridge.tick(bench.now + 100)) == [HangUpSip()]
    bench = ringing()
    bench.event(ESTABLISHED)
    bench.ended(CallEnd.ACCEPTED)
    assert bench.event(CLOSED) == [], "nobody is left to tell"


def test_a_key_of_the_phone_asks_for_the_door():
    bench = up()
    assert bench.event(KEY, "1") == []
    assert bench.event(KEY, "9") == [SayInCall("c1", {"do": "open"})]
    assert ringing().event(KEY, "9") == [], "not before the call is up"


def test_netstrings_come_in_pieces():
    reader = Netstrings()
    data = netstring({"a": 1}) + netstring({"b": ":,"})
    found = [each for byte in data for each in reader.feed(bytes([byte]))]
    assert found == [{"a": 1}, {"b": ":,"}]
    assert reader.feed(data) == found


@pytest.mark.parametrize("said", ["CALL_RINGING", "CALL_PROGRESS"])
def test_it_rings_when_the_phone_says_so_and_once(said):
    """180, or 183 with the tone of it; not of the former call, whose end is still to come."""
    bench = Bench()
    bench.ring()
    assert bench.event(said) == [], "baresip has not heard of it"
    bench.bridge.dialed("")
    assert bench.event(said) == [PhoneRings("c1")]
    assert bench.event(said) == []
    assert up().event(said) == []
    bench.ended(CallEnd.MISSED)
    assert bench.event(said) == []


@pytest.mark.parametrize(
    ("comes", "told"),
    [
        (["dialed"], []),
        (["dialed", "CALL_RINGING"], ["ringing"]),
        (["dialed", "CALL_CLOSED"], []),
        (["over", "dialed", "CALL_RINGING"], []),
    ],
)
def test_on_ringing_runs_when_the_phone_rings_not_when_it_is_dialed(comes, told):
    happened: list[str] = []
    service = SimpleNamespace(
        _invitations={},
        bridge=SipBridge(),
        _perform=lambda effect: effect == PhoneRings("c1") and SipService._perform(service, effect),
        _phone_rings=lambda call: SipService._phone_rings(service, call),
        _happened=lambda event, **_facts: happened.append(str(event)),
    )
    service._do = lambda effects: SipService._do(service, effects)
    service.bridge.connected()
    SipService._received(service, SimpleNamespace(call_id="c1", caller_id="gate", content=None))
    for each in comes:
        if each == "over":
            service._invitations.clear()
        elif each == "dialed":
            SipService.on_dialed(service, "")
        else:
            SipService.on_sip_event(service, each, "486 Busy Here")
    assert happened == told


@pytest.mark.parametrize(
    "data", [b"x", b"3:abc,", b"2:{};", b"2:[],", b"9999999", b"99999:{", b":{},", b"1000000:"]
)
def test_what_is_no_netstring_of_json_is_refused(data):
    with pytest.raises(ValueError, match=r"netstring|bytes|JSON|literal|value"):
        Netstrings().feed(data)


SIP = '[account]\npeer = "phone"\nbroker = "mqtt://b"\n[sip]\nuri = "sip:me@10.0.0.2"\n'


def test_the_settings(tmp_path):
    path = tmp_path / "sip.toml"
    path.write_text(SIP + 'open_key = "#"\nresponse = "coming"\n[on.missed]\ncommand = "true"\n')
    settings = read_sip(path)
    assert (settings.host, settings.port, settings.open_key) == ("127.0.0.1", 4444, "#")
    assert settings.account.talk_limit == 180


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('uri = "sip:me@10.0.0.2"\n', ""), r"sip\.uri: missing"),
        (('"sip:me@10.0.0.2"', '"10.0.0.2"'), r"sip\.toml:5: sip\.uri: expected the phone"),
        (("\n[sip]", '\n[sip]\ncontrol = "10.0.0.1:4444"'), r"sip\.control: expected where"),
        (("\n[sip]", '\n[sip]\ncontrol = "127.0.0.1:99999"'), r"sip\.control: expected where"),
        (("\n[sip]", '\n[sip]\nopen_key = "99"'), r"sip\.open_key: expected one key"),
        (("\n[sip]", "\n[sip]\nphone = 3"), r"sip\.phone: unknown key"),
    ],
)
def test_wrong_settings_are_named(tmp_path, change, says):
    path = tmp_path / "sip.toml"
    path.write_text(SIP.replace(*change))
    with pytest.raises(SettingsError, match=says):
        read_sip(path)
