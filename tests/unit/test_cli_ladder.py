"""The ladder: who said what to whom, drawn from messages alone."""

from __future__ import annotations

from device_sdk.cli.ladder import Ladder
from device_sdk.core.wire import codec, topics
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

EPOCH = b"12345678"
CALL = topics.call_id_from_bytes(bytes(16))
OTHER = topics.call_id_from_bytes(b"\x40" * 16)


class Wire:
    def __init__(self, **options: object) -> None:
        self.ladder = Ladder("sig", wall=lambda: 0.0, **options)  # type: ignore[arg-type]
        self.at = 100.0

    def say(
        self, writer: str, owner: str, cell: Cell | bytes | None, *, kind: str = "",
        call: str = CALL, retained: bool = False,
    ) -> list[str]:  # fmt: skip
        self.at += 0.0015
        name: topics.Kind = "answer" if kind == "answer" or isinstance(cell, Answer) else "invite"
        payload = cell if isinstance(cell, bytes) else b"" if cell is None else codec.encode(cell)
        topic = topics.cell("sig", name, owner, writer, call)
        return self.ladder.feed(self.at, topic, payload, retained=retained)


RINGING = Invite(InviteState.RINGING, EPOCH, 1, ttl=60_000, content=codec.encode_body("hi"))


def test_a_whole_call() -> None:
    wire = Wire()
    out = wire.say("door", "kitchen", RINGING)
    assert out[1].startswith(f"call {CALL}  door → kitchen")
    assert out[2].index("door") < out[2].index("kitchen")
    assert 'ringing · "hi" · 60 s · seq 1' in out[3]
    assert out[3].lstrip().startswith("0.0 ms")
    assert out[3].endswith("▶│")
    (received,) = wire.say("kitchen", "door", Answer(AnswerState.RECEIVED, EPOCH, 1))
    assert received.lstrip().startswith("1.5 ms")
    assert "│◀──" in received
    assert received.endswith("received · seq 1 ─┤")
    wire.say("door", "kitchen", Invite(InviteState.ENDED, EPOCH, 2, reason=1))
    wire.say("kitchen", "door", Answer(AnswerState.SEEN, EPOCH, 2))
    (cleared,) = wire.say("door", "kitchen", None)
    assert "cleared" in cleared
    *_, footer = wire.say("kitchen", "door", None, kind="answer")
    assert "ended: canceled, and forgotten: 6 messages" in footer


def test_a_call_that_goes_on() -> None:
    """Each message with its number, what was handled of the other's, and why it was over."""
    wire = Wire()
    texts = tuple(encode_message(each) for each in ({"text": "hello"}, {"text": 1}, "plain"))
    wire.say("door", "kitchen", RINGING)

    def line(cell: Cell) -> str:
        answers = isinstance(cell, Answer)
        return wire.say(*(("kitchen", "door") if answers else ("door", "kitchen")), cell)[-1]

    assert "accepted · talks · seq 2" in line(Invite(InviteState.ACCEPTED, EPOCH, 2, talk=Said()))
    assert "talking · got 0 · seq 1" in line(Answer(AnswerState.TALKING, EPOCH, 1, talk=Said(0, 0)))
    said = line(Invite(InviteState.ACCEPTED, EPOCH, 3, talk=Said(3, 0, texts[:2])))
    assert 'accepted · 2 "hello" · 3 {"text": 1} · got 0 · seq 3' in said
    over = Answer(AnswerState.OVER, EPOCH, 2, reason=10, talk=Said(4, 3, texts[2:]))
    assert "over: time is up · 4 plain · got 3 · seq 2" in line(over)
    wire.say("door", "kitchen", None)
    *_, footer = wire.say("kitchen", "door", None, kind="answer")
    assert "over: time is up, and forgotten: 7 messages" in footer
    last = Invite(InviteState.OVER, EPOCH, 4, reason=99, talk=Said(0, 1))
    assert "over: hung up · got 1" in line(last)


def test_a_question_and_its_answer() -> None:
    wire = Wire()
    wire.say("door", "kitchen", RINGING)
    (asked,) = wire.say("kitchen", "door", Answer(AnswerState.RECEIVED, EPOCH, 1, ask=True))
    assert "received · still so?" in asked
    (said,) = wire.say("door", "kitchen", RINGING._replace(asker=EPOCH))
    assert 'ringing · still so · "hi"' in said


def test_rungs_stay_in_their_lanes() -> None:
    """Every rung of a call is as wide as the next, whatever it says."""
    wire = Wire(width=80)
    out = wire.say("door", "kitchen", RINGING)
    long = Answer(AnswerState.REFUSED, EPOCH, 2, response=codec.encode_body("no " * 90), reason=2)
    out += wire.say("kitchen", "door", long)
    assert len(out[3]) == len(out[4])
    assert "…" in out[4]
    assert "seq 2" in out[4]


def test_four_peers_keep_their_lanes_at_a_hundred_columns() -> None:
    wire = Wire(width=100)
    calls = [topics.call_id_from_bytes(bytes([n]) * 15 + b"\x00") for n in range(3)]
    for call, peer in zip(calls, ("kitchen", "bedroom", "phone"), strict=True):
        wire.say("door", peer, RINGING, call=call)
    answer = Answer(AnswerState.RECEIVED, EPOCH, 1)
    for call, peer in zip(calls, ("kitchen", "bedroom", "phone"), strict=True):
        assert len(wire.say(peer, "door", answer, call=call)) == 1


def test_one_call_alone() -> None:
    wire = Wire(call_id=CALL[:6])
    assert wire.say("door", "kitchen", RINGING, call=OTHER) == []
    assert wire.say("door", "kitchen", RINGING) != []


def test_what_was_there_before_is_marked_and_what_was_over_is_not_shown() -> None:
    wire = Wire()
    out = wire.say("door", "kitchen", RINGING, retained=True)
    assert "(kept)" in out[-1]
    assert "╌" in out[-1]
    assert wire.say("door", "kitchen", None, call=OTHER) == []


def test_malformed_and_foreign_messages() -> None:
    wire = Wire()
    out = wire.say("door", "kitchen", b"\xff")
    assert "✘ malformed" in out[-1]
    assert wire.ladder.feed(0.0, "else/where", b"x", retained=False) == []
    online = codec.encode(Presence(True, EPOCH))
    topic = topics.presence("sig", "door")
    assert wire.ladder.feed(0.0, topic, online, retained=True) == []
    assert "● online" in wire.ladder.feed(0.0, topic, online, retained=False)[-1]
    assert "✘ presence" in wire.ladder.feed(0.0, topic, b"\xff", retained=False)[-1]


def test_a_strangers_text_commands_no_terminal() -> None:
    cell = Invite(InviteState.RINGING, EPOCH, 1, ttl=1, content=codec.encode_body("\x1b[2J\n"))
    assert "\x1b" not in "".join(Wire().say("do\u202eor", "kitchen", cell))


def test_memory_is_bounded() -> None:
    wire = Wire()
    for number in range(1200):
        call = topics.call_id_from_bytes(number.to_bytes(2, "big") * 7 + b"\x00\x00")
        wire.say("door", "kitchen", RINGING, call=call)
    assert len(wire.ladder._calls) == 1000
