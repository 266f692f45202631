"""The codec: every limit of the wire, on whatever cbor2 is imported (5.9.0 in a test below)."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import cbor2
import pytest

from device_sdk.core.wire import cbor, codec, fast_path, keys
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Presence, Said
from device_sdk.errors import DecodeError

EPOCH, GROUP = bytes(range(8)), bytes(range(16))
ROOT = Path(__file__).parents[2]
OLD_CBOR2 = Path(sys.prefix) / "cbor2-5"
EXPECTED = os.environ.get("BELLWIRE_EXPECT_CBOR2")

RINGING = Invite(InviteState.RINGING, EPOCH, 1, ttl=60_000)
RECEIVED = Answer(AnswerState.RECEIVED, EPOCH, 1)


def cell(**changes: Any) -> bytes:
    """A ringing invite with fields by key (``k3=…``); None leaves one out."""
    fields: dict[int, Any] = {0: 1, 1: 0, 2: EPOCH, 3: 1, 4: 60_000}
    fields |= {int(name[1:]): value for name, value in changes.items()}
    return cbor2.dumps({k: v for k, v in sorted(fields.items()) if v is not None})


def cause(data: bytes) -> str:
    """What an invite of these bytes is dropped for."""
    with pytest.raises(DecodeError) as caught:
        codec.decode_invite(data)
    return caught.value.cause


def test_the_same_holds_on_the_oldest_cbor2() -> None:
    """This file passes on the pure-Python cbor2 5.9.0 of 32-bit devices, and really imports it."""
    if EXPECTED is not None:
        assert metadata.version("cbor2") == EXPECTED
        assert Path(cbor2.__file__).is_relative_to(OLD_CBOR2)
        return
    assert OLD_CBOR2.is_dir(), "cbor2 5.9.0 is missing: run 'make test', which installs it"
    path = os.pathsep.join((str(OLD_CBOR2), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "PYTHONPATH": path, "BELLWIRE_EXPECT_CBOR2": "5.9.0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- encoding ------------------------------------------------------------------------------


HEADER = "02480001020304050607"  # key 2, the epoch


@pytest.mark.parametrize(
    ("value", "hexadecimal"),
    [
        (RINGING, f"a500010100{HEADER}03010419ea60"),
        (RECEIVED, f"a400010100{HEADER}0301"),
        (Presence(True, EPOCH), f"a300010101{HEADER}"),
        (Presence(False, EPOCH, 1_700_000_000), f"a400010100{HEADER}091a6553f100"),
        (Answer(AnswerState.REFUSED, EPOCH, 2, reason=2), f"a500010102{HEADER}03020702"),
        (Answer(AnswerState.RECEIVED, EPOCH, 24, ask=True), f"a500010100{HEADER}0318180af5"),
        (
            Invite(InviteState.ENDED, EPOCH, 3, None, b"\x01", "c", 1, GROUP, 5),
            f"a900010102{HEADER}0303" "0501" "066163" "0701" f"0850{GROUP.hex()}" "0905",
        ),
        (
            RINGING._replace(asker=b"they ask"),
            f"a600010100{HEADER}03010419ea60" f"1048{b'they ask'.hex()}",
        ),
    ],
)  # fmt: skip
def test_the_bytes_of_a_cell(value: Any, hexadecimal: str) -> None:
    """Keys in ascending order, heads in shortest form: equal cells are equal bytes."""
    assert codec.encode(value).hex() == hexadecimal


@pytest.mark.parametrize(
    "invite",
    [
        RINGING,
        Invite(InviteState.RINGING, EPOCH, 2**53 - 1, ttl=keys.MAX_TTL, content=b"\xf6"),
        Invite(InviteState.RINGING, EPOCH, 0, ttl=0, channel="", time=0),
        Invite(InviteState.ACCEPTED, EPOCH, 2),
        Invite(InviteState.ENDED, EPOCH, 3, reason=6, group=GROUP, channel="ü" * 32),
        # A text that ends as if something came after it.
        RINGING._replace(content=codec.encode_body("\x07\x01"), time=65_536),
        RINGING._replace(ttl=9, channel="c", asker=EPOCH),
    ],
)
def test_an_invite_survives_the_wire(invite: Invite) -> None:
    """Decoding what was encoded gives the same value, at the bounds too."""
    assert codec.decode_invite(codec.encode(invite)) == invite


def test_a_cell_that_says_it_has_one_pair_less_does_not_end_where_it_does() -> None:
    """However it begins: the count decides where the map ends."""
    with pytest.raises(DecodeError, match="4 bytes after the end") as caught:
        codec.decode_invite(bytes.fromhex(f"a400010100{HEADER}03010419ea60"))
    assert caught.value.cause == cbor.MALFORMED


@pytest.mark.parametrize("body", ["", "056161"])
def test_an_answer_that_says_it_has_more_pairs_is_cut_short(body: str) -> None:
    """The short way leaves it to the long way, which says so."""
    data = bytes.fromhex(f"a{5 + bool(body)}00010100{HEADER}0301{body}")
    assert fast_path.answer(data) is None
    with pytest.raises(DecodeError) as caught:
        codec.decode_answer(data)
    assert caught.value.cause == cbor.MALFORMED


def test_an_unknown_key_comes_once() -> None:
    """Like a known one: of two, which would hold?"""
    twice = b"\xa7" + cell()[1:] + 2 * b"\x61x\x01"
    assert cause(twice) == cbor.MALFORMED


def test_a_mapping_may_be_as_deep_as_a_list() -> None:
    """And no deeper."""
    value: Any = 1
    for _ in range(15):
        value = {"in": value}
    assert codec.decode_body(codec.encode_body(value)) == value
    with pytest.raises(ValueError, match="deeper"):
        codec.encode_body({"in": value})


TEXT, LONG_TEXT = codec.encode_body("somebody is here"), codec.encode_body("ä" * 127)


@pytest.mark.parametrize(
    "common",
    [
        RINGING,
        RINGING._replace(ttl=256, content=TEXT, group=GROUP, time=1_800_000_000),
        RINGING._replace(ttl=65_535, content=LONG_TEXT, time=65_536),
        RINGING._replace(content=TEXT, group=GROUP, time=1_800_000_000, asker=EPOCH),
        Invite(InviteState.ACCEPTED, EPOCH, 23),
        Invite(InviteState.ENDED, EPOCH, 2, content=TEXT, reason=1, time=1_800_000_000),
        RINGING._replace(content=TEXT, time=1_800_000_000, talk=Said()),
        Invite(InviteState.ACCEPTED, EPOCH, 300, talk=Said(0, None)),
        Invite(InviteState.ACCEPTED, EPOCH, 24, talk=Said(400, 255, (TEXT, b"\xa1\x01\xf5"))),
    ],
)
def test_a_common_invite_is_read_in_one_go(common: Invite) -> None:
    """What every ring waits for does not take the long way."""
    assert fast_path.invite(codec.encode(common)) == common


@pytest.mark.parametrize(
    "common",
    [
        RECEIVED,
        RECEIVED._replace(ask=True),
        Answer(AnswerState.ACCEPTED, EPOCH, 2, response=TEXT),
        Answer(AnswerState.REFUSED, EPOCH, 3, response=LONG_TEXT, reason=3),
        Answer(AnswerState.ACCEPTED, EPOCH, 2, response=TEXT, talk=Said()),
        Answer(AnswerState.TALKING, EPOCH, 65_535, talk=Said(1, 65_535, (TEXT,))),
    ],
)
def test_a_common_answer_is_read_in_one_go(common: Answer) -> None:
    """And neither does its answer."""
    assert fast_path.answer(codec.encode(common)) == common


@pytest.mark.parametrize(
    "body", ["61ff", "62c3", "7810" + "61" * 16, "6161" * 2, "61", "78", "7820", "6261", "a0"]
)
def test_a_body_that_is_no_short_text_takes_the_long_way(body: str) -> None:
    """Not UTF-8, a long head, a wrong length, or another type; whatever the count of pairs says."""
    for pairs in "456789":
        assert (
            fast_path.invite(bytes.fromhex(f"a{pairs}00010100{HEADER}03010419ea6005{body}")) is None
        )
        assert fast_path.answer(bytes.fromhex(f"a{pairs}00010100{HEADER}030105{body}")) is None


def test_messages_that_are_too_large_together_are_no_cell() -> None:
    """Each of them is one that may be said; the array of them is not."""
    message = cbor2.dumps("x" * (keys.MAX_BODY // 3))
    array = b"\x83" + message * 3
    data = bytes.fromhex(f"a800010105{HEADER}030105") + array + b"\x0b\x01\x0c\x03\x0d\x00"
    assert fast_path.answer(data) is None
    with pytest.raises(DecodeError):
        codec.decode_answer(data)
    fits = data.replace(message, cbor2.dumps("x"))
    assert fast_path.answer(fits) == codec.decode_answer(fits)
    assert fast_path.answer(fits) is not None


@pytest.mark.parametrize("state", [s for s in AnswerState if s < AnswerState.TALKING])
@pytest.mark.parametrize("ask", [False, True])
def test_an_answer_survives_the_wire(state: AnswerState, ask: bool) -> None:
    """Every state, with and without ask, with a response and a reason."""
    answer = Answer(state, EPOCH, 7, response=b"\x61x", reason=4, ask=ask)
    assert codec.decode_answer(codec.encode(answer)) == answer


def test_a_presence_survives_the_wire() -> None:
    """Online and offline, with a time and without."""
    for presence in (Presence(True, EPOCH), Presence(False, EPOCH, 1_700_000_000)):
        assert codec.decode_presence(codec.encode(presence)) == presence


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, 23, 24, 2**64 - 1, -1, -(2**64), 1.5, math.inf, "", "ü", b"", b"\x00",
     [], [1, [2, {"a": None}]], {"k": "v", 1: 2, b"b": [True]}, "x" * 8000],
)  # fmt: skip
def test_a_body_is_any_value_without_tags(value: Any) -> None:
    """What went in comes out."""
    assert codec.decode_body(codec.encode_body(value)) == value


def test_a_body_is_deterministic() -> None:
    """Map keys by the bytes of their encodings (RFC 8949, 4.2.1), whatever order they came in."""
    one = codec.encode_body({"b": 1, "aa": 2, 100: 3, -1: 4, b"": 5})
    other = codec.encode_body({b"": 5, -1: 4, "aa": 2, 100: 3, "b": 1})
    assert one == other == bytes.fromhex("a51864032004400561620162616102")


def test_a_tuple_is_a_list_and_bytearrays_are_bytes() -> None:
    """The obvious stand-ins are taken."""
    assert codec.encode_body((1, 2)) == codec.encode_body([1, 2])
    assert codec.encode_body(bytearray(b"x")) == codec.encode_body(b"x")


def nested(levels: int) -> Any:
    """A list in a list …, so many of them."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, 2**64, -(2**64) - 1, "\ud800", {"a": "\udfff"}, {(1,): 2}, nested(16),
     [1, object()], {object(): 1}, complex(1, 2), range(3), {float("nan"): 1, float("nan"): 2}],
    # Without addresses: every worker of a parallel run has to find the same tests.
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),
)  # fmt: skip
def test_what_no_body_can_be(value: Any) -> None:
    """No CBOR without tags, lone surrogates, bignums, odd or equal keys, too deep: ValueError."""
    with pytest.raises(ValueError, match=r"."):
        codec.encode_body(value)


