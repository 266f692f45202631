"""Cells to CBOR bytes and back; every limit of the wire (docs/protocol.md, Cells; RFC 8949).

Decoding any bytes gives a cell or one :class:`DecodeError`, in time and memory bounded by the
length. What a cell itself is made of, small integers and short strings, is read on the way; of the
rest :mod:`.cbor` says what is well-formed. Equal cells are equal bytes.
"""

from __future__ import annotations

from typing import Any, Final

from ...errors import DecodeError
from . import fast_path, keys
from .cbor import (
    ARRAY,
    MALFORMED,
    MAP,
    MAX_DEPTH,
    SMALL,
    TEXT,
    dump,
    dump_text,
    dump_uint,
    load,
    read_head,
    scan,
)
from .cells import Answer, AnswerState, Cell, Invite, InviteState, Presence
from .keys import BY_NAME, KEYS, MAX_BODY, VERSION, Type, of
from .talk_cells import OFFER, dump_talk, in_talk, load_talk

MAX_CELL: Final = 20 * 1024

# Causes, the counters that a drop is filed under (``client.stats``); cbor has the others.
OVERSIZED: Final = "oversized"
UNKNOWN_VERSION: Final = "unknown version"
MISSING_KEY: Final = "missing key"
WRONG_TYPE: Final = "wrong type"

_BODY: Final = BY_NAME["body"].number
_LAST_KEY: Final = KEYS[-1].number
_BOOLEANS: Final = {0xF4: False, 0xF5: True}
#: The heads of maps.
_MAPS: Final = tuple(bytes((0xA0 | n,)) for n in range(15))

#: Of each field: its key's number, name, type and limit, what it is when absent, whether it must
#: not be.
_Layout = tuple[tuple[int, str, Type, int, Any, bool], ...]

_INVITE_STATES: Final = tuple(InviteState)
_ANSWER_STATES: Final = tuple(AnswerState)


def encode_body(value: Any) -> bytes:
    """A content or response as CBOR: any value without tags, deterministic, at most 8 KiB.

    Takes None, bool, int, float, str, bytes, and lists, tuples and mappings of them, up to 15
    levels. Raises ``ValueError`` saying what does not fit.
    """
    data = dump(value, MAX_DEPTH - 1)  # the cell around it is a level too
    if len(data) > MAX_BODY:
        raise ValueError(f"{len(data)} bytes encoded; at most {MAX_BODY} are allowed")
    return data


def decode_body(data: bytes) -> Any:
    """The value in a body that came with a decoded cell (so it is known to be sound)."""
    if 0x60 <= data[0] <= 0x78:  # what it mostly is: a short text
        return data[1 if data[0] < 0x78 else 2 :].decode()
    return load(data)


def encode(cell: Cell) -> bytes:
    """A cell's bytes, deterministic: equal cells are equal bytes."""
    # Written out, since every ring waits for it; a test holds it against the table of keys, which
    # are one byte each, so their numeric order is the order of their encodings.
    if isinstance(cell, Presence):
        return _encode_presence(cell)
    data = (
        b"\x00\x01\x01"
        + SMALL[cell.state]
        + b"\x02\x48"
        + cell.epoch
        + b"\x03"
        + dump_uint(cell.seq)
    )
    body = cell.response if isinstance(cell, Answer) else cell.content
    pairs, talk = 4, b""
    if cell.talk is not None:
        if in_talk(type(cell), cell.state):
            body, talk, more = dump_talk(cell.talk)
        else:
            talk, more = OFFER, 1
        pairs += more
    if isinstance(cell, Answer):
        if body is not None:
            pairs, data = pairs + 1, data + b"\x05" + body
        if cell.reason is not None:
            pairs, data = pairs + 1, data + b"\x07" + dump_uint(cell.reason)
        if cell.ask:
            pairs, data = pairs + 1, data + b"\x0a\xf5"
        return _MAPS[pairs] + data + talk
    if cell.ttl is not None:
        pairs, data = pairs + 1, data + b"\x04" + dump_uint(cell.ttl)
    if body is not None:
        pairs, data = pairs + 1, data + b"\x05" + body
    if cell.channel is not None:
        pairs, data = pairs + 1, data + b"\x06" + dump_text(cell.channel)
    if cell.reason is not None:
        pairs, data = pairs + 1, data + b"\x07" + dump_uint(cell.reason)
    if cell.group is not None:
        pairs, data = pairs + 1, data + b"\x08\x50" + cell.group
    if cell.time is not None:
        pairs, data = pairs + 1, data + b"\x09" + dump_uint(cell.time)
    data += talk
    if cell.asker is not None:
        pairs, data = pairs + 1, data + b"\x10\x48" + cell.asker
    return _MAPS[pairs] + data


