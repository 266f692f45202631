"""Who rang: rows in SQLite, within bounds whatever the file is like; the command for them."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import time
from datetime import datetime
from pathlib import Path

import pytest

from device_sdk.cli import main
from device_sdk.services.config.history import HistorySettings, read_history_settings
from device_sdk.services.config.toml_reader import SettingsError, Table
from device_sdk.services.history import cli, writer
from device_sdk.services.history.store import (
    HistoryError,
    HistoryFilter,
    HistoryOutcome,
    HistoryRow,
    HistoryStore,
    read_history,
)
from device_sdk.services.history.writer import History

#: 2026-01-31, 12:00, local time.
NOON = datetime.fromisoformat("2026-01-31T12:00").timestamp()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "kitchen.history"


def kept(file: Path, keep: int = 1000, wall: float = NOON) -> History:
    return History(file, keep, lambda: wall)


def some(file: Path) -> None:
    """One call of each kind."""
    history = kept(file)
    history.rang("c1", "front-door", "kitchen", "somebody is at the door")
    history.ended("c1", HistoryOutcome.ANSWERED, "kitchen")
    history.opened("c1")
    history.talked("c1", 61.04)
    history.missed("c2", "gate", "kitchen", {"text": "=1+1"})
    history.rang("c3", "front-door", "kitchen", "=1+1")
    history.ended("c3", HistoryOutcome.ANSWERED_ELSEWHERE, "office")
    history.close()


def test_one_row_a_call(file: Path) -> None:
    some(file)
    third, second, first = read_history(file)
    assert first == HistoryRow(
        "c1",
        int(NOON),
        "front-door",
        "kitchen",
        HistoryOutcome.ANSWERED,
        "kitchen",
        True,
        61.0,
        "somebody is at the door",
    )
    assert (second.call_id, second.outcome) == ("c2", HistoryOutcome.MISSED)
    assert (third.outcome, third.answered_by) == (HistoryOutcome.ANSWERED_ELSEWHERE, "office")


def test_only_the_newest_are_kept(file: Path) -> None:
    history = kept(file, keep=3)
    for number in range(10):
        history.missed(f"c{number}", "gate", "kitchen")
    history.opened("c0")  # gone, and it does not come back
    history.close()
    assert [row.call_id for row in read_history(file)] == ["c9", "c8", "c7"]


@pytest.mark.parametrize(("where", "keep"), [(None, 10), ("file", 0)])
def test_off_by_choice_keeps_nothing_and_makes_no_file(tmp_path, where, keep) -> None:
    history = History(where and tmp_path / where, keep)
    history.missed("c1", "gate", "kitchen")
    assert (history.kept, history.read(), history.flush()) == (False, [], True)
    history.close()
    assert list(tmp_path.iterdir()) == []


def test_the_filters(file: Path) -> None:
    some(file)

    def ids(**wanted) -> list[str]:
        return [row.call_id for row in read_history(file, HistoryFilter(**wanted))]

    assert ids(limit=2) == ["c3", "c2"]
    assert ids(peer="gate") == ["c2"]
    assert ids(peer="office") == ["c3"]
    assert ids(outcomes=(HistoryOutcome.MISSED, HistoryOutcome.ANSWERED)) == ["c2", "c1"]
    assert ids(since=NOON + 1) == ids(until=NOON) == []
    assert len(ids(since=NOON, until=NOON + 1)) == 3


def test_a_call_that_a_former_life_left_ringing_is_unknown_until_it_rings_again(file: Path) -> None:
    history = kept(file)
    history.rang("c1", "front-door", "kitchen")
    history.rang("c2", "front-door", "kitchen")
    history.close()
    history = kept(file, wall=NOON + 60)
    history.rang("c2", "front-door", "kitchen")
    assert history.flush()
    found = {row.call_id: (row.outcome, row.at) for row in history.read()}
    history.close()
    assert found == {
        "c1": (HistoryOutcome.UNKNOWN, int(NOON)),
        "c2": (HistoryOutcome.RINGING, int(NOON)),
    }


def test_a_clock_that_was_never_set_tells_no_time(file: Path) -> None:
    history = kept(file, wall=12.0)
    history.missed("c1", "gate", "kitchen")
    history.close()
    assert read_history(file)[0].at is None


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(file: Path, caplog, when) -> None:
    if when == "meanwhile":
        history = kept(file)
        history.missed("c1", "gate", "kitchen")
        assert history.flush()
        file.write_bytes(b"no history at all, but long enough to be looked at" * 200)
    else:
        file.parent.mkdir()
        file.write_text("no history at all")
        history = kept(file)
    history.missed("c2", "gate", "kitchen")
    history.close()
    assert [row.call_id for row in read_history(file)] == ["c2"]
    assert file.with_name(file.name + ".damaged").read_bytes().startswith(b"no history")
    assert "damaged" in caplog.text


def test_a_full_disk_is_said_once_and_written_to_again(file: Path, caplog) -> None:
    """SQLite's own bound on its pages says the same as a card without room."""
    history = kept(file)
    history.missed("c1", "gate", "kitchen")
    assert history.flush()
    history._store._base.execute("PRAGMA max_page_count = 1")
    for number in range(200):
        history.missed(f"d{number}", "gate", "kitchen", "x" * 200)
        assert history.flush()
    history._store._base.execute("PRAGMA max_page_count = 100000")
    history.missed("c2", "gate", "kitchen")
    history.close()
    assert caplog.text.count("disk is full") == 1
    assert read_history(file)[0].call_id == "c2"


