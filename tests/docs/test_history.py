"""docs/history.md: its settings are read, its command runs, and prints what it shows."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from pathlib import Path

from device_sdk.cli import main
from device_sdk.services.config.panel import read_panel
from device_sdk.services.history.store import HistoryOutcome
from device_sdk.services.history.writer import History

PAGE = (Path(__file__).parents[2] / "docs" / "history.md").read_text()
ACCOUNT = '[account]\npeer = "kitchen"\nbroker = "mqtt://127.0.0.1:1883"\n'


def block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]


def test_the_command_prints_what_the_page_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    Path("panel.toml").write_text(ACCOUNT + block("toml"))
    settings = read_panel(Path("panel.toml")).history
    assert (settings.file, settings.keep) == (Path("kitchen.history"), 1000)
    times = iter(
        datetime.fromisoformat(f"2026-11-26T{at}").timestamp() for at in ("08:41", "09:03", "09:10")
    )
    history = History(settings.file, settings.keep, lambda: next(times))
    history.rang("c1", "front-door", "kitchen", "somebody is at the door")
    history.ended("c1", HistoryOutcome.ANSWERED, "kitchen")
    history.opened("c1")
    history.talked("c1", 42)
    history.missed("c2", "gate", "kitchen", "parcel")
    history.rang("c3", "front-door", "kitchen", "somebody is at the door")
    history.ended("c3", HistoryOutcome.ANSWERED_ELSEWHERE, "office")
    history.close()
    (command,) = block("shell").splitlines()
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out == block("text")


def test_every_outcome_is_explained():
    rows = re.findall(r"^\| ([a-z_, ]+) \|", PAGE, re.MULTILINE)
    assert {word for row in rows if row for word in row.split(", ")} == {
        outcome.value for outcome in HistoryOutcome
    } | {"outcome"}
