"""How a ring of several ends: one outcome for the library, the command line and the doorbell."""

from __future__ import annotations

import itertools

import pytest

from device_sdk.cli.call import _group_end
from device_sdk.cli.errors import ExitCode
from device_sdk.client.invitations import Outcome
from device_sdk.client.ring_plan import GroupOutcome
from device_sdk.services.logic.doorbell import PressOutcome as Told
from device_sdk.services.service.ringing import outcome_of_group
from device_sdk.states import EndReason, LocalInvitationError, LocalInvitationState

S, E, R = LocalInvitationState, LocalInvitationError, EndReason
DECLINED = (S.REFUSED_BY_REMOTE, R.DECLINED, E.OK)
BUSY = (S.REFUSED_BY_REMOTE, R.BUSY, E.OK)
QUIET = (S.REFUSED_BY_REMOTE, R.DO_NOT_DISTURB, E.OK)
UNANSWERED = (S.FAILURE, R.EXPIRED, E.INVITATION_EXPIRE)
OFFLINE = (S.FAILURE, R.PEER_OFFLINE, E.PEER_OFFLINE)
SILENT = (S.FAILURE, R.NO_RESPONSE, E.PEER_NO_RESPONSE)
CANCELED = (S.CANCELED, R.CANCELED, E.OK)
ELSEWHERE = (S.FAILURE, R.NOT_LOGGED_IN, E.NOT_LOGGEDIN)
ACCEPTED = (S.ACCEPTED_BY_REMOTE, R.ACCEPTED, E.OK)


@pytest.mark.parametrize(
    ("ends", "reason", "code", "told"),
    [
        ([ACCEPTED, QUIET], R.ACCEPTED, ExitCode.OK, Told.ACCEPTED),
        ([QUIET, UNANSWERED], R.EXPIRED, ExitCode.NOT_ANSWERED, Told.NOBODY),
        ([BUSY, UNANSWERED, OFFLINE], R.EXPIRED, ExitCode.NOT_ANSWERED, Told.NOBODY),
        ([QUIET, OFFLINE], R.PEER_OFFLINE, ExitCode.NOT_REACHED, Told.NOBODY),
        ([BUSY, SILENT], R.NO_RESPONSE, ExitCode.NOT_REACHED, Told.NOBODY),
        ([UNANSWERED, OFFLINE], R.EXPIRED, ExitCode.NOT_ANSWERED, Told.NOBODY),
        ([QUIET, QUIET], R.DO_NOT_DISTURB, ExitCode.REFUSED, Told.REFUSED),
        ([BUSY], R.BUSY, ExitCode.REFUSED, Told.REFUSED),
        ([DECLINED, UNANSWERED], R.DECLINED, ExitCode.REFUSED, Told.REFUSED),
        ([DECLINED, QUIET, OFFLINE], R.DECLINED, ExitCode.REFUSED, Told.REFUSED),
        ([CANCELED, UNANSWERED], R.EXPIRED, ExitCode.NOT_ANSWERED, Told.NOBODY),
        ([CANCELED], R.CANCELED, ExitCode.CANCELED, Told.CANCELED),
        ([ELSEWHERE, OFFLINE], R.NOT_LOGGED_IN, ExitCode.BROKER, Told.NOBODY),
        ([], R.EXPIRED, ExitCode.NOT_REACHED, Told.NOBODY),
    ],
)
def test_one_outcome_whatever_the_order(
    ends: list[tuple[S, R, E]], reason: R, code: ExitCode, told: Told
) -> None:
    """A policy's refusal never outweighs an unanswered ring; nor does the last leg to end."""
    for order in itertools.permutations(ends):
        legs = {
            f"p{i}": Outcome("c", f"p{i}", state, why, error)
            for i, (state, why, error) in enumerate(order)
        }
        winner = next((p for p, leg in legs.items() if leg), None)
        whole = GroupOutcome(winner, None, legs)
        assert (whole.reason, _group_end(whole), outcome_of_group(whole)[0]) == (reason, code, told)
        who = outcome_of_group(whole)[1]
        assert (who in legs) is (told in (Told.ACCEPTED, Told.REFUSED))


def test_a_canceled_group_is_canceled() -> None:
    """Whatever its legs said before."""
    whole = GroupOutcome(None, None, {"p": Outcome("c", "p", *QUIET)}, canceled=True)
    assert (whole.reason, _group_end(whole), outcome_of_group(whole)[0]) == (
        R.CANCELED, ExitCode.CANCELED, Told.CANCELED,
    )  # fmt: skip


def test_the_call_of_a_group_is_its_winners() -> None:
    """Nobody else's, and none where nobody won."""
    legs = {name: Outcome("c", name, *ACCEPTED, call=f"with {name}") for name in ("p", "q")}
    assert GroupOutcome("q", None, legs).call == "with q"
    assert GroupOutcome(None, None, legs).call is None