def test_a_place_that_cannot_be_written_is_said_and_costs_nothing_else(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("in the way")
    history = kept(tmp_path / "file" / "kitchen.history")
    for number in range(300):
        history.missed(f"c{number}", "gate", "kitchen")
    assert history.flush()
    assert history.read() == []
    history.close()
    assert caplog.text.count("the history is not written") == 1


def test_a_card_that_hangs_holds_up_nobody(file: Path, caplog) -> None:
    """What comes meanwhile is bounded: the oldest is pushed out, and that is said."""
    history = kept(file)
    history.missed("c1", "gate", "kitchen")
    assert history.flush()
    held = sqlite3.connect(file)
    held.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    for number in range(writer.MAX_WAITING):
        history.missed(f"d{number}", "gate", "kitchen")
    assert time.monotonic() - began < 2
    held.rollback()
    held.close()
    assert history.flush(30)
    history.missed("c2", "gate", "kitchen")
    history.close()
    assert read_history(file)[0].call_id == "c2"
    assert "changes are lost" in caplog.text


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(["history", *words])
    except SystemExit as end:
        code = end.code
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_shows_a_table(file: Path, capsys) -> None:
    some(file)
    code, out, _ = run(capsys, "--file", str(file))
    assert code == 0
    first, second, third = out.splitlines()
    assert first.split("  ")[0] == "2026-01-31 12:00"
    for part in ("front-door → kitchen", "answered by kitchen", "opened", "1:01", "somebody is"):
        assert part in first
    assert "missed" in second
    assert "answered elsewhere by office" in third


def test_the_command_exports_json_and_csv(file: Path, capsys) -> None:
    some(file)
    _, out, _ = run(capsys, "--file", str(file), "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["call_id"] for row in rows] == ["c1", "c2", "c3"]
    assert (rows[0]["opened"], rows[0]["outcome"], rows[0]["at"]) == (True, "answered", int(NOON))
    _, out, _ = run(capsys, "--file", str(file), "--csv", "--limit", "1")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["at"].startswith("2026-01-31T12:00:00")
    assert row["text"] == "'=1+1", "no formula of a stranger's"


def test_the_command_finds_the_file_by_the_services_settings(tmp_path, capsys) -> None:
    some(tmp_path / "mine.history")
    toml = tmp_path / "panel.toml"
    toml.write_text('[account]\npeer = "kitchen"\n[history]\nfile = "mine.history"\n[other]\n')
    code, out, _ = run(capsys, "--settings", str(toml), "--outcome", "missed")
    assert (code, out.count("\n")) == (0, 1)
    toml.write_text('[account]\npeer = "kitchen"\n[history]\nkeep = 0\n')
    code, _, said = run(capsys, "--settings", str(toml))
    assert code == 2
    assert "nothing is kept" in said


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["--file", "none.history"], "none.history: there is no history yet", 1),
        (["--file", "text.history"], "is no history, or damaged", 1),
        (["--settings", "none.toml"], "none.toml", 2),
        (["--since", "yesterday"], "--since: wants a day or time", 2),
        (["--until", "9" * 30], "--until: wants a day or time", 2),
        (["--outcome", "gone"], "--outcome", 2),
        (["--limit", "0"], "--limit: wants a whole number from 1", 2),
        (["--json", "--csv"], "does not go with", 2),
        (["--file", "a", "--settings", "b"], "does not go with", 2),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, capsys, words, says, code) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.history").write_text("no database")
    got, out, said = run(capsys, *words)
    assert (got, out, said.count("\n")) == (code, "", 1)
    assert says in said


