"""Codec and topics: what goes out comes back, and any bytes give a cell or one error."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sdk.core.wire import cbor, codec, fast_path, keys, topics
from device_sdk.core.wire.cells import (
    Answer,
    AnswerState,
    Cell,
    Invite,
    InviteState,
    Presence,
    Said,
)
from device_sdk.core.wire.talk_cells import encode_message
from device_sdk.errors import DecodeError, InvalidArgument

uints = st.integers(0, 2**53 - 1)
epochs = st.binary(min_size=8, max_size=8)
bodies: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=5) | st.integers(-300, 300) | st.binary(max_size=3), inner
        )
    ),
    max_leaves=12,
)
channels = st.none() | st.text(max_size=16)
encoded = st.none() | bodies.map(codec.encode_body)


def build(kind: type, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a cell with just these fields set."""
    return st.fixed_dictionaries(parts).map(lambda fields: kind(**fields))


invites = build(
    Invite, state=st.just(InviteState.RINGING), epoch=epochs, seq=uints,
    ttl=st.integers(0, keys.MAX_TTL), content=encoded, channel=channels,
    group=st.none() | st.binary(min_size=16, max_size=16), time=st.none() | uints,
    asker=st.none() | epochs,
) | build(
    Invite, state=st.sampled_from((InviteState.ACCEPTED, InviteState.ENDED)), epoch=epochs,
    seq=uints, content=encoded, channel=channels, reason=st.none() | uints,
)  # fmt: skip
answers = build(
    Answer, state=st.sampled_from([s for s in AnswerState if s < AnswerState.TALKING]),
    epoch=epochs, seq=uints, response=encoded, reason=st.none() | uints, ask=st.booleans(),
)  # fmt: skip
#: Of calls that go on, or may: messages short and long, some of them no text.
said = st.builds(
    lambda gone, got, messages: Said(gone + len(messages), got, tuple(messages)),
    st.integers(0, 30) | st.integers(0, 2**17),
    st.none() | st.integers(0, 2**17),
    st.lists(bodies.map(encode_message), max_size=3),
)
talks = build(
    Invite, state=st.sampled_from((InviteState.ACCEPTED, InviteState.OVER)), epoch=epochs,
    seq=uints, talk=said,
) | build(
    Answer, state=st.sampled_from((AnswerState.TALKING, AnswerState.OVER)), epoch=epochs,
    seq=uints, talk=said,
) | build(
    Invite, state=st.just(InviteState.RINGING), epoch=epochs, seq=uints, ttl=st.integers(0, 70_000),
    content=encoded, time=st.none() | uints, talk=st.just(Said()),
) | build(
    Answer, state=st.just(AnswerState.ACCEPTED), epoch=epochs, seq=uints, response=encoded,
    talk=st.just(Said()),
)  # fmt: skip
presences = st.builds(
    Presence, st.booleans(), epochs, st.none() | uints, st.booleans(), uints, uints
)
DECODERS: dict[type, Callable[[bytes], Cell]] = {
    Invite: codec.decode_invite,
    Answer: codec.decode_answer,
    Presence: codec.decode_presence,
}
peer_ids = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=64).filter(
    lambda peer: len(topics._escape(peer)) <= topics.MAX_ESCAPED
)
call_ids = st.binary(min_size=16, max_size=16).map(topics.call_id_from_bytes)


@given(invites | answers | talks | presences)
def test_a_cell_comes_back(cell: Cell) -> None:
    """Decoding what was encoded gives the cell, and encoding that the same bytes."""
    data = codec.encode(cell)
    again = DECODERS[type(cell)](data)
    assert again == cell
    assert codec.encode(again) == data


@given(bodies)
def test_a_body_comes_back(value: Any) -> None:
    """Any value without tags; and whoever reads it finds nothing that the protocol has not."""
    data = codec.encode_body(value)
    assert cbor.scan(data, 0, cbor.MAX_DEPTH - 1) == len(data)
    assert codec.decode_body(data) == value


@settings(max_examples=500)
@given(st.binary(max_size=300), st.sampled_from(sorted(DECODERS.values(), key=repr)))
def test_any_bytes_are_a_cell_or_one_error(data: bytes, decode: Callable[[bytes], Cell]) -> None:
    """Nothing but DecodeError, and what decodes is what would be encoded of it, or nearly."""
    with contextlib.suppress(DecodeError):
        assert decode(data).epoch


