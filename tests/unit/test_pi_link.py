"""How a service logs in: what stands in the way is said at once, and it goes on trying."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from device_sdk.errors import BrokerUnreachable
from device_sdk.services.config.account import Account
from device_sdk.services.service.link import ClientRunner


class _Client:
    """Logs in at the third attempt; notes whether each was to be tried until its time was over."""

    def __init__(self, _account: Account) -> None:
        self.call_manager = SimpleNamespace(add_event_listener=lambda _listener: None)
        self.patient: list[bool] = []
        self.logged_in = threading.Event()

    def login(self, _timeout: float, *, keep_trying: bool) -> None:
        self.patient.append(keep_trying)
        if len(self.patient) < 3:
            raise BrokerUnreachable("connection refused", "b: connection refused")
        self.logged_in.set()

    def logout(self) -> None:
        """Nothing is to be ended."""


def test_the_first_failure_is_said_at_once_and_later_attempts_are_patient() -> None:
    """A person at the keyboard sees why nothing happens before having pressed anything."""
    troubles: list[str] = []
    events: Any = SimpleNamespace(on_trouble=troubles.append)
    made: list[_Client] = []

    def make(account: Account) -> Any:
        made.append(_Client(account))
        return made[0]

    account = Account("door", "mqtt://b")
    link = ClientRunner(account, SimpleNamespace(), events, lambda call: call(), make)  # type: ignore[arg-type]  # heard by nobody
    link._stopping = SimpleNamespace(  # type: ignore[assignment]  # no pause between attempts
        is_set=lambda: False, wait=lambda _seconds: None, set=lambda: None
    )
    link.start()
    assert made[0].logged_in.wait(10)
    link.stop()
    assert made[0].patient == [False, True, True]
    assert troubles == ["b: connection refused"] * 2
