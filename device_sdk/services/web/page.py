"""The state of a panel's page: pure. Calls, presence, link and what browsers ask in; effects out.

Every page sees the same, whole, in :meth:`Page.shown`; :attr:`Page.version` grows with each change.
``now`` is seconds of any monotonic clock, ``at`` unix seconds, shown and never decided by.

What a browser asks is judged here, one after the other: of several answers the first wins, and
whoever comes later is told so by :class:`PageVerdict`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..history.store import HistoryOutcome, HistoryRow
from ..logic.appliance import EndCall, SayInCall
from ..logic.messages import ask_to_open, result_of_open
from ..logic.panel import AcceptCall, CallEnd, RefuseCall
from .asked import NOBODY, Asker, DoorState, PageEffect, PageVerdict, Problem, Stage
from .content import Picture, View, pack_sdp, signal_of, view_of

#: Missed calls that are shown.
MAX_MISSED = 50
#: Calls of all kinds that are listed.
MAX_LISTED = 30
#: Texts and signals of a call that are kept for pages that come later.
MAX_KEPT = 64
#: How long the other side may take to say what became of *open*; seconds.
DOOR_ANSWERS = 10.0


@dataclass(slots=True)
class PageCall:
    """One call, from its first ring to its end."""

    call_id: str
    caller: str
    view: View
    since: float
    silent: bool = False
    stage: Stage = Stage.RINGING
    asker: Asker = NOBODY
    door: DoorState | None = None
    why: str = ""
    #: Until when the door's word is waited for.
    door_by: float | None = None
    #: Asked while the call was not up yet.
    wants_open: bool = False
    wants_end: bool = False
    opened: bool = False
    up_since: float | None = None
    said: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))
    signals: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))
    signal_count: int = 0

    def shown(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "id": self.call_id,
            "caller": self.caller,
            "text": self.view.text,
            "media": list(self.view.media),
            "since": self.since,
            "silent": self.silent,
            "stage": self.stage,
            "tab": self.asker.tab,
            "by": self.asker.user,
            "door": self.door,
            "why": self.why,
            "up_since": self.up_since,
            "said": list(self.said),
            "signals": list(self.signals),
        }


class Page:
    """What all browsers see. Not thread-safe.

    ``origins``: of whose addresses a page may load media; ``asked_as``: the door's name, where the
    other side has several.
    """

    def __init__(
        self, peer: str, *, peers: Iterable[str] = (), origins: Iterable[str] = (), door: str = ""
    ) -> None:
        self.version = 1
        self.disturb = True
        self._peer = peer
        self._origins = tuple(origins)
        self._door = door
        self._online = False
        self._presence: dict[str, bool | None] = dict.fromkeys(peers)
        self._calls: dict[str, PageCall] = {}
        self._missed: deque[dict[str, Any]] = deque(maxlen=MAX_MISSED)
        self._unseen = 0
        self._listed: deque[dict[str, Any]] = deque(maxlen=MAX_LISTED)
        self._last: dict[str, Any] | None = None
        self._ended = 0

    def shown(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "version": self.version,
            "peer": self._peer,
            "online": self._online,
            "disturb": self.disturb,
            "peers": [{"name": name, "online": on} for name, on in self._presence.items()],
            "calls": [call.shown() for call in self._calls.values()],
            "missed": list(reversed(self._missed)),
            "unseen": self._unseen,
            "listed": list(reversed(self._listed)),
            "last": self._last,
        }

    def restore(self, rows: Iterable[HistoryRow]) -> None:
        """What a previous life has kept of calls, the oldest first; none of it is news."""
        for row in rows:
            if row.outcome is HistoryOutcome.MISSED and row.at is not None:
                self._missed.append({"caller": row.caller, "at": row.at, "text": row.text})
            by = "" if row.answered_by == self._peer else row.answered_by
            self._list(row.caller, row.at, row.outcome, by, opened=row.opened)
        self._changed()

    def by(self, call: str) -> str:
        """The name of who has answered or refused that call here, if that is known."""
        known = self._calls.get(call)
        return "" if known is None else known.asker.user

    def picture(self, call: str, number: int) -> Picture | None:
        """A picture of that call's content."""
        known = self._calls.get(call)
        pictures = () if known is None else known.view.pictures
        return pictures[number] if 0 <= number < len(pictures) else None

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` is due."""
        due = [call.door_by for call in self._calls.values() if call.door_by is not None]
        return min(due, default=None)

    def tick(self, now: float) -> None:
        """A door that did not answer in time."""
        for call in self._calls.values():
            if call.door_by is not None and call.door_by <= now:
                call.door, call.door_by = DoorState.UNKNOWN, None
                self._changed()

    # --- what the client tells ----------------------------------------------------------------

    def link(self, online: bool) -> None:
        """The panel's own link to its broker came or went."""
        self._online = online
        if not online:
            self._presence = dict.fromkeys(self._presence)
        self._changed()

    def presence(self, peer: str, online: bool | None) -> None:
        """A peer that is shown came or went."""
        if peer in self._presence:
            self._presence[peer] = online
            self._changed()

    def ringing(
        self, call: str, caller: str, content: object, at: float, *, silent: bool = False
    ) -> None:
        """A call came in."""
        if call not in self._calls:
            view = view_of(content, self._origins)
            self._calls[call] = PageCall(call, caller, view, at, silent)
            self._changed()

    def started(self, call: str, peer: str, at: float, now: float) -> list[PageEffect]:
        """An accepted call goes on, whoever answered it here."""
        known = self._calls.setdefault(call, PageCall(call, peer, View(), at))
        known.stage, known.up_since = Stage.UP, at
        self._changed()
        if known.wants_end:
            return [EndCall(call)]
        return self._ask_door(known, now) if known.wants_open else []

    def message(self, call: str, message: object, at: float) -> None:
        """The other side says something in the call."""
        known = self._calls.get(call)
        if known is None:
            return
        if (result := result_of_open(message)) is not None:
            known.door, known.why = (
                DoorState.OPEN if result.ok else DoorState.NOT_OPENED,
                result.why,
            )
            known.door_by, known.opened = None, known.opened or result.ok
        elif (signal := signal_of(message)) is not None:
            known.signal_count += 1
            known.signals.append({"n": known.signal_count, **signal})
        elif text := view_of(message).text:
            known.said.append({"text": text, "at": at})
        self._changed()

    def ended(self, call: str, end: CallEnd, at: float) -> None:
        """The invitation is over, and no call goes on."""
        self._end(call, str(end), at)

    def over(self, call: str, reason: str, at: float) -> None:
        """A call that went on is over."""
        self._end(call, reason, at)

    def missed(self, caller: str, content: object, at: float) -> None:
        """A call that nobody answered, or that never rang here."""
        self._miss(caller, view_of(content).text, at)
        self._changed()

    # --- what browsers ask --------------------------------------------------------------------

    def answer(self, call: str, asker: Asker, sdp: str | None = None) -> PageVerdict:
        """Accept; ``sdp`` is the browser's side of the talk, if it has one."""
        return self._accept(call, asker, sdp)

    def refuse(self, call: str, asker: Asker) -> PageVerdict:
        """Refuse."""
        known = self._calls.get(call)
        if known is None or known.stage is not Stage.RINGING:
            return self._too_late(known)
        known.stage, known.asker = Stage.REFUSING, asker
        self._changed()
        return PageVerdict((RefuseCall(call),))

    def open(self, call: str, asker: Asker, now: float, sdp: str | None = None) -> PageVerdict:
        """Ask for the door; while it rings, that answers first."""
        known = self._calls.get(call)
        if known is None or known.stage is Stage.REFUSING:
            return self._too_late(known)
        if known.stage is Stage.RINGING:
            known.wants_open = True
            return self._accept(call, asker, sdp)
        if known.door is DoorState.ASKED or known.wants_open:
            return PageVerdict(problem=Problem.ASKED)
        if known.stage is Stage.ANSWERING:
            known.wants_open = True
            return PageVerdict()
        return PageVerdict(tuple(self._ask_door(known, now)))

    def hang_up(self, call: str) -> PageVerdict:
        """End the call, whichever tab is in it; while it is being answered, as soon as it is up."""
        known = self._calls.get(call)
        if known is None or known.stage is Stage.REFUSING:
            return self._too_late(known)
        if known.stage is Stage.RINGING:
            return PageVerdict(problem=Problem.NOT_UP)
        if known.stage is Stage.ANSWERING:
            known.wants_end = True
            return PageVerdict()
        return PageVerdict((EndCall(call),))

    def signal(self, call: str, asker: Asker, signal: dict[str, Any]) -> PageVerdict:
        """What the peer connection of the tab that is in the call has to say to the other side."""
        known = self._calls.get(call)
        if known is None:
            return self._too_late(known)
        if known.stage is not Stage.UP:
            return PageVerdict(problem=Problem.NOT_UP)
        if known.asker.tab != asker.tab:
            return PageVerdict(problem=Problem.ANSWERED, by=known.asker.user)
        message = dict(signal)
        if isinstance(message.get("sdp"), str):
            message["sdp"] = pack_sdp(message["sdp"])
        return PageVerdict((SayInCall(call, message),))

    def undone(self, call: str) -> None:
        """What was to be done could not be: the call rings on, if it does."""
        known = self._calls.get(call)
        if known is not None and known.stage in (Stage.ANSWERING, Stage.REFUSING):
            known.stage, known.asker, known.wants_open = Stage.RINGING, NOBODY, False
            self._changed()

    def seen(self) -> None:
        """Somebody has looked at the missed calls."""
        if self._unseen:
            self._unseen = 0
            self._changed()

    def set_disturb(self, disturb: bool) -> None:
        """Whether what comes in may ring aloud."""
        if disturb != self.disturb:
            self.disturb = disturb
            self._changed()

    # --- inside -------------------------------------------------------------------------------

    def _accept(self, call: str, asker: Asker, sdp: str | None) -> PageVerdict:
        known = self._calls.get(call)
        if known is None or known.stage is not Stage.RINGING:
            return self._too_late(known)
        known.stage, known.asker = Stage.ANSWERING, asker
        self._changed()
        media = {"kind": "webrtc", "sdp": pack_sdp(sdp)} if sdp is not None else None
        return PageVerdict((AcceptCall(call, None if media is None else {"media": [media]}),))

    def _too_late(self, known: PageCall | None) -> PageVerdict:
        if known is None:
            return PageVerdict(problem=Problem.OVER)
        refused = known.stage is Stage.REFUSING
        return PageVerdict((), Problem.REFUSED if refused else Problem.ANSWERED, known.asker.user)

    def _ask_door(self, known: PageCall, now: float) -> list[PageEffect]:
        known.wants_open = False
        known.door, known.why, known.door_by = DoorState.ASKED, "", now + DOOR_ANSWERS
        self._changed()
        return [SayInCall(known.call_id, ask_to_open(self._door))]

    def _end(self, call: str, how: str, at: float) -> None:
        known = self._calls.pop(call, None)
        if known is None:
            return
        self._ended += 1
        self._last = {
            "n": self._ended,
            "id": call,
            "caller": known.caller,
            "how": how,
            "by": known.asker.user,
            "tab": known.asker.tab,
            "door": known.door,
            # It was to be opened, and the other side did not stay in the call.
            "no_door": known.wants_open and how == CallEnd.ACCEPTED,
            "at": at,
        }
        self._changed()
        if how == CallEnd.MISSED:
            self._miss(known.caller, known.view.text, at)
            return
        # Whoever ends a call that both were in: it was answered.
        up = known.stage is Stage.UP or how == CallEnd.ACCEPTED
        outcome = HistoryOutcome.ANSWERED if up else HistoryOutcome(how.replace(" ", "_"))
        self._list(known.caller, at, outcome, known.asker.user, opened=known.opened)

    def _miss(self, caller: str, text: str, at: float) -> None:
        self._missed.append({"caller": caller, "at": at, "text": text})
        self._unseen += 1
        self._list(caller, at, HistoryOutcome.MISSED)

    def _list(
        self,
        caller: str,
        at: float | None,
        outcome: HistoryOutcome,
        by: str = "",
        *,
        opened: bool = False,
    ) -> None:
        row = {"caller": caller, "at": at, "outcome": outcome, "by": by, "opened": opened}
        self._listed.append(row)

    def _changed(self) -> None:
        self.version += 1
