"""The scenes of docs/vectors/talk.json: calls that go on (docs/protocol.md, Talk), rule by rule.

They are of a profile of their own: a peer that ends its calls with *accepted* leaves them out.
"""

from __future__ import annotations

from typing import Any, Final, Self

from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Presence, Said
from device_sdk.core.wire.talk_cells import MAX_MESSAGE, MAX_MESSAGES, encode_message
from tools.scene_player import (
    ACCEPTED,
    CALL,
    CONTENT,
    FORMER,
    GROUP,
    ME,
    NEWER,
    OFFLINE,
    ONLINE,
    PEER,
    RECEIVED,
    RESPONSE,
    RINGING,
    SAYS_YES,
    SECOND,
    SEEN,
    THEIRS,
    Scene,
)

TALK: Final = {"talk": True}
OPEN, DONE, TEXT = (encode_message(m) for m in ({"do": "open"}, {"done": "open"}, "hello"))
RINGS, STAYS = RINGING._replace(talk=Said()), SAYS_YES._replace(talk=Said())
HUNG_UP, LOST, RESTARTED, TIME_UP, LOGGED_OUT = range(7, 12)


def decides(count: int = 0, got: int | None = None, *messages: bytes, seq: int = 2) -> Invite:
    """The caller's *accepted* with talk, with what it says there."""
    return Invite(InviteState.ACCEPTED, THEIRS, seq, talk=Said(count, got, messages))


def talking(count: int = 0, got: int | None = 0, *messages: bytes) -> Answer:
    """The callee's *talking*."""
    return Answer(AnswerState.TALKING, THEIRS, 3, talk=Said(count, got, messages))


def caller_over(*messages: bytes, count: int = 0, reason: int | None = HUNG_UP) -> Invite:
    """The caller's *over*."""
    count = count or len(messages)
    return Invite(InviteState.OVER, THEIRS, 4, reason=reason, talk=Said(count, 0, messages))


def callee_over(*messages: bytes, count: int = 0, reason: int | None = HUNG_UP) -> Answer:
    """The callee's *over*."""
    count = count or len(messages)
    return Answer(AnswerState.OVER, THEIRS, 4, reason=reason, talk=Said(count, 0, messages))


class TalkScene(Scene):
    """A scene in which this peer's app speaks in a call, of its own or of the other's making."""

    made = True

    def says(self, *messages: bytes) -> Self:
        """The app says something."""
        for message in messages:
            self.does("say", peer=PEER, call_id=CALL, made=self.made, message=message)
        return self

    def hangs_up(self, **more: Any) -> Self:
        """The app ends the call."""
        self.does("hang_up", peer=PEER, call_id=CALL, made=self.made, **more)
        return self


def _setup(settings: dict[str, Any]) -> dict[str, Any]:
    return TALK | ({"settings": settings} if settings else {})


def made(name: str, rules: str, **settings: Any) -> TalkScene:
    """This peer calls one that is there, and both can stay; it is about to be accepted."""
    scene = TalkScene(f"caller: {name}", rules, setup=_setup(settings))
    scene.sends(content=CONTENT).hears(ONLINE, retained=True).hears(RECEIVED)
    return scene


def called(name: str, rules: str, *, rings: Invite = RINGS, **settings: Any) -> TalkScene:
    """A call of one that is there rings here, and both can stay."""
    scene = TalkScene(f"callee: {name}", rules, setup=_setup(settings))
    scene.made = False
    scene.hears(rings).hears(ONLINE, retained=True)
    return scene


def up(name: str, rules: str, **settings: Any) -> TalkScene:
    """A call that this peer made goes on, and both know it."""
    scene = made(name, rules, **settings)
    scene.hears(STAYS).hears(talking())
    return scene


def taken(name: str, rules: str, **settings: Any) -> TalkScene:
    """A call that this peer accepted goes on, and both know it."""
    scene = called(name, rules, **settings)
    scene.does("accept", caller=PEER, call_id=CALL, response=RESPONSE).hears(decides())
    return scene


def both(name: str, rules: str, **settings: Any) -> tuple[TalkScene, TalkScene]:
    """A call that goes on, from either side."""
    return up(name, rules, **settings), taken(name, rules, **settings)


def _says(scene: TalkScene, count: int = 0, got: int | None = 0, *messages: bytes) -> TalkScene:
    """The other's cell, as it is said in such a call."""
    scene.hears(talking(count, got, *messages) if scene.made else decides(count, got, *messages))
    return scene


