"""Cells to CBOR bytes and back; every limit of the wire (docs/protocol.md, Cells; RFC 8949).

Decoding any bytes gives a cell or one :class:`DecodeError`, in time and memory bounded by the
length: :func:`_scan` walks the heads first, without recursion, and admits only what the protocol
has (definite lengths, shortest heads, no tags, 16 levels), so that cbor2 is handed nothing else.
What a cell itself is made of, small integers and short strings, is read on the way.

Encoding is RFC 8949's core deterministic form. cbor2 orders map keys by length first, as RFC 7049
did, so maps are put together here, with the shortest numbers; every other scalar is cbor2's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cbor2

from ..errors import DecodeError
from . import fast_path, keys
from .cells import Answer, AnswerState, Cell, Invite, InviteState, Presence
from .keys import BY_NAME, KEYS, MAX_BODY, VERSION, Type, of

MAX_CELL: Final = 20 * 1024
MAX_DEPTH: Final = 16

# Causes, the counters that a drop is filed under (``client.stats``).
OVERSIZED: Final = "oversized"
MALFORMED: Final = "malformed"
TOO_DEEP: Final = "too deep"
TAGGED: Final = "tagged"
UNKNOWN_VERSION: Final = "unknown version"
MISSING_KEY: Final = "missing key"
WRONG_TYPE: Final = "wrong type"

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE_TRUE_NULL = (20, 21, 22)
_BODY: Final = BY_NAME["body"].number
_LAST_KEY: Final = KEYS[-1].number
_BOOLEANS: Final = {0xF4: False, 0xF5: True}
#: The numbers that are one byte, and the heads of maps.
_SMALL: Final = tuple(bytes((n,)) for n in range(24))
_MAPS: Final = tuple(bytes((0xA0 | n,)) for n in range(12))
#: The least value that needs a head argument of so many bytes.
_LEAST = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}

#: Of each field: its key's number, name, type and limit, what it is when absent, whether it must
#: not be.
_Layout = tuple[tuple[int, str, Type, int, Any, bool], ...]

_INVITE_STATES: Final = tuple(InviteState)
_ANSWER_STATES: Final = tuple(AnswerState)


def _head(data: bytes, pos: int) -> tuple[int, int, int]:
    """The head at ``pos``: major type, argument, and where what follows it begins."""
    if pos >= len(data):
        raise DecodeError(MALFORMED, f"ends after {len(data)} bytes within an item")
    major, info = data[pos] >> 5, data[pos] & 0x1F
    if info < 24:
        return major, info, pos + 1
    if info > 27:
        raise DecodeError(MALFORMED, f"byte {pos}: indefinite length or reserved head")
    width = 1 << (info - 24)
    end = pos + 1 + width
    if end > len(data):
        raise DecodeError(MALFORMED, f"ends after {len(data)} bytes within a head")
    value = int.from_bytes(data[pos + 1 : end], "big")
    if major == _SIMPLE:
        return major, value if info == 24 else _FALSE_TRUE_NULL[0], end  # a float is as good
    # A head longer than needed would give one map key two spellings.
    if value < _LEAST[width]:
        raise DecodeError(MALFORMED, f"byte {pos}: a head longer than its value needs")
    return major, value, end


def _scan(data: bytes, pos: int, depth: int) -> int:
    """Check that one well-formed item lies at ``pos``, with ``depth`` levels left; where it ends.

    Raises :class:`DecodeError` on anything that the protocol does not have: indefinite lengths,
    heads longer than needed, tags, simple values besides false, true and null, a map key that
    comes twice or is itself an array or map, too many levels, missing bytes.
    """
    size = len(data)
    # One frame for each open array or map: items left, and whether a key comes next; in a map the
    # keys seen.
    stack: list[tuple[list[int], set[bytes] | None]] = []
    while True:
        start = pos
        major, value, pos = _head(data, pos)
        if major in (_BYTES, _TEXT):
            pos += value
            if pos > size:
                raise DecodeError(MALFORMED, f"byte {start}: a string longer than the payload")
        elif major in (_ARRAY, _MAP):
            items = value if major == _ARRAY else 2 * value
            if items > size - pos:
                raise DecodeError(MALFORMED, f"byte {start}: more items than bytes")
            if len(stack) == depth:
                raise DecodeError(TOO_DEEP, f"byte {start}: deeper than {MAX_DEPTH} levels")
            if stack and stack[-1][1] is not None and stack[-1][0][1]:
                raise DecodeError(MALFORMED, f"byte {start}: an array or map as a map key")
            if items:
                stack.append(([items, True], set() if major == _MAP else None))
                continue
        elif major == _TAG:
            raise DecodeError(TAGGED, f"byte {start}: tag {value}; the protocol has no tags")
        elif major == _SIMPLE and value not in _FALSE_TRUE_NULL:
            raise DecodeError(MALFORMED, f"byte {start}: simple value {value}")

        # An item is complete, and with it perhaps the arrays and maps that it was the last of.
        while stack:
            frame, keys = stack[-1]
            frame[0] -= 1
            if keys is not None:
                if frame[1]:
                    key = data[start:pos]
                    if key in keys:
                        raise DecodeError(MALFORMED, f"byte {start}: a key twice in a map")
                    keys.add(key)
                frame[1] = not frame[1]
            if frame[0]:
                break
            stack.pop()
        if not stack:
            return pos


def encode_body(value: Any) -> bytes:
    """A content or response as CBOR: any value without tags, deterministic, at most 8 KiB.

    Takes None, bool, int, float, str, bytes, and lists, tuples and mappings of them, up to 15
    levels. Raises ``ValueError`` saying what does not fit.
    """
    try:
        if type(value) is str:  # what it mostly is: one item, without tags or levels
            text = value.encode()
            data = _open(_TEXT, len(text)) + text
        else:
            data = _encode_value(value, MAX_DEPTH - 1)  # the cell around it is a level too
            _scan(data, 0, MAX_DEPTH - 1)
    except DecodeError as error:
        raise ValueError(f"not to be sent: {error}") from None
    except RecursionError:
        raise ValueError(f"deeper than {MAX_DEPTH - 1} levels") from None
    except (cbor2.CBOREncodeError, UnicodeError, OverflowError) as error:
        raise ValueError(f"not encodable as CBOR: {error}") from None
    if len(data) > MAX_BODY:
        raise ValueError(f"{len(data)} bytes encoded; at most {MAX_BODY} are allowed")
    return data


def decode_body(data: bytes) -> Any:
    """The value in a body that came with a decoded cell (so it is known to be sound)."""
    if 0x60 <= data[0] <= 0x78:  # what it mostly is: a short text
        return data[1 if data[0] < 0x78 else 2 :].decode()
    return cbor2.loads(data)


def encode(cell: Cell) -> bytes:
    """A cell's bytes, deterministic: equal cells are equal bytes."""
    # Written out, since every ring waits for it; a test holds it against the table of keys, which
    # are one byte each, so their numeric order is the order of their encodings.
    if isinstance(cell, Presence):
        return _encode_presence(cell)
    data = (
        b"\x00\x01\x01" + _SMALL[cell.state] + b"\x02\x48" + cell.epoch + b"\x03" + _uint(cell.seq)
    )
    pairs = 4
    if isinstance(cell, Answer):
        if cell.response is not None:
            pairs, data = pairs + 1, data + b"\x05" + cell.response
        if cell.reason is not None:
            pairs, data = pairs + 1, data + b"\x07" + _uint(cell.reason)
        if cell.ask:
            pairs, data = pairs + 1, data + b"\x0a\xf5"
        return _MAPS[pairs] + data
    if cell.ttl is not None:
        pairs, data = pairs + 1, data + b"\x04" + _uint(cell.ttl)
    if cell.content is not None:
        pairs, data = pairs + 1, data + b"\x05" + cell.content
    if cell.channel is not None:
        pairs, data = pairs + 1, data + b"\x06" + cbor2.dumps(cell.channel)
    if cell.reason is not None:
        pairs, data = pairs + 1, data + b"\x07" + _uint(cell.reason)
    if cell.group is not None:
        pairs, data = pairs + 1, data + b"\x08\x50" + cell.group
    if cell.time is not None:
        pairs, data = pairs + 1, data + b"\x09" + _uint(cell.time)
    if cell.asker is not None:
        pairs, data = pairs + 1, data + b"\x10\x48" + cell.asker
    return _MAPS[pairs] + data


