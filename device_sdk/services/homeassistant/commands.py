"""What comes from Home Assistant's side, read with care: commands, buttons' values; pure.

Nothing here raises for what somebody publishes.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .discovery import HaAction

#: Longer payloads are none of ours.
MAX_PAYLOAD = 16 * 1024


class HaCommand(NamedTuple):
    """What is to be done, and in which call: ``call_id`` "" is the one that there is."""

    action: HaAction
    call_id: str = ""
    response: Any = None


def read_json(payload: bytes) -> Any:
    """What a payload says as JSON; as text where it is none; None where it is not even that."""
    if len(payload) > MAX_PAYLOAD:
        return None
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    try:
        # NaN and infinity are no JSON, and nothing that could be sent on as such.
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def read_command(payload: bytes) -> HaCommand | str:
    """A command: ``answer``, or JSON ``{"do": "answer", "call_id": "…"}``; else what is wrong."""
    value = read_json(payload)
    if isinstance(value, str):
        value = {"do": value.strip()}
    known = ", ".join(HaAction)
    if not isinstance(value, dict) or not isinstance(value.get("do"), str):
        return f'no command; expected {{"do": …}} with one of {known}'
    if value["do"] not in list(HaAction):
        return f"unknown command {value['do'][:40]!r}; known are {known}"
    call_id = value.get("call_id")
    if not isinstance(call_id, str | None):
        return "the call_id is no text"
    return HaCommand(HaAction(value["do"]), call_id or "", value.get("response"))


def at_path(value: Any, path: str) -> Any:
    """What is at ``path`` in a JSON value: names and list places with dots between; else None.

    >>> at_path({"params": {"events": [{"event": "single_push"}]}}, "params.events.0.event")
    'single_push'
    """
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and len(part) < 4:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def matches_value(payload: bytes, path: str, wanted: str) -> bool:
    """Whether a button's message is a press: its text, or what is at ``path``, is ``wanted``.

    >>> matches_value(b'{"action": "single"}', "action", "single"), matches_value(b"ON", "", "ON")
    (True, True)
    """
    if not path:
        return payload == wanted.encode()
    found = at_path(read_json(payload), path)
    if isinstance(found, str):
        return found == wanted
    return isinstance(found, bool | int | float) and json.dumps(found) == wanted
