"""Faults of the engine that exploring (tests/model) or simulating (tests/soak) found."""

from __future__ import annotations

from device_sdk.core.effects import (
    Connected,
    DeadlineReached,
    Emit,
    MessageReceived,
    Publish,
    PublishAcked,
    Refuse,
    Send,
)
from device_sdk.core.engine import Engine
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    Invite,
    InviteState,
    Presence,
)

MINE, THEIRS, FORMER = b"m" * 8, b"t" * 8, b"f" * 8
CALL_ID = topics.call_id_from_bytes(bytes(16))
INVITE = topics.cell("sig", "invite", "kitchen", "door", CALL_ID)
ANSWER = topics.cell("sig", "answer", "door", "kitchen", CALL_ID)


def online(engine: Engine) -> MessageReceived:
    """The echo of an engine's own presence, after which it is settled."""
    payload = codec.encode(Presence(True, MINE))
    return MessageReceived(topics.presence("sig", engine.peer_id), payload)


def settled(peer: str) -> Engine:
    """An engine that is connected and has subscribed its inbox."""
    engine = Engine(peer, MINE)
    engine.handle(Connected(), 0.0)
    engine.handle(online(engine), 0.0)
    engine.effects()
    return engine


def invite(state: InviteState, **more: object) -> MessageReceived:
    """The caller's cell, live."""
    cell = Invite(state=state, epoch=THEIRS, seq=1, **more)  # type: ignore[arg-type]
    return MessageReceived(INVITE, codec.encode(cell))


def answer(state: AnswerState, epoch: bytes = THEIRS, **more: object) -> bytes:
    """A callee's cell."""
    return codec.encode(Answer(state=state, epoch=epoch, seq=1, **more))  # type: ignore[arg-type]


def publishes(engine: Engine) -> list[Publish]:
    """What the engine published since the last time."""
    return [e for e in engine.effects() if isinstance(e, Publish)]


def ack_all(engine: Engine, now: float) -> None:
    """The broker acknowledges whatever is awaited."""
    for effect in publishes(engine):
        if effect.token is not None:
            engine.handle(PublishAcked(effect.token), now)


def test_a_former_answer_found_after_settling_is_taken_over() -> None:
    """When settling ends by its timeout, what the broker sends later is still cleared one day."""
    engine = Engine("kitchen", MINE)
    engine.handle(Connected(), 0.0)
    engine.handle(DeadlineReached(), engine.deadline() or 0.0)
    engine.effects()
    former = answer(AnswerState.REFUSED, FORMER, reason=AnswerReason.DECLINED)
    engine.handle(MessageReceived(ANSWER, former, retained=True), 3.0)
    assert publishes(engine) == []
    engine.handle(DeadlineReached(), 4.0)
    assert [e.topic for e in publishes(engine)] == [ANSWER]
    engine.handle(MessageReceived(INVITE, b""), 4.0)
    assert [e.payload for e in publishes(engine)] == [b""]


def test_a_late_copy_of_an_answer_does_not_end_a_finished_call_again() -> None:
    """A call that was cleared gets no second final cell: the late copy is answered by a clear."""
    engine = settled("door")
    engine.handle(Send(CALL_ID, "kitchen"), 1.0)
    engine.handle(MessageReceived(ANSWER, answer(AnswerState.RECEIVED)), 2.0)
    refused = answer(AnswerState.REFUSED, reason=AnswerReason.DECLINED)
    engine.handle(MessageReceived(ANSWER, refused), 3.0)
    ack_all(engine, 3.0)
    engine.handle(MessageReceived(ANSWER, answer(AnswerState.RECEIVED)), 4.0)
    assert [e.payload for e in publishes(engine)] == [b""]