def _encode_presence(cell: Presence) -> bytes:
    data, pairs = b"\x00\x01\x01" + _SMALL[cell.online] + b"\x02\x48" + cell.epoch, 3
    if cell.time is not None:
        pairs, data = pairs + 1, data + b"\x09" + _uint(cell.time)
    if cell.ask:
        pairs, data = pairs + 1, data + b"\x0a\xf5"
    if cell.generation:
        pairs, data = pairs + 1, data + b"\x0e" + _uint(cell.generation)
    if cell.age:
        pairs, data = pairs + 1, data + b"\x0f" + _uint(cell.age)
    return _MAPS[pairs] + data


def decode_invite(data: bytes) -> Invite:
    """The invite in ``data``; raises :class:`DecodeError`."""
    if (cell := fast_path.invite(data)) is not None:
        return cell
    fields = _fields(data)
    state = _INVITE_STATES[_state(fields, len(_INVITE_STATES), "an invite")]
    cell = Invite(state, *_values(fields, _INVITE))
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
    return Answer(state, *_values(fields, _ANSWER))


def decode_presence(data: bytes) -> Presence:
    """The presence in ``data``; raises :class:`DecodeError`."""
    fields = _fields(data)
    online = bool(_state(fields, 2, "a presence"))
    return Presence(online, *_values(fields, _PRESENCE))


