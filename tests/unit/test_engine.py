"""The engine as a whole: connecting, newer logins, bad input, watching, logging out, cloning."""

from __future__ import annotations

import cbor2
import pytest

from device_sdk.core.effects import (
    Aborted,
    Accept,
    Cancel,
    Connected,
    DeadlineReached,
    Disconnected,
    Dropped,
    Emit,
    Finished,
    Logout,
    MessageReceived,
    Publish,
    PublishAcked,
    Ready,
    Refuse,
    Send,
    Subscribe,
    Subscribed,
    SubscriptionDenied,
    Unsubscribe,
    Unwatch,
    Watch,
)
from device_sdk.core.engine import Engine
from device_sdk.core.events import LocalEvent, Name, PresenceChanged
from device_sdk.core.settings import Settings
from device_sdk.core.wire import codec, topics
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState, Presence
from device_sdk.errors import InvalidArgument
from tests.rig import CALL, ME, MINE, OTHER, PEER, THEIRS, Rig, answer, ended, ringing

OWN, OUTBOX, INBOX = topics.presence("sig", ME), topics.outbox("sig", ME), topics.inbox("sig", ME)
ONLINE = codec.encode(Presence(True, MINE))
PEERS = topics.presence("sig", PEER)


# --- connecting ----------------------------------------------------------------------------


def test_the_first_connection_looks_for_a_former_life_first() -> None:
    """Own presence and outbox, presence online; nothing of the inbox yet."""
    rig = Rig()
    rig.feed(Connected(wall=7))
    assert rig.effects == [
        Subscribe((OWN, *OUTBOX)),
        Publish(OWN, codec.encode(Presence(True, MINE, 7))),
    ]


def test_the_echo_of_my_presence_opens_the_inbox() -> None:
    """Everything older has come: the outbox goes, the inbox comes."""
    rig = Rig()
    rig.feed(Connected())
    rig.hear_presence(Presence(True, MINE), ME, retained=True)
    assert rig.effects == []
    rig.hear_presence(Presence(True, MINE), ME)
    assert rig.effects == [Unsubscribe(OUTBOX), Subscribe(INBOX)]
    rig.hear_presence(Presence(True, MINE), ME)
    assert rig.effects == []


def test_without_an_echo_the_inbox_opens_after_two_seconds() -> None:
    """A broker that does not echo is no reason to be deaf."""
    rig = Rig()
    rig.feed(Connected())
    assert rig.engine.deadline() == 1002
    rig.until(1002)
    assert rig.effects == [Unsubscribe(OUTBOX), Subscribe(INBOX)]


def test_a_first_connection_that_breaks_starts_over() -> None:
    """It had not settled: the next one looks for a previous login again."""
    rig = Rig()
    rig.feed(Connected())
    rig.drop()
    assert rig.engine.deadline() is None
    rig.feed(Connected())
    assert rig.effects[0] == Subscribe((OWN, *OUTBOX))


def test_a_first_connection_that_breaks_without_its_echo_starts_over() -> None:
    """It went on after 2 s; on a dead link what a previous login left may not have come."""
    rig = Rig()
    rig.feed(Connected())
    rig.until(1002)
    rig.drop()
    rig.feed(Connected())
    assert rig.effects[0] == Subscribe((OWN, *OUTBOX))
    rig.hear_own(Answer(AnswerState.SEEN, b"previous", 4))
    rig.settle()
    assert rig.published[-1] == (
        f"sig/v1/peer/answer/me/{CALL}", Answer(AnswerState.SEEN, MINE, 5)
    )  # fmt: skip


