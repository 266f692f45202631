"""Random scenes of calls that go on, drawn as ``random_scenes`` draws the others.

The other end, too, is one that can stay: it accepts, decides, says messages, acknowledges, repeats
itself, leaves gaps, hangs up; and what nobody would say comes as well. Written to
docs/vectors/talk-generated.json.gz; ``python -m tools.random_talks COUNT SEED`` prints others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

from device_sdk.core.callee import CalleeCall, Phase
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Said
from device_sdk.core.wire.talk_cells import encode_message
from tools.random_scenes import CALLS, PEERS, RandomScene, Theme, draw_epoch
from tools.scene_player import CONTENT, ME, MINE, RESPONSE, THEIRS

COUNT, SEED = 600, 10_001
TALK: Final = {"talk": True}
_OVER: Final = (None, 7, 7, 8, 9, 10, 11, 99)
_LARGE: Final = encode_message(bytes(3_000))

THEMES: Final = (
    Theme("talk", TALK, replies=0.9, breaks=0.05, own=0.05, length=30),
    Theme("talk", TALK, replies=0.8, breaks=0.1, own=0.05, length=30),
    Theme("talk, anything", TALK, replies=0.5, breaks=0.3),
    Theme("talk, links that break", TALK, passes=(0, 0, 0.25, 1, 3, 11), replies=0.7, breaks=1.5,
          own=0.1, length=30),
    Theme("talk, long times", TALK | {"settings": {"talk_limit": 200}}, replies=0.8, breaks=0.1,
          own=0.1, passes=(0, 0, 0, 1, 4, 9, 20, 70), length=26),
    Theme("talk, logins", TALK, replies=0.6, own=3),
    Theme("the other could stay", replies=0.8, breaks=0.2),
)  # fmt: skip


class RandomTalk(RandomScene):
    """A scene whose other end can stay in a call."""

    def __init__(self, seed: int, theme: Theme) -> None:
        self._theirs: dict[tuple[str, str], int] = {}  # how many messages the other end has said
        super().__init__(seed, theme)

    def _happens(self) -> dict[str, Any]:
        # More of what a call that goes on is about than of what only comes by.
        if self._linked and self._draw.random() < 0.35:
            engine, here = self._player.engine, [*self._up()]
            rings = [c for c in engine.callee.calls.values() if c.phase is Phase.RINGING]
            if here or rings:
                return self._speaks(here) if here else self._accepts(rings)
        return super()._happens()

    def _accepts(self, rings: list[CalleeCall]) -> dict[str, Any]:
        call = self._draw.choice(rings)
        return {"accept": {"caller": call.caller, "call_id": call.call_id}}

    def _up(self) -> Iterator[dict[str, Any]]:
        engine = self._player.engine
        for made, side in ((True, engine.caller), (False, engine.callee)):
            for call in side.calls.values():
                if call.talks:
                    yield {"peer": call.key[0], "call_id": call.call_id, "made": made}

    def _speaks(self, calls: list[dict[str, Any]]) -> dict[str, Any]:
        draw, detail = self._draw, self._draw.choice(calls)
        if draw.random() < 0.15:
            reason = {"reason": draw.choice((7, 10))} if draw.random() < 0.3 else {}
            return {"hang_up": detail | reason}
        message = _LARGE if draw.random() < 0.15 else self._text(draw.randint(1, 9))
        return {"say": detail | {"message": message.hex()}}

    def _reply(self, topic: str, payload: bytes) -> None:
        at, draw = topics.parse("sig", topic), self._draw
        if not payload or not isinstance(at, topics.CallTopic) or draw.random() < 0.04:
            super()._reply(topic, payload)
            return
        epoch = THEIRS if draw.random() < 0.95 else draw_epoch(draw)
        cell: Invite | Answer | None
        if at.kind == "invite":
            cell = self._answers(at, codec.decode_invite(payload), epoch)
        else:
            answer = codec.decode_answer(payload)
            cell = self._decides(at, answer, epoch)
            if answer.state is AnswerState.RECEIVED and not answer.ask and draw.random() < 0.7:
                return  # it rings, and its caller waits
            if cell is None and answer.state not in (AnswerState.OVER, AnswerState.SEEN):
                super()._reply(topic, payload)
                return
        self._hears(at, cell, retained=draw.random() < 0.05)

    def _hears(self, at: topics.CallTopic, cell: Invite | Answer | None, *, retained: bool) -> None:
        kind: topics.Kind = "answer" if at.kind == "invite" else "invite"
        data = codec.encode(cell).hex() if cell is not None else ""
        topic = topics.cell("sig", kind, ME, at.owner, at.call_id)
        self._replies.append(self._message(topic, data, retained=retained))
        del self._replies[:-4]

    def _answers(self, at: topics.CallTopic, invite: Invite, epoch: bytes) -> Answer:
        """The callee's answer to what this peer's invite says."""
        draw = self._draw
        if invite.state is InviteState.RINGING:
            said = Said() if draw.random() < 0.9 else None
            return Answer(AnswerState.ACCEPTED, epoch, 2, RESPONSE, talk=said)
        if invite.state is InviteState.ACCEPTED and invite.talk is not None:
            said = self._talk(at, invite.talk)
            if draw.random() < 0.1:
                return Answer(AnswerState.OVER, epoch, 9, None, draw.choice(_OVER), talk=said)
            return Answer(AnswerState.TALKING, epoch, 3, talk=said)
        return Answer(AnswerState.SEEN, epoch, 4)

    def _decides(self, at: topics.CallTopic, answer: Answer, epoch: bytes) -> Invite | None:
        """The caller's invite after what this peer's answer says; None: cleared, or another's."""
        draw, talk = self._draw, answer.talk
        if answer.ask:
            return Invite(InviteState.RINGING, epoch, 2, 20_000, asker=MINE, talk=Said())
        if talk is None or answer.state not in (AnswerState.ACCEPTED, AnswerState.TALKING):
            return None
        said = self._talk(at, talk)
        if draw.random() < 0.1:
            return Invite(InviteState.OVER, epoch, 9, reason=draw.choice(_OVER), talk=said)
        if answer.state is AnswerState.ACCEPTED and draw.random() < 0.6:
            said = said._replace(got=None)
        return Invite(InviteState.ACCEPTED, epoch, 3, talk=said)

    def _talk(self, at: topics.CallTopic, mine: Said) -> Said:
        """What the other end says of the talk: mostly what it should."""
        draw, key = self._draw, (at.owner, at.call_id)
        count = self._theirs.get(key, 0) + draw.choice((0, 0, 1, 1, 2))
        self._theirs[key] = count
        heard = mine.got or 0
        before = draw.choice((heard, heard, heard, heard, 0, heard + 1))
        got = mine.count if draw.random() < 0.7 else draw.randint(0, mine.count + 1)
        messages = tuple(self._text(n) for n in range(min(before, count) + 1, count + 1))[-64:]
        return Said(count, got, messages)

    @staticmethod
    def _text(number: int) -> bytes:
        return encode_message({"n": number} if number % 3 else number)

    def _cell(self, *, retained: bool) -> dict[str, Any]:
        draw = self._draw
        if draw.random() < 0.4:
            return super()._cell(retained=retained)
        peer, call_id, epoch = draw.choice(PEERS), draw.choice(CALLS), draw_epoch(draw)
        count = draw.choice((0, 0, 1, 2, 3, 5))
        messages = tuple(
            self._text(n) for n in range(count + 1 - draw.randint(0, count), count + 1)
        )
        said = Said(count, draw.choice((None, 0, 0, 1, 2)), messages)
        kind: topics.Kind = draw.choice(("invite", "answer"))
        cell: Invite | Answer
        if kind == "invite":
            state = draw.choice((InviteState.RINGING, InviteState.ACCEPTED, InviteState.OVER))
            cell = Invite(state, epoch, draw.randint(1, 9), talk=said)
            if state is InviteState.RINGING:
                asker = draw.choice((None, MINE))
                cell = cell._replace(ttl=20_000, content=CONTENT, asker=asker, talk=Said())
            elif state is InviteState.OVER:
                cell = cell._replace(reason=draw.choice(_OVER))
        else:
            answers = (AnswerState.ACCEPTED, AnswerState.TALKING, AnswerState.OVER)
            cell = Answer(draw.choice(answers), epoch, draw.randint(1, 9), talk=said)
            if cell.state is AnswerState.OVER:
                cell = cell._replace(reason=draw.choice(_OVER))
        owner, writer = (peer, ME) if draw.random() < 0.12 else (ME, peer)
        topic = topics.cell("sig", kind, owner, writer, call_id)
        return self._message(topic, codec.encode(cell).hex(), retained=retained)

    def _command(self) -> dict[str, Any]:
        if self._draw.random() < 0.9:
            return super()._command()
        peer, call_id = self._draw.choice(PEERS), self._draw.choice(CALLS)
        made = self._draw.random() < 0.5
        return self._speaks([{"peer": peer, "call_id": call_id, "made": made}])


def scenes(count: int = COUNT, seed: int = SEED) -> Iterator[dict[str, Any]]:
    """So many scenes, the same for the same seed."""
    for number in range(seed, seed + count):
        theme = THEMES[number % len(THEMES)]
        yield {"name": f"{number}, {theme.name}"} | RandomTalk(number, theme).written


if __name__ == "__main__":
    print(json.dumps(list(scenes(int(sys.argv[1]), int(sys.argv[2])))))
