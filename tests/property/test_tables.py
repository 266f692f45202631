"""Every state times every input of both tables: what is illegal changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sdk.core import callee, caller
from device_sdk.core.callee import CalleeCall
from device_sdk.core.caller import CallerCall
from device_sdk.core.effects import (
    Accept,
    Cancel,
    Connected,
    Dropped,
    Emit,
    MessageReceived,
    Publish,
    Refuse,
    Send,
)
from device_sdk.core.engine import OUT_OF_PLACE, Engine
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    EndedReason,
    Invite,
    InviteState,
    Presence,
)
from device_sdk.errors import InvitationApiCallError

ME, PEER, EPOCH = "me", "peer", b"m" * 8
CALL_ID = topics.call_id_from_bytes(bytes(16))
INVITE = topics.cell("sig", "invite", ME, PEER, CALL_ID)
ANSWER = topics.cell("sig", "answer", ME, PEER, CALL_ID)


def build(kind: type, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a cell with just these fields set."""
    return st.fixed_dictionaries(parts).map(lambda fields: kind(**fields))


local_phases = st.sampled_from([p for p in caller.Phase if p is not caller.Phase.GONE])
remote_phases = st.sampled_from(
    [p for p in callee.Phase if p not in (callee.Phase.GONE, callee.Phase.NEW)]
)
answers = build(
    Answer,
    state=st.sampled_from([s for s in AnswerState if s < AnswerState.TALKING]),
    epoch=st.binary(min_size=8, max_size=8),
    seq=st.integers(0, 2**53 - 1),
    reason=st.none() | st.integers(0, 9),
    ask=st.booleans(),
)
invites = build(
    Invite,
    state=st.just(InviteState.RINGING),
    epoch=st.binary(min_size=8, max_size=8),
    seq=st.integers(0, 2**53 - 1),
    ttl=st.integers(0, 60_000),
    asker=st.sampled_from((None, EPOCH, b"former00")),
) | build(
    Invite,
    state=st.sampled_from((InviteState.ACCEPTED, InviteState.ENDED)),
    epoch=st.binary(min_size=8, max_size=8),
    seq=st.integers(0, 2**53 - 1),
    reason=st.none() | st.integers(0, 9),
)


def connected() -> Engine:
    """An engine whose first connection has settled."""
    engine = Engine(ME, EPOCH)
    engine.handle(Connected(), 0.0)
    own = topics.presence("sig", ME)
    engine.handle(MessageReceived(own, codec.encode(Presence(True, EPOCH))), 0.0)
    engine.effects()
    return engine


def calling(phase: caller.Phase) -> Engine:
    """An engine with one call made, put into ``phase``."""
    engine = connected()
    engine.handle(Send(CALL_ID, PEER), 0.0)
    engine.effects()
    key = (PEER, CALL_ID)
    engine.caller.calls[key] = engine.caller.calls[key]._replace(phase=phase)
    return engine


def called(phase: callee.Phase) -> Engine:
    """An engine with one call received, put into ``phase``."""
    engine = connected()
    ringing = Invite(InviteState.RINGING, b"c" * 8, 1, ttl=60_000)
    engine.handle(MessageReceived(INVITE, codec.encode(ringing)), 0.0)
    engine.effects()
    call = engine.callee.calls.pop((PEER, CALL_ID))._replace(phase=phase)
    engine.callee._due.clear()  # what was due of it in the phase it came by
    where = engine.callee.remembered if phase is callee.Phase.REMEMBERED else engine.callee.calls
    where[call.key] = call
    return engine


def shape(engine: Engine) -> tuple[object, ...]:
    """All calls that an engine has."""
    side = engine.callee
    return dict(engine.caller.calls), dict(side.calls), dict(side.remembered)


@pytest.mark.parametrize("on", caller.On)
@pytest.mark.parametrize("phase", caller.Phase)
def test_the_callers_table_decides_each_entry(phase: caller.Phase, on: caller.On) -> None:
    """An entry gives a record in the phase it names; no entry is a KeyError and nothing else."""
    call = CallerCall("id", PEER, phase=phase)
    entry = caller.TABLE.get(phase, {}).get(on)
    if entry is None:
        with pytest.raises(KeyError):
            caller.step(call, on)
    else:
        after, todo = caller.step(call, on)
        assert (after.phase, todo) == entry
        assert after.call_id == call.call_id


