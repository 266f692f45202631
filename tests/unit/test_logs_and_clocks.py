"""Log records that harm nobody, and clocks where the machine has not the one that is wanted."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from device_sdk.client.clocks import _counting_sleep
from device_sdk.client.logs import Log, Records, log_safely


class Raises(logging.Handler):
    """The application's, with a defect."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def emit(self, _record: logging.LogRecord) -> None:
        raise self._error


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger("test_logs_and_clocks")
    made.propagate, made.level = False, logging.DEBUG
    yield made
    for handler in list(made.handlers):
        made.removeHandler(handler)


@pytest.mark.parametrize("shown", [True, False])
def test_what_a_handler_raises_is_shown_as_logging_is_told_to(
    logger: logging.Logger, capsys: Any, monkeypatch: pytest.MonkeyPatch, shown: bool
) -> None:
    """``logging.raiseExceptions`` says so; whoever logs goes on either way."""
    monkeypatch.setattr(logging, "raiseExceptions", shown)
    logger.addHandler(Raises(SystemExit("injected")))
    log_safely(logger, logging.ERROR, "a word")
    assert ("injected" in capsys.readouterr().err) is shown


def test_an_interrupt_in_a_handler_is_one(logger: logging.Logger) -> None:
    """Ctrl-C has no good moment, and is not a handler's defect."""
    logger.addHandler(Raises(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        log_safely(logger, logging.ERROR, "a word")


def test_a_handler_that_raises_where_nothing_can_be_shown(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a window without a console, or inside another program."""
    monkeypatch.setattr(sys, "stderr", None)
    logger.addHandler(Raises(ValueError("injected")))
    log_safely(logger, logging.ERROR, "a word")


def test_a_log_has_levels_arguments_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    """Its methods are those of ``logging``."""
    caplog.set_level(logging.DEBUG)
    log = Log("test_logs")
    log.info("%s comes", "info")
    log.warning("%s comes", "warning")
    log.error("%s comes", "error", error=ValueError("why"))
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "info comes"), ("WARNING", "warning comes"), ("ERROR", "error comes"),
    ]  # fmt: skip
    assert "ValueError: why" in caplog.text


def test_records_are_said_once_by_whoever_comes_first(caplog: pytest.LogCaptureFixture) -> None:
    """Two threads may say them at once: one finds nothing left."""
    caplog.set_level(logging.INFO)
    records = Records(logging.getLogger("test_records"))

    class Taken(deque[Any]):
        """Another thread takes the last one between a look and a grasp."""

        def popleft(self) -> Any:
            taken = super().popleft()
            self.clear()
            if taken[1] == "the other's":
                raise IndexError("pop from an empty deque")
            return taken

    records._waiting = Taken()
    records.add(logging.INFO, "mine")
    records.flush()
    records.add(logging.INFO, "the other's")
    records.flush()
    records.add(logging.DEBUG, "not wanted")
    assert not records._waiting
    assert caplog.messages == ["mine"]


@pytest.mark.parametrize("there", [True, False])
def test_a_machine_whose_clock_does_not_count_sleep_has_another(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """An old kernel or a sandbox refuses it, other systems have none of that name."""
    monkeypatch.setattr(sys, "platform", "linux")
    if there:

        def refused(_number: int) -> float:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(time, "clock_gettime", refused)
    else:
        monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    clock = _counting_sleep()
    assert clock is time.monotonic


def test_a_machine_that_counts_sleep_is_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS it goes by another name."""
    asked: list[int] = []
    monkeypatch.setattr(time, "clock_gettime", lambda number: asked.append(number) or 7.0)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _counting_sleep()() == 7.0
    assert set(asked) == {time.CLOCK_MONOTONIC}