def _encode_value(value: Any, depth: int) -> bytes:
    if isinstance(value, Mapping):
        if depth == 0:
            raise RecursionError
        pairs = sorted((_encode_value(k, depth - 1), _encode_value(v, depth - 1))
                       for k, v in value.items())  # fmt: skip
        return _open(_MAP, len(pairs)) + b"".join(k + v for k, v in pairs)
    if isinstance(value, list | tuple):
        if depth == 0:
            raise RecursionError
        return _open(_ARRAY, len(value)) + b"".join(_encode_value(v, depth - 1) for v in value)
    if isinstance(value, str):
        value.encode()
    elif not (value is None or isinstance(value, bool | int | float | bytes | bytearray)):
        raise cbor2.CBOREncodeError(f"a {type(value).__name__} is no CBOR value without tags")
    return cbor2.dumps(value, canonical=True)


def _open(major: int, value: int) -> bytes:
    encoded = _uint(value)
    return bytes((encoded[0] | major << 5,)) + encoded[1:]


def _uint(value: int) -> bytes:
    # For the pure-Python cbor2 of a 32-bit Pi: writing an invite takes 1.0 µs for its 10.5, and for
    # the 1.5 of the compiled one (x86-64, Python 3.11).
    if value < 24:
        return _SMALL[value]
    if value < 0x100:
        return bytes((0x18, value))
    if value < 0x10000:
        return b"\x19" + value.to_bytes(2, "big")
    if value < 0x1_0000_0000:
        return b"\x1a" + value.to_bytes(4, "big")
    return cbor2.dumps(int(value))


def _fields(data: bytes) -> dict[int, Any]:
    """The known keys of a cell and their values; the body, checked, stays encoded.

    The protocol's own keys and most of its values are one or two bytes of head: those are read
    here; whatever else a payload holds is scanned, and cbor2 reads what is of interest in it.
    """
    size = len(data)
    if size > MAX_CELL:
        raise DecodeError(OVERSIZED, f"{size} bytes; a cell has at most {MAX_CELL}")
    major, left, pos = _head(data, 0)
    if major != _MAP:
        if _scan(data, 0, MAX_DEPTH) != size:
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
            major, _, _ = _head(data, pos)
            if major in (_ARRAY, _MAP):
                raise DecodeError(MALFORMED, f"byte {start}: an array or map as a map key")
            pos = _scan(data, pos, 0)
            if major == _TEXT:
                _load(data[start:pos])
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
            _, value, pos = _head(data, pos)
        elif 0x40 <= head < 0x58 and key != _BODY and pos + head - 0x3F <= size:
            pos += head - 0x3F
            value = data[start + 1 : pos]
        elif head in _BOOLEANS and key != _BODY:
            value = _BOOLEANS[head]
            pos += 1
        else:
            pos = _scan(data, pos, MAX_DEPTH - 1)
            value = _load(data[start:pos])
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


def _load(item: bytes) -> Any:
    try:
        return cbor2.loads(item)
    except (cbor2.CBORDecodeError, ValueError) as error:  # text that is not UTF-8
        raise DecodeError(MALFORMED, f"not CBOR: {error}") from None


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
        if key.name != "state"
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
