"""Fixtures that all tests share: brokers as processes, one of each for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers import BrokerProcess, BundledBroker, Mosquitto, mosquitto_binary

#: Set where a missing mosquitto is a failure: CI, which installs it.
REQUIRE = "BELLWIRE_REQUIRE_MOSQUITTO"


def need_mosquitto() -> None:
    """Skip where there is no mosquitto, or fail where there has to be one."""
    if mosquitto_binary() is None:
        if os.environ.get(REQUIRE):
            pytest.fail(f"mosquitto is missing, and {REQUIRE} is set", pytrace=False)
        pytest.skip("mosquitto is missing (Debian: apt install mosquitto)")


@pytest.fixture(scope="session")
def bundled_broker() -> Iterator[BrokerProcess]:
    """The bundled broker, shared: use realms or peer ids of your own, and leave it running."""
    with BundledBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def mosquitto_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """mosquitto, shared, as the bundled one is."""
    need_mosquitto()
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


@pytest.fixture(
    scope="session",
    params=["bundled", pytest.param("mosquitto", marks=pytest.mark.mosquitto)],
)
def broker(request: pytest.FixtureRequest) -> BrokerProcess:
    """Each of the shared brokers in turn."""
    found: BrokerProcess = request.getfixturevalue(f"{request.param}_broker")
    return found