@settings(max_examples=1000)
@given(
    (invites | answers | talks | presences).map(lambda cell: cell._replace(seq=cell.seq % 300)
                                        if hasattr(cell, "seq") else cell).map(codec.encode),
    st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=2), st.booleans()), max_size=3),
)  # fmt: skip
def test_a_common_cell_is_read_as_any_other(
    data: bytes, edits: list[tuple[int, bytes, bool]]
) -> None:
    """One look at a common cell gives what item by item gives, value or error."""
    for at, new, over in edits:
        data = data[:at] + new + data[at + len(new) * over :]

    def read(decode: Callable[[bytes], Cell]) -> object:
        try:
            return decode(data)
        except DecodeError as error:
            return error.cause, str(error)

    for decode in DECODERS.values():
        at_once = read(decode)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fast_path, "_INVITE", re.compile(b"(?!)"))
            patch.setattr(fast_path, "_ANSWER", re.compile(b"(?!)"))
            assert read(decode) == at_once


@settings(max_examples=500)
@given(
    invites | answers | talks | presences,
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=3),
    st.integers(0, 400),
)
def test_a_damaged_cell_is_a_cell_or_one_error(
    cell: Cell, damage: list[tuple[int, int]], length: int
) -> None:
    """Flipped and cut bytes reach further into the decoder than random ones do."""
    data = bytearray(codec.encode(cell))
    for at, value in damage:
        data[at % len(data)] = value
    for decode in DECODERS.values():
        for candidate in (bytes(data), bytes(data[:length])):
            with contextlib.suppress(DecodeError):
                decode(candidate)


@pytest.mark.parametrize("head", [b"\x81", b"\xa1\x00", b"\xc1", b"\x9f", b"\xd8\x20"])
@pytest.mark.parametrize("decode", DECODERS.values())
def test_hostile_bytes_cost_no_more_than_their_length(
    head: bytes, decode: Callable[[bytes], Cell]
) -> None:
    """The deepest nesting that fits a cell is refused, in far less than a second of CPU."""
    data = (head * (codec.MAX_CELL // len(head)))[: codec.MAX_CELL]
    began = time.process_time()
    with pytest.raises(DecodeError):
        decode(data)
    assert time.process_time() - began < 1.0


@given(peer_ids)
def test_a_peer_id_comes_back(peer: str) -> None:
    """Escaping is reversible, and its result one plain topic level."""
    level = topics.escape(peer)
    assert topics.unescape(level) == peer
    assert not set(level) & set("/+#. ")


@given(st.text(max_size=30))
def test_any_level_is_the_one_spelling_of_a_peer_or_none(level: str) -> None:
    """No two levels spell the same peer."""
    peer = topics.unescape(level)
    if peer is not None:
        assert topics.escape(peer) == level


@given(peer_ids, peer_ids, call_ids, st.sampled_from(("invite", "answer")))
def test_a_topic_comes_back(owner: str, writer: str, call_id: str, kind: topics.Kind) -> None:
    """Parsing gives what the topic was built of."""
    topic = topics.cell("sig", kind, owner, writer, call_id)
    assert topics.parse("sig", topic) == topics.CallTopic(kind, owner, writer, call_id)
    assert topics.parse("sig", topics.presence("sig", owner)) == topics.PresenceTopic(owner)
    assert topics.parse("other", topic) is None


@given(st.lists(st.text(max_size=8) | st.sampled_from(("sig", "v1", "a", "invite")), max_size=8))
def test_any_topic_parses_or_is_none(levels: list[str]) -> None:
    """No topic raises, and what parses is spelled in one way."""
    topic = "/".join(levels)
    match topics.parse("sig", topic):
        case topics.CallTopic(kind, owner, writer, call_id):
            assert topics.cell("sig", kind, owner, writer, call_id) == topic
        case topics.PresenceTopic(peer):
            assert topics.presence("sig", peer) == topic


@given(st.text(max_size=70))
def test_a_peer_id_is_valid_or_an_invalid_argument(peer: str) -> None:
    """One error, which names the argument."""
    try:
        assert topics.check_peer_id(peer) == peer
    except InvalidArgument as error:
        assert error.argument == "peer_id"  # noqa: PT017 - the other branch is legal too
