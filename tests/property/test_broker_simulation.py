"""What the core has promised holds through broken links, late commits and crashes.

And the simulation that says so notices when it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker_config.core import packets as mqtt
from broker_config.core import turns
from broker_config.core.broker import Core
from broker_config.core.journal import Journal
from broker_config.core.session import ClientLink, Session
from tests.broker_support.simulation import Broken, simulate

Patch = pytest.MonkeyPatch


def test_promises_hold() -> None:
    """The same worlds each time; `make broker-soak` goes through others."""
    figures = simulate(30_000, 0)
    assert figures["acknowledged"] > 300
    assert figures["crashes"] > 20


def _unheld(kinds: tuple[int, ...]) -> Callable[[Patch], None]:
    """Packets of these kinds do not wait for the journal."""

    def mutate(patch: Patch) -> None:
        hold = ClientLink.hold

        def early(self: ClientLink, data: bytes, mark: int) -> None:
            if data[0] >> 4 in kinds and not self.held:
                self.send(data)
            else:
                hold(self, data, mark)

        patch.setattr(ClientLink, "hold", early)

    return mutate


def _unnoted(*names: str) -> Callable[[Patch], None]:
    """These operations are not kept."""

    def mutate(patch: Patch) -> None:
        note = Journal.note

        def forgets(self: Journal, *operation: Any) -> None:
            if operation[0] not in names:
                note(self, *operation)

        patch.setattr(Journal, "note", forgets)

    return mutate


def _always_kept(patch: Patch) -> None:
    """CONNACK does not wait for the journal."""
    patch.setattr(turns.Turns, "is_kept", lambda _self, _key: True)


def _too_soon(patch: Patch) -> None:
    """A commit counts for what was noted since, too."""
    committed = turns.Turns.committed

    def eager(self: turns.Turns, _mark: int, now: float) -> None:
        committed(self, self.journal.noted, now)

    patch.setattr(turns.Turns, "committed", eager)


def _no_resume(patch: Patch) -> None:
    """What was not acknowledged is not sent again."""
    patch.setattr(Session, "resume", lambda _self: None)


def _no_queue(patch: Patch) -> None:
    """Nothing is kept for a session without a connection."""
    patch.setattr(Session, "_put_by", lambda _self, _out: None)


def _last_in_first_out(patch: Patch) -> None:
    """What waits goes out in the wrong order."""
    put = Session.put

    def before(self: Session, out: Any) -> None:
        put(self, out)
        if self.pending is not None:
            self.pending.rotate(1)

    patch.setattr(Session, "put", before)


def _no_takeover(patch: Patch) -> None:
    """The old connection lives on beside the new one."""
    end = Core.end

    def spares(self: Core, link: ClientLink, cause: str, *, abort: bool = False) -> None:
        if cause != "taken over":
            end(self, link, cause, abort=abort)

    patch.setattr(Core, "end", spares)


def _received_twice(patch: Patch) -> None:
    """A QoS 2 message that comes again is passed on again."""
    patch.setattr(Session, "incoming", property(lambda _self: None, lambda _self, _value: None))


def _no_wills(patch: Patch) -> None:
    """The wills of those who were connected at a crash are not published."""
    patch.setattr(Core, "_bury", lambda _self, _none: None)


def _forgets_bursts(patch: Patch) -> None:
    """Retained messages are not sent on a subscription."""
    patch.setattr(Session, "call_for", lambda *_arguments, **_options: None)


MUTATIONS = {
    "PUBACK before its commit": _unheld((mqtt.PUBACK,)),
    "PUBREC before its commit": _unheld((mqtt.PUBREC,)),
    "PUBCOMP before its commit": _unheld((mqtt.PUBCOMP,)),
    "PUBREL before its commit": _unheld((mqtt.PUBREL,)),
    "a QoS 2 id before its commit": _unheld((mqtt.PUBLISH,)),
    "retain": _unnoted("retain"),
    "session": _unnoted("session"),
    "subscribe": _unnoted("subscribe"),
    "queue": _unnoted("queue"),
    "sent": _unnoted("sent"),
    "released": _unnoted("released"),
    "finished": _unnoted("finished"),
    "received": _unnoted("received"),
    "freed": _unnoted("freed"),
    "will": _unnoted("will"),
    "CONNACK before its commit": _always_kept,
    "commits count too early": _too_soon,
    "not sent again": _no_resume,
    "no offline queue": _no_queue,
    "last in, first out": _last_in_first_out,
    "no take-over": _no_takeover,
    "passed on twice": _received_twice,
    "no wills after a crash": _no_wills,
    "no retained messages": _forgets_bursts,
}


def _simulate_until_noticed() -> None:
    for seed in range(1, 16):
        simulate(20_000, seed)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_promise_is_noticed(name: str, monkeypatch: Patch) -> None:
    """Every one of these faults, within some ten thousand steps of the same worlds."""
    MUTATIONS[name](monkeypatch)
    with pytest.raises((Broken, KeyError)):
        _simulate_until_noticed()
