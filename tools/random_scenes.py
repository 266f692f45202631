"""Scenes in the form of docs/vectors/calls.json that nobody thought of: drawn from a seed.

What happens to the peer is random (messages of any kind, from any state, links that break, time
that passes); what it does then is the engine's. A peer in another language plays them and must
react the same. ``python -m tools.random_scenes COUNT SEED`` prints them as JSON.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from typing import Any

from device_sdk.errors import InvitationApiCallError
from device_sdk.wire import codec, topics
from device_sdk.wire.cells import Answer, AnswerState, Invite, InviteState, Presence
from tools.vector_scenes import (
    CALL,
    CONTENT,
    FORMER,
    GROUP,
    ME,
    MINE,
    NEWER,
    PEER,
    RESPONSE,
    SECOND,
    THEIRS,
    Player,
)

OTHER = "hall"
PEERS, CALLS, EPOCHS = (PEER, OTHER), (CALL, SECOND), (THEIRS, THEIRS, FORMER, NEWER)
#: Whole quarters of seconds, so that no rounding comes into it.
PASSES = (0, 0, 0, 0, 0.25, 0.5, 1, 2, 3, 8, 20)


class RandomScene:
    """One scene: draws what happens, and writes down what the engine does."""

    def __init__(self, seed: int, length: int = 40) -> None:
        self.steps: list[dict[str, Any]] = []
        self._draw = random.Random(seed)  # noqa: S311 - scenes, not secrets
        self._player = Player()
        self._at, self._linked = 0.0, False
        self._asked: list[list[str]] = []
        self._said: list[str] = []
        for _ in range(length):
            if self._player.engine.closed:
                break
            self._at += self._draw.choice(PASSES)
            self._do({"time": {}})
            self._do(self._happens())

    def _do(self, what: dict[str, Any]) -> None:
        try:
            out = self._player.play(self._at, what)
        except InvitationApiCallError:
            return  # not legal there, and nothing was changed
        if not out and "time" in what:
            return
        self.steps.append({"at": self._at, "do": what, "out": out})
        for effect in out:
            self._asked += [effect["subscribe"]] if "subscribe" in effect else []
            if effect.get("publish") == topics.presence("sig", ME):
                self._said.append(effect["payload"])

    def _happens(self) -> dict[str, Any]:
        draw = self._draw
        if not self._linked:
            if draw.random() < 0.7:
                self._linked = True
                return {"connected": {}}
            return self._command()
        if self._said and draw.random() < 0.6:
            return self._message(topics.presence("sig", ME), self._said.pop(0), retained=False)
        if self._asked and draw.random() < 0.6:
            return {"subscribed": {"filters": self._asked.pop(0)}}
        kind = draw.choices(
            ("acked", "cell", "presence", "own", "command", "gone"), (3, 8, 3, 0.6, 3, 0.7)
        )[0]
        if kind == "acked":
            return {"acked": {}}
        if kind == "gone":
            self._linked = False
            self._asked.clear()
            self._said.clear()
            return {"disconnected": {}}
        if kind == "command":
            return self._command()
        retained = draw.random() < 0.3
        if kind == "cell":
            return self._cell(retained=retained)
        peer = ME if kind == "own" else draw.choice(PEERS)
        age = draw.choice((0, 5_000, 10_000_000_000))
        cell = Presence(
            draw.random() < 0.6, draw.choice(EPOCHS), None, draw.random() < 0.2,
            draw.choice((0, 0, 1, 2)), age,
        )  # fmt: skip
        payload = "" if draw.random() < 0.1 else codec.encode(cell).hex()
        return self._message(topics.presence("sig", peer), payload, retained=retained)

    def _cell(self, *, retained: bool) -> dict[str, Any]:
        draw = self._draw
        peer, call_id, epoch = draw.choice(PEERS), draw.choice(CALLS), draw.choice(EPOCHS)
        kind = draw.choice(("invite", "invite", "answer"))
        cell: Invite | Answer
        if kind == "answer":
            cell = Answer(
                draw.choice(list(AnswerState)), epoch, draw.randint(1, 9),
                draw.choice((None, RESPONSE)), draw.choice((None, 1, 2, 3, 4, 5, 6, 9)),
                draw.random() < 0.3,
            )  # fmt: skip
        else:
            state = draw.choice((InviteState.RINGING, InviteState.RINGING, *InviteState))
            rings, ended = state is InviteState.RINGING, state is InviteState.ENDED
            cell = Invite(
                state, epoch, draw.randint(1, 9),
                ttl=draw.choice((0, 4_000, 60_000)) if rings else None,
                content=draw.choice((None, CONTENT)),
                reason=draw.choice((None, 1, 2, 3, 4, 5, 6, 9)) if ended else None,
                asker=draw.choice((None, MINE, MINE, FORMER)) if rings else None,
            )  # fmt: skip
        owner, writer = (peer, ME) if draw.random() < 0.12 else (ME, peer)
        payload = "" if draw.random() < 0.12 else codec.encode(cell).hex()
        return self._message(
            topics.cell("sig", kind, owner, writer, call_id), payload, retained=retained
        )

    def _command(self) -> dict[str, Any]:
        draw = self._draw
        peer, call_id = draw.choice(PEERS), draw.choice(CALLS)
        name = draw.choices(
            ("send", "cancel", "accept", "refuse", "watch", "logout"), (5, 2, 4, 3, 1, 0.2)
        )[0]
        if name == "send":
            detail: dict[str, Any] = {"call_id": call_id, "callee": peer}
            detail |= {"content": CONTENT.hex()} if draw.random() < 0.5 else {}
            detail |= {"group": GROUP.hex()} if draw.random() < 0.3 else {}
            return {name: detail}
        if name == "cancel":
            return {name: {"callee": peer, "call_id": call_id}}
        if name in ("accept", "refuse"):
            detail = {"caller": peer, "call_id": call_id}
            return {name: detail | ({"response": RESPONSE.hex()} if draw.random() < 0.5 else {})}
        return {name: {"peer": peer} if name == "watch" else {}}

    @staticmethod
    def _message(topic: str, payload: str, *, retained: bool) -> dict[str, Any]:
        return {"message": {"topic": topic, "payload": payload, "retained": retained}}


def scenes(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """So many scenes, the same for the same seed."""
    for number in range(seed, seed + count):
        yield {"name": f"random {number}", "rules": "", "steps": RandomScene(number).steps}


if __name__ == "__main__":
    print(json.dumps(list(scenes(int(sys.argv[1]), int(sys.argv[2])))))