def _encode_presence(cell: Presence) -> bytes:
    data, pairs = b"\x00\x01\x01" + SMALL[cell.online] + b"\x02\x48" + cell.epoch, 3
    if cell.time is not None:
        pairs, data = pairs + 1, data + b"\x09" + dump_uint(cell.time)
    if cell.ask:
        pairs, data = pairs + 1, data + b"\x0a\xf5"
    if cell.generation:
        pairs, data = pairs + 1, data + b"\x0e" + dump_uint(cell.generation)
    if cell.age:
        pairs, data = pairs + 1, data + b"\x0f" + dump_uint(cell.age)
    return _MAPS[pairs] + data


def decode_invite(data: bytes) -> Invite:
    """The invite in ``data``; raises :class:`DecodeError`."""
    if (cell := fast_path.invite(data)) is not None:
        return cell
    fields = _fields(data)
    state = _INVITE_STATES[_state(fields, len(_INVITE_STATES), "an invite")]
    cell = Invite(state, *_values(fields, _INVITE))
    if (talk := load_talk(Invite, state, fields)) is not None:
        content = None if in_talk(Invite, state) else cell.content
        cell = cell._replace(talk=talk, content=content)
    if state is not InviteState.RINGING:
        return cell._replace(**_NOT_RINGING)
    if cell.ttl is None:
        raise DecodeError(MISSING_KEY, f"key {_TTL} (ttl) is missing while ringing")
    return cell


def decode_answer(data: bytes) -> Answer:
    """The answer in ``data``; raises :class:`DecodeError`."""
    if (cell := fast_path.answer(data)) is not None:
        return cell
    fields = _fields(data)
    state = _ANSWER_STATES[_state(fields, len(_ANSWER_STATES), "an answer")]
    cell = Answer(state, *_values(fields, _ANSWER))
    if (talk := load_talk(Answer, state, fields)) is not None:
        response = None if in_talk(Answer, state) else cell.response
        cell = cell._replace(talk=talk, response=response)
    return cell


def decode_presence(data: bytes) -> Presence:
    """The presence in ``data``; raises :class:`DecodeError`."""
    fields = _fields(data)
    online = bool(_state(fields, 2, "a presence"))
    return Presence(online, *_values(fields, _PRESENCE))


