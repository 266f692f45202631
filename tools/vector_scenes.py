"""The scenes of docs/vectors/calls.json: what happens to one peer, in the order that it happens.

Each scene is written against docs/protocol.md; what the peer does then is the engine's, looked
through by hand when it changes. ``make_vectors.py`` writes them down.
"""

from __future__ import annotations

from typing import Any, Self

from device_sdk.core.callee import CalleeCall
from device_sdk.core.effects import (
    Aborted,
    Accept,
    Cancel,
    Connected,
    DeadlineReached,
    Disconnected,
    Effect,
    Emit,
    Finished,
    HangUp,
    Input,
    Logout,
    MessageReceived,
    Publish,
    PublishAcked,
    Ready,
    Refuse,
    SayMessage,
    Send,
    Subscribe,
    Subscribed,
    SubscriptionDenied,
    Unsubscribe,
    Unwatch,
    Watch,
)
from device_sdk.core.engine import Engine
from device_sdk.core.events import (
    CallEvent,
    LocalEvent,
    Name,
    PeerLost,
    PresenceChanged,
    RemoteEvent,
)
from device_sdk.core.settings import Settings
from device_sdk.errors import InvitationApiCallError, TooManyMessages
from device_sdk.wire import codec, reasons, topics
from device_sdk.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    Cell,
    Invite,
    InviteState,
    Offer,
    Presence,
)

ME, PEER = "me", "kitchen.1"
MINE, THEIRS, FORMER, NEWER = b"epoch-me", b"epochyou", b"former-e", b"newer-ep"
CALL, SECOND = (topics.call_id_from_bytes(bytes((n,)) * 16) for n in (1, 2))
GROUP = bytes(range(16))
CONTENT, RESPONSE = codec.encode_body("somebody is here"), codec.encode_body("hello")


def means(topic: str, payload: bytes) -> dict[str, Any] | None:
    """A cell in words, for people; None for a cleared one."""
    if not payload:
        return None
    parsed = topics.parse("sig", topic)
    cell: Cell
    if isinstance(parsed, topics.PresenceTopic):
        cell = codec.decode_presence(payload)
        said: dict[str, Any] = {"presence": "online" if cell.online else "offline"}
        said |= {"time": cell.time} if cell.time is not None else {}
        said |= {k: v for k in ("ask", "generation", "age") if (v := getattr(cell, k))}
    elif parsed is not None and parsed.kind == "invite":
        cell = codec.decode_invite(payload)
        said = {"invite": cell.state.name.lower(), "seq": cell.seq}
        said |= {
            k: v
            for k in ("ttl", "channel", "reason", "time")
            if (v := getattr(cell, k)) is not None
        }
        said |= {
            k: v.hex() for k in ("content", "group", "asker") if (v := getattr(cell, k)) is not None
        }
    else:
        cell = codec.decode_answer(payload)
        said = {"answer": cell.state.name.lower(), "seq": cell.seq}
        said |= {"reason": cell.reason} if cell.reason is not None else {}
        said |= {"response": cell.response.hex()} if cell.response is not None else {}
        said |= {"ask": True} if cell.ask else {}
    return said | _of_a_talk(cell) | {"epoch": cell.epoch.hex()}


def _of_a_talk(cell: Cell) -> dict[str, Any]:
    if isinstance(cell, Presence) or cell.talk is None:
        return {}
    count, got, messages = cell.talk
    said: dict[str, Any] = {"talk": 1} | ({"count": count} if count else {})
    said |= {"got": got} if got is not None else {}
    return said | ({"messages": [m.hex() for m in messages]} if messages else {})


def _event(event: object) -> dict[str, Any]:
    if isinstance(event, PresenceChanged):
        return {"event": event.name.value, "peer": event.peer, "online": event.online}
    if isinstance(event, CallEvent):
        told = {"event": event.name.value, "peer": event.call.key[0], "call_id": event.call.call_id}
        told |= {"message": event.message.hex()} if event.message is not None else {}
        return told | ({"reason": event.reason.value} if event.reason else {})
    assert isinstance(event, LocalEvent | RemoteEvent | PeerLost)  # noqa: S101 - all that are left
    call = event.call
    out = {"event": event.name.value, "peer": call.key[0], "call_id": call.call_id}
    out |= {"state": call.state.name, "error": call.error.name}
    reason = event.reason if isinstance(event, PeerLost) else call.reason
    out |= {"reason": reason.value} if reason else {}
    shown: dict[str, bytes | str | None] = {}
    if event.name in (Name.REMOTE_RECEIVED, Name.MISSED_CALL):
        shown = {"content": call.offer.content, "channel": call.offer.channel}
    elif event.name in (Name.LOCAL_ACCEPTED, Name.LOCAL_REFUSED):
        shown = {"response": call.response}
    return out | {k: v.hex() if isinstance(v, bytes) else v for k, v in shown.items() if v}


