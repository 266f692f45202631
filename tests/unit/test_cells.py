"""The cells as values, and the numbers they have on the wire."""

from __future__ import annotations

import pytest

from device_sdk.core.wire import cells


def test_the_states_numbers_are_the_protocols() -> None:
    """docs/protocol.md, Cells: States."""
    assert [(s.name, s.value) for s in cells.InviteState] == [
        ("RINGING", 0), ("ACCEPTED", 1), ("ENDED", 2), ("OVER", 3),
    ]  # fmt: skip
    assert [(s.name, s.value) for s in cells.AnswerState] == [
        ("RECEIVED", 0), ("ACCEPTED", 1), ("REFUSED", 2), ("FAILED", 3), ("SEEN", 4),
        ("TALKING", 5), ("OVER", 6),
    ]  # fmt: skip


def test_the_reasons_numbers_are_the_protocols() -> None:
    """docs/protocol.md, Cells: Reasons."""
    assert [(r.name, r.value) for r in cells.EndedReason] == [
        ("CANCELED", 1), ("ANSWERED_ELSEWHERE", 2), ("EXPIRED", 3), ("PEER_OFFLINE", 4),
        ("NO_RESPONSE", 5), ("CALLER_RESTARTED", 6),
    ]  # fmt: skip
    assert [(r.name, r.value) for r in cells.AnswerReason] == [
        ("DECLINED", 1), ("BUSY", 2), ("DO_NOT_DISTURB", 3), ("ACCEPT_FAILURE", 4),
        ("CALLEE_EXPIRED", 5), ("CALLER_LOST", 6),
    ]  # fmt: skip
    assert [(r.name, r.value) for r in cells.OverReason] == [
        ("HUNG_UP", 7), ("PEER_LOST", 8), ("RESTARTED", 9), ("TIME_UP", 10), ("LOGGED_OUT", 11),
    ]  # fmt: skip


@pytest.mark.parametrize("state", cells.AnswerState)
def test_refused_failed_seen_and_over_are_final(state: cells.AnswerState) -> None:
    """After these the callee says nothing else; received, accepted and talking are not final."""
    assert state.final == (state.name in ("REFUSED", "FAILED", "SEEN", "OVER"))


def test_the_lengths_of_the_random_fields() -> None:
    """An epoch is 8 bytes, a ring group 16."""
    assert (cells.EPOCH_BYTES, cells.GROUP_BYTES) == (8, 16)


@pytest.mark.parametrize(
    "cell",
    [
        cells.Invite(cells.InviteState.RINGING, b"e" * 8, 1, ttl=1),
        cells.Answer(cells.AnswerState.SEEN, b"e" * 8, 1),
        cells.Presence(True, b"e" * 8),
    ],
)
def test_a_cell_is_a_value(cell: cells.Cell) -> None:
    """Equal by content, hashable, and nobody changes it."""
    assert cell._replace() == cell
    assert len({cell, cell._replace()}) == 1
    with pytest.raises(AttributeError):
        cell.epoch = b"other   "  # type: ignore[misc] # that it is refused is the point
