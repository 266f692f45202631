"""Cells to CBOR bytes and back; every limit of the wire (docs/protocol.md, Cells; RFC 8949).

Decoding any bytes gives a cell or one :class:`DecodeError`, in time and memory bounded by the
length: :func:`_scan` walks the heads first, without recursion, and admits only what the protocol
has (definite lengths, shortest heads, no tags, 16 levels), so that cbor2 is handed nothing else.

Encoding is RFC 8949's core deterministic form. cbor2 orders map keys by length first, as RFC 7049
did, so maps are put together here; every scalar is cbor2's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cbor2

from .cells import (
    EPOCH_BYTES,
    GROUP_BYTES,
    Answer,
    AnswerState,
    Cell,
    Invite,
    InviteState,
    Presence,
)
from .errors import DecodeError

VERSION: Final = 1
MAX_CELL: Final = 20 * 1024
MAX_BODY: Final = 8 * 1024
MAX_CHANNEL: Final = 64
MAX_DEPTH: Final = 16
#: Unsigned integers stay below 2**53, so that a peer whose numbers are doubles can read them;
#: a ttl is at most a day.
MAX_UINT: Final = 2**53 - 1
MAX_TTL: Final = 24 * 60 * 60 * 1000

VERSION_KEY, STATE, EPOCH, SEQ, TTL, BODY, CHANNEL, REASON, GROUP, TIME, ASK = range(11)

# Causes, the counters that a drop is filed under (``client.stats``).
OVERSIZED: Final = "oversized"
MALFORMED: Final = "malformed"
TOO_DEEP: Final = "too deep"
TAGGED: Final = "tagged"
UNKNOWN_VERSION: Final = "unknown version"
MISSING_KEY: Final = "missing key"
WRONG_TYPE: Final = "wrong type"

_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(2, 8)
_FLOATS = (25, 26, 27)
_FALSE_TRUE_NULL = (20, 21, 22)
#: Stands in the spans for a key like true or 1.0, which Python's dictionaries take for the uint 1.
_ALIAS: Final = -1
#: The least value that needs a head argument of so many bytes.
_LEAST = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}


def _scan(data: bytes) -> dict[int, tuple[int, int]]:
    """Check that ``data`` is one well-formed item; if it is a map, where its uint keys' values lie.

    Raises :class:`DecodeError` on anything that the protocol does not have: indefinite lengths,
    heads longer than needed, tags, simple values besides false, true and null, a map key that
    comes twice or is itself an array or map, more than 16 levels, missing or left-over bytes.
    """
    spans: dict[int, tuple[int, int]] = {}
    size = len(data)
    pos = 0
    # One frame for each open array or map: items left; in a map the keys seen; and where the key
    # lies whose value comes next (-1: a key comes next).
    stack: list[tuple[list[int], set[bytes] | None]] = []
    while True:
        start = pos
        if pos >= size:
            raise DecodeError(MALFORMED, f"ends after {size} bytes within an item")
        major, info = data[pos] >> 5, data[pos] & 0x1F
        pos += 1
        value = info
        if info >= 24:
            if info > 27:
                raise DecodeError(MALFORMED, f"byte {start}: indefinite length or reserved head")
            width = 1 << (info - 24)
            value = int.from_bytes(data[pos : pos + width], "big")
            pos += width
            if pos > size:
                raise DecodeError(MALFORMED, f"ends after {size} bytes within a head")
            # A head longer than needed would give one map key two spellings.
            if major < _SIMPLE and value < _LEAST[width]:
                raise DecodeError(MALFORMED, f"byte {start}: a head longer than its value needs")
        if major in (_BYTES, _TEXT):
            pos += value
            if pos > size:
                raise DecodeError(MALFORMED, f"byte {start}: a string longer than the payload")
        elif major in (_ARRAY, _MAP):
            items = value if major == _ARRAY else 2 * value
            if items > size - pos:
                raise DecodeError(MALFORMED, f"byte {start}: more items than bytes")
            if len(stack) == MAX_DEPTH:
                raise DecodeError(TOO_DEEP, f"byte {start}: deeper than {MAX_DEPTH} levels")
            if stack and stack[-1][1] is not None and stack[-1][0][1] < 0:
                raise DecodeError(MALFORMED, f"byte {start}: an array or map as a map key")
            if items:
                stack.append(([items, -1], set() if major == _MAP else None))
                continue
        elif major == _TAG:
            raise DecodeError(TAGGED, f"byte {start}: tag {value}; the protocol has no tags")
        elif major == _SIMPLE and info not in _FLOATS and value not in _FALSE_TRUE_NULL:
            raise DecodeError(MALFORMED, f"byte {start}: simple value {value}")

        # An item is complete, and with it perhaps the arrays and maps that it was the last of.
        while stack:
            frame, keys = stack[-1]
            frame[0] -= 1
            if keys is not None:
                if frame[1] < 0:
                    key = data[start:pos]
                    if key in keys:
                        raise DecodeError(MALFORMED, f"byte {start}: a key twice in a map")
                    keys.add(key)
                    frame[1] = start
                    if major == _SIMPLE and len(stack) == 1:
                        spans[_ALIAS] = (start, pos)
                else:
                    if len(stack) == 1 and data[frame[1]] < 24:  # a uint key of one byte
                        spans[data[frame[1]]] = (frame[1] + 1, pos)
                    frame[1] = -1
            if frame[0]:
                break
            stack.pop()
        if not stack:
            if pos != size:
                raise DecodeError(MALFORMED, f"{size - pos} bytes after the end")
            return spans


def encode_body(value: Any) -> bytes:
    """A content or response as CBOR: any value without tags, deterministic, at most 8 KiB.

    Takes None, bool, int, float, str, bytes, and lists, tuples and mappings of them, up to 16
    levels. Raises ``ValueError`` saying what does not fit.
    """
    try:
        data = _encode_value(value, MAX_DEPTH)
        _scan(data)
    except DecodeError as error:
        raise ValueError(f"not to be sent: {error}") from None
    except RecursionError:
        raise ValueError(f"deeper than {MAX_DEPTH} levels") from None
    except (cbor2.CBOREncodeError, UnicodeError, OverflowError) as error:
        raise ValueError(f"not encodable as CBOR: {error}") from None
    if len(data) > MAX_BODY:
        raise ValueError(f"{len(data)} bytes encoded; at most {MAX_BODY} are allowed")
    return data


def decode_body(data: bytes) -> Any:
    """The value in a body that came with a decoded cell (so it is known to be sound)."""
    return cbor2.loads(data)


def encode(cell: Cell) -> bytes:
    """A cell's bytes, deterministic: equal cells are equal bytes."""
    fields: dict[int, bytes] = {VERSION_KEY: b"\x01", EPOCH: _bytes(cell.epoch)}
    if isinstance(cell, Presence):
        fields[STATE] = _uint(int(cell.online))
        _put_uint(fields, TIME, cell.time)
    else:
        fields[STATE] = _uint(cell.state)
        fields[SEQ] = _uint(cell.seq)
        _put_uint(fields, REASON, cell.reason)
        if isinstance(cell, Invite):
            _put_uint(fields, TTL, cell.ttl)
            _put_uint(fields, TIME, cell.time)
            if cell.content is not None:
                fields[BODY] = cell.content
            if cell.channel is not None:
                fields[CHANNEL] = cbor2.dumps(cell.channel)
            if cell.group is not None:
                fields[GROUP] = _bytes(cell.group)
        else:
            if cell.response is not None:
                fields[BODY] = cell.response
            if cell.ask:
                fields[ASK] = b"\xf5"
    # Keys 0 to 10 are one byte each, so their numeric order is the order of their encodings.
    parts = [bytes((0xA0 | len(fields),))]
    for key in sorted(fields):
        parts += (bytes((key,)), fields[key])
    return b"".join(parts)


