"""The services' loop: which clock its deadlines go by."""

from __future__ import annotations

import time

import pytest

from device_sdk.services.service.loop import Loop
from device_sdk.services.service.sd_notify import Notifier
from tests.peers import PATIENCE


def test_what_fell_due_in_sleep_is_done_on_waking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock counts sleep, as the client's does: both find the same calls over."""
    slept = [0.0]
    monkeypatch.setattr(
        "device_sdk.services.service.loop.since_start", lambda: time.monotonic() + slept[0]
    )
    loop = Loop(Notifier({}))
    due = loop.now() + 3 * PATIENCE
    early: list[bool] = []

    def tick() -> None:
        if loop.now() >= due:
            loop.stop()
        else:
            early.append(True)
            assert len(early) == 1, "it slept past what is due"
            loop.post(lambda: slept.__setitem__(0, 100.0))

    loop.post(lambda: None)
    begun = time.monotonic()
    assert loop.run(tick, lambda: due) == 0
    assert early
    assert time.monotonic() - begun < PATIENCE
