"""A cell at which the broker closes the connection: found out, set aside, its call alone ended."""

from __future__ import annotations

import pytest

from device_sdk.core.effects import (
    Accept,
    Cancel,
    Connected,
    DeadlineReached,
    Disconnected,
    Dropped,
    MessageReceived,
    Publish,
    PublishAcked,
    Refuse,
    Send,
    Subscribed,
)
from device_sdk.core.outbox import INVITE, Outbox
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import (
    Answer,
    AnswerState,
    Cell,
    Invite,
    InviteState,
    Offer,
    Presence,
)
from device_sdk.states import EndReason, LocalInvitationError
from tests.rig import CALL, MINE, OTHER, PEER, Rig, answer, ended, ringing

RECEIVED = answer(AnswerState.RECEIVED)


class Strict:
    """A broker that closes on some topics, or on large payloads, and acknowledges the rest."""

    def __init__(self, *, forbidden: tuple[str, ...] = (), largest: int = 1 << 20) -> None:
        self.rig = Rig(all_acks=True)
        self.forbidden, self.largest = forbidden, largest
        self.losses = 0
        self.took: list[tuple[str, Cell | None]] = []
        self.connect()

    def connect(self) -> None:
        """Connect; the subscriptions are granted, my presence is read, then its echo."""
        rig, me = self.rig, topics.presence("sig", self.rig.me)
        mine = codec.encode(Presence(True, MINE))
        first = not rig.engine.login.settled
        rig.feed(Connected())
        self.carry()
        if not first:
            self.do(MessageReceived(me, mine, True), Subscribed((me,)))
        self.do(MessageReceived(me, mine))

    def carry(self) -> None:
        """Take what was published, in order, until something is too much: then reconnect."""
        queue = list(zip(self.rig.effects, [None] * len(self.rig.effects), strict=True))
        while queue:
            effect, _ = queue.pop(0)
            if not isinstance(effect, Publish):
                continue
            if any(t in effect.topic for t in self.forbidden) or len(effect.payload) > self.largest:
                self.losses += 1
                assert self.losses < 40, "the link breaks for ever"
                self.rig.drop()
                self.rig.now += 0.1
                self.connect()
                return
            self.took.append((effect.topic, self._cell(effect)))
            self.rig.feed(PublishAcked(effect.token or 0))
            queue += [(e, None) for e in self.rig.effects]

    @staticmethod
    def _cell(effect: Publish) -> Cell | None:
        if not effect.payload or effect.topic.endswith("presence"):
            return None
        decode = codec.decode_invite if "/invite/" in effect.topic else codec.decode_answer
        return decode(effect.payload)

    def do(self, *what: object) -> None:
        for item in what:
            self.rig.feed(item)  # type: ignore[arg-type]  # inputs, all of them
            self.carry()

    def hears(self, cell: Invite | Answer | None, **more: object) -> None:
        self.rig.hear(cell, **more)  # type: ignore[arg-type]  # as Rig.hear takes them
        self.carry()

    def last(self, kind: str, call: str = CALL) -> Cell | None:
        return next(c for t, c in reversed(self.took) if f"/{kind}/" in t and t.endswith(call))


def test_a_forbidden_call_ends_and_the_link_lives() -> None:
    """Three breaks: at its first word, and at two trials; then its failure, with its reason."""
    broker = Strict(forbidden=("/kitchen/",))
    broker.do(Send(CALL, "kitchen"))
    event = broker.rig.events[-1]
    assert (broker.losses, broker.rig.told) == (3, ["local_invitation_failure"])
    assert (event.call.error, event.call.reason) == (  # type: ignore[union-attr]  # a local one
        LocalInvitationError.PEER_NO_RESPONSE, EndReason.NOT_ALLOWED,
    )  # fmt: skip
    broker.rig.until(5000)
    assert broker.losses == 3
    assert broker.rig.engine.stats.drops["set aside"] == 1


@pytest.mark.parametrize("legs", [("kitchen", "peer"), ("peer", "kitchen")])
def test_the_allowed_leg_of_a_group_rings_and_wins(legs: tuple[str, str]) -> None:
    """Whichever comes first; the forbidden one neither delays nor loses it."""
    broker = Strict(forbidden=("/kitchen/",))
    for call, callee in zip((CALL, OTHER), legs, strict=True):
        broker.rig.feed(Send(call, callee, Offer(group=b"g" * 16)))
    mine = CALL if legs[0] == PEER else OTHER
    # Both are on their way when the broker closes: neither is acknowledged.
    broker.losses += 1
    broker.rig.drop()
    broker.connect()
    assert broker.last("invite", mine) is not None
    broker.hears(answer(AnswerState.ACCEPTED), call=mine)
    assert broker.rig.told.count("local_invitation_accepted") == 1
    assert broker.last("invite", mine).state is InviteState.ACCEPTED  # type: ignore[union-attr]
    assert "local_invitation_peer_lost" not in broker.rig.told
    assert broker.losses <= 3


