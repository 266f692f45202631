"""``bellwire history``: who rang, as a table, as JSON or as CSV."""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
import time
from datetime import datetime
from pathlib import Path

from ...client.display import as_json, complain, shown, write
from ...core.wire.topics import check_peer_id
from ..arguments import sentence
from ..roles import settings_file
from .store import HistoryError, HistoryFilter, HistoryOutcome, HistoryRow, read_history

_CARD = settings_file("panel")
#: Where the units of ours have it.
STATE_DIRECTORY = "/var/lib/bellwire"
#: A spreadsheet takes a cell that begins so for a formula, and strangers write texts.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    what = "who rang, when, and what became of it"
    parser = subparsers.add_parser("history", help=what, description=sentence(what))
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--settings",
        type=Path,
        default=_CARD,
        metavar="FILE",
        help=f"the TOML file of the service that keeps it (default: {_CARD})",
    )
    where.add_argument("--file", type=Path, metavar="FILE", help="the history itself")
    parser.add_argument("--peer", metavar="ID", help="only calls by or to this peer")
    parser.add_argument(
        "--outcome",
        action="append",
        choices=[word.value for word in HistoryOutcome],
        metavar="WORD",
        help=f"only calls that ended so, again for more: {', '.join(HistoryOutcome)}",
    )
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help="2026-01-31 or 2026-01-31T12:00"
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="calls before this time")
    parser.add_argument(
        "--limit", type=_count, default=100, metavar="N", help="the newest N (default: 100)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="a table for a spreadsheet")
    parser.set_defaults(run=_run)


def moment(text: str) -> float:
    """Local time as people write it, in seconds since 1970; raises for argparse."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"wants a day or time such as 2026-01-31 or 2026-01-31T12:00, not {text!r}"
        ) from None


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= 1_000_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"wants a whole number from 1 to 1000000, not {text!r}")


def _run(args: argparse.Namespace) -> int:
    from ..config.toml_reader import SettingsError

    try:
        file = args.file or _file_of(args.settings)
        wanted = HistoryFilter(
            args.since,
            args.until,
            args.peer,
            tuple(HistoryOutcome(word) for word in args.outcome or ()),
            args.limit,
        )
        rows = read_history(file, wanted)
    except SettingsError as error:
        elsewhere = "" if args.settings.exists() else "; --settings FILE says where it is"
        for problem in error.problems:
            complain(f"bellwire: {problem}{elsewhere}")
        return 2
    except HistoryError as error:
        complain(f"bellwire: {error}")
        return 1
    form = as_csv if args.csv else as_lines if args.json else as_table
    write(form(rows[::-1]), sys.stdout)
    return 0


def _file_of(path: Path) -> Path:
    """Where the service with these settings keeps its calls; the rest of them is its own.

    That of a unit is in systemd's state directory, of which a shell knows nothing.
    """
    from ..config.history import read_history_settings
    from ..config.toml_reader import SettingsError, load

    found = []
    for environ in (os.environ, {"STATE_DIRECTORY": STATE_DIRECTORY}):
        root = load(path)
        account = root.table("account")
        peer = account.checked("peer", account.text("peer"), check_peer_id)
        history = read_history_settings(root, path, peer, environ)
        root.finish()
        if not history.keep:
            raise SettingsError(f"{path}: [history] keep = 0: nothing is kept")
        found.append(history.file)
    by_hand, by_systemd = found
    # Not Path.exists(), which raises where this user may not look.
    there = [each for each in (by_hand, by_systemd) if os.access(each, os.F_OK)]
    return there[0] if there else by_hand


def as_table(rows: list[HistoryRow]) -> str:
    """For people: a line a call, in columns."""
    if not rows:
        return "no such call\n"
    lines = [_line(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "".join(f"{line}\n" for line in padded)


def _line(row: HistoryRow) -> tuple[str, ...]:
    outcome = row.outcome.replace("_", " ")
    if row.answered_by:
        outcome += f" by {row.answered_by}"
    talked = "" if row.seconds is None else f"{row.seconds // 60:.0f}:{row.seconds % 60:02.0f}"
    return (
        _local(row.at, "%Y-%m-%d %H:%M") or "no clock",
        shown(f"{row.caller} → {row.callee}"),
        shown(outcome),
        "opened" if row.opened else "",
        talked,
        shown(row.text),
    )


def as_lines(rows: list[HistoryRow]) -> str:
    """For scripts: one JSON object a line."""
    return "".join(as_json(row._asdict() | {"outcome": row.outcome.value}) + "\n" for row in rows)


def as_csv(rows: list[HistoryRow]) -> str:
    """For spreadsheets (RFC 4180), with a line of names; what looks like a formula is text."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(HistoryRow._fields)
    for row in rows:
        cells = row._replace(at=None)._asdict() | {
            "at": _local(row.at, "%Y-%m-%dT%H:%M:%S%z"),
            "outcome": row.outcome.value,
            "opened": "yes" if row.opened else "no",
        }
        table.writerow(
            f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
            for cell in cells.values()
        )
    return out.getvalue()


def _local(at: int | None, form: str) -> str:
    if at is None:
        return ""
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, OSError, ValueError):
        return ""
