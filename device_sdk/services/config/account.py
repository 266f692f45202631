"""What a doorbell and a panel have in common in their TOML files."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from ...client.link.text_file import TextFileError, read_secret
from ...client.link.url import Tls, parse_brokers
from ...client.vocabulary import FILES, FORMER
from ...core.wire.topics import DEFAULT_REALM, check_peer_id, check_realm
from ...errors import InvalidArgument
from .toml_reader import SettingsError, Table

_End = TypeVar("_End", bound=Hashable)


class Pull(StrEnum):
    """The resistor that gives an open contact its level."""

    UP = "up"
    DOWN = "down"
    NONE = "none"


class Level(StrEnum):
    """The level at which a line counts as on."""

    LOW = "low"
    HIGH = "high"


class Factory(StrEnum):
    """What drives the pins."""

    AUTO = "auto"
    LGPIO = "lgpio"
    GPIOD = "gpiod"
    MOCK = "mock"


@dataclass(frozen=True, slots=True)
class Account:
    """Who logs in where. ``password`` never shows in a ``repr``."""

    peer: str
    #: A URL, or several with commas between them.
    broker: str
    realm: str = DEFAULT_REALM
    username: str | None = None
    secret_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive: int = 15
    subscribe_qos: int = 1
    ack_timeout: float = 30.0
    accept_timeout: float = 5.0
    #: How long a call may go on after *accepted*.
    talk_limit: float = 7200.0

    def tls(self) -> Tls | None:
        """What to trust and to show, if anything was said of it."""
        files = (self.ca_file, self.cert_file, self.key_file)
        ca, cert, key = (None if each is None else str(each) for each in files)
        return Tls(ca, cert, key) if any(files) else None

    def check_files(self) -> None:
        """Read secret, authority and certificate; :class:`SettingsError` says what is wrong."""
        self.password()
        if (tls := self.tls()) is not None:
            try:
                tls.make_context()
            except InvalidArgument as error:
                raise SettingsError(str(error)) from None

    def password(self) -> str | None:
        """The secret's text, read now; :class:`SettingsError` says what is wrong with the file."""
        if self.secret_file is None:
            return None
        try:
            return read_secret(self.secret_file)
        except TextFileError as error:
            raise SettingsError(f"secret_file: {error}") from None


@dataclass(frozen=True, slots=True)
class Gpio:
    """Which chip the pins are on; ``chip`` None: the board's own."""

    factory: Factory = Factory.AUTO
    chip: int | None = None


@dataclass(frozen=True, slots=True)
class InputPin:
    """A contact on ``pin``: BCM number on a Raspberry Pi, line number of the chip elsewhere."""

    pin: int
    pull: Pull = Pull.UP
    active: Level = Level.LOW
    bounce_time: float = 0.03
    stuck_after: float = 30.0


@dataclass(frozen=True, slots=True)
class OutputPin:
    """A light or a bell on ``pin``."""

    pin: int
    active: Level = Level.HIGH


@dataclass(frozen=True, slots=True)
class Action:
    """What is done outside: a command (no shell), a web hook (POST, JSON), and notifications.

    ``notify``: addresses for apprise, which hold secrets; with a link to where it is answered, and
    a picture, both addresses of web pages.
    """

    command: tuple[str, ...] = ()
    webhook: str | None = None
    notify: tuple[str, ...] = field(default=(), repr=False)
    link: str = ""
    picture: str = ""
    timeout: float = 20.0


def read_account(
    root: Table, path: Path, *, talk_limit: float = 7200.0, bare: bool = False
) -> Account:
    """The table ``[account]``; file names in it are relative to the settings file.

    ``talk_limit`` is how long a call of this service goes on where nothing is set; ``bare``: the
    file is an account alone, without that line, as what the commands go by.
    """
    table = root if bare else root.table("account")
    if "password" in table:
        table.wrong("password", "put it into a file of its own and name that: secret_file")
    table.know(["password"], FORMER)
    if bare:
        table.anything("login_timeout", None)  # the commands' alone
    files = {name: _beside(path, table.text(name, None)) for name in FILES}
    account = Account(
        peer=table.checked("peer", table.text("peer"), check_peer_id),
        broker=table.checked("broker", ", ".join(table.texts("broker")), check_broker),
        realm=table.checked("realm", table.text("realm", DEFAULT_REALM), check_realm),
        username=table.text("username", None),
        keepalive=table.whole("keepalive", 15, low=5, high=3600),
        subscribe_qos=table.whole("subscribe_qos", 1, low=0, high=1),
        ack_timeout=table.seconds("ack_timeout", 30.0, low=1, high=600),
        accept_timeout=table.seconds("accept_timeout", 5.0, low=1, high=600),
        talk_limit=table.seconds("talk_limit", talk_limit, low=1, high=86400),
        **files,
    )
    table.done()
    if account.key_file is not None and account.cert_file is None:
        table.wrong("key_file", "a key without its certificate: say cert_file, too")
    named = next((name for name in FILES[1:] if files[name] is not None), None)
    if named is not None and table.well and not parse_brokers(account.broker)[0].tls:
        table.wrong(named, f"{account.broker} is not encrypted: say mqtts:// or wss://")
    return account


