"""The ``bellwire`` command as a process: what it printed, line by line, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE = 15.0
#: Nothing of the developer's own settings reaches a test, nor the size of the terminal, which is
#: exported by some shells and by pytest-xdist.
CLEAN = {
    k: v
    for k, v in os.environ.items()
    if not k.startswith(("BELLWIRE_", "XDG_CONFIG")) and k not in ("COLUMNS", "LINES")
}
NOWHERE = {**CLEAN, "HOME": "/nonexistent"}
BELLWIRE = (sys.executable, "-m", "device_sdk.cli")


class Command:
    """A running command; killed at the end of ``with`` if it still runs."""

    def __init__(
        self, *words: str | Path, environ: dict[str, str] | None = None, program: Any = BELLWIRE,
        stdin: Any = subprocess.DEVNULL,
    ) -> None:  # fmt: skip
        self.lines: list[str] = []
        self.errors: list[str] = []
        #: What stands on standard error behind the last whole line: a question.
        self.question = ""
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [*program, *map(str, words)], env={**NOWHERE, **(environ or {})}, stdin=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._threads = [
            threading.Thread(target=self._read, args=(stream, into))
            for stream, into in (
                (self.process.stdout, self.lines),
                (self.process.stderr, self.errors),
            )
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: Any, into: list[str]) -> None:
        begun = ""
        with stream:
            while character := stream.read(1):  # not a line at a time: a question has no end
                begun += character
                with self._changed:
                    if character == "\n":
                        into.append(begun[:-1])
                        begun = ""
                    if into is self.errors:
                        self.question = begun
                    self._changed.notify_all()
        with self._changed:
            into += [begun] if begun else []
            self._changed.notify_all()

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait for a condition on the lines; fails when the command ends without it."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not (found := true()):
                ended = not any(thread.is_alive() for thread in self._threads)
                left = deadline - time.monotonic()
                assert left > 0, f"no {what} in {self.lines} {self.errors}"
                assert not ended, f"it ended without {what}: {self.lines} {self.errors}"
                self._changed.wait(min(left, 0.1))
        return found

    def line(self, words: str) -> str:
        """The first line with these words in it."""
        found: str = self.until(
            lambda: next((line for line in self.lines if words in line), None), repr(words)
        )
        return found

    @property
    def told(self) -> list[dict[str, Any]]:
        """The lines of ``--json``."""
        return [json.loads(line) for line in self.lines]

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.told]

    def event(self, name: str) -> dict[str, Any]:
        """The first event of that name."""
        found: dict[str, Any] = self.until(
            lambda: next((event for event in self.told if event["event"] == name), None), name
        )
        return found

    def ready(self) -> Self:
        """Wait until it is logged in."""
        self.until(lambda: self.lines, "login")
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; its exit code."""
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        self.end()


class CommandedPeer(Command):
    """A peer in a program of its own: commands in, events out, a line of JSON each."""

    #: What it calls the id of a call.
    id_key = "callId"

    def __init__(self, *words: str | Path, **options: Any) -> None:
        super().__init__(*words, stdin=subprocess.PIPE, **options)

    def do(self, name: str, **options: Any) -> None:
        """Command it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": name, **options}) + "\n")
        self.process.stdin.flush()

    def all(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Its events so far of that name with these fields."""
        wanted = {"event": event, **fields}
        return [told for told in self.told if wanted.items() <= told.items()]

    def told_of(self, event: str, *, nth: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for its ``nth`` event of that name with these fields."""
        found: list[dict[str, Any]] = self.until(
            lambda: (have := self.all(event, **fields))[nth - 1 :] and have, f"{event} {fields}"
        )
        return found[nth - 1]

    def call(self, to: str = "kitchen", **options: Any) -> str:
        """Let it call; the call's id."""
        nth = len(self.all("calling")) + 1
        self.do("call", to=to, **options)
        return str(self.told_of("calling", nth=nth)[self.id_key])