def test_a_reconnect_reads_before_it_speaks() -> None:
    """Own presence, inbox and the watched peers in one packet; then presence; resync."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    rig.hear(ringing(), call=OTHER)
    rig.drop()
    assert rig.feed(Connected()) == [Subscribe((OWN, *INBOX, PEERS))]
    rig.hear(ringing(9000), call=OTHER)
    assert rig.said == []
    assert rig.feed(Subscribed((OWN, *INBOX, PEERS))) == [Subscribe((OWN,)), Ready()]
    rig.feed(Subscribed((OWN,)))  # by now it would have come
    assert rig.effects[0] == Publish(OWN, ONLINE)
    assert [type(c).__name__ for c in rig.said] == ["Presence", "Invite", "Answer"]


def test_ready_when_the_inbox_is_granted() -> None:
    """Not before."""
    rig = Rig().connect()
    assert rig.feed(Subscribed((OWN, *OUTBOX))) == []
    assert rig.feed(Subscribed(INBOX)) == [Ready()]


@pytest.mark.parametrize("refused", [OWN, *OUTBOX, *INBOX])
def test_a_refused_filter_that_is_needed_is_named(refused: str) -> None:
    """The login fails with it."""
    assert Rig().connect().feed(Subscribed((), (refused,))) == [SubscriptionDenied(refused)]


def test_a_refused_presence_of_a_peer_is_only_counted() -> None:
    """Calls work without it."""
    rig = Rig().connect()
    assert rig.feed(Subscribed((), (PEERS,))) == []
    assert rig.engine.stats.drops == {"presence refused": 1}


def test_a_refused_filter_that_was_not_asked_for_is_nothing() -> None:
    """A link may say it; nobody waits for it, and it is no presence."""
    rig = Rig().connect()
    assert rig.feed(Subscribed((), ("another/topic",))) == []
    assert rig.engine.stats.drops == {}


def test_a_presence_that_lingers_gives_its_place_to_a_call() -> None:
    """The broker takes no more filters: the peer longest out of a call goes, one at a time."""
    rig = Rig().connect()
    for i in range(3):
        call = topics.call_id_from_bytes(bytes([i]) * 16)
        rig.hear(ringing(), peer=f"p{i}", call=call)
        rig.hear(ended(1), peer=f"p{i}", call=call)
    rig.hear(ringing())
    gone = [topics.presence("sig", f"p{i}") for i in range(3)]
    for topic in gone:
        assert rig.feed(Subscribed((), (PEERS,))) == [Unsubscribe((topic,)), Subscribe((PEERS,))]
    assert rig.feed(Subscribed((), (PEERS,))) == []
    assert set(rig.engine._context.watches.known) == {PEER}


def test_while_disconnected_nothing_is_published() -> None:
    """Commands change the state; the resync says it."""
    rig = Rig()
    rig.feed(Send(CALL, PEER))
    rig.until(1010)
    assert rig.effects == []
    rig.now = 1010
    rig.connect()
    ringings = [c for c in rig.said if isinstance(c, Invite)]
    assert [(c.state, c.ttl) for c in ringings] == [(InviteState.RINGING, 50_000)]


def test_the_will() -> None:
    """Presence offline with this epoch."""
    topic, payload = Rig().engine.will()
    assert (topic, codec.decode_presence(payload)) == (OWN, Presence(False, MINE))


@pytest.mark.parametrize(
    ("peer", "epoch", "realm", "argument"),
    [("", MINE, "sig", "peer_id"), ("a\n", MINE, "sig", "peer_id"), ("a", b"short", "sig", "epoch"),
     ("a", MINE, "a/b", "realm")],
)  # fmt: skip
def test_an_engine_refuses_what_cannot_be(
    peer: str, epoch: bytes, realm: str, argument: str
) -> None:
    """Before anything else, naming the argument."""
    with pytest.raises(InvalidArgument) as caught:
        Engine(peer, epoch, realm=realm)
    assert caught.value.argument == argument


def test_who_it_is() -> None:
    """The peer id, plain."""
    assert Rig("kitchen.1").engine.peer_id == "kitchen.1"


# --- newer logins --------------------------------------------------------------------------


def test_a_newer_login_aborts_this_one() -> None:
    """Online with an unknown epoch: nothing is published, and nothing handled any more."""
    rig = Rig().connect()
    rig.hear_presence(Presence(True, b"newlogin"), ME)
    assert rig.effects == [Aborted()]
    assert rig.engine.closed
    assert rig.engine.deadline() is None
    assert rig.feed(Send(CALL, PEER)) == []


def test_a_newer_login_aborts_this_one_also_while_it_logs_out() -> None:
    """Nothing is said of presence then, either: it is the newer one's; the app is told its ends."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    rig.feed(Logout())
    rig.hear_presence(Presence(True, b"newlogin"), ME)
    told, aborted = rig.effects
    assert isinstance(told, Emit)
    assert isinstance(told.event, LocalEvent)
    assert told.event.name is Name.LOCAL_CANCELED
    assert aborted == Aborted()


