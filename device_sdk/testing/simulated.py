"""Engines joined without a network, and the time by hand."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from ..client.link.base import Will
from ..core.admission import Screen
from ..core.effects import (
    Aborted,
    Accept,
    Cancel,
    Connected,
    DeadlineReached,
    Disconnected,
    Dropped,
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
    Watch,
)
from ..core.engine import Engine
from ..core.events import CallEvent, CoreEvent
from ..core.settings import Settings
from ..core.wire import codec, topics
from ..core.wire.cells import AnswerReason, Offer
from ..core.wire.talk_cells import decode_message, encode_message
from ..states import EndReason
from .memory import ManualClock, MemoryBroker, MemorySession


class SimulatedPeer:
    """One engine on a :class:`Network`, with what it told and what it wants done."""

    def __init__(
        self,
        network: Network,
        name: str,
        settings: Settings | None,
        screen: Screen | None,
        *,
        talk: bool = False,
    ) -> None:
        self.network = network
        self.name = name
        self.events: list[CoreEvent] = []
        self.notes: list[Ready | SubscriptionDenied | Aborted | Finished | Dropped] = []
        self._settings = settings
        self._screen = screen
        self._talk = talk
        self._session: MemorySession | None = None
        self.inbox: deque[Input] = deque()
        self.engine = self._new_engine()

    def _new_engine(self) -> Engine:
        return Engine(
            self.name,
            self.network.random.randbytes(8),
            realm=self.network.realm,
            settings=self._settings,
            screen=self._screen,
            talk=self._talk,
        )

    # --- the link --------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether it has a connection."""
        return self._session is not None

    def connect(self) -> None:
        """Connect to the broker, as a transport would."""
        if self._session is None and not self.engine.closed:
            self.inbox.clear()
            will = Will(*self.engine.will())
            self._session = MemorySession(
                will.client_id,
                lambda t, p, r: self.inbox.append(MessageReceived(t, p, r)),
                self._kicked,
                will,
            )
            self.network.broker.connect(self._session)
            self.feed(Connected(wall=None))

    def disconnect(self, *, clean: bool = False) -> None:
        """Lose the connection; ``clean``: in due form, without the will."""
        session, self._session = self._session, None
        if session is not None:
            close = self.network.broker.disconnect if clean else self.network.broker.drop
            close(session)
            self.inbox.clear()
            self.feed(Disconnected())

    def restart(self) -> None:
        """Kill the process and start it again: a new epoch that knows nothing."""
        session, self._session = self._session, None
        if session is not None:
            self.network.broker.drop(session)
        self.inbox.clear()
        self.events.clear()
        self.notes.clear()
        self.engine = self._new_engine()
        self.connect()

    def _kicked(self) -> None:
        self._session = None
        self.inbox.clear()
        self.feed(Disconnected())

    # --- the app ---------------------------------------------------------------------------

    def send(self, callee: str, content: Any = None, **more: Any) -> str:
        """Invite ``callee``; gives the call id."""
        call_id = topics.call_id_from_bytes(self.network.random.randbytes(16))
        body = None if content is None else codec.encode_body(content)
        offer = {name: more.pop(name) for name in Offer._fields if name in more}
        self.feed(Send(call_id, callee, Offer(body, **offer), **more))
        return call_id

    def cancel(self, callee: str, call_id: str) -> None:
        """Cancel a call."""
        self.feed(Cancel(callee, call_id))

    def accept(self, caller: str, call_id: str, response: Any = None) -> None:
        """Accept what rings."""
        body = None if response is None else codec.encode_body(response)
        self.feed(Accept(caller, call_id, body))

    def refuse(
        self, caller: str, call_id: str, reason: AnswerReason = AnswerReason.DECLINED
    ) -> None:
        """Refuse what rings."""
        self.feed(Refuse(caller, call_id, None, reason))

    def say(self, peer: str, call_id: str, message: Any) -> None:
        """Say something in a call that goes on, whoever made it."""
        data = encode_message(message)
        self.feed(SayMessage(peer, call_id, self._made(peer, call_id), data))

    def hang_up(self, peer: str, call_id: str, reason: EndReason = EndReason.HUNG_UP) -> None:
        """End a call that goes on, whoever made it."""
        self.feed(HangUp(peer, call_id, self._made(peer, call_id), reason))

    def heard(self) -> list[Any]:
        """What was said to it in calls that go on, oldest first."""
        events = (event for event in self.events if isinstance(event, CallEvent))
        return [decode_message(e.message) for e in events if e.message is not None]

    def _made(self, peer: str, call_id: str) -> bool:
        return (peer, call_id) in self.engine.caller.calls

    def watch(self, peer: str) -> None:
        """Be told of a peer's presence."""
        self.feed(Watch(peer))

    def logout(self) -> None:
        """Log out."""
        self.feed(Logout())

    def told(self, name: str) -> list[CoreEvent]:
        """The events of that name so far, oldest first."""
        return [event for event in self.events if event.name == name]

    # --- feed, perform, re-arm -------------------------------------------------------------

    def feed(self, what: Input) -> None:
        """Let the engine handle one input and do what it says."""
        try:
            self.engine.handle(what, self.network.clock())
        finally:
            self.perform()

    def perform(self) -> None:
        """Do what the engine says."""
        broker = self.network.broker
        for effect in self.engine.effects():
            session = self._session
            match effect:
                case Emit(event):
                    self.events.append(event)
                case Publish(topic, payload, token) if session is not None:
                    broker.publish(topic, payload)
                    if token is not None:
                        self.inbox.append(PublishAcked(token))
                case Subscribe(filters) if session is not None:
                    broker.subscribe(session, filters)
                    self.inbox.append(Subscribed(granted=filters))
                case Unsubscribe(filters) if session is not None:
                    broker.unsubscribe(session, filters)
                case Aborted() | Finished():
                    self.notes.append(effect)
                    self.disconnect(clean=True)
                case Ready() | SubscriptionDenied() | Dropped():
                    self.notes.append(effect)
                case _:
                    pass


class Network:
    """Engines around one broker and one clock, everything in the order it was caused."""

    def __init__(self, *, seed: int = 0, realm: str = topics.DEFAULT_REALM) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.clock = ManualClock()
        self.broker = MemoryBroker()
        self.realm = realm
        self.peers: dict[str, SimulatedPeer] = {}

    def peer(
        self,
        name: str,
        *,
        settings: Settings | None = None,
        screen: Screen | None = None,
        talk: bool = False,
        connect: bool = True,
    ) -> SimulatedPeer:
        """Add a peer, connected unless told otherwise; ``talk``: its accepted calls may go on."""
        peer = self.peers[name] = SimulatedPeer(self, name, settings, screen, talk=talk)
        if connect:
            peer.connect()
        return peer

    def run(self) -> None:
        """Deliver messages until none is underway."""
        while True:
            busy = [peer for peer in self.peers.values() if peer.inbox]
            if not busy:
                return
            for peer in busy:
                if peer.inbox:
                    peer.feed(peer.inbox.popleft())

    def advance(self, seconds: float) -> None:
        """Let time pass, every deadline at its time and every message at once."""
        end = self.clock.now + seconds
        self.run()
        while True:
            due = [(d, p) for p in self.peers.values() if (d := p.engine.deadline()) is not None]
            if not due or min(d for d, _ in due) > end:
                break
            at, peer = min(due, key=lambda pair: pair[0])
            self.clock.now = max(self.clock.now, at)
            peer.feed(DeadlineReached())
            self.run()
        self.clock.now = end
