"""``bellwire talk`` and ``bellwire listen --talk``: lines, pipes, terminals, exit codes."""

from __future__ import annotations

import itertools
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.commands import Command
from tests.servers import BrokerProcess

Run = Callable[..., Command]
_numbers = itertools.count()


@pytest.fixture
def run(bundled_broker: BrokerProcess) -> Iterator[Run]:
    realm = f"talk{next(_numbers)}"
    with ExitStack() as stack:

        def start(*words: str, **more: Any) -> Command:
            where = ("--broker", bundled_broker.url, "--realm", realm)
            return stack.enter_context(Command(*words, *where, **more))

        yield start


def panel_of(run: Run, *more: str, stdin: Any = subprocess.PIPE) -> Command:
    words = ("listen", "--peer", "kitchen", "--talk", "--count", "1", *more)
    return run(*words, stdin=stdin).ready()


def write(command: Command, text: str) -> None:
    assert command.process.stdin is not None
    command.process.stdin.write(text)
    command.process.stdin.flush()


def test_two_terminals_talk(run: Run) -> None:
    """A line is a text, a map of JSON is sent as it is, and ``/hangup`` at either end is the end.

    What is no message, or comes after the end, is complained of, and the call goes on.
    """
    panel = panel_of(run, "--accept")
    door = run("talk", "kitchen", "--peer", "front-door", stdin=subprocess.PIPE)
    write(door, 'hello  \n{"do": "open"}\n\n{"do": \n/open\n[1]\n')
    panel.line("front-door: [1]")
    write(panel, "coming\n/hangup\nlate\n")
    assert (door.end(), panel.end()) == (0, 0)
    assert [line[11:] for line in panel.lines[1:]] == [
        "♪ front-door rings", "✔ accepted front-door", "☎ in a call with front-door",
        "  front-door: hello", '  front-door: {"do": "open"}', "  front-door: [1]",
        "✘ the call with front-door is over (hung up)",
    ]  # fmt: skip
    assert [line[11:] for line in door.lines[-3:]] == [
        "☎ in a call with kitchen", "  kitchen: coming",
        "✘ the call with kitchen is over (hung up)",
    ]  # fmt: skip
    bad, unknown = door.errors
    assert "has to be JSON" in bad
    assert "/open is no command; /hangup ends the call" in unknown
    assert panel.errors == ["bellwire: not said, the call is over: late"]


def test_a_pipe_says_more_than_there_is_room_for_and_hangs_up(run: Run) -> None:
    """All lines come, in order, before the end that stands behind them."""
    panel = panel_of(run, "--accept", "--json", stdin=subprocess.DEVNULL)
    door = run("talk", "kitchen", "--peer", "front-door", "--json", stdin=subprocess.PIPE)
    write(door, "".join(f'{{"n": {n}, "x": "{"x" * 300}"}}\n' for n in range(150)) + "/hangup\n")
    assert (door.end(), panel.end()) == (0, 0)
    told = [each["content"]["n"] for each in panel.told if each["event"] == "call_message"]
    assert told == list(range(150))
    assert panel.names[-1] == door.names[-1] == "call_ended"
    assert (door.told[-1]["reason"], door.errors) == ("hung up", [])


def test_the_end_of_a_pipe_is_not_the_end_of_the_call(run: Run) -> None:
    """It goes on, and prints, until the other side ends it."""
    panel = panel_of(run, "--accept")
    door = run("talk", "kitchen", "--peer", "front-door", stdin=subprocess.DEVNULL)
    panel.line("in a call")
    write(panel, "are you there?\n")
    door.line("kitchen: are you there?")
    write(panel, "/hangup\n")
    assert (door.end(), panel.end()) == (0, 0)


@pytest.mark.parametrize("how", [b"\x04", signal.SIGINT])
def test_a_terminal_hangs_up(run: Run, how: bytes | signal.Signals) -> None:
    """Ctrl-D and Ctrl-C; what was typed while it rang is not said."""
    mine, its = pty.openpty()
    theirs, panels = pty.openpty()
    try:
        panel = panel_of(run, "--json", stdin=panels)
        door = run("talk", "kitchen", "--peer", "front-door", stdin=its)
        door.line("kitchen rings")
        panel.event("remote_invitation_received")
        os.write(mine, b"too early\n")
        door.until(lambda: door.errors, "what was not said")
        os.write(theirs, b"a\n")
        door.line("in a call")
        os.write(mine, b"in time\n")
        panel.event("call_message")
        if isinstance(how, bytes):
            os.write(mine, how)
        else:
            door.signal(how)
        assert (door.end(), panel.end()) == (0, 0)
    finally:
        for each in (mine, its, theirs, panels):
            os.close(each)
    told = [each["content"] for each in panel.told if each["event"] == "call_message"]
    assert told == [{"text": "in time"}]
    assert panel.told[-1]["reason"] == "hung up"
    assert door.errors == ["bellwire: not said: nobody has accepted yet; /hangup or Ctrl-C cancels"]


