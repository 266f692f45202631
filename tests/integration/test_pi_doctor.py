"""`bellwire doctor` against a broker with TLS and secrets: one fault at a time, named first."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl

import pytest

from broker_config.admin.mdns import announced
from broker_config.admin.setup import init
from device_sdk import ConnectionState, SignalingClient
from device_sdk.client.link.url import BrokerUrl
from device_sdk.core.events import Name
from device_sdk.services.config.account import Account
from device_sdk.services.doctor import check as doctor
from device_sdk.services.doctor import dns_sd
from device_sdk.services.doctor.check import examine
from device_sdk.services.doctor.fault import Fault
from device_sdk.services.doctor.patient import Patient
from tests.conftest import need_mosquitto
from tests.servers import Mosquitto, free_port
from tools.image_test.broker import broker


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Port, secrets and authority of a broker."""
    home = tmp_path_factory.mktemp("served") / "broker"
    with broker(home) as (port, secrets):
        yield port, secrets, home / "tls" / "ca.crt"


@pytest.fixture
def account(served, tmp_path):
    port, secrets, ca = served
    (tmp_path / "secret").write_text(secrets["front-door"])
    return Account(
        "front-door", f"mqtts://127.0.0.1:{port}", secret_file=tmp_path / "secret", ca_file=ca
    )


def patient(account: Account, **more) -> Patient:
    return Patient(account, browse=list, service=lambda: None, **more)


def fault(account: Account, **more) -> str:
    with pytest.raises(Fault) as caught:
        list(examine(patient(account, **more)))
    assert "\n" not in str(caught.value), "one line"
    return str(caught.value)


def test_all_is_well(account):
    lines = list(examine(patient(account)))
    assert [line.split(":")[0] for line in lines] == [
        "secret", "clock", "name", "port", "TLS", "login",
    ]  # fmt: skip


def test_the_names_that_the_buttons_ring(account):
    """Each is tried, and the largest cell; beside a running service, too."""
    for service in (lambda: None, lambda: ("bellwire-doorbell", "online as front-door")):
        asked = Patient(account, ("kitchen",), browse=list, service=service)
        assert list(examine(asked))[-2:] == [
            "calls: front-door may call kitchen", "largest cell: 20480 bytes are taken",
        ]  # fmt: skip


def test_each_of_several_brokers_is_tried(account):
    """What is wrong with one is told with its URL, and what is well with the others, too."""
    dead = f"mqtts://127.0.0.1:{free_port()}"
    several = dataclasses.replace(account, broker=f"{dead}, {account.broker}")
    asked = Patient(several, ("kitchen",), browse=list, service=lambda: None)
    told = []
    with pytest.raises(Fault) as caught:
        told.extend(examine(asked))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{dead}: 127.0.0.1 is there, but nothing listens on port")
    assert f"{account.broker}: login: front-door is let in, and its presence was published" in told
    assert told[-1] == f"{account.broker}: largest cell: 20480 bytes are taken"
    both = dataclasses.replace(account, broker=f"{dead}, {dead.replace('127.0.0.1', 'localhost')}")
    with pytest.raises(Fault) as caught:
        list(examine(Patient(both, browse=list, service=lambda: None)))
    assert [problem.split(": ")[0] for problem in caught.value.problems] == both.broker.split(", ")


def test_a_name_that_it_may_not_call(account):
    """Told with the command that cures it; those that it may call are told, too."""
    asked = Patient(account, ("kitchen", "garage"), browse=list, service=lambda: None)
    told = []
    with pytest.raises(Fault) as caught:
        told.extend(examine(asked))  # what came before the fault stays
    assert told[-1] == "calls: front-door may call kitchen"
    assert "does not let front-door call garage: " in str(caught.value)
    assert "device set front-door --may-call kitchen garage" in str(caught.value)


@pytest.mark.parametrize("limit", ["max_packet_size 16000", "message_size_limit 16000"])
def test_a_broker_that_takes_no_large_cells(tmp_path, limit):
    """Whether it closes the connection or drops them without a word."""
    need_mosquitto()
    tmp_path.parent.chmod(0o755)
    tmp_path.chmod(0o755)  # mosquitto, started by root, reads as another user
    with Mosquitto(tmp_path, limit) as broker:
        there = Account("a", f"mqtt://127.0.0.1:{broker.port}")
        asked = Patient(there, ("b",), browse=list, service=lambda: None)
        with pytest.raises(Fault, match="largest packet be 21 KiB or more"):
            list(examine(asked))


