"""``bellwire-broker run`` on the network: found by doctor and by zeroconf, gone when it ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from zeroconf import ServiceBrowser, ServiceListener, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from broker_config.access import pki
from broker_config.admin import mdns
from broker_config.admin import setup as broker_setup
from device_sdk.services.config.account import Account
from device_sdk.services.doctor import check as doctor
from device_sdk.services.doctor import dns_sd
from device_sdk.services.doctor.patient import Patient
from tests.broker_support.raw import Raw
from tests.servers import free_port

SECONDS = 20
LOOPBACK = "127.0.0.1"
#: All but the addresses is real. On loopback no test's broker is seen by anybody's devices.
HERE = {"lo": (LOOPBACK,)}
ON_LOOPBACK = f"mdns.networks = lambda host: {HERE!r}"


class Served:
    """``bellwire-broker run DIR``, with TLS on every address, after a ``change``."""

    def __init__(self, directory: Path, change: str = ON_LOOPBACK, announce: str = "true") -> None:
        self.port = free_port()
        broker_setup.init(directory)
        self.secret, _ = broker_setup.add(directory, "door")
        (directory / "broker.toml").write_text(
            f'[listen]\nmqtts = ":{self.port}"\nmqtt = ""\nannounce = {announce}\n'
            '[metrics]\nlisten = ""\n'
        )
        self.ca = directory / "tls" / "ca.crt"
        imports = "import sys; from broker_config import cli; from broker_config.admin import mdns"
        code = f"{imports}; {change}; sys.exit(cli.main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "run", str(directory)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.endswith(f":{self.port} (mqtts)\n"), line

    def logged(self, text: str) -> str:
        """Wait for a line of its log."""
        assert self.process.stderr
        for line in self.process.stderr:
            if text in line:
                return line
        raise AssertionError(f"it ended with {self.process.wait()} without {text!r}")

    def serves(self) -> bool:
        """Whether a device is let in."""
        trust = ssl.create_default_context(cafile=str(self.ca))
        with Raw(self.port, tls=trust) as client:
            return client.connect("door", user="door", password=self.secret) == 0

    def stop(self) -> str:
        """End it; gives the rest of its log."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, log
        return log


@contextmanager
def serving(directory: Path, change: str = ON_LOOPBACK, announce: str = "true") -> Iterator[Served]:
    served = Served(directory, change, announce)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.stop()


class Seen(ServiceListener):
    """What zeroconf sees come and go."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._names: set[str] = set()

    def add_service(self, _zeroconf: Zeroconf, _kind: str, name: str) -> None:
        with self._changed:
            self._names.add(name)
            self._changed.notify_all()

    def update_service(self, *_any: object) -> None:
        pass

    def remove_service(self, _zeroconf: Zeroconf, _kind: str, name: str) -> None:
        with self._changed:
            self._names.discard(name)
            self._changed.notify_all()

    def waited(self, name: str, *, there: bool) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: (name in self._names) == there, SECONDS)


def browse() -> list[dns_sd.Announced]:
    """Doctor's own question, over loopback."""
    return dns_sd.browse(0.5, interface=LOOPBACK)


def announced(*wanted: int) -> list[dns_sd.Announced]:
    """What is announced, asked until all ports ``wanted`` are."""
    until = time.monotonic() + SECONDS
    while True:
        found = browse()
        if {each.port for each in found}.issuperset(wanted):
            return found
        assert time.monotonic() < until, found


def ports(wanted: int) -> set[int]:
    """The ports that are announced, asked until ``wanted`` is one of them."""
    return {each.port for each in announced(wanted)}


def test_zeroconf_sees_a_broker_come_and_go(tmp_path: Path) -> None:
    with ExitStack() as stack:
        zeroconf = Zeroconf(interfaces=[LOOPBACK])
        stack.callback(zeroconf.close)
        seen = Seen()
        ServiceBrowser(zeroconf, mdns.SERVICE, seen)
        served = stack.enter_context(serving(tmp_path / "broker"))
        line = served.logged("INFO announced as ")
        name = f"{line.partition('announced as ')[2].partition(':')[0]}.{mdns.SERVICE}"
        assert seen.waited(name, there=True)
        info = zeroconf.get_service_info(mdns.SERVICE, name, 1000 * SECONDS)
        assert info is not None
        assert (info.port, info.server) == (served.port, f"{pki.own_name(served.ca)}.")
        assert info.parsed_addresses() == [LOOPBACK]
        # Not asked just before its end: an answer under way may overtake the goodbye in zeroconf.
        served.stop()
        assert seen.waited(name, there=False)


