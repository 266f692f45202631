"""A part of the fault matrix, for every run; ``make faults`` runs all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import need_mosquitto
from tests.faults.cells import run
from tests.faults.expected import expected
from tests.faults.faults import FAULTS, STATES
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
    made: BrokerProcess
    if name == "mosquitto":
        need_mosquitto()
        made = Mosquitto(tmp_path)
    else:
        made = BundledBroker()
    with made as broker:
        results = run(FAULTS[fault], broker, states)
    assert len(results) == sum(len(FAULTS[fault].cells(state)) for state in states)
    problems = [f"{result.name}\n{result.problem}" for result in results if result.problem]
    assert not problems, "\n".join(problems)


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
