"""The scenes of docs/vectors/small.json: what a small peer does where a full one does otherwise.

Written by hand from *What a small peer may leave out*, letter by letter: there is no engine here
that would do it.
"""

from __future__ import annotations

from typing import Any, Final, Self

from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    Cell,
    EndedReason,
    Invite,
    InviteState,
    OverReason,
    Presence,
)
from device_sdk.core.wire.talk_cells import Said
from tools.scene_player import CALL, CONTENT, FORMER, ME, MINE, PEER, SECOND, THEIRS, means

PROFILE: Final = "small"
RINGING: Final = Invite(InviteState.RINGING, THEIRS, 1, ttl=60_000, content=CONTENT)
#: Of a former life of this peer.
CALLED: Final = Invite(InviteState.RINGING, FORMER, 3, ttl=9000)
ANSWERED: Final = Answer(AnswerState.RECEIVED, FORMER, 3)
LARGE: Final = codec.encode_body("x" * 6000)
OPEN: Final = codec.encode_body({"do": "open"})
ONLINE: Final = Presence(True, THEIRS)
PRESENCES: Final = [topics.presence("sig", PEER)]


class Scene:
    """What happens to the peer, and what it does then."""

    def __init__(self, name: str, rules: str, *, settled: bool = True, talk: bool = False) -> None:
        self.name, self.rules, self.steps = name, rules, list[dict[str, Any]]()
        self._setup: dict[str, Any] = {"setup": {"talk": True}} if talk else {}
        self._at = 0.0
        self.connects()
        if settled:
            self.settles()

    @property
    def written(self) -> dict[str, Any]:
        """As it stands in small.json."""
        return {"name": self.name, "rules": self.rules} | self._setup | {"steps": self.steps}

    def does(self, kind: str, **detail: Any) -> Self:
        """Something happens."""
        what = {kind: {k: v.hex() if isinstance(v, bytes) else v for k, v in detail.items()}}
        self.steps.append({"at": self._at, "do": what, "out": []})
        return self

    def at(self, seconds: float) -> Self:
        """Time passes."""
        self._at = seconds
        return self.does("time")

    def connects(self) -> Self:
        """Each connection is as a first one: Connecting 1."""
        outbox = list(topics.outbox("sig", ME))
        self.does("connected").subscribes([topics.presence("sig", ME), *outbox])
        return self.says(Presence(True, MINE))

    def settles(self, *presences: str) -> Self:
        """The echo of its presence: Connecting 2."""
        self.hears(Presence(True, MINE), mine=True)
        self._out(unsubscribe=list(topics.outbox("sig", ME)))
        return self.subscribes([*topics.inbox("sig", ME), *presences])

    def hears(self, cell: Cell | None, call: str = CALL, **more: Any) -> Self:
        """A cell comes, of the other's or, ``mine``, of this peer's."""
        mine, retained = more.get("mine", False), more.get("retained", False)
        topic = self._topic(cell, call, PEER if mine else ME, ME if mine else PEER)
        payload = b"" if cell is None else codec.encode(cell)
        return self.does("message", topic=topic, payload=payload, retained=retained)

    def finds(self, cell: Cell, call: str = CALL) -> Self:
        """A cell that a former life left."""
        return self.hears(cell, call, mine=True, retained=True)

    def says(self, cell: Cell, call: str = CALL) -> Self:
        """The peer says this cell."""
        topic, payload = self._topic(cell, call, PEER, ME), codec.encode(cell)
        return self._out(publish=topic, payload=payload.hex(), means=means(topic, payload))

    def clears(self, kind: topics.Kind, call: str = CALL) -> Self:
        """The peer clears that cell."""
        topic = topics.cell("sig", kind, PEER, ME, call)
        return self._out(publish=topic, payload="", means=None)

    def subscribes(self, filters: list[str]) -> Self:
        """The peer subscribes to these filters."""
        return self._out(subscribe=filters)

    def tells(self, event: str, call: str = CALL, **more: Any) -> Self:
        """The app is told."""
        return self._out(tell={"event": event, "peer": PEER, "call_id": call} | more)

    def rings(self, call: str = CALL) -> Self:
        """A live call, which is asked about first, as nothing of its caller was read yet."""
        self.hears(RINGING, call).says(Answer(AnswerState.RECEIVED, MINE, 1, ask=True), call)
        self.subscribes(PRESENCES).hears(ONLINE, retained=True)
        return self.tells("remote_invitation_received", call, content=CONTENT.hex())

    def _topic(self, cell: Cell | None, call: str, owner: str, writer: str) -> str:
        if isinstance(cell, Presence):
            return topics.presence("sig", writer)
        kind: topics.Kind = "answer" if isinstance(cell, Answer) else "invite"
        return topics.cell("sig", kind, owner, writer, call)

    def _out(self, **what: Any) -> Self:
        self.steps[-1]["out"].append({"at": self._at} | what)
        return self


def _answer(state: AnswerState, reason: int | None = None, **more: Any) -> Answer:
    return Answer(state, MINE, 1, reason=reason, **more)


def _ended(epoch: bytes, reason: int) -> Invite:
    return Invite(InviteState.ENDED, epoch, 4, reason=reason)