class Player:
    """One engine and its clock, fed with a scene's inputs in their written form.

    ``setup``: the scene's ``settings``, where they are not the protocol's, its ``policy``, and
    ``talk``, if this peer can stay in a call.
    """

    def __init__(self, setup: dict[str, Any] | None = None) -> None:
        given = setup or {}
        policy = given.get("policy")

        def screen(_call: CalleeCall, open_calls: int) -> AnswerReason | None:
            return AnswerReason(policy["reason"]) if open_calls >= policy["open"] else None

        settings = Settings(**given.get("settings", {}))
        self.engine = Engine(
            ME,
            MINE,
            settings=settings,
            screen=screen if policy else None,
            talk=given.get("talk", False),
        )
        self.now = 0.0
        self._tokens: list[int] = []

    def play(self, at: float, what: dict[str, Any]) -> list[dict[str, Any]]:
        """Let time pass to ``at``, then ``what`` happen; all that the peer does meanwhile."""
        out: list[dict[str, Any]] = []
        while (due := self.engine.deadline()) is not None and due <= at:
            out += self._feed(DeadlineReached(), max(due, self.now))
        self.now = at
        for given in self._inputs(what):
            try:
                out += self._feed(given, at)
            except (InvitationApiCallError, TooManyMessages):
                if not isinstance(given, SayMessage | HangUp):
                    raise
                out.append({"at": at, "raises": True})
        return out

    def _inputs(self, what: dict[str, Any]) -> list[Input]:
        ((kind, detail),) = what.items()
        body = {
            k: bytes.fromhex(v) for k, v in detail.items() if k in ("content", "response", "group")
        }
        match kind:
            case "time":
                return []
            case "connected":
                return [Connected(detail.get("wall"))]
            case "disconnected":
                self._tokens.clear()
                return [Disconnected()]
            case "subscribed":
                return [Subscribed(tuple(detail["filters"]), tuple(detail.get("refused", ())))]
            case "message":
                payload = bytes.fromhex(detail["payload"])
                return [MessageReceived(detail["topic"], payload, detail["retained"])]
            case "acked":
                first = detail.get("first", len(self._tokens))
                tokens, self._tokens = self._tokens[:first], self._tokens[first:]
                return [PublishAcked(token) for token in tokens]
            case "send":
                said = {"time" if k == "wall" else k: v for k, v in (detail | body).items()}
                offer = Offer(**{k: said.pop(k) for k in Offer._fields if k in said})
                return [Send(offer=offer, **said)]
            case "cancel":
                return [Cancel(**detail)]
            case "accept":
                return [Accept(**(detail | body))]
            case "refuse":
                return [Refuse(**(detail | body))]
            case "say":
                return [SayMessage(**(detail | {"message": bytes.fromhex(detail["message"])}))]
            case "hang_up":
                word = {"reason": reasons.over(detail["reason"])} if "reason" in detail else {}
                return [HangUp(**(detail | word))]
            case "watch":
                return [Watch(**detail)]
            case "unwatch":
                return [Unwatch(**detail)]
            case "logout":
                return [Logout()]
        raise ValueError(kind)

    def _feed(self, what: Input, now: float) -> list[dict[str, Any]]:
        self.engine.handle(what, now)
        return [
            {"at": now} | said for effect in self.engine.effects() if (said := self._said(effect))
        ]

    def _said(self, effect: Effect) -> dict[str, Any] | None:
        match effect:
            case Publish(topic, payload, token):
                self._tokens += [token] if token is not None else []
                return {"publish": topic, "payload": payload.hex(), "means": means(topic, payload)}
            case Subscribe(filters):
                return {"subscribe": list(filters)}
            case Unsubscribe(filters):
                return {"unsubscribe": list(filters)}
            case Emit(event):
                return {"tell": _event(event)}
            case SubscriptionDenied():
                return {"note": "denied"}
            case Ready() | Aborted() | Finished():
                return {"note": type(effect).__name__.lower()}
        return None  # what is only for the log


class Scene:
    """Writes down what happens, and with it what the peer does."""

    def __init__(
        self, name: str, rules: str, *, connected: bool = True, setup: dict[str, Any] | None = None
    ) -> None:
        self.name, self.rules, self.setup = name, rules, setup
        self.steps: list[dict[str, Any]] = []
        self._player = Player(setup)
        self._at = 0.0
        if connected:
            self.does("connected").hears_own_presence()

    @property
    def written(self) -> dict[str, Any]:
        """As it stands in calls.json."""
        setup = {"setup": self.setup} if self.setup else {}
        return {"name": self.name, "rules": self.rules} | setup | {"steps": self.steps}

    def does(self, kind: str, **detail: Any) -> Self:
        """Something happens now."""
        what = {kind: {k: v.hex() if isinstance(v, bytes) else v for k, v in detail.items()}}
        self.steps.append({"at": self._at, "do": what, "out": self._player.play(self._at, what)})
        return self

    def at(self, seconds: float) -> Self:
        """Time passes; what it makes the peer do is written down."""
        self._at = seconds
        return self.does("time")

    def hears(
        self,
        cell: Cell | None,
        *,
        kind: topics.Kind = "invite",
        call: str = CALL,
        retained: bool = False,
        mine: bool = False,
    ) -> Self:
        """A cell comes in, of the peer's or (``mine``) of a previous login of this one."""
        if isinstance(cell, Presence):
            topic = topics.presence("sig", ME if mine else PEER)
        else:
            kind = kind if cell is None else "invite" if isinstance(cell, Invite) else "answer"
            owner, writer = (PEER, ME) if mine else (ME, PEER)
            topic = topics.cell("sig", kind, owner, writer, call)
        payload = b"" if cell is None else codec.encode(cell)
        return self.does("message", topic=topic, payload=payload, retained=retained)

    def granted(self) -> Self:
        """The broker has the subscriptions of a later connection."""
        return self.does(
            "subscribed", filters=[topics.presence("sig", ME), *topics.inbox("sig", ME)]
        )

    def watches_then_not(self, peer: str) -> Self:
        """The app watches a peer, for a moment."""
        return self.does("watch", peer=peer).does("unwatch", peer=peer)

    def comes_back(self) -> Self:
        """A later connection, on which nothing stands in the way."""
        mine = Presence(True, MINE)
        return self.does("connected").hears(mine, mine=True, retained=True).granted()

    def hears_own_presence(self) -> Self:
        """The echo that settles a first connection."""
        return self.hears(Presence(True, MINE), mine=True)

    def sends(self, call: str = CALL, **more: Any) -> Self:
        """The app calls."""
        return self.does("send", call_id=call, callee=PEER, **more)


