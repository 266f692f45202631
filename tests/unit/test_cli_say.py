"""What the command line prints: for scripts one object a line, for people nothing that bites."""

from __future__ import annotations

import io
import json
import queue
import subprocess
import sys
from typing import Any

import pytest

from device_sdk import (
    ConnectionChange,
    ConnectionState,
    EndReason,
    LocalInvitationError,
    LocalInvitationState,
    RemoteInvitationError,
)
from device_sdk.cli.client import Inbox, QueueClient, type_lines
from device_sdk.cli.say import Say, human
from device_sdk.client.display import jsonable, plain, shown
from device_sdk.client.invitations import Event
from device_sdk.core.events import Name


def lines(event: Event, *, as_json: bool) -> str:
    out = io.StringIO()
    say = Say(as_json=as_json, out=out)
    say.event(event, say.start + 1.25)
    return out.getvalue()


ACCEPTED = Event(
    Name.LOCAL_ACCEPTED, (), peer="kitchen", call_id="c", response=b"\x00\xff",
    state=LocalInvitationState.ACCEPTED_BY_REMOTE, reason=EndReason.ACCEPTED,
    error=LocalInvitationError.OK,
)  # fmt: skip


def test_event_as_json() -> None:
    assert json.loads(lines(ACCEPTED, as_json=True)) == {
        "event": "local_invitation_accepted", "call_id": "c", "peer": "kitchen",
        "state": "ACCEPTED_BY_REMOTE", "response": {"base64": "AP8="}, "reason": "accepted",
        "error": None, "t": 1.25,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\xfb\xff", {"base64": "+/8="}),
        ({"a": [b"", 1, None, True], 5: 1.5}, {"a": [{"base64": ""}, 1, None, True], "5": 1.5}),
        (float("inf"), "inf"),
        ("Köln", "Köln"),
    ],
)
def test_any_value_becomes_strict_json(value: Any, expected: Any) -> None:
    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == expected


def test_a_strangers_text_commands_no_terminal() -> None:
    assert "\x1b" not in plain("\x1b]0;owned\x07\n\u202eabc")
    event = Event(Name.REMOTE_RECEIVED, (), peer="do\u202eor", call_id="c", content="\x1b[2J\r\nhi")
    text = lines(event, as_json=False)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("\n") == 1
    assert "hi" in text


def test_long_contents_are_cut_for_people() -> None:
    assert len(shown("x" * 8000)) == 160


@pytest.mark.parametrize("name", [n for n in Name if n is not Name.PRESENCE_CHANGED])
def test_every_event_has_words_for_people(name: Name) -> None:
    error = RemoteInvitationError if name.startswith("remote") else LocalInvitationError
    for value in error:
        told = human(Event(name, (), peer="{kitchen}", reason=EndReason.EXPIRED, error=value))
        assert told is not None
        assert told[1]


def test_failures_of_the_two_ends_differ() -> None:
    """The two error enums share numbers; the words must not."""
    local = human(Event(Name.LOCAL_FAILURE, (), peer="p", error=LocalInvitationError.PEER_OFFLINE))
    remote = human(
        Event(Name.REMOTE_FAILURE, (), peer="p", error=RemoteInvitationError.PEER_OFFLINE)
    )
    assert local == ("bad", "✘ p is offline")
    assert remote is not None
    assert "p is gone" in remote[1]


def test_no_response_says_where_to_look() -> None:
    """A broker that drops a call in silence looks like this; only its log knows better."""
    told = human(
        Event(
            Name.LOCAL_FAILURE, (), peer="p", error=LocalInvitationError.PEER_NO_RESPONSE,
            reason=EndReason.NO_RESPONSE,
        )
    )  # fmt: skip
    assert told == ("bad", "✘ p does not respond; the broker's log says if it may not be called")


def test_the_command_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys, device_sdk.cli.command_line as c; c._parser('call');"
        "print(*[m for m in ('asyncio', 'amqtt', 'gpiozero', 'device_sdk.services.cli',"
        " 'device_sdk.services.service', 'broker_config', 'tomllib', 'rich', 'typer')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("how", ["closed by the shell", "closed meanwhile"])
def test_without_an_input_its_end_is_told(monkeypatch, how, tmp_path):
    """``bellwire listen --talk <&-``: nobody types, and whoever reads is told so."""
    source = None
    if how == "closed meanwhile":
        source = (tmp_path / "typed").open("w+")
        source.close()
    monkeypatch.setattr(sys, "stdin", source)
    inbox: Inbox = queue.SimpleQueue()
    type_lines(inbox)
    assert inbox.get(timeout=5)[1].text is None


def test_the_login_is_no_event_however_late_it_is_told() -> None:
    """A command says by itself that it is logged in; only a later login is news."""
    client = QueueClient("door", "mqtt://b")
    client.inbox = queue.SimpleQueue()

    def told(state: ConnectionState, change: ConnectionChange) -> list[ConnectionChange]:
        name = Name.CONNECTION_STATE_CHANGED
        client._deliver(Event(name, (state, change), state=state, reason=change))
        return [] if client.inbox.empty() else [client.inbox.get()[1].reason]  # type: ignore[union-attr,list-item]

    assert told(ConnectionState.CONNECTING, ConnectionChange.LOGIN) == []
    assert told(ConnectionState.CONNECTED, ConnectionChange.LOGIN_SUCCESS) == []
    for state, change in (
        (ConnectionState.RECONNECTING, ConnectionChange.INTERRUPTED),
        (ConnectionState.CONNECTED, ConnectionChange.LOGIN_SUCCESS),
    ):
        assert told(state, change) == [change]


def test_who_is_refused_once_in_is_told_what_to_do() -> None:
    """A secret that was changed while somebody listens: where the new one goes."""
    change = Event(
        Name.CONNECTION_STATE_CHANGED, (), state=ConnectionState.RECONNECTING,
        reason=ConnectionChange.REFUSED, detail="mqtt://b refused: not authorized",
    )  # fmt: skip
    style, text = human(change) or ("", "")
    assert style == "bad"
    assert text.startswith("connection reconnecting: mqtt://b refused: not authorized; was its")
    assert "`bellwire-broker device rotate`" in text
    assert "--secret-file" in text
