"""A scene of the vectors: what happens to one peer, in the order that it happens, and its player.

What the peer does then is the engine's, looked through by hand when it changes.
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
from device_sdk.core.wire import codec, reasons, topics
from device_sdk.core.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    Cell,
    Invite,
    InviteState,
    Offer,
    Presence,
)
from device_sdk.errors import InvitationApiCallError, TooManyMessages

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


def ended(reason: int) -> Invite:
    """The caller has ended its call."""
    return Invite(InviteState.ENDED, THEIRS, 2, content=CONTENT, reason=reason)


def answered(state: str, **more: Any) -> Answer:
    """The callee's first answer."""
    return Answer(AnswerState[state], THEIRS, 1)._replace(**more)


RECEIVED, SEEN = answered("RECEIVED"), answered("SEEN")
SAYS_YES = answered("ACCEPTED", response=RESPONSE)
REFUSED, LOST = answered("REFUSED", reason=2), answered("FAILED", reason=4)
CANCEL, LOGOUT = {"callee": PEER, "call_id": CALL}, {"caller": PEER, "call_id": CALL}
ONLINE, OFFLINE = Presence(True, THEIRS), Presence(False, THEIRS)


def rings(name: str, rules: str) -> Scene:
    """A call from a peer of whom nothing is known yet: it rings once its presence is read."""
    return Scene(name, rules).hears(RINGING).hears(Presence(True, THEIRS), retained=True)


def calls(name: str, rules: str) -> Scene:
    """A call to a peer that rings."""
    return Scene(name, rules).sends(content=CONTENT).hears(RECEIVED)