RINGING = Invite(InviteState.RINGING, THEIRS, 1, ttl=60_000, content=CONTENT)
ACCEPTED = Invite(InviteState.ACCEPTED, THEIRS, 2)


def _ended(reason: int) -> Invite:
    return Invite(InviteState.ENDED, THEIRS, 2, content=CONTENT, reason=reason)


def _answer(state: str, **more: Any) -> Answer:
    return Answer(AnswerState[state], THEIRS, 1)._replace(**more)


RECEIVED, SEEN = _answer("RECEIVED"), _answer("SEEN")
SAYS_YES = _answer("ACCEPTED", response=RESPONSE)
REFUSED, LOST = _answer("REFUSED", reason=2), _answer("FAILED", reason=4)
CANCEL, LOGOUT = {"callee": PEER, "call_id": CALL}, {"caller": PEER, "call_id": CALL}
ONLINE, OFFLINE = Presence(True, THEIRS), Presence(False, THEIRS)


def _rings(name: str, rules: str) -> Scene:
    """A call from a peer of whom nothing is known yet: it rings once its presence is read."""
    return Scene(name, rules).hears(RINGING).hears(Presence(True, THEIRS), retained=True)


def _calls(name: str, rules: str) -> Scene:
    return Scene(name, rules).sends(content=CONTENT).hears(RECEIVED)