def _numbered(number: int) -> str:
    return topics.call_id_from_bytes(bytes((number,)) * 16)


def scenes() -> list[Scene]:
    """Every scene, by the letters."""
    here, there = {"caller": PEER, "call_id": CALL}, {"callee": PEER, "call_id": CALL}
    busy = _answer(AnswerState.REFUSED, AnswerReason.BUSY)
    restarted = _ended(MINE, EndedReason.CALLER_RESTARTED)
    failed = _answer(AnswerState.FAILED, AnswerReason.ACCEPT_FAILURE)
    finals = Scene(
        "(f) eight final invites stand", "What a small peer may leave out", settled=False
    )
    for number in range(1, 9):
        finals.finds(_ended(FORMER, EndedReason.CANCELED), _numbered(number))
    finals.finds(_ended(FORMER, EndedReason.CANCELED), _numbered(9)).clears("invite", _numbered(9))
    over = Invite(InviteState.OVER, MINE, 4, reason=OverReason.RESTARTED, talk=Said())
    answers_over = Answer(AnswerState.OVER, MINE, 4, None, OverReason.RESTARTED, talk=Said())
    rules = "What a small peer may leave out"
    decided = Invite(InviteState.ACCEPTED, MINE, 2, talk=Said())
    asks = Answer(AnswerState.RECEIVED, MINE, 1, ask=True)
    return [
        Scene("(b) what is retained, of a caller that was read online", rules)
        .rings()
        .hears(RINGING, SECOND, retained=True)
        .says(asks, SECOND),
        Scene("(b) retained, though it answers", rules)
        .hears(RINGING._replace(asker=MINE), retained=True)
        .says(asks)
        .subscribes(PRESENCES),
        Scene("(b) a ttl of 0", rules)
        .rings()
        .hears(RINGING._replace(ttl=0, asker=MINE), SECOND)
        .says(asks, SECOND),
        Scene("(b) what answers another", rules)
        .hears(RINGING._replace(asker=FORMER))
        .says(asks)
        .subscribes(PRESENCES),
        Scene("(b) another login of the caller is online", rules)
        .rings()
        .hears(RINGING._replace(epoch=FORMER), SECOND)
        .says(asks, SECOND),
        Scene("(b) what answers rings, until its ttl and 2 s", rules)
        .hears(RINGING)
        .says(asks)
        .subscribes(PRESENCES)
        .hears(RINGING._replace(asker=MINE))
        .says(_answer(AnswerState.RECEIVED))
        .tells("remote_invitation_received", content=CONTENT.hex())
        .at(61.9)
        .at(62)
        .says(_answer(AnswerState.FAILED, AnswerReason.CALLEE_EXPIRED))
        .tells("remote_invitation_failure"),
        Scene("(e) a call that it has ended", rules)
        .rings()
        .does("refuse", reason=2, **here)
        .says(busy)
        .tells("remote_invitation_refused")
        .hears(None)
        .clears("answer")
        .does("acked")
        .at(20)
        .hears(RINGING)
        .says(busy),
        Scene("(e) final invites of calls that it does not know", rules)
        .hears(Invite(InviteState.ACCEPTED, THEIRS, 2))
        .says(failed)
        .hears(Invite(InviteState.ACCEPTED, THEIRS, 2, talk=Said()), SECOND)
        .says(failed, SECOND)
        .hears(Invite(InviteState.OVER, THEIRS, 2, talk=Said(0, 0)), _numbered(3))
        .says(_answer(AnswerState.SEEN), _numbered(3))
        .hears(_ended(THEIRS, EndedReason.ANSWERED_ELSEWHERE), _numbered(4))
        .says(_answer(AnswerState.SEEN), _numbered(4)),
        Scene("(e) answers of calls that it does not know", rules)
        .hears(Answer(AnswerState.RECEIVED, THEIRS, 1, ask=True))
        .says(restarted)
        .hears(Answer(AnswerState.ACCEPTED, THEIRS, 1), SECOND)
        .says(restarted, SECOND)
        .hears(Answer(AnswerState.TALKING, THEIRS, 1, talk=Said(0, 0)), _numbered(3))
        .says(over._replace(talk=Said(0, 0)), _numbered(3))
        .hears(Answer(AnswerState.SEEN, THEIRS, 1), _numbered(4))
        .clears("invite", _numbered(4)),
        Scene("(f) an invite that rang", rules, settled=False)
        .finds(CALLED)
        .says(restarted)
        .settles()
        .hears(Answer(AnswerState.SEEN, THEIRS, 1))
        .clears("invite"),
        Scene("(f) an invite that was accepted, with talk and without", rules, settled=False)
        .finds(Invite(InviteState.ACCEPTED, FORMER, 2, talk=Said(1, 0)))
        .says(over)
        .finds(Invite(InviteState.ACCEPTED, FORMER, 2), SECOND)
        .settles(),
        finals.settles(),
        Scene("(f) an answer that had accepted", rules, settled=False)
        .finds(ANSWERED._replace(state=AnswerState.ACCEPTED))
        .says(failed)
        .settles(),
        Scene("(f) an answer that was talking", rules, settled=False)
        .finds(ANSWERED._replace(state=AnswerState.TALKING, talk=Said(2, 1)))
        .says(answers_over)
        .settles(),
        Scene("(f) any other answer", rules, settled=False)
        .finds(ANSWERED)
        .clears("answer")
        .finds(ANSWERED._replace(state=AnswerState.REFUSED, reason=1), SECOND)
        .clears("answer", SECOND)
        .finds(ANSWERED._replace(state=AnswerState.SEEN), _numbered(3))
        .clears("answer", _numbered(3))
        .settles(),
        Scene("(f) a call that rings again at its callee's next login", rules, settled=False)
        .finds(ANSWERED)
        .clears("answer")
        .settles()
        .hears(RINGING, retained=True)
        .says(Answer(AnswerState.RECEIVED, MINE, 1, ask=True))
        .subscribes(PRESENCES)
        .hears(ONLINE, retained=True)
        .hears(RINGING._replace(asker=MINE))
        .says(_answer(AnswerState.RECEIVED))
        .tells("remote_invitation_received", content=CONTENT.hex()),
        Scene("(h) an invite that is too large", rules)
        .hears(RINGING._replace(content=LARGE))
        .says(busy)
        .hears(_ended(THEIRS, EndedReason.CANCELED)._replace(content=LARGE), SECOND)
        .says(_answer(AnswerState.SEEN), SECOND)
        .hears(RINGING, _numbered(3))
        .says(Answer(AnswerState.RECEIVED, MINE, 1, ask=True), _numbered(3))
        .subscribes(PRESENCES),
        Scene("(h) an answer that is too large", rules)
        .does("send", **there)
        .says(Invite(InviteState.RINGING, MINE, 1, ttl=60_000))
        .subscribes(PRESENCES)
        .hears(Answer(AnswerState.ACCEPTED, THEIRS, 1, response=LARGE))
        .hears(Answer(AnswerState.RECEIVED, THEIRS, 1))
        .tells("local_invitation_received_by_peer"),
        Scene("got says nothing beyond what was said", "Talk 4", talk=True)
        .does("send", **there)
        .says(Invite(InviteState.RINGING, MINE, 1, ttl=60_000, talk=Said()))
        .subscribes(PRESENCES)
        .hears(ONLINE, retained=True)
        .hears(Answer(AnswerState.ACCEPTED, THEIRS, 1, talk=Said()))
        .says(decided)
        .tells("local_invitation_received_by_peer")
        .tells("local_invitation_accepted")
        .hears(Answer(AnswerState.TALKING, THEIRS, 2, talk=Said(0, 0)))
        .does("say", peer=PEER, call_id=CALL, made=True, message=OPEN)
        .says(decided._replace(talk=Said(1, 0, (OPEN,))))
        .hears(Answer(AnswerState.TALKING, THEIRS, 3, talk=Said(0, 2)))
        .at(2)
        .says(decided._replace(talk=Said(1, 0, (OPEN,))))
        .hears(Answer(AnswerState.TALKING, THEIRS, 4, talk=Said(0, 1)))
        .at(40),
        Scene("a later connection says that it rings, and asks", "Connecting 1, 2")
        .rings()
        .does("disconnected")
        .at(3)
        .connects()
        .settles(*PRESENCES)
        .says(Answer(AnswerState.RECEIVED, MINE, 1, ask=True))
        .hears(RINGING._replace(asker=MINE, ttl=50_000))
        .says(_answer(AnswerState.RECEIVED)),
        Scene("a later connection says what was decided without it", "Connecting 1, 2")
        .does("send", **there)
        .says(Invite(InviteState.RINGING, MINE, 1, ttl=60_000))
        .subscribes(PRESENCES)
        .hears(Answer(AnswerState.RECEIVED, THEIRS, 1))
        .tells("local_invitation_received_by_peer")
        .does("disconnected")
        .does("cancel", **there)
        .tells("local_invitation_canceled")
        .at(3)
        .connects()
        .hears(Invite(InviteState.RINGING, MINE, 1, ttl=60_000), mine=True, retained=True)
        .settles(*PRESENCES)
        .says(_ended(MINE, EndedReason.CANCELED))
        .hears(Answer(AnswerState.SEEN, THEIRS, 2))
        .clears("invite"),
        Scene("a later connection clears again", "Connecting 1, 2")
        .does("send", **there)
        .says(Invite(InviteState.RINGING, MINE, 1, ttl=60_000))
        .subscribes(PRESENCES)
        .hears(Answer(AnswerState.REFUSED, THEIRS, 1, reason=1))
        .tells("local_invitation_received_by_peer")
        .clears("invite")
        .tells("local_invitation_refused")
        .does("disconnected")
        .at(3)
        .connects()
        .settles(*PRESENCES)
        .clears("invite"),
        Scene("pressed without a link", "Connecting 1, 2")
        .does("disconnected")
        .does("send", **there)
        .at(3)
        .connects()
        .settles(*PRESENCES)
        .says(Invite(InviteState.RINGING, MINE, 1, ttl=57_000)),
    ]
