"""A part of the fault matrix, for every run; ``make faults`` runs all of it."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from tests.conftest import need_mosquitto
from tests.faults import cells
from tests.faults.cells import run_fairly
from tests.faults.expected import expected
from tests.faults.faults import FAULTS, STATES
from tests.faults.stage import Result
from tests.faults.stalls import STOOD_STILL
from tests.servers import BrokerProcess, BundledBroker, Mosquitto

PART = [
    ("bundled", "reset", STATES),
    ("bundled", "lost-down", STATES),
    ("bundled", "duplicates", STATES),
    ("bundled", "broker-killed", STATES),
    ("bundled", "killed", ("ringing", "probing")),
    ("bundled", "kills-once", STATES),
    ("bundled", "bridge", STATES),
    ("bundled", "broker-away", ("idle",)),
    ("bundled", "resolver", ("idle",)),
    ("mosquitto", "reset", STATES),
    ("mosquitto", "half-open", STATES),
]


@pytest.mark.parametrize(
    ("name", "fault", "states"),
    [
        pytest.param(
            *part,
            id=f"{part[0]}-{part[1]}",
            marks=pytest.mark.mosquitto if part[0] == "mosquitto" else (),
        )
        for part in PART
    ],
)
def test_fault(name: str, fault: str, states: tuple[str, ...], tmp_path: Path) -> None:
    """Every state, each end: the ring comes or the right failure, in time, once, without split."""
    if name == "mosquitto":
        need_mosquitto()

    def started() -> BrokerProcess:
        return Mosquitto(Path(mkdtemp(dir=tmp_path))) if name == "mosquitto" else BundledBroker()

    results = run_fairly(FAULTS[fault], started, states)
    assert len(results) == sum(len(FAULTS[fault].cells(state)) for state in states)
    problems = [f"{result.name}\n{result.problem}" for result in results if result.problem]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(("still", "problems"), [(0.1, ["late"]), (0.9, [""])])
def test_only_what_failed_while_the_machine_stood_still_is_done_again(
    still: float, problems: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure on a machine that went on is one, and what passed is not asked twice."""
    asked: list[list[tuple[str, str]]] = []
    every = [(state, end) for state in ("idle", "ringing") for end in ("caller", "callee")]

    def once(
        _fault: Any, _broker: Any, _states: Any, only: Container[tuple[str, str]] = every
    ) -> list[Result]:
        asked.append([cell for cell in every if cell in only])
        late = "late" if len(asked) == 1 else ""
        return [
            Result("reset", *cell, "bundled", problem=late if cell == ("idle", "callee") else "")
            for cell in asked[-1]
        ]

    @contextlib.contextmanager
    def started() -> Iterator[Any]:
        yield None

    monkeypatch.setattr(cells, "run", once)
    monkeypatch.setattr(cells.Stalls, "stood_still", property(lambda _: still >= STOOD_STILL))
    results = run_fairly(FAULTS["reset"], started, STATES)
    assert len(results) == len(every)
    assert [each.problem for each in results if each.state == "idle" and each.end == "callee"] == (
        problems
    )
    assert asked == [every, *([[("idle", "callee")]] if still >= STOOD_STILL else [])]


def test_what_is_expected_agrees_with_the_protocol() -> None:
    """No cell expects what "Who may end how" forbids, or nothing at all."""
    allowed = {
        "ACCEPTED": {"ACCEPTED"},
        "ACCEPTED + lost": {"FAILURE", "-"},
        "CANCELED": {"CANCELED", "REFUSED", "FAILURE", "MISSED", "-"},
        "REFUSED": {"REFUSED"},
        "FAILURE": {"FAILURE", "REFUSED", "CANCELED", "MISSED", "-"},
        # The caller died undecided: whatever the callee is told, it is not that it was accepted.
        "-": {"FAILURE", "REFUSED", "CANCELED", "MISSED"},
    }
    for fault in FAULTS.values():
        for state in STATES:
            for end in fault.cells(state):
                callers, callees = expected(fault.name, state, end)
                assert callers
                assert callees
                for caller in callers:
                    last = {told.rpartition(" and ")[2] for told in callees}  # of two logins
                    assert last <= allowed[caller], (fault.name, state, end)
