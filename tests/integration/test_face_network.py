"""Both faces on both brokers: listeners that hurt, links that break, logins that take over."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_sdk import CallEventListener, ClientClosed, ConnectionState, LocalInvitationState
from tests.integration.conftest import MakePeer, forgetful
from tests.peers import FACES, AsyncioPeer, Heard, Loop, Peer, ThreadedPeer, raising
from tests.proxy import CONNECT, DOWN, PINGREQ, PUBLISH, UP, Packet, Proxy
from tests.servers import BrokerProcess


@pytest.fixture
def proxy(broker: BrokerProcess, loop: Loop) -> Iterator[Proxy]:
    with Proxy(broker.port, loop) as made:
        yield made


# --- the order on the wire -------------------------------------------------------------------


def acknowledged(proxy: Proxy, topic_kind: str) -> bool:
    """Whether every publish of that kind that came down was acknowledged."""
    down = [p for way, p in proxy.packets if way == DOWN and p.kind == PUBLISH]
    wanted = {p.acknowledgement() for p in down if f"/{topic_kind}/" in p.topic and p.qos}
    return bool(wanted) and wanted <= {p.data for way, p in proxy.packets if way == UP}


def test_the_answer_goes_out_before_the_acknowledgement(make_peer: MakePeer, proxy: Proxy) -> None:
    """The caller waits for the one, and only the broker for the other; it gets it all the same."""
    make_peer("kitchen", url=proxy.url, subscribe_qos=1)
    door = make_peer("front-door")
    mine = door.press("kitchen")
    door.expect("local_invitation_received_by_peer", mine.call_id)
    proxy.wait(lambda p: acknowledged(p, "invite"), "the invite acknowledged")
    invite = next(p for way, p in proxy.packets if way == DOWN and "/invite/" in _topic(p))
    up = [packet for way, packet in proxy.packets if way == UP]
    answer = next(i for i, packet in enumerate(up) if "/answer/" in _topic(packet))
    assert answer < next(i for i, p in enumerate(up) if p.data == invite.acknowledgement())


def _topic(packet: Packet) -> str:
    return packet.topic if packet.kind == PUBLISH else ""


def test_what_comes_without_a_pause_is_acknowledged_too(make_peer: MakePeer, proxy: Proxy) -> None:
    """Acknowledgements wait for nothing but a moment; a stream of messages has none."""
    make_peer("kitchen", url=proxy.url, subscribe_qos=1)
    door = make_peer("front-door")
    for i in range(8):
        mine = door.press("kitchen", i)
        door.cancel(mine)
    door.expect("local_invitation_canceled", mine.call_id)
    door.wait(mine)
    proxy.wait(lambda p: acknowledged(p, "invite"), "all acknowledged")


# --- listeners -------------------------------------------------------------------------------


def test_a_listener_that_blocks_harms_nothing(
    make_peer: MakePeer, proxy: Proxy, broker: BrokerProcess
) -> None:
    """Not the other listeners, not the keep-alive, not calls; and it is told all once it can."""
    kitchen = make_peer("kitchen", url=proxy.url, keepalive=broker.least_keepalive)
    door = make_peer("front-door")
    blocks, release = kitchen.blocking()
    kitchen.listen(blocks)
    try:
        for i in range(5):
            mine = door.press("kitchen", i)
            kitchen.accept(kitchen.expect("remote_invitation_received", mine.call_id).invitation)
            door.expect("local_invitation_accepted", mine.call_id)
            kitchen.expect("remote_invitation_accepted", mine.call_id)
        before = proxy.came[UP, PINGREQ]
        proxy.wait(lambda p: p.came[UP, PINGREQ] >= before + 2, "two pings")
        assert proxy.accepted == 1
    finally:
        release.set()


def test_a_slow_listener_is_told_everything_in_order(make_peer: MakePeer) -> None:
    kitchen, door = make_peer("kitchen"), make_peer("front-door")
    release = threading.Event()
    late = Heard()
    first = threading.Event()

    class Slow(CallEventListener):
        def on_remote_invitation_received(self, invitation: Any) -> Any:
            late._note("remote_invitation_received", invitation)
            return self._wait()

        def on_remote_invitation_accepted(self, invitation: Any) -> None:
            late._note("remote_invitation_accepted", invitation)

        def _wait(self) -> Any:
            first.set()
            if kitchen.face == "threaded":
                release.wait(30)
                return None

            async def wait() -> None:
                import asyncio

                while not release.is_set():
                    await asyncio.sleep(0.01)

            return wait()

    kitchen.listen(Slow())
    calls = []
    for _ in range(5):
        mine = door.press("kitchen")
        kitchen.accept(kitchen.expect("remote_invitation_received", mine.call_id).invitation)
        kitchen.expect("remote_invitation_accepted", mine.call_id)
        calls.append(mine.call_id)
    assert first.wait(5)
    assert late.names() == ["remote_invitation_received"]
    release.set()
    late.wait_until(lambda told: len(told) == 10, 5, "all ten")
    assert [(t.name, t.call_id) for t in late.told] == [
        (name, call_id)
        for call_id in calls
        for name in ("remote_invitation_received", "remote_invitation_accepted")
    ]


def test_a_listener_that_raises_harms_nothing_and_is_logged(
    make_peer: MakePeer, caplog: pytest.LogCaptureFixture
) -> None:
    kitchen, door = make_peer("kitchen"), make_peer("front-door")
    kitchen.unlisten(kitchen.heard)
    bad = raising()
    kitchen.listen(bad)  # before the one that hears
    kitchen.listen(kitchen.heard)
    mine = door.press("kitchen")
    kitchen.accept(kitchen.expect("remote_invitation_received", mine.call_id).invitation)
    kitchen.expect("remote_invitation_accepted", mine.call_id)
    door.expect("local_invitation_accepted", mine.call_id)
    kitchen.logout()
    logged = [r for r in caplog.records if "raised in on_remote_invitation_received" in r.message]
    assert [mine.call_id in r.message for r in logged] == [True]
    assert logged[0].exc_info is not None


def test_a_listener_may_call_anything(make_peer: MakePeer) -> None:
    """Answering from within the callback, and calling back."""
    kitchen, door = make_peer("kitchen"), make_peer("front-door")
    made: list[Any] = []

    class Answers(CallEventListener):
        def on_remote_invitation_received(self, invitation: Any) -> Any:
            return kitchen.client.call_manager.accept_remote_invitation(invitation, "yes")

        def on_remote_invitation_accepted(self, invitation: Any) -> Any:
            back = kitchen.client.call_manager.create_local_invitation(invitation.caller_id)
            made.append(back)
            return kitchen.client.call_manager.send_local_invitation(back)

    kitchen.listen(Answers())
    door.press("kitchen")
    assert door.expect("local_invitation_accepted").args[1] == "yes"
    back = door.expect("remote_invitation_received")
    assert made[0].call_id == back.call_id


def test_a_removed_listener_hears_nothing_new(make_peer: MakePeer) -> None:
    kitchen, door = make_peer("kitchen"), make_peer("front-door")
    other = Heard()
    kitchen.listen(other)
    kitchen.listen(other)  # twice is once
    first = door.press("kitchen")
    kitchen.expect("remote_invitation_received", first.call_id)
    other.wait_until(lambda told: len(told) == 1, 5, "one ring")
    kitchen.unlisten(other)
    second = door.press("kitchen")
    kitchen.expect("remote_invitation_received", second.call_id)
    assert [t.call_id for t in other.told] == [first.call_id]


# --- the link --------------------------------------------------------------------------------


@pytest.mark.mosquitto
def test_idle(bundled_broker: BrokerProcess, mosquitto_broker: BrokerProcess, loop: Loop) -> None:
    """The link of an idle peer stays up, however short the keep-alive: all at once, for 6 s."""
    with contextlib.ExitStack() as stack:
        idle: list[tuple[int, Proxy, Peer]] = []
        for broker in (bundled_broker, mosquitto_broker):
            for keepalive in (1, 2, 3):
                for face in FACES:
                    proxy = stack.enter_context(Proxy(broker.port, loop))
                    name, options = f"idle-{keepalive}-{face}", {"keepalive": keepalive}
                    peer = (
                        ThreadedPeer(name, proxy.url, **options)
                        if face == "threaded"
                        else AsyncioPeer(name, proxy.url, loop=loop, **options)
                    )
                    stack.enter_context(peer)
                    idle.append((keepalive, proxy, peer))
        for keepalive, proxy, peer in idle:
            least = 6 // keepalive - 1

            def enough(proxy: Proxy, least: int = least) -> bool:
                return proxy.came[UP, PINGREQ] >= least or proxy.accepted > 1

            proxy.wait(enough, "pings", 20)
            assert proxy.accepted == 1, f"{peer.peer_id} connected again"
            assert peer.client.stats["connects"] == 1


def test_reconnects_and_says_so(make_peer: MakePeer, proxy: Proxy) -> None:
    door, kitchen = make_peer("front-door", url=proxy.url), make_peer("kitchen")
    mine = door.press("kitchen")
    theirs = kitchen.expect("remote_invitation_received", mine.call_id).invitation
    proxy.reset()
    door.expect_state("RECONNECTING")
    door.expect_state("CONNECTED", nth=2)
    kitchen.accept(theirs)
    door.expect("local_invitation_accepted", mine.call_id)
    assert kitchen.names(mine.call_id).count("remote_invitation_received") == 1
    changes = [t.args for t in door.heard.told if t.name == "connection_state_changed"]
    assert [(s.name, str(c)) for s, c in changes] == [
        ("CONNECTING", "login"),
        ("CONNECTED", "login success"),
        ("RECONNECTING", "interrupted"),
        ("CONNECTED", "login success"),
    ]


def test_nothing_is_queued_while_disconnected(make_peer: MakePeer, proxy: Proxy) -> None:
    """What was pressed and canceled without a link is said as it is then, and never rang."""
    door, kitchen = make_peer("front-door", url=proxy.url), make_peer("kitchen")
    proxy.refuse()
    proxy.reset()
    door.expect_state("RECONNECTING")
    calls = [door.press("kitchen") for _ in range(3)]
    for mine in calls[:2]:
        door.cancel(mine)
        door.expect("local_invitation_canceled", mine.call_id, timeout=1)
    before = proxy.topics[UP, "invite"]
    proxy.refuse(False)
    theirs = kitchen.expect("remote_invitation_received", timeout=15)
    assert theirs.call_id == calls[2].call_id
    for mine in calls[:2]:
        assert "remote_invitation_received" not in kitchen.names(mine.call_id)
    assert proxy.topics[UP, "invite"] >= before + 3


def test_a_missed_acknowledgement_ends_a_cancel_all_the_same(
    make_peer: MakePeer, proxy: Proxy
) -> None:
    """Canceled is told once the broker has it, or at once when the link goes meanwhile."""
    door, kitchen = make_peer("front-door", url=proxy.url), make_peer("kitchen")
    mine = door.press("kitchen")
    kitchen.expect("remote_invitation_received", mine.call_id)
    proxy.hold(DOWN)
    door.cancel(mine)
    assert mine.state is LocalInvitationState.CANCELED
    assert "local_invitation_canceled" not in door.names(mine.call_id)
    kitchen.expect("remote_invitation_canceled", mine.call_id)
    proxy.reset()
    door.expect("local_invitation_canceled", mine.call_id)
    proxy.release()


def test_retries_are_jittered_and_grow(make_peer: MakePeer, proxy: Proxy) -> None:
    """From 0.1 s on, doubled, between half of it and all of it; a login starts it over."""
    peer = make_peer("kitchen", url=proxy.url)
    proxy.refuse()
    proxy.reset()
    proxy.wait(lambda p: p.accepted >= 4, "three attempts")
    proxy.refuse(False)
    peer.expect_state("CONNECTED", nth=2)
    assert proxy.came[UP, CONNECT] == 2


def test_listening_goes_on_after_a_malformed_message(
    make_peer: MakePeer, broker: BrokerProcess
) -> None:
    from tests.broker_support.raw import Raw

    kitchen, door = make_peer("kitchen"), make_peer("front-door")
    with Raw(broker.port) as raw:
        assert raw.connect("liar") == 0
        topic = f"{kitchen.client.realm}/v1/kitchen/invite/liar/{'A' * 22}"
        for payload in (b"\xff", b"\xa0", b"x" * 30_000, b"\xc1\x00"):
            raw.publish(topic, payload)
    mine = door.press("kitchen")
    kitchen.expect("remote_invitation_received", mine.call_id)
    assert sum(kitchen.client.stats["drops"].values()) == 4
    assert kitchen.names() == ["remote_invitation_received"]


def test_a_callee_is_told_of_an_accept_only_by_the_caller(
    make_peer: MakePeer, proxy: Proxy
) -> None:
    """As long as the caller has not heard of it, nothing is decided, and nobody is told so."""
    door, kitchen = make_peer("front-door", url=proxy.url), make_peer("kitchen")
    mine = door.press("kitchen")
    theirs = kitchen.expect("remote_invitation_received", mine.call_id).invitation
    door.expect("local_invitation_received_by_peer", mine.call_id)
    proxy.hold(DOWN)
    came = proxy.topics[DOWN, "answer"]
    kitchen.accept(theirs)
    proxy.wait(lambda p: p.topics[DOWN, "answer"] > came, "the answer")
    assert (mine.state.name, theirs.state.name) == ("RECEIVED_BY_REMOTE", "ACCEPT_SENT_TO_LOCAL")
    assert kitchen.names(mine.call_id) == ["remote_invitation_received"]
    proxy.release()
    door.expect("local_invitation_accepted", mine.call_id)
    kitchen.expect("remote_invitation_accepted", mine.call_id)


# --- a newer login --------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 0.05), (0.3, 0), (0.05, 0.05), (0.3, 0.3)])
def test_a_newer_login_takes_over(
    make_peer: MakePeer, broker: BrokerProcess, loop: Loop, old: float, new: float
) -> None:
    """Whatever the delay of each one's link: the older one is ABORTED, says so and stays away.

    The newer one logs in with the defaults, on its first connection, and keeps it.
    """
    with Proxy(broker.port, loop) as far, Proxy(broker.port, loop) as near:
        for proxy, delay in ((far, old), (near, new)):
            if delay:
                proxy.slow(delay, 0, 0)
        older = make_peer("kitchen", url=far.url)
        newer = make_peer("kitchen", url=near.url)
        aborted = older.expect_state("ABORTED")
        assert str(aborted.args[1]) == "remote login"
        door = make_peer("front-door")
        mine = door.press("kitchen")
        newer.accept(newer.expect("remote_invitation_received", mine.call_id).invitation)
        door.expect("local_invitation_accepted", mine.call_id)
        assert (far.accepted, near.accepted) == (1, 1)
        assert newer.client.stats["connects"] == 1
        assert older.names() == []
        with pytest.raises(ClientClosed, match="newer login"):
            older.press("front-door")
        for peer in (older, newer):
            peer.logout()


def test_a_login_that_comes_back_after_a_newer_one_ends(make_peer: MakePeer, proxy: Proxy) -> None:
    """It was away when the newer one came: that one's calls go on ringing meanwhile."""
    hall = make_peer("hall")
    older = make_peer("kitchen", url=proxy.url)
    proxy.refuse()
    proxy.reset()
    older.expect_state("RECONNECTING")
    newer = make_peer("kitchen")
    mine = newer.press("hall")
    theirs = hall.expect("remote_invitation_received", mine.call_id).invitation
    proxy.refuse(False)
    older.expect_state("ABORTED")
    hall.accept(theirs)
    newer.expect("local_invitation_accepted", mine.call_id)
    hall.expect("remote_invitation_accepted", mine.call_id)
    assert newer.client.stats["connects"] == 1
    assert newer.client.connection_state is ConnectionState.CONNECTED