def test_a_call_forgotten_for_long_is_ended_when_a_callee_rings_for_it() -> None:
    """After ``dedup_window`` the call is unknown again; whoever rings for it is told the end."""
    engine = settled("door")
    engine.handle(Send(CALL_ID, "kitchen"), 1.0)
    refused = answer(AnswerState.REFUSED, reason=AnswerReason.DECLINED)
    engine.handle(MessageReceived(ANSWER, refused), 3.0)
    ack_all(engine, 3.0)
    engine.handle(MessageReceived(ANSWER, answer(AnswerState.RECEIVED)), 10_000.0)
    [said] = publishes(engine)
    assert codec.decode_invite(said.payload).state is InviteState.ENDED


def test_a_late_copy_of_a_former_answer_does_not_bring_back_a_finished_call() -> None:
    """Found once, finished and remembered: the same cell, come twice, starts nothing."""
    engine = Engine("kitchen", MINE)
    engine.handle(Connected(), 0.0)
    former = MessageReceived(ANSWER, answer(AnswerState.RECEIVED, FORMER), retained=True)
    engine.handle(former, 0.0)
    engine.handle(online(engine), 0.0)
    engine.handle(invite(InviteState.RINGING, ttl=60_000, asker=MINE), 1.0)
    engine.handle(Refuse("door", CALL_ID), 2.0)
    engine.effects()
    engine.handle(MessageReceived(INVITE, b""), 3.0)
    ack_all(engine, 3.0)
    engine.handle(former, 4.0)
    assert not engine.callee.calls
    assert not publishes(engine)


def test_what_a_former_life_accepted_does_not_ring_again() -> None:
    """The caller may have decided accepted on it: refusing it now would split the call."""
    engine = Engine("kitchen", MINE)
    engine.handle(Connected(), 0.0)
    former = answer(AnswerState.ACCEPTED, FORMER)
    engine.handle(MessageReceived(ANSWER, former, retained=True), 0.0)
    engine.handle(online(engine), 0.0)
    engine.handle(invite(InviteState.RINGING, ttl=60_000), 1.0)
    effects = engine.effects()
    assert not [e for e in effects if isinstance(e, Emit)]
    cells = [codec.decode_answer(e.payload) for e in effects
             if isinstance(e, Publish) and e.topic == ANSWER]  # fmt: skip
    assert cells
    assert {cell.state for cell in cells} == {AnswerState.FAILED}
    assert {cell.reason for cell in cells} == {AnswerReason.ACCEPT_FAILURE}


def test_a_slow_broker_is_no_newer_login() -> None:
    """What is retained may come after settling gave up waiting: it is still of a previous login."""
    engine = Engine("door", MINE)
    engine.handle(Connected(), 0.0)
    engine.handle(DeadlineReached(), 2.0)
    topic = topics.presence("sig", "door")
    former = codec.encode(Presence(True, FORMER))
    engine.handle(MessageReceived(topic, former, retained=True), 3.0)
    assert not engine.closed
    engine.handle(online(engine), 3.0)
    engine.handle(MessageReceived(topic, former), 4.0)
    assert not engine.closed
    theirs = Presence(True, THEIRS, generation=2)
    engine.handle(MessageReceived(topic, codec.encode(theirs)), 5.0)
    assert engine.closed


def test_a_late_will_does_not_end_a_ring_early() -> None:
    """A caller that is back is asked how long it still rings; its deadline had shrunk."""
    engine = settled("kitchen")
    engine.handle(invite(InviteState.RINGING, ttl=60_000), 0.0)
    topic = topics.presence("sig", "door")
    engine.handle(MessageReceived(topic, codec.encode(Presence(True, THEIRS)), True), 0.0)
    for online_now in (False, True):
        payload = codec.encode(Presence(online_now, THEIRS))
        engine.effects()
        engine.handle(MessageReceived(topic, payload), 1.0)
    asked = [codec.decode_answer(p.payload) for p in publishes(engine) if p.topic == ANSWER]
    assert [cell.ask for cell in asked] == [True]
    engine.handle(invite(InviteState.RINGING, ttl=59_000), 1.0)
    engine.handle(DeadlineReached(), 30.0)
    assert [call.phase.name for call in engine.callee.calls.values()] == ["RINGING"]