def check_broker(brokers: str) -> str:
    """``brokers`` if it is the URL of one, or the URLs of several, else ``ValueError``."""
    try:
        parse_brokers(brokers)
    except InvalidArgument as error:
        problem = str(error).removeprefix("broker: ")
        raise ValueError(
            f'expected a broker such as "mqtts://broker.local:8883": {problem}'
        ) from None
    return brokers


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0  # raises ValueError where it is no port
            and re.fullmatch(r"[!-~]+", text) is not None
        )
    except ValueError:
        return False


def read_gpio(root: Table) -> Gpio:
    """The table ``[gpio]``."""
    table = root.table("gpio")
    gpio = Gpio(
        factory=table.choice("factory", Factory, Factory.AUTO),
        chip=table.whole("chip", None, low=0, high=99),
    )
    table.done()
    return gpio


def read_input(table: Table) -> InputPin:
    """The pin's part of a button's table. An unset ``active`` follows ``pull``."""
    pull = table.choice("pull", Pull, Pull.UP)
    if pull is Pull.NONE and "active" not in table:
        table.wrong("active", 'missing; without a pull say "low" or "high"')
    return InputPin(
        pin=table.whole("pin", low=0, high=999),
        pull=pull,
        active=table.choice("active", Level, Level.HIGH if pull is Pull.DOWN else Level.LOW),
        bounce_time=table.seconds("bounce_time", 0.03, low=0, high=1),
        stuck_after=table.seconds("stuck_after", 30.0, low=1, high=3600),
    )


def read_output(table: Table) -> OutputPin | None:
    """The pin's part of an output's table; None when it has no pin."""
    active = table.choice("active", Level, Level.HIGH)
    pin = table.whole("pin", None, low=0, high=999)
    return None if pin is None else OutputPin(pin, active)


def read_action(table: Table) -> Action:
    """``command``, ``webhook``, ``notify`` and ``timeout`` of a table."""
    webhook = table.text("webhook", None)
    pages = {"webhook": webhook, **{key: table.text(key, "") for key in ("link", "picture")}}
    for key, address in pages.items():
        if address and not _is_web_address(address):
            table.wrong(key, f'expected "http://…" or "https://…", not "{address}"')
    notify = table.texts("notify", ())
    if notify:
        from ..service.notify import check_address  # loads apprise

        for address in notify:
            table.checked("notify", address, check_address)
    for key in ("link", "picture"):
        if pages[key] and not notify:
            table.wrong(key, "it goes with notify")
    return Action(
        notify=notify,
        link=pages["link"] or "",
        picture=pages["picture"] or "",
        command=table.texts("command", ()),
        webhook=webhook,
        timeout=table.seconds("timeout", 20.0, low=1, high=600),
    )


def read_actions(table: Table, keys: Mapping[str, _End]) -> dict[_End, Action]:
    """What is done at each of the ends that ``keys`` name: ``[on.accepted]`` and so on."""
    actions = {}
    for key, end in keys.items():
        known = key in table
        sub = table.table(key)
        if known:
            actions[end] = read_action(sub)
            sub.done()
    table.done()
    return actions


#: The last pin (BCM) on a Raspberry Pi's header.
_LAST_PIN = 27


def check_pins(path: Path, uses: list[tuple[str, int]], gpio: Gpio) -> None:
    """Refuse two uses of one pin, naming both, and a pin that no Raspberry Pi has."""
    seen: dict[int, str] = {}
    for use, pin in uses:
        if pin > _LAST_PIN and gpio.chip is None and gpio.factory is not Factory.GPIOD:
            raise SettingsError(
                f"{path}: {use}: pin {pin} is on no Raspberry Pi's header (BCM 0 to {_LAST_PIN});"
                f" for another board say which chip has it: [gpio] chip = N"
            )
        if pin in seen:
            raise SettingsError(f"{path}: pin {pin} is used twice: by {seen[pin]} and by {use}")
        seen[pin] = use


def _beside(path: Path, name: str | None) -> Path | None:
    return None if name is None else path.parent / name
