"""What is announced, and when: whatever the network does, the broker is not kept from serving."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from broker_config.access import pki
from broker_config.admin import mdns
from broker_config.admin import setup as broker_setup
from broker_config.admin.serve import to_announce
from broker_config.admin.settings import load

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here


@pytest.mark.parametrize(
    ("text", "bound", "expected"),
    [
        ("", (EVERYWHERE, 8883), (8883, "")),
        ("mqtts = ':8883'", ("::", 8883), (8883, "")),
        ("mqtts = '0.0.0.0:0'", (EVERYWHERE, 4711), (4711, EVERYWHERE)),
        ("mqtts = '192.0.2.7:8883'", ("192.0.2.7", 8883), (8883, "192.0.2.7")),
        ("mqtts = 'broker.lan:8883'", ("192.0.2.7", 8883), (8883, "192.0.2.7")),
        ("mqtts = '127.0.0.1:8883'", ("127.0.0.1", 8883), None),
        ("mqtts = 'localhost:8883'", ("127.0.0.1", 8883), None),
        ("mqtts = '[::1]:8883'", ("::1", 8883), None),
        ("mqtts = '[::]:8883'", ("::", 8883), None),
        ("announce = false", (EVERYWHERE, 8883), None),
        ("mqtts = ''\nwss = ':8884'", None, None),
    ],
)
def test_only_tls_that_others_reach_is_announced(
    tmp_path: Path, text: str, bound: tuple[str, int] | None, expected: tuple[int, str] | None
) -> None:
    (tmp_path / "broker.toml").write_text(f"[listen]\n{text}\n")
    listeners = {"mqtt": ("127.0.0.1", 1883), "wss": (EVERYWHERE, 8884)}
    if bound is not None:
        listeners["mqtts"] = bound
    assert to_announce(load(tmp_path), listeners) == expected


def test_what_init_makes_is_announced(tmp_path: Path) -> None:
    """So is the broker of `bellwire provision --broker-role`, which `init` sets up."""
    broker_setup.init(tmp_path)
    assert to_announce(load(tmp_path), {"mqtts": (EVERYWHERE, 8883)}) == (8883, "")


def test_the_addresses_are_those_of_the_network_that_the_listener_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def has(*found: tuple[socket.AddressFamily, str]) -> list[SimpleNamespace]:
        return [SimpleNamespace(family=family, address=address) for family, address in found]

    found = {
        "lo": has((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")),
        "wlan0": has((socket.AF_INET, "192.0.2.7"), (socket.AF_INET6, "fe80::7%wlan0")),
        "eth0": has((socket.AF_INET, "10.0.0.3"), (socket.AF_PACKET, "00:00:5e:00:53:01")),
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    for everywhere in ("", EVERYWHERE):
        assert mdns.networks(everywhere) == {"eth0": ("10.0.0.3",), "wlan0": ("192.0.2.7",)}
    assert mdns.networks("192.0.2.7") == {"wlan0": ("192.0.2.7",)}
    assert mdns.networks("192.0.2.8") == {}, "it had it once"


@pytest.mark.parametrize("name", ["broker", "broker.example.org"])
def test_the_certificate_is_for_the_announced_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert pki.local_name() == "broker.local"
    assert "broker.local" in pki.host_names()


def test_the_broker_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Stable, in its certificate, and no machine's: another one may be called as this host is."""
    broker_setup.init(tmp_path / "one")
    broker_setup.init(tmp_path / "two")
    one, two = (pki.own_name(tmp_path / name / "tls" / "ca.crt") for name in ("one", "two"))
    assert one != two
    assert one == pki.own_name(tmp_path / "one" / "tls" / "ca.crt")
    assert pki.local_name() not in (one, two)
    broker_setup.renew(tmp_path / "one", [])
    assert one in pki.extra_names(tmp_path / "one" / "tls" / "server.crt")


class Network:
    """Stands in for zeroconf and for this host's addresses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here: mdns.Networks | Exception = {}
        self.fault: Exception | None = None
        self.looks = 0
        self.now: list[mdns.Networks] = []
        monkeypatch.setattr(mdns, "networks", self._networks)
        monkeypatch.setattr(mdns, "announced", self._announced)
        monkeypatch.setattr(mdns, "_LOOK", 0)

    def _networks(self, _host: str) -> mdns.Networks:
        self.looks += 1
        if isinstance(self.here, Exception):
            raise self.here
        return self.here

    @contextlib.asynccontextmanager
    async def _announced(self, port: int, at: mdns.Networks, host: str) -> AsyncIterator[str]:
        assert (port, host) == (8883, "bellwire-1.local")
        if self.fault is not None:
            raise self.fault
        self.now.append(at)
        try:
            yield "house"
        finally:
            self.now.remove(at)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)

    async def looked(self, times: int = 5) -> None:
        """Wait for some more attempts."""
        until = self.looks + times
        await self.until(lambda: self.looks >= until)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(monkeypatch)


@contextlib.asynccontextmanager
async def announcing() -> AsyncIterator[None]:
    task = asyncio.create_task(mdns.keep_announced(8883, "", "bellwire-1.local"))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_what_is_announced_follows_the_addresses(network: Network) -> None:
    async def play() -> None:
        async with announcing():
            await network.looked()
            assert network.now == []
            lan = {"eth0": ("192.0.2.7",)}
            for here in (lan, {**lan, "wlan0": ("198.51.100.3",)}, {}, {"eth0": ("192.0.2.8",)}):
                network.here = here
                await network.until(lambda: network.now == ([network.here] if network.here else []))
        assert network.now == [], "taken back at the end"

    asyncio.run(play())


@pytest.mark.parametrize(
    ("here", "fault", "told"),
    [
        ({}, None, "this host has no address in a network yet"),
        (OSError(97, "not supported"), None, "[Errno 97] not supported"),
        (
            {"eth0": ("192.0.2.7",)},
            mdns.NotAnnounced("zeroconf is not installed"),
            "zeroconf is not installed",
        ),
        ({"eth0": ("192.0.2.7",)}, RuntimeError(), "RuntimeError"),
    ],
)
def test_what_stands_in_the_way_is_told_once_and_overcome(
    network: Network,
    caplog: pytest.LogCaptureFixture,
    here: mdns.Networks | Exception,
    fault: Exception | None,
    told: str,
) -> None:
    async def play() -> None:
        network.here, network.fault = here, fault
        async with announcing():
            await network.looked(20)
            network.here, network.fault = {"eth0": ("192.0.2.7",)}, None
            await network.until(lambda: bool(network.now))

    with caplog.at_level(logging.INFO, "broker_config.admin.mdns"):
        asyncio.run(play())
    assert [record.getMessage() for record in caplog.records] == [
        f"not announced on the network: {told}",
        "announced as house",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
