"""A TOML file read with care: each complaint names file, line, key and what was expected.

``tomllib`` tells no lines for keys, so the line is looked up in the text when something is wrong.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from ...errors import BellwireError
from ...link.text_file import TextFileError, read_text
from ...wire.codec import encode_body

_Choice = TypeVar("_Choice", bound=StrEnum)
_Made = TypeVar("_Made")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"""\s*("?)([\w-]+)\1\s*[=.]""")
_REQUIRED = object()


class SettingsError(BellwireError, ValueError):
    """A settings file cannot be used; the message reads ``FILE:LINE: KEY: what was expected``."""


def load(path: Path) -> Table:
    """The file's top table; :class:`SettingsError` when it cannot be read or is no TOML."""
    return Table(*read_toml(path), ())


def read_toml(path: Path) -> tuple[dict[str, Any], Path, str]:
    """What the file says, its path and its text; :class:`SettingsError`. The one reader of TOML."""
    try:
        text = read_text(path)
    except TextFileError as error:
        raise SettingsError(str(error)) from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = at[1] if at else str(text.count("\n") + 1)
        problem = re.sub(r"\s*\(at .*\)", "", str(error))
        raise SettingsError(f"{path}:{line}: not TOML: {problem}") from None
    except RecursionError:
        raise SettingsError(f"{path}: not TOML: too many levels") from None
    return data, path, text


