"""The simulation in short, that it can fail, and that a seed says it all."""

from __future__ import annotations

import pytest

from tests.model import talk
from tests.model.mutations import MUTATIONS
from tests.soak.__main__ import simulate
from tests.soak.simulation import Episode


def test_nothing_is_lost_ghost_duplicate_or_split() -> None:
    """Some hundred calls with every fault; ``make soak`` makes 100,000."""
    totals = simulate(1, 12)
    assert not totals.faults, "\n".join(map(str, totals.faults))
    assert totals.calls > 250
    for end in ("ACCEPTED", "REFUSED", "CANCELED", "FAILURE", "caller restarted", "rang"):
        assert totals.ends[end], end
    for fault in ("cut", "half-open", "restart", "store lost", "swallowed", "twice", "late copy"):
        assert totals.injected[fault], fault


def test_a_seed_is_the_whole_story() -> None:
    """What was printed for a fault can be seen again."""
    first, second = Episode(7).run(), Episode(7).run()
    assert (first.calls, first.ends, first.injected) == (
        second.calls,
        second.ends,
        second.injected,
    )


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("the callee takes its accept for the decision", {"split"}),
        ("an answered call rings again", {"duplicate"}),
        ("a probe rings at once", {"ghost"}),
        ("the caller does not resync at all", {"lost", "stuck"}),
        ("cells of a previous login are left alone", {"stuck"}),
        ("the other legs of a group are not ended", {"split"}),
    ],
)
def test_a_wrong_engine_is_found(name: str, kinds: set[str]) -> None:
    """Mutations of the model are told by the simulation too, under their right names."""
    mutation = next(m for m in MUTATIONS if m.name == name)
    with mutation.applied():
        for seed in range(1, 60):
            faults = simulate(seed, 1).faults
            if faults:
                break
    assert faults, "no episode found it"
    assert faults[0].kind in kinds, str(faults[0])
    assert faults[0].seed == seed


def test_nothing_is_lost_double_late_or_in_another_life_of_what_is_said_in_a_call() -> None:
    """The same faults while calls go on; ``python -m tests.soak --talk`` makes 100,000."""
    totals = simulate(1, 12, talk=True)
    assert not totals.faults, "\n".join(map(str, totals.faults))
    for what in (
        "went on", "said", "handled", "over: hung up", "over: peer lost", "over: restarted",
        "over: time is up",
    ):  # fmt: skip
        assert totals.talks[what], what


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a message is handled each time it is said", "order"),
        ("messages are handled out of order", "order"),
        ("a message is acknowledged, and not handled", "lost"),
        ("messages are handled after the end", "late"),
        ("a later life goes on with the call", "late"),
        ("the end is told each time it is said", "late"),
    ],
)
def test_a_wrong_talk_is_found(name: str, kind: str) -> None:
    """So are mutations of the model of calls that go on; what only takes longer is the model's."""
    mutation = next(m for m in talk.MUTATIONS if m.name == name)
    with mutation.applied():
        found = ({fault.kind for fault in simulate(n, 1, talk=True).faults} for n in range(1, 41))
        assert any(kind in kinds for kinds in found)
