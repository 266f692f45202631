"""The services as people start them: processes, a real broker, keys in place of pins."""

from __future__ import annotations

import itertools
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from device_sdk.services.history.store import read_history
from tests.servers import BrokerProcess, free_port

_numbers = itertools.count()
SECONDS = 20


class Service:
    """A service under test: lines out, keys in."""

    def __init__(self, role: str, settings, *more: str, env=None) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "device_sdk.services",
                role,
                "--keyboard",
                "--settings",
                settings,
                *more,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | (env or {}),
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.seen: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def key(self, word: str = "") -> None:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def expect(self, pattern: str) -> str:
        """Wait for a line that matches; fail with all that was said."""
        while True:
            try:
                line = self._lines.get(timeout=SECONDS)
            except queue.Empty:
                line = None
            if line is None:
                pytest.fail(f"no line matches {pattern!r} in {self.seen}")
            self.seen.append(line)
            if re.search(pattern, line):
                return line

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join(5)
        self.process.stdin.close()
        self.process.stdout.close()
        return code


@pytest.fixture
def make_service(bundled_broker: BrokerProcess, tmp_path):
    """Makes services in a realm of their own."""
    realm, running = f"pi{next(_numbers)}", []

    def make(role: str, peer: str, rest: str, *, url: str | None = None, env=None) -> Service:
        path = tmp_path / f"{peer}-{len(running)}.toml"
        url = url or bundled_broker.url
        account = f'[account]\npeer = "{peer}"\nbroker = "{url}"\nrealm = "{realm}"\n'
        path.write_text(account + rest)
        running.append(Service(role, str(path), env=env))
        return running[-1]

    yield make
    for service in running:
        service.end()


BUTTON = '[[button]]\npin = 17\nrings = ["kitchen"]\ncontent = "somebody is here"\nring_time = 3\n'
PANEL = '[answer]\npin = 5\nresponse = "coming"\n[refuse]\npin = 6\n'


def test_ring_answer_refuse_and_miss(make_service, tmp_path):
    """What the guide says of a laptop, line by line."""
    told = tmp_path / "told"
    script = f"env | grep ^BELLWIRE_ | sort >{told}.new && mv {told}.new {told}"
    run = f'[on.accepted]\ncommand = ["sh", "-c", "{script}"]\n'
    panel = make_service("panel", "kitchen", PANEL + run)
    panel.expect("online as kitchen")
    bell = make_service("doorbell", "front-door", BUTTON)
    bell.expect("online as front-door")
    bell.key()
    bell.expect("door: ringing kitchen")
    panel.expect("front-door rings: somebody is here")
    panel.key("answer")
    bell.expect("door: accepted by kitchen: coming")
    bell.expect("in a call with kitchen")
    panel.expect("call of front-door: accepted")

    bell.key()
    panel.expect("front-door says: door: pressed again")
    bell.expect("^chime$")
    panel.key("refuse")
    bell.expect("call with kitchen is over: hung up")
    panel.expect("call with front-door is over: hung up")

    bell.key("door")
    panel.expect("front-door rings")
    panel.key("r")
    bell.expect("door: refused by kitchen")
    panel.expect("call of front-door: refused")
    end = time.monotonic() + SECONDS
    while not told.exists():  # the command is a process of its own
        assert time.monotonic() < end
        time.sleep(0.02)
    assert "BELLWIRE_CONTENT=somebody is here" in told.read_text()

    bell.key()
    panel.expect("front-door rings")
    bell.expect("door: nobody")
    panel.expect("missed calls: 1")
    panel.key("answer")
    panel.expect("missed calls: 0")
    bell.key("q")
    assert bell.process.wait(SECONDS) == 0
    assert panel.end() == 0


@pytest.mark.parametrize("strategy", ["parallel", "sequential"])
def test_several_panels_are_rung_and_one_answers(make_service, strategy):
    kitchen, office = (make_service("panel", peer, PANEL) for peer in ("kitchen", "office"))
    kitchen.expect("online")
    office.expect("online")
    both = BUTTON.replace('["kitchen"]', f'["kitchen", "office"]\nstrategy = "{strategy}"')
    bell = make_service("doorbell", "front-door", both.replace("ring_time = 3", "ring_time = 30"))
    bell.expect("online")
    bell.key()
    kitchen.expect("front-door rings")
    if strategy == "sequential":
        kitchen.key("refuse")
    office.expect("front-door rings")
    office.key("answer")
    bell.expect("door: accepted by office: coming")
    if strategy == "parallel":
        kitchen.expect("call of front-door: answered elsewhere")
        assert not any("missed" in line for line in kitchen.seen)
    office.key("refuse")
    bell.expect("call with office is over: hung up")
    bell.key()
    kitchen.expect("front-door rings")


def test_a_panel_in_a_call_is_busy_for_others_and_free_afterwards(make_service):
    panel = make_service("panel", "kitchen", PANEL)
    bell = make_service("doorbell", "front-door", BUTTON)
    gate = make_service("doorbell", "gate", BUTTON)
    for service in (panel, bell, gate):
        service.expect("online")
    bell.key()
    panel.expect("front-door rings")
    panel.key("answer")
    bell.expect("in a call with kitchen")
    panel.expect("in a call with front-door")
    gate.key()
    gate.expect("door: refused by kitchen")
    panel.expect("call of gate: missed")
    panel.key("refuse")
    panel.expect("is over: hung up")
    gate.key()
    panel.expect("gate rings")