def test_the_table_history_in_a_settings_file(tmp_path) -> None:
    def read(text: str, **environ: str):
        import tomllib

        table = Table(tomllib.loads(text), tmp_path / "panel.toml", text)
        settings = read_history_settings(table, tmp_path / "panel.toml", "kitchen", environ)
        table.finish()
        return settings

    found = read("", HOME="/home/me")
    assert str(found.file) == "/home/me/.local/state/bellwire/kitchen.history"
    assert (found.keep, found.named) == (1000, False)
    assert read("", STATE_DIRECTORY="/var/lib/b:/x").file == Path("/var/lib/b/kitchen.history")
    found = read('[history]\nfile = "here"\nkeep = 0\n')
    assert (found.file, found.keep, found.named) == (tmp_path / "here", 0, True)
    assert read('[history]\nfile = "here"\n', STATE_DIRECTORY="/var/lib/b").file == Path(
        "/var/lib/b/here"
    )
    for text, says in (
        ("[history]\nkeep = -1\n", r"panel\.toml:2: history\.keep: expected a whole number from 0"),
        ("[history]\nfiles = 1\n", r"panel\.toml:2: history\.files: unknown key"),
        ("history = false\n", r"panel\.toml:1: history: expected a table"),
    ):
        with pytest.raises(SettingsError, match=says):
            read(text)


def test_a_reader_beside_the_writer_sees_whole_rows(file: Path) -> None:
    store = HistoryStore(file)
    store.insert(HistoryRow("c1", None, "gate", "kitchen", HistoryOutcome.RINGING))
    assert [row.call_id for row in read_history(file)] == ["c1"]
    store.close()
    assert os.listdir(file.parent) == [file.name]  # noqa: PTH208 # names are wanted


def test_whether_it_can_be_written_is_said_beforehand(tmp_path: Path) -> None:
    """By the place where it is, or would be; nothing is made of it."""
    there = tmp_path / "there"
    there.write_text("")
    assert HistorySettings(there).problem() == ""
    assert HistorySettings(tmp_path / "a" / "b" / "new").problem() == ""
    assert "nothing can be written in" in HistorySettings(there / "new").problem()
    assert "no file that can be written" in HistorySettings(tmp_path).problem()
    assert HistorySettings(there / "new", keep=0).problem() == ""
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


def test_what_is_no_history_is_said_to_be_none(tmp_path: Path, capsys) -> None:
    """A directory, and a file in which no call was ever kept."""
    (tmp_path / "empty").touch()
    for name, says in ((".", "this is a directory"), ("empty", "is no history (no such table")):
        assert main(["history", "--file", str(tmp_path / name)]) == 1
        assert says in capsys.readouterr().err


def test_a_shell_finds_what_a_unit_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its state directory is systemd's; a file that is where the settings say goes before it."""
    monkeypatch.setattr(cli, "STATE_DIRECTORY", str(tmp_path / "systemd"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "panel.toml"
    settings.write_text('[account]\npeer = "kitchen"\nbroker = "mqtt://b"\n')
    assert main(["history", "--settings", str(settings)]) == 1
    assert (
        ".local/state/bellwire/kitchen.history: there is no history yet" in capsys.readouterr().err
    )
    some(tmp_path / "systemd" / "kitchen.history")
    assert main(["history", "--settings", str(settings)]) == 0
    assert "gate → kitchen" in capsys.readouterr().out


def test_a_place_where_one_may_not_look_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said in one line, with the file's name."""

    def denied(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", denied)
    with pytest.raises(HistoryError, match="calls: Permission denied"):
        read_history(tmp_path / "calls")
    assert HistorySettings(tmp_path / "calls").problem() == ""
