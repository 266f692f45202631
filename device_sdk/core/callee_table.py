"""The callee's end of a call: its transitions, as one table.

Theory (docs/protocol.md, Callee). The callee owns the answer cell. An invite that arrives live
from a caller known to be there rings at once; any other is first asked about (``PROBING``), so that
a dead caller never rings. A policy that is the app's own code is waited for before it rings
(``SCREENING``). ``RINGING`` ends by the app, the caller's word, or time; after accept
(``ACCEPTING``) the caller's word alone counts. Once the outcome is known a final answer stands
(``OVER``), said again until the caller has cleared its invite; then the answer is cleared
(``CLEARING``) and the call remembered for a while (``REMEMBERED``), so that a late copy cannot
ring. A call of two peers that both can goes on after the caller's word: ``TALKING``
(docs/protocol.md, Talk).

:data:`TABLE` holds every legal step, as the caller's. ``Phase.NEW`` is a call not known here.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class Phase(Enum):
    """Where the callee's end is; the app sees :class:`RemoteInvitationState`."""

    NEW = auto()
    PROBING = auto()
    SCREENING = auto()  # the app's policy is asked whether it may ring; nothing is said meanwhile
    RINGING = auto()
    ACCEPTING = auto()
    OVER = auto()
    CLEARING = auto()
    REMEMBERED = auto()
    GONE = auto()
    TALKING = auto()

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a Python call


class On(Enum):
    """What can happen to the callee's end."""

    # the caller's invite says
    RINGING = auto()  # live, with time left
    RINGING_RETAINED = auto()  # doubtful: it may be of the broker's store, or has no time left
    ACCEPTED = auto()
    ENDED = auto()
    CLEARED = auto()
    TALKS = auto()  # accepted, and it goes on
    TALK_OVER = auto()
    # the app says
    ACCEPT = auto()
    REFUSE = auto()
    LOGOUT = auto()
    # a policy of this peer says, before anything rings
    SCREEN = auto()  # wait for what it says
    ADMIT = auto()
    TURN_AWAY = auto()
    OVERLOAD = auto()
    DROP = auto()  # say nothing, as if it had not come
    # time says
    RING_EXPIRED = auto()
    ACCEPT_TIMEOUT = auto()
    RESEND = auto()
    KEEP_EXPIRED = auto()
    FORGET = auto()
    CALLER_REPLACED = auto()  # past the deadline, and another login of the caller's is there
    # the caller's presence says
    CALLER_ALIVE = auto()
    # the app, the caller's presence or time says, of a call that goes on
    HANG_UP = auto()
    # the broker does not take the cell: not allowed, or too large
    NOT_TAKEN = auto()
    # the broker has the cleared cell
    CLEAR_ACKED = auto()

    __hash__ = object.__hash__


class Do(Enum):
    """What the engine does for a step, in the order given."""

    SAY = auto()  # publish the answer cell
    ASK = auto()  # publish it with ``ask``: is it still so?
    CLEAR = auto()  # publish it empty
    EXTEND = auto()  # the deadline is what the invite says now
    TELL_RECEIVED = auto()
    TELL_ACCEPTED = auto()
    TELL_REFUSED = auto()
    TELL_CANCELED = auto()
    TELL_FAILURE = auto()
    TELL_ENDED = auto()  # canceled or failed, as the caller's reason says
    TELL_MISSED = auto()  # unless answered elsewhere
    TELL_TALK_STARTED = auto()
    TELL_TALK_ENDED = auto()

    __hash__ = object.__hash__


Step = tuple[Phase, tuple[Do, ...]]

_IGNORED: Final[tuple[Do, ...]] = ()
_RESEND: Final[Step] = (Phase.OVER, (Do.SAY,))

