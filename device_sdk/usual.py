"""The cells that peers usually write, read in one match, since every ring waits for it.

A cell of small numbers and, perhaps, a short text is read here, to the value that ``codec`` comes
to item by item; for whatever is not just so there is None, and ``codec`` has the verdict.
"""

from __future__ import annotations

import re
from typing import Final

from .cells import Answer, AnswerState, Invite, InviteState

_BEGIN: Final = rb"[\xa4-\xa9]\x00\x01\x01([\x00-%c])\x02\x48(.{8})\x03([\x00-\x17])"
#: A body goes on to wherever the rest can begin; whether that is its length stands in its head.
_BODY: Final = rb"(?:\x05(.{1,257}?))?"
_REASON: Final = rb"(?:\x07([\x00-\x17]))?"
_INVITE: Final = re.compile(
    (_BEGIN % 2)
    + rb"(?:\x04\x19([\x01-\xff].))?"  # ttl
    + _BODY
    + _REASON
    + rb"(?:\x08\x50(.{16}))?"  # group
    + rb"(?:\x09\x1a((?!\x00\x00).{4}))?\Z",  # time
    re.DOTALL,
)
_ANSWER: Final = re.compile((_BEGIN % 4) + _BODY + _REASON + rb"(?:\x0a(\xf5))?\Z", re.DOTALL)

_INVITE_STATES: Final = tuple(InviteState)
_ANSWER_STATES: Final = tuple(AnswerState)


def invite(data: bytes) -> Invite | None:
    """The invite in ``data``, or None if it is not a usual one (or none at all)."""
    match = _INVITE.match(data)
    if match is None:
        return None
    parts = state, epoch, seq, ttl, body, reason, group, time = match.groups()
    if data[0] != 0xA9 - parts.count(None) or (body is not None and not _is_text(body)):
        return None
    if state == b"\x00" and ttl is None:
        return None
    return Invite(
        _INVITE_STATES[state[0]],
        epoch,
        seq[0],
        int.from_bytes(ttl, "big") if state == b"\x00" else None,
        body,
        None,
        None if reason is None else reason[0],
        group,
        None if time is None else int.from_bytes(time, "big"),
    )


def answer(data: bytes) -> Answer | None:
    """The answer in ``data``, or None if it is not a usual one (or none at all)."""
    match = _ANSWER.match(data)
    if match is None:
        return None
    parts = state, epoch, seq, body, reason, ask = match.groups()
    if data[0] != 0xA7 - parts.count(None) or (body is not None and not _is_text(body)):
        return None
    return Answer(
        _ANSWER_STATES[state[0]],
        epoch,
        seq[0],
        body,
        None if reason is None else reason[0],
        ask is not None,
    )


def _is_text(body: bytes) -> bool:
    """Whether ``body`` is one text string of at most 255 bytes, with the shortest head."""
    head = body[0]
    if 0x60 <= head < 0x78:
        text = body[1:]
        length = head - 0x60
    elif head == 0x78 and len(body) > 1 and body[1] >= 24:
        text = body[2:]
        length = body[1]
    else:
        return False
    if len(text) != length:
        return False
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