def test_a_list_that_holds_itself_is_refused() -> None:
    """No endless recursion: too deep."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="deeper"):
        codec.encode_body(value)


def test_a_body_is_at_most_8_kib_encoded() -> None:
    """8192 bytes with the head will do, 8193 will not."""
    assert len(codec.encode_body(b"x" * 8189)) == 8192
    with pytest.raises(ValueError, match="8193 bytes"):
        codec.encode_body(b"x" * 8190)


# --- decoding: what is tolerated -----------------------------------------------------------


def test_keys_in_any_order_are_read() -> None:
    """Unsorted keys are tolerated when reading."""
    data = cbor2.dumps({4: 1, 3: 9, 2: EPOCH, 1: 0, 0: 1})
    assert codec.decode_invite(data) == Invite(InviteState.RINGING, EPOCH, 9, ttl=1)


@pytest.mark.parametrize("key", [11, 23, 24, 255, 2**53, -1, "x", b"x", 1.5, None])
def test_unknown_keys_are_ignored(key: Any) -> None:
    """Of any type, with any value."""
    data = cbor2.dumps({0: 1, 1: 0, 2: EPOCH, 3: 1, 4: 60_000, key: [1, {2: "three"}]})
    assert codec.decode_invite(data) == RINGING


@pytest.mark.parametrize("key", [b"\xf4", b"\xf5", b"\xf9\x3c\x00", b"\xfb\x40\x08" + bytes(6)])
def test_a_key_that_python_takes_for_a_number_is_unknown(key: bytes) -> None:
    """``false``, ``true``, ``1.0`` and ``3.0`` as keys neither replace 0, 1 and 3 nor stand in."""
    data = codec.encode(RINGING)
    assert codec.decode_invite(b"\xa6" + data[1:] + key + b"\x02") == RINGING
    assert codec.decode_invite(b"\xa6" + key + b"\x02" + data[1:]) == RINGING
    assert cause(b"\xa4\xf5\x00" + cell(k1=None, k4=None)[1:]) == codec.MISSING_KEY


def test_an_unknown_reason_is_kept_as_a_number() -> None:
    """It is the reader's business what a reason of a later version is taken for."""
    assert codec.decode_invite(cell(k1=2, k4=None, k7=99)).reason == 99
    data = cbor2.dumps({0: 1, 1: 2, 2: EPOCH, 3: 1, 7: 77})
    assert codec.decode_answer(data).reason == 77