def decode_invite(data: bytes) -> Invite:
    """The invite in ``data``; raises :class:`DecodeError`."""
    fields, spans = _fields(data)
    number = _need(fields, STATE)
    if number > InviteState.ENDED:
        raise DecodeError(WRONG_TYPE, f"state {number} is none of an invite")
    state = InviteState(number)
    ttl = _uint_or_none(fields, TTL, MAX_TTL)
    if state is InviteState.RINGING and ttl is None:
        raise DecodeError(MISSING_KEY, f"key {TTL} (ttl) is missing while ringing")
    channel = fields.get(CHANNEL)
    if channel is not None and (
        not isinstance(channel, str) or len(channel.encode()) > MAX_CHANNEL
    ):
        raise DecodeError(WRONG_TYPE, f"key {CHANNEL} (channel) is no text of {MAX_CHANNEL} bytes")
    group = fields.get(GROUP)
    if group is not None and (not isinstance(group, bytes) or len(group) != GROUP_BYTES):
        raise DecodeError(WRONG_TYPE, f"key {GROUP} (group) is no byte string of {GROUP_BYTES}")
    return Invite(
        state=state,
        epoch=_epoch(fields),
        seq=_need(fields, SEQ),
        ttl=ttl if state is InviteState.RINGING else None,
        content=_body(data, spans),
        channel=channel,
        reason=_uint_or_none(fields, REASON),
        group=group,
        time=_uint_or_none(fields, TIME),
    )