def test_a_late_will_of_a_former_life_is_overwritten() -> None:
    """Presence says online again, with this epoch."""
    rig = Rig()
    rig.feed(Connected())
    rig.hear_presence(Presence(True, b"former00", generation=3), ME, retained=True)
    rig.hear_presence(Presence(True, MINE), ME)
    assert rig.effects == [Publish(OWN, mine(4)), Unsubscribe(OUTBOX), Subscribe(INBOX)]
    rig.hear_presence(Presence(False, b"former00"), ME)
    assert rig.effects == [Publish(OWN, mine(4))]


NEWER = b"newlogin"


def mine(generation: int = 0, age: int = 0, *, online: bool = True, ask: bool = False) -> bytes:
    return codec.encode(Presence(online, MINE, None, ask, generation, age))


def test_an_only_login_never_ends_itself() -> None:
    """Its own wills and a previous login's may come at the worst moments, again and again."""
    rig = Rig()
    rig.feed(Connected())
    for online, epoch in ((True, b"former00"), (False, b"former00"), (False, MINE), (True, MINE)):
        rig.hear_presence(Presence(online, epoch), ME, retained=epoch == b"former00")
    for _ in range(3):
        rig.drop()
        rig.feed(Connected())
        for epoch in (b"former00", MINE, b"another0"):
            for retained in (True, False):
                rig.hear_presence(Presence(False, epoch), ME, retained=retained)
        rig.feed(Subscribed((OWN, *INBOX)))
        assert rig.said == [Presence(True, MINE, generation=1)]
    assert not rig.engine.closed


def test_a_login_that_comes_back_to_a_newer_one_says_nothing() -> None:
    """What it read says that it is done: no presence over the newer one's, none of its cells."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    rig.drop()
    rig.now += 5
    rig.feed(Connected())
    rig.hear_presence(Presence(True, NEWER, generation=1), ME, retained=True)
    assert rig.said == []
    assert rig.effects[-1] == Aborted()


def test_a_login_that_comes_back_to_one_it_does_not_know_asks_first() -> None:
    """Without saying that it is online; the newer one answers with a higher rank."""
    rig = Rig().connect()
    rig.engine._context.own.generation = 3
    rig.drop()
    rig.now += 5
    rig.feed(Connected())
    rig.hear_presence(Presence(True, NEWER, generation=1), ME, retained=True)
    assert rig.feed(Subscribed((OWN, *INBOX))) == [
        Publish(OWN, mine(3, 5000, online=False, ask=True)), Ready()
    ]  # fmt: skip
    assert rig.hear_presence(Presence(False, MINE, ask=True), ME) == []
    assert rig.hear_presence(Presence(True, NEWER, generation=1), ME, retained=True) == []
    assert rig.hear_presence(Presence(True, NEWER, generation=4), ME) == [Aborted()]


def test_nobody_who_answers_is_alive() -> None:
    """What stands there was left over: it goes on, with its calls."""
    rig = Rig().connect()
    rig.engine._context.own.generation = 3
    rig.feed(Send(CALL, PEER))
    rig.drop()
    rig.feed(Connected())
    rig.hear_presence(Presence(True, NEWER, generation=1), ME, retained=True)
    rig.feed(Subscribed((OWN, *INBOX)))
    asked = rig.now
    (at, presence), (_, invite) = rig.until(rig.now + 2)
    assert (at, presence) == (asked + 2, Presence(True, MINE, generation=3, age=2000))
    assert isinstance(invite, Invite)


def test_a_will_is_answer_enough() -> None:
    """The one that stood there is dead: it goes on at once, without waiting for its time."""
    rig = Rig().connect()
    rig.engine._context.own.generation = 3
    rig.drop()
    rig.feed(Connected())
    rig.hear_presence(Presence(True, NEWER, generation=1), ME, retained=True)
    rig.feed(Subscribed((OWN, *INBOX)))
    rig.hear_presence(Presence(False, NEWER), ME)
    assert rig.published == [(OWN, Presence(True, MINE, generation=3))]
    assert rig.until(rig.now + 60) == []


def test_the_newer_one_answers_who_asks() -> None:
    """It is younger: its rank is raised, and the older one is told so."""
    rig = Rig().connect()
    rig.now += 1
    question = Presence(False, b"older000", None, True, 3, 5000)
    assert rig.hear_presence(question, ME) == [Publish(OWN, mine(4, 1000))]
    assert rig.hear_presence(question._replace(generation=5, age=10), ME) == [Aborted()]


def test_what_stands_there_may_come_after_it_is_granted() -> None:
    """Mosquitto's order: SUBACK, then what is retained."""
    rig = Rig().connect()
    rig.drop()
    rig.feed(Connected())
    rig.feed(Subscribed((OWN, *INBOX)))
    assert rig.said == []
    assert rig.hear_presence(Presence(True, NEWER, generation=1), ME, retained=True) == [Aborted()]
    rig = Rig().connect()
    rig.drop()
    rig.feed(Connected())
    rig.feed(Subscribed((OWN, *INBOX)))
    rig.hear_presence(Presence(False, MINE), ME, retained=True)
    assert rig.said == [Presence(True, MINE)]
    assert rig.feed(Subscribed((OWN,))) == []