def test_ttl_counts_only_while_ringing() -> None:
    """A ttl in a final invite is dropped with no harm."""
    assert codec.decode_invite(cell(k1=2)).ttl is None


def test_a_body_comes_as_the_bytes_it_had() -> None:
    """Whatever value it is, cut out as it stood."""
    for value in (None, {"a": [1, 2]}, "x" * 300):
        encoded = codec.encode_body(value)
        data = codec.encode(Invite(InviteState.RINGING, EPOCH, 1, ttl=1, content=encoded))
        assert codec.decode_invite(data).content == encoded


def test_ask_false_is_no_ask() -> None:
    """An explicit false is the same as none."""
    assert codec.decode_answer(cbor2.dumps({0: 1, 1: 0, 2: EPOCH, 3: 1, 10: False})).ask is False


# --- decoding: what is refused, by cause ---------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"k0": None}, codec.MISSING_KEY), ({"k1": None}, codec.MISSING_KEY),
        ({"k2": None}, codec.MISSING_KEY), ({"k3": None}, codec.MISSING_KEY),
        ({"k4": None}, codec.MISSING_KEY),
        ({"k0": 2}, codec.UNKNOWN_VERSION), ({"k0": 0}, codec.UNKNOWN_VERSION),
        ({"k0": "1"}, codec.WRONG_TYPE), ({"k0": True}, codec.WRONG_TYPE),
        ({"k0": 1.0}, codec.WRONG_TYPE),
        ({"k1": 3}, codec.WRONG_TYPE), ({"k1": -1}, codec.WRONG_TYPE),
        ({"k1": False}, codec.WRONG_TYPE),
        ({"k2": b"1234567"}, codec.WRONG_TYPE), ({"k2": b"123456789"}, codec.WRONG_TYPE),
        ({"k2": "12345678"}, codec.WRONG_TYPE),
        ({"k3": "1"}, codec.WRONG_TYPE), ({"k3": 2**53}, codec.WRONG_TYPE),
        ({"k3": -1}, codec.WRONG_TYPE),
        ({"k4": 86_400_001}, codec.WRONG_TYPE), ({"k4": 1.5}, codec.WRONG_TYPE),
        ({"k6": "x" * 65}, codec.WRONG_TYPE), ({"k6": "ü" * 33}, codec.WRONG_TYPE),
        ({"k6": b"x"}, codec.WRONG_TYPE),
        ({"k7": "busy"}, codec.WRONG_TYPE), ({"k7": -1}, codec.WRONG_TYPE),
        ({"k8": GROUP[:15]}, codec.WRONG_TYPE), ({"k8": "x" * 16}, codec.WRONG_TYPE),
        ({"k9": -5}, codec.WRONG_TYPE), ({"k9": 2**53}, codec.WRONG_TYPE),
        ({"k9": "now"}, codec.WRONG_TYPE),
        ({"k5": b"x" * 8190}, codec.OVERSIZED),
    ],
)  # fmt: skip
def test_a_field_that_is_missing_or_wrong(changes: dict[str, Any], expected: str) -> None:
    """Each key of the table, missing where required, of a wrong type, beyond its bound."""
    assert cause(cell(**changes)) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", cbor.MALFORMED),
        (b"\xff", cbor.MALFORMED),
        (b"\x1c", cbor.MALFORMED),
        (b"\xa1\x00", cbor.MALFORMED),
        (b"\xa0\x00", cbor.MALFORMED),
        (b"\x58", cbor.MALFORMED),
        (b"\x44abc", cbor.MALFORMED),
        (b"\xbb" + b"\xff" * 8, cbor.MALFORMED),
        (b"\x9b" + b"\xff" * 8, cbor.MALFORMED),
        (b"\xbf\x00\x01\xff", cbor.MALFORMED),
        (b"\x5f\x41a\xff", cbor.MALFORMED),
        (b"\xa1\x00\x18\x01", cbor.MALFORMED),
        (b"\xa1\x18\x00\x01", cbor.MALFORMED),
        (b"\xa1\x00\x1b\x00\x00\x00\x00\x00\x00\x00\x01", cbor.MALFORMED),
        (b"\xa2\x00\x01\x00\x01", cbor.MALFORMED),
        (b"\xa1\x80\x01", cbor.MALFORMED),
        (b"\xa1\xa0\x01", cbor.MALFORMED),
        (b"\xa1\x00\xe0", cbor.MALFORMED),
        (b"\xa1\x00\xf7", cbor.MALFORMED),
        (b"\xa1\x00\xf8\xff", cbor.MALFORMED),
        (b"\xa1\x00\x61\xff", cbor.MALFORMED),
        (b"\xa1\x00\xc0\x61a", cbor.TAGGED),
        (b"\xd9\xd9\xf7\xa0", cbor.TAGGED),
        (b"\xa1\x05\xc2\x41\x01", cbor.TAGGED),
        (b"\x80", codec.WRONG_TYPE),
        (b"\x01", codec.WRONG_TYPE),
        (b"\x61a", codec.WRONG_TYPE),
        (b"\xf6", codec.WRONG_TYPE),
        (b"\xfb" + bytes(8), codec.WRONG_TYPE),
        (b"\xa0", codec.MISSING_KEY),
    ],
    ids=lambda v: v.hex() or "empty" if isinstance(v, bytes) else v,
)  # fmt: skip
def test_bytes_that_are_no_cell(data: bytes, expected: str) -> None:
    """Cut off, left over, indefinite, longer than needed, twice, tagged, no map: one cause each."""
    assert cause(data) == expected