def _fields(data: bytes) -> dict[int, Any]:
    """The known keys of a cell and their values; the body, checked, stays encoded.

    The protocol's own keys and most of its values are one or two bytes of head: those are read
    here; whatever else a payload holds is scanned, and cbor2 reads what is of interest in it.
    """
    size = len(data)
    if size > MAX_CELL:
        raise DecodeError(OVERSIZED, f"{size} bytes; a cell has at most {MAX_CELL}")
    major, left, pos = read_head(data, 0)
    if major != MAP:
        if scan(data, 0, MAX_DEPTH) != size:
            raise DecodeError(MALFORMED, "more than one item")
        raise DecodeError(WRONG_TYPE, "a cell is a map")
    fields: dict[int, Any] = {}
    value: Any
    others: set[bytes] | None = None
    for _ in range(left):
        start = pos
        key = data[pos] if pos < size else -1
        if 0 <= key <= _LAST_KEY:
            pos += 1
            if key in fields:
                raise DecodeError(MALFORMED, f"byte {start}: a key twice in a map")
        else:
            major, _, _ = read_head(data, pos)
            if major in (ARRAY, MAP):
                raise DecodeError(MALFORMED, f"byte {start}: an array or map as a map key")
            pos = scan(data, pos, 0)
            if major == TEXT:
                load(data[start:pos])
            others = set() if others is None else others
            if data[start:pos] in others:
                raise DecodeError(MALFORMED, f"byte {start}: a key twice in a map")
            others.add(data[start:pos])
            key = -1
        start = pos
        head = data[pos] if pos < size else 0xFF
        if head < 24 and key != _BODY:
            value = head
            pos += 1
        elif head < 0x1C and key != _BODY:
            _, value, pos = read_head(data, pos)
        elif 0x40 <= head < 0x58 and key != _BODY and pos + head - 0x3F <= size:
            pos += head - 0x3F
            value = data[start + 1 : pos]
        elif head in _BOOLEANS and key != _BODY:
            value = _BOOLEANS[head]
            pos += 1
        else:
            pos = scan(data, pos, MAX_DEPTH - 1)
            value = load(data[start:pos])
            if key == _BODY:
                value = data[start:pos]
                if len(value) > MAX_BODY:
                    raise DecodeError(
                        OVERSIZED, f"a body of {len(value)} bytes; at most {MAX_BODY}"
                    )
        if key >= 0:
            fields[key] = value
    if pos != size:
        raise DecodeError(MALFORMED, f"{size - pos} bytes after the end")
    version = fields.get(0)
    if type(version) is not int or version != VERSION:
        (version,) = _values(fields, _VERSION)
        raise DecodeError(UNKNOWN_VERSION, f"version {version}; this end speaks {VERSION}")
    return fields


def _state(fields: dict[int, Any], states: int, what: str) -> int:
    number = fields.get(1)
    if type(number) is not int or not 0 <= number < states:
        (number,) = _values(fields, _STATE)
        raise DecodeError(WRONG_TYPE, f"state {number} is none of {what}")
    return number


def _values(fields: dict[int, Any], layout: _Layout) -> list[Any]:
    """The values of a cell's fields, in their order, each of its type and within its limit."""
    values = []
    for number, name, kind, limit, absent, required in layout:
        if number not in fields:
            if required:
                raise DecodeError(MISSING_KEY, f"key {number} ({name}) is missing")
            values.append(absent)
            continue
        value = fields[number]
        if kind is _IS_UINT:
            sound = type(value) is int and 0 <= value <= limit  # a bool is no number here
        elif kind is _IS_BYTES:
            sound = isinstance(value, bytes) and len(value) == limit
        elif kind is _IS_TEXT:
            sound = isinstance(value, str) and len(value.encode()) <= limit
        else:  # a body was checked as it was read
            sound = kind is _IS_BODY or isinstance(value, bool)
        if not sound:
            raise DecodeError(
                WRONG_TYPE, f"key {number} ({name}) is no {_NOUNS[kind].format(limit)}"
            )
        values.append(value)
    return values


def _layout(cell: type[Cell], *kinds: str) -> _Layout:
    """A cell's fields after its state; an absent one is as the class has it."""
    absent = cell._field_defaults
    return tuple(
        (key.number, key.name, key.type, key.limit, absent.get(field), field not in absent)
        for key, field in of(*kinds)
        if key.name != "state" and key.number not in keys.TALK
    )


# Members by themselves: looking one up in its class takes Python 3.11 ten times as long.
_IS_UINT, _IS_BYTES, _IS_TEXT, _IS_TRUE, _IS_BODY = Type
_NOUNS: Final = {
    _IS_UINT: "unsigned integer up to {}",
    _IS_BYTES: "byte string of {}",
    _IS_TEXT: "text of {} bytes",
    _IS_TRUE: "boolean",
}
_VERSION: Final[_Layout] = ((*KEYS[0][:4], None, True),)
_STATE: Final[_Layout] = ((*BY_NAME["state"][:4], None, True),)
_TTL: Final = BY_NAME["ttl"].number
_INVITE: Final = _layout(Invite, *keys.INVITE)
_ANSWER: Final = _layout(Answer, keys.ANSWER)
_PRESENCE: Final = _layout(Presence, keys.PRESENCE)
#: What an invite that no longer rings does not carry, whatever it says.
_NOT_RINGING: Final[dict[str, Any]] = dict.fromkeys(
    field for key, field in of(keys.RINGING) if key.cells == (keys.RINGING,)
)
