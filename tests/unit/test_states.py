"""Agora's numbers, one by one, and our own words."""

from __future__ import annotations

from enum import IntEnum

import pytest

from device_sdk import states

NUMBERS: dict[type[IntEnum], dict[str, int]] = {
    states.LocalInvitationState: {
        "IDLE": 0, "SENT_TO_REMOTE": 1, "RECEIVED_BY_REMOTE": 2, "ACCEPTED_BY_REMOTE": 3,
        "REFUSED_BY_REMOTE": 4, "CANCELED": 5, "FAILURE": 6,
    },
    states.RemoteInvitationState: {
        "IDLE": 0, "INVITATION_RECEIVED": 1, "ACCEPT_SENT_TO_LOCAL": 2, "REFUSED": 3,
        "ACCEPTED": 4, "CANCELED": 5, "FAILURE": 6,
    },
    states.LocalInvitationError: {
        "OK": 0, "PEER_OFFLINE": 1, "PEER_NO_RESPONSE": 2, "INVITATION_EXPIRE": 3,
        "NOT_LOGGEDIN": 4,
    },
    states.RemoteInvitationError: {
        "OK": 0, "PEER_OFFLINE": 1, "ACCEPT_FAILURE": 2, "INVITATION_EXPIRE": 3,
    },
    states.InvitationApiCallErrorCode: {
        "OK": 0, "INVALID_ARGUMENT": 1, "NOT_STARTED": 2, "ALREADY_END": 3, "ALREADY_ACCEPT": 4,
        "ALREADY_SENT": 5,
    },
    states.ConnectionState: {
        "DISCONNECTED": 1, "CONNECTING": 2, "CONNECTED": 3, "RECONNECTING": 4, "ABORTED": 5,
    },
}  # fmt: skip


@pytest.mark.parametrize("enum", NUMBERS, ids=lambda enum: enum.__name__)
def test_the_numbers_are_agoras(enum: type[IntEnum]) -> None:
    """Every name with its number; none added, none missing."""
    assert {member.name: member.value for member in enum} == NUMBERS[enum]


def test_the_causes_of_a_connection_change() -> None:
    """The words that a connection event carries."""
    assert [str(c) for c in states.ConnectionChange] == [
        "login", "login success", "interrupted", "logout", "remote login", "refused",
        "failed within",
    ]  # fmt: skip


def test_the_words_for_an_end() -> None:
    """The words that both ends, the command line and the documents share."""
    assert [str(r) for r in states.EndReason] == [
        "accepted", "canceled", "answered elsewhere", "expired", "peer offline", "no response",
        "caller restarted", "declined", "busy", "do not disturb", "accept failure",
        "callee expired", "caller lost", "hung up", "peer lost", "restarted", "time is up",
        "not logged in", "logged out", "not allowed",
        "client failed",
    ]  # fmt: skip
