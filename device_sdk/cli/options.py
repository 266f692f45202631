"""Where a command learns who it is and which broker it talks to.

Each setting is looked for as a flag, then as a ``BELLWIRE_…`` variable, then as a key of a TOML
file: ``--config``, ``BELLWIRE_CONFIG`` or ``~/.config/bellwire.toml``. The working directory is not
searched: whoever can write there would choose the broker that gets the password.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgument
from ..topics import DEFAULT_REALM, check_peer_id, check_realm
from ..transport import BrokerUrl, Tls
from .errors import UsageError

if TYPE_CHECKING:
    from ..pi.toml_reader import Table

DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
_SECRET_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; the flag, the variable and the key of the file are made from ``name``."""

    name: str
    metavar: str
    help: str
    kind: type = str
    argument: str = ""  # what the library calls it, where that differs
    group: str = "broker"

    @property
    def flag(self) -> str:
        """As the command line has it."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """As the environment has it."""
        return "BELLWIRE_" + self.name.upper()


SETTINGS = (
    Setting("as", "ME", "my own peer id", argument="peer_id"),
    Setting("broker", "URL", f"mqtt://, mqtts://, ws:// or wss:// (default: {DEFAULT_BROKER})"),
    Setting("realm", "NAME", f"first level of all topics (default: {DEFAULT_REALM})"),
    Setting("username", "NAME", "user name (default: the peer id, where there is a password)"),
    Setting("password", "TEXT", "password; on a command line every user of this machine can read"
            " it: prefer --password-file or BELLWIRE_PASSWORD"),
    Setting("password_file", "FILE", "a file whose first line is the password"),
    Setting("ca", "FILE", "PEM file of the authority to trust (default: the system's)",
            argument="tls.ca_file"),
    Setting("cert", "FILE", "my own certificate, PEM", argument="tls.cert_file"),
    Setting("key", "FILE", "its private key, PEM", argument="tls.key_file"),
    Setting("keepalive", "S", "whole seconds between signs of life (default: 15)", int),
    Setting("login_timeout", "S", "how long to try to log in (default: 10)", float),
    Setting("ack_timeout", "S", "until a callee that shows no sign of life is given up"
            " (default: 30)", float, group="timers"),
    Setting("accept_timeout", "S", "until an accept that the caller does not confirm has failed"
            " (default: 5)", float, group="timers"),
)  # fmt: skip
_BY_NAME = {setting.name: setting for setting in SETTINGS}
_BY_ARGUMENT = {setting.argument or setting.name: setting for setting in SETTINGS}


def add_options(parser: argparse.ArgumentParser, *, calls: bool = True) -> None:
    """Give ``parser`` the flags of all settings; those of timers only if it makes ``calls``."""
    titles = {"broker": "who and where", "timers": "timers"}
    for group, title in titles.items():
        if group == "timers" and not calls:
            continue
        flags = parser.add_argument_group(title)
        for setting in SETTINGS:
            if setting.group == group:
                flags.add_argument(
                    setting.flag, dest=f"set_{setting.name}", metavar=setting.metavar,
                    help=setting.help, type=setting.kind,
                )  # fmt: skip
    more = parser.add_argument_group("more")
    more.add_argument(
        "--config", metavar="FILE", help="TOML file with these settings"
        " (default: ~/.config/bellwire.toml, if there is one)",
    )  # fmt: skip
    more.add_argument("--json", action="store_true", help="one JSON object a line, for scripts")
    more.add_argument("--verbose", action="store_true", help="log to standard error")


class Options:
    """The settings as resolved, each with where it came from."""

    def __init__(self, args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> None:
        self._values: dict[str, Any] = {}
        self._sources: dict[str, str] = {}
        self.warning = ""
        self._read_file(getattr(args, "config", None), environ)
        for setting in SETTINGS:
            if value := environ.get(setting.variable):
                self._set(setting, _number(setting, value, setting.variable), setting.variable)
        for setting in SETTINGS:
            value = getattr(args, f"set_{setting.name}", None)
            if value is not None:
                self._set(setting, value, setting.flag)

    def _set(self, setting: Setting, value: Any, source: str) -> None:
        other = {"password": "password_file", "password_file": "password"}.get(setting.name)
        if other is not None:
            self._values.pop(other, None)  # the nearer one is meant
        self._values[setting.name] = value
        self._sources[setting.name] = source

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name)

    def source(self, argument: str, fallback: str = "") -> str:
        """Where the library's ``argument`` came from, as the user knows it."""
        setting = _BY_ARGUMENT.get(argument)
        if setting is None:
            return fallback or argument
        return self._sources.get(setting.name, fallback or setting.flag)

    def usage(self, error: InvalidArgument, **names: str) -> UsageError:
        """``error`` as a usage error that names the flag, variable or line at fault."""
        problem = str(error).removeprefix(f"{error.argument}: ")
        return UsageError(
            f"{self.source(error.argument, names.get(error.argument, ''))}: {problem}"
        )

    # --- what is made of them ----------------------------------------------------------------

    @property
    def peer(self) -> str:
        """My own peer id; it has to be given."""
        value = self["as"]
        if value is None:
            raise UsageError("who are you? say --as ME (or set BELLWIRE_AS, or `as` in the file)")
        return str(value)

    @property
    def broker(self) -> str:
        """The broker's URL."""
        return str(self["broker"] or DEFAULT_BROKER)

    @property
    def realm(self) -> str:
        """The realm."""
        return str(self["realm"] or DEFAULT_REALM)

    @property
    def login_timeout(self) -> float:
        """Seconds to try to log in."""
        value = self["login_timeout"]
        if value is None:
            return 10.0
        if not 0 < value <= 3600:
            raise UsageError(f"{self.source('login_timeout')}: from above 0 to 3600 s, not {value}")
        return float(value)

    def password(self) -> str | None:
        """The password, from wherever it is."""
        name = self["password_file"]
        if name is None:
            return None if self["password"] is None else str(self["password"])
        source = self.source("password_file")
        try:
            with Path(name).expanduser().open(encoding="utf-8") as file:
                text = file.readline(_SECRET_LIMIT)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"{source}: {name}: {why}") from None
        secret = text.rstrip("\r\n")
        if not secret:
            raise UsageError(f"{source}: {name}: its first line is empty; put the password there")
        return secret

    def tls(self) -> Tls | None:
        """What to trust and to show, if anything was said of it."""
        if self["ca"] is None and self["cert"] is None and self["key"] is None:
            return None
        return Tls(ca_file=self["ca"], cert_file=self["cert"], key_file=self["key"])

    def checked(self) -> tuple[BrokerUrl, str]:
        """Broker and realm, checked; for those who only read."""
        try:
            return BrokerUrl.parse(self.broker), check_realm(self.realm)
        except InvalidArgument as error:
            raise self.usage(error) from None

    # --- the file ----------------------------------------------------------------------------

    def _read_file(self, flag: str | None, environ: Mapping[str, str]) -> None:
        named = flag or environ.get("BELLWIRE_CONFIG")
        if named:
            path = Path(named).expanduser()
        else:
            home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config"
            path = Path(home) / "bellwire.toml"
            if not path.is_file():
                return
        from ..pi.toml_reader import SettingsError, load

        try:
            table = load(path)
            for setting in SETTINGS:
                if setting.name in table:
                    self._take(table, setting, path)
            table.done()
        except SettingsError as error:
            raise UsageError(str(error)) from None
        self.warning = _readable_by_others(path) if self["password"] is not None else ""

    def _take(self, table: Table, setting: Setting, path: Path) -> None:
        value: Any
        if setting.kind is str:
            if setting.name == "password":
                value = table.anything("password", None)
                if not isinstance(value, str):  # here, because the reader would show it
                    raise table.error("password", "expected a text in quotes")
            else:
                value = table.text(setting.name)
            if setting.name in ("password_file", "ca", "cert", "key"):
                value = str(path.parent / Path(value).expanduser())  # beside the file
        elif setting.kind is int:
            value = table.whole(setting.name, low=1, high=65535)
        else:
            value = table.seconds(setting.name, 0.0, low=0.001, high=86400)
        self._set(setting, value, f"{path}: {setting.name}")


def checked_peer(value: str, source: str) -> str:
    """``value`` if it is a peer id, else a usage error that names ``source``."""
    try:
        return check_peer_id(value, source)
    except InvalidArgument as error:
        raise UsageError(str(error)) from None


def _number(setting: Setting, value: str, source: str) -> Any:
    convert: Callable[[str], Any] = setting.kind
    try:
        return convert(value)
    except ValueError:
        what = "whole seconds" if setting.kind is int else "seconds"
        raise UsageError(f"{source}: {what} are wanted, not {value!r}") from None


def _readable_by_others(path: Path) -> str:
    mode = path.stat().st_mode
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        return f"{path} holds a password and others can read it: chmod 600 {path}"
    return ""
