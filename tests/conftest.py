"""Fixtures that all tests share: brokers as processes, one of each for the whole session.

``make test`` runs several sessions beside each other (pytest-xdist): each has its own brokers, so
that realms and client ids meet nobody. What is to stay together is in :data:`TOGETHER`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.exported import Bridge, Exported, ExportedMosquitto, Nats, nats_binary
from tests.peers import FACES, Loop
from tests.servers import BrokerProcess, BundledBroker, mosquitto_binary

#: Modules whose tests run one after the other in one session, by what they share.
TOGETHER = {
    # One stock amqtt, which hands what one test left retained to the clients of the next (fault 1).
    "faults/test_broker_ten_faults.py": "stock amqtt",
    # A broker with authorities, certificates and a mosquitto; a venv with the wheel in it.
    "integration/test_login.py": "tls_broker",
    "packaging/test_wheel.py": "wheel",
    # Who announces itself on loopback is seen by everybody who looks there.
    "integration/test_broker_announced.py": "announcements",
    "integration/test_pi_doctor.py": "announcements",
}

# Timings are figures of `make bench`: a machine with other work to do is no fault of an example.
hypothesis.settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared machine")

#: Set where a missing mosquitto is a failure: CI, which installs it.
REQUIRE = "BELLWIRE_REQUIRE_MOSQUITTO"


def pytest_configure() -> None:
    """Let Ctrl-C be heard here and by the programs started here.

    In the background of a script it is ignored, and that is inherited.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what is to stay together; without pytest-xdist that changes nothing."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            group = TOGETHER.get(item.path.relative_to(here).as_posix())
            if group is not None:
                item.add_marker(pytest.mark.xdist_group(group))


def _need(name: str, found: str | None, install: str) -> None:
    if found is None:
        if os.environ.get(REQUIRE):
            pytest.fail(f"{name} is missing, and {REQUIRE} is set", pytrace=False)
        pytest.skip(f"{name} is missing ({install})")


def need_mosquitto() -> None:
    """Skip where there is no mosquitto, or fail where there has to be one."""
    _need("mosquitto", mosquitto_binary(), Exported.install)


def need_nats() -> None:
    """Skip where there is no nats-server, or fail where there has to be one."""
    _need("nats-server", nats_binary(), Nats.install)


@pytest.fixture(scope="session")
def bundled_broker() -> Iterator[BrokerProcess]:
    """The bundled broker, shared: use realms or peer ids of your own, and leave it running."""
    with BundledBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def mosquitto_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """mosquitto, shared, as the bundled one is."""
    need_mosquitto()
    with ExportedMosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


@pytest.fixture(scope="session")
def bridge_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Two mosquittos with a bridge, shared; peers are spread over both."""
    need_mosquitto()
    with Bridge(tmp_path_factory.mktemp("bridge")) as broker:
        yield broker


@pytest.fixture(scope="session")
def nats_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Three nodes of NATS, shared; peers are spread over all."""
    need_nats()
    with Nats(tmp_path_factory.mktemp("nats")) as broker:
        yield broker


#: All brokers of the suite; those of several nodes are CI's alone (`pytest -m cluster`).
BROKERS = [
    "bundled",
    pytest.param("mosquitto", marks=pytest.mark.mosquitto),
    pytest.param("bridge", marks=pytest.mark.cluster),
    pytest.param("nats", marks=pytest.mark.cluster),
]


@pytest.fixture(scope="session", params=BROKERS)
def broker(request: pytest.FixtureRequest) -> BrokerProcess:
    """Each of the shared brokers in turn."""
    found: BrokerProcess = request.getfixturevalue(f"{request.param}_broker")
    return found


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    """An event loop in a thread, for the asyncio face."""
    made = Loop()
    yield made
    made.close()


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    """Each face in turn."""
    name: str = request.param
    return name
