"""The bridge's TOML file: frozen dataclasses out, or one :class:`SettingsError`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...client.link.url import BrokerUrl, SrvUrl, parse_broker
from ...client.vocabulary import FILES
from ...core.wire.topics import check_peer_id
from ..homeassistant.names import Names
from . import account as settings
from .history import HistorySettings, read_history_settings
from .metrics import MetricsSettings, read_metrics
from .panel import ON
from .toml_reader import SettingsError, Table, load


@dataclass(frozen=True, slots=True)
class MqttButton:
    """A button of Home Assistant's side: whom it rings when ``topic`` says ``value``.

    ``json``: where in the message, with dots between; "": the message itself.
    """

    name: str
    topic: str
    value: str
    peers: tuple[str, ...]
    json: str = ""
    content: Any = None
    outcome_topic: str = ""
    ring_time: float = 30.0


@dataclass(frozen=True, slots=True)
class HomeAssistantSettings:
    """Everything ``bellwire homeassistant`` reads from its file.

    ``mqtt``: the account at Home Assistant's broker, whose peer and realm are the bridge's.
    """

    account: settings.Account
    mqtt: settings.Account
    names: Names
    history: HistorySettings
    doors: Mapping[str, str] = field(default_factory=dict)
    buttons: tuple[MqttButton, ...] = ()
    response: Any = None
    on: Mapping[str, settings.Action] = field(default_factory=dict)
    metrics: MetricsSettings | None = None

    def check_mqtt_files(self) -> None:
        """Read secret, authority and certificate of that account; :class:`SettingsError`."""
        try:
            self.mqtt.check_files()
        except SettingsError as error:
            raise SettingsError(f"[mqtt]: {error}") from None


def read_homeassistant(path: Path) -> HomeAssistantSettings:
    """The settings in ``path``; :class:`SettingsError` names file, line, key, expectation."""
    root = load(path)
    account = settings.read_account(root, path)
    table = root.table("mqtt")
    mqtt = _read_mqtt(table, path, account)
    prefix = table.text("discovery_prefix", "homeassistant")
    if any(c in prefix for c in "+#"):
        table.wrong("discovery_prefix", 'expected a topic such as "homeassistant"')
    table.done()
    names = Names(account.realm, account.peer, prefix)
    doors: dict[str, str] = {}
    for door in root.tables("door"):
        peer = door.checked("peer", door.text("peer"), check_peer_id)
        if peer in doors:
            door.wrong("peer", f"{peer} is there twice")
        if peer == account.peer:
            door.wrong("peer", "that is the bridge itself; expected the doorbell's name")
        doors[peer] = door.text("name", peer, at_most=100)
        door.done()
    answer = root.table("answer")
    response = answer.body("response")
    answer.done()
    buttons = _read_buttons(root, names)
    on = settings.read_actions(root.table("on"), ON)
    history = read_history_settings(root, path, account.peer)
    metrics = read_metrics(root)
    root.done()
    return HomeAssistantSettings(
        account, mqtt, names, history, doors, buttons, response, on, metrics
    )


def _read_mqtt(table: Table, path: Path, own: settings.Account) -> settings.Account:
    broker = table.checked("broker", table.text("broker"), _check_one)
    if "password" in table:
        table.wrong("password", "put it into a file of its own and name that: secret_file")
    table.know(["password"], {})
    files = {name: _beside(path, table, name) for name in FILES}
    secret, ca, cert, key = (files[name] for name in FILES)
    account = settings.Account(
        peer=own.peer,
        broker=broker,
        realm=own.realm,
        username=table.text("username", None),
        keepalive=table.whole("keepalive", 15, low=5, high=3600),
        secret_file=secret,
        ca_file=ca,
        cert_file=cert,
        key_file=key,
    )
    if account.secret_file is not None and account.username is None:
        table.wrong("secret_file", "a password without its user: say username, too")
    if account.key_file is not None and account.cert_file is None:
        table.wrong("key_file", "a key without its certificate: say cert_file, too")
    wants_tls = next((name for name in FILES[1:] if files[name] is not None), None)
    if wants_tls is not None and table.well and not BrokerUrl.parse(broker).tls:
        table.wrong(wants_tls, f"{broker} is not encrypted: say mqtts:// or wss://")
    return account


def _beside(path: Path, table: Table, name: str) -> Path | None:
    named: str | None = table.text(name, None)
    return None if named is None else path.parent / named


def _check_one(broker: str) -> str:
    settings.check_broker(broker)
    if "," in broker or " " in broker.strip() or isinstance(parse_broker(broker), SrvUrl):
        raise ValueError("expected one broker: the one that Home Assistant has")
    return broker


def _read_buttons(root: Table, names: Names) -> tuple[MqttButton, ...]:
    made: dict[str, MqttButton] = {}
    for number, table in enumerate(root.tables("button"), 1):
        name = table.text("name", f"button{number}", at_most=64)
        topic = table.text("topic", at_most=512)
        if any(c in topic for c in "+#\0"):
            table.wrong("topic", "expected one topic, without + and #")
        outcome = table.text("outcome_topic", names.button_outcome(name), at_most=512)
        if any(c in outcome for c in "+#\0") or outcome == topic:
            table.wrong("outcome_topic", "expected a topic of its own, without + and #")
        if f"{topic}/".startswith(f"{names.root}/") or topic.startswith(f"{names.discovery}/"):
            table.wrong(
                "topic", "that is the bridge's or Home Assistant's own; expected a button's"
            )
        peers = tuple(dict.fromkeys(table.texts("rings")))
        for peer in peers:
            table.checked("rings", peer, check_peer_id)
            if peer == names.peer:
                table.wrong("rings", f"{peer} is the bridge itself; expected panels")
        if not peers:
            table.wrong("rings", "expected at least one name")
        if name in made:
            table.wrong("name", f"{name} is there twice")
        made[name] = MqttButton(
            name, topic, table.text("value", at_most=256), peers,
            table.text("json", "", at_most=256), table.body("content"), outcome,
            table.seconds("ring_time", 30.0, low=1, high=600),
        )  # fmt: skip
        table.done()
    topics = {button.topic for button in made.values()}
    for button in made.values():
        if button.outcome_topic in topics:
            root.wrong("button", f"{button.outcome_topic} is a button's topic and an outcome's")
    return tuple(made.values())
