"""A TOML file read with care: each complaint names file, line, key and what was expected.

All complaints are gathered and raised at the end, so that a file is mended in one go; what is wrong
is read as its default meanwhile. ``tomllib`` tells no lines for keys, so the line is looked up in
the text when something is wrong.
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from ...client.link.text_file import TextFileError, read_text
from ...core.wire.codec import encode_body
from ...errors import BellwireError

_Choice = TypeVar("_Choice", bound=StrEnum)
_Made = TypeVar("_Made")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"""\s*("?)([\w-]+)\1\s*[=.]""")
_REQUIRED = object()


class SettingsError(BellwireError, ValueError):
    """A settings file cannot be used; each problem reads ``FILE:LINE: KEY: what was expected``."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def load(path: Path) -> Table:
    """The file's top table; :class:`SettingsError` when it cannot be read or is no TOML."""
    return Table(*read_toml(path))


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
        if problem == "Invalid value":
            problem += '; is it a text? Then it stands in quotes: "…"'
        raise SettingsError(f"{path}:{line}: not TOML: {problem}") from None
    except RecursionError:
        raise SettingsError(f"{path}: not TOML: too many levels") from None
    return data, path, text


class Table:
    """One table of the file. Take each key; :meth:`done` names what nobody took.

    ``done`` of the top table, or :meth:`finish`, raises what was found in all of them.
    """

    def __init__(
        self,
        data: dict[str, Any],
        path: Path,
        text: str,
        name: tuple[str, ...] = (),
        problems: dict[tuple[str, ...], tuple[int, str]] | None = None,
    ) -> None:
        self._data = data
        self._path = path
        self._text = text
        self._name = name
        self._taken: set[str] = set()
        #: By the whole name of the key, whose first problem is the cause of the others.
        self._problems = {} if problems is None else problems

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def keys(self) -> list[str]:
        """The keys as written."""
        return list(self._data)

    def wrong(self, key: str, problem: str) -> None:
        """Note a problem of ``key``, to be raised at the end."""
        dotted = ".".join(part for part in (*self._name, key) if part and not part.isdigit())
        line = self._line(key if key in self._data else None)
        text = f"{self._path}:{line}: {dotted}: {problem}"
        self._problems.setdefault((*self._name, key), (line, text))

    @property
    def well(self) -> bool:
        """Whether nothing has been found wrong so far, in the whole file."""
        return not self._problems

    def finish(self) -> None:
        """Raise :class:`SettingsError` of all that was found wrong, in the order of the lines."""
        if self._problems:
            found = sorted(self._problems.values(), key=lambda each: each[0])
            raise SettingsError(*(text for _, text in found))

    def text(
        self, key: str, default: object = _REQUIRED, *, at_most: int = 4096, empty: bool = False
    ) -> str:
        """A string that says something (or, if ``empty``, may say nothing), on one line."""
        value = self._take(key, default, "a text in quotes", str, instead="")
        if not isinstance(value, str) or (key not in self._data):
            return value  # type: ignore[no-any-return] # the default
        if len(value) > at_most:
            self.wrong(key, f"at most {at_most} characters, not {len(value)}")
        elif not value.strip() and not empty:
            self.wrong(key, "expected a text that is not empty")
        elif any(unicodedata.category(c) == "Cc" for c in value):
            self.wrong(key, "expected a text without control characters")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A boolean."""
        return bool(self._take(key, default, "true or false", bool))

    def whole(
        self, key: str, default: object = _REQUIRED, *, low: int, high: float = math.inf
    ) -> int:
        """A whole number from ``low`` to ``high``."""
        what = f"a whole number from {low}" + (f" to {high}" if high < math.inf else " up")
        value = self._take(key, default, what, int, instead=low)
        # What was found wrong has its default by now, which may be None.
        if key in self._data and value is not None and not low <= value <= high:
            self.wrong(key, f"expected {what}, not {value}")
        return value  # type: ignore[no-any-return] # _take has checked it, or it is the default

    def number(self, key: str, default: float, *, low: float, high: float = math.inf) -> float:
        """A number from ``low`` to ``high``."""
        bounds = f"from {low:g}" + (f" to {high:g}" if high < math.inf else " up")
        return self._between(key, default, low, high, f"a number {bounds}")

    def seconds(self, key: str, default: float, *, low: float, high: float) -> float:
        """A time in seconds from ``low`` to ``high``."""
        what = f"seconds, a number from {low:g} to {high:g}"
        return self._between(key, default, low, high, what)

    def choice(self, key: str, kind: type[_Choice], default: _Choice) -> _Choice:
        """One of the words of ``kind``."""
        return kind(self.one_of(key, [word.value for word in kind], default.value))

    def one_of(self, key: str, words: Sequence[str], default: str) -> str:
        """One of ``words``."""
        known = " or ".join(f'"{word}"' for word in words)
        value = self._take(key, default, known, str)
        if value in words:
            return str(value)
        self.wrong(key, f'expected {known}, not "{value}"')
        return default

    def texts(self, key: str, default: object = _REQUIRED) -> tuple[str, ...]:
        """A list of strings, or one string for a list of one."""
        value = self._take(key, default, "a list of texts", str, list, tuple, instead=())
        values = (value,) if isinstance(value, str) else tuple(value)
        if not all(isinstance(each, str) and each and "\0" not in each for each in values):
            self.wrong(key, "expected a list of texts, none of them empty")
            return ()
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
                self.wrong(key, f"cannot be sent: {error}")
        return value

    def made(self, key: str, value: str, make: Callable[[str], _Made]) -> _Made | None:
        """``make(value)``; its ``ValueError`` becomes a problem of ``key``, and None."""
        try:
            return make(value)
        except ValueError as error:
            self.wrong(key, str(error))
            return None

    def checked(self, key: str, value: str, check: Callable[[str], object]) -> str:
        """``value``; a ``ValueError`` of ``check(value)`` becomes a problem of ``key``."""
        self.made(key, value, check)
        return value

    def table(self, key: str) -> Table:
        """A sub-table; empty when absent."""
        value = self._take(key, {}, f"a table: [{'.'.join((*self._name, key))}]", dict)
        return self._below(value, key)

    def tables(self, key: str) -> list[Table]:
        """An array of tables, ``[[key]]``; a single ``[key]`` counts as one."""
        value = self._take(key, [], f"tables: [[{key}]]", list, dict)
        items = [value] if isinstance(value, dict) else value
        if not all(isinstance(item, dict) for item in items):
            self.wrong(key, f"expected tables: [[{key}]]")
            return []
        return [self._below(item, key, str(index)) for index, item in enumerate(items)]

    def know(self, names: Iterable[str], former: Mapping[str, str]) -> None:
        """Take ``names`` for known whether there or not; name what others are called now."""
        self._taken.update(names)
        for key in self._data:
            if key in former:
                self.wrong(key, f"it is called {former[key]}")

    def done(self) -> None:
        """Note all keys that nobody took; of the top table, raise what was found in all tables."""
        for key in self._data:
            if key not in self._taken:
                known = ", ".join(sorted(self._taken)) or "none"
                self.wrong(key, f"unknown key; known here: {known}")
        if not self._name:
            self.finish()

    def _below(self, data: dict[str, Any], *name: str) -> Table:
        return Table(data, self._path, self._text, (*self._name, *name), self._problems)

    def _between(self, key: str, default: float, low: float, high: float, what: str) -> float:
        value = self._take(key, default, what, int, float)
        if key in self._data and not low <= value <= high:
            self.wrong(key, f"expected {what}, not {value}")
            return default
        return float(value)

    def _take(self, key: str, default: object, what: str, *kinds: type, instead: Any = None) -> Any:
        """The value of ``key`` if it is one of ``kinds``, else its default.

        Of a key that must be there, ``instead``.
        """
        self._taken.add(key)
        otherwise = instead if default is _REQUIRED else default
        if key not in self._data:
            if default is _REQUIRED:
                self.wrong(key, f"missing; expected {what}")
            return otherwise
        value = self._data[key]
        # A bool is an int to Python, but not to who writes pin = true.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            self.wrong(key, f"expected {what}, not {_name_of(value)}")
            return otherwise
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
