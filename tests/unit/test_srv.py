"""What a domain's DNS says of its brokers: asked of a real name server on loopback."""

from __future__ import annotations

import argparse
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.resolver
import pytest

from device_sdk.cli.errors import CommandError, ExitCode
from device_sdk.cli.fleet import command as fleet_command
from device_sdk.cli.observer import Observer
from device_sdk.client.link import srv
from device_sdk.client.link.base import Will
from device_sdk.client.link.factory import GuardedLink, paho_links
from device_sdk.client.link.paho import PahoLink
from device_sdk.client.link.srv import look_up
from device_sdk.client.link.url import BrokerUrl, SrvUrl, Tls, parse_broker, parse_brokers
from device_sdk.core.effects import BrokersFound
from device_sdk.core.rotation import Target, in_order
from device_sdk.errors import BrokerUnreachable, InvalidArgument
from device_sdk.services.config.homeassistant import read_homeassistant
from device_sdk.services.config.toml_reader import SettingsError
from tests.integration.certificates import Authority
from tests.nameserver import NameServer, Srv, name_server

PLAIN, SECURE = "mqtt+srv://localhost", "mqtts+srv://localhost"
ASKED = "_mqtt._tcp.localhost"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """The name server that is asked."""
    with name_server(monkeypatch) as server:
        yield server


def url_of(domain: str) -> SrvUrl:
    """``domain`` as a URL."""
    parsed = parse_broker(domain)
    assert isinstance(parsed, SrvUrl)
    return parsed


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        (None, "_mqtt._tcp.localhost has no SRV record: is it the right domain .`dig SRV"),
        ([], "_mqtt._tcp.localhost is there, but has no SRV record"),
        ([Srv(0, 0, 1, ".")], "says that this domain has no such broker"),
        ([Srv(0, 0, 0, "a.localhost.")], "says that this domain has no such broker"),
    ],
)
def test_what_dns_does_not_say(names: NameServer, records: list[Srv] | None, problem: str) -> None:
    """One line with the domain in it, and what to look at."""
    if records is not None:
        names.table[ASKED] = records
    with pytest.raises(BrokerUnreachable, match=problem) as caught:
        look_up(url_of(PLAIN))
    assert str(caught.value).startswith(f"{PLAIN}: ")
    assert "\n" not in str(caught.value)


def test_an_answer(names: NameServer) -> None:
    """Its time to live has bounds; who is outside of the domain has it for his certificate."""
    names.table["_secure-mqtt._tcp.localhost"] = [
        Srv(0, 5, 8883, "A.localhost."),
        Srv(0, 5, 8884, "b.elsewhere.example."),
        Srv(0, 5, 8885, "notlocalhost."),
    ]
    for names.ttl, wanted in ((0, 5), (300, 300), (10**6, 86400)):
        found, ttl = look_up(url_of(SECURE))
        assert ttl == wanted
    assert {str(each.url): each.url.certified for each in found} == {
        "mqtts://a.localhost:8883": "a.localhost",
        "mqtts://b.elsewhere.example:8884": "localhost",
        "mqtts://notlocalhost:8885": "localhost",
    }
    names.table["_secure-mqtt._tcp.localhost"] = [
        Srv(0, 0, 8000 + number, "localhost.") for number in range(100)
    ]
    assert len(look_up(url_of(SECURE)).found) == 64


def test_a_name_server_that_does_not_answer(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srv, "LOOK_UP_TIMEOUT", 0.1)
    names.silent = True
    with pytest.raises(BrokerUnreachable, match="does the network have one") as caught:
        look_up(url_of(PLAIN))
    assert caught.value.cause == "timeout"
    names.silent, names.failing = False, True
    with pytest.raises(BrokerUnreachable, match=r"no name server could say it: .*SERVFAIL"):
        look_up(url_of(PLAIN))


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (dns.resolver.NoResolverConfiguration(), "no name server is set .*: is the network up"),
        (dns.exception.FormError("odd"), "the look-up failed: FormError"),
        (OSError("no route"), "the look-up failed: OSError"),
    ],
)
def test_a_machine_that_cannot_ask(
    monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str
) -> None:
    """Whatever dnspython raises is a login error of one line."""

    def fail(_resolver: dns.resolver.Resolver, _file: object) -> None:
        raise error

    monkeypatch.setattr(dns.resolver.Resolver, "read_resolv_conf", fail)
    with pytest.raises(BrokerUnreachable, match=problem):
        look_up(url_of(PLAIN))