def scenes() -> list[Scene]:
    """Every scene."""
    return [*_beginning(), *_messages(), *_ends(), *_who_is_gone(), *_other_lives()]


def _beginning() -> list[Scene]:
    """Talk 1 and 2: who says it, when it is up."""
    here = {"caller": PEER, "call_id": CALL}
    group = TalkScene("caller: in a ring group only the winner's goes on", "Talk 1", setup=TALK)
    group.sends(group=GROUP).does("send", call_id=SECOND, callee="hall", group=GROUP)
    waits = made("the callee never says talking", "Talk 2").hears(STAYS)
    for at in (2, 6, 14, 29.75, 30, 32):
        waits.at(at)
    deaf = made("no talking, and its callee is away", "Talk 2, Caller 4").hears(STAYS)
    again = taken("the decision is said again", "Talk 4").hears(decides()).hears(decides())
    again.hears(decides()).at(1).hears(decides(seq=3))
    plain = Scene("caller: cannot stay, and the callee says that it could", "Talk 1")
    small = Scene("callee: cannot stay, and the caller could", "Talk 1")
    refuses = Scene("callee: cannot stay, and the caller says that it goes on", "Talk 1")
    other = called("talk of a later addition is none", "Cells, Talk 1")
    offered = cell_with(codec.encode(RINGING), b"\x0b\x02")
    return [
        made("both can stay", "Talk 1, 2").hears(STAYS).hears(talking()).at(60),
        taken("both can stay", "Talk 1, 2").at(60),
        made("the callee cannot stay", "Talk 1").hears(SAYS_YES).hears(SEEN).does("acked"),
        plain.sends().hears(STAYS).hears(SEEN).does("acked"),
        small.hears(RINGS).hears(ONLINE, retained=True).does("accept", **here).hears(ACCEPTED),
        refuses.hears(RINGS).hears(ONLINE, retained=True).does("accept", **here).hears(decides()),
        called("the caller cannot stay", "Talk 1", rings=RINGING)
        .does("accept", **here)
        .hears(ACCEPTED),
        called("the caller could not, and says that it goes on", "Talk 1", rings=RINGING)
        .does("accept", **here)
        .hears(decides()),
        called("both could, and the decision is without it", "Talk 1")
        .does("accept", **here)
        .hears(ACCEPTED),
        other.does("message", topic=_topic(SECOND), payload=offered, retained=False)
        .does("accept", caller=PEER, call_id=SECOND)
        .does("accept", **here),
        group.hears(STAYS).hears(talking()),
        waits,
        deaf.hears(OFFLINE).at(30),
        made("no talking, and the callee is online again", "Talk 2, Caller 4")
        .hears(STAYS)
        .hears(OFFLINE)
        .at(3)
        .hears(ONLINE)
        .at(4)
        .hears(talking())
        .at(40),
        made("accepted is repeated after the decision", "Talk 2, 4").hears(STAYS).hears(STAYS),
        made("talking of another login than accepted", "Talk 2")
        .hears(STAYS)
        .hears(talking(1, 0, OPEN)._replace(epoch=NEWER))
        .hears(talking()),
        called("a decision of another login than rang", "Talk 2")
        .does("accept", **here)
        .hears(decides()._replace(epoch=NEWER))
        .hears(decides(1, 0, OPEN)),
        again,
        made("talking before anything was accepted", "Talk 9").hears(talking()),
        made("what is canceled does not go on", "Talk 1, Caller 3")
        .does("cancel", callee=PEER, call_id=CALL)
        .hears(STAYS)
        .hears(talking())
        .hears(SEEN),
    ]


def cell_with(cell: bytes, pair: bytes) -> bytes:
    """A cell with one pair more behind it."""
    return bytes((cell[0] + 1,)) + cell[1:] + pair


def _topic(call: str) -> str:
    return topics.cell("sig", "invite", ME, PEER, call)


