"""A link is opened on a thread that nobody waits for; its owner is told on that thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from device_sdk.client.link.factory import GuardedLink
from device_sdk.client.link.opening import Opening
from device_sdk.core.effects import LinkFailed
from device_sdk.errors import BrokerUnreachable
from tests.peers import PATIENCE


@pytest.mark.parametrize("error", [None, BrokerUnreachable("no route", "nobody there")])
def test_its_owner_is_told_how_it_went(error: BrokerUnreachable | None) -> None:
    """With the attempt, so that one that was given up is known; a daemon, as it may be stuck."""

    class Link:
        def open(self) -> None:
            if error is not None:
                raise error

    told: list[Any] = []
    over = threading.Event()

    def done(attempt: Opening, failure: LinkFailed | None) -> None:
        told.append((attempt, failure, threading.current_thread()))
        over.set()

    attempt = Opening(GuardedLink(Link), "kitchen", done)  # type: ignore[arg-type]  # it has what is wanted
    attempt.start()
    assert over.wait(PATIENCE)
    ((which, failure, thread),) = told
    assert which is attempt
    assert failure == (None if error is None else LinkFailed(error))
    assert (thread.name, thread.daemon) == ("bellwire-kitchen-connect", True)


def test_no_thread_is_said_to_who_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    with pytest.raises(RuntimeError, match="can't start"):
        Opening(GuardedLink(lambda: None), "a", lambda *_: None).start()  # type: ignore[arg-type,return-value]  # not made