def test_the_door_is_opened_in_the_call_by_whom_it_obeys_and_by_nobody_else(make_service, tmp_path):
    """And a panel that keeps a history has it there."""
    kept = tmp_path / "calls.history"
    third = f'{PANEL}[open]\npin = 7\n[history]\nfile = "{kept}"\n'
    kitchen = make_service("panel", "kitchen", third)
    office = make_service("panel", "office", PANEL + "[open]\npin = 7\n")
    both = BUTTON.replace('["kitchen"]', '["kitchen", "office"]')
    door = '[door]\npin = 23\nseconds = 1\nobeys = ["kitchen"]\n'
    bell = make_service("doorbell", "front-door", both + door)
    for service in (kitchen, office, bell):
        service.expect("online")
    bell.key()
    for service in (kitchen, office):
        service.expect("front-door rings")
    kitchen.key("open")  # while it rings: it answers first
    kitchen.expect("in a call with front-door")
    kitchen.expect("door of front-door: open")
    bell.expect("door opened; asked by kitchen in call")
    kitchen.key("refuse")
    bell.expect("is over: hung up")
    office.expect("answered elsewhere")
    bell.key()
    for service in (kitchen, office):
        service.expect("front-door rings")
    office.key("answer")
    kitchen.expect("answered elsewhere")
    office.expect("in a call with front-door")
    office.key("open")
    office.expect("door of front-door: not opened: this door does not obey you")
    bell.expect("door not opened: this door does not obey you; asked by office")
    assert kitchen.end() == 0
    elsewhere, answered = read_history(kept)
    assert (answered.caller, answered.callee, answered.text) == (
        "front-door", "kitchen", "somebody is here",
    )  # fmt: skip
    assert (answered.outcome, answered.answered_by, answered.opened) == (
        "answered", "kitchen", True,
    )  # fmt: skip
    assert answered.seconds is not None
    assert elsewhere.outcome == "answered_elsewhere"


def test_without_a_panel_the_chime_sounds(make_service):
    bell = make_service("doorbell", "front-door", BUTTON + "[chime]\nafter = 0.2\n")
    bell.expect("online")
    bell.key()
    bell.expect("door: ringing")
    bell.expect("^chime$")


def test_without_a_broker_the_chime_sounds_and_the_service_comes_online_later(make_service):
    port = free_port()
    bell = make_service("doorbell", "front-door", BUTTON, url=f"mqtt://127.0.0.1:{port}")
    bell.expect("type and press Enter")
    bell.expect("not logged in")  # from here its buttons are looked at
    bell.key()
    bell.expect("^chime$")
    from tests.servers import BundledBroker

    broker = BundledBroker()
    broker.port = port
    with broker:
        bell.expect("online as front-door")
        bell.key()
        bell.expect("door: ringing kitchen")


def test_a_second_login_of_the_same_name_ends_the_first_for_good(make_service):
    first = make_service("panel", "kitchen", PANEL)
    first.expect("online")
    second = make_service("panel", "kitchen", PANEL)
    second.expect("online")
    assert first.process.wait(SECONDS) == 17
    first.expect("another login as kitchen took over")


def test_systemd_is_told_and_the_watchdog_is_fed(make_service, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(SECONDS)
        bell = make_service(
            "doorbell",
            "front-door",
            BUTTON,
            env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"},
        )
        told = b""
        while b"READY=1" not in told:
            told = manager.recv(4096)
            if b"WATCHDOG=1" in told:
                assert b"EXTEND_TIMEOUT_USEC=" in told, "not ready yet: it asks for time"
        assert b"STATUS=online as front-door" in told
        for _ in range(3):
            assert manager.recv(4096) == b"WATCHDOG=1"
        # The loop itself feeds it: a stopped process feeds nothing.
        bell.process.send_signal(signal.SIGSTOP)
        manager.settimeout(0.5)
        while True:
            try:
                manager.recv(4096)  # what was sent before it stopped
            except TimeoutError:
                break
        bell.process.send_signal(signal.SIGCONT)
        manager.settimeout(SECONDS)
        assert manager.recv(4096) == b"WATCHDOG=1"
        bell.process.send_signal(signal.SIGTERM)
        while b"STOPPING=1" not in manager.recv(4096):
            pass


@pytest.mark.parametrize(
    ("role", "rest", "says"),
    [
        ("doorbell", BUTTON + "colour = 3\n", r"bellwire: \S+\.toml:\d+: button\.colour: unknown"),
        ("doorbell", BUTTON + '[gpio]\nfactory = "gpiod"\nchip = 77\n', ""),
        ("panel", "[answer]\n", r"answer\.pin: missing"),
    ],
)
def test_wrong_settings_end_with_exit_code_2(make_service, role, rest, says):
    service = make_service(role, "front-door" if role == "doorbell" else "kitchen", rest)
    if not says:  # keys need no chip
        service.expect("online")
        return
    service.expect(says)
    assert service.process.wait(SECONDS) == 2


def test_check_reads_the_settings_only(tmp_path):
    path = tmp_path / "bell.toml"
    path.write_text('[account]\npeer = "front-door"\nbroker = "mqtt://nowhere"\n' + BUTTON)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "device_sdk.services",
            "doorbell",
            "--check",
            "--settings",
            str(path),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "1 button(s)" in done.stdout
