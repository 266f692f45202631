"""Scenes in the form of docs/vectors/calls.json that nobody thought of: drawn from a seed.

What happens to the peer is random (messages of any kind, from any state, links that break, time
that passes), or answers what it said last, so that calls go on; what it does then is the engine's.
A peer in another language plays them and must react the same. ``python -m tools.make_vectors``
writes those of :func:`generated`; ``python -m tools.random_scenes COUNT SEED`` prints others.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Presence
from device_sdk.errors import InvitationApiCallError
from tools.scene_player import (
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

OTHER, OLDER = "hall", b"also-old"
PEERS, CALLS, EPOCHS = (PEER, OTHER), (CALL, SECOND), (THEIRS, THEIRS, FORMER, NEWER)
LONG = codec.encode_body("x" * 600)
#: Whole quarters of seconds, so that no rounding comes into it.
PASSES = (0, 0, 0, 0, 0.25, 0.5, 1, 2, 3, 8, 20)
#: The states without talk: with its own a call would be another.
_ANSWERS = tuple(state for state in AnswerState if state < AnswerState.TALKING)
_INVITES = tuple(state for state in InviteState if state < InviteState.OVER)
COUNT, SEED = 1500, 1


class Theme(NamedTuple):
    """What a scene is about: how it is set up, and how often what happens."""

    name: str
    setup: dict[str, Any] = {}  # noqa: RUF012 - never changed
    length: int = 22
    passes: tuple[float, ...] = PASSES
    replies: float = 0.5  # how often the other end answers what was said last
    breaks: float = 0.4
    own: float = 0.4
    flood: int = 0  # so many cells come at once before anything else, and as many 1 s later
    callers: int = 1
    cells: tuple[str, ...] = ()  # of these states


THEMES = (
    Theme("anything", replies=0.0, breaks=0.7),
    Theme("calls"),
    Theme("calls"),
    Theme("calls", replies=0.8, breaks=0.1, own=0.05),
    Theme("links that break", passes=(0, 0, 0, 0.25, 1, 3, 6), replies=0.3, breaks=2.5),
    Theme("logins", replies=0.2, own=5),
    Theme("long times", passes=(0, 0, 0, 1, 5, 30, 100, 700), replies=0.7, length=20),
    Theme("small caps", {"settings": {"max_calls": 3, "max_calls_per_caller": 2}}, replies=0.3),
    Theme("a policy", {"policy": {"open": 1, "reason": 2}}, replies=0.6),
    Theme("do not disturb", {"policy": {"open": 0, "reason": 3}}, replies=0.4),
)
FLOODS = tuple(
    Theme(f"a flood of {what}", length=12, flood=flood, callers=callers, cells=cells)
    for what, flood, callers, cells in (
        ("ended calls, of one caller", 70, 1, ("ended",)),
        ("ended calls, of many", 262, 9, ("ended", "ended", "accepted")),
        ("ringing, of one caller", 80, 1, ("ringing",)),
        ("ringing, of many", 90, 12, ("ringing",)),
        ("answers, of one callee", 70, 1, ("received", "seen")),
        ("answers, of many", 262, 9, ("received", "failed")),
    )
)


class RandomScene:
    """One scene: draws what happens, and writes down what the engine does."""

    def __init__(self, seed: int, theme: Theme) -> None:
        self.theme, self.steps = theme, list[dict[str, Any]]()
        self._draw = random.Random(seed)  # noqa: S311 - scenes, not secrets
        self._player = Player(theme.setup)
        self._at, self._linked = 0.0, False
        self._asked: list[list[str]] = []
        self._said: list[str] = []
        self._replies: list[dict[str, Any]] = []
        if theme.flood:
            self._flood()
        for _ in range(theme.length):
            if self._player.engine.closed:
                break
            self._at += self._draw.choice(theme.passes)
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
            effect.pop("means", None)
            self._asked += [effect["subscribe"]] if "subscribe" in effect else []
            if effect.get("publish") == topics.presence("sig", ME):
                self._said.append(effect["payload"])
            elif "publish" in effect and self._draw.random() < 0.8:
                self._reply(effect["publish"], bytes.fromhex(effect["payload"]))

    def _flood(self) -> None:
        """So many calls at once, and again: nobody here knows of them."""
        self._linked = True
        self._do({"connected": {}})
        self._do(self._message(topics.presence("sig", ME), self._said.pop(0), retained=False))
        for number in range(2 * self.theme.flood):
            self._at += 1 if number == self.theme.flood else 0
            call_id = topics.call_id_from_bytes((number + 9).to_bytes(16, "big"))
            state = self._draw.choice(self.theme.cells).upper()
            cell: Invite | Answer
            kind: topics.Kind = "invite"
            if state in InviteState.__members__:
                ttl, reason = (60_000, None) if state == "RINGING" else (None, 1)
                cell = Invite(InviteState[state], THEIRS, 1, ttl=ttl, reason=reason)
            else:
                cell, kind = Answer(AnswerState[state], THEIRS, 1), "answer"
            peer = f"caller{number % self.theme.callers}"
            topic = topics.cell("sig", kind, ME, peer, call_id)
            self._do(self._message(topic, codec.encode(cell).hex(), retained=number % 7 == 0))

    def _happens(self) -> dict[str, Any]:
        draw, theme = self._draw, self.theme
        if not self._linked:
            if draw.random() < 0.7:
                self._linked = True
                return {"connected": {"wall": 1_700_000_000} if draw.random() < 0.3 else {}}
            return self._command()
        if self._said and draw.random() < 0.6:
            return self._message(
                topics.presence("sig", ME), self._said.pop(0), retained=draw.random() < 0.1
            )
        if self._asked and draw.random() < 0.6:
            return self._granted(self._asked.pop(0))
        if self._replies and draw.random() < theme.replies:
            return self._replies.pop(draw.randrange(len(self._replies)))
        kind = draw.choices(
            ("acked", "cell", "presence", "own", "command", "gone"),
            (3, 6, 3, theme.own, 4, theme.breaks),
        )[0]
        if kind == "acked":
            return {"acked": {} if draw.random() < 0.7 else {"first": draw.choice((1, 1, 2, 3))}}
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
        mine = kind == "own"
        peer = ME if mine else draw.choice(PEERS)
        age = draw.choice((0, 5_000, 10_000_000_000))
        cell = Presence(
            draw.random() < 0.6, draw.choice((*EPOCHS, OLDER, OLDER) if mine else EPOCHS),
            None, draw.random() < 0.2, draw.choice((0, 0, 1, 2)), age,
        )  # fmt: skip
        payload = "" if draw.random() < 0.1 else codec.encode(cell).hex()
        return self._message(topics.presence("sig", peer), payload, retained=retained)

    def _granted(self, filters: list[str]) -> dict[str, Any]:
        """The broker's word on a subscription; a presence it may refuse."""
        refused = [
            f for f in filters
            if f.endswith("/presence") and f != topics.presence("sig", ME)
            and self._draw.random() < 0.1
        ]  # fmt: skip
        detail: dict[str, Any] = {"filters": [f for f in filters if f not in refused]}
        return {"subscribed": detail | ({"refused": refused} if refused else {})}

    def _reply(self, topic: str, payload: bytes) -> None:
        """What the other end says to that, sooner or later."""
        at = topics.parse("sig", topic)
        assert isinstance(at, topics.CallTopic)  # noqa: S101 - own presence is none
        draw, epoch = self._draw, draw_epoch(self._draw)
        cell: Invite | Answer | None = None
        if at.kind == "invite" and payload:
            said = codec.decode_invite(payload).state
            states = {
                InviteState.RINGING: (AnswerState.RECEIVED, AnswerState.RECEIVED, *_ANSWERS),
                InviteState.ACCEPTED: (AnswerState.SEEN, *_ANSWERS),
                InviteState.ENDED: (AnswerState.SEEN, AnswerState.SEEN, AnswerState.REFUSED),
            }.get(said, (AnswerState.SEEN,))
            state = draw.choice(states)
            reasons = {AnswerState.REFUSED: (1, 2, 3), AnswerState.FAILED: (4, 5, 6)}
            cell = Answer(
                state, epoch, 1, RESPONSE if draw.random() < 0.3 else None,
                draw.choice(reasons.get(state, (None,))), ask=draw.random() < 0.2,
            )  # fmt: skip
        elif at.kind == "answer" and payload:
            answer = codec.decode_answer(payload)
            if answer.ask:
                cell = Invite(InviteState.RINGING, epoch, 2, ttl=draw.choice((0, 9_000, 60_000)),
                              asker=MINE)  # fmt: skip
                if draw.random() < 0.3:
                    self._replies.append(
                        self._message(
                            topics.presence("sig", at.owner),
                            codec.encode(Presence(draw.random() < 0.8, epoch)).hex(),
                            retained=draw.random() < 0.5,
                        )
                    )
            elif answer.state is AnswerState.ACCEPTED:
                won = draw.random() < 0.6
                cell = Invite(InviteState.ACCEPTED if won else InviteState.ENDED, epoch, 3,
                              reason=None if won else draw.choice((1, 2, 3)))  # fmt: skip
            elif answer.state is AnswerState.RECEIVED:
                cell = Invite(draw.choice((InviteState.ENDED, InviteState.RINGING)), epoch, 3)
                if cell.state is InviteState.ENDED:
                    cell = cell._replace(reason=draw.choice((1, 2, 3, 4, 5, 6)), content=CONTENT)
                else:
                    cell = cell._replace(ttl=20_000)
            elif draw.random() < 0.2:
                return
        else:
            return
        kind: topics.Kind = "answer" if at.kind == "invite" else "invite"
        topic = topics.cell("sig", kind, ME, at.owner, at.call_id)
        data = codec.encode(cell).hex() if cell is not None else ""
        self._replies.append(self._message(topic, data, retained=draw.random() < 0.15))
        del self._replies[:-4]

    def _cell(self, *, retained: bool) -> dict[str, Any]:
        draw = self._draw
        peer, call_id, epoch = draw.choice(PEERS), draw.choice(CALLS), draw_epoch(draw)
        kind: topics.Kind = draw.choice(("invite", "invite", "answer"))
        cell: Invite | Answer
        if kind == "answer":
            cell = Answer(
                draw.choice(_ANSWERS), epoch, draw.randint(1, 9),
                draw.choice((None, RESPONSE)), draw.choice((None, 1, 2, 3, 4, 5, 6, 9)),
                draw.random() < 0.3,
            )  # fmt: skip
        else:
            state = draw.choice((InviteState.RINGING, InviteState.RINGING, *_INVITES))
            rings, ended = state is InviteState.RINGING, state is InviteState.ENDED
            cell = Invite(
                state,
                epoch,
                draw.randint(1, 9),
                ttl=draw.choice((0, 4_000, 60_000)) if rings else None,
                content=draw.choice((None, CONTENT, LONG)),
                channel=draw.choice((None, None, "front")),
                reason=draw.choice((None, 1, 2, 3, 4, 5, 6, 9)) if ended else None,
                group=draw.choice((None, GROUP)),
                time=draw.choice((None, 1_700_000_000)),
                asker=draw.choice((None, MINE, MINE, FORMER)) if rings else None,
            )
        owner, writer = (peer, ME) if draw.random() < 0.12 else (ME, peer)
        payload = "" if draw.random() < 0.12 else codec.encode(cell).hex()
        return self._message(
            topics.cell("sig", kind, owner, writer, call_id), payload, retained=retained
        )

    def _command(self) -> dict[str, Any]:
        draw = self._draw
        peer, call_id = draw.choice(PEERS), draw.choice(CALLS)
        name = draw.choices(
            ("send", "cancel", "accept", "refuse", "watch", "unwatch", "logout"),
            (5, 2, 6, 3, 1, 0.5, 0.15),
        )[0]
        if name == "send":
            detail: dict[str, Any] = {"call_id": call_id, "callee": peer}
            detail |= draw.choice(({}, {"content": CONTENT.hex()}, {"content": LONG.hex()}))
            detail |= draw.choice(({}, {}, {"group": GROUP.hex()}))
            detail |= draw.choice(({}, {}, {"channel": "front", "wall": 1_700_000_000}))
            detail |= draw.choice(({}, {}, {"ring_timeout": 20}, {"ack_timeout": 5}))
            return {name: detail}
        if name == "cancel":
            return {name: {"callee": peer, "call_id": call_id}}
        if name in ("accept", "refuse"):
            detail = {"caller": peer, "call_id": call_id}
            if name == "refuse" and draw.random() < 0.5:
                detail["reason"] = draw.choice((1, 2, 3))
            return {name: detail | ({"response": RESPONSE.hex()} if draw.random() < 0.5 else {})}
        return {name: {} if name == "logout" else {"peer": peer}}

    @staticmethod
    def _message(topic: str, payload: str, *, retained: bool) -> dict[str, Any]:
        return {"message": {"topic": topic, "payload": payload, "retained": retained}}

    @property
    def written(self) -> dict[str, Any]:
        """As it stands in the file, but for its name."""
        return ({"setup": self.theme.setup} if self.theme.setup else {}) | {"steps": self.steps}


def draw_epoch(draw: random.Random) -> bytes:
    """Mostly the login that it was."""
    return THEIRS if draw.random() < 0.6 else draw.choice(EPOCHS)


def scenes(count: int, seed: int, themes: tuple[Theme, ...] = THEMES) -> Iterator[dict[str, Any]]:
    """So many scenes, the same for the same seed."""
    for number in range(seed, seed + count):
        theme = themes[number % len(themes)]
        yield {"name": f"{number}, {theme.name}"} | RandomScene(number, theme).written


def generated() -> list[dict[str, Any]]:
    """Those of docs/vectors/generated.json.gz."""
    return [*scenes(COUNT - len(FLOODS), SEED), *scenes(len(FLOODS), COUNT, FLOODS)]


if __name__ == "__main__":
    print(json.dumps(list(scenes(int(sys.argv[1]), int(sys.argv[2])))))
