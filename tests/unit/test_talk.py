"""The messages of a call that goes on: numbered, acknowledged, handled once and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.core.talk import Messages
from device_sdk.core.wire.cells import Said
from device_sdk.core.wire.keys import MAX_BODY
from device_sdk.core.wire.talk_cells import MAX_MESSAGE, MAX_MESSAGES


def test_a_message_is_handled_once_and_acknowledged() -> None:
    """The register says it until the other's word shows that it was handled."""
    door, kitchen = Messages().send(b"a"), Messages()
    kitchen, news = kitchen.read(door.said())
    assert news.messages == (b"a",)
    kitchen, again = kitchen.read(door.said())
    assert (again.messages, again.repeated) == ((), True)
    assert door.read(kitchen.said())[0].waiting == ()


def test_what_does_not_fit_waits() -> None:
    """The oldest first; the next cell carries the rest."""
    door = Messages()
    for n in range(3):
        door = door.send(bytes([n]) * (MAX_BODY // 2))
    first = door.said()
    assert (first.count, len(first.messages)) == (1, 1)
    door, _ = door.read(Said(0, 1))
    assert door.said().count == 2


def test_a_message_that_fits_no_cell_is_refused() -> None:
    """And changes nothing."""
    with pytest.raises(ValueError, match="8191 bytes encoded; at most 8190"):
        Messages().send(bytes(MAX_MESSAGE + 1))


def test_too_many_that_wait_are_refused() -> None:
    """The sender is told at once."""
    full = Messages()
    for _ in range(MAX_MESSAGES):
        full = full.send(b"x")
    with pytest.raises(OverflowError, match="64 messages wait"):
        full.send(b"x")


@pytest.mark.parametrize("got", [2, 99, 2**53 - 1])
def test_an_acknowledgement_of_what_was_never_said_is_no_news(got: int) -> None:
    """From the wire nothing is lost by it."""
    door = Messages().send(b"a")
    assert door.read(Said(0, got))[0] == door


def test_messages_after_a_gap_are_not_handled() -> None:
    """They would be out of order."""
    mine, news = Messages().read(Said(3, 0, (b"c",)))
    assert (news.messages, news.gap, mine.got) == ((), True, 0)


@given(st.lists(st.sampled_from("sS><rR"), max_size=60), st.randoms(use_true_random=False))
def test_whatever_is_lost_repeated_or_late_both_hear_each_message_once(
    steps: list[str], random: object
) -> None:
    """Any old cell may come again, any may be lost: in order, none twice, none invented."""
    ends = [Messages(), Messages()]
    cells: list[list[Said]] = [[Said()], [Said()]]
    sent: list[list[bytes]] = [[], []]
    heard: list[list[bytes]] = [[], []]

    def read(reader: int, said: Said) -> None:
        ends[reader], news = ends[reader].read(said)
        heard[reader] += news.messages
        cells[reader].append(ends[reader].said())

    for step in steps:
        who = int(step.isupper() or step == "<")
        if step in "sS":
            message = bytes([len(sent[who])])
            if len(ends[who].waiting) < MAX_MESSAGES:
                ends[who] = ends[who].send(message)
                sent[who].append(message)
            cells[who].append(ends[who].said())
        elif step in "rR":  # a late copy
            read(who, random.choice(cells[1 - who]))  # type: ignore[attr-defined]  # a Random
        else:
            read(who, cells[1 - who][-1])
        for end in (0, 1):
            assert heard[end] == sent[1 - end][: len(heard[end])]
            assert ends[1 - end].acknowledged <= len(heard[end])
    for _ in range(2 * MAX_MESSAGES):  # and once all arrives, all have heard all
        for end in (0, 1):
            read(end, ends[1 - end].said())
    assert heard == sent[::-1]
    assert not ends[0].waiting
    assert not ends[1].waiting
