"""What a broker of any kind has to be told: who may connect, who may do what, and its nodes."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from device_sdk.core.wire.topics import escape, everything

from ..access.acl import readable, writable
from ..access.naming import calls, turned
from ..access.registry import Registry

#: The largest payload, in bytes: a cell has at most 20 KiB (docs/protocol.md).
LARGEST_PAYLOAD = 32 * 1024
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
#: What an accept waits for the caller where a node may die meanwhile (``accept_timeout``), in
#: seconds: a cluster of NATS answers again within 12 s, a bridge is up again within 10.
FAIL_OVER = 20
_LONGEST_HOST = 253
#: The highest that leaves room for the port beside it.
_HIGHEST_PORT = 65534


class ExportError(ValueError):
    """It cannot be exported like this; the text says why and what would do."""


@dataclass(frozen=True, slots=True)
class BrokerNode:
    """Where one broker listens for MQTT; the port after it is for the brokers among themselves."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, port: int) -> BrokerNode:
        """``HOST`` or ``HOST:PORT``; raises :class:`ExportError`."""
        host, colon, given = text.rpartition(":")
        if not colon:
            host, given = text, str(port)
        if not _HOST.fullmatch(host) or len(host) > _LONGEST_HOST or "/" in given:
            raise ExportError(f"--node: HOST or HOST:PORT, a name or an IPv4 address, not {text!r}")
        if not given.isascii() or not given.isdecimal() or not 1 <= int(given) <= _HIGHEST_PORT:
            raise ExportError(f"--node: a port is 1 to {_HIGHEST_PORT}, not {given!r}")
        return cls(host.lower(), int(given))

    @property
    def loopback(self) -> bool:
        """Whether only its own machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def bound(self) -> str:
        """The address to listen on: every one, of a node that others reach."""
        if self.host == "localhost":
            return "127.0.0.1"
        return self.host if self.loopback else "0.0.0.0"  # noqa: S104 - with TLS and a registry


@dataclass(frozen=True, slots=True)
class User:
    """A device: its user name, its secret in two forms, the filters it may publish and read."""

    name: str
    pbkdf2: str
    bcrypt: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """All that an export is made of."""

    realm: str
    nodes: tuple[BrokerNode, ...]
    #: None where anybody may do anything, on loopback.
    users: tuple[User, ...] | None
    #: What the nodes show each other.
    peer_secret: str
    #: Who runs it, where it is started by root.
    owner: str = "mosquitto"

    def account(self, scheme: str = "", **settings: object) -> str:
        """What devices are to be told: all nodes, and ``settings`` that differ from the default."""
        scheme = scheme or ("mqtt" if self.users is None else "mqtts")
        urls = [f"{scheme}://{node.host}:{node.port}" for node in self.nodes]
        lines = [
            "# For the devices: in a doorbell's or panel's [account], or ~/.config/bellwire.toml.",
            f"broker = {json.dumps(urls[0] if len(urls) == 1 else urls)}",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        return "\n".join([*lines, ""])


def users_of(registry: Registry, realm: str) -> tuple[User, ...]:
    """The devices as users; raises :class:`ExportError` naming those that cannot be."""
    devices = registry.devices
    certified = [name for name, device in sorted(devices.items()) if device.certificate]
    if certified:
        raise ExportError(
            f"{_listed(certified)}: known by the fingerprint of a certificate, which no other "
            "broker can express; `device remove` and `device add` give a device a secret"
        )
    old = [name for name, each in sorted(devices.items()) if not (each.pbkdf2 and each.bcrypt)]
    if old:
        raise ExportError(
            f"{_listed(old)}: registered before secrets were kept in other brokers' forms; "
            "`bellwire-broker device rotate NAME` gives a device a new one"
        )
    called = calls(devices)
    callers = turned(called)
    users = []
    for name, device in sorted(devices.items()):
        others = [each for each in devices if each != name]
        publish = writable(realm, name, set(called[name]), set(callers[name]), others)
        subscribe = readable(realm, name)
        if device.watches:
            subscribe = (*subscribe, everything(realm))
        users.append(
            User(escape(name), device.pbkdf2 or "", device.bcrypt or "", publish, subscribe)
        )
    return tuple(users)


def check_nodes(what: str, nodes: tuple[BrokerNode, ...], counts: Iterable[int]) -> None:
    """Raise :class:`ExportError` unless there are as many nodes as ``what`` has."""
    allowed = tuple(counts)
    if len(nodes) not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ExportError(
            f"{what} has {wanted} nodes, not {len(nodes)}: --node HOST[:PORT] for each"
        )
    hosts = [node.bound if node.loopback else node.host for node in nodes]
    ports = [
        (host, port)
        for host, node in zip(hosts, nodes, strict=True)
        for port in (node.port, node.port + 1)
    ]
    if len(set(ports)) < len(ports):
        raise ExportError(
            "--node: two nodes have a port in common; each has its own and the one after it, for "
            "the nodes among themselves"
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
