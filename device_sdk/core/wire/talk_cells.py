"""What the cells of a call that goes on carry besides: keys 11 to 13, and messages for a body."""

from __future__ import annotations

from typing import Any, Final

from ...errors import DecodeError
from . import keys
from .cbor import ARRAY, MAX_DEPTH, dump, dump_uint, load, open_item, read_head, scan
from .cells import Answer, AnswerState, Invite, InviteState, Said

#: What ``talk`` says: anything else is of a later addition, and read as if it were absent.
_TALK: Final = 1
_TALK_KEY, _COUNT_KEY, _GOT_KEY = keys.TALK
_BODY_KEY: Final = keys.BY_NAME["body"].number
#: Messages in one cell, and waiting for their acknowledgement, at most.
MAX_MESSAGES: Final = 64
#: Bytes of the head of an array of so many; a message alone must fit beside it.
ARRAY_HEAD: Final = 2
MAX_MESSAGE: Final = keys.MAX_BODY - ARRAY_HEAD
#: In these a cell carries messages, not a content or response.
_TALKS: Final = frozenset(
    {(Invite, s) for s in (InviteState.ACCEPTED, InviteState.OVER)}
    | {(Answer, s) for s in (AnswerState.TALKING, AnswerState.OVER)}
)
#: In these it is said beside what the cell says anyway: *I can stay in the call*.
_OFFERS: Final = frozenset({(Invite, InviteState.RINGING), (Answer, AnswerState.ACCEPTED)})
_ONLY_TALKS: Final = _TALKS - {(Invite, InviteState.ACCEPTED)}
_OFFERED: Final = Said()
#: Key 11, encoded.
OFFER: Final = b"\x0b\x01"


def encode_message(value: Any) -> bytes:
    """A message as CBOR, deterministic; raises ``ValueError`` saying what does not fit.

    Any value without tags, up to 14 levels, at most 8,190 bytes encoded.
    """
    data = dump(value, MAX_DEPTH - 2)  # the cell and the array around it are levels too
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"{len(data)} bytes encoded; at most {MAX_MESSAGE} are allowed")
    return data


def dump_talk(talk: Said) -> tuple[bytes | None, bytes, int]:
    """The body of a cell of a talk; its keys 11 to 13, encoded; their number."""
    data, pairs = OFFER, 1
    if talk.count:
        data, pairs = data + b"\x0c" + dump_uint(talk.count), pairs + 1
    if talk.got is not None:
        data, pairs = data + b"\x0d" + dump_uint(talk.got), pairs + 1
    if not talk.messages:
        return None, data, pairs
    return open_item(ARRAY, len(talk.messages)) + b"".join(talk.messages), data, pairs


def load_talk(
    kind: type[Invite | Answer], state: InviteState | AnswerState, fields: dict[int, Any]
) -> Said | None:
    """What the fields of a cell say of talk, if that has a place there and is of this version.

    Raises :class:`DecodeError`; a state that is of talk alone is none without it.
    """
    value = fields.get(_TALK_KEY)
    here = (kind, state)
    if type(value) is not int or value != _TALK:
        if here in _ONLY_TALKS:
            raise DecodeError("wrong type", f"state {state:d} is none without talk (key 11)")
        return None
    if here not in _TALKS:
        return _OFFERED if here in _OFFERS else None
    count, got = _number(fields, _COUNT_KEY) or 0, _number(fields, _GOT_KEY)
    messages = _messages(fields.get(_BODY_KEY))
    if len(messages) > count:
        raise DecodeError("wrong type", f"{len(messages)} messages, the last numbered {count}")
    return Said(count, got, messages)


def in_talk(kind: type[Invite | Answer], state: InviteState | AnswerState) -> bool:
    """Whether a body there is of messages."""
    return (kind, state) in _TALKS


def _number(fields: dict[int, Any], key: int) -> int | None:
    value = fields.get(key)
    if key in fields and not (type(value) is int and 0 <= value <= keys.MAX_UINT):
        raise DecodeError("wrong type", f"key {key} is no unsigned integer up to {keys.MAX_UINT}")
    return value


def _messages(body: bytes | None) -> tuple[bytes, ...]:
    """The messages in a body that is known to be sound, each encoded."""
    if body is None:
        return ()
    major, size, pos = read_head(body, 0)
    if major != ARRAY or size > MAX_MESSAGES:
        raise DecodeError("wrong type", f"key 5 is no array of at most {MAX_MESSAGES} messages")
    messages = []
    for _ in range(size):
        end = scan(body, pos, MAX_DEPTH)
        messages.append(body[pos:end])
        pos = end
    return tuple(messages)


def decode_message(data: bytes) -> Any:
    """The value of a message that came with a decoded cell (so it is known to be sound)."""
    return load(data)
