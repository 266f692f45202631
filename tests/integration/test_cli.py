"""The ``bellwire`` command at real brokers: what it tells, and what it exits with."""

from __future__ import annotations

import itertools
import json
import os
import pty
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from device_sdk import CallEventListener, RemoteInvitation, SignalingClient
from tests.broker_support.running import SECRET, Running, registry_plugins
from tests.commands import BELLWIRE, NOWHERE, Command
from tests.peers import Loop
from tests.proxy import UP, Proxy
from tests.servers import BrokerProcess, free_port

Run = Callable[..., Command]
_numbers = itertools.count()


@pytest.fixture
def realm() -> str:
    return f"cli{next(_numbers)}"


def _runner(broker: BrokerProcess, realm: str) -> Iterator[Run]:
    with ExitStack() as stack:

        def start(*words: str, **more: object) -> Command:
            where = ("--broker", broker.url, "--realm", realm)
            return stack.enter_context(Command(*words, *where, **more))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def run(broker: BrokerProcess, realm: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Starts commands at each broker."""
    monkeypatch.setenv("BELLWIRE_SUBSCRIBE_QOS", str(broker.subscribe_qos))
    yield from _runner(broker, realm)


@pytest.fixture
def run_bundled(bundled_broker: BrokerProcess, realm: str) -> Iterator[Run]:
    """Starts commands at the bundled broker alone."""
    yield from _runner(bundled_broker, realm)


def test_two_terminals_accept(run: Run) -> None:
    panel = run("listen", "--peer", "kitchen", "--accept", "--response", "hello", "--count", "1")
    panel.ready()
    door = run("call", "kitchen", "--peer", "front-door", "--content", "somebody is here")
    assert door.end() == 0
    assert "kitchen accepted: hello" in door.lines[-1]
    assert panel.end() == 0
    assert any("front-door rings: somebody is here" in line for line in panel.lines)
    assert "accepted front-door" in panel.lines[-1]
    assert door.errors == panel.errors == []


def test_refuse_with_a_reason(run: Run) -> None:
    panel = run("listen", "--peer", "kitchen", "--refuse", "--reason", "dnd", "--response",
                "asleep", "--count", "1", "--json").ready()  # fmt: skip
    door = run("call", "kitchen", "--peer", "front-door", "--json")
    assert door.end() == 10
    assert panel.end() == 0
    assert door.names == [
        "logged_in", "local_invitation_received_by_peer", "local_invitation_refused"
    ]  # fmt: skip
    assert panel.names == [
        "logged_in", "remote_invitation_received", "remote_invitation_refused"
    ]  # fmt: skip
    refused = door.told[-1]
    assert set(refused) == {
        "event", "call_id", "peer", "state", "response", "reason", "error", "t"
    }  # fmt: skip
    assert refused["peer"] == "kitchen"
    assert refused["state"] == "REFUSED_BY_REMOTE"
    assert refused["response"] == "asleep"
    assert refused["reason"] == "do not disturb"
    assert refused["call_id"] == panel.told[-1]["call_id"]
    assert 0 <= door.told[0]["t"] <= refused["t"]


def test_ignored_until_the_time_out(run: Run) -> None:
    panel = run("listen", "--peer", "kitchen", "--ignore", "--count", "1", "--json").ready()
    door = run("call", "kitchen", "--peer", "front-door", "--timeout", "0.6", "--json")
    assert door.end() == 11
    assert panel.end() == 0
    assert door.told[-1]["error"] == panel.told[-1]["error"] == "INVITATION_EXPIRE"
    assert panel.names[-1] == "remote_invitation_failure"


def test_nobody_there(run: Run) -> None:
    door = run("call", "kitchen", "--peer", "front-door", "--ack-timeout", "0.4", "--json")
    assert door.end() == 12
    assert door.told[-1]["event"] == "local_invitation_failure"
    assert door.told[-1]["error"] == "PEER_OFFLINE"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_first(run: Run, number: int) -> None:
    panel = run("listen", "--peer", "kitchen", "--ignore", "--count", "1", "--json").ready()
    door = run("call", "kitchen", "--peer", "front-door", "--json")
    door.event("local_invitation_received_by_peer")
    door.signal(number)
    assert door.end() == 13
    assert panel.end() == 0
    assert door.names[-1] == "local_invitation_canceled"
    assert panel.names[-1] == "remote_invitation_canceled"
    assert panel.told[-1]["reason"] == "canceled"
    assert door.errors == []


def test_after_and_channel(run_bundled: Run) -> None:
    """--after lets it ring first, and both hear of that before the answer."""
    panel = run_bundled("listen", "--peer", "kitchen", "--accept", "--after", "0.3", "--count", "1",
                        "--json").ready()  # fmt: skip
    door = run_bundled("call", "kitchen", "--peer", "front-door", "--channel", "room 1", "--json")
    assert door.end() == 0
    assert panel.end() == 0
    assert door.names[-2:] == ["local_invitation_received_by_peer", "local_invitation_accepted"]
    rang, accepted = panel.told[-2], panel.told[-1]  # by one clock
    assert accepted["t"] - rang["t"] >= 0.3


def test_several_one_wins(run_bundled: Run) -> None:
    # Both ring first: of a call that is answered elsewhere before it rings here nothing is told.
    panels = [
        run_bundled("listen", "--peer", name, "--accept", "--after", "1", "--count", "1",
                    "--json").ready()
        for name in ("kitchen", "bedroom")
    ]  # fmt: skip
    door = run_bundled("call", "kitchen", "bedroom", "phone", "--peer", "front-door", "--json")
    assert door.end() == 0
    assert [panel.end() for panel in panels] == [0, 0]
    winner = door.event("ring_group_ended")["peer"]
    ends = {panel.told[0]["peer"]: panel.told[-1] for panel in panels}
    assert ends[winner]["event"] == "remote_invitation_accepted"
    (loser,) = set(ends) - {winner}
    assert ends[loser]["reason"] == "answered elsewhere"


def test_ctrl_c_does_not_wait_for_a_broker_that_acknowledges_nothing(
    bundled_broker: BrokerProcess, run_bundled: Run, realm: str, loop: Loop
) -> None:
    """The cancel is said into a connection that has gone quiet; the command ends all the same."""
    run_bundled("listen", "--peer", "kitchen", "--ignore", "--json").ready()
    call = ("call", "kitchen", "--peer", "front-door", "--json", "--realm", realm)
    with Proxy(bundled_broker.port, loop) as proxy, Command(*call, "--broker", proxy.url) as door:
        door.event("local_invitation_received_by_peer")
        proxy.hold(UP)
        pressed = time.monotonic()
        door.signal(signal.SIGINT)
        assert door.end() == 13
        assert time.monotonic() - pressed < 8
        assert door.names[-1] == "local_invitation_canceled"


def test_several_in_turn_and_canceled(run_bundled: Run) -> None:
    kitchen = run_bundled(
        "listen", "--peer", "kitchen", "--refuse", "--count", "1", "--json"
    ).ready()
    bedroom = run_bundled(
        "listen", "--peer", "bedroom", "--ignore", "--count", "1", "--json"
    ).ready()
    door = run_bundled(
        "call", "kitchen", "bedroom", "--sequential", "--peer", "front-door", "--json"
    )
    bedroom.event("remote_invitation_received")
    door.signal(signal.SIGINT)
    assert door.end() == 13
    assert kitchen.end() == bedroom.end() == 0
    assert bedroom.told[-1]["event"] == "remote_invitation_canceled"


# --- a broker that is away, or says no -----------------------------------------------------------


def test_no_broker() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    for words in (("call", "kitchen"), ("listen", "--ignore"), ("watch", "kitchen"), ("trace",)):
        with Command(*words, "--peer", "front-door", "--broker", url) as command:
            assert command.end() == 14
            assert command.lines == []
            (line,) = command.errors
            assert line.startswith(f"bellwire {words[0]}: {url}: connection refused")


@pytest.fixture
def refusing() -> Iterator[Callable[[int], str]]:
    """Makes brokers that answer one CONNECT with a return code; gives their URL."""
    threads: list[threading.Thread] = []

    def make(code: int) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(10)

        def serve() -> None:
            with server:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(bytes((0x20, 2, 0, code)))
                    connection.recv(4096)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return f"mqtt://127.0.0.1:{server.getsockname()[1]}"

    yield make
    for thread in threads:
        thread.join(10)


@pytest.mark.parametrize(("code", "why"), [(4, "bad user name or password"), (5, "not authorized")])
def test_a_broker_that_refuses(refusing: Callable[[int], str], code: int, why: str) -> None:
    for words in (("call", "kitchen"), ("watch", "kitchen")):
        environ = {"BELLWIRE_PASSWORD": "s3cret-word"}
        broker = ("--broker", refusing(code))
        with Command(*words, "--peer", "front-door", *broker, environ=environ) as command:
            assert command.end() == 14
            (line,) = command.errors
            assert why in line
            assert "s3cret-word" not in line


def test_a_broker_that_knows_its_devices(tmp_path: Path) -> None:
    """Right secret, wrong secret, and a call that its rules do not allow."""
    with Running(plugins=registry_plugins(tmp_path)) as running:
        where = ("--broker", f"mqtt://127.0.0.1:{running.port}")
        right, wrong = {"BELLWIRE_PASSWORD": SECRET}, {"BELLWIRE_PASSWORD": "wrong"}
        panel = Command("listen", "--peer", "kitchen", "--accept", "--count", "1", *where,
                        environ=right)  # fmt: skip
        with panel:
            panel.ready()
            door = ("call", "kitchen", "--peer", "front-door", *where)
            with Command(*door, environ=wrong) as command:
                assert command.end() == 14
            with Command(*door, environ=right) as command:
                assert command.end() == 0
            assert panel.end() == 0
        back = ("call", "front-door", "--peer", "kitchen", "--ack-timeout", "1", *where)
        with Command(*back, environ=right) as command:
            assert command.end() == 12  # this broker drops it; one that closes is found out: 15


def test_the_newest_login_wins(
    bundled_broker: BrokerProcess, run_bundled: Run, realm: str, loop: Loop
) -> None:
    listen = ("listen", "--peer", "kitchen", "--ignore", "--json")
    with (
        Proxy(bundled_broker.port, loop) as proxy,
        Command(*listen, "--broker", proxy.url, "--realm", realm) as old,
    ):
        old.ready()
        proxy.hold(UP)  # else it comes back, and disturbs the new one's login
        new = run_bundled(*listen).ready()
        proxy.release()
        assert old.end() == 14
        assert old.told[-1]["state"] == "ABORTED"
        (line,) = old.errors
        assert "another login" in line
        new.signal(signal.SIGTERM)
        assert new.end() == 0


# --- what survives whom --------------------------------------------------------------------------


def test_a_killed_panel_rings_again(run: Run) -> None:
    """SIGKILL while ringing, started again: it rings for the same call within a second."""
    panel = run("listen", "--peer", "kitchen", "--ignore", "--json").ready()
    door = run("call", "kitchen", "--peer", "front-door", "--json")
    call_id = panel.event("remote_invitation_received")["call_id"]
    panel.signal(signal.SIGKILL)
    panel.end()
    again = run("listen", "--peer", "kitchen", "--accept", "--count", "1", "--json")
    rings = again.event("remote_invitation_received")
    assert rings["call_id"] == call_id
    assert rings["t"] - again.told[0]["t"] < 1
    assert door.end() == 0
    assert again.end() == 0


class _Heard(CallEventListener):
    def __init__(self) -> None:
        self.rings: queue.SimpleQueue[RemoteInvitation] = queue.SimpleQueue()

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:  # type: ignore[override]
        self.rings.put(invitation)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_doorbell_stops_ringing(
    broker: BrokerProcess, run: Run, realm: str, number: int
) -> None:
    """Killed, or silent for its keep-alive, 1 s or 2: the ringing ends after it and the grace."""
    heard = _Heard()
    # The protocol's 10 s of grace, made short.
    client = SignalingClient(
        "kitchen", broker.url, realm=realm, caller_lost_grace=0.3,
        subscribe_qos=broker.subscribe_qos,
    )  # fmt: skip
    client.call_manager.add_event_listener(heard)
    with client:
        shortest = ["--keepalive", str(broker.least_keepalive)]
        door = run("call", "kitchen", "--peer", "front-door", *shortest, "--json")
        invitation = heard.rings.get(timeout=10)
        door.event("local_invitation_received_by_peer")
        started = time.monotonic()
        door.signal(number)
        assert invitation.wait(10)
        took = time.monotonic() - started
        assert invitation.state.name == "FAILURE"
        # mosquitto looks after keep-alives every few seconds only.
        assert took < 1.5 + 0.3 + (0.7 if broker.name == "bundled" else 6)


def test_a_dead_callers_invitation_never_rings(run: Run, realm: str, broker: BrokerProcess) -> None:
    """Its cell is still there when the kitchen comes: what rings first is somebody who lives."""
    dead = run("call", "kitchen", "--peer", "front-door", "--json").ready()
    with subprocess.Popen(
        [sys.executable, "-m", "device_sdk.cli", "trace", "--json", "--realm", realm,
         "--broker", broker.url],
        stdout=subprocess.PIPE, text=True,
    ) as trace:  # fmt: skip
        assert trace.stdout is not None
        call_id = next(
            event["call_id"]
            for event in map(json.loads, trace.stdout)
            if event["event"] == "invite"
        )
        trace.terminate()
    dead.signal(signal.SIGKILL)
    dead.end()
    panel = run("listen", "--peer", "kitchen", "--accept", "--count", "1", "--json").ready()
    alive = run("call", "kitchen", "--peer", "back-door", "--json")
    assert alive.end() == 0
    assert panel.end() == 0
    assert call_id not in [event["call_id"] for event in panel.told]
    assert panel.event("remote_invitation_received")["peer"] == "back-door"


# --- at a terminal, and beside it ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "code", "end"),
    [("a", 0, "remote_invitation_accepted"), ("r", 10, "remote_invitation_refused")],
)
def test_it_asks_on_a_terminal(run_bundled: Run, typed: str, code: int, end: str) -> None:
    mine, its = pty.openpty()
    try:
        panel = run_bundled("listen", "--peer", "kitchen", "--count", "1", "--json", stdin=its)
        panel.ready()
        door = run_bundled("call", "kitchen", "--peer", "front-door", "--json")
        panel.event("remote_invitation_received")
        os.write(mine, f"what?\n{typed}\n".encode())
        assert door.end() == code
        assert panel.end() == 0
        assert panel.names[-1] == end
        assert "front-door: accept or refuse? (a/r)" in panel.errors[0]
    finally:
        os.close(mine)
        os.close(its)


def test_what_happens_while_it_asks_begins_a_line_of_its_own(run_bundled: Run) -> None:
    """A question that nobody answered does not share its line with the next one."""
    mine, its = pty.openpty()
    try:
        panel = run_bundled("listen", "--peer", "kitchen", "--count", "2", stdin=its)
        panel.ready()
        question = "bell: accept or refuse? (a/r) "
        for asked in (1, 2):
            bell = run_bundled("call", "kitchen", "--peer", "bell")
            panel.until(lambda: panel.question == question, "question")
            bell.signal(signal.SIGINT)
            assert bell.end() == 13
            panel.until(lambda asked=asked: len(panel.errors) == asked, "end of its line")
        assert panel.end() == 0
        assert panel.errors == [question] * 2
    finally:
        os.close(mine)
        os.close(its)


def test_without_a_terminal_it_lets_them_ring(run_bundled: Run) -> None:
    panel = run_bundled("listen", "--peer", "kitchen", "--count", "1", "--json").ready()
    door = run_bundled("call", "kitchen", "--peer", "front-door")
    panel.event("remote_invitation_received")
    door.signal(signal.SIGINT)
    assert door.end() == 13
    assert panel.end() == 0
    assert "no terminal" in panel.errors[0]


def test_watch(run_bundled: Run) -> None:
    watch = run_bundled("watch", "kitchen", "nobody", "--json", "--count", "4").ready()
    watch.until(lambda: len(watch.lines) == 3, "the first reading of both")
    panel = run_bundled("listen", "--peer", "kitchen", "--ignore").ready()
    panel.signal(signal.SIGINT)
    assert panel.end() == 0
    assert watch.end() == 0
    assert watch.names[0] == "logged_in"
    seen = [(event["peer"], event["state"]) for event in watch.told[1:]]
    assert sorted(seen[:2]) == [("kitchen", "UNKNOWN"), ("nobody", "UNKNOWN")]
    assert seen[2:] == [("kitchen", "ONLINE"), ("kitchen", "OFFLINE")]


def test_two_watch_as_one_user_side_by_side(tmp_path: Path) -> None:
    """Neither takes the other's connection over, on a broker that binds client ids to users."""
    with Running(plugins=registry_plugins(tmp_path)) as running, ExitStack() as stack:
        more = ("--peer", "front-door", "--broker", f"mqtt://127.0.0.1:{running.port}")
        one, other = (
            stack.enter_context(
                Command("watch", "kitchen", *more, environ={"BELLWIRE_PASSWORD": SECRET})
            ).ready()
            for _ in range(2)
        )
        stack.enter_context(
            Command("listen", "--ignore", "--peer", "kitchen", *more[2:],
                    environ={"BELLWIRE_PASSWORD": SECRET})
        ).ready()  # fmt: skip
        for watch in (one, other):
            watch.until(lambda watch=watch: "online" in watch.lines[-1], "the kitchen's coming")
            assert not any("reconnecting" in line for line in watch.lines), watch.lines


def test_trace_draws_a_ladder(run_bundled: Run) -> None:
    trace = run_bundled("trace").ready()
    panel = run_bundled(
        "listen", "--peer", "kitchen", "--accept", "--response", "hello", "--count", "1"
    )
    panel.ready()
    door = run_bundled("call", "kitchen", "--peer", "front-door", "--content", "hi")
    assert door.end() == 0
    assert panel.end() == 0
    trace.line("and forgotten")
    trace.signal(signal.SIGINT)
    assert trace.end() == 0
    text = "\n".join(trace.lines)
    for words in ("front-door → kitchen", 'ringing · "hi" · 60 s · seq 1',
                  "received · still so? · seq 1", 'accepted · "hello"', "cleared"):  # fmt: skip
        assert words in text


def test_a_closed_pipe_ends_it_quietly(bundled_broker: BrokerProcess, realm: str) -> None:
    """As with `| head -1`: no traceback, and the exit code of a canceled call."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        door = subprocess.run(
            [*BELLWIRE, "call", "kitchen", "--peer", "front-door", "--json", "--realm", realm,
             "--broker", bundled_broker.url],
            stdout=writer, stderr=subprocess.PIPE, env=NOWHERE, timeout=20, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert door.returncode == 13
    assert door.stderr == b""