def test_the_deepest_body_that_can_be_written_can_be_read() -> None:
    """What a caller may send, a callee does not drop as too deep."""
    body = codec.encode_body(nested(15))
    invite = Invite(InviteState.RINGING, b"epoch-me", 1, 60_000, body)
    assert codec.decode_invite(codec.encode(invite)).content == body


def test_depth_is_counted_with_the_cell_itself() -> None:
    """16 levels are read, 17 are not, and 20 KiB of openings neither recurse nor take long."""
    good = cell(k5=nested(15))
    assert codec.decode_invite(good).content == cbor2.dumps(nested(15))
    assert cause(cell(k5=nested(16))) == cbor.TOO_DEEP
    assert cause(b"\x81" * 20_480) == cbor.TOO_DEEP


def test_a_cell_is_at_most_20_kib() -> None:
    """20480 bytes are looked at, 20481 are not."""
    filler = cell(k11=b"")
    padding = codec.MAX_CELL - len(filler) - 2
    assert len(cell(k11=b"x" * padding)) == codec.MAX_CELL
    assert codec.decode_invite(cell(k11=b"x" * padding)) == RINGING
    assert cause(cell(k11=b"x" * (padding + 1))) == codec.OVERSIZED


def test_an_answers_own_fields() -> None:
    """State above 4, ask that is no boolean, a response over 8 KiB."""
    base = {0: 1, 1: 0, 2: EPOCH, 3: 1}
    for change, expected in (({1: 5}, codec.WRONG_TYPE), ({10: 1}, codec.WRONG_TYPE),
                             ({5: b"x" * 8190}, codec.OVERSIZED)):  # fmt: skip
        with pytest.raises(DecodeError) as caught:
            codec.decode_answer(cbor2.dumps(base | change))
        assert caught.value.cause == expected


