"""What Home Assistant is told of a door, once, retained: one device with its entities; pure.

Events are never retained, and the event entity and the call's sensor have no availability: with
either, an automation fires again at each restart of Home Assistant.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from .names import Names


class HaEvent(StrEnum):
    """The types of the doorbell's event."""

    RING = "ring"
    STILL_RINGING = "still_ringing"
    ANSWERED = "answered"
    REFUSED = "refused"
    MISSED = "missed"
    CANCELED = "canceled"
    ANSWERED_ELSEWHERE = "answered_elsewhere"
    FAILED = "failed"


class HaCall(StrEnum):
    """The states of the sensor: the last call of that door, as it is."""

    IDLE = "idle"
    RINGING = "ringing"
    ANSWERED = "answered"
    #: It was answered, and is over.
    ENDED = "ended"
    REFUSED = "refused"
    MISSED = "missed"
    CANCELED = "canceled"
    ANSWERED_ELSEWHERE = "answered_elsewhere"
    FAILED = "failed"


class HaAction(StrEnum):
    """What Home Assistant may ask for."""

    ANSWER = "answer"
    REFUSE = "refuse"
    OPEN = "open"
    HANG_UP = "hang_up"


_BUTTONS = {
    HaAction.ANSWER: ("Answer", "mdi:phone"),
    HaAction.REFUSE: ("Refuse", "mdi:phone-cancel"),
    HaAction.OPEN: ("Open", "mdi:door-open"),
    HaAction.HANG_UP: ("Hang up", "mdi:phone-hangup"),
}


def discovery(names: Names, door: str, title: str, version: str) -> dict[str, Any]:
    """The discovery message of ``door``; ``title`` is what people call it."""
    unique = names.unique(door)
    call = names.door(door, "call")
    there = {"topic": names.status}
    parts: dict[str, dict[str, Any]] = {
        "ring": {
            "platform": "event",
            "device_class": "doorbell",
            "name": "Doorbell",
            "event_types": [each.value for each in HaEvent],
            "state_topic": names.door(door, "event"),
        },
        "call": {
            "platform": "sensor",
            "device_class": "enum",
            "name": "Call",
            "icon": "mdi:phone-ring",
            "options": [each.value for each in HaCall],
            "state_topic": call,
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": call,
        },
        "result": {
            "platform": "sensor",
            "name": "Last command",
            "icon": "mdi:message-reply-text",
            "entity_category": "diagnostic",
            "state_topic": names.door(door, "result"),
            "value_template": "{{ value_json.text }}",
            "json_attributes_topic": names.door(door, "result"),
        },
        "online": {
            "platform": "binary_sensor",
            "device_class": "connectivity",
            "name": "Connection",
            "state_topic": names.door(door, "online"),
            "availability": [there],
        },
        "picture": {
            "platform": "image",
            "name": "Picture",
            "url_topic": names.door(door, "picture"),
        },
    }
    for action, (name, icon) in _BUTTONS.items():
        applies = f"{{{{ 'online' if '{action}' in value_json.can else 'offline' }}}}"
        parts[action.value] = {
            "platform": "button",
            "name": name,
            "icon": icon,
            "command_topic": names.door(door, "command"),
            "payload_press": f'{{"do": "{action}"}}',
            "availability": [there, {"topic": call, "value_template": applies}],
            "availability_mode": "all",
        }
    for key, part in parts.items():
        part["unique_id"] = f"{unique}__{key}"
    return {
        "device": {
            "identifiers": [unique],
            "name": title,
            "manufacturer": "Bellwire",
            "model": "Doorbell",
            "sw_version": version,
        },
        "origin": {"name": "Bellwire", "sw_version": version},
        "components": parts,
        "qos": 1,
    }