def scenes() -> list[Scene]:
    """Every scene, caller's first."""
    inbox = list(topics.inbox("sig", ME))
    presence = [topics.presence("sig", PEER)]
    answer, here = LOGOUT, {"caller": PEER, "call_id": CALL}
    group = Scene("caller: a ring group, one winner", "Caller 3").sends(group=GROUP)
    group.does("send", call_id=SECOND, callee="hall", group=GROUP).hears(SAYS_YES).does("acked")
    lingering = Scene("33 presences linger", "Connecting 4")
    for number in range(34):
        lingering.watches_then_not(f"peer{number}")
    return [
        *further_scenes(),
        lingering.at(1),
        Scene("connecting for the first time", "Connecting 1, 2").does("subscribed", filters=inbox),
        Scene("connecting, no echo comes", "Connecting 2", connected=False).does("connected").at(2),
        Scene("connecting, no echo comes before it breaks", "Connecting 3", connected=False)
        .does("connected")
        .at(2)
        .does("disconnected")
        .at(3)
        .does("connected")
        .hears(_answer("SEEN", epoch=FORMER, seq=3), mine=True, retained=True)
        .hears_own_presence(),
        _calls("reconnecting says everything again", "Connecting 3")
        .hears(RINGING, call=SECOND)
        .does("acked")
        .does("disconnected")
        .at(5)
        .comes_back(),
        # the caller
        _calls("caller: accepted", "Caller 1, 2, 3, 5").hears(SAYS_YES).hears(SEEN).does("acked"),
        _calls("caller: refused", "Caller 3, 5").hears(REFUSED).does("acked"),
        _calls("caller: failed by the callee", "Caller 3").hears(_answer("FAILED", reason=5)),
        _calls("caller: cancel", "Caller 3, 5, 9")
        .does("cancel", **CANCEL)
        .does("acked")
        .hears(SEEN),
        _calls("caller: cancel without a link", "Caller 9")
        .does("acked")
        .does("disconnected")
        .does("cancel", **CANCEL)
        .at(3)
        .comes_back(),
        _calls("caller: accept crosses cancel", "Caller 3")
        .does("cancel", **CANCEL)
        .hears(SAYS_YES)
        .does("acked")
        .hears(SEEN),
        _calls("caller: nobody acts", "Caller 3").at(60),
        Scene("caller: nobody there", "Caller 3, 4")
        .sends()
        .does("subscribed", filters=presence)
        .at(30)
        .at(600)
        .hears(ONLINE)
        .hears(SEEN),
        Scene("caller: there but silent", "Caller 3, 4")
        .sends()
        .does("subscribed", filters=presence)
        .hears(ONLINE, retained=True)
        .at(30),
        Scene("caller: no link when the time is over", "Caller 3")
        .sends()
        .hears(OFFLINE)
        .does("acked")
        .does("disconnected")
        .at(30),
        _calls("caller: a cell that the broker does not take", "Not taken 1, 2, 3, 4")
        .hears(RINGING, call=SECOND)
        .does("disconnected")
        .at(1)
        .comes_back()
        .does("acked")
        .does("acked")
        .does("disconnected")
        .at(2)
        .comes_back()
        .does("acked")
        .does("disconnected")
        .at(3)
        .comes_back()
        .does("acked"),
        _rings("callee: a response that the broker does not take", "Not taken 5")
        .does("acked")
        .does("accept", response=RESPONSE, **here)
        .does("disconnected")
        .comes_back()
        .does("acked")
        .does("disconnected")
        .comes_back()
        .does("acked")
        .does("disconnected")
        .comes_back()
        .does("acked"),
        Scene("caller: pressed without a link", "Caller 3")
        .does("disconnected")
        .sends()
        .at(35)
        .comes_back()
        .at(60),
        _calls("caller: a decision is said until it is seen", "Caller 4")
        .hears(SAYS_YES)
        .at(31)
        .hears(SEEN),
        _calls("caller: a decision waits for a callee that is away", "Caller 4")
        .hears(OFFLINE)
        .does("cancel", **CANCEL)
        .at(100)
        .hears(Presence(True, NEWER))
        .at(103),
        _calls("caller: asked whether it still rings", "Caller 6")
        .at(10)
        .hears(_answer("RECEIVED", ask=True)),
        _calls("caller: asked again, it says that it is there", "Caller 6")
        .hears(_answer("RECEIVED", ask=True))
        .hears(_answer("RECEIVED", ask=True)),
        _calls("caller: the peer is lost after accept", "Caller 5").hears(SAYS_YES).hears(LOST),
        Scene("caller: answers to an unknown call", "Caller 6")
        .hears(RECEIVED)
        .hears(SEEN, call=SECOND)
        .does("acked"),
        _calls("caller: a late answer to what was cleared", "Caller 6")
        .hears(REFUSED)
        .does("acked")
        .at(60)
        .hears(RECEIVED),
        Scene("caller: restarted while it rang", "Caller 7", connected=False)
        .does("connected")
        .hears(Invite(InviteState.RINGING, FORMER, 4, ttl=9000), mine=True, retained=True)
        .hears_own_presence()
        .hears(SEEN),
        group,
        _calls("caller: logs out", "Logging out")
        .does("logout")
        .does("acked")
        .hears(SEEN)
        .does("acked")
        .does("acked"),
        _calls("caller: logs out, and the callee is silent", "Logging out")
        .does("logout")
        .does("acked")
        .at(1)
        .does("acked"),
        # the callee
        _rings("callee: accept", "Callee 1, 3, 7")
        .does("accept", response=RESPONSE, **here)
        .hears(ACCEPTED)
        .hears(None)
        .does("acked"),
        _rings("callee: refuse", "Callee 4, 7")
        .does("refuse", reason=3, **here)
        .hears(None)
        .does("acked"),
        _rings("callee: canceled", "Callee 5, 7").hears(_ended(1)).hears(None),
        _rings("callee: answered elsewhere", "Callee 5").hears(_ended(2)),
        _rings("callee: the caller lets it expire", "Callee 5").at(60).hears(_ended(3)),
        _rings("callee: the caller restarted", "Callee 5").hears(_ended(6)),
        _rings("callee: expires by itself", "Callee 6").at(62),
        _rings("callee: accept crosses cancel", "Callee 3").does("accept", **here).hears(_ended(1)),
        _rings("callee: accept is not heard", "Callee 3").does("accept", **here).at(5),
        _rings("callee: the invite is cleared", "Callee 5").hears(None).does("acked"),
        _rings("callee: duplicates", "Callee 2").hears(RINGING).at(1).hears(RINGING),
        Scene("callee: missed while away", "Callee 5")
        .hears(_ended(1), retained=True)
        .hears(_ended(1))
        .hears(None)
        .does("acked"),
        Scene("callee: answered elsewhere while away", "Callee 5").hears(_ended(2), retained=True),
        Scene("callee: a retained invite of a live caller", "Callee 1")
        .hears(RINGING, retained=True)
        .hears(RINGING._replace(seq=2, ttl=50_000, asker=MINE)),
        Scene("callee: a bridge hands on what was asked about", "Callee 1")
        .hears(RINGING, retained=True)
        .hears(ONLINE, retained=True)
        .at(10)
        .hears(RINGING)
        .hears(OFFLINE)
        .at(20)
        .hears(RINGING._replace(asker=FORMER))
        .hears(_ended(6)),
        Scene("callee: granted before the presence of now is read", "Callee 1")
        .hears(RINGING)
        .hears(ONLINE, retained=True)
        .does("disconnected")
        .at(1)
        .comes_back()
        .does("subscribed", filters=[topics.presence("sig", PEER)])
        .hears(RINGING, call=SECOND)
        .hears(OFFLINE, retained=True),
        Scene("callee: a retained invite of a dead caller", "Callee 1")
        .hears(RINGING, retained=True)
        .hears(OFFLINE, retained=True)
        .at(70)
        .hears(Presence(True, NEWER))
        .hears(_ended(6)),
        _rings("callee: reconnects while it rings", "Callee 2")
        .does("acked")
        .does("disconnected")
        .at(5)
        .comes_back()
        .hears(RINGING, retained=True)
        .hears(RINGING._replace(ttl=55_000, asker=MINE))
        .at(62),
        _rings("callee: the caller goes offline", "Callee 6").hears(OFFLINE).at(10),
        _rings("callee: another epoch of the caller, not retained", "Callee 6")
        .hears(Presence(True, NEWER))
        .at(10),
        _rings("callee: another epoch of the caller, and its answer", "Callee 6")
        .hears(Presence(True, FORMER))
        .hears(RINGING._replace(ttl=59_000, asker=MINE))
        .hears(ONLINE)
        .at(1)
        .hears(RINGING._replace(ttl=58_000, asker=MINE))
        .at(61),
        _rings("callee: another epoch of the caller, and then its own", "Callee 6")
        .hears(Presence(True, FORMER))
        .at(2)
        .hears(ONLINE)
        .at(10),
        _rings("callee: another epoch of the caller, and its end", "Callee 6")
        .hears(Presence(True, NEWER))
        .hears(_ended(6)._replace(epoch=NEWER)),
        _rings("callee: another epoch of the caller while the accept is underway", "Callee 6")
        .does("accept", **here)
        .hears(Presence(True, NEWER))
        .at(5),
        _rings("callee: another epoch of the caller, retained", "Callee 6")
        .hears(Presence(True, NEWER), retained=True)
        .at(10),
        Scene("callee: accepted that nobody waits for", "Callee 5").hears(ACCEPTED, retained=True),
        Scene("callee: restarted while it rang", "Callee 8", connected=False)
        .does("connected")
        .hears(_answer("RECEIVED", epoch=FORMER, seq=3), mine=True, retained=True)
        .hears_own_presence()
        .hears(RINGING, retained=True)
        .hears(RINGING._replace(asker=MINE)),
        Scene("callee: restarted after accepting", "Callee 8", connected=False)
        .does("connected")
        .hears(_answer("ACCEPTED", epoch=FORMER, seq=3), mine=True, retained=True)
        .hears_own_presence()
        .hears(ACCEPTED, retained=True),
        Scene("callee: restarted after a refusal", "Callee 8", connected=False)
        .does("connected")
        .hears(_answer("REFUSED", epoch=FORMER, seq=3, reason=2), mine=True, retained=True)
        .hears_own_presence()
        .hears(RINGING, retained=True)
        .hears(None)
        .does("acked"),
        _rings("callee: a late copy cannot ring", "Callee 7")
        .does("refuse", **answer)
        .hears(None)
        .does("acked")
        .at(60)
        .hears(RINGING, retained=True)
        .hears(None),
        _rings("callee: a late copy is answered, if not at once", "Callee 2, 7")
        .hears(RINGING)
        .hears(RINGING)
        .hears(RINGING)
        .does("refuse", **answer)
        .hears(None)
        .does("acked")
        .hears(RINGING)
        .at(3),
        _rings("callee: logs out while it rings", "Logging out").does("logout").does("acked"),
        _rings("callee: logs out after accept", "Logging out")
        .does("accept", **here)
        .does("logout")
        .hears(None)
        .does("acked")
        .does("acked"),
        # presence and newer logins
        Scene("watching a peer", "Connecting 4")
        .does("watch", peer=PEER)
        .hears(ONLINE, retained=True)
        .hears(OFFLINE)
        .hears(Presence(True, NEWER)),
        _calls("newer login: online", "Newer logins 4").hears(
            Presence(True, NEWER, generation=1), mine=True
        ),
        Scene("newer login: a previous login was online", "Newer logins 2", connected=False)
        .does("connected")
        .hears(Presence(True, FORMER, generation=4), mine=True, retained=True)
        .hears_own_presence()
        .hears(Presence(True, FORMER, generation=4), mine=True),
        Scene("newer login: an older one that was not known", "Newer logins 5")
        .at(1)
        .hears(Presence(True, FORMER, generation=4, age=9000), mine=True),
        Scene("newer login: a late will of a previous login", "Newer logins 2", connected=False)
        .does("connected")
        .hears(Presence(True, FORMER), mine=True, retained=True)
        .hears_own_presence()
        .hears(Presence(False, FORMER), mine=True),
        Scene("newer login: wills prove nothing", "Newer logins 3")
        .does("disconnected")
        .at(1)
        .comes_back()
        .hears(Presence(False, NEWER), mine=True)
        .does("disconnected")
        .at(2)
        .does("connected")
        .hears(Presence(False, NEWER), mine=True, retained=True)
        .granted(),
        Scene("newer login: it came while this one was away", "Newer logins 4")
        .does("disconnected")
        .at(1)
        .does("connected")
        .hears(Presence(True, NEWER, generation=1), mine=True, retained=True),
        Scene("newer login: is it alive? it is", "Newer logins 6")
        .does("disconnected")
        .at(1)
        .does("connected")
        .hears(Presence(True, FORMER), mine=True, retained=True)
        .granted()
        .hears(Presence(True, FORMER, generation=1), mine=True),
        Scene("newer login: is it alive? nobody answers", "Newer logins 6")
        .does("disconnected")
        .at(1)
        .does("connected")
        .hears(Presence(True, b"also-old"), mine=True, retained=True)
        .granted()
        .at(3),
    ]


