"""What a bridge to a SIP phone decides: pure. Invitations, baresip's events, time in; effects out.

One call at a time, as a phone has it: an invitation is dialed, the phone's answer accepts it, and
from then on whoever hangs up ends both. Who calls beside that is told *busy*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from . import lights, messages
from .appliance import ApplianceLogic, EndCall, Note, SayInCall
from .panel import AcceptCall, CallEnd, RefuseCall

#: Until a call that was hung up is taken for closed, whatever baresip says; seconds.
CLOSES_WITHIN = 3.0
#: What baresip tells of a phone that rings: 180 Ringing, or 183 with the tone of it.
_RINGS = frozenset({"CALL_RINGING", "CALL_PROGRESS"})
#: SIP's answers that mean *I do not want*, not *I cannot*.
_DECLINED = frozenset({403, 603})


@dataclass(frozen=True, slots=True)
class DialSip:
    """Have baresip call the phone."""


@dataclass(frozen=True, slots=True)
class HangUpSip:
    """Have baresip end its call."""


@dataclass(frozen=True, slots=True)
class PhoneRings:
    """Have it told that the phone rings for ``call``."""

    call: str


Decision = AcceptCall | RefuseCall | SayInCall | EndCall | DialSip | HangUpSip | PhoneRings
Effect = Decision | Note


class _Phase(Enum):
    DIALING = auto()  # baresip was told; what it says until it has heard is of a former call
    DIALED = auto()  # it rings at the phone, or soon will
    ANSWERED = auto()  # the phone was picked up; the caller has not decided yet
    UP = auto()
    CLOSING = auto()  # hung up by us; baresip has not said so yet


@dataclass(slots=True)
class _Leg:
    call: str
    caller: str
    phase: _Phase = _Phase.DIALING
    #: Whether the phone has said that it rings.
    rings: bool = False
    #: Whether the invitation's call goes on, so that its end is told.
    talks: bool = False
    #: When it is over by itself: a limit, or a hang-up that baresip does not confirm.
    ends_at: float | None = None


class SipBridge(ApplianceLogic[str, Decision]):
    """One phone. ``talk_limit``: how long a call lasts whose caller does not stay in it; seconds.

    ``open_key``: the key on the phone that asks for the door; "" for none. Not thread-safe.
    """

    def __init__(self, *, talk_limit: float = 7200.0, open_key: str = "") -> None:
        super().__init__({})  # no buttons
        self._limit, self._key = talk_limit, open_key
        self._leg: _Leg | None = None
        #: An invitation that came while the former call was closing.
        self._next: tuple[str, str] | None = None
        self._connected = False

    def link(self, online: bool, now: float) -> list[Effect]:
        """The link to the broker came or went; what that means for calls the SDK tells."""
        self._online = online
        return self.tick(now)

    # --- Bellwire's end ----------------------------------------------------------------------

    def call(self, call: str, caller: str) -> list[Effect]:
        """Somebody rings."""
        if not self._connected:
            note = Note(f"{caller} rings, and baresip is not there", warning=True)
            return [RefuseCall(call, busy=True), note]
        if self._leg is None:
            return self._dial(call, caller)
        if self._leg.phase is _Phase.CLOSING and self._next is None:
            self._next = call, caller
            return []
        return [RefuseCall(call, busy=True), Note(f"{caller} rings: the phone is busy")]

    def ended(self, call: str, end: CallEnd, now: float, *, goes_on: bool = False) -> list[Effect]:
        """That invitation is over; ``goes_on``: accepted, and :meth:`call_started` comes next."""
        if self._next is not None and self._next[0] == call:
            self._next = None
        leg = self._leg
        if leg is None or leg.call != call or leg.phase is _Phase.CLOSING:
            return []  # picked up and put down: call_started() hangs up, if it comes to that
        if end is not CallEnd.ACCEPTED:
            return self._hang_up(now)
        leg.phase = _Phase.UP
        # Who does not stay in the call cannot say that it is over.
        leg.ends_at = None if goes_on else now + self._limit
        return []

    def call_started(self, call: str) -> list[Effect]:
        """The accepted call goes on."""
        leg = self._leg
        if leg is None or leg.call != call or leg.phase is not _Phase.UP:
            return [EndCall(call)]
        leg.talks = True
        return []

    def call_ended(self, call: str, now: float) -> list[Effect]:
        """That call is over: so is the phone's."""
        leg = self._leg
        if leg is None or leg.call != call or leg.phase is _Phase.CLOSING:
            return []
        return self._hang_up(now)

    # --- baresip's end -----------------------------------------------------------------------

    def connected(self) -> list[Effect]:
        """Baresip is there; what a former life left in it is ended."""
        self._connected = True
        self._leg = self._next = None
        return [HangUpSip()]

    def disconnected(self) -> list[Effect]:
        """Baresip is gone, and its call with it."""
        self._connected = False
        effects = self._closed("baresip is gone", 0)
        if self._next is not None:
            effects.append(RefuseCall(self._next[0], busy=True))
            self._next = None
        return effects

    def dialed(self, why: str) -> list[Effect]:
        """Baresip has heard :class:`DialSip`; why it cannot, else ""."""
        if self._leg is None or self._leg.phase is not _Phase.DIALING:
            return []
        self._leg.phase = _Phase.DIALED
        if not why:
            return []
        return [Note(f"baresip does not dial: {why}", warning=True), *self._closed(why, 0)]

    def hung_up(self) -> list[Effect]:
        """Baresip has heard :class:`HangUpSip`: there is no call any more."""
        if self._leg is None or self._leg.phase is not _Phase.CLOSING:
            return []
        return self._closed("hung up", 0)

    def event(self, kind: str, parameter: str) -> list[Effect]:
        """Something happened to the call that baresip has."""
        leg = self._leg
        if leg is None or leg.phase is _Phase.DIALING:
            return []
        if kind == "CALL_CLOSED":
            return self._closed(parameter, status_of(parameter))
        if kind in _RINGS and leg.phase is _Phase.DIALED and not leg.rings:
            leg.rings = True
            return [PhoneRings(leg.call)]
        if kind == "CALL_ESTABLISHED" and leg.phase is _Phase.DIALED:
            leg.phase = _Phase.ANSWERED
            return [AcceptCall(leg.call)]
        if kind == "CALL_DTMF_START" and leg.talks and self._key and parameter == self._key:
            return [SayInCall(leg.call, messages.ask_to_open())]
        return []

    # --- inside ------------------------------------------------------------------------------

    def _deadlines(self) -> list[float | None]:
        return [None if self._leg is None else self._leg.ends_at]

    def _due(self, now: float) -> list[Effect]:
        leg = self._leg
        if leg is None or leg.ends_at is None or now < leg.ends_at:
            return []
        if leg.phase is _Phase.CLOSING:
            return self._closed("baresip did not say so", 0)
        return self._hang_up(now)

    def _pressed(self, _button: str, _now: float) -> list[Effect]:
        return []

    def _idle_light(self) -> lights.Pattern:
        return lights.OFF

    def _dial(self, call: str, caller: str) -> list[Effect]:
        self._leg = _Leg(call, caller)
        return [DialSip()]

    def _hang_up(self, now: float) -> list[Effect]:
        assert self._leg is not None  # noqa: S101 # its callers have looked
        self._leg.phase, self._leg.ends_at = _Phase.CLOSING, now + CLOSES_WITHIN
        return [HangUpSip()]

    def _closed(self, why: str, status: int) -> list[Effect]:
        """Baresip's call is over: by the phone, or because we hung up."""
        leg, self._leg = self._leg, None
        effects: list[Effect] = []
        if leg is not None and leg.phase in (_Phase.DIALING, _Phase.DIALED):
            effects.append(RefuseCall(leg.call, busy=status not in _DECLINED))
            effects.append(Note(f"the phone did not answer {leg.caller}: {why}"))
        elif leg is not None and leg.phase is _Phase.UP and leg.talks:
            effects.append(EndCall(leg.call))
        # Picked up and put down while the caller decides: call_started() finds no leg.
        if self._next is not None and self._connected:
            (call, caller), self._next = self._next, None
            effects += self._dial(call, caller)
        return effects


def status_of(parameter: Any) -> int:
    """The SIP status in what baresip says of an end; 0 where there is none.

    >>> status_of("486 Busy Here"), status_of("Connection reset by peer")
    (486, 0)
    """
    word = str(parameter).partition(" ")[0]
    return int(word) if len(word) == 3 and word.isascii() and word.isdigit() else 0