@pytest.mark.parametrize("on", callee.On)
@pytest.mark.parametrize("phase", callee.Phase)
def test_the_callees_table_decides_each_entry(phase: callee.Phase, on: callee.On) -> None:
    """As for the caller."""
    call = CalleeCall("id", PEER, phase=phase)
    entry = callee.TABLE.get(phase, {}).get(on)
    if entry is None:
        with pytest.raises(KeyError):
            callee.step(call, on)
    else:
        after, todo = callee.step(call, on)
        assert (after.phase, todo) == entry


@given(phase=local_phases, answer=answers)
def test_any_answer_in_any_phase(phase: caller.Phase, answer: Answer) -> None:
    """The wire never raises; an answer without an entry is a counted drop that changes nothing."""
    engine = calling(phase)
    before = shape(engine)
    engine.handle(MessageReceived(ANSWER, codec.encode(answer)), 1.0)
    effects = engine.effects()
    legal = caller.ANSWERS[answer.state] in caller.TABLE[phase]
    assert engine.stats.drops[OUT_OF_PLACE] == (0 if legal else 1)
    if not legal:
        assert shape(engine) == before
        assert all(isinstance(e, Dropped) for e in effects)


@given(phase=remote_phases, invite=invites | st.none(), retained=st.booleans())
def test_any_invite_in_any_phase(
    phase: callee.Phase, invite: Invite | None, retained: bool
) -> None:
    """The wire never raises, and rings nobody whose call is known already."""
    engine = called(phase)
    payload = b"" if invite is None else codec.encode(invite)
    engine.handle(MessageReceived(INVITE, payload, retained), 1.0)
    told = [e.event.name for e in engine.effects() if isinstance(e, Emit)]
    rings = "remote_invitation_received" in told
    live = invite is not None and invite.ttl and invite.asker == EPOCH and not retained
    assert rings == (phase is callee.Phase.PROBING and bool(live))
    assert engine.stats.drops[OUT_OF_PLACE] == 0


@given(phase=local_phases)
def test_cancel_in_any_phase(phase: caller.Phase) -> None:
    """Legal while undecided; else an error that changes nothing."""
    engine = calling(phase)
    before = shape(engine)
    if phase in caller.UNDECIDED:
        engine.handle(Cancel(PEER, CALL_ID), 1.0)
        assert engine.caller.calls[PEER, CALL_ID].phase is caller.Phase.ENDED
        [cell] = [e.payload for e in engine.effects() if isinstance(e, Publish)]
        assert codec.decode_invite(cell).reason == EndedReason.CANCELED
    else:
        with pytest.raises(InvitationApiCallError):
            engine.handle(Cancel(PEER, CALL_ID), 1.0)
        assert shape(engine) == before
        assert engine.effects() == []


@given(
    phase=remote_phases,
    command=st.sampled_from(
        (
            Accept(PEER, CALL_ID),
            Refuse(PEER, CALL_ID),
            Refuse(PEER, CALL_ID, None, AnswerReason.BUSY),
        )
    ),
)
def test_accept_and_refuse_in_any_phase(phase: callee.Phase, command: Accept | Refuse) -> None:
    """Legal while it rings; else an error that changes nothing."""
    engine = called(phase)
    before = shape(engine)
    if phase is callee.Phase.RINGING:
        engine.handle(command, 1.0)
        assert shape(engine) != before
    else:
        with pytest.raises(InvitationApiCallError):
            engine.handle(command, 1.0)
        assert shape(engine) == before
        assert engine.effects() == []


@settings(max_examples=300)
@given(
    topic=st.sampled_from(
        (INVITE, ANSWER, topics.presence("sig", ME), topics.presence("sig", PEER))
    )
    | st.text(max_size=40),
    payload=st.binary(max_size=60),
    retained=st.booleans(),
)
def test_anything_from_the_wire(topic: str, payload: bytes, retained: bool) -> None:
    """Any topic with any bytes: never an exception, and noise changes no call."""
    engine = calling(caller.Phase.SENT)
    before = shape(engine)
    drops = engine.stats.drops.total()
    engine.handle(MessageReceived(topic, payload, retained), 1.0)
    if engine.stats.drops.total() > drops:
        assert shape(engine) == before
