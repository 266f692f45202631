"""What is told outside: what a notice says, lanes that hold up nobody, secret addresses."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from device_sdk.services.config.doorbell import read_doorbell
from device_sdk.services.config.panel import read_panel
from device_sdk.services.config.toml_reader import SettingsError
from device_sdk.services.doctor.check import _door, _notify
from device_sdk.services.doctor.patient import Patient, patient_of
from device_sdk.services.logic.notice import Notice, notice_of
from device_sdk.services.service import lanes, notify
from device_sdk.services.service.lanes import Lanes
from device_sdk.services.service.notify import NotifyError, send_notice, service_of

ACCOUNT = '[account]\npeer = "kitchen"\nbroker = "mqtt://broker.lan"\n'
BUTTON = '[[button]]\npin = 17\nrings = ["office"]\n'


@pytest.mark.parametrize(
    ("facts", "title", "body"),
    [
        (
            {"event": "ringing", "peer": "front-door", "content": {"text": "parcel", "media": []}},
            "front-door rings",
            "parcel\nhttp://panel/",
        ),
        ({"event": "ringing", "peer": "gate", "content": None}, "gate rings", "http://panel/"),
        ({"event": "pressed", "button": "door"}, "door: pressed", "http://panel/"),
        ({"event": "missed", "button": "door"}, "missed: door", "http://panel/"),
        (
            {"event": "call_ended", "peer": "gate", "reason": "hung up", "seconds": 61.2},
            "call with gate is over",
            "hung up, after 1:01\nhttp://panel/",
        ),
        (
            {"event": "accepted", "button": "door", "peer": "office", "response": "coming"},
            "door: accepted",
            "coming\nhttp://panel/",
        ),
        ({"event": "ringing", "peer": "a\nb", "content": 7}, r"a\nb rings", "7\nhttp://panel/"),
    ],
)
def test_what_a_notice_says(facts, title, body):
    assert notice_of(facts, "http://panel/") == (title, body)


def test_a_notice_without_anything_to_say_says_its_title_twice():
    """Some services refuse a message without a body."""
    assert notice_of({"event": "pressed", "button": "door"}) == ("door: pressed", "door: pressed")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_that_hangs_holds_up_only_its_own(caplog):
    """What waits behind it is bounded: the oldest is pushed out, and what is late is dropped."""
    clock = Clock()
    senders = Lanes(clock)
    hangs, goes_on, ran = threading.Event(), threading.Event(), []
    other = threading.Event()

    def hanging() -> None:
        hangs.set()
        goes_on.wait(10)

    began = time.monotonic()
    senders.put("a", "a hook", hanging, 20)
    assert hangs.wait(5)
    for number in range(lanes.MAX_WAITING + 3):
        senders.put("a", "a hook", lambda n=number: ran.append(n), 20)
    senders.put("b", "another", other.set, 20)
    assert other.wait(5)
    assert time.monotonic() - began < 5
    assert caplog.text.count("the oldest is dropped") == 3
    clock.now = 21.0
    last = threading.Event()
    senders.put("a", "a hook", last.set, 20)
    goes_on.set()
    assert last.wait(5)
    assert ran == []
    assert caplog.text.count("too late") == lanes.MAX_WAITING - 1


@pytest.mark.parametrize("failure", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_a_lane_goes_on_after_a_failure_and_ends_when_nothing_waits(caplog, failure):
    def fails() -> None:
        raise failure

    senders, done = Lanes(), threading.Event()
    senders.put("a", "a hook", fails, 20)
    senders.put("a", "a hook", done.set, 20)
    assert done.wait(5)
    assert "a hook failed" in caplog.text
    for thread in threading.enumerate():
        if thread.name == "bellwire-hook":
            thread.join(5)
    assert senders._waiting == {}


def test_a_closed_lane_begins_nothing():
    senders, hangs, goes_on, ran = Lanes(), threading.Event(), threading.Event(), []
    senders.put("a", "a hook", lambda: (hangs.set(), goes_on.wait(10)), 20)
    assert hangs.wait(5)
    senders.put("a", "a hook", lambda: ran.append(1), 20)
    senders.close()
    senders.put("b", "a hook", lambda: ran.append(2), 20)
    goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "bellwire-hook":
            thread.join(5)
    assert ran == []


def test_without_a_thread_the_bell_goes_on(monkeypatch, caplog):
    def none(_self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    senders = Lanes()
    senders.put("a", "a hook", lambda: None, 20)
    assert senders._waiting == {}
    assert "cannot be begun" in caplog.text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ntfy://me:secret@ntfy.lan/door", "ntfy://ntfy.lan"),
        ("ntfys://ntfy.sh/my-secret-topic", "ntfys://…"),
        ("tgram://123:ABC/9", "tgram://…"),
    ],
)
def test_an_address_is_a_secret(address, shown):
    assert service_of(address) == shown


def settings(tmp_path: Path, rest: str, *, bell: bool = False) -> object:
    path = tmp_path / "settings.toml"
    path.write_text(ACCOUNT + (BUTTON if bell else "") + rest)
    return (read_doorbell if bell else read_panel)(path)


@pytest.mark.parametrize("bell", [False, True])
@pytest.mark.parametrize("event", ["ringing", "pressed", "missed", "call_ended"])
def test_every_service_tells_of_these(tmp_path, bell, event):
    rest = f'[on.{event}]\nnotify = "ntfy://ntfy.lan/door"\nlink = "https://panel.lan/"\n'
    action = settings(tmp_path, rest, bell=bell).on[event]
    assert action.notify == ("ntfy://ntfy.lan/door",)
    assert "ntfy.lan/door" not in repr(action)


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ('[on.rings]\nnotify = "ntfy://n/t"\n', r"on\.rings: unknown key; known here: .*ringing"),
        ('[on.ringing]\nnotify = "SECRET"\n', r":5: on\.ringing\.notify: expected an address that"),
        ('[on.ringing]\nnotify = ["nope://SECRET"]\n', r"expected an address that apprise knows"),
        ("[on.ringing]\nnotify = 3\n", r"notify: expected a list of texts"),
        (
            '[on.ringing]\nnotify = "ntfy://n/t"\nlink = "panel"\n',
            r":6: on\.ringing\.link: expected",
        ),
        ('[on.ringing]\nnotify = "ntfy://n/t"\npicture = "file:///etc"\n', r"picture: expected"),
        ('[on.ringing]\nlink = "http://panel/"\n', r"on\.ringing\.link: it goes with notify"),
    ],
)
def test_wrong_settings_are_named_without_the_secret(tmp_path, rest, says):
    with pytest.raises(SettingsError, match=says) as caught:
        settings(tmp_path, rest)
    assert "SECRET" not in str(caught.value)


def test_without_apprise_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(notify, "_has_apprise", lambda: False)
    with pytest.raises(SettingsError, match=r"pip install 'bellwire\[notify\]'"):
        settings(tmp_path, '[on.missed]\nnotify = "ntfy://n/t"\n')


def test_what_is_not_taken_is_said_without_the_secret():
    with pytest.raises(NotifyError) as caught:
        send_notice("ntfy://127.0.0.1:9/SECRET", Notice("a", "b"))
    assert "SECRET" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


def test_the_doctor_tells_of_notifications_and_of_the_door(tmp_path, monkeypatch):
    rest = (
        '[on.ringing]\nnotify = "ntfy://ntfy.lan/SECRET"\n[on.missed]\nnotify = ["ntfy://'
        'ntfy.lan/SECRET", "tgram://123456789:AAabcdefghijklmnopqrstuvwxyz0123456/9"]\n'
        '[door]\npin = 23\nobeys = "office"\n'
    )
    settings(tmp_path, rest, bell=True)
    patient = patient_of(tmp_path / "settings.toml")
    assert list(_notify(patient)) == [
        "notify: ntfy://ntfy.lan; `bellwire doctor --notify` sends a message there",
        "notify: tgram://…; `bellwire doctor --notify` sends a message there",
    ]
    assert "door: pin 23; office may open it for 3 s (but " in _door(patient, patient.door)
    sent = []
    monkeypatch.setattr(notify, "send_notice", lambda _address, notice: sent.append(notice))
    patient.send_notice = True
    assert "took a message" in next(_notify(patient))
    assert sent == [Notice("Bellwire", "kitchen can reach you")]
    assert list(_notify(Patient(patient.account))) == []
