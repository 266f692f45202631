"""``broker.toml``: read, checked, with safe defaults. A mistake is named with its line and key."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from device_sdk.services.config.toml_reader import SettingsError as NotReadable
from device_sdk.services.config.toml_reader import read_toml
from device_sdk.wire.topics import check_realm

from ..core.limits import Limits

FILE = "broker.toml"
REGISTRY = "devices.json"


class SettingsError(Exception):
    """The settings cannot be used; the text names file, line and key, and what would do."""


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
class Tls:
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
class Log:
    """How it speaks."""

    format: str = "plain"
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a broker that serves a directory."""

    directory: Path
    realm: str = "sig"
    anonymous: bool = False
    listen: Listen = field(default_factory=Listen)
    tls: Tls = field(default_factory=Tls)
    storage: Storage = field(default_factory=Storage)
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    log: Log = field(default_factory=Log)
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


#: What settings were called before there was one vocabulary, and what they are called now.
_RENAMED = {"tls.ca": "ca_file", "tls.certificate": "cert_file", "tls.key": "key_file"}
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


class _Checker:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._lines = text.splitlines()

    def line(self, table: str, key: str) -> int:
        """The line on which ``key`` of ``table`` stands, as far as it can be told."""
        current = ""
        for number, line in enumerate(self._lines, 1):
            header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
            if header:
                current = header[1].replace('"', "")
                if current == (f"{table}.{key}".strip(".")):
                    return number
                continue
            named = key if current == table else "" if current else table
            if named and re.match(rf"\s*\"?{re.escape(named)}\"?\s*[=.]", line):
                return number
        return 1

    def wrong(self, table: str, key: str, problem: str) -> SettingsError:
        name = f"{table}.{key}".strip(".")
        return SettingsError(f"{self.path}:{self.line(table, key)}: {name}: {problem}")

    def value(self, table: str, key: str, value: Any, default: Any) -> Any:
        """``value`` if it is of its default's type and within its bounds."""
        if isinstance(default, bool) or isinstance(value, bool):
            if not (isinstance(default, bool) and isinstance(value, bool)):
                kind = "true or false" if isinstance(default, bool) else "no boolean"
                raise self.wrong(table, key, f"must be {kind}, not {value!r}")
        elif isinstance(default, float) and isinstance(value, int):
            value = float(value)
        elif type(value) is not type(default):
            names = {str: "a string", int: "a whole number", float: "a number"}
            raise self.wrong(table, key, f"must be {names[type(default)]}, not {value!r}")
        if isinstance(value, int | float) and value < 0:
            raise self.wrong(table, key, "must not be negative")
        choices = _CHOICES.get(f"{table}.{key}")
        if choices and value not in choices:
            raise self.wrong(table, key, f"must be one of {', '.join(choices)}, not {value!r}")
        return value

    def plugins(self, content: Any) -> dict[str, dict[str, Any]]:
        """Plugins by their dotted names, with what each is configured with."""
        for name, options in content.items() if isinstance(content, dict) else [("", None)]:
            if not isinstance(options, dict) or "." not in name:
                raise self.wrong(
                    "plugins", name, 'a plugin is named as in [plugins."package.module.Plugin"]'
                )
        return dict(content)

    def table(self, name: str, content: Any, default: Any) -> Any:
        """A dataclass like ``default`` with what ``content`` says."""
        if not isinstance(content, dict):
            raise self.wrong("", name, "must be a table")
        known = {each.name: getattr(default, each.name) for each in fields(default)}
        for key in content:
            if key not in known:
                if (new := _RENAMED.get(f"{name}.{key}")) is not None:
                    raise self.wrong(name, key, f"is called {new} now, as everywhere in Bellwire")
                near = ", ".join(sorted(known))
                raise self.wrong(name, key, f"there is no such setting; there are: {near}")
        return replace(
            default,
            **{key: self.value(name, key, value, known[key]) for key, value in content.items()},
        )


def load(directory: Path) -> Settings:
    """Read ``broker.toml`` of ``directory``; raises :class:`SettingsError`."""
    path = directory / FILE
    if not path.exists():
        raise SettingsError(f"there is no {path}; `bellwire-broker init {directory}` makes one")
    try:
        content, _, text = read_toml(path)
    except NotReadable as error:
        raise SettingsError(str(error)) from None
    checker = _Checker(path, text)
    settings = Settings(directory, limits=DEVICE_LIMITS)
    tables = {"listen", "tls", "storage", "limits", "metrics", "log"}
    changes: dict[str, Any] = {}
    for key, value in content.items():
        if key in tables:
            changes[key] = checker.table(key, value, getattr(settings, key))
        elif key == "plugins":
            changes[key] = checker.plugins(value)
        elif key in ("realm", "anonymous"):
            changes[key] = checker.value("", key, value, getattr(settings, key))
        else:
            raise checker.wrong("", key, "there is no such setting")
    settings = replace(settings, **changes)
    _check(settings, checker)
    return settings


def _check(settings: Settings, checker: _Checker) -> None:
    try:
        check_realm(settings.realm)
    except ValueError as error:
        raise checker.wrong("", "realm", str(error)) from error
    for table, key in _ADDRESSES:
        value = getattr(getattr(settings, table), key)
        if not value:
            continue
        try:
            host, _ = split_address(value)
        except ValueError as error:
            raise checker.wrong(table, key, str(error)) from error
        if is_loopback(host):
            continue
        if settings.anonymous and table == "listen":
            raise checker.wrong(
                table, key,
                f"with anonymous access on, {value!r} would let everybody in who reaches it; set "
                "anonymous = false and register devices, or listen on 127.0.0.1",
            )  # fmt: skip
        if key == "mqtt":
            raise checker.wrong(
                table, key,
                f"{value!r} would carry passwords in the clear; plain MQTT is for 127.0.0.1, "
                "others connect to mqtts",
            )  # fmt: skip
    if not any((settings.listen.mqtts, settings.listen.wss, settings.listen.mqtt)):
        raise checker.wrong("listen", "", "nothing is listened on")