def test_a_presences_own_fields() -> None:
    """State above 1 is none; seq is not wanted."""
    assert codec.decode_presence(cbor2.dumps({0: 1, 1: 1, 2: EPOCH})) == Presence(True, EPOCH)
    with pytest.raises(DecodeError) as caught:
        codec.decode_presence(cbor2.dumps({0: 1, 1: 2, 2: EPOCH}))
    assert caught.value.cause == codec.WRONG_TYPE


def test_every_cut_of_a_cell_is_refused() -> None:
    """No prefix of a cell is a cell, and nothing but DecodeError is raised."""
    data = codec.encode(
        Invite(InviteState.RINGING, EPOCH, 1, ttl=5, content=codec.encode_body({"a": [1, "b"]}))
    )
    assert {cause(data[:length]) for length in range(len(data))} == {cbor.MALFORMED}


def test_every_changed_byte_is_a_cell_or_one_error() -> None:
    """Each byte of a cell set to each value: nothing but a cell or DecodeError comes out."""
    data = codec.encode(Invite(InviteState.RINGING, EPOCH, 1, ttl=5, content=b"\x82\x01\x61a"))
    read = refused = 0
    for at in range(len(data)):
        for value in range(0, 256, 3):
            try:
                codec.decode_invite(data[:at] + bytes((value,)) + data[at + 1 :])
                read += 1
            except DecodeError:
                refused += 1
    assert read > 500
    assert refused > 500


@pytest.mark.parametrize(
    "data",
    [b"\x9a\x00\x00\x4f\x00" + b"\x80" * 20_224, b"\xb9\x27\x00" + b"".join(
        b"\x19" + i.to_bytes(2, "big") + b"\x80" for i in range(256, 256 + 4990))],
    ids=["empty arrays", "many keys"],
)  # fmt: skip
def test_the_work_is_bounded_by_the_length(data: bytes) -> None:
    """20 KiB of the smallest items are looked at within a fraction of a second."""
    began = time.process_time()
    cause(data)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("key", [b"\x61\xff", b"\x62\xc3\x28"])
def test_an_unknown_key_is_utf8_too(key: bytes) -> None:
    """A text is UTF-8 wherever it stands: the cell is malformed."""
    good = codec.encode(Invite(InviteState.ENDED, b"e" * 8, 1))
    bad = bytes([good[0] + 1]) + good[1:] + key + b"\x00"
    with pytest.raises(DecodeError, match="not CBOR"):
        codec.decode_invite(bad)