def _messages() -> list[Scene]:
    """Talk 3 to 5: the register."""
    found: list[Scene] = []
    half, whole = bytes(5_000), bytes(MAX_MESSAGE - 3)
    big, most = encode_message(half), encode_message(whole)
    for scene in both("a message there and one back", "Talk 3, 4"):
        _says(scene.says(OPEN), 0, 1)
        found.append(_says(scene, 1, 1, DONE).at(40))
    for scene in both("three at once, acknowledged one by one", "Talk 3, 4"):
        scene.says(OPEN, DONE, TEXT)
        found.append(_says(_says(_says(scene, 0, 1), 0, 2), 0, 3).at(40))
    for scene in both("each message once, however often it comes", "Talk 4"):
        for _ in range(4):
            _says(scene, 1, 0, OPEN)
        scene.at(1)
        found.append(_says(_says(scene, 1, 0, OPEN), 2, 0, OPEN, DONE))
    for scene in both("what comes after a gap is not handled", "Talk 4"):
        _says(_says(scene, 2, 0, DONE), 3, 0, DONE, TEXT)
        found.append(_says(_says(scene, 3, 0, OPEN, DONE, TEXT), 2, 0))
    found += [
        _says(_says(scene, 1, 0), 1, 0, OPEN)
        for scene in both("a count without messages is none", "Talk 4")
    ]
    for scene in both("got says nothing beyond what was said", "Talk 4"):
        _says(_says(scene.says(OPEN, DONE), 0, 3), 0, 1)
        found.append(_says(_says(scene, 0, 0), 0, 2).at(40))
    tight = up("what does not fit waits for room", "Talk 3, 4").says(big, big, TEXT)
    found.append(_says(_says(tight, 0, 1), 0, 3))
    found.append(_says(up("the largest message", "Talk 3").says(most, TEXT), 1, 1, most))
    full = taken("64 wait, one more is an error", "Talk 3")
    full.says(*(encode_message(n) for n in range(MAX_MESSAGES + 1)))
    _says(full, 0, 2).says(TEXT, OPEN, DONE)
    for scene in both("said again until it is acknowledged", "Talk 5"):
        scene.says(OPEN).at(2)
        scene.at(6)
        scene.at(7)
        scene.says(DONE).at(9)
        _says(scene.at(13), 0, 1)
        found.append(_says(scene.at(21), 0, 2).at(90))
    for scene in both("a resync says what is not acknowledged", "Talk 5"):
        scene.says(OPEN).does("acked").does("disconnected").at(3)
        scene.says(DONE).at(5).comes_back()
        found.append(_says(scene, 0, 2).at(20))
    for scene in both("both say something at once", "Talk 4"):
        scene.says(OPEN)
        found.append(_says(_says(scene, 1, 0, DONE), 1, 1).at(40))
    early = made("said before the callee is known to be there", "Talk 2, 3, 5").hears(STAYS)
    with_it = called("messages in the decision", "Talk 2, 4")
    asks = talking()._replace(ask=True)
    return [
        *found,
        full,
        early.says(OPEN).at(2).hears(talking()).at(4).hears(talking(0, 1)).at(40),
        with_it.does("accept", caller=PEER, call_id=CALL).hears(decides(2, None, OPEN, DONE)),
        up("its callee is away, so nothing is said again", "Talk 5")
        .says(OPEN)
        .hears(OFFLINE)
        .at(8)
        .hears(ONLINE)
        .at(12),
        up("talking asks", "Talk 4").hears(asks),
        *(_says(s, 2, 0, OPEN, b"\xf6") for s in both("null is a message", "Talk 3")),
    ]