def test_a_login_that_comes_back_to_a_broker_that_forgot_it_ends(
    make_peer: MakePeer, broker: BrokerProcess, loop: Loop, tmp_path: Path
) -> None:
    """The newer one never saw it; and the older one has the higher rank from an older life.

    By its age it is known for the older one, which has to be more than a word takes on its way:
    its clock makes that an hour.
    """
    since = 0.0
    with forgetful(broker, tmp_path) as own, Proxy(own.port, loop) as proxy:
        make_peer("kitchen", url=own.url).logout()
        older = make_peer("kitchen", url=proxy.url, clock=lambda: time.monotonic() + since)
        since = 3600.0
        proxy.refuse()
        own.kill()
        older.expect_state("RECONNECTING")
        own.start()
        newer = make_peer("kitchen", url=own.url)
        proxy.refuse(False)
        older.expect_state("ABORTED")
        assert newer.client.stats["connects"] == 1
        assert newer.client.connection_state is ConnectionState.CONNECTED
        for peer in (older, newer):
            peer.logout()


def test_a_newer_login_fails_the_calls_of_the_older(make_peer: MakePeer, proxy: Proxy) -> None:
    door = make_peer("front-door")
    older = make_peer("kitchen", url=proxy.url)
    mine = door.press("kitchen")
    older.expect("remote_invitation_received", mine.call_id)
    outgoing = older.press("nobody")
    newer = make_peer("kitchen")
    older.expect_state("ABORTED")
    older.expect("remote_invitation_failure", mine.call_id)
    older.expect("local_invitation_failure", outgoing.call_id)
    theirs = newer.expect("remote_invitation_received", mine.call_id).invitation
    newer.accept(theirs)
    door.expect("local_invitation_accepted", mine.call_id)