def test_logging_out_before_anything_was_said_says_goodbye_all_the_same() -> None:
    """On a later connection, whose own presence was not read yet."""
    rig = Rig().connect()
    rig.drop()
    rig.feed(Connected())
    rig.feed(Logout())
    assert rig.said == [Presence(True, MINE), Presence(False, MINE)]


# --- bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "payload", "cause"),
    [
        ("sig/v1/me/ring/peer/" + CALL, b"\xa0", "unknown topic"),
        ("sig/v2/me/presence", ONLINE, "unknown topic"),
        ("sig/v1/peer%2e/presence", ONLINE, "unknown topic"),
        (f"sig/v1/me/invite/peer/{CALL[:-1]}B", b"", "unknown topic"),
        (f"sig/v1/other/invite/peer/{CALL}", b"", "unknown topic"),
        (f"sig/v1/me/invite/me/{CALL}", b"", "unknown topic"),
        (f"sig/v1/me/invite/peer/{CALL}", b"\xff", "malformed"),
        (f"sig/v1/me/invite/peer/{CALL}", b"\xa0", "missing key"),
        (f"sig/v1/me/invite/peer/{CALL}", b"\xa1\x00\x02", "unknown version"),
        (f"sig/v1/me/invite/peer/{CALL}", bytes(20_481), "oversized"),
        (f"sig/v1/me/invite/peer/{CALL}", b"\x81" * 40, "too deep"),
        (f"sig/v1/me/invite/peer/{CALL}", b"\xc0\x00", "tagged"),
        (f"sig/v1/me/answer/peer/{CALL}", b"\x80", "wrong type"),
        (PEERS, b"\xff", "malformed"),
        (OWN, b"\xff", "malformed"),
        ("sig/v1/stranger/presence", ONLINE, "not watched"),
        (f"sig/v1/me/answer/peer/{CALL}", codec.encode(answer(AnswerState.SEEN)), "out of place"),
    ],
)  # fmt: skip
def test_what_is_dropped_changes_nothing(topic: str, payload: bytes, cause: str) -> None:
    """Dropped, counted by cause, one note for the log; no cell, no event, no state."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    calls = dict(rig.engine.caller.calls)
    rig.feed(MessageReceived(topic, payload))
    assert [type(e) for e in rig.effects] == [Dropped]
    assert rig.engine.stats.drops == {cause: 1}
    assert (rig.engine.caller.calls, rig.engine.callee.calls) == (calls, {})


def test_a_cause_is_logged_at_most_once_a_minute() -> None:
    """Each cause for itself; all are counted."""
    rig = Rig().connect()
    noted: list[float] = []
    for second in range(121):
        rig.now = 1000.0 + second
        for payload in (b"\xff", b"\xc0\x00"):
            rig.feed(MessageReceived(f"sig/v1/me/invite/peer/{CALL}", payload))
            noted += [rig.now for e in rig.effects if isinstance(e, Dropped)]
    assert noted == [1000, 1000, 1060, 1060, 1120, 1120]
    assert rig.engine.stats.drops == {"malformed": 121, "tagged": 121}


def test_a_duplicate_invite_rings_once() -> None:
    """QoS 1 may deliver twice."""
    rig = Rig().connect()
    for _ in range(3):
        rig.hear(ringing())
    assert rig.told == ["remote_invitation_received"]


def test_a_cleared_answer_is_nothing() -> None:
    """The callee tidies up."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    assert rig.hear(None, kind="answer") == []
    assert rig.engine.stats.drops == {}