TABLE: Final[Mapping[Phase, Mapping[On, Step]]] = {
    Phase.NEW: {
        On.RINGING: (Phase.RINGING, (Do.SAY, Do.EXTEND, Do.TELL_RECEIVED)),
        On.RINGING_RETAINED: (Phase.PROBING, (Do.ASK,)),
        # Answered by a previous login of mine: the caller must learn that nobody is there.
        On.ACCEPTED: (Phase.OVER, (Do.SAY,)),
        On.TALKS: (Phase.OVER, (Do.SAY,)),
        On.TALK_OVER: (Phase.OVER, (Do.SAY,)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.SCREEN: (Phase.SCREENING, (Do.EXTEND,)),
        On.TURN_AWAY: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.OVERLOAD: (Phase.OVER, (Do.SAY,)),
    },
    Phase.PROBING: {
        On.RINGING: (Phase.RINGING, (Do.SAY, Do.EXTEND, Do.TELL_RECEIVED)),
        On.RINGING_RETAINED: (Phase.PROBING, (Do.ASK,)),
        On.ACCEPTED: (Phase.OVER, (Do.SAY,)),
        On.TALKS: (Phase.OVER, (Do.SAY,)),
        On.TALK_OVER: (Phase.OVER, (Do.SAY,)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR,)),
        On.SCREEN: (Phase.SCREENING, (Do.EXTEND,)),
        On.TURN_AWAY: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.OVERLOAD: (Phase.OVER, (Do.SAY,)),
        On.CALLER_ALIVE: (Phase.RINGING, (Do.TELL_RECEIVED,)),
        On.RESEND: (Phase.PROBING, (Do.ASK,)),
        On.KEEP_EXPIRED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.LOGOUT: (Phase.GONE, _IGNORED),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
    },
    Phase.SCREENING: {
        On.RINGING: (Phase.SCREENING, (Do.EXTEND,)),
        On.RINGING_RETAINED: (Phase.PROBING, (Do.ASK,)),  # in doubt by now: screened anew, if ever
        On.ACCEPTED: (Phase.OVER, (Do.SAY,)),
        On.TALKS: (Phase.OVER, (Do.SAY,)),
        On.TALK_OVER: (Phase.OVER, (Do.SAY,)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR,)),
        On.ADMIT: (Phase.RINGING, (Do.SAY, Do.TELL_RECEIVED)),
        On.TURN_AWAY: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.OVERLOAD: (Phase.OVER, (Do.SAY,)),
        On.DROP: (Phase.GONE, _IGNORED),
        On.RING_EXPIRED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.CALLER_REPLACED: (Phase.OVER, (Do.SAY, Do.TELL_MISSED)),
        On.LOGOUT: (Phase.GONE, _IGNORED),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
    },
    Phase.RINGING: {
        On.RINGING: (Phase.RINGING, (Do.SAY, Do.EXTEND)),
        On.RINGING_RETAINED: (Phase.RINGING, (Do.ASK,)),
        On.ACCEPTED: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.TALKS: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.TALK_OVER: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_ENDED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_CANCELED)),
        On.ACCEPT: (Phase.ACCEPTING, (Do.SAY,)),
        On.REFUSE: (Phase.OVER, (Do.SAY, Do.TELL_REFUSED)),
        On.RING_EXPIRED: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.CALLER_REPLACED: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.RESEND: (Phase.RINGING, (Do.ASK,)),  # of the caller, once its presence is quiet again
        On.LOGOUT: (Phase.GONE, (Do.TELL_FAILURE,)),
        On.NOT_TAKEN: (Phase.GONE, (Do.TELL_FAILURE,)),
    },
    Phase.ACCEPTING: {
        On.RINGING: (Phase.ACCEPTING, (Do.SAY,)),
        On.RINGING_RETAINED: (Phase.ACCEPTING, (Do.SAY,)),
        On.ACCEPTED: (Phase.OVER, (Do.SAY, Do.TELL_ACCEPTED)),
        On.TALKS: (Phase.TALKING, (Do.SAY, Do.TELL_ACCEPTED, Do.TELL_TALK_STARTED)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_ENDED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_CANCELED)),
        On.ACCEPT_TIMEOUT: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.RESEND: (Phase.ACCEPTING, (Do.SAY,)),
        On.LOGOUT: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
        On.NOT_TAKEN: (Phase.OVER, (Do.SAY, Do.TELL_FAILURE)),
    },
    Phase.TALKING: {
        On.RINGING: (Phase.TALKING, _IGNORED),
        On.RINGING_RETAINED: (Phase.TALKING, _IGNORED),
        On.TALKS: (Phase.TALKING, _IGNORED),
        On.TALK_OVER: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        # A later login of the caller's, which does not talk.
        On.ACCEPTED: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        On.ENDED: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR, Do.TELL_TALK_ENDED)),
        On.HANG_UP: (Phase.OVER, (Do.SAY, Do.TELL_TALK_ENDED)),
        On.RESEND: (Phase.TALKING, (Do.SAY,)),
    },
    Phase.OVER: {
        On.RINGING: _RESEND,
        On.RINGING_RETAINED: _RESEND,
        On.ACCEPTED: _RESEND,
        On.ENDED: _RESEND,
        On.TALKS: _RESEND,
        On.TALK_OVER: _RESEND,
        On.RESEND: _RESEND,
        On.CLEARED: (Phase.CLEARING, (Do.CLEAR,)),
        On.KEEP_EXPIRED: (Phase.CLEARING, (Do.CLEAR,)),
        On.LOGOUT: (Phase.OVER, _IGNORED),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
    },
    Phase.CLEARING: {
        On.RINGING: _RESEND,
        On.RINGING_RETAINED: _RESEND,
        On.ACCEPTED: _RESEND,
        On.ENDED: _RESEND,
        On.TALKS: _RESEND,
        On.TALK_OVER: _RESEND,
        On.CLEARED: (Phase.CLEARING, _IGNORED),
        On.CLEAR_ACKED: (Phase.REMEMBERED, _IGNORED),
        On.LOGOUT: (Phase.CLEARING, _IGNORED),
        On.NOT_TAKEN: (Phase.GONE, _IGNORED),
    },
    Phase.REMEMBERED: {
        On.RINGING: _RESEND,
        On.RINGING_RETAINED: _RESEND,
        On.ACCEPTED: _RESEND,
        On.ENDED: _RESEND,
        On.TALKS: _RESEND,
        On.TALK_OVER: _RESEND,
        # Said once without being kept, perhaps: then the answer still stands there.
        On.CLEARED: (Phase.REMEMBERED, (Do.CLEAR,)),
        On.FORGET: (Phase.GONE, _IGNORED),
        On.LOGOUT: (Phase.REMEMBERED, _IGNORED),
    },
}

#: Phases in which the app has an invitation that has not ended.
OPEN: Final = frozenset({Phase.RINGING, Phase.ACCEPTING})
#: Phases in which the caller's presence matters.
WATCHING: Final = frozenset({Phase.PROBING, Phase.SCREENING, Phase.TALKING, *OPEN})