def _ends() -> list[Scene]:
    """Talk 6: over."""
    found: list[Scene] = []
    big = encode_message(bytes(5_000))
    for word in (*range(7, 12), None, 3, 99):
        found.append(
            up(f"the callee ends it, reason {word}", "Talk 6").hears(callee_over(reason=word))
        )
        found.append(
            taken(f"the caller ends it, reason {word}", "Talk 6").hears(caller_over(reason=word))
        )
    for scene in both("the last word brings messages", "Talk 6"):
        _says(scene, 1, 0, OPEN)
        over = (callee_over if scene.made else caller_over)(OPEN, DONE)
        found.append(scene.hears(over).hears(over))
    for scene in both("the last word after a gap", "Talk 6"):
        over = (callee_over if scene.made else caller_over)(DONE, count=2)
        found.append(scene.hears(over))
    tight = taken("the last word carries what fits", "Talk 6").says(TEXT, big, big)
    found.append(tight.hangs_up())
    for scene in both("nothing is handled after one's own last word", "Talk 6"):
        scene.hangs_up()
        found.append(_says(scene, 1, 0, OPEN).at(6))
    found += [
        scene.hangs_up().says(TEXT).hangs_up()
        for scene in both("after the end nothing can be said", "Talk 6")
    ]
    refused = SAYS_YES._replace(state=AnswerState.REFUSED, reason=1)
    failed = Answer(AnswerState.FAILED, THEIRS, 4, reason=4)
    ended = Invite(InviteState.ENDED, NEWER, 4, reason=6)
    crossing = up("both hang up", "Talk 6").hangs_up()
    crossed = taken("both hang up", "Talk 6").hangs_up()
    meets = called("over meets one that waits for the decision", "Talk 6")
    late = called("over meets one that waits, with messages", "Talk 6")
    plain = called("over meets one that waits and could not stay", "Talk 6", rings=RINGING)
    accepts = {"caller": PEER, "call_id": CALL}
    return [
        *found,
        up("seen ends it", "Talk 6").hears(SEEN).does("acked").at(60),
        up("refused ends it", "Talk 6").hears(refused).does("acked").at(60),
        up("failed ends it", "Talk 6").hears(failed).does("acked"),
        taken("a later login's accepted ends it", "Talk 6").hears(ACCEPTED._replace(epoch=NEWER)),
        taken("a later login's end ends it", "Talk 6").hears(ended),
        taken("a cleared invite ends it", "Talk 6").hears(None).does("acked"),
        up("a cleared answer ends it", "Talk 6").hears(None, kind="answer").does("acked").at(60),
        made("a cleared answer before talking ends it", "Talk 6")
        .hears(STAYS)
        .hears(None, kind="answer"),
        made("a cleared answer of what rings says nothing", "Talk 6")
        .hears(None, kind="answer")
        .hears(STAYS),
        taken("what rings again changes nothing", "Talk 6, Cells").hears(RINGS).hears(RINGING),
        up("hangs up", "Talk 6, Caller 4, 5").hangs_up().at(2).at(6).hears(SEEN).does("acked"),
        up("hangs up, for a reason", "Talk 6").hangs_up(reason=TIME_UP).hears(SEEN),
        taken("hangs up", "Talk 6, Callee 7").hangs_up().at(2).at(6).hears(None).does("acked"),
        taken("its over is repeated when the caller says more", "Talk 6, Callee 7")
        .hangs_up()
        .hears(decides(1, 0, OPEN)),
        crossing.hears(callee_over(OPEN)).does("acked"),
        crossed.hears(caller_over(OPEN)).hears(None).does("acked"),
        meets.does("accept", **accepts).hears(caller_over()).hears(None),
        late.does("accept", **accepts).hears(caller_over(OPEN, DONE)),
        plain.does("accept", **accepts).hears(caller_over(OPEN)),
        up("an end that nobody sees", "Talk 6, Caller 8", missed_call_ttl=5).hangs_up().at(5),
        taken("an end that nobody sees", "Talk 6, Callee 7", missed_call_ttl=5).hangs_up().at(5),
    ]


def _who_is_gone() -> list[Scene]:
    """Talk 7."""
    found: list[Scene] = []
    newer, nobody = Presence(True, NEWER), topics.presence("sig", PEER)
    found += [
        scene.hears(OFFLINE).at(9.75).at(10).at(20)
        for scene in both("the other goes offline", "Talk 7")
    ]
    found += [
        scene.hears(OFFLINE).at(9).hears(ONLINE).at(60)
        for scene in both("the other is back in time", "Talk 7")
    ]
    found += [
        scene.hears(OFFLINE).at(5).hears(OFFLINE).at(10)
        for scene in both("offline again moves nothing", "Talk 7")
    ]
    found += [
        scene.hears(newer).at(10)
        for scene in both("another login of the other's is online", "Talk 7")
    ]
    found += [
        scene.hears(newer).at(5).hears(ONLINE).at(60)
        for scene in both("another login, and the other's own again", "Talk 7")
    ]
    found += [
        scene.hears(newer, retained=True).at(10)
        for scene in both("another login, retained", "Talk 7")
    ]
    found += [
        scene.hears(OFFLINE._replace(epoch=FORMER)).at(60)
        for scene in both("a late will of another login", "Talk 7")
    ]
    for scene in both("an empty presence", "Talk 7"):
        empty = {"topic": nobody, "payload": b"", "retained": False}
        found.append(scene.does("message", **empty).at(10).at(30))
    for scene in both("no presence on this connection", "Talk 7"):
        scene.does("disconnected").at(5).comes_back()
        found.append(scene.does("subscribed", filters=[nobody]).at(34).at(35))
    for scene in both("30 s without a link", "Talk 7"):
        scene.says(OPEN).does("disconnected").at(29.75).at(30)
        found.append(scene.at(31).comes_back().does("acked").at(33))
    for scene in both("29 s without a link", "Talk 7"):
        scene.does("disconnected").at(29)
        found.append(scene.comes_back().hears(ONLINE, retained=True).at(70))
    found += [scene.at(7_199).at(7_200) for scene in both("two hours", "Talk 7")]
    found += [scene.at(5) for scene in both("a limit of its own", "Talk 7", talk_limit=5)]
    for scene in both("logs out", "Talk 7, Logging out"):
        scene.says(OPEN).does("logout")
        scene.hears(SEEN) if scene.made else scene.hears(None)
        found.append(scene.does("acked").does("acked"))
    for scene in both("its cell is not taken", "Talk 7, Not taken"):
        scene.does("acked").says(OPEN)
        for at in (1, 2, 3):
            scene.does("disconnected").at(at).comes_back().does("acked")
        found.append(scene.at(4))
    for scene in both("its cell without messages is not taken", "Talk 7, Not taken"):
        for at in (1, 2, 3):
            scene.does("disconnected").at(at).comes_back().does("acked")
        found.append(scene.at(4))
    return found


