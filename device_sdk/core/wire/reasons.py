"""Why a call ended, as tables: the number on the wire, our word, and how it shows at each end.

All that knows a reason is made of these rows: what ``core`` tells the app, what a command line
takes, how a ring group weighs its legs. ``python -m tools.make_tables`` writes the tables of
reasons in docs/protocol.md, and their numbers in docs/protocol.cddl. A new reason is a member
of its enum in ``cells``, a word in ``states.EndReason``, and a row here.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from ...states import (
    EndReason,
    LocalInvitationError,
    LocalInvitationState,
    RemoteInvitationError,
    RemoteInvitationState,
)
from .cells import AnswerReason, AnswerState, EndedReason, OverReason

_Local, _LocalError = LocalInvitationState, LocalInvitationError
_Remote, _RemoteError = RemoteInvitationState, RemoteInvitationError


class Ended(NamedTuple):
    """An end that the caller decides, and how it shows to the app at the two ends."""

    reason: EndedReason
    word: EndReason
    local: tuple[LocalInvitationState, LocalInvitationError]
    remote: tuple[RemoteInvitationState, RemoteInvitationError]


class Who(Enum):
    """Who at the callee's end says it."""

    PERSON = "the app"
    POLICY = "the app or a policy"
    CLIENT = "the client"


class Answered(NamedTuple):
    """A refusal or failure that the callee says, and how it shows to the app at the two ends.

    ``flag``: what ``bellwire listen --reason`` calls a refusal.
    """

    reason: AnswerReason
    word: EndReason
    answer: AnswerState
    who: Who
    local: tuple[LocalInvitationState, LocalInvitationError]
    remote: tuple[RemoteInvitationState, RemoteInvitationError]
    flag: str = ""


class Over(NamedTuple):
    """An end of a call that went on; ``who`` says it. Both apps see the same."""

    reason: OverReason
    word: EndReason
    who: str


_REFUSED: Final = (_Local.REFUSED_BY_REMOTE, _LocalError.OK), (_Remote.REFUSED, _RemoteError.OK)

ENDED: Final = (
    Ended(EndedReason.CANCELED, EndReason.CANCELED,
          (_Local.CANCELED, _LocalError.OK),
          (_Remote.CANCELED, _RemoteError.OK)),
    Ended(EndedReason.ANSWERED_ELSEWHERE, EndReason.ANSWERED_ELSEWHERE,
          (_Local.CANCELED, _LocalError.OK),
          (_Remote.CANCELED, _RemoteError.OK)),
    Ended(EndedReason.EXPIRED, EndReason.EXPIRED,
          (_Local.FAILURE, _LocalError.INVITATION_EXPIRE),
          (_Remote.FAILURE, _RemoteError.INVITATION_EXPIRE)),
    Ended(EndedReason.PEER_OFFLINE, EndReason.PEER_OFFLINE,
          (_Local.FAILURE, _LocalError.PEER_OFFLINE),
          (_Remote.FAILURE, _RemoteError.INVITATION_EXPIRE)),
    Ended(EndedReason.NO_RESPONSE, EndReason.NO_RESPONSE,
          (_Local.FAILURE, _LocalError.PEER_NO_RESPONSE),
          (_Remote.FAILURE, _RemoteError.INVITATION_EXPIRE)),
    # The caller's app was told by its previous login, or never: this is what it would be.
    Ended(EndedReason.CALLER_RESTARTED, EndReason.CALLER_RESTARTED,
          (_Local.FAILURE, _LocalError.OK),
          (_Remote.FAILURE, _RemoteError.PEER_OFFLINE)),
)  # fmt: skip

#: Of a call that went on; the first is what a missing or unknown number is read as.
OVER: Final = (
    Over(OverReason.HUNG_UP, EndReason.HUNG_UP, "the app"),
    Over(OverReason.PEER_LOST, EndReason.PEER_LOST, "the client: the other, or the link, is gone"),
    Over(OverReason.RESTARTED, EndReason.RESTARTED, "the client: a later login of either knows"
         " nothing of it"),
    Over(OverReason.TIME_UP, EndReason.TIME_UP, "the app or the client"),
    Over(OverReason.LOGGED_OUT, EndReason.LOGGED_OUT, "the client"),
)  # fmt: skip

#: Refusals first: the first row of each answer is what a missing or unknown number is read as.
ANSWERED: Final = (
    Answered(AnswerReason.DECLINED, EndReason.DECLINED, AnswerState.REFUSED, Who.PERSON,
             *_REFUSED, flag="declined"),
    Answered(AnswerReason.BUSY, EndReason.BUSY, AnswerState.REFUSED, Who.POLICY,
             *_REFUSED, flag="busy"),
    Answered(AnswerReason.DO_NOT_DISTURB, EndReason.DO_NOT_DISTURB, AnswerState.REFUSED,
             Who.POLICY, *_REFUSED, flag="dnd"),
    Answered(AnswerReason.ACCEPT_FAILURE, EndReason.ACCEPT_FAILURE, AnswerState.FAILED, Who.CLIENT,
             (_Local.FAILURE, _LocalError.PEER_NO_RESPONSE),
             (_Remote.FAILURE, _RemoteError.ACCEPT_FAILURE)),
    Answered(AnswerReason.CALLEE_EXPIRED, EndReason.CALLEE_EXPIRED, AnswerState.FAILED, Who.CLIENT,
             (_Local.FAILURE, _LocalError.INVITATION_EXPIRE),
             (_Remote.FAILURE, _RemoteError.INVITATION_EXPIRE)),
    Answered(AnswerReason.CALLER_LOST, EndReason.CALLER_LOST, AnswerState.FAILED, Who.CLIENT,
             (_Local.FAILURE, _LocalError.PEER_NO_RESPONSE),
             (_Remote.FAILURE, _RemoteError.PEER_OFFLINE)),
)  # fmt: skip

BY_REASON: Final[dict[AnswerReason, Answered]] = {row.reason: row for row in ANSWERED}
OVER_BY_WORD: Final[dict[EndReason | None, OverReason]] = {row.word: row.reason for row in OVER}
BY_WORD: Final[dict[EndReason | None, Ended]] = {row.word: row for row in ENDED}
#: What an app may refuse with; a policy likewise.
REFUSALS: Final = tuple(row for row in ANSWERED if row.answer is AnswerState.REFUSED)

_ENDED: Final[dict[int, Ended]] = {row.reason: row for row in ENDED}
_ANSWERED: Final = {
    state: {int(row.reason): row for row in ANSWERED if row.answer is state}
    for state in (AnswerState.REFUSED, AnswerState.FAILED)
}


def ended(number: int | None) -> Ended:
    """What the caller's reason means; one that is missing or of a later version is *expired*."""
    return _ENDED.get(number or 0, _ENDED[EndedReason.EXPIRED])


def answered(state: AnswerState, number: int | None) -> Answered:
    """What the callee's reason for ``state``, refused or failed, means.

    One that is missing, unknown or of the other state is *declined*, or *accept failure*.
    """
    rows = _ANSWERED[state]
    return rows.get(number or 0) or next(iter(rows.values()))


def over(number: int | None) -> EndReason:
    """What a reason of *over* means; one that is missing or of a later version is *hung up*."""
    return next((row.word for row in OVER if row.reason == number), EndReason.HUNG_UP)


def over_number(word: EndReason | None) -> OverReason:
    """How *over* says it; what ended it here alone is *peer lost* for the other."""
    return OVER_BY_WORD.get(word, OverReason.PEER_LOST)