def test_the_likely_one_waits_for_the_others() -> None:
    """Brokers take in order: the first that was not acknowledged is tried last."""
    rig = Rig(all_acks=True).connect()
    for call in (CALL, OTHER):
        rig.feed(Send(call, PEER))
    rig.drop()
    rig.connect()
    assert [c for c in rig.said if isinstance(c, Invite)] == []
    rig.ack()
    assert [t for t, _ in rig.published] == [f"sig/v1/peer/invite/me/{OTHER}"]
    rig.ack()
    assert [t for t, _ in rig.published] == [f"sig/v1/peer/invite/me/{CALL}"]


def test_too_large_for_one_is_not_for_the_next() -> None:
    """A small call to the same peer, made while the large one is on trial, rings."""
    broker = Strict(largest=1000)
    broker.rig.feed(Send(CALL, PEER, Offer(codec.encode_body("x" * 4000))))
    broker.carry()
    broker.do(Send(OTHER, PEER, Offer(codec.encode_body("hello"))))
    broker.hears(RECEIVED, call=OTHER)
    assert broker.rig.told == ["local_invitation_failure", "local_invitation_received_by_peer"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_broker_that_restarts_costs_no_legal_call(times: int) -> None:
    """Its word was lost with the link, once or twice: it is said, and rings."""
    rig = Rig(all_acks=True).connect()
    rig.feed(Send(CALL, PEER))
    for _ in range(times):
        rig.drop()
        rig.connect()
        rig.ack()
    rig.ack()
    rig.hear(RECEIVED)
    assert rig.told == ["local_invitation_received_by_peer"]
    rig.drop()
    rig.connect()
    assert [c.state for c in rig.said if isinstance(c, Invite)] == [InviteState.RINGING]


def test_losses_that_are_not_in_a_row_do_not_count() -> None:
    """Between two trials a connection broke before it came to one."""
    rig = Rig(all_acks=True).connect()
    rig.feed(Send(CALL, PEER))
    for trial in (False, True, False, True, False, True):
        rig.drop()
        rig.connect()
        if trial:
            rig.ack()
    assert rig.told == []


def test_during_a_trial_nothing_else_is_said_and_then_all() -> None:
    """So that the break has one possible cause."""
    rig = Rig(all_acks=True).connect()
    rig.feed(Send(CALL, PEER))
    rig.drop()
    rig.connect()
    rig.ack()
    rig.feed(Send(OTHER, PEER))
    rig.hear(ringing(), peer="door")
    assert [e for e in rig.effects if isinstance(e, Publish)] == []
    assert rig.told == ["remote_invitation_received"]
    rig.ack()
    assert [type(c).__name__ for c in rig.said] == ["Invite", "Answer"]


def test_a_broker_that_says_nothing_ends_the_trial() -> None:
    """After 5 s all is said as ever."""
    rig = Rig(all_acks=True).connect()
    rig.feed(Send(CALL, PEER))
    rig.drop()
    rig.connect()
    rig.ack()
    rig.feed(Send(OTHER, PEER))
    said = rig.until(rig.now + 5)
    assert [at - 1000 for at, c in said if isinstance(c, Invite)][-1] == 5


def test_a_response_too_large_becomes_a_failure_that_the_caller_hears() -> None:
    """Tried once more without what it carried: the caller need not wait in vain."""
    broker = Strict(largest=500)
    broker.hears(ringing())
    broker.do(Accept(PEER, CALL, codec.encode_body("x" * 3000)))
    assert broker.rig.told[-1] == "remote_invitation_failure"
    said = broker.last("answer")
    assert isinstance(said, Answer)
    assert (said.state, said.response) == (AnswerState.FAILED, None)


def test_a_refusal_too_large_is_a_refusal_without_its_response() -> None:
    """Its word stands."""
    broker = Strict(largest=500)
    broker.hears(ringing())
    broker.do(Refuse(PEER, CALL, codec.encode_body("x" * 3000)))
    said = broker.last("answer")
    assert isinstance(said, Answer)
    assert (said.state, said.response) == (AnswerState.REFUSED, None)
    assert broker.rig.told[-1] == "remote_invitation_refused"


@pytest.mark.parametrize("when", ["rings", "accepting", "seen", "asked"])
def test_a_caller_that_may_not_be_answered_is_no_trouble(when: str) -> None:
    """It was removed: the panel's link lives on, whatever the call had come to; others ring."""
    broker = Strict()
    broker.hears(ringing(), retained=when == "asked")
    if when == "accepting":
        broker.do(Accept(PEER, CALL))
    broker.forbidden = ("/peer/answer/",)
    broker.hears(ended(1) if when == "seen" else ringing(0 if when == "asked" else 60_000))
    broker.rig.until(broker.rig.now + 300)
    broker.carry()
    losses = broker.losses
    assert losses <= 6
    broker.hears(ringing(), peer="door", call=OTHER)
    assert broker.rig.new == ["remote_invitation_received"] or losses
    for _ in range(3):
        broker.hears(ringing())
        broker.rig.until(broker.rig.now + 60)
        broker.carry()
    assert broker.losses <= 6
    assert broker.rig.told.count("remote_invitation_received") <= 2


def test_an_accepted_that_the_broker_does_not_take() -> None:
    """The app was told ACCEPTED: whether the callee learned of it, the callee's own word tells."""
    broker = Strict()
    broker.do(Send(CALL, PEER))
    broker.forbidden = ("/peer/invite/",)
    broker.hears(answer(AnswerState.ACCEPTED))
    assert broker.rig.told[-1] == "local_invitation_accepted"
    broker.hears(answer(AnswerState.FAILED, reason=4))
    assert broker.rig.told[-1] == "local_invitation_peer_lost"
    assert broker.rig.engine.caller.calls == {}


def test_a_cancel_that_the_broker_does_not_take_is_told() -> None:
    """And nothing is left of it."""
    broker = Strict(forbidden=("/peer/invite/",))
    broker.rig.feed(Send(CALL, PEER))
    broker.rig.feed(Cancel(PEER, CALL))
    broker.losses += 1
    broker.rig.drop()
    broker.connect()
    assert broker.rig.told == ["local_invitation_canceled"]
    assert broker.rig.engine.caller.calls == {}


def test_what_was_set_aside_is_said_again_if_the_callee_knows_it() -> None:
    """Who answers has read it, so the broker took it: then it is cleared there, too."""
    broker = Strict(forbidden=("/peer/invite/",))
    broker.do(Send(CALL, PEER))
    broker.forbidden = ()
    broker.hears(RECEIVED)
    assert broker.took[-1] == (f"sig/v1/peer/invite/me/{CALL}", None)


def test_an_end_carries_a_large_content_once() -> None:
    """512 bytes may be said again, for who missed the call."""
    for size, kept in ((400, True), (4000, False)):
        rig = Rig().connect()
        rig.feed(Send(CALL, PEER, Offer(codec.encode_body("x" * size))))
        rig.feed(Cancel(PEER, CALL))
        assert [c.content is not None for c in rig.said if isinstance(c, Invite)] == [True]
        rig.now += 2
        rig.feed(DeadlineReached())
        assert [c.content is not None for c in rig.said if isinstance(c, Invite)] == [kept]
        assert rig.engine.caller.calls


def test_while_without_a_link_a_call_that_waits_for_its_end_still_ends() -> None:
    """It is told on the next connection; if there is none, its time is over all the same."""
    rig = Rig(all_acks=True).connect()
    rig.feed(Send(CALL, PEER))
    for _ in range(2):
        rig.drop()
        rig.connect()
        rig.ack()
    rig.feed(Disconnected())
    assert rig.told == []
    rig.until(1030)
    assert rig.told == ["local_invitation_failure"]


def unheard(rig: Rig) -> None:
    """The broker breaks the connection at what was said last, until that is set aside."""
    for _ in range(2):
        rig.drop()
        rig.connect()
        rig.ack()  # all else, so that it is on trial
    rig.drop()


@pytest.mark.parametrize("mine", [True, False])
def test_what_is_set_aside_when_its_call_is_gone_is_only_reported(mine: bool) -> None:
    """A decided call that nobody clears is over after a day, though no link came back till then."""
    rig = Rig(all_acks=True).connect()
    if mine:
        rig.feed(Send(CALL, PEER))
        rig.hear(RECEIVED)
        rig.ack()
        rig.feed(Cancel(PEER, CALL))
    else:
        rig.hear(ringing())
        rig.ack()
        rig.feed(Refuse(PEER, CALL))
    unheard(rig)
    calls = rig.engine.caller.calls if mine else rig.engine.callee.calls
    assert len(calls) == 1
    rig.until(rig.now + 24 * 3600)
    assert calls == {}
    rig.connect()
    assert [e.cause for e in rig.effects if isinstance(e, Dropped)] == ["set aside"]
    rig.ack()
    assert [cell for cell in rig.said if not isinstance(cell, Presence)] == []


def test_what_was_set_aside_twice_is_not_said_a_third_time() -> None:
    """The callee read it from elsewhere, the broker still does not take it: it would go on so."""
    broker = Strict(forbidden=("/peer/invite/",))
    broker.do(Send(CALL, PEER))
    broker.hears(RECEIVED)
    assert broker.rig.engine.stats.drops["set aside"] == 2
    losses = broker.losses
    broker.hears(RECEIVED)
    assert broker.losses == losses
    assert broker.rig.engine.caller.calls == {}


def test_a_broker_that_never_acknowledges_costs_no_memory() -> None:
    """Of what it has not acknowledged the last so many are known."""
    outbox = Outbox(2)
    for token in range(5):
        outbox.said(token, (INVITE, (PEER, str(token))))
    assert list(outbox.unacked) == [3, 4]