def decode_answer(data: bytes) -> Answer:
    """The answer in ``data``; raises :class:`DecodeError`."""
    fields, spans = _fields(data)
    number = _need(fields, STATE)
    if number > AnswerState.SEEN:
        raise DecodeError(WRONG_TYPE, f"state {number} is none of an answer")
    ask = fields.get(ASK, False)
    if not isinstance(ask, bool):
        raise DecodeError(WRONG_TYPE, f"key {ASK} (ask) is no boolean")
    return Answer(
        state=AnswerState(number),
        epoch=_epoch(fields),
        seq=_need(fields, SEQ),
        response=_body(data, spans),
        reason=_uint_or_none(fields, REASON),
        ask=ask,
    )


def decode_presence(data: bytes) -> Presence:
    """The presence in ``data``; raises :class:`DecodeError`."""
    fields, _ = _fields(data)
    number = _need(fields, STATE)
    if number > 1:
        raise DecodeError(WRONG_TYPE, f"state {number} is none of a presence")
    return Presence(bool(number), _epoch(fields), _uint_or_none(fields, TIME))


def _encode_value(value: Any, depth: int) -> bytes:
    if isinstance(value, Mapping):
        if depth == 0:
            raise RecursionError
        pairs = sorted((_encode_value(k, depth - 1), _encode_value(v, depth - 1))
                       for k, v in value.items())  # fmt: skip
        return _head(_MAP, len(pairs)) + b"".join(k + v for k, v in pairs)
    if isinstance(value, list | tuple):
        if depth == 0:
            raise RecursionError
        return _head(_ARRAY, len(value)) + b"".join(_encode_value(v, depth - 1) for v in value)
    if isinstance(value, str):
        value.encode()  # cbor2 5 and 6 tell of lone surrogates differently
    elif not (value is None or isinstance(value, bool | int | float | bytes | bytearray)):
        raise cbor2.CBOREncodeError(f"a {type(value).__name__} is no CBOR value without tags")
    return cbor2.dumps(value, canonical=True)


def _head(major: int, value: int) -> bytes:
    encoded = bytearray(_uint(value))
    encoded[0] |= major << 5
    return bytes(encoded)


def _uint(value: int) -> bytes:
    return bytes((value,)) if value < 24 else cbor2.dumps(int(value))


def _bytes(value: bytes) -> bytes:
    return bytes((0x40 | len(value),)) + value if len(value) < 24 else cbor2.dumps(value)


def _put_uint(fields: dict[int, bytes], key: int, value: int | None) -> None:
    if value is not None:
        fields[key] = _uint(value)


def _fields(data: bytes) -> tuple[dict[Any, Any], dict[int, tuple[int, int]]]:
    if len(data) > MAX_CELL:
        raise DecodeError(OVERSIZED, f"{len(data)} bytes; a cell has at most {MAX_CELL}")
    spans = _scan(data)
    if data[0] >> 5 != _MAP:
        raise DecodeError(WRONG_TYPE, "a cell is a map")
    try:
        fields = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError) as error:  # text that is not UTF-8
        raise DecodeError(MALFORMED, f"not CBOR: {error}") from None
    if spans.pop(_ALIAS, None):  # an unknown key must not stand in for a known one
        fields = {key: cbor2.loads(data[start:end]) for key, (start, end) in spans.items()}
    version = _need(fields, VERSION_KEY)
    if version != VERSION:
        raise DecodeError(UNKNOWN_VERSION, f"version {version}; this end speaks {VERSION}")
    return fields, spans


def _need(fields: dict[Any, Any], key: int) -> int:
    value = _uint_or_none(fields, key)
    if value is None:
        raise DecodeError(MISSING_KEY, f"key {key} is missing")
    return value


def _uint_or_none(fields: dict[Any, Any], key: int, limit: int = MAX_UINT) -> int | None:
    if key not in fields:
        return None
    value = fields[key]
    if type(value) is not int or not 0 <= value <= limit:  # a bool is no number here
        raise DecodeError(WRONG_TYPE, f"key {key} is no unsigned integer up to {limit}")
    return value


def _epoch(fields: dict[Any, Any]) -> bytes:
    if EPOCH not in fields:
        raise DecodeError(MISSING_KEY, f"key {EPOCH} (epoch) is missing")
    epoch = fields[EPOCH]
    if not isinstance(epoch, bytes) or len(epoch) != EPOCH_BYTES:
        raise DecodeError(WRONG_TYPE, f"key {EPOCH} (epoch) is no byte string of {EPOCH_BYTES}")
    return epoch


def _body(data: bytes, spans: dict[int, tuple[int, int]]) -> bytes | None:
    if BODY not in spans:
        return None
    start, end = spans[BODY]
    if end - start > MAX_BODY:
        raise DecodeError(OVERSIZED, f"a body of {end - start} bytes; at most {MAX_BODY}")
    return data[start:end]
