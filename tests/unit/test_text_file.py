"""Files that people write with any editor: what is taken, and what a refusal says."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from device_sdk.client.link import text_file
from device_sdk.client.link.text_file import TextFileError, read_secret, read_text

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("data", [b"a\nb", BOM + b"a\nb", BOM + b"a\r\nb", b"a\rb"])
def test_what_an_editor_adds_is_taken_away(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert read_text(tmp_path / "x") == "a\nb"


@pytest.mark.parametrize("data", [
    b"word", b"word\n", b"word\r\n", BOM + b"word\r\n", b"  word\t \r\n", b"word\nmore\n",
    BOM + b"word   ",
])  # fmt: skip
def test_the_secret_is_the_first_line_without_blanks_around(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert read_secret(tmp_path / "x") == "word"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("word".encode("utf-16"), "this is UTF-16; save it as UTF-8"),
        ("word".encode("utf-16-be"), "this is UTF-16; save it as UTF-8"),
        ("word\n".encode("utf-32"), "save it as UTF-8"),
        (b"fine\nna\xefve\n", "x:2: this is not UTF-8"),
        (b"", "first line is empty"),
        (BOM, "first line is empty"),
        (b"\r\nword", "first line is empty"),
        (b"wo\x1brd", "cannot be seen"),
        (b"x" * 5000, "longer than 4096 bytes"),
    ],
)
def test_what_cannot_be_a_secret_is_said(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(TextFileError, match=says):
        read_secret(tmp_path / "x")


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    """Nothing there, a directory, a name that cannot be, what never ends."""
    for path, says in (
        (tmp_path / "none", "there is no such file"),
        (tmp_path, "this is a directory"),
        (Path("a\0b"), "cannot be read"),
        (Path("/dev/zero"), "longer than"),
    ):
        with pytest.raises(TextFileError, match=says):
            read_text(path)


def test_a_pipe_is_read_but_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody writes into, one whose writer says nothing, one that holds a secret."""
    monkeypatch.setattr(text_file, "WRITER_TIMEOUT", 0.01)
    monkeypatch.setattr(text_file, "PIPE_TIMEOUT", 0.01)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(TextFileError, match="nobody writes"):
        read_secret(pipe)
    both = os.open(pipe, os.O_RDWR)
    with pytest.raises(TextFileError, match="nothing comes"):
        read_secret(pipe)
    os.close(both)
    monkeypatch.undo()
    writer = threading.Thread(target=pipe.write_text, args=("word\n",))
    writer.start()
    assert read_secret(pipe) == "word"
    writer.join()


def test_a_pipe_whose_writer_takes_its_time_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has it open, as ``<(pass show door)`` while it asks for the passphrase."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)

    class Poll:
        """What is waited for comes while it is waited for."""

        def register(self, *_what: int) -> None: ...

        def poll(self, _timeout: float) -> list[int]:
            os.write(writer, b"word\n")
            os.close(writer)
            return [1]

    monkeypatch.setattr("select.poll", Poll)
    assert read_secret(pipe) == "word"


def test_a_pipe_is_read_no_further_than_it_is_wanted(tmp_path: Path) -> None:
    """Who writes without end is told so by the end of the pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    broken: list[BaseException] = []

    def write() -> None:
        try:
            with pipe.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
        except BrokenPipeError as error:
            broken.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(TextFileError, match="longer than 4096 bytes"):
        read_secret(pipe)
    writer.join(10)
    assert broken
