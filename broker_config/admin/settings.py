"""``broker.toml``: read, checked, with safe defaults. A mistake is named with its line and key."""

from __future__ import annotations

import ipaddress
import math
import shlex
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from device_sdk.core.wire.topics import check_realm
from device_sdk.services.config.toml_reader import SettingsError, Table
from device_sdk.services.config.toml_reader import load as load_toml

from ..core.limits import Limits

FILE = "broker.toml"
REGISTRY = "devices.json"

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Listen:
    """Addresses as ``host:port``; an empty one is not served, an empty host is every address.

    ``announce`` tells the networks from which ``mqtts`` is reached that it is there; ``origins``
    says whose web pages may open ``wss``.
    """

    mqtts: str = ":8883"
    wss: str = ""
    mqtt: str = "127.0.0.1:1883"
    announce: bool = True
    origins: str = ""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Files, relative to the broker's directory."""

    ca_file: str = "tls/ca.crt"
    cert_file: str = "tls/server.crt"
    key_file: str = "tls/server.key"


@dataclass(frozen=True, slots=True)
class Storage:
    """Where retained messages and sessions are kept; an empty file keeps them in memory only."""

    file: str = "data/broker.sqlite3"
    synchronous: str = "normal"
    cell_hours: float = 24.0


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where /metrics, /healthz and /status are served; empty for nowhere."""

    listen: str = "127.0.0.1:9883"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How it speaks."""

    format: str = "plain"
    level: str = "info"


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """All settings of a broker that serves a directory."""

    directory: Path
    realm: str = "sig"
    anonymous: bool = False
    listen: Listen = field(default_factory=Listen)
    tls: TlsSettings = field(default_factory=TlsSettings)
    storage: Storage = field(default_factory=Storage)
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    log: LogSettings = field(default_factory=LogSettings)
    #: Further plugins of amqtt's kind by their dotted names, with what their ``Config`` takes.
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """A file named in the settings."""
        return self.directory / name

    @property
    def registry(self) -> Path:
        """The file of the devices."""
        return self.directory / REGISTRY


#: For a directory of devices: one that runs wild is slowed; a benchmark turns this off.
DEVICE_LIMITS = replace(Limits(), publishes_per_second=200.0, publish_burst=1000)
_CHOICES = {
    "storage.synchronous": ("normal", "full"),
    "log.format": ("plain", "json"),
    "log.level": ("debug", "info", "warning", "error"),
}

#: Least and most, where it is not 0 and anything: beyond them a broker serves nobody, and says
#: nothing of it. A packet id has 16 bits.
_BOUNDS = {
    "limits.connections": (1, math.inf),
    "limits.connect_timeout": (0.1, 3600),
    "limits.inflight": (1, 65535),
}

#: What settings were called before there was one vocabulary, and what they are called now.
_RENAMED = {"tls": {"ca": "ca_file", "certificate": "cert_file", "key": "key_file"}}
_ADDRESSES = (("listen", "mqtts"), ("listen", "wss"), ("listen", "mqtt"), ("metrics", "listen"))


def split_address(value: str) -> tuple[str, int]:
    """``host:port`` taken apart; raises ValueError. The host is empty for every address."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"an address is HOST:PORT, not {value!r}")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load(directory: Path) -> BrokerSettings:
    """Read ``broker.toml`` of ``directory``; raises :class:`SettingsError`."""
    path = directory / FILE
    if not path.exists():
        where = shlex.quote(str(directory))
        raise SettingsError(f"there is no {path}; `bellwire-broker init {where}` makes one")
    root = load_toml(path)
    default = BrokerSettings(directory, limits=DEVICE_LIMITS)
    tables = {
        name: root.table(name) for name in ("listen", "tls", "storage", "limits", "metrics", "log")
    }
    settings = replace(
        default,
        realm=root.checked("realm", root.text("realm", default.realm), check_realm),
        anonymous=root.flag("anonymous", default.anonymous),
        plugins=_plugins(root.table("plugins")),
        **{name: _record(table, name, getattr(default, name)) for name, table in tables.items()},
    )
    _check(settings, tables)
    root.done()
    return settings


def _record(table: Table, name: str, default: _Record) -> _Record:
    """A record like ``default`` with what ``table`` says."""
    table.know((), _RENAMED.get(name, {}))
    values: dict[str, Any] = {}
    for each in fields(default):  # type: ignore[arg-type]  # a dataclass, as all of them are
        value = getattr(default, each.name)
        low, high = _BOUNDS.get(f"{name}.{each.name}", (0, math.inf))
        if choices := _CHOICES.get(f"{name}.{each.name}"):
            values[each.name] = table.one_of(each.name, choices, value)
        elif isinstance(value, bool):
            values[each.name] = table.flag(each.name, value)
        elif isinstance(value, int):
            values[each.name] = table.whole(each.name, value, low=int(low), high=high)
        elif isinstance(value, float):
            values[each.name] = table.number(each.name, value, low=low, high=high)
        else:
            values[each.name] = table.text(each.name, value, empty=True)
    table.done()
    return replace(default, **values)  # type: ignore[type-var]  # as above


def _plugins(table: Table) -> dict[str, dict[str, Any]]:
    """Plugins by their dotted names, with what each is configured with."""
    found = {}
    for name in table.keys():  # noqa: SIM118 # Table is no mapping
        found[name] = table.anything(name, None)
        if "." not in name or not isinstance(found[name], dict):
            table.wrong(name, 'a plugin is named as in [plugins."package.module.Plugin"]')
    return found


def _check(settings: BrokerSettings, tables: dict[str, Table]) -> None:
    for table, key in _ADDRESSES:
        value = getattr(getattr(settings, table), key)
        if not value:
            continue
        address = tables[table].made(key, value, split_address)
        if address is None or is_loopback(address[0]):
            continue
        if settings.anonymous and table == "listen":
            tables[table].wrong(
                key,
                f"with anonymous access on, {value!r} would let everybody in who reaches it; set "
                "anonymous = false and register devices, or listen on 127.0.0.1",
            )
        elif key == "mqtt":
            tables[table].wrong(
                key,
                f"{value!r} would carry passwords in the clear; plain MQTT is for 127.0.0.1, "
                "others connect to mqtts",
            )
    if not any((settings.listen.mqtts, settings.listen.wss, settings.listen.mqtt)):
        tables["listen"].wrong("mqtts", "nothing is listened on: it, wss and mqtt are empty")