def _other_lives() -> list[Scene]:
    """Talk 8 and 9: found at login, not known, of another login."""
    found: list[Scene] = []

    def first(name: str, rules: str) -> Scene:
        return Scene(name, rules, connected=False, setup=TALK).does("connected")

    def at_login(name: str, cell: Invite | Answer) -> Scene:
        cell = cell._replace(epoch=FORMER)  # type: ignore[union-attr]  # both have one
        return first(name, "Talk 8").hears(cell, mine=True, retained=True).hears_own_presence()

    def knows_nothing(name: str) -> Scene:
        return Scene(name, "Talk 9", setup=TALK)

    for scene in both("a cell of another login is not handled", "Talk 2"):
        cell = talking(1, 0, OPEN) if scene.made else decides(1, 0, OPEN)
        found.append(scene.hears(cell._replace(epoch=NEWER)).hears(cell))
    for scene in both("the last word of another login", "Talk 6"):
        over = callee_over(reason=RESTARTED) if scene.made else caller_over(reason=RESTARTED)
        found.append(scene.hears(over._replace(epoch=NEWER)))
    return [
        *found,
        at_login("caller: found, accepted with talk", decides(1, 0, OPEN)).at(2).hears(SEEN),
        at_login("caller: found, accepted without", ACCEPTED).at(2),
        at_login("caller: found, over", caller_over(OPEN, reason=LOST)).hears(SEEN),
        at_login("callee: found, talking", talking(1, 0, OPEN)).at(2).hears(None),
        at_login("callee: found, accepted with talk", STAYS).at(2),
        at_login("callee: found, over", callee_over(OPEN, reason=TIME_UP)).at(2),
        at_login("callee: found, over for an unknown reason", callee_over(reason=99)),
        at_login("callee: found, talking, and the caller says more", talking()).hears(
            decides(1, 0, OPEN)
        ),
        knows_nothing("caller: talking for a call that is not known")
        .hears(talking(1, 0, OPEN))
        .at(2)
        .hears(talking(1, 0, OPEN))
        .hears(SEEN)
        .does("acked"),
        knows_nothing("caller: over for a call that is not known").hears(callee_over(OPEN)),
        made("over for a call that rings", "Talk 9").hears(callee_over(OPEN)),
        made("over for a call that was accepted without talk", "Talk 9")
        .hears(SAYS_YES)
        .hears(callee_over(OPEN)),
        made("over for a call that was canceled", "Talk 9")
        .does("cancel", callee=PEER, call_id=CALL)
        .hears(callee_over(OPEN)),
        knows_nothing("callee: accepted with talk for a call that is not known").hears(
            decides(1, 0, OPEN)
        ),
        knows_nothing("callee: over for a call that is not known").hears(caller_over(OPEN)),
        called("accepted with talk, while it rings", "Talk 9").hears(decides(1, 0, OPEN)),
        called("over, while it rings", "Talk 9").hears(caller_over(OPEN)),
        knows_nothing("callee: over of a call that it asks about")
        .hears(RINGS, retained=True)
        .hears(caller_over(OPEN)),
        taken("a remembered call gets its answer again", "Talk 6, Callee 7")
        .hears(caller_over())
        .hears(None)
        .does("acked")
        .hears(caller_over(OPEN))
        .hears(decides(1, 0, OPEN)),
        up("a remembered call is cleared again", "Caller 6")
        .hears(callee_over())
        .does("acked")
        .hears(talking(1, 0, OPEN)),
        _newer(up("a newer login of its own", "Newer logins 1")),
        _newer(taken("a newer login of its own", "Newer logins 1")),
    ]


def _newer(scene: Scene) -> Scene:
    return scene.hears(Presence(True, NEWER, generation=1), mine=True)
