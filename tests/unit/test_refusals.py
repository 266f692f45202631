"""A client that is let in no more says why, and what cures that, once; on both faces."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from device_sdk import BrokerRefused, BrokerUnreachable, SignalingClient, Tls, aio
from device_sdk.client.invitations import Event
from device_sdk.client.link.failures import login_error
from device_sdk.client.link.url import BrokerUrl
from device_sdk.core.connection import LoginSession
from device_sdk.core.effects import LinkFailed
from device_sdk.errors import LoginError
from device_sdk.services.service.link import ServiceClient
from device_sdk.states import ConnectionChange, ConnectionState

NOT_AUTHORIZED = BrokerRefused(5, "mqtt://b refused: not authorized")
EXPIRED = BrokerUnreachable("certificate", "mqtts://b: certificate has expired; `date`")
AWAY = BrokerUnreachable("connection refused", "mqtt://b: connection refused")
Pair = tuple[ConnectionState, ConnectionChange]
REFUSED = (ConnectionState.RECONNECTING, ConnectionChange.REFUSED)
INTERRUPTED = (ConnectionState.RECONNECTING, ConnectionChange.INTERRUPTED)


class Bench:
    """A client whose session has lost its link, and whose attempts at another fail."""

    def __init__(self, client: Any, state: ConnectionState = ConnectionState.RECONNECTING) -> None:
        self.client = client
        self.told: list[tuple[Pair, str]] = []
        client._deliver = self._deliver
        self.session: LoginSession = client._new_session(keep_trying=True)
        self.session.state = state

    def _deliver(self, event: Event) -> None:
        self.told.append((event.args, event.detail))  # type: ignore[arg-type]  # as it is told

    def fails(self, error: LoginError) -> None:
        """One attempt, and what is told and logged of it."""
        self.session._linked = True
        self.client._feed(self.session, LinkFailed(error), 1.0)
        self.client._dispatch_all()
        self.client._records.flush()

    def connected(self) -> None:
        """It is let in."""
        self.session._become(ConnectionState.CONNECTED, ConnectionChange.LOGIN_SUCCESS)
        self.client._sort(self.session)
        self.client._dispatch_all()
        self.told.clear()


@pytest.fixture(params=[SignalingClient, aio.SignalingClient])
def face(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is logged at WARNING or above."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]  # shortest
    log = logging.getLogger("bellwire")
    with caplog.at_level(logging.INFO, "bellwire"):
        log.addHandler(handler)
        yield found
        log.removeHandler(handler)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"password": "s3cret"}, "is password still its secret?"),
        ({"secret_file": True}, "door.secret still its secret?"),
        ({"tls": Tls(cert_file="/x/door.crt", context=ssl.create_default_context())},
         "is /x/door.crt still its certificate?"),
        ({}, "it has neither secret_file nor cert_file;"),
    ],
)  # fmt: skip
def test_who_is_refused_is_told_once_with_the_cure(face, warnings, tmp_path, given, what) -> None:
    """A secret that was rotated under a running program: a warning, not one for each attempt."""
    if "secret_file" in given:
        given = {"secret_file": tmp_path / "door.secret"}
        given["secret_file"].write_text("s3cret")
    bench = Bench(face("door", "mqtts://b" if "tls" in given else "mqtt://127.0.0.1", **given))
    warnings.clear()
    for error in (AWAY, NOT_AUTHORIZED, NOT_AUTHORIZED, AWAY, NOT_AUTHORIZED):
        bench.fails(error)
    (said,) = warnings
    assert said == f"door cannot log in again: {bench.client.refusal}; trying again"
    assert said.startswith("door cannot log in again: mqtt://b refused: not authorized (it was let")
    assert what in said
    assert "`bellwire-broker device rotate door`" in said
    assert [pair for pair, _ in bench.told] == [INTERRUPTED, REFUSED, INTERRUPTED, REFUSED]
    bench.connected()
    assert bench.client.refusal == ""
    bench.fails(NOT_AUTHORIZED)
    assert len(warnings) == 2


def test_a_broker_that_is_only_too_busy_needs_no_other_secret(face, warnings) -> None:
    bench = Bench(face("door", "mqtt://127.0.0.1"))
    bench.fails(BrokerRefused(3, "mqtt://b refused: server unavailable"))
    assert bench.client.refusal == "mqtt://b refused: server unavailable (it was let in before)"
    assert len(warnings) == 1


def test_a_certificate_that_runs_out_under_a_running_client_is_told_once(face, warnings) -> None:
    """Its connection is interrupted as before; that it stays so, and why, is news."""
    bench = Bench(face("door", "mqtts://b"))
    bench.fails(AWAY)
    for _ in range(3):
        bench.fails(EXPIRED)
    assert bench.told == [(INTERRUPTED, str(AWAY)), (INTERRUPTED, str(EXPIRED))]
    assert warnings == [f"door cannot log in again: {EXPIRED}; trying again"]
    assert bench.client.refusal == str(EXPIRED)


@pytest.mark.parametrize("state", [ConnectionState.CONNECTING, ConnectionState.DISCONNECTED])
def test_who_was_not_in_is_told_by_the_error_of_its_login(face, warnings, state) -> None:
    bench = Bench(face("door", "mqtts://b"), state)
    bench.session._logging_in = True
    for error in (EXPIRED, NOT_AUTHORIZED):
        bench.fails(error)
    assert (warnings, bench.client.refusal) == ([], "")


def test_who_is_logged_out_is_told_no_more(face, warnings) -> None:
    bench = Bench(face("door", "mqtts://b"))
    bench.session._over = True
    bench.fails(EXPIRED)
    assert (warnings, bench.told) == ([], [])


def test_a_service_says_it_itself(warnings) -> None:
    bench = Bench(ServiceClient("door", "mqtts://b"))
    bench.fails(EXPIRED)
    bench.fails(NOT_AUTHORIZED)
    assert warnings == []


@pytest.mark.parametrize(
    ("code", "cause", "cure"),
    [
        (9, "certificate is not yet valid", "is this machine's clock right (compare `date`)?"),
        (10, "certificate has expired", "`date`)? If so, the broker needs a new one (the bundled: "
         "`bellwire-broker renew`)"),
        (20, "unable to get local issuer certificate", "is ca_file the authority that signed it?"),
        (62, "Hostname mismatch", "(the bundled broker: `bellwire-broker renew --name bell.lan`)"),
        (23, "certificate revoked", "not trusted: certificate revoked"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_certificate_is_told_with_its_cure(code, cause, cure) -> None:
    error = ssl.SSLCertVerificationError(1, cause)
    error.verify_code, error.verify_message = code, cause
    told = login_error(error, BrokerUrl.parse("mqtts://bell.lan"))
    assert isinstance(told, BrokerUnreachable)
    assert told.cause == "certificate"
    assert str(told).startswith("mqtts://bell.lan:8883: the broker's certificate is not trusted: ")
    assert cause in str(told)
    assert cure in str(told)
