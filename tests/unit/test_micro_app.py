"""What an app says to the microcontroller's peer, wrong or from within a listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from device_sdk.core.wire import codec
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Said
from tests.unit.test_micro_large import ANSWER, CALL, EPOCH, INVITE, Micro

#: The peer's own cells of the two calls.
RINGING, SAYING = f"sig/v1/kitchen/invite/me/{CALL}", f"sig/v1/kitchen/answer/me/{CALL}"


@pytest.fixture
def micro() -> Micro:
    return Micro()


def on(micro: Micro, event: str, act: Callable[[Any], object]) -> None:
    """Have the app do something as it is told ``event``."""
    told = micro.player.event

    def listener(name: str, call: Any, value: Any) -> None:
        told(name, call, value)
        if name == event:
            act(call)

    micro.player.peer.on_event = listener


def rings(micro: Micro) -> Any:
    """A call that rings here."""
    invite = Invite(
        InviteState.RINGING, EPOCH, 1, ttl=9000, asker=micro.player.peer.epoch, talk=Said()
    )
    micro.hears(INVITE, codec.encode(invite))
    micro.says()
    return micro.player.call({"peer": "kitchen", "call_id": CALL})


def calls(micro: Micro) -> Any:
    """A call that rings there, for all that is known."""
    micro.player.do({"send": {"callee": "kitchen", "call_id": CALL}})
    micro.says()
    return micro.player.call({"peer": "kitchen", "call_id": CALL})


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "arguments",
    [
        ("me",), ("",), ("kitchen", object()), ("kitchen", "x" * 600), ("kitchen", nested(16)),
        ("kitchen", None, 0), ("kitchen", None, -1), ("kitchen", None, 86_400_001),
    ],
)  # fmt: skip
def test_a_call_that_no_peer_would_take_is_none(micro: Micro, arguments: tuple[Any, ...]) -> None:
    """It would be said, dropped by all who read it, and end as one that nobody answered."""
    with pytest.raises(ValueError, match=r".*"):
        micro.player.peer.call(*arguments)
    assert not micro.player.peer.calls
    assert not micro.says()


def test_a_time_to_ring_may_be_a_float(micro: Micro) -> None:
    """In a cell it would be a wrong type, and every panel would drop the ring."""
    micro.player.peer.call("kitchen", None, 1500.5)
    (said,) = micro.says().values()
    assert codec.decode_invite(said).ttl == 1500


@pytest.mark.parametrize("message", [object(), "x" * 8188, nested(15)])
def test_a_message_that_cannot_be_sent_is_not_underway(micro: Micro, message: object) -> None:
    """It stood in the way of all others, and in each repetition of the cell."""
    call = calls(micro)
    micro.hears(ANSWER, codec.encode(Answer(AnswerState.ACCEPTED, EPOCH, 1, talk=Said())))
    micro.says()
    with pytest.raises(ValueError, match=r".*"):
        micro.player.peer.send(call, message)
    assert not micro.says()
    assert micro.player.peer.send(call, nested(14))
    assert len(codec.decode_invite(micro.says()[RINGING]).talk.messages) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("reason", [0, 4, 255])
def test_a_refusal_has_a_reason_of_its_own(micro: Micro, reason: int) -> None:
    call = rings(micro)
    with pytest.raises(ValueError, match="reason"):
        micro.player.peer.refuse(call, reason)
    assert call.ringing
    micro.player.peer.refuse(call, 2)
    assert codec.decode_answer(micro.says()[SAYING]).state is AnswerState.REFUSED


def test_a_response_that_cannot_be_sent_leaves_it_ringing(micro: Micro) -> None:
    call = rings(micro)
    with pytest.raises(ValueError, match="too large"):
        micro.player.peer.accept(call, "x" * 8190)
    assert call.ringing


def test_a_caller_that_cancels_as_it_hears_of_the_callee_has_not_accepted(micro: Micro) -> None:
    """The callee's first word may be that it accepts: two final invites were said of one call."""
    call = calls(micro)
    on(micro, "received", micro.player.peer.cancel)
    micro.hears(ANSWER, codec.encode(Answer(AnswerState.ACCEPTED, EPOCH, 1)))
    said = codec.decode_invite(micro.says()[RINGING])
    assert said.state is InviteState.ENDED
    assert (call.state, micro.told[-2:]) == (2, ["received", "canceled"])


def test_a_callee_speaks_as_it_hears_that_the_call_goes_on(micro: Micro) -> None:
    """As its caller can; what it said there was lost."""
    call = rings(micro)
    micro.player.peer.accept(call, talk=True)
    on(micro, "accepted", lambda call: micro.player.peer.send(call, "come in"))
    micro.hears(INVITE, codec.encode(Invite(InviteState.ACCEPTED, EPOCH, 2, talk=Said())))
    said = codec.decode_answer(micro.says()[SAYING])
    assert (said.state, len(said.talk.messages)) == (AnswerState.TALKING, 1)  # type: ignore[union-attr]


def test_a_callee_hangs_up_as_it_hears_that_the_call_goes_on(micro: Micro) -> None:
    call = rings(micro)
    micro.player.peer.accept(call, talk=True)
    on(micro, "accepted", micro.player.peer.hang_up)
    micro.hears(INVITE, codec.encode(Invite(InviteState.ACCEPTED, EPOCH, 2, talk=Said())))
    assert codec.decode_answer(micro.says()[SAYING]).state is AnswerState.OVER
    assert micro.told[-2:] == ["accepted", "over"]


def test_a_callee_that_logs_out_as_it_is_accepted_says_one_end(micro: Micro) -> None:
    """It said that the accept had failed, and then that it knew of its success."""
    call = rings(micro)
    micro.player.peer.accept(call)
    micro.says()
    on(micro, "accepted", lambda _: micro.player.peer.close())
    micro.player.bellwire._now = iter(range(3000, 10**6, 100)).__next__
    micro.hears(INVITE, codec.encode(Invite(InviteState.ACCEPTED, EPOCH, 2)))
    micro.player.peer.poll(0)
    said = [each[2] for each in micro.player.broker.out if each[1:2] == (SAYING,)]
    states = {codec.decode_answer(bytes.fromhex(each)).state for each in said}
    assert states == {AnswerState.SEEN}
