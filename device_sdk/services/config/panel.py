"""The panel's TOML file: frozen dataclasses out, or one :class:`SettingsError`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...client.schedule import Window, parse_window
from ..logic.notice import ServiceEvent
from ..logic.panel import CallEnd, PanelButton, WhenQuiet
from . import account as settings
from .history import HistorySettings, read_history_settings
from .metrics import MetricsSettings, read_metrics
from .toml_reader import Table, load
from .web import WebSettings, read_web


@dataclass(frozen=True, slots=True)
class RingerSettings:
    """The bell: an output and a sound command that is run while it rings, each optional."""

    output: settings.OutputPin | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PanelSettings:
    """Everything ``bellwire panel`` reads from its file."""

    account: settings.Account
    history: HistorySettings
    gpio: settings.Gpio = field(default_factory=settings.Gpio)
    buttons: dict[PanelButton, settings.InputPin] = field(default_factory=dict)
    response: Any = None
    ringer: RingerSettings = field(default_factory=RingerSettings)
    light: settings.OutputPin | None = None
    missed_light: settings.OutputPin | None = None
    quiet: tuple[Window, ...] = ()
    when_quiet: WhenQuiet = WhenQuiet.REFUSE
    on: dict[str, settings.Action] = field(default_factory=dict)
    web: WebSettings = field(default_factory=WebSettings)
    metrics: MetricsSettings | None = None

    @property
    def keeps_history(self) -> bool:
        """Whether calls are kept: where they are asked for, or a page shows them."""
        return self.history.named or self.web.port is not None

    @property
    def has_pins(self) -> bool:
        """Whether any pin is used."""
        outputs = (self.ringer.output, self.light, self.missed_light)
        return bool(self.buttons) or any(outputs)


#: ``[on.accepted]`` and so on; a key cannot hold the space of "answered elsewhere" unquoted.
ON = {end.value.replace(" ", "_"): end.value for end in CallEnd} | {
    event.value: event.value for event in ServiceEvent
}


def read_panel(path: Path) -> PanelSettings:
    """The settings in ``path``; :class:`SettingsError` names file, line, key, expectation."""
    root = load(path)
    account = settings.read_account(root, path)
    gpio = settings.read_gpio(root)
    buttons, response = {}, None
    for button in PanelButton:
        table = root.table(button)
        if button in root:
            if button is PanelButton.ANSWER:
                response = table.body("response")
            if button is not PanelButton.ANSWER or "pin" in table or "response" not in table:
                buttons[button] = settings.read_input(table)  # else a page answers, with that
        table.done()
    ringer = root.table("ringer")
    bell = RingerSettings(settings.read_output(ringer), ringer.texts("command", ()))
    ringer.done()
    outputs = {}
    for name in ("light", "missed"):
        table = root.table(name)
        outputs[name] = settings.read_output(table)
        table.done()
    quiet, when_quiet = _read_quiet(root.table("do_not_disturb"))
    on = settings.read_actions(root.table("on"), ON)
    history = read_history_settings(root, path, account.peer)
    web = read_web(root.table("web"), path, account.peer)
    metrics = read_metrics(root)
    root.done()
    uses = [(button.value, pin.pin) for button, pin in buttons.items()]
    uses += [(name, output.pin) for name, output in outputs.items() if output]
    uses += [("ringer", bell.output.pin)] if bell.output else []
    settings.check_pins(path, uses, gpio)
    return PanelSettings(
        account=account,
        history=history,
        gpio=gpio,
        buttons=buttons,
        response=response,
        ringer=bell,
        light=outputs["light"],
        missed_light=outputs["missed"],
        quiet=quiet,
        when_quiet=when_quiet,
        on=on,
        web=web,
        metrics=metrics,
    )


def _read_quiet(table: Table) -> tuple[tuple[Window, ...], WhenQuiet]:
    read = (table.made("hours", text, parse_window) for text in table.texts("hours", ()))
    windows = tuple(window for window in read if window is not None)
    action = table.choice("action", WhenQuiet, WhenQuiet.REFUSE)
    table.done()
    return windows, action