def test_a_call_made_while_the_broker_restarts_rings_when_it_is_back(
    make_peer: MakePeer, broker: BrokerProcess, tmp_path: Path
) -> None:
    """Nothing kept, and the caller's first word is said to a broker that was not there yet."""
    with forgetful(broker, tmp_path) as own:
        door, kitchen = make_peer("front-door", url=own.url), make_peer("kitchen", url=own.url)
        own.kill()
        door.expect_state("RECONNECTING")
        mine = door.press("kitchen")
        own.start()
        kitchen.accept(kitchen.expect("remote_invitation_received", mine.call_id).invitation)
        door.expect("local_invitation_accepted", mine.call_id)
        for peer in (door, kitchen):
            peer.logout()


# --- cancelling ----------------------------------------------------------------------------


def test_a_cancelled_task_cancels_its_call(make_peer: MakePeer, face: str) -> None:
    if face == "threaded":
        _keyboard_interrupt(make_peer)
        return
    door, kitchen = make_peer("front-door"), make_peer("kitchen")
    calling = door.start_call("kitchen")
    told = kitchen.expect("remote_invitation_received")
    calling.cancel()
    kitchen.expect("remote_invitation_canceled", told.call_id)
    door.expect("local_invitation_canceled", told.call_id)


def _keyboard_interrupt(make_peer: MakePeer) -> None:
    """Ctrl-C reaches the main thread, which is where pytest runs this."""
    door, kitchen = make_peer("front-door"), make_peer("kitchen")

    class Interrupts(CallEventListener):
        def on_remote_invitation_received(self, _invitation: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    kitchen.listen(Interrupts())
    with pytest.raises(KeyboardInterrupt):
        door.client.call("kitchen")
    told = kitchen.expect("remote_invitation_canceled")
    door.expect("local_invitation_canceled", told.call_id)


def test_nothing_is_left_running(make_peer: MakePeer) -> None:
    """After logout a client has no thread, no descriptor and no task of its own left."""

    def descriptors() -> set[tuple[str, str]]:
        # With what each is, such as socket:[12345]: another test's may close meanwhile.
        found = set()
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # that of the listing itself
                found.add((entry.name, str(entry.readlink())))
        return found

    make_peer("warm-up").logout()  # the executor of the loop, the imports
    threads, files = set(threading.enumerate()), descriptors()
    peers: list[Peer] = [make_peer(f"peer-{i}") for i in range(4)]
    for peer in peers:
        peer.logout()
    left = {t for t in threading.enumerate() if t.name.startswith("bellwire")} - threads
    assert not left
    assert descriptors() <= files
    assert link_free(peers)


def link_free(peers: list[Peer]) -> bool:
    """Whether no peer holds a link any more."""
    owners = [getattr(peer.client, "_owner", None) or peer.client._driver for peer in peers]
    return all(owner._link is None for owner in owners)