def test_unsorted_keys_and_later_fields_ring_all_the_same() -> None:
    """What a later version adds is ignored."""
    rig = Rig().connect()
    payload = cbor2.dumps({99: "new", 4: 60_000, 3: 1, 2: THEIRS, 1: 0, 0: 1})
    rig.feed(MessageReceived(f"sig/v1/me/invite/peer/{CALL}", payload))
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    assert rig.told == ["remote_invitation_received"]


def test_what_a_former_life_left_may_come_late() -> None:
    """After settling too, if it is from the store; what is live there is an echo of this life."""
    rig = Rig().connect()
    former = Invite(InviteState.RINGING, b"former00", 5, 9000)
    topic = topics.cell("sig", "invite", PEER, ME, CALL)
    rig.feed(MessageReceived(topic, codec.encode(former)))
    assert (rig.effects, rig.engine.caller.calls) == ([], {})
    rig.feed(MessageReceived(topic, b"", retained=True))
    assert rig.effects == []
    rig.hear_own(former)
    assert rig.said == []
    assert [(at - 1000, c.reason) for at, c in rig.until(1001) if isinstance(c, Invite)] == [(1, 6)]


# --- commands do not half happen -----------------------------------------------------------


@pytest.mark.parametrize(
    "command", [Cancel(PEER, CALL), Accept(PEER, CALL), Refuse(PEER, CALL), Send(CALL, ME)]
)
def test_an_illegal_command_raises_after_what_was_due(command: object) -> None:
    """What was due is done all the same."""
    rig = Rig().connect()
    rig.hear(ended(2))
    rig.now += 2
    with pytest.raises((InvalidArgument, RuntimeError)):
        rig.feed(command)  # type: ignore[arg-type] # one of four
    assert [type(c).__name__ for c in rig.said] == ["Answer"]


def test_time_alone_does_nothing_early() -> None:
    """A deadline reached too soon is no deadline."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    rig.now += 1.9
    assert rig.feed(DeadlineReached()) == []


def test_a_stray_acknowledgement_is_nothing() -> None:
    """A token nobody waits for."""
    assert Rig().connect().feed(PublishAcked(99)) == []


# --- presence of others --------------------------------------------------------------------


def test_a_call_subscribes_the_presence_of_its_peer_and_lets_it_go_later() -> None:
    """Once; ten minutes after the last call it goes."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    assert Subscribe((PEERS,)) in rig.effects
    rig.feed(Send(OTHER, PEER))
    assert Subscribe((PEERS,)) not in rig.effects
    for call in (CALL, OTHER):
        rig.hear(answer(AnswerState.REFUSED), call=call)
    rig.ack()
    assert rig.engine.deadline() == 1600
    rig.until(1600)
    assert rig.effects == [Unsubscribe((PEERS,))]


def test_watching_tells_changes_once() -> None:
    """Coming, going, another login, vanishing; a repetition is no change."""
    rig = Rig().connect()
    assert rig.feed(Watch(PEER)) == [Subscribe((PEERS,))]
    for presence in (
        Presence(True, THEIRS), Presence(True, THEIRS), Presence(False, THEIRS), None, None,
        Presence(True, b"newepoch"),
    ):  # fmt: skip
        rig.hear_presence(presence)
    online = [e.online for e in rig.events if isinstance(e, PresenceChanged)]
    assert online == [True, False, None, True]