class Table:
    """One table of the file. Take each key; :meth:`done` refuses what nobody took."""

    def __init__(self, data: dict[str, Any], path: Path, text: str, name: tuple[str, ...]) -> None:
        self._data = data
        self._path = path
        self._text = text
        self._name = name
        self._taken: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def keys(self) -> list[str]:
        """The keys as written."""
        return list(self._data)

    def error(self, key: str, problem: str) -> SettingsError:
        """A complaint about ``key``, with its line."""
        known = self._data if key in self._data else None
        dotted = ".".join(part for part in (*self._name, key) if not part.isdigit())
        return SettingsError(
            f"{self._path}:{self._line(key if known else None)}: {dotted}: {problem}"
        )

    def text(self, key: str, default: object = _REQUIRED, *, at_most: int = 4096) -> str:
        """A string that says something, on one line."""
        value = self._take(key, default, "a text in quotes", str)
        if isinstance(value, str) and len(value) > at_most:
            raise self.error(key, f"at most {at_most} characters, not {len(value)}")
        if isinstance(value, str) and not value.strip():
            raise self.error(key, "expected a text that is not empty")
        if isinstance(value, str) and any(unicodedata.category(c) == "Cc" for c in value):
            raise self.error(key, "expected a text without control characters")
        return value  # type: ignore[no-any-return] # _take has checked it, or it is the default

    def flag(self, key: str, default: bool) -> bool:
        """A boolean."""
        return bool(self._take(key, default, "true or false", bool))

    def whole(self, key: str, default: object = _REQUIRED, *, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""
        value = self._take(key, default, f"a whole number from {low} to {high}", int)
        if value is not default and not low <= value <= high:
            raise self.error(key, f"expected a whole number from {low} to {high}, not {value}")
        return value  # type: ignore[no-any-return] # as above

    def seconds(self, key: str, default: float, *, low: float, high: float) -> float:
        """A time in seconds from ``low`` to ``high``."""
        expected = f"seconds, a number from {low:g} to {high:g}"
        value = self._take(key, default, expected, int, float)
        if value is not default and not low <= value <= high:
            raise self.error(key, f"expected {expected}, not {value}")
        return float(value)

    def choice(self, key: str, kind: type[_Choice], default: _Choice) -> _Choice:
        """One of the words of ``kind``."""
        words = " or ".join(f'"{word}"' for word in kind)
        value = self._take(key, default, words, str)
        try:
            return kind(value)
        except ValueError:
            raise self.error(key, f'expected {words}, not "{value}"') from None

    def texts(self, key: str, default: object = _REQUIRED) -> tuple[str, ...]:
        """A list of strings, or one string for a list of one."""
        value = self._take(key, default, "a list of texts", str, list, tuple)
        values = (value,) if isinstance(value, str) else tuple(value)
        if not all(isinstance(each, str) and each and "\0" not in each for each in values):
            raise self.error(key, "expected a list of texts, none of them empty")
        return values

    def anything(self, key: str, default: object) -> Any:
        """A value of any type that TOML has, dates and times excepted."""
        return self._take(
            key, default, "a text, number, list or table", str, int, float, bool, list, dict
        )

    def body(self, key: str) -> Any:
        """What a cell may carry as content or response; None when absent."""
        value = self.anything(key, None)
        if value is not None:
            try:
                encode_body(value)
            except ValueError as error:
                raise self.error(key, f"cannot be sent: {error}") from None
        return value

    def made(self, key: str, value: str, make: Callable[[str], _Made]) -> _Made:
        """``make(value)``; its ``ValueError`` becomes a complaint about ``key``."""
        try:
            return make(value)
        except ValueError as error:
            raise self.error(key, str(error)) from None

    def table(self, key: str) -> Table:
        """A sub-table; empty when absent."""
        value = self._take(key, {}, f"a table: [{'.'.join((*self._name, key))}]", dict)
        return Table(value, self._path, self._text, (*self._name, key))

    def tables(self, key: str) -> list[Table]:
        """An array of tables, ``[[key]]``; a single ``[key]`` counts as one."""
        value = self._take(key, [], f"tables: [[{key}]]", list, dict)
        items = [value] if isinstance(value, dict) else value
        if not all(isinstance(item, dict) for item in items):
            raise self.error(key, f"expected tables: [[{key}]]")
        return [
            Table(item, self._path, self._text, (*self._name, key, str(index)))
            for index, item in enumerate(items)
        ]

    def know(self, names: Iterable[str], former: Mapping[str, str]) -> None:
        """Take ``names`` for known whether there or not; refuse what they were called before."""
        self._taken.update(names)
        for key in self._data:
            if key in former:
                raise self.error(key, f"it is called {former[key]}")

    def done(self) -> None:
        """Refuse the first key that nobody took."""
        for key in self._data:
            if key not in self._taken:
                known = ", ".join(sorted(self._taken)) or "none"
                raise self.error(key, f"unknown key; known here: {known}")

    def _take(self, key: str, default: object, expected: str, *kinds: type) -> Any:
        self._taken.add(key)
        if key not in self._data:
            if default is _REQUIRED:
                raise self.error(key, f"missing; expected {expected}")
            return default
        value = self._data[key]
        # A bool is an int to Python, but not to who writes pin = true.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.error(key, f"expected {expected}, not {_name_of(value)}")
        return value

    def _line(self, key: str | None) -> int:
        """The line of ``key`` in this table, else of the table's header, else 1."""
        names = tuple(part for part in self._name if not part.isdigit())
        index = next((int(part) for part in reversed(self._name) if part.isdigit()), 0)
        seen, here, header_line = -1, not names, 1
        for number, line in enumerate(self._text.splitlines(), start=1):
            header = _HEADER.fullmatch(line)
            if header:
                parts = tuple(part.strip().strip('"') for part in header[2].split("."))
                if key is not None and parts == (*names, key) and (seen == index or seen < 0):
                    return number
                here = False
                if parts == names:
                    seen += 1
                    here = seen == index
                    header_line = number if here else header_line
                continue
            found = _KEY.match(line)
            if here and key is not None and found and found[2] == key:
                return number
        return header_line


def _name_of(value: object) -> str:
    names: Iterable[tuple[type, str]] = (
        (bool, f"{str(value).lower()}"),
        (str, f'the text "{value}"'),
        (int, f"the number {value}"),
        (float, f"the number {value}"),
        (list, "a list"),
        (dict, "a table"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "a date or time")