def test_a_look_up_in_the_place_of_a_link(names: NameServer) -> None:
    """It says what it found in the peer's order, once, and nothing else; the links are known."""
    names.table[ASKED] = [Srv(2, 0, 1, "localhost."), Srv(1, 0, 2, "localhost.")]
    brokers = paho_links("kitchen", PLAIN, None, None, None, 15)
    assert (brokers.names, brokers.sources) == ((PLAIN,), (PLAIN,))
    link = GuardedLink(lambda: brokers.link_to(PLAIN)(Will("sig/v1/kitchen/presence", b"")))
    link.open()
    targets = (Target("mqtt://localhost:2", 1, 0), Target("mqtt://localhost:1", 2, 0))
    assert link.drain() == [BrokersFound(targets, 300.0)]
    assert (link.drain(), link.fileno(), link.wants_write()) == ([], -1, False)
    for step in (link.read, link.write, link.tick, link.acknowledge):
        step()
    link.publish("t", b"", None)
    link.close(clean=True)
    assert isinstance(brokers.link_to("mqtt://localhost:2")(Will("a/b/c", b"")), PahoLink)


@pytest.mark.parametrize(("domain", "trusted"), [("bell.example", True), (None, False)])
def test_the_name_that_a_certificate_has_to_be_for(
    tmp_path: Path, domain: str | None, trusted: bool
) -> None:
    """Of a host outside of the domain: the domain, which alone was not named by DNS."""
    authority = Authority(tmp_path, "authority")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*authority.sign("broker", host="bell.example"))
    asked: list[str | None] = []
    serving.sni_callback = lambda _socket, name, _context: asked.append(name)

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with contextlib.suppress(ssl.SSLError), connection:
            serving.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        url = BrokerUrl("mqtts", "localhost", server.getsockname()[1], domain=domain)
        context = Tls(str(authority.path)).make_context()
        link = PahoLink(url, "kitchen", None, keepalive=15, context=context)
        if trusted:
            link.open()
        else:
            with pytest.raises(BrokerUnreachable, match=r"not trusted: .*'localhost'"):
                link.open()
        link.close(clean=False)
        thread.join(10)
    assert asked == ["bell.example" if trusted else "localhost"]


def test_a_fleet_asks_once(names: NameServer) -> None:
    names.table[ASKED] = [Srv(1, 0, 1, "localhost."), Srv(2, 0, 2, "localhost.")]
    found = fleet_command._found(parse_broker(PLAIN))
    assert [str(each) for each in found] == ["mqtt://localhost:1", "mqtt://localhost:2"]
    names.table.clear()
    args = argparse.Namespace(broker=[PLAIN], realm="sig", ca_file=None, table=None)
    with pytest.raises(CommandError, match="no SRV record") as caught:
        fleet_command._broker(args)
    assert caught.value.code is ExitCode.BROKER


def test_who_has_not_installed_it_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, where the URL comes in."""
    monkeypatch.setattr(srv.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InvalidArgument, match=r"pip install 'bellwire\[srv\]'"):
        paho_links("kitchen", PLAIN, None, None, None, 15)
    with pytest.raises(InvalidArgument, match=r"pip install 'bellwire\[srv\]'"):
        Observer(parse_brokers(PLAIN), ())


def test_weights_are_shares() -> None:
    """Of 4,000 devices three quarters begin at three quarters of the weight; 0 is next to none."""
    records = [Target("a", 1, 30), Target("b", 1, 10), Target("c", 1, 0), Target("d", 0, 0)]
    orders = [[t.name for t in in_order(records, f"door-{n}")] for n in range(4000)]
    assert {order[0] for order in orders} == {"d"}
    first = [order[1] for order in orders]
    assert 2850 < first.count("a") < 3150
    assert 850 < first.count("b") < 1150
    assert first.count("c") < 40


def test_the_broker_of_home_assistant_is_one(tmp_path: Path) -> None:
    """A domain may have several: said with the line, before anything is dialed."""
    path = tmp_path / "homeassistant.toml"
    path.write_text(
        '[account]\npeer = "hub"\nbroker = "mqtts+srv://bell.example"\n'
        '[mqtt]\nbroker = "mqtts+srv://home.example"\nca_file = "ca.pem"\n'
    )
    with pytest.raises(SettingsError, match=r"broker: .*one that Home Assistant has") as caught:
        read_homeassistant(path)
    assert len(caught.value.problems) == 1
