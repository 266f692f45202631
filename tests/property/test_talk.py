"""Calls that go on, against anything: cells come back whole, and no cell harms a call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from device_sdk.core.effects import MessageReceived
from device_sdk.core.settings import Settings
from device_sdk.core.wire import codec, keys, topics
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Said
from device_sdk.core.wire.talk_cells import MAX_MESSAGES, encode_message
from device_sdk.testing import Network

uints = st.integers(0, keys.MAX_UINT)
epochs = st.binary(min_size=8, max_size=8)
messages = st.lists(
    st.builds(
        encode_message,
        st.integers(-(2**64), 2**64 - 1) | st.text(max_size=20) | st.lists(st.booleans()),
    ),
    max_size=MAX_MESSAGES,
).map(tuple)


@st.composite
def said(draw: st.DrawFn, most: int = keys.MAX_UINT) -> Said:
    """What a cell may say of a talk."""
    body = draw(messages)
    count = draw(st.integers(len(body), max(len(body), most)))
    return Said(count, draw(st.none() | st.integers(0, most)), body)


@given(
    said(), epochs, uints, st.none() | uints,
    st.sampled_from([InviteState.ACCEPTED, InviteState.OVER,
                     AnswerState.TALKING, AnswerState.OVER]),
)  # fmt: skip
def test_a_cell_of_a_talk_comes_back(
    talk: Said, epoch: bytes, seq: int, reason: int | None, state: InviteState | AnswerState
) -> None:
    """Decoding what was encoded gives the cell, and encoding that the same bytes."""
    cell: Invite | Answer
    if isinstance(state, InviteState):
        cell = Invite(state, epoch, seq, reason=reason, talk=talk)
        again: Invite | Answer = codec.decode_invite(codec.encode(cell))
    else:
        cell = Answer(state, epoch, seq, reason=reason, talk=talk)
        again = codec.decode_answer(codec.encode(cell))
    assert again == cell
    assert codec.encode(again) == codec.encode(cell)


@given(st.data())
def test_whatever_the_other_says_nothing_raises_and_a_call_ends_once(data: st.DataObject) -> None:
    """Cells of any state, number and message, of this login or another, in any order."""
    net = Network()
    one = net.peer("door", talk=True, settings=Settings(talk_limit=100))
    other = net.peer("kitchen", talk=True, settings=Settings(talk_limit=100))
    net.run()
    call = one.send("kitchen")
    net.run()
    other.accept("door", call)
    net.run()
    victim, writer = (one, other) if data.draw(st.booleans()) else (other, one)
    kind: topics.Kind = "answer" if victim is one else "invite"
    topic = topics.cell("sig", kind, victim.name, writer.name, call)
    mine = writer.engine._context.epoch
    for _ in range(data.draw(st.integers(1, 6))):
        states: tuple[InviteState | AnswerState, ...] = tuple(
            AnswerState if victim is one else InviteState
        )
        state, epoch = (
            data.draw(st.sampled_from(states)),
            data.draw(st.sampled_from([mine, b"another!"])),
        )
        talk = data.draw(said(most=70))
        cell = (
            Answer(state, epoch, 1, talk=talk)
            if isinstance(state, AnswerState)
            else Invite(state, epoch, 1, ttl=9_000 if state == 0 else None, talk=talk)
        )
        retained = data.draw(st.booleans())
        victim.feed(MessageReceived(topic, codec.encode(cell), retained))
        net.advance(data.draw(st.sampled_from([0, 1, 40])))
    victim.feed(MessageReceived(topic, b""))
    net.advance(200)
    names = [str(e.name) for e in victim.events if e.name.startswith("call_")]
    assert names[0] == "call_started"
    assert names.count("call_started") == names.count("call_ended") == 1
    assert names[-1] == "call_ended"
