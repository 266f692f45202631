"""Random words from the wire, the app, the link and the clock against one engine with tiny bounds.

``python -m tests.fuzz.engine_wire [--inputs 1000000] [--seed 0]``. Its memory holds 3 calls of each
kind, so that every bound is met all the time. Nothing may raise but what is illegal for the app,
and no bound may be passed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from device_sdk.core import callee_steps, caller_side, side
from device_sdk.core.admission import Held
from device_sdk.core.callee import Phase as CalleePhase
from device_sdk.core.caller import UNDECIDED, CallerCall
from device_sdk.core.effects import (
    Accept,
    Cancel,
    Connected,
    DeadlineReached,
    Disconnected,
    Emit,
    HangUp,
    Input,
    Logout,
    MessageReceived,
    PolicyVerdict,
    Publish,
    PublishAcked,
    Refuse,
    SayMessage,
    Send,
    Subscribe,
    Subscribed,
    Unwatch,
    Watch,
)
from device_sdk.core.engine import Engine
from device_sdk.core.events import CallEvent, Name
from device_sdk.core.settings import Settings
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import (
    Answer,
    AnswerReason,
    AnswerState,
    Invite,
    InviteState,
    Offer,
    Presence,
    Said,
)
from device_sdk.core.wire.talk_cells import encode_message
from device_sdk.errors import InvitationApiCallError, TooManyMessages
from device_sdk.states import EndReason

CAP = 3
SETTINGS = Settings(
    ring_timeout=4, ack_timeout=3, accept_timeout=2, missed_call_ttl=20, dedup_window=10,
    resend_first=1, resend_max=2, probe_interval=1, caller_lost_grace=1, ring_slack=1,
    presence_linger=5, startup_timeout=1, talk_limit=6, peer_lost_grace=1, link_lost_grace=2,
    max_calls_per_caller=CAP, max_calls=CAP,
)  # fmt: skip
ME, PEERS = "me", ("door", "kitchen", "shed", "gate", "attic")
IDS = tuple(topics.call_id_from_bytes(bytes([i]) * 16) for i in range(12))
EPOCHS = (b"epoch--1", b"epoch--2", b"epoch-me")


@contextmanager
def tiny() -> Iterator[None]:
    """While inside, engines that are made hold next to nothing."""
    with ExitStack() as stack:
        for module in (caller_side, callee_steps, side):
            stack.enter_context(patch.object(module, "MAX_KEPT", CAP))
        stack.enter_context(patch.object(side, "MAX_REMEMBERED", CAP))
        yield


class Fuzz:
    """One engine after the other; what it publishes comes back, is acknowledged, or is not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0  # a call that was sent is known by its time
        self.lives = 0
        self.talks: Counter[Name] = Counter()
        self._begin()

    def _begin(self) -> None:
        self.lives += 1
        self.can_talk = self.random.random() < 0.5
        self.engine = Engine(
            ME, EPOCHS[2], settings=SETTINGS, screen=self._screen, talk=self.can_talk
        )
        self.up = False
        self.tokens: list[int] = []
        self.echoes: list[MessageReceived] = []
        self.filters: list[str] = []
        self.mine = 0
        self.talking: set[tuple[bool, str, str]] = set()

    def _screen(self, *_about: object) -> AnswerReason | Held | None:
        return self.random.choice((None, None, Held.HELD, AnswerReason.BUSY))

    def step(self) -> None:
        """One input, and what must hold after it."""
        pick = self.random
        if self.engine.closed or pick.random() < 0.0005:
            self._begin()
        what = self._input()
        if isinstance(what, Send):
            self.mine += 1
        try:
            self.engine.handle(what, self.now)
        except InvitationApiCallError:
            assert isinstance(what, Send | Cancel | Accept | Refuse | SayMessage | HangUp), what
        except TooManyMessages:
            assert isinstance(what, SayMessage), what
        for effect in self.engine.effects():
            if isinstance(effect, Publish):
                assert self.up, f"published without a link: {effect}"
                if effect.token is not None:
                    self.tokens.append(effect.token)
                self.echoes.append(MessageReceived(effect.topic, effect.payload))
            elif isinstance(effect, Emit) and isinstance(effect.event, CallEvent):
                self._told_talk(effect.event, what)
            elif isinstance(effect, Subscribe):
                self.filters += effect.filters
        del self.echoes[:-20], self.filters[:-40]
        self._check(what)

    def _told_talk(self, event: CallEvent, what: Input) -> None:
        """Of a call that goes on: that it began, its messages, then one end."""
        about = (isinstance(event.call, CallerCall), *event.call.key)
        self.talks[event.name] += 1
        if event.name is Name.CALL_STARTED:
            assert about not in self.talking, what
            self.talking.add(about)
        else:
            assert about in self.talking, (event.name, what)
        if event.name is Name.CALL_ENDED:
            self.talking.remove(about)

    def _input(self) -> Input:
        pick = self.random
        dice = pick.random()
        if dice < 0.01:
            self.up = not self.up
            self.tokens.clear()
            return Connected() if self.up else Disconnected()
        if dice < 0.10:
            at = self.engine.deadline()
            self.now = max(self.now, at if at is not None else self.now + 1)
            return DeadlineReached()
        if dice < 0.13:
            self.now += pick.choice((0.0, 0.01, 0.3, 5.0))
            return DeadlineReached()
        if not self.up:
            return self._command()
        if dice < 0.35 and self.tokens:
            return PublishAcked(self.tokens.pop(pick.randrange(len(self.tokens))))
        if dice < 0.40 and self.filters:
            some = tuple(pick.sample(self.filters, min(3, len(self.filters))))
            own = [f for f in some if "presence" not in f or f"/{ME}/" in f]
            refused = () if own or pick.random() < 0.5 else some
            return Subscribed(granted=() if refused else some, refused=refused)
        if dice < 0.45 and self.echoes:
            return pick.choice(self.echoes)
        return self._command() if dice < 0.55 else self._message()

    def _command(self) -> Input:
        pick = self.random
        peer, call = self._about()
        body = pick.choice((None, b"\x01", codec.encode_body("x" * 3000)))
        made = pick.random() < 0.5
        return pick.choice((
            SayMessage(peer, call, made, encode_message(pick.choice((1, {"text": "x" * 3000})))),
            HangUp(peer, call, made, pick.choice((EndReason.HUNG_UP, EndReason.TIME_UP))),
            Send(call, peer, Offer(body, group=pick.choice((None, b"g" * 16)))), Cancel(peer, call),
            Accept(peer, call, body), Refuse(peer, call, body), Watch(peer), Unwatch(peer),
            PolicyVerdict(*(self.engine.callee.admission.asked or (peer, call)),
                          pick.choice((None, AnswerReason.BUSY))),
            Logout() if pick.random() < 0.01 else DeadlineReached(),
        ))  # fmt: skip

    def _message(self) -> Input:
        pick = self.random
        retained = pick.random() < 0.3
        peer, call = self._about()
        epoch = pick.choice(EPOCHS)
        if pick.random() < 0.2:
            about = pick.choice((*PEERS, ME)) if pick.random() < 0.3 else peer
            if about == ME:
                return MessageReceived(
                    topics.presence("sig", ME),
                    codec.encode(Presence(pick.random() < 0.97, EPOCHS[2])), retained,
                )  # fmt: skip
            payload = codec.encode(Presence(pick.random() < 0.6, epoch))
            return MessageReceived(topics.presence("sig", about), payload, retained)
        kind: topics.Kind = pick.choice(("invite", "answer"))
        owner, writer = (ME, peer) if pick.random() < 0.9 else (peer, ME)
        topic = topics.cell("sig", kind, owner, writer, call)
        dice = pick.random()
        if dice < 0.15:
            return MessageReceived(topic, b"", retained)
        if dice < 0.20:
            return MessageReceived(topic, pick.randbytes(pick.randrange(40)), retained)
        reason = pick.choice((None, *range(12), 99))
        talk = None if pick.random() < 0.3 else self._said()
        cell: Invite | Answer
        if kind == "invite":
            state = pick.choice(tuple(InviteState))
            ttl = pick.choice((0, 1, 4000)) if state is InviteState.RINGING else None
            cell = Invite(state, epoch, pick.randrange(9), ttl, pick.choice((None, b"\x01")),
                          reason=reason, group=pick.choice((None, b"g" * 16)),
                          asker=pick.choice((None, EPOCHS[2])), talk=talk)  # fmt: skip
        else:
            cell = Answer(pick.choice(tuple(AnswerState)), epoch, pick.randrange(9), None,
                          reason, pick.random() < 0.3, talk=talk)  # fmt: skip
        payload = codec.encode(cell)
        if dice < 0.24:
            cut = pick.randrange(len(payload))
            payload = payload[:cut] + pick.randbytes(1) + payload[cut + 1 :]
        return MessageReceived(topic, payload, retained)

    def _about(self) -> tuple[str, str]:
        """Any call; where they may go on often one that is there, else few would ever begin."""
        pick = self.random
        there = [*self.engine.caller.calls, *self.engine.callee.calls]
        if self.can_talk and there and pick.random() < 0.6:
            return pick.choice(there)
        return pick.choice(PEERS), pick.choice(IDS)

    def _said(self) -> Said:
        """What a cell says of a call that goes on: any numbers, that fit together or not."""
        pick = self.random
        messages = tuple(encode_message(n) for n in range(pick.choice((0, 0, 1, 2, 64))))
        count = len(messages) + pick.choice((0, 0, 1, 2, 2**40))
        return Said(count, pick.choice((None, 0, 0, 1, 2, 3, 2**40)), messages)

    def _check(self, what: Input) -> None:
        caller, callee = self.engine.caller, self.engine.callee
        context = self.engine._context
        # Calls of this app's are its own to bound: those it made, those it answered.
        theirs = [c for c in caller.calls.values() if c.previous_login or not c.sent_at]
        assert len(theirs) <= CAP, (what, theirs)
        assert sum(c.phase in UNDECIDED for c in caller.calls.values()) <= self.mine, what
        open_calls = [c for c in callee.calls.values() if c.phase is not CalleePhase.OVER]
        assert sum(callee.admission.live.values()) <= CAP, what
        # Those that were found come on top of those that are asked about.
        assert sum(callee.admission.probed.values()) <= 2 * CAP, what
        assert len(open_calls) <= len(PEERS) * len(IDS), what
        assert len(caller.remembered) <= CAP, what
        assert len(callee.remembered) <= CAP, what
        assert len(context.watches.known) <= len(PEERS), what
        at = self.engine.deadline()
        assert at is None or at == at, what


def run(inputs: int, seed: int) -> Fuzz:
    """So many inputs; raises at the first that is wrong, with the seed in it."""
    with tiny():
        fuzz = Fuzz(seed)
        for number in range(inputs):
            try:
                fuzz.step()
            except Exception as error:
                error.add_note(f"seed {seed}, input {number}")
                raise
    return fuzz


def main() -> int:
    """Run until the inputs are used up."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.engine_wire", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began, done, each = time.perf_counter(), 0, 10_000
    while done < args.inputs:
        run(min(each, args.inputs - done), args.seed + done)
        done += each
    print(f"{args.inputs:,} inputs, nothing raised, no bound passed; "
          f"{time.perf_counter() - began:.0f} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