def test_who_hangs_up_while_it_rings_cancels(run: Run) -> None:
    mine, its = pty.openpty()
    try:
        panel = run("listen", "--peer", "kitchen", "--ignore", "--count", "1").ready()
        door = run("talk", "kitchen", "--peer", "front-door", stdin=its)
        door.line("kitchen rings")
        os.write(mine, b"/hangup\n")
        assert (door.end(), panel.end()) == (13, 0)
    finally:
        os.close(mine)
        os.close(its)


def test_a_terminal_answers_and_talks(run: Run) -> None:
    """A letter answers the ring; what comes then is said, also where it begins with that letter."""
    mine, its = pty.openpty()
    try:
        panel = panel_of(run, stdin=its)
        os.write(mine, b"anybody?\n")
        panel.until(lambda: panel.errors, "what cannot be said")
        door = run("talk", "kitchen", "--peer", "front-door", stdin=subprocess.DEVNULL)
        panel.line("front-door rings")
        os.write(mine, b"a\n")
        panel.line("in a call")
        os.write(mine, b"are you there?\n\x04")
        assert (door.end(), panel.end()) == (0, 0)
    finally:
        os.close(mine)
        os.close(its)
    assert "kitchen: are you there?" in door.lines[-2]
    assert panel.errors[0] == "bellwire: not said, no call goes on: anybody?"


def test_of_several_the_winner_is_talked_to(run: Run) -> None:
    mine, its = pty.openpty()
    listen = ("listen", "--talk", "--count", "1", "--json", "--peer")
    try:
        panels = [
            run(*listen, "panel-0", stdin=its).ready(),
            run(*listen, "panel-1", "--accept", "--after", "60").ready(),
        ]
        door = run("talk", "panel-0", "panel-1", "--peer", "front-door", stdin=subprocess.PIPE)
        write(door, "hello\n/hangup\n")
        for panel in panels:
            panel.event("remote_invitation_received")
        os.write(mine, b"a\n")
        assert [each.end() for each in (door, *panels)] == [0, 0, 0]
    finally:
        os.close(mine)
        os.close(its)
    assert "call_message" in panels[0].names
    assert panels[1].names[-1] == "remote_invitation_canceled"
    assert any("panel-0 has the call" in line for line in door.lines)


def test_who_does_not_stay_is_told_of(run: Run) -> None:
    """Accepted is not enough where something is to be said: exit 1, and what would do."""
    panel = run("listen", "--peer", "kitchen", "--accept", "--count", "1").ready()
    door = run("talk", "kitchen", "--peer", "front-door", stdin=subprocess.DEVNULL)
    assert (door.end(), panel.end()) == (1, 0)
    assert "kitchen accepted, but does not stay in calls" in door.errors[0]


def test_who_is_lost_is_told_of(run: Run) -> None:
    """Exit 12, as for a peer that was not reached."""
    panel = panel_of(run, "--accept", stdin=subprocess.DEVNULL)
    door = run("talk", "kitchen", "--peer", "front-door", "--json", stdin=subprocess.DEVNULL)
    door.event("call_started")
    panel.line("in a call")
    panel.signal(signal.SIGKILL)
    panel.process.wait()
    run("listen", "--peer", "kitchen", "--talk", "--accept").ready()
    assert door.end() == 12
    # Which of the two depends on whether it had said that it was in the call.
    assert door.told[-1]["reason"] in ("restarted", "peer lost")


def test_a_listener_that_leaves_says_so(run: Run) -> None:
    panel = panel_of(run, "--accept")
    door = run("talk", "kitchen", "--peer", "front-door", "--json", stdin=subprocess.DEVNULL)
    panel.line("in a call")
    panel.signal(signal.SIGINT)
    assert (door.end(), panel.end()) == (0, 0)
    assert door.told[-1]["reason"] == "logged out"


def test_wrong_usage(run: Run) -> None:
    command = run("listen", "--talk", "--refuse", "--peer", "kitchen")
    assert command.end() == 2
    assert "--talk goes with --accept" in command.errors[0]


def test_trace_draws_it(run: Run) -> None:
    """Talking, each message with its number, what was handled, and why it was over."""
    trace, script = run("trace"), run("trace", "--json")
    trace.line("reading")
    script.ready()
    panel = panel_of(run, "--accept", stdin=subprocess.DEVNULL)
    door = run("talk", "kitchen", "--peer", "front-door", stdin=subprocess.PIPE)
    write(door, 'hello\n{"n": 1}\n/hangup\n')
    assert (door.end(), panel.end()) == (0, 0)
    for words in ("accepted · talks", "talking", '1 "hello"', '2 {"n": 1}', "got 2",
                  "over: hung up, and forgotten"):  # fmt: skip
        trace.line(words)
    script.until(
        lambda: any(
            each.get("talk") and each["talk"]["messages"][:1] == [{"text": "hello"}]
            for each in script.told
        ),
        "the message",
    )
    for each in (trace, script):
        each.signal(signal.SIGINT)
        assert each.end() == 0