def _cut(scene: Scene, at: float) -> Scene:
    """The connection breaks with all unacknowledged, and the next trial is on."""
    return scene.does("disconnected").at(at).comes_back().does("acked")


def further_scenes() -> list[Scene]:
    """What the first ones leave open: sentence by sentence."""
    here, call = {"caller": PEER, "call_id": CALL}, {"callee": PEER, "call_id": CALL}
    asks = _answer("RECEIVED", ask=True)
    long, short = (codec.encode_body("x" * n) for n in (510, 509))
    most = 2**53 - 1
    third = topics.call_id_from_bytes(b"\x03" * 16)

    def first(name: str, rules: str) -> Scene:
        return Scene(name, rules, connected=False).does("connected")

    def asks_if_alive(name: str) -> Scene:
        return (
            Scene(name, "Newer logins 6")
            .does("disconnected")
            .at(1)
            .does("connected")
            .hears(Presence(True, b"also-old"), mine=True, retained=True)
            .granted()
        )

    aside = _calls("caller: accepted, and the broker does not take it", "Not taken 4")
    aside.does("acked").hears(SAYS_YES)
    for at in (1, 2, 3):
        _cut(aside, at)
    aside.hears(SEEN)
    lifted = Scene("caller: set aside, and answered after all, twice", "Not taken 3, 4").sends()
    for at in (1, 2, 3):
        _cut(lifted, at)
    lifted.hears(RECEIVED)
    for at in (4, 5, 6):
        _cut(lifted, at)
    lifted.hears(RECEIVED)
    unanswerable = _rings("callee: an answer that the broker does not take", "Not taken 5")
    for at in (1, 2, 3):
        _cut(unanswerable, at)
    unanswerable.hears(RINGING).hears(None)
    ignored = _rings("callee: what it cannot answer does not ring again", "Not taken 5")
    for at in (1, 2, 3):
        _cut(ignored, at)
    ignored.hears(RINGING).hears(ONLINE, retained=True).at(62)
    silent = _rings("callee: an accept that the broker does not take", "Not taken 5")
    silent.does("acked").does("accept", **here)
    for at in (1, 2, 3):
        _cut(silent, at)
    silent.hears(ACCEPTED)
    wordy = _rings("callee: a refusal that the broker does not take", "Not taken 5")
    wordy.does("acked").does("refuse", response=RESPONSE, **here)
    for at in (1, 2, 3, 4, 5):
        _cut(wordy, at)
    again = Scene("a break without a trial begins the count anew", "Not taken 2").sends()
    _cut(_cut(again, 1), 2).does("disconnected").at(3).comes_back().does("disconnected")
    _cut(_cut(again.at(4).comes_back().does("acked"), 5), 6)
    busy = Scene("a trial with presence unacknowledged is none", "Not taken 2").sends()
    for at in (1, 2, 3):
        _cut(busy, at).hears(OFFLINE._replace(epoch=NEWER), mine=True)
    full = Scene("callee: over its cap of one caller", "Callee 9").does("watch", peer=PEER)
    full.hears(ONLINE, retained=True)
    for number in range(10):
        ids = topics.call_id_from_bytes(bytes((9, number)) * 8)
        full.hears(RINGING._replace(content=None), call=ids)
    asked = Scene("callee: asked calls leave room for live ones", "Callee 9")
    for number in range(9):
        ids = topics.call_id_from_bytes(bytes((9, number)) * 8)
        asked.hears(RINGING._replace(content=None, epoch=FORMER), call=ids, retained=True)
    asked.hears(ONLINE, retained=True).hears(RINGING)
    few, two = ({"settings": {"max_calls_per_caller": n}} for n in (1, 2))
    return [
        # which answers carry the response
        _rings("callee: a response stays in what accept leads to", "Cells, Callee 3")
        .does("accept", response=RESPONSE, **here)
        .at(5)
        .hears(_ended(1)),
        _rings("callee: seen after an end carries no response", "Cells, Callee 7")
        .does("accept", response=RESPONSE, **here)
        .hears(_ended(1)),
        # seq
        first("caller: a found cell with the largest seq", "Cells, Caller 7")
        .hears(Invite(InviteState.RINGING, FORMER, most, ttl=9000), mine=True, retained=True)
        .hears_own_presence()
        .at(2),
        first("callee: a found answer with the largest seq", "Cells, Callee 8")
        .hears(_answer("REFUSED", epoch=FORMER, seq=most, reason=2), mine=True, retained=True)
        .hears_own_presence()
        .at(2),
        # time
        Scene("caller: a decision comes before what is said again at that moment", "Caller 3, 4")
        .sends(ack_timeout=14)
        .does("subscribed", filters=[topics.presence("sig", PEER)])
        .hears(ONLINE, retained=True)
        .at(14)
        .at(16),
        _calls("caller: a missed call is cleared after a day", "Caller 8")
        .hears(OFFLINE)
        .does("cancel", **CANCEL)
        .does("acked")
        .at(3_601)
        .at(86_399)
        .at(86_400)
        .does("acked"),
        Scene("callee: asked in vain", "Callee 1", setup={"settings": {"missed_call_ttl": 5}})
        .hears(RINGING, retained=True)
        .at(5)
        .at(7)
        .hears(None),
        Scene(
            "callee: a final answer that nobody sees",
            "Callee 7",
            setup={"settings": {"missed_call_ttl": 5}},
        )
        .hears(_ended(1))
        .at(5)
        .does("acked")
        .hears(_ended(1)),
        Scene("caller: a day and no longer", "Caller 8", setup={"settings": {"missed_call_ttl": 5}})
        .sends()
        .hears(SAYS_YES)
        .at(5)
        .does("acked"),
        # asking
        _calls("caller: asked while it clears", "Caller 6").hears(REFUSED).hears(asks).hears(asks),
        _calls("caller: what answered an ask answers none later", "Caller 6")
        .hears(asks)
        .does("acked")
        .does("disconnected")
        .at(1)
        .comes_back(),
        _calls("caller: asked too often", "Caller 6")
        .hears(asks)
        .hears(asks)
        .hears(asks)
        .at(0.5)
        .hears(asks)
        .at(1)
        .hears(asks)
        .hears(asks)
        .at(5)
        .hears(asks),
        _calls("caller: a callee that comes and goes", "Caller 6")
        .hears(OFFLINE)
        .does("cancel", **CANCEL)
        .hears(ONLINE)
        .hears(OFFLINE)
        .hears(ONLINE)
        .hears(OFFLINE)
        .hears(ONLINE)
        .at(4),
        _calls("caller: accepted twice", "Caller 4").hears(SAYS_YES).hears(SAYS_YES).at(2),
        Scene("callee: a ttl of 0 does not ring", "Callee 1")
        .does("watch", peer=PEER)
        .hears(ONLINE, retained=True)
        .hears(RINGING._replace(ttl=0))
        .hears(RINGING._replace(ttl=0, asker=MINE))
        .hears(RINGING._replace(ttl=0, asker=MINE))
        .at(1),
        # cleared before an end
        Scene("callee: asked about, and cleared", "Callee 5")
        .hears(RINGING, retained=True)
        .hears(None)
        .does("acked")
        .at(60)
        .hears(RINGING),
        _rings("callee: cleared while it rings, and a late copy", "Callee 5")
        .hears(None)
        .hears(RINGING)
        .at(2)
        .hears(None)
        .does("acked"),
        # the order of a cell
        _rings("callee: a ringing after an end", "Cells, Callee 7")
        .hears(_ended(1))
        .hears(RINGING)
        .hears(ACCEPTED),
        # presence
        Scene("presence: what is known outlives a break", "Connecting 4, Caller 4")
        .sends()
        .hears(OFFLINE)
        .does("disconnected")
        .at(1)
        .comes_back()
        .hears(ONLINE, retained=True),
        Scene("presence: online as before the break is no coming", "Caller 4")
        .sends()
        .hears(ONLINE)
        .does("disconnected")
        .at(1)
        .comes_back()
        .hears(ONLINE, retained=True),
        Scene("presence: absent, once granted", "Caller 3, 10")
        .sends()
        .at(0.5)
        .does("subscribed", filters=[topics.presence("sig", PEER)])
        .at(1.5)
        .at(30),
        _rings("presence: ten minutes from the end of a call", "Connecting 4")
        .hears(_ended(1))
        .at(2)
        .hears(None)
        .does("acked")
        .at(600),
        _calls("presence: ten minutes from the clear of an invite", "Connecting 4")
        .at(1)
        .hears(REFUSED)
        .at(3)
        .does("acked")
        .at(601),
        Scene("presence: refused, so who lingers longest gives its place", "Connecting 4")
        .watches_then_not("attic")
        .at(1)
        .watches_then_not("cellar")
        .sends()
        .does("subscribed", filters=[], refused=[topics.presence("sig", PEER)]),
        Scene("presence: told what is known", "Connecting 4")
        .does("watch", peer=PEER)
        .hears(ONLINE, retained=True)
        .does("unwatch", peer=PEER)
        .does("watch", peer=PEER)
        .hears(ONLINE),
        Scene("presence: an hour later it is given up", "Connecting 4")
        .watches_then_not(PEER)
        .at(599)
        .at(600),
        _rings("callee: the epoch is that of the last copy", "Callee 6")
        .hears(RINGING._replace(epoch=NEWER, asker=MINE))
        .hears(Presence(False, THEIRS))
        .hears(Presence(False, NEWER))
        .at(10),
        Scene("callee: the content of a later copy", "Callee 1")
        .hears(RINGING._replace(channel="front"), retained=True)
        .hears(RINGING._replace(content=RESPONSE, asker=MINE)),
        first("connecting: an empty presence before the echo", "Newer logins 3")
        .does("message", topic=topics.presence("sig", ME), payload=b"", retained=False)
        .hears_own_presence(),
        Scene("connecting: a filter is refused", "Connecting 4").does(
            "subscribed", filters=[], refused=[topics.inbox("sig", ME)[0]]
        ),
        first("connecting: what I said myself is not found", "Connecting 1")
        .hears(Invite(InviteState.RINGING, MINE, 1, ttl=9000), mine=True, retained=True)
        .hears_own_presence(),
        # the caller's presence comes and goes
        _rings("callee: its caller comes and goes in a moment", "Callee 6")
        .hears(OFFLINE)
        .hears(ONLINE)
        .hears(OFFLINE)
        .hears(ONLINE)
        .at(3),
        # found
        Scene("caller: found late", "Connecting 2, Caller 7")
        .hears(Invite(InviteState.RINGING, FORMER, 4, ttl=9000), mine=True, retained=True)
        .at(1)
        .at(3),
        Scene("callee: found late", "Connecting 2, Callee 8")
        .hears(_answer("FAILED", epoch=FORMER, seq=3, reason=4), mine=True, retained=True)
        .at(1),
        first("found: reasons that are unknown", "Caller 7, Callee 8")
        .hears(
            Invite(InviteState.ENDED, FORMER, 4, reason=77, content=CONTENT),
            mine=True,
            retained=True,
        )
        .hears(_answer("FAILED", epoch=FORMER, reason=99), call=SECOND, mine=True, retained=True)
        .hears_own_presence(),
        # without a link
        _rings("callee: accepted without a link", "Callee 3")
        .does("acked")
        .does("disconnected")
        .does("accept", **here)
        .at(5)
        .at(6)
        .comes_back(),
        _rings("callee: accepted without a link, and back in time", "Callee 3")
        .does("acked")
        .does("disconnected")
        .does("accept", **here)
        .at(2)
        .comes_back()
        .hears(ACCEPTED),
        Scene("callee: not flagged, but on a connection that broke", "Callee 1")
        .hears(RINGING)
        .does("disconnected")
        .at(0.5)
        .comes_back()
        .hears(ONLINE, retained=True),
        _calls("caller: the link breaks before the cancel is acknowledged", "Caller 9")
        .does("cancel", **call)
        .does("disconnected"),
        _calls("caller: a cancel that is not acknowledged", "Caller 9")
        .does("cancel", **call)
        .at(2),
        # content
        Scene("caller: a content of 512 bytes is said again", "Not taken")
        .sends(content=short)
        .does("cancel", **call)
        .at(2),
        Scene("caller: one of 513 bytes is not", "Not taken")
        .sends(content=long)
        .does("cancel", **call)
        .at(2),
        # newer logins
        _rings("newer login: what it tells of calls", "Newer logins 1")
        .sends(SECOND)
        .hears(RINGING, call=third)
        .does("accept", **here)
        .hears(Presence(True, NEWER, generation=1), mine=True),
        first("newer login: the largest generation", "Newer logins 2")
        .hears(Presence(True, b"also-old", generation=most), mine=True, retained=True)
        .hears_own_presence(),
        Scene("newer login: my own will, my own question", "Newer logins 3, 6")
        .hears(Presence(False, MINE), mine=True)
        .hears(Presence(False, MINE, ask=True), mine=True),
        Scene("newer login: equal in age it is not older", "Newer logins 1, 5")
        .at(1)
        .hears(Presence(True, NEWER, age=1000), mine=True),
        asks_if_alive("newer login: is it alive? a will proves nothing").hears(
            Presence(False, NEWER), mine=True
        ),
        asks_if_alive("newer login: is it alive? an older one that ends")
        .hears(Presence(True, b"also-old"), mine=True)
        .at(3),
        first("newer login: two breaks before the echo", "Newer logins 2")
        .does("disconnected")
        .at(1)
        .does("connected")
        .hears(Presence(True, NEWER, generation=3), mine=True, retained=True)
        .does("disconnected")
        .at(2)
        .does("connected")
        .hears(Presence(True, NEWER, generation=3), mine=True, retained=True)
        .hears(Presence(True, MINE, generation=4), mine=True),
        # policies and caps
        Scene("callee: a policy says busy", "Callee 9", setup={"policy": {"open": 1, "reason": 2}})
        .does("watch", peer=PEER)
        .hears(ONLINE, retained=True)
        .hears(RINGING)
        .hears(RINGING, call=SECOND)
        .hears(RINGING, call=third, retained=True),
        Scene("callee: do not disturb", "Callee 9", setup={"policy": {"open": 0, "reason": 3}})
        .hears(RINGING)
        .hears(ONLINE, retained=True)
        .hears(RINGING, call=SECOND, retained=True)
        .hears(RINGING._replace(asker=MINE), call=SECOND),
        full,
        asked,
        Scene("callee: asked, and over the cap once live", "Callee 9", setup=few)
        .hears(RINGING, retained=True)
        .hears(ONLINE, retained=True)
        .hears(RINGING, call=SECOND)
        .hears(RINGING._replace(asker=MINE)),
        Scene("callee: asked, and over the cap once its caller is read", "Callee 9", setup=two)
        .hears(RINGING)
        .hears(RINGING, call=SECOND)
        .hears(RINGING._replace(asker=MINE), call=SECOND)
        .hears(RINGING, call=third)
        .hears(RINGING._replace(asker=MINE), call=third)
        .hears(ONLINE, retained=True),
        # logging out
        _rings("callee: logs out, its caller is away", "Logging out")
        .does("refuse", **here)
        .hears(OFFLINE)
        .does("logout")
        .does("acked"),
        Scene("caller: logs out before the link is back", "Logging out")
        .does("disconnected")
        .sends()
        .does("logout"),
        _calls("caller: logs out, the callee is away", "Logging out")
        .hears(OFFLINE)
        .does("logout")
        .does("acked"),
        _rings("callee: logs out, and what comes meanwhile", "Logging out")
        .does("accept", **here)
        .does("logout")
        .hears(RINGING, call=SECOND)
        .hears(Presence(True, b"also-old"), mine=True)
        .at(1)
        .does("acked"),
        _calls("newer login: while this one logs out", "Newer logins 1, Logging out")
        .does("logout")
        .hears(Presence(True, NEWER), mine=True),
        # not taken
        aside,
        lifted,
        unanswerable,
        ignored,
        silent,
        wordy,
        again,
        busy,
    ]
