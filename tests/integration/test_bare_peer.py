"""A peer written from the protocol's text alone calls, and is called by, this implementation."""

from __future__ import annotations

import ast
import itertools
import queue
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from device_sdk import AnswerReason, EndReason
from tests.integration import bare_peer
from tests.integration.bare_peer import BarePeer
from tests.peers import ThreadedPeer, Told
from tests.servers import BrokerProcess

_numbers = itertools.count()
Pair = tuple[BarePeer, ThreadedPeer]


def wait(
    peer: BarePeer, name: str | tuple[str, ...], call_id: str | None = None, timeout: float = 10
) -> Any:
    """The detail of the next event of that name (and call); what comes before is passed over."""
    names = (name,) if isinstance(name, str) else name
    end = time.monotonic() + timeout
    passed = []
    while True:
        try:
            event = peer.events.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"no {name!r} within {timeout} s, but {passed}") from None
        passed.append(event)
        if event[0] in names and call_id in (None, event[1]):
            return event[2]


@pytest.fixture
def make_bare(broker: BrokerProcess) -> Iterator[Callable[[], Pair]]:
    """Makes a bare peer ``bare.1`` and our ``kitchen``, in a realm of their own."""
    url = urlsplit(broker.url)
    realm = f"bare{next(_numbers)}"
    made: list[BarePeer] = []

    def make() -> BarePeer:
        peer = BarePeer("bare.1", url.hostname or "", url.port or 1883, realm)
        made.append(peer)
        wait(peer, "ready")
        return peer

    with ThreadedPeer("kitchen", broker.url, realm=realm) as kitchen:
        yield lambda: (make(), kitchen)
        for peer in made:
            peer.logout()


def test_it_really_is_bare() -> None:
    """Paho, cbor2 and the standard library; nothing of this project."""
    tree = ast.parse(Path(bare_peer.__file__).read_text())
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    assert roots - set(sys.stdlib_module_names) == {"paho", "cbor2"}


def test_it_calls_and_is_accepted(make_bare: Callable[[], Pair]) -> None:
    """Received, accepted with the response, seen; nothing is left in the broker."""
    bare, kitchen = make_bare()
    call_id = bare.call("kitchen", {"who": "somebody"})
    rang = kitchen.expect("remote_invitation_received", call_id).invitation
    assert (rang.caller_id, rang.content) == ("bare.1", {"who": "somebody"})
    wait(bare, "received by peer", call_id)
    kitchen.accept(rang, "hello")
    assert wait(bare, "accepted", call_id) == "hello"
    kitchen.expect("remote_invitation_accepted", call_id)
    wait(bare, "seen", call_id)


def test_it_calls_and_is_refused(make_bare: Callable[[], Pair]) -> None:
    """With the reason."""
    bare, kitchen = make_bare()
    call_id = bare.call("kitchen")
    rang = kitchen.expect("remote_invitation_received", call_id).invitation
    kitchen.refuse(rang, reason=AnswerReason.DO_NOT_DISTURB)
    assert wait(bare, "refused", call_id) == 3


def test_it_calls_and_cancels(make_bare: Callable[[], Pair]) -> None:
    """The kitchen stops ringing and says that it has seen it."""
    bare, kitchen = make_bare()
    call_id = bare.call("kitchen")
    kitchen.expect("remote_invitation_received", call_id)
    bare.cancel(call_id)
    told = kitchen.expect("remote_invitation_canceled", call_id)
    assert told.invitation.reason is EndReason.CANCELED
    wait(bare, "seen", call_id)


def test_it_is_called_and_accepts(make_bare: Callable[[], Pair]) -> None:
    """It waits for the caller's decision, says seen, and clears its answer when told to."""
    bare, kitchen = make_bare()
    mine = kitchen.press("bare.1", "somebody is here")
    assert wait(bare, "ringing", mine.call_id) == ("kitchen", "somebody is here")
    kitchen.expect("local_invitation_received_by_peer", mine.call_id)
    bare.accept(mine.call_id, [1, 2])
    kitchen.expect("local_invitation_accepted", mine.call_id)
    assert mine.response == [1, 2]
    wait(bare, "connected", mine.call_id)
    wait(bare, "cleared", mine.call_id)


def test_it_is_called_and_refuses(make_bare: Callable[[], Pair]) -> None:
    """Busy."""
    bare, kitchen = make_bare()
    mine = kitchen.press("bare.1")
    wait(bare, "ringing", mine.call_id)
    bare.refuse(mine.call_id, 2)
    kitchen.expect("local_invitation_refused", mine.call_id)
    assert mine.reason is EndReason.BUSY
    wait(bare, "cleared", mine.call_id)


def test_it_is_called_and_canceled(make_bare: Callable[[], Pair]) -> None:
    """Ended, seen, cleared."""
    bare, kitchen = make_bare()
    mine = kitchen.press("bare.1")
    wait(bare, "ringing", mine.call_id)
    kitchen.cancel(mine)
    assert wait(bare, "ended", mine.call_id) == 1
    kitchen.expect("local_invitation_canceled", mine.call_id)
    wait(bare, "cleared", mine.call_id)


def test_it_comes_later_and_rings(make_bare: Callable[[], Pair]) -> None:
    """The invite waits retained; it asks, and rings when the caller answers."""
    bare, kitchen = make_bare()
    bare.logout()
    mine = kitchen.press("bare.1", "again")
    again, _ = make_bare()
    assert wait(again, "ringing", mine.call_id) == ("kitchen", "again")
    again.accept(mine.call_id)
    kitchen.expect("local_invitation_accepted", mine.call_id)


def online(told: list[Told]) -> list[Any]:
    """What the presence events said, in order."""
    return [t.args[1] for t in told if t.name == "presence_changed"]


def test_it_is_killed_while_it_calls(make_bare: Callable[[], Pair]) -> None:
    """The broker publishes its will; its next life ends the call."""
    bare, kitchen = make_bare()
    kitchen.watch("bare.1")
    kitchen.heard.wait_until(lambda told: online(told) == [True], 10, "online")
    call_id = bare.call("kitchen")
    kitchen.expect("remote_invitation_received", call_id)
    bare.kill()
    kitchen.heard.wait_until(lambda told: online(told) == [True, False], 10, "the will")
    again, _ = make_bare()
    wait(again, ("seen", "failed"), call_id)
    failure = kitchen.expect("remote_invitation_failure", call_id)
    assert failure.invitation.reason in (EndReason.CALLER_RESTARTED, EndReason.CALLER_LOST)


def test_it_sees_who_is_there(make_bare: Callable[[], Pair]) -> None:
    """Presence, as it changes."""
    bare, kitchen = make_bare()
    bare.call("kitchen")
    assert wait(bare, "presence", "kitchen") is True
    kitchen.logout()
    assert wait(bare, "presence", "kitchen") is False