def test_watching_what_is_known_tells_at_once() -> None:
    """No need to wait for a change."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    rig.hear_presence(Presence(True, THEIRS))
    assert rig.told == []
    rig.feed(Watch(PEER))
    assert rig.new == ["presence_changed"]


def test_nobody_watches_itself() -> None:
    """Unwatched later, its own presence would be unsubscribed, and a newer login never be read."""
    rig = Rig()
    with pytest.raises(InvalidArgument, match="own presence"):
        rig.feed(Watch(ME))


def test_unwatching_stops_its_events() -> None:
    """Though it stays subscribed for a while."""
    rig = Rig().connect()
    rig.feed(Watch(PEER))
    rig.feed(Unwatch(PEER))
    rig.hear_presence(Presence(True, THEIRS))
    assert rig.told == []
    rig.until(1600)
    assert rig.effects == [Unsubscribe((PEERS,))]


# --- logging out ---------------------------------------------------------------------------


def test_logging_out_says_offline_and_waits_for_the_broker() -> None:
    """Finished once everything is acknowledged."""
    rig = Rig().connect()
    rig.feed(Logout())
    assert rig.said == [Presence(False, MINE)]
    assert Finished() not in rig.effects
    rig.hear_presence(Presence(False, MINE), ME)
    assert rig.effects == []
    assert rig.ack() == [Finished()]
    assert rig.engine.closed


def test_logging_out_waits_for_the_cancels_too() -> None:
    """The callee must learn of it: offline is said once it has, and the cell is cleared."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    rig.feed(Logout())
    assert Presence(False, MINE) not in rig.said
    rig.ack()
    assert rig.told == ["local_invitation_canceled"]
    rig.hear(answer(AnswerState.SEEN))
    assert rig.said == [None]
    rig.ack()
    assert rig.said == [Presence(False, MINE)]
    assert rig.ack() == [Finished()]


def test_logging_out_does_not_wait_for_ever() -> None:
    """A callee that says nothing is given a second; one that is away not even that."""
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    rig.feed(Logout())
    rig.ack()
    assert rig.until(rig.now + 0.99) == []
    assert [cell for _, cell in rig.until(rig.now + 0.02)] == [Presence(False, MINE)]
    rig = Rig().connect()
    rig.feed(Send(CALL, PEER))
    rig.confirm()
    rig.feed(Logout())
    assert rig.said[-1] == Presence(False, MINE)


@pytest.mark.parametrize("before", [True, False])
def test_logging_out_without_a_link_finishes_at_once(before: bool) -> None:
    """Nothing can be said, or nothing more when the link breaks meanwhile."""
    rig = Rig().connect()
    if before:
        rig.drop()
        rig.feed(Logout())
    else:
        rig.feed(Logout())
        rig.feed(Disconnected())
    assert rig.effects[-1] == Finished()


# --- cloning -------------------------------------------------------------------------------


def test_a_clone_goes_its_own_way() -> None:
    """Same future, independent of the original."""
    rig = Rig(settings=Settings()).connect()
    rig.feed(Send(CALL, PEER))
    rig.hear(ringing(), call=OTHER)
    rig.hear_presence(Presence(True, THEIRS), retained=True)
    copy = rig.engine.clone()
    copy.handle(Cancel(PEER, CALL), 1001)
    copy.handle(Accept(PEER, OTHER), 1001)
    assert len(copy.effects()) == 2
    assert rig.engine.effects() == []
    assert rig.engine.caller.calls[PEER, CALL].phase.name == "SENT"
    assert rig.engine.callee.calls[PEER, OTHER].phase.name == "RINGING"
    assert rig.engine.deadline() == 1002


def test_an_attempt_that_never_connected_is_no_first_connection() -> None:
    """What is read on the first one that did is a previous login's."""
    rig = Rig()
    rig.feed(Disconnected())
    rig.feed(Connected())
    rig.hear_presence(Presence(True, b"former00"), ME, retained=True)
    rig.hear_presence(Presence(True, MINE), ME)
    rig.hear_presence(Presence(False, b"former00"), ME, retained=True)
    assert rig.effects == [Publish(OWN, mine(1))]
