"""What a microcontroller cannot hold still ends its call (docs/protocol.md, (e) and (h))."""

from __future__ import annotations

from typing import Any

import pytest

from device_sdk.core.wire import codec
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Said
from device_sdk.core.wire.talk_cells import encode_message
from tests.unit.test_micro_vectors import module

CALL = "AAAAAAAAAAAAAAAAAAAAAA"
EPOCH = b"epoch-th"
LARGE = codec.encode_body("x" * 6000)
WORDS = Said(1, 0, (encode_message("x" * 6000),))
INVITE, ANSWER = f"sig/v1/me/invite/kitchen/{CALL}", f"sig/v1/me/answer/kitchen/{CALL}"


class Micro:
    """The peer, logged in, with the player's broker and clock."""

    def __init__(self) -> None:
        self.player = module("play", "vectors/play.py").Player(
            module("micro_bellwire", "bellwire.py"), {"talk": True}
        )
        self.player.do({"connected": {}})
        topic, payload = next(each[1:] for each in self.player.until(0) if each[0] == "publish")
        self.hears(topic, bytes.fromhex(payload))

    def hears(self, topic: str, payload: bytes) -> None:
        self.player.do({"message": {"topic": topic, "payload": payload.hex(), "retained": False}})

    def says(self) -> dict[str, Any]:
        said = [each[1:] for each in self.player.until(1) if each[0] == "publish"]
        return {topic: bytes.fromhex(payload) for topic, payload in said}

    @property
    def told(self) -> list[str]:
        return [name for name, _, _ in self.player.told]


@pytest.fixture
def micro() -> Micro:
    return Micro()


def test_its_caller_hangs_up_with_much_to_say(micro: Micro) -> None:
    """What it could not read is lost; the end is not: it would have stayed in the call for 2 h."""
    me = micro.player.peer.epoch
    ringing = Invite(InviteState.RINGING, EPOCH, 1, ttl=9000, asker=me, talk=Said())
    micro.hears(INVITE, codec.encode(ringing))
    micro.player.do({"accept": {"caller": "kitchen", "call_id": CALL}})
    micro.hears(INVITE, codec.encode(Invite(InviteState.ACCEPTED, EPOCH, 2, talk=Said())))
    assert "over" not in micro.told
    micro.says()
    micro.hears(INVITE, codec.encode(Invite(InviteState.OVER, EPOCH, 3, talk=WORDS)))
    assert micro.told[-1] == "over"
    said = micro.says()[f"sig/v1/kitchen/answer/me/{CALL}"]
    assert codec.decode_answer(said).state is AnswerState.SEEN


def test_its_call_is_refused_with_much_to_say(micro: Micro) -> None:
    """It would have rung on until its time was up."""
    micro.player.do({"send": {"callee": "kitchen", "call_id": CALL}})
    micro.hears(ANSWER, codec.encode(Answer(AnswerState.REFUSED, EPOCH, 1, response=LARGE)))
    assert micro.told[-1] == "refused"
    assert micro.says()[f"sig/v1/kitchen/invite/me/{CALL}"] == b""


def test_its_callee_hangs_up_with_much_to_say(micro: Micro) -> None:
    """As its caller does."""
    micro.player.do({"send": {"callee": "kitchen", "call_id": CALL}})
    micro.hears(ANSWER, codec.encode(Answer(AnswerState.ACCEPTED, EPOCH, 1, talk=Said())))
    assert micro.told[-1] == "accepted"
    micro.hears(ANSWER, codec.encode(Answer(AnswerState.OVER, EPOCH, 2, talk=WORDS)))
    assert micro.told[-1] == "over"
