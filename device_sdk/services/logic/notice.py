"""What a notification says: pure. Facts of an event in; a title and a line or two out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from ...client.display import shown
from .messages import text_or_all


class ServiceEvent(StrEnum):
    """What every service tells, as ``[on.ringing]`` and so on, beside how its calls ended."""

    #: Somebody rings here; at a doorbell: a panel rings, and does not turn the call away at once;
    #: at a SIP phone: it says that it rings.
    RINGING = "ringing"
    #: One of its own buttons was pressed.
    PRESSED = "pressed"
    #: It rang, or would have, and nobody answered.
    MISSED = "missed"
    #: A call that went on after *accepted* is over.
    CALL_ENDED = "call_ended"


class Notice(NamedTuple):
    """What a phone shows."""

    title: str
    body: str


def notice_of(facts: Mapping[str, object], link: str = "") -> Notice:
    r"""The notification of an event.

    >>> notice_of({"event": "ringing", "peer": "door", "content": "parcel"}, "http://panel/")
    Notice(title='door rings', body='parcel\nhttp://panel/')
    """
    event, who = str(facts.get("event", "")), facts.get("peer") or facts.get("button") or ""
    content = facts.get("content")
    lines = ["" if content is None else shown(text_or_all(content))]
    match event:
        case ServiceEvent.RINGING:
            title = f"{who} rings"
        case ServiceEvent.PRESSED:
            title = f"{facts.get('button')}: pressed"
        case ServiceEvent.MISSED:
            title = f"missed: {who}"
        case ServiceEvent.CALL_ENDED:
            title = f"call with {who} is over"
            lines.append(f"{facts.get('reason')}, after {_duration(facts.get('seconds'))}")
        case _:
            title = f"{facts.get('button') or who}: {event}"
            response = facts.get("response")
            lines.append("" if response is None else shown(text_or_all(response)))
    # Some services refuse a message without a body.
    body = "\n".join(line for line in (*lines, link) if line)
    return Notice(shown(title), body or shown(title))


def _duration(seconds: object) -> str:
    whole = round(seconds) if isinstance(seconds, int | float) else 0
    return f"{whole // 60}:{whole % 60:02d}"
