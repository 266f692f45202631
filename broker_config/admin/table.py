"""Devices out of a CSV file: every fault of it with its line, before anything is done."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from ..access.naming import check_group, check_name, check_patterns, clash, stands_for_nobody
from ..access.registry import Device
from .setup import Wanted

COLUMNS = ("name", "may_call", "group", "watches", "certificate")
_YES, _NO = {"yes", "true", "1", "x"}, {"", "no", "false", "0"}
_LARGEST = 1 << 24


class TableError(Exception):
    """The file cannot be used; ``lines`` has every fault, with file and line."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def read(path: Path, registered: Mapping[str, Device]) -> list[Wanted]:
    """The devices of a table; raises :class:`TableError` with all that is wrong in it."""
    try:
        if path.stat().st_size > _LARGEST:
            raise TableError([f"{path}: is over {_LARGEST >> 20} MB; is that a table of devices?"])
        text = path.read_bytes().decode("utf-8-sig")  # with a spreadsheet's mark, or without
    except OSError as error:
        raise TableError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise TableError([f"{path}: is not UTF-8; save it as CSV UTF-8"]) from error
    return parse(str(path), text, registered)


def parse(path: str, text: str, registered: Mapping[str, Device]) -> list[Wanted]:
    """The same, of what the file says."""
    first = text.lstrip("\r\n").splitlines()[:1]
    comma = ";" if first and ";" in first[0] and "," not in first[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    faults: list[str] = []
    wanted: list[tuple[int, Wanted]] = []
    columns: list[str] | None = None
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            line = reader.line_num
            if not any(cells) or cells[0].startswith("#"):
                continue
            if columns is None:
                columns = _columns(path, line, cells)
                continue
            try:
                wanted.append((line, _wanted(columns, cells)))
            except ValueError as error:
                faults.append(f"{path}:{line}: {error}")
    except csv.Error as error:
        faults.append(f"{path}:{reader.line_num}: {error}")
    if columns is None or (not wanted and not faults):
        faults.append(f"{path}:1: there is no device in it; the first line is {','.join(COLUMNS)}")
    faults += _together(path, wanted, registered)
    if faults:
        raise TableError(
            sorted(faults, key=lambda fault: int(fault[len(path) + 1 :].split(":")[0]))
        )
    return [each for _, each in wanted]


def _columns(path: str, line: int, cells: list[str]) -> list[str]:
    columns = [cell.lower() for cell in cells]
    for column in columns:
        if column not in COLUMNS or columns.count(column) > 1:
            problem = "is there twice" if column in COLUMNS else "is no column"
            raise TableError(
                [f"{path}:{line}: {column!r} {problem}; the first line is {','.join(COLUMNS)}"]
            )
    if "name" not in columns:
        raise TableError([f"{path}:{line}: there is no column 'name'"])
    return columns


def _wanted(columns: list[str], cells: list[str]) -> Wanted:
    if len(cells) > len(columns) and any(cells[len(columns) :]):
        raise ValueError(f"has {len(cells)} cells, and the first line {len(columns)}")
    row = dict(zip(columns, cells, strict=False))
    patterns = [each.strip() for each in row.get("may_call", "").split(";")]
    group = row.get("group") or None
    return Wanted(
        check_name(row["name"]),
        check_patterns(each for each in patterns if each),
        None if group is None else check_group(group),
        _truth("watches", row.get("watches", "")),
        _truth("certificate", row.get("certificate", "")),
    )


def _truth(column: str, cell: str) -> bool:
    if cell.lower() in _YES:
        return True
    if cell.lower() in _NO:
        return False
    raise ValueError(f"{column}: yes or no, not {cell!r}")


def _together(
    path: str, wanted: list[tuple[int, Wanted]], registered: Mapping[str, Device]
) -> list[str]:
    """What is wrong only beside the others: names twice, patterns that match nobody of all."""
    faults = []
    every = dict(registered)
    lines: dict[str, int] = {}
    for line, each in wanted:
        other = clash(every, each.name)
        if each.name in lines:
            faults.append(f"{path}:{line}: {each.name!r} is on line {lines[each.name]} too")
        elif each.name in registered:
            faults.append(
                f"{path}:{line}: {each.name!r} is registered: "
                "leave its line out, `device set` changes it"
            )
        elif other is not None:
            where = f"on line {lines[other]}" if other in lines else "registered"
            faults.append(
                f"{path}:{line}: {each.name!r} looks the same as {other!r}, which is {where}, and "
                "is spelt with other characters"
            )
        lines.setdefault(each.name, line)
        every.setdefault(each.name, Device(each.name, group=each.group, may_call=each.may_call))
    for line, each in wanted:
        for pattern in each.may_call:
            why = stands_for_nobody(every, each.name, pattern)
            if why is not None:
                faults.append(f"{path}:{line}: may_call: {why}")
    return faults
