"""Where a command learns who it is and which broker it talks to.

Each setting is looked for as a flag, then as a ``BELLWIRE_…`` variable, then as a key of a TOML
file: ``--settings``, ``BELLWIRE_SETTINGS`` or ``~/.config/bellwire.toml``. A doorbell's or panel's
file does, too: its ``[account]`` is read. The working directory is not searched: whoever can write
there would choose the broker that gets the secret.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client.link.text_file import TextFileError, read_secret
from ..client.link.url import AnyUrl, Tls, clear_text, parse_brokers
from ..client.vocabulary import BY_NAME, DEFAULT_BROKER, FILES, FORMER, WORDS, Word
from ..core.wire.topics import DEFAULT_REALM, check_peer_id, check_realm
from ..errors import InvalidArgument
from ..services.roles import own_settings
from .errors import UsageError

if TYPE_CHECKING:
    from ..services.config.toml_reader import Table


def add_options(parser: argparse.ArgumentParser, *, calls: bool = True) -> None:
    """Give ``parser`` the flags of all settings; those of timers only if it makes ``calls``."""
    titles = {"broker": "who and where", "timers": "timers"}
    for group, title in titles.items():
        if group == "timers" and not calls:
            continue
        flags = parser.add_argument_group(title)
        for word in WORDS:
            if word.group == group:
                flags.add_argument(
                    word.flag, dest=f"set_{word.name}", metavar=word.metavar,
                    help=word.help, type=word.kind, action="append" if word.several else "store",
                )  # fmt: skip
    more = parser.add_argument_group("more")
    more.add_argument(
        "--settings", metavar="FILE", help="TOML file with these settings"
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
        self._refuse_former(environ)
        self._read_file(getattr(args, "settings", None), environ)
        for word in WORDS:
            if value := environ.get(word.variable):
                self._set(word, _number(word, value, word.variable), word.variable)
        for word in WORDS:
            value = getattr(args, f"set_{word.name}", None)
            if value is not None:
                value = ", ".join(value) if word.several else value
                self._set(word, value, word.flag)
        if self["password"] is not None or self["secret_file"] is not None:
            self._warn(clear_text(self.broker))

    def _set(self, word: Word, value: Any, source: str) -> None:
        other = {"password": "secret_file", "secret_file": "password"}.get(word.name)
        if other is not None:
            self._values.pop(other, None)  # the nearer one is meant
        self._values[word.name] = value
        self._sources[word.name] = source

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name)

    def source(self, argument: str, fallback: str = "") -> str:
        """Where the library's ``argument`` came from, as the user knows it."""
        word = BY_NAME.get(argument)
        if word is None:
            return fallback or argument
        return self._sources.get(word.name, fallback or word.flag)

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
        value = self["peer"]
        if value is None:
            raise UsageError(
                "who are you? say --peer ID (or set BELLWIRE_PEER, or `peer` in the file)"
            )
        return str(value)

    @property
    def broker(self) -> str:
        """The broker's URL, or those of several with commas between them."""
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
        name = self["secret_file"]
        if name is None:
            return None if self["password"] is None else str(self["password"])
        try:
            return read_secret(Path(name).expanduser())
        except TextFileError as error:
            raise UsageError(f"{self.source('secret_file')}: {error}") from None

    def tls(self) -> Tls | None:
        """What to trust and to show, if anything was said of it."""
        ca, cert, key = (self[name] for name in FILES[1:])
        return None if (ca, cert, key) == (None, None, None) else Tls(ca, cert, key)

    def checked(self) -> tuple[tuple[AnyUrl, ...], str]:
        """Brokers and realm, checked; for those who only read."""
        try:
            return parse_brokers(self.broker), check_realm(self.realm)
        except InvalidArgument as error:
            raise self.usage(error) from None

    # --- the file ----------------------------------------------------------------------------

    def _read_file(self, flag: str | None, environ: Mapping[str, str]) -> None:
        named = flag or environ.get("BELLWIRE_SETTINGS")
        if named:
            path = Path(named).expanduser()
        else:
            path = own_settings(environ)
            if not path.is_file():
                return
        from ..services.config.toml_reader import SettingsError, load

        try:
            root = table = load(path)
            if "account" in root:  # a doorbell's or a panel's: the rest is not ours
                table = root.table("account")
            table.know([*BY_NAME, "talk_limit"], FORMER)  # how long a service's calls go on
            for word in WORDS:
                if word.name in table:
                    self._take(table, word, path)
            table.done()
            root.finish()
        except SettingsError as error:
            raise UsageError(str(error)) from None
        self._warn(_readable_by_others(path) if self["password"] is not None else "")

    def _warn(self, text: str) -> None:
        self.warning = "; ".join(filter(None, (self.warning, text)))

    def _refuse_former(self, environ: Mapping[str, str]) -> None:
        for former, name in FORMER.items():
            if environ.get(f"BELLWIRE_{former.upper()}"):
                raise UsageError(f"BELLWIRE_{former.upper()}: it is called BELLWIRE_{name.upper()}")

    def _take(self, table: Table, word: Word, path: Path) -> None:
        value: Any
        if word.kind is str:
            if word.name == "password":
                value = table.anything("password", None)
                if not isinstance(value, str):  # here, because the reader would show it
                    table.wrong("password", "expected a text in quotes")
            elif word.several:
                value = ", ".join(table.texts(word.name))
                if not value:  # not the default's: somebody meant another
                    table.wrong(word.name, "expected at least one")
            else:
                value = table.text(word.name)
            if word.name in FILES:
                value = str(path.parent / Path(value).expanduser())  # beside the file
        elif word.kind is int:
            value = table.whole(word.name, low=word.low, high=word.high)
        else:
            value = table.seconds(word.name, 0.0, low=0.001, high=86400)
        self._set(word, value, f"{path}: {word.name}")


def checked_peer(value: str, source: str) -> str:
    """``value`` if it is a peer id, else a usage error that names ``source``."""
    try:
        return check_peer_id(value, source)
    except InvalidArgument as error:
        raise UsageError(str(error)) from None


def _number(word: Word, value: str, source: str) -> Any:
    convert: Callable[[str], Any] = word.kind
    try:
        return convert(value)
    except ValueError:
        what = "whole seconds" if word.kind is int else "seconds"
        raise UsageError(f"{source}: {what} are wanted, not {value!r}") from None


def _readable_by_others(path: Path) -> str:
    mode = path.stat().st_mode
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        return f"{path} holds a password and others can read it: chmod 600 {path}"
    return ""
