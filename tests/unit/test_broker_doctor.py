"""``bellwire-broker doctor``: what the running broker says of itself is no secret to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from broker_config.admin.doctor import unhealthy
from broker_config.admin.settings import BrokerSettings, Metrics
from device_sdk.services.metrics.http_server import HttpServer, answer


@pytest.mark.parametrize(
    ("line", "body", "said"),
    [
        ("200 OK", "ok, but nearly full: x", []),
        (
            "503 Service Unavailable",
            "data/broker.sqlite3 cannot be written",
            [
                "the broker says of itself: data/broker.sqlite3 cannot be written; see its log",
            ],
        ),
        ("404 Not Found", "somebody else's", []),
    ],
)
def test_a_broker_that_is_not_well_is_not_called_well(
    tmp_path: Path, line: str, body: str, said: list[str]
) -> None:
    """With a full disk it refuses every call, and its process is there all the same."""

    def application(_: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return answer(start, body, line)

    server = HttpServer("127.0.0.1", 0, application)
    try:
        settings = BrokerSettings(tmp_path, metrics=Metrics(f"127.0.0.1:{server.port}"))
        found = list(unhealthy(settings))
    finally:
        server.close()
    assert [(each.well, each.what) for each in found] == [(False, what) for what in said]
    assert list(unhealthy(settings)) == []  # nobody answers there
    assert list(unhealthy(BrokerSettings(tmp_path, metrics=Metrics("")))) == []
