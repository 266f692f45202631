"""The invariants: "Who may end how" and every "Never" of docs/protocol.md, as one small automaton.

It sees what engines tell their apps, what they say on the wire, what the broker takes, restarts and
connections; one record for each call. What a life was told is forgotten with it, except that a
callee was ever told ACCEPTED, and what a caller was told (only the life that sent a call is).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from device_sdk.core.events import Name
from device_sdk.core.wire.cells import AnswerState, InviteState

from .automaton import Call, Event, Violation

CALLER_ENDS = {
    Name.LOCAL_ACCEPTED: "ACCEPTED",
    Name.LOCAL_REFUSED: "REFUSED",
    Name.LOCAL_CANCELED: "CANCELED",
    Name.LOCAL_FAILURE: "FAILURE",
}
CALLEE_ENDS = {
    Name.REMOTE_ACCEPTED: "ACCEPTED",
    Name.REMOTE_REFUSED: "REFUSED",
    Name.REMOTE_CANCELED: "CANCELED",
    Name.REMOTE_FAILURE: "FAILURE",
    Name.MISSED_CALL: "MISSED",
}
#: Who may end how. RINGS: told of the call, not yet of its end. None: it never rang.
PAIRS = {
    None: {None, "RINGS", "REFUSED", "FAILURE", "CANCELED", "MISSED"},
    "ACCEPTED": {None, "RINGS", "ACCEPTED", "FAILURE"},
    "CANCELED": {None, "RINGS", "CANCELED", "REFUSED", "FAILURE", "MISSED"},
    "REFUSED": {None, "RINGS", "REFUSED", "MISSED"},
    "FAILURE": {None, "RINGS", "FAILURE", "REFUSED", "CANCELED", "MISSED"},
}
_FINAL_INVITES = (InviteState.ACCEPTED, InviteState.ENDED, InviteState.OVER)
#: The one word that may follow *accepted*: of a call that went on.
_WENT_ON = (InviteState.OVER, InviteState.ACCEPTED)


def _rank(state: AnswerState) -> float:
    """By what answers only move forward: *talking* comes after *accepted*."""
    return 1.5 if state is AnswerState.TALKING else float(state)


@dataclass(frozen=True, slots=True)
class Talking:
    """What was seen of one side's talk; of this life all but ``began`` and ``handled``.

    ``heard``: the messages that its app was told, each with the epoch of who said it.
    ``began``: a life of this side was told that the call goes on. ``handled``: messages, by any.
    """

    started: bool = False
    ended: bool = False
    began: bool = False
    heard: tuple[Any, ...] = ()
    handled: int = 0
    said: int = 0

    @property
    def goes_on(self) -> bool:
        """Whether this life was told that the call goes on, and not that it is over."""
        return self.started and not self.ended

    def restarted(self) -> Talking:
        """A new life knows nothing of it."""
        return Talking(began=self.began, handled=self.handled)


@dataclass(frozen=True, slots=True)
class Record:
    """What was seen of one call.

    ``caller``/``callee``: what each was told. ``accepted``: a callee's life was told ACCEPTED.
    ``offline``, ``lost``: the caller was told that the peer is not there, or was lost. ``orphan``:
    the life that sent it is over. ``decision``: the final invite that the broker took first.
    ``invite``/``answer``: what this life of its writer said last. ``behind``: the callee connected
    after the broker took the decision.
    """

    sent: bool = False
    caller: str | None = None
    acknowledged: bool = False
    offline: bool = False
    lost: bool = False
    orphan: bool = False
    callee: str | None = None
    accepted: bool = False
    decision: tuple[Any, ...] | None = None
    invite: tuple[Any, ...] | None = None
    answer: tuple[Any, ...] | None = None
    behind: bool = False
    made: Talking = Talking()
    taken: Talking = Talking()


class Monitor:
    """Takes events in, and raises :class:`Violation` for what must never be."""

    def __init__(self, calls: tuple[Call, ...]) -> None:
        self._calls = calls

    def start(self) -> tuple[Any, ...]:
        """Nothing was seen."""
        return ("seen", *(Record() for _ in self._calls))

    def records(self, seen: tuple[Any, ...]) -> tuple[Record, ...]:
        """The records, one for each call."""
        return seen[1:]

    def see(self, seen: tuple[Any, ...], events: tuple[Event, ...]) -> tuple[Any, ...]:
        """The records after ``events``."""
        records = list(seen[1:])
        for kind, *rest in events:
            match kind:
                case "sent":
                    records[rest[0]] = replace(records[rest[0]], sent=True)
                case "told caller":
                    records[rest[0]] = self._told_caller(records[rest[0]], *rest)
                case "told callee":
                    records[rest[0]] = self._told_callee(records[rest[0]], *rest)
                case "told lost":
                    _forbid(records[rest[0]].lost, f"#{rest[0]}: told twice that the peer was lost")
                    records[rest[0]] = replace(records[rest[0]], lost=True)
                case "said":
                    records[rest[1]] = self._said(records[rest[1]], *rest)
                case "took":
                    records[rest[1]] = self._took(records[rest[1]], *rest)
                case "talk" | "said message" | "acknowledged":
                    records[rest[0]] = self._talk(records[rest[0]], kind, *rest)
                case "restart":
                    records = [self._restarted(r, i, rest[0]) for i, r in enumerate(records)]
                case "connected":
                    records = [
                        replace(r, behind=r.decision is not None) if c.callee == rest[0] else r
                        for c, r in zip(self._calls, records, strict=True)
                    ]
        for i, record in enumerate(records):
            self._check(i, record)
        self._check_groups(records)
        return ("seen", *records)

    # --- events ------------------------------------------------------------------------------

    def _told_caller(self, record: Record, index: int, name: Name, reason: object) -> Record:
        if name is Name.LOCAL_RECEIVED_BY_PEER:
            _forbid(record.acknowledged, f"#{index}: caller told twice that the peer received it")
            _forbid(record.caller, f"#{index}: caller told of receipt after the end")
            return replace(record, acknowledged=True)
        if name is Name.LOCAL_PEER_OFFLINE:
            _forbid(record.offline, f"#{index}: caller told twice that the peer is offline")
            _forbid(record.acknowledged, f"#{index}: caller told offline of one that received it")
            _forbid(record.caller, f"#{index}: caller told offline after the end")
            return replace(record, offline=True)
        end = CALLER_ENDS[name]
        _forbid(record.caller, f"#{index}: caller told two ends, {record.caller} and {end}")
        _forbid(record.orphan, f"#{index}: a caller that restarted told {end} ({reason})")
        return replace(record, caller=end)

    def _told_callee(
        self, record: Record, index: int, name: Name, reason: object, live: bool
    ) -> Record:
        if name is Name.REMOTE_RECEIVED:
            _forbid(record.callee, f"#{index}: rings again after {record.callee}")
            _forbid(not live, f"#{index}: rings without a live word of the caller")
            _forbid(record.behind, f"#{index}: ghost ring, the broker had the end at the connect")
            return replace(record, callee="RINGS")
        end = CALLEE_ENDS[name]
        rang = record.callee is not None
        if end == "MISSED":
            _forbid(rang, f"#{index}: told as missed after {record.callee}")
        else:
            _forbid(not rang, f"#{index}: callee told {end} of what never rang")
            _forbid(
                record.callee != "RINGS", f"#{index}: callee told two ends, {record.callee}, {end}"
            )
        if reason is not None and str(reason) == "answered elsewhere":
            _forbid(end == "MISSED", f"#{index}: answered elsewhere is no missed call")
        return replace(record, callee=end, accepted=record.accepted or end == "ACCEPTED")

    def _said(self, record: Record, kind: str, index: int, state: Any, reason: Any) -> Record:
        """A writer put its cell on the wire: within its life it only moves forward."""
        if state is None:
            _forbid(kind == "invite" and record.taken.goes_on,
                    f"#{index}: cleared before the callee's last word")  # fmt: skip
            return record
        if kind == "invite" and (state, record.invite and record.invite[0]) == _WENT_ON:
            return replace(record, invite=(state, reason))
        if kind == "invite":
            before = record.invite
            if before is not None and before[0] in _FINAL_INVITES:
                _forbid(before != (state, reason), f"#{index}: final {_cell(before)} overwritten "
                        f"with {_cell((state, reason))}")  # fmt: skip
            return replace(record, invite=(state, reason))
        before = record.answer
        if before is not None:
            back = _rank(state) < _rank(before[0])
            _forbid(back or (before[0].final and before != (state, reason)),
                    f"#{index}: answer {_cell(before)} overwritten with "
                    f"{_cell((state, reason))}")  # fmt: skip
        return replace(record, answer=(state, reason))

    def _took(self, record: Record, kind: str, index: int, state: Any, reason: Any) -> Record:
        """The broker has a cell: of the decisions it ever took of one call, all are the first."""
        if kind == "answer" or state not in _FINAL_INVITES:
            return record
        if record.decision is None:
            return replace(record, decision=(state, reason))
        if (state, record.decision[0]) == _WENT_ON:
            return replace(record, decision=(state, reason))
        _forbid(record.decision[0] != state, f"#{index}: the broker had {_cell(record.decision)}, "
                f"now {_cell((state, reason))}")  # fmt: skip
        return record

    def _restarted(self, record: Record, index: int, peer: int) -> Record:
        call = self._calls[index]
        if call.caller == peer:
            record = replace(record, orphan=record.sent, invite=None, made=record.made.restarted())
        if call.callee == peer:
            record = replace(record, callee=None, answer=None, taken=record.taken.restarted())
        return record

    def _talk(self, record: Record, kind: str, index: int, made: bool, *what: Any) -> Record:
        """The app of one side said something in a call, was told of it, or has it acknowledged."""
        mine, other = (record.made, record.taken) if made else (record.taken, record.made)
        who = f"#{index}: {'caller' if made else 'callee'}"
        if kind == "said message":
            mine = replace(mine, said=mine.said + 1)
        elif kind == "acknowledged":
            _forbid(what[0] > other.handled, f"{who}'s message acknowledged, and not handled")
            return record
        else:
            mine = self._told_talk(mine, who, *what)
        return replace(record, made=mine) if made else replace(record, taken=mine)

    def _told_talk(self, mine: Talking, who: str, name: Name, message: Any) -> Talking:
        if name is Name.CALL_STARTED:
            _forbid(mine.began, f"{who} told a second time that the call goes on")
            return replace(mine, started=True, began=True)
        _forbid(not mine.started, f"{who} told {name} of a call that never went on in this life")
        _forbid(mine.ended, f"{who} told {name} after the end")
        if name is Name.CALL_ENDED:
            return replace(mine, ended=True)
        number = len(mine.heard) + 1
        _forbid(message[1] != number, f"{who} handles message {message[1]} as number {number}")
        _forbid(mine.heard and mine.heard[-1][0] != message[0], f"{who} hears two lives")
        return replace(mine, heard=(*mine.heard, message), handled=mine.handled + 1)

    # --- what must hold ----------------------------------------------------------------------

    def _check(self, index: int, record: Record) -> None:
        caller = None if record.orphan else record.caller
        _forbid(record.callee not in PAIRS[caller] | ({"ACCEPTED"} if record.orphan else set()),
                f"#{index}: split, caller {record.caller}, callee {record.callee}")  # fmt: skip
        _forbid(record.accepted and record.caller != "ACCEPTED",
                f"#{index}: split, callee accepted, caller {record.caller}")  # fmt: skip
        _forbid(record.lost and record.callee == "ACCEPTED",
                f"#{index}: caller told that the peer was lost, which is ACCEPTED")  # fmt: skip

    def _check_groups(self, records: list[Record]) -> None:
        for told in ("caller", "callee"):
            winners: dict[bytes, int] = {}
            for i, (call, record) in enumerate(zip(self._calls, records, strict=True)):
                won = record.accepted if told == "callee" else record.caller == "ACCEPTED"
                if won and call.group is not None:
                    _forbid(call.group in winners, f"#{i}: a second {told} ACCEPTED in the group")
                    winners[call.group] = i

    def over(self, seen: tuple[Any, ...]) -> None:
        """With the links back and all said: everybody was told the one end."""
        for i, record in enumerate(self.records(seen)):
            if not record.sent:
                continue
            _forbid(record.caller is None and not record.orphan, f"#{i}: caller never told the end")
            _forbid(record.callee == "RINGS", f"#{i}: callee never told the end")
            for who, talk in (("caller", record.made), ("callee", record.taken)):
                _forbid(talk.goes_on, f"#{i}: {who} never told the end of the talk")
            if record.made.started:
                continue  # it was told the end of that, by whatever way
            if record.caller == "ACCEPTED" and not record.accepted and not record.orphan:
                _forbid(not record.lost, f"#{i}: ACCEPTED by nobody, and the caller not told")


def _cell(said: tuple[Any, ...]) -> str:
    return said[0].name.lower() + ("" if said[1] is None else f" {said[1]}")


def _forbid(wrong: object, text: str) -> None:
    if wrong:
        raise Violation(text)