def test_what_others_have_stays_theirs() -> None:
    """Another machine holds the host name, another broker the label: both get a number here."""

    async def play() -> None:
        other = AsyncZeroconf(interfaces=[LOOPBACK])
        theirs = AsyncServiceInfo(
            mdns.SERVICE, f"house.{mdns.SERVICE}", addresses=[b"\x7f\0\0\x09"], port=1,
            server="bellwire-1.local.",
        )  # fmt: skip
        try:
            await (await other.async_register_service(theirs))
            async with mdns.announced(4711, HERE, "bellwire-1.local", label="house") as shown:
                assert shown == f"house-2: bellwire-1-2.local:4711, {LOOPBACK} on lo"
                found = await asyncio.to_thread(announced, 1, 4711)
        finally:
            await other.async_close()
        assert {(each.name, each.host, each.addresses) for each in found} >= {
            ("house", "bellwire-1.local", ("127.0.0.9",)),
            ("house-2", "bellwire-1-2.local", (LOOPBACK,)),
        }

    asyncio.run(play())


_TWO_NETWORKS = """
import asyncio, sys
from broker_config.admin import mdns
from device_sdk.services.doctor import dns_sd
from pathlib import Path
async def play():
    async with mdns.announced(4711, mdns.networks(""), "bellwire-1.local"):
        for address in ("192.0.2.1", "198.51.100.1"):
            while not (found := await asyncio.to_thread(dns_sd.browse, 0.7, interface=address)):
                pass
            for each in found:
                print(address, *each.addresses)
asyncio.run(play())
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None,
    reason="networks of its own need root, unshare and ip",
)
def test_each_network_is_told_its_own_addresses() -> None:
    """A machine with two networks: the addresses of one are of no use in the other."""
    make = "ip link set lo up"
    for number, address in enumerate(("192.0.2.1", "198.51.100.1")):
        make += (
            f" && ip link add d{number} type bridge && ip addr add {address}/24 dev d{number}"
            f" && ip link set d{number} up multicast on"
        )
    ended = subprocess.run(
        ["unshare", "-n", "sh", "-c", f'{make} && exec "$@"', "sh", sys.executable, "-c",
         _TWO_NETWORKS],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.stdout.splitlines() == ["192.0.2.1 192.0.2.1", "198.51.100.1 198.51.100.1"], ended


def test_doctor_finds_a_running_broker(tmp_path: Path) -> None:
    with serving(tmp_path / "broker") as served:
        assert served.port in ports(served.port)
        (tmp_path / "secret").write_text(str(served.secret))
        account = Account(
            "door", f"mqtts://localhost:{served.port}",
            secret_file=tmp_path / "secret", ca_file=served.ca,
        )  # fmt: skip
        lines = list(doctor.examine(Patient(account, browse=browse, service=lambda: None)))
        (shown,) = [line for line in lines if line.startswith("name: ")]
        assert f"{pki.own_name(served.ca)}:{served.port}" in shown.partition("announced: ")[2]
        served.stop()
    assert served.port not in {each.port for each in browse()}


def test_switched_off_it_is_not_announced(tmp_path: Path) -> None:
    """Another that begins later is found, this one is not."""
    with serving(tmp_path / "broker", announce="false") as served:
        later = free_port()

        async def look() -> set[int]:
            async with mdns.announced(later, HERE, "later.local", label="later"):
                return await asyncio.to_thread(ports, later)

        found = asyncio.run(look())
        assert served.port not in found
        assert served.serves()
        assert "announced" not in served.stop()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (f"{ON_LOOPBACK}; sys.modules['zeroconf'] = None", "zeroconf is not installed"),
        ("mdns.networks = lambda host: {}", "no address in a network"),
        ("mdns.networks = lambda host: {'lo': ('203.0.113.9',)}", "No such device"),
    ],
    ids=["no zeroconf", "no network", "no such address"],
)
def test_a_broker_that_cannot_be_announced_serves(tmp_path: Path, change: str, told: str) -> None:
    with serving(tmp_path / "broker", change) as served:
        assert told in served.logged("WARNING not announced on the network: ")
        assert served.serves()
        assert "announced" not in served.stop()
