"""Brokers that DNS names: looked up, tried in their order, and looked up again when that is due.

The name server is a real one on loopback; every target is ``localhost``, at another port.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from device_sdk.cli.observer import Linked, Observer
from device_sdk.client.link import srv
from device_sdk.client.link.url import parse_brokers
from device_sdk.errors import BrokerUnreachable
from device_sdk.services.config.account import Account
from device_sdk.services.doctor.check import examine
from device_sdk.services.doctor.fault import Fault
from device_sdk.services.doctor.patient import Patient
from tests.integration.conftest import MakePeer
from tests.nameserver import NameServer, Srv, name_server
from tests.servers import BundledBroker, free_port

PLAIN = "mqtt+srv://localhost"
ASKED = "_mqtt._tcp.localhost"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """The name server that is asked."""
    with name_server(monkeypatch) as server:
        yield server


@pytest.fixture
def broker() -> Iterator[BundledBroker]:
    """One that a test may kill."""
    with BundledBroker() as one:
        yield one


def at(broker: BundledBroker, priority: int = 0, weight: int = 0) -> Srv:
    """The record of ``broker``."""
    return Srv(priority, weight, broker.port, "localhost.")


def url(broker: BundledBroker) -> str:
    """Its URL as a record names it."""
    return f"mqtt://localhost:{broker.port}"


def test_a_domains_brokers_are_used_and_asked_for_again(
    make_peer: MakePeer, names: NameServer, broker: BundledBroker
) -> None:
    """By priority; one that dies is left for the next; new ones are found when no old one serves.

    A call goes between two who know nothing but the domain.
    """
    with BundledBroker() as second:
        names.table[ASKED] = [at(second, priority=20), at(broker, priority=10)]
        peer = make_peer("kitchen", url=PLAIN)
        assert peer.client.broker == url(broker)
        caller = make_peer("door", url=PLAIN)
        caller.press("kitchen")
        peer.accept(peer.expect("remote_invitation_received").invitation)
        caller.expect("local_invitation_accepted")
        broker.kill()
        peer.expect_state("CONNECTED", nth=2, timeout=5)
        assert peer.client.broker == url(second)
        assert names.asked == [ASKED, ASKED]
        broker.start()
        names.table[ASKED] = [at(broker)]
        second.kill()
        peer.expect_state("CONNECTED", nth=3, timeout=5)
        assert peer.client.broker == url(broker)


def test_what_is_over_its_time_is_asked_for_before_it_is_dialed(
    make_peer: MakePeer, names: NameServer, broker: BundledBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a device goes where DNS says now, though the others that it knows are there as well."""
    monkeypatch.setattr(srv, "_LEAST", 0.0)
    names.ttl = 0
    with BundledBroker() as second, BundledBroker() as third:
        names.table[ASKED] = [at(broker, 1), at(second, 2)]
        peer = make_peer("kitchen", url=PLAIN)
        names.table[ASKED] = [at(third)]
        broker.kill()
        peer.expect_state("CONNECTED", nth=2, timeout=5)
        assert peer.client.broker == url(third)


def test_a_name_server_that_is_gone_takes_no_broker_away(
    make_peer: MakePeer, names: NameServer, broker: BundledBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it named before is dialed, after its patience; the first login says what is missing."""
    monkeypatch.setattr(srv, "_LEAST", 0.0)
    names.ttl = 0
    with BundledBroker() as second:
        names.table[ASKED] = [at(broker, 1), at(second, 2)]
        peer = make_peer("kitchen", url=PLAIN)
        names.silent = True
        began = time.monotonic()
        broker.kill()
        peer.expect_state("CONNECTED", nth=2, timeout=10)
        assert peer.client.broker == url(second)
        assert time.monotonic() - began < srv.LOOK_UP_TIMEOUT
    names.silent = False
    names.failing = True
    with pytest.raises(BrokerUnreachable, match="no name server could say it"):
        make_peer("other", login=False, url=PLAIN).login()


def test_urls_and_domains_together(
    make_peer: MakePeer, names: NameServer, broker: BundledBroker
) -> None:
    """What is named outright comes first, and DNS is asked when that is not there."""
    with BundledBroker() as named:
        names.table[ASKED] = [at(broker)]
        peer = make_peer("kitchen", url=[PLAIN, named.url])
        assert (peer.client.broker, names.asked) == (named.url, [])
        named.kill()
        peer.expect_state("CONNECTED", nth=2, timeout=5)
        assert peer.client.broker == url(broker)


def test_a_watcher_finds_its_brokers(names: NameServer, broker: BundledBroker) -> None:
    """`watch` and `trace` read at the first that serves, and go on at the next."""
    with BundledBroker() as second:
        names.table[ASKED] = [Srv(0, 0, free_port(), "localhost."), at(broker, 1), at(second, 2)]
        observer = Observer(parse_brokers(PLAIN), ("sig/v1/x/presence",))
        observer.start()
        assert observer.broker == url(broker)
        broker.kill()
        for _ in itertools.repeat(None):
            told = [each for each in observer.wait(5) if isinstance(each, Linked)]
            if told and told[-1].up:
                break
        assert observer.broker == url(second)
        observer.close()
    names.table.clear()
    with pytest.raises(BrokerUnreachable, match="no SRV record"):
        Observer(parse_brokers(PLAIN), ("sig/v1/x/presence",)).start()


def test_the_doctor_says_what_dns_says(names: NameServer, broker: BundledBroker) -> None:
    """Then examines each that it names, whatever is wrong with the others, or with a domain."""
    dead = free_port()
    names.table[ASKED] = [at(broker, 1, 5), Srv(2, 0, dead, "localhost.")]
    account = Account("kitchen", f"{PLAIN}, mqtt+srv://nowhere.localhost")
    told: list[str] = []
    with pytest.raises(Fault) as caught:
        told.extend(examine(Patient(account, browse=list, service=lambda: None)))
    said = next(line for line in told if line.startswith("DNS"))
    assert f"{url(broker)} (priority 1, weight 5), mqtt://localhost:{dead} (priority 2" in said
    assert f"{url(broker)}: login: kitchen is let in, and its presence was published" in told
    nowhere, closed = caught.value.problems
    assert nowhere.startswith("mqtt+srv://nowhere.localhost: _mqtt._tcp.nowhere.localhost has no")
    assert closed.startswith(f"mqtt://localhost:{dead}: localhost is there, but nothing listens")
