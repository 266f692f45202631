"""CBOR items as the protocol has them, read and written (RFC 8949).

:func:`scan` walks the heads first, without recursion, and admits only what the protocol has
(definite lengths, shortest heads, no tags, 16 levels), so that cbor2 is handed nothing else.

Encoding is RFC 8949's core deterministic form. cbor2 orders map keys by length first, as RFC 7049
did, so maps are put together here, with the shortest numbers; every other scalar is cbor2's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cbor2

from ...errors import DecodeError

MAX_DEPTH: Final = 16

# Causes, the counters that a drop is filed under (``client.stats``); codec has the others.
MALFORMED: Final = "malformed"
TOO_DEEP: Final = "too deep"
TAGGED: Final = "tagged"

UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
_FALSE_TRUE_NULL = (20, 21, 22)
#: The numbers that are one byte.
SMALL: Final = tuple(bytes((n,)) for n in range(24))
#: The least value that needs a head argument of so many bytes.
_LEAST = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}


def read_head(data: bytes, pos: int) -> tuple[int, int, int]:
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
    if major == SIMPLE:
        return major, value if info == 24 else _FALSE_TRUE_NULL[0], end  # a float is as good
    # A head longer than needed would give one map key two spellings.
    if value < _LEAST[width]:
        raise DecodeError(MALFORMED, f"byte {pos}: a head longer than its value needs")
    return major, value, end


def scan(data: bytes, pos: int, depth: int) -> int:
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
        major, value, pos = read_head(data, pos)
        if major in (BYTES, TEXT):
            pos += value
            if pos > size:
                raise DecodeError(MALFORMED, f"byte {start}: a string longer than the payload")
        elif major in (ARRAY, MAP):
            items = value if major == ARRAY else 2 * value
            if items > size - pos:
                raise DecodeError(MALFORMED, f"byte {start}: more items than bytes")
            if len(stack) == depth:
                raise DecodeError(TOO_DEEP, f"byte {start}: deeper than {MAX_DEPTH} levels")
            if stack and stack[-1][1] is not None and stack[-1][0][1]:
                raise DecodeError(MALFORMED, f"byte {start}: an array or map as a map key")
            if items:
                stack.append(([items, True], set() if major == MAP else None))
                continue
        elif major == TAG:
            raise DecodeError(TAGGED, f"byte {start}: tag {value}; the protocol has no tags")
        elif major == SIMPLE and value not in _FALSE_TRUE_NULL:
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


def dump(value: Any, depth: int) -> bytes:
    """Any value without tags, deterministic, at most ``depth`` levels.

    Takes None, bool, int, float, str, bytes, and lists, tuples and mappings of them. Raises
    ``ValueError`` saying what does not fit.
    """
    try:
        if type(value) is str:  # what it mostly is: one item, without tags or levels
            return dump_text(value)
        return _encode(value, depth)
    except RecursionError:
        raise ValueError(f"deeper than {depth} levels") from None
    except (cbor2.CBOREncodeError, UnicodeError, OverflowError) as error:
        raise ValueError(f"not encodable as CBOR: {error}") from None


def dump_text(value: str) -> bytes:
    """A text; raises ``UnicodeError`` for what is none."""
    text = value.encode()
    return open_item(TEXT, len(text)) + text


def _encode(value: Any, depth: int) -> bytes:
    if isinstance(value, str):
        return dump_text(value)
    if isinstance(value, (dict, Mapping)):  # dict first: asking an ABC takes its time
        if depth == 0:
            raise RecursionError
        pairs = sorted([(_encode_key(k), _encode(v, depth - 1)) for k, v in value.items()])
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("not to be sent: a key twice in a map")
        return open_item(MAP, len(pairs)) + b"".join([k + v for k, v in pairs])
    if isinstance(value, (list, tuple)):
        if depth == 0:
            raise RecursionError
        return open_item(ARRAY, len(value)) + b"".join([_encode(v, depth - 1) for v in value])
    if isinstance(value, int) and not -(2**64) <= value < 2**64:
        raise ValueError("not to be sent: an integer of more than 64 bits, which takes a tag")
    if not (value is None or isinstance(value, bool | int | float | bytes | bytearray)):
        raise cbor2.CBOREncodeError(f"a {type(value).__name__} is no CBOR value without tags")
    return cbor2.dumps(value, canonical=True)


def _encode_key(value: Any) -> bytes:
    if isinstance(value, (Mapping, list, tuple)):
        raise ValueError("not to be sent: an array or map as a map key")
    return _encode(value, 0)


def open_item(major: int, value: int) -> bytes:
    """The head of an item: its major type and argument, in the shortest form."""
    encoded = dump_uint(value)
    return bytes((encoded[0] | major << 5,)) + encoded[1:]


def dump_uint(value: int) -> bytes:
    """An unsigned integer, in its shortest form."""
    # For the pure-Python cbor2 of a 32-bit Pi: writing an invite takes 1.0 µs for its 10.5, and for
    # the 1.5 of the compiled one (x86-64, Python 3.11).
    if value < 24:
        return SMALL[value]
    if value < 0x100:
        return bytes((0x18, value))
    if value < 0x10000:
        return b"\x19" + value.to_bytes(2, "big")
    if value < 0x1_0000_0000:
        return b"\x1a" + value.to_bytes(4, "big")
    return cbor2.dumps(int(value))


def load(item: bytes) -> Any:
    """The value of one item that was scanned."""
    try:
        return cbor2.loads(item)
    except (cbor2.CBORDecodeError, ValueError) as error:  # text that is not UTF-8
        raise DecodeError(MALFORMED, f"not CBOR: {error}") from None
