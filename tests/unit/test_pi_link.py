"""How a service logs in: what stands in the way is said at once, and it goes on trying."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_sdk.client.refusal import Refusals
from device_sdk.errors import BrokerRefused, BrokerUnreachable
from device_sdk.services.config.account import Account
from device_sdk.services.service.link import ClientRunner, make_client
from device_sdk.services.service.link import cure as cure_of
from device_sdk.states import ConnectionChange, ConnectionState


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


def _link(account: Account, troubles: list[str]) -> ClientRunner:
    events: Any = SimpleNamespace(on_trouble=troubles.append, on_link=lambda _on, _broker: None)
    # What its client says; what that is made of, tests/unit/test_refusals.py has.
    client = SimpleNamespace(
        call_manager=SimpleNamespace(add_event_listener=lambda _listener: None), refusal=""
    )
    return ClientRunner(
        account,
        SimpleNamespace(),  # type: ignore[arg-type]  # heard by nobody
        events,
        lambda call: call(),
        lambda _account: client,  # type: ignore[arg-type,return-value]  # what of it is used
    )


@pytest.mark.parametrize(
    ("account", "cure"),
    [
        (Account("door", "mqtt://b", secret_file=Path("/x/secret")),
         "is /x/secret still its secret? `bellwire-broker device rotate door` there makes a new"),
        (Account("door", "mqtt://b", cert_file=Path("/x/door.crt")),
         "is /x/door.crt still its certificate? `bellwire-broker device rotate door` there"),
        (Account("door", "mqtt://b"), "it has neither secret_file nor cert_file in [account]"),
    ],
)  # fmt: skip
def test_who_is_not_let_in_any_more_is_told_what_to_do(account: Account, cure: str) -> None:
    """A secret that was rotated under a running service, and one that is wrong from the start."""
    troubles: list[str] = []
    link = _link(account, troubles)
    link.state_changed(ConnectionState.RECONNECTING, ConnectionChange.INTERRUPTED)
    assert troubles == []
    real = Refusals()
    real.cure = cure_of(account)
    real.link_failed(BrokerRefused(5, "mqtt://b refused: not authorized"))
    real.refused("mqtt://b refused: not authorized")
    link.client.refusal = real.last  # type: ignore[misc]  # no client, but what of it is used
    link.state_changed(ConnectionState.RECONNECTING, ConnectionChange.REFUSED)
    link._trouble(BrokerRefused(5, "mqtt://b refused: not authorized"))
    link._trouble(BrokerRefused(3, "mqtt://b refused: server unavailable"))
    now, at_first, other = troubles
    assert now.startswith(f"mqtt://b refused: not authorized (it was let in before); {cure}")
    assert at_first.startswith(f"mqtt://b refused: not authorized; {cure}")
    assert other == "mqtt://b refused: server unavailable"


def test_the_client_of_a_service_knows_where_its_secret_stands() -> None:
    account = Account("door", "mqtt://b")
    assert make_client(account)._refusals.cure == cure_of(account)


@pytest.mark.parametrize("change", [ConnectionChange.INTERRUPTED, ConnectionChange.REFUSED])
def test_a_certificate_that_runs_out_is_told_as_what_it_is_not_as_away(
    change: ConnectionChange,
) -> None:
    troubles: list[str] = []
    link = _link(Account("door", "mqtts://b"), troubles)
    link.client.refusal = "the broker's certificate has run out"  # type: ignore[misc]  # as above
    link.state_changed(ConnectionState.RECONNECTING, change)
    assert troubles == ["the broker's certificate has run out"]
