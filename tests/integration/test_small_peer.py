"""A full peer is not harmed by a small one that keeps to the oldest rules only, and forgets all."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
from collections.abc import Iterator

import cbor2
import pytest

from device_sdk import EndReason
from tests.broker_support.raw import Raw
from tests.peers import ThreadedPeer
from tests.servers import BrokerProcess

_numbers = itertools.count()
RINGING, ACCEPTED = 0, 1


class Forgetful:
    """It says presence and invites, with the epoch of each life, and clears only what it knows."""

    def __init__(self, raw: Raw, realm: str) -> None:
        self.raw, self.realm = raw, realm
        raw.subscribe(f"{realm}/v1/bell/answer/+/+")
        self.restart()

    def restart(self, epoch: bytes | None = None) -> None:
        """A power cut, without a will, and the next life."""
        self.epoch = epoch or os.urandom(8)
        self._say("presence", {1: 1})

    def _say(self, topic: str, cell: dict[int, object] | None) -> None:
        data = (
            b""
            if cell is None
            else cbor2.dumps(dict(sorted({0: 1, 2: self.epoch, **cell}.items())))
        )
        level = topic if "/" in topic else f"bell/{topic}"
        self.raw.publish(f"{self.realm}/v1/{level}", data, retain=True)

    def invite(
        self, call_id: str, state: int = RINGING, ttl: int = 60_000, asker: bytes | None = None
    ) -> None:
        cell: dict[int, object] = {1: state, 3: 1}
        if state == RINGING:
            cell[4] = ttl
        if asker is not None:
            cell[16] = asker
        self._say(f"kitchen/invite/bell/{call_id}", cell)

    def answer_asks(self, call_id: str) -> None:
        """Say that call again to whoever asks; of former lives it knows nothing."""
        for each in self.raw.gather():
            cell = cbor2.loads(each.data) if each.data else {}
            if each.topic.endswith(call_id) and cell.get(10):
                self.invite(call_id, asker=cell[2])

    def clear(self, call_id: str) -> None:
        self._say(f"kitchen/invite/bell/{call_id}", None)


def fresh() -> str:
    return base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()


@pytest.fixture
def realm() -> str:
    return f"small{next(_numbers)}"


@pytest.fixture
def bell(bundled_broker: BrokerProcess, realm: str) -> Iterator[Forgetful]:
    with Raw(bundled_broker.port) as raw:
        assert raw.connect(f"bell:{realm}") == 0
        yield Forgetful(raw, realm)


@contextlib.contextmanager
def kitchen(broker: BrokerProcess, realm: str, **options: float) -> Iterator[ThreadedPeer]:
    with ThreadedPeer("kitchen", broker.url, realm=realm, **options) as peer:
        yield peer


def rings(peer: ThreadedPeer, bell: Forgetful) -> None:
    """A new call of it rings, and is refused by nobody."""
    call_id = fresh()
    bell.invite(call_id)
    for _ in range(100):
        bell.answer_asks(call_id)
        with contextlib.suppress(AssertionError):
            peer.expect("remote_invitation_received", call_id, timeout=0.1)
            break
    peer.expect("remote_invitation_received", call_id)
    assert peer.names(call_id) == ["remote_invitation_received"]


def test_eight_power_cuts_while_it_rings(
    bundled_broker: BrokerProcess, bell: Forgetful, realm: str
) -> None:
    """Each ring ends for want of its caller; the ninth rings."""
    with kitchen(bundled_broker, realm, caller_lost_grace=0.2) as peer:
        for _ in range(8):
            call_id = fresh()
            bell.invite(call_id)
            peer.expect("remote_invitation_received", call_id)
            bell.restart()
            told = peer.expect("remote_invitation_failure", call_id)
            assert told.invitation.reason is EndReason.CALLER_LOST
        rings(peer, bell)


def test_eight_leftovers_before_the_kitchen_comes(
    bundled_broker: BrokerProcess, bell: Forgetful, realm: str
) -> None:
    """None of them rings, and none takes the place of the ninth, whose caller is known to be there.

    A ninth that has to be asked about itself, as it comes before its caller's presence is read, is
    one too many of those that are asked about (Callee 9), and refused as busy.
    """
    dead = [fresh() for _ in range(8)]
    for call_id in dead:
        bell.invite(call_id)
        bell.restart()
    with kitchen(bundled_broker, realm) as peer:
        peer.watch("bell")
        peer.expect("presence_changed")
        rings(peer, bell)
        assert not [name for call_id in dead for name in peer.names(call_id)]


def test_restart_after_accepted(bundled_broker: BrokerProcess, bell: Forgetful, realm: str) -> None:
    """What it never clears stands; the call ended well here, and the next rings."""
    with kitchen(bundled_broker, realm) as peer:
        call_id = fresh()
        bell.invite(call_id)
        peer.accept(peer.expect("remote_invitation_received", call_id).invitation)
        bell.invite(call_id, ACCEPTED)
        peer.expect("remote_invitation_accepted", call_id)
        bell.restart()
        rings(peer, bell)
        assert peer.names(call_id).count("remote_invitation_accepted") == 1


def test_the_same_call_id_twice(bundled_broker: BrokerProcess, bell: Forgetful, realm: str) -> None:
    """The second does not ring, as it may be a late copy; another one does."""
    with kitchen(bundled_broker, realm) as peer:
        call_id = fresh()
        bell.invite(call_id)
        peer.refuse(peer.expect("remote_invitation_received", call_id).invitation)
        bell.clear(call_id)
        bell.restart()
        bell.invite(call_id)
        rings(peer, bell)
        assert peer.names(call_id).count("remote_invitation_received") == 1


def test_the_same_epoch_twice(bundled_broker: BrokerProcess, bell: Forgetful, realm: str) -> None:
    """It cannot be told from a caller that lives, so the old ring ends by its own time."""
    with kitchen(bundled_broker, realm, ring_slack=0.1) as peer:
        call_id = fresh()
        bell.invite(call_id, ttl=1000)
        peer.expect("remote_invitation_received", call_id)
        bell.restart(bell.epoch)
        rings(peer, bell)
        told = peer.expect("remote_invitation_failure", call_id)
        assert told.invitation.reason is EndReason.CALLEE_EXPIRED
