"""What a callee does with an invitation before anything rings: ring, busy, or do not disturb.

Pure: local wall time comes in as an argument. It decides only about this peer's own quiet hours,
never about the protocol; a clock that was never set is never quiet.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, Self

from ..core.wire.cells import AnswerReason
from ..core.wire.topics import check_peer_id
from ..errors import InvalidArgument
from .schedule import Window, check_window, is_quiet, parse_window


class _Fields(NamedTuple):
    busy_when_ringing: bool = False
    do_not_disturb: bool = False
    quiet: tuple[Window, ...] = ()
    allow: frozenset[str] = frozenset()


class Policy(_Fields):
    """How a callee takes invitations; the caller is told which of these turned it away.

    ``busy_when_ringing``: refuse with *busy* while another invitation is open here, or was accepted
    and the app has not said ``free()``. ``quiet``: weekly windows of local time such as
    ``"22:00-07:00"`` or ``"sat-sun 13:00-15:00"``, in which all but ``allow`` get *do not disturb*;
    nothing sounds, but the missed call is told. ``do_not_disturb``: the same, now and always.
    Raises :class:`InvalidArgument` naming what is off.
    """

    __slots__ = ()

    def __new__(  # noqa: D102 - the class says it
        cls,
        busy_when_ringing: bool = False,
        do_not_disturb: bool = False,
        quiet: Iterable[str | Window] = (),
        allow: Iterable[str] = (),
    ) -> Self:
        flags = {"busy_when_ringing": busy_when_ringing, "do_not_disturb": do_not_disturb}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise InvalidArgument(name, f"True or False, not {flag!r}")
        windows = tuple(_window(each) for each in _listed("quiet", quiet))
        peers = frozenset(check_peer_id(peer, "allow") for peer in _listed("allow", allow))
        return super().__new__(cls, busy_when_ringing, do_not_disturb, windows, peers)

    @classmethod
    def make(cls, **fields: Any) -> Self:
        """The same, by names alone."""
        return cls(**fields)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]  # typeshed has an Any for it
        """What ``_replace`` makes its value with."""
        return cls(*iterable)

    def screen(
        self, caller: str, *, open_calls: int, occupied: bool, now: datetime | None
    ) -> AnswerReason | None:
        """None to ring, or why not: *declined*, *busy* or *do not disturb*.

        ``open_calls``: how many ring here or are about to be decided; ``occupied``: the app said
        busy, or has not said free; ``now``: local time, None where there are no quiet hours to
        compare it with. A subclass may decide otherwise: it is called on a thread of its own, one
        call at a time, and may block; a call whose time is over meanwhile is missed. If it raises,
        or gives anything else, the call rings, and that is logged.
        """
        if occupied or (self.busy_when_ringing and open_calls):
            return AnswerReason.BUSY
        quiet = self.do_not_disturb or (now is not None and is_quiet(self.quiet, now))
        return AnswerReason.DO_NOT_DISTURB if quiet and caller not in self.allow else None


def _listed(name: str, values: object) -> Iterable[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidArgument(name, f"a list of strings, not {values!r}")
    return values


def _window(each: object) -> Window:
    if isinstance(each, Window):
        return check_window(each)
    if not isinstance(each, str):
        raise InvalidArgument("quiet", f"a text such as '22:00-07:00', not {each!r}")
    try:
        return parse_window(each)
    except ValueError as error:
        raise InvalidArgument("quiet", str(error)) from None
