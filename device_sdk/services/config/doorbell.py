"""The doorbell's TOML file: frozen dataclasses out, or one :class:`SettingsError`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...client.invitations import check_channel
from ...core.wire.topics import check_peer_id
from ..logic.door import OPEN_LIMIT, DoorRules
from ..logic.doorbell import PressOutcome, WhileInCall, WhileRinging
from ..logic.notice import ServiceEvent
from . import account as settings
from .metrics import MetricsSettings, read_metrics
from .toml_reader import Table, load

#: What ``[on.…]`` may name.
EVENTS = (*(end.value for end in PressOutcome), *(event.value for event in ServiceEvent))
GROUP_PREFIX = "group:"
#: Nobody stands at a door for hours, and a call that nobody hung up keeps a panel busy; seconds.
TALK_LIMIT = 180.0


class Strategy(StrEnum):
    """How several peers are rung."""

    PARALLEL = "parallel"
    SEQUENTIAL = "sequential"


@dataclass(frozen=True, slots=True)
class Button:
    """One button: where it is, whom it rings and how."""

    name: str
    input: settings.InputPin
    peers: tuple[str, ...]
    strategy: Strategy = Strategy.PARALLEL
    content: Any = None
    channel: str | None = None
    ring_time: float = 60.0
    while_ringing: WhileRinging = WhileRinging.IGNORE
    in_call: WhileInCall = WhileInCall.TELL


@dataclass(frozen=True, slots=True)
class Chime:
    """The local bell: an output and a command, each optional."""

    output: settings.OutputPin | None = None
    action: settings.Action = field(default_factory=settings.Action)
    after: float = 1.5
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class DoorLine:
    """A door that is opened by a pin, and by what rules."""

    output: settings.OutputPin
    rules: DoorRules


@dataclass(frozen=True, slots=True)
class DoorbellSettings:
    """Everything ``bellwire doorbell`` reads from its file."""

    account: settings.Account
    buttons: tuple[Button, ...]
    gpio: settings.Gpio = field(default_factory=settings.Gpio)
    light: settings.OutputPin | None = None
    idle_light: bool = False
    chime: Chime = field(default_factory=Chime)
    door: DoorLine | None = None
    on: dict[str, settings.Action] = field(default_factory=dict)
    metrics: MetricsSettings | None = None


def read_doorbell(path: Path) -> DoorbellSettings:
    """The settings in ``path``; :class:`SettingsError` names file, line, key, expectation."""
    root = load(path)
    account = settings.read_account(root, path, talk_limit=TALK_LIMIT)
    gpio = settings.read_gpio(root)
    groups = _read_groups(root.table("groups"))
    buttons = tuple(
        _read_button(table, index, groups, account.peer)
        for index, table in enumerate(root.tables("button"))
    )
    if not buttons and root.well:
        root.wrong("button", "missing; a doorbell needs at least one [[button]]")
    names = [button.name for button in buttons]
    for name in names:
        if root.well and names.count(name) > 1:
            root.wrong("button", f'two buttons are named "{name}"; give each its own name')
    light = root.table("light")
    output, idle = settings.read_output(light), light.flag("idle", False)
    light.done()
    chime = _read_chime(root.table("chime"))
    root.know(("door",), {})
    door = _read_door(root.table("door"), groups, buttons) if "door" in root else None
    on = settings.read_actions(root.table("on"), {word: word for word in EVENTS})
    metrics = read_metrics(root)
    root.done()
    uses = [(f"button {button.name}", button.input.pin) for button in buttons]
    uses += [("light", output.pin)] if output else []
    uses += [("chime", chime.output.pin)] if chime.output else []
    uses += [("door", door.output.pin)] if door else []
    settings.check_pins(path, uses, gpio)
    return DoorbellSettings(account, buttons, gpio, output, idle, chime, door, on, metrics)


def _read_groups(table: Table) -> dict[str, tuple[str, ...]]:
    groups = {}
    for name in table.keys():  # noqa: SIM118 # Table is no mapping
        peers = table.texts(name)
        groups[name] = tuple(table.checked(name, peer, check_peer_id) for peer in peers)
    return groups


def _read_button(table: Table, index: int, groups: dict[str, tuple[str, ...]], me: str) -> Button:
    name = table.text("name", f"button{index + 1}" if index else "door", at_most=64)
    peers = _read_peers(table, "rings", groups)
    if me in peers:
        table.wrong("rings", f"{me} is this doorbell itself; nobody can ring itself")
    channel = table.text("channel", None)
    if channel is not None:
        table.checked("channel", channel, lambda text: check_channel(text, "a channel"))
    button = Button(
        name=name,
        input=settings.read_input(table),
        peers=tuple(dict.fromkeys(peers)),
        strategy=table.choice("strategy", Strategy, Strategy.PARALLEL),
        content=table.body("content"),
        channel=channel,
        ring_time=table.seconds("ring_time", 60.0, low=1, high=3600),
        while_ringing=table.choice("while_ringing", WhileRinging, WhileRinging.IGNORE),
        in_call=table.choice("in_call", WhileInCall, WhileInCall.TELL),
    )
    table.done()
    return button


def _read_peers(table: Table, key: str, groups: dict[str, tuple[str, ...]]) -> list[str]:
    """At least one peer, or group of them."""
    peers: list[str] = []
    for entry in table.texts(key):
        if entry.startswith(GROUP_PREFIX):
            group = entry.removeprefix(GROUP_PREFIX)
            if group not in groups:
                known = ", ".join(sorted(groups)) or "none"
                table.wrong(key, f'no group "{group}" in [groups]; known: {known}')
            peers += groups.get(group, ())
        else:
            peers.append(table.checked(key, entry, check_peer_id))
    if not peers and key in table:
        table.wrong(key, "expected at least one peer")
    return peers


def _read_door(
    table: Table, groups: dict[str, tuple[str, ...]], buttons: tuple[Button, ...]
) -> DoorLine:
    obeys = _read_peers(table, "obeys", groups)
    rung = {peer for button in buttons for peer in button.peers}
    for peer in obeys:
        if table.well and peer not in rung:
            table.wrong("obeys", f"no button rings {peer}, so it is never in a call with this door")
    door = DoorLine(
        settings.OutputPin(
            table.whole("pin", low=0, high=999),
            table.choice("active", settings.Level, settings.Level.HIGH),
        ),
        DoorRules(
            frozenset(obeys),
            table.seconds("seconds", 3.0, low=0.1, high=OPEN_LIMIT),
            table.text("name", "door", at_most=64),
        ),
    )
    table.done()
    return door


def _read_chime(table: Table) -> Chime:
    chime = Chime(
        output=settings.read_output(table),
        action=settings.read_action(table),
        after=table.seconds("after", 1.5, low=0.1, high=60),
        seconds=table.seconds("seconds", 1.0, low=0.05, high=30),
    )
    table.done()
    return chime