def test_nobody_is_rung_by_being_tried(account, served):
    """A panel that is there hears no call and misses none."""
    port, secrets, ca = served
    heard = []
    kitchen = SignalingClient("kitchen", f"mqtts://127.0.0.1:{port}", password=secrets["kitchen"],
                              ca_file=ca)  # fmt: skip
    with kitchen:
        kitchen._deliver = lambda event: heard.append(event.name)
        list(examine(Patient(account, ("kitchen",), browse=list, service=lambda: None)))
        assert not [name for name in heard if name is not Name.CONNECTION_STATE_CHANGED]


def test_a_missing_secret(account, tmp_path):
    (tmp_path / "secret").unlink()
    assert "secret: there is no such file" in fault(account)


def test_a_wrong_secret(account, tmp_path):
    (tmp_path / "secret").write_text("not it")
    assert "does not let front-door in" in fault(account)


def test_an_unknown_name(account):
    told = fault(dataclasses.replace(account, broker="mqtts://no-such-host.invalid"))
    assert "the name no-such-host.invalid is unknown here" in told


def test_an_unknown_name_with_a_broker_announced(account):
    wrong = dataclasses.replace(account, broker="mqtts://no-such-host.invalid")
    found = [dns_sd.Announced("Attic", "pi.local", 8883)]
    with pytest.raises(Fault, match=r"announces pi\.local:8883"):
        list(examine(Patient(wrong, browse=lambda: found, service=lambda: None)))


def test_a_closed_port(account):
    told = fault(dataclasses.replace(account, broker=f"mqtts://127.0.0.1:{free_port()}"))
    assert "nothing listens on port" in told


def test_a_port_without_tls(account, bundled_broker):
    told = fault(dataclasses.replace(account, broker=f"mqtts://127.0.0.1:{bundled_broker.port}"))
    assert "no TLS" in told


def test_another_authority(account, tmp_path):
    home = tmp_path / "other"
    init(home, realm="sig", names=[])
    told = fault(dataclasses.replace(account, ca_file=home / "tls" / "ca.crt"))
    assert "copy the broker's ca.crt here again" in told


def test_a_clock_that_was_never_set(account):
    told = fault(account, now=lambda: 0.0)
    assert told.startswith("the clock says 1970-01-01 00:00: it was never set")


@pytest.mark.parametrize(
    ("code", "says"),
    [(9, "the clock is wrong: it says"), (10, "run out, if this clock"), (62, "is not for 127.0")],
)
def test_what_a_refused_certificate_means(account, code, says):
    error = ssl.SSLCertVerificationError(1, "verify failed")
    error.verify_code = code
    url = BrokerUrl.parse(account.broker)
    assert says in doctor._why_untrusted(error, patient(account, url=url))


def test_a_running_service_is_asked_instead_of_ousted(account):
    status = "online as front-door at mqtts://there"
    running = Patient(account, browse=list, service=lambda: ("bellwire-doorbell", status))
    assert "bellwire-doorbell is logged in" in list(examine(running))[-1]
    running.service = lambda: ("bellwire-panel", "online as kitchen")  # another's says nothing
    assert "front-door is let in, and its presence was published" in list(examine(running))[-1]
    running.service = lambda: ("bellwire-doorbell", "not logged in: refused")
    with pytest.raises(Fault, match="bellwire-doorbell runs, but is not logged in"):
        list(examine(running))


def test_a_device_that_is_there_is_not_ousted_from_another_machine(account, served):
    """A service that is taken over ends, and is not started again: the bell would be dead."""
    port, secrets, ca = served
    door = SignalingClient("front-door", f"mqtts://127.0.0.1:{port}", ca_file=ca,
                           password=secrets["front-door"])  # fmt: skip
    with door:
        assert "logged in already" in list(examine(patient(account)))[-1]
        assert door.connection_state is ConnectionState.CONNECTED
    assert "its presence was published" in list(examine(patient(account)))[-1]


def test_an_announced_broker_is_found():
    """Zeroconf on one side, our question on the other, over loopback."""

    async def look():
        here = {"lo": ("127.0.0.1",)}
        async with announced(8883, here, "bellwire-1.local", label="Attic"):
            return await asyncio.to_thread(dns_sd.browse, 2.0, interface="127.0.0.1")

    found = asyncio.run(look())
    assert [(each.name, each.port) for each in found] == [("Attic", 8883)]
    assert found[0].host == "bellwire-1.local"
