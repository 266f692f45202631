"""A stranger's values: nothing in them is obeyed, ends a line, is no JSON, or ends the program."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import logging
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sdk.client.display import (
    LineHandler,
    as_json,
    as_text,
    at_time,
    jsonable,
    plain,
    say,
    shown,
    write,
)

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text()
    | st.characters(categories=("Cs", "Cc", "Cf"))
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(SCALARS, inner), max_leaves=20
)


def _no_constant(word: str) -> None:
    raise ValueError(word)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_every_value_is_strict_json_and_a_line(value: Any) -> None:
    """As RFC 8259 has it, with every key; and encodable, printable, of bounded length."""
    text = as_json(value)
    text.encode()
    back = json.loads(text, parse_constant=_no_constant)
    if isinstance(value, dict):
        assert len(back) == len(value)
    line = shown(value)
    assert line.isprintable()
    assert len(line) <= 160
    assert "\0" not in as_text(value)
    as_text(value).encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({b"image": b"\xff", 1: "a", "1": "b"},
         '{"b\'image\'": {"base64": "/w=="}, "1": "a", "1\'": "b"}'),
        ([math.nan, -math.inf], '["nan", "-inf"]'),
        (datetime.date(2026, 1, 1), '"datetime.date(2026, 1, 1)"'),
        ("\ud800", '"?"'),
    ],
)  # fmt: skip
def test_what_json_cannot_say(value: Any, expected: str) -> None:
    assert as_json(value) == expected


@pytest.mark.parametrize(
    "char", ["\n", "\r", "\x1b", "\x07", "\x85", "\u2028", "\u202e", "\u2066", "\ud800"]
)
def test_what_a_terminal_or_a_log_would_obey_is_spelt_out(char: str) -> None:
    assert plain(f"a{char}b").isprintable()
    assert plain(f"a{char}b") != "ab"


@pytest.mark.parametrize(
    "seconds", [None, 0, -1, 1_000_000_000, 2**53 - 1, 2**62, math.inf, math.nan]
)
def test_a_clock_that_was_never_set_shows_no_time(seconds: float | None) -> None:
    """Nor one that is beyond all time; 1970 would be a lie."""
    assert at_time(seconds) == ""
    assert at_time(1_790_000_000).startswith(" at 2026-")


SCRIPT = """
import logging, sys
from device_sdk.client.display import LineHandler, complain, say
logging.basicConfig(handlers=[LineHandler()])
for _ in range(3):
    say("k\\u00fcche \\u266a\\n\\x1b[2J")
    complain("k\\u00fcche")
    logging.error("k\\u00fcche\\nforged")
sys.exit(5)
"""


@pytest.mark.parametrize("sink", ["/dev/full", "closed pipe", "closed", os.devnull])
def test_output_that_fails_is_no_reason_to_stop(sink: str) -> None:
    """A full disk, a reader that has gone, no output at all: the program goes on to its own end."""
    if sink == "closed pipe":
        read, out = os.pipe()
        os.close(read)
    else:
        out = os.open(os.devnull if sink == "closed" else sink, os.O_WRONLY)
    script = SCRIPT
    if sink == "closed":
        script = "import os; os.close(1); os.close(2)" + SCRIPT
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=out, stderr=out, check=False, timeout=30
    )
    os.close(out)
    assert done.returncode == 5


def test_output_of_another_encoding_gets_what_it_can_spell() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=False,
                          timeout=30, env=os.environ | {"PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert done.stdout == b"k\\xfcche \\u266a\\n\\x1b[2J\n" * 3
    assert b"\nforged" not in done.stderr


def test_a_record_is_one_line_and_a_traceback_lines_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("test_shown")
    logger.propagate = False
    handler = LineHandler()
    logger.addHandler(handler)
    try:
        logger.warning("%s rings", "door\nonline as kitchen")
        logger.warning("%d", "no number")
        try:
            raise ValueError("oops\x1b[2J")
        except ValueError:
            logger.exception("failed")
    finally:
        logger.removeHandler(handler)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "door\\nonline as kitchen rings"
    assert "no number" in lines[1]
    assert lines[-1] == "ValueError: oops\\x1b[2J"


def test_say_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a window without a console, or inside another program."""
    monkeypatch.setattr(sys, "stdout", None)
    say("hello")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    say("hello\nworld")
    assert sys.stdout.getvalue() == "hello\\nworld\n"  # type: ignore[attr-defined]  # as just set


def test_json_keeps_what_it_has() -> None:
    assert jsonable({"a": [1, None, True, 1.5, "ü"]}) == {"a": [1, None, True, 1.5, "ü"]}


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), ("a\0b\ud800", "ab?"), ("ü", "ü"), (7, "7"), (["a"], '["a"]')]
)
def test_a_value_for_a_command_is_text(value: Any, text: str) -> None:
    """Without what no variable of a program can hold."""
    assert as_text(value) == text


def test_a_time_that_this_machine_cannot_say_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where seconds since 1970 have 32 bits: a 32-bit Raspberry Pi OS, in 2038."""

    def refused(_seconds: float) -> time.struct_time:
        raise OverflowError("timestamp out of range for platform time_t")

    monkeypatch.setattr(time, "localtime", refused)
    assert at_time(2**31) == ""


def test_who_reads_no_more_is_told_and_a_full_disk_is_not(tmp_path: Path) -> None:
    """A pipe that broke ends what writes into it, as for any program; a disk may have room again.

    Whatever was buffered before is written, or told of, first.
    """
    with Path("/dev/full").open("w") as full:
        write("lost\n", full)
    read, out = os.pipe()
    with os.fdopen(out, "w") as pipe:
        write("read\n", pipe)
        assert os.read(read, 64) == b"read\n"
        os.close(read)
        with pytest.raises(BrokenPipeError):
            write("nobody reads\n", pipe)
        pipe.write("waits in the buffer")
        with pytest.raises(BrokenPipeError):
            write("nobody reads\n", pipe)
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
    with (tmp_path / "file").open("w") as file:
        file.write("before, ")
        write("and after\n", file)
        assert (tmp_path / "file").read_text() == "before, and after\n"
