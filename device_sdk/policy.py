"""What a callee does with an invitation before anything rings: ring, busy, or do not disturb.

Pure: local wall time comes in as an argument. It decides only about this peer's own quiet hours,
never about the protocol; a clock that was never set is never quiet.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, Self

from .cells import AnswerReason
from .errors import InvalidArgument
from .schedule import Window, is_quiet, parse_window
from .topics import check_peer_id


class Policy(NamedTuple):
    """How a callee takes invitations; the caller is told which of these turned it away.

    ``busy_when_ringing``: refuse with *busy* while another invitation is open here, or was accepted
    and the app has not said ``free()``. ``quiet``: weekly windows of local time such as
    ``"22:00-07:00"`` or ``"sat-sun 13:00-15:00"``, in which all but ``allow`` get *do not disturb*;
    nothing sounds, but the missed call is told. ``do_not_disturb``: the same, now and always.
    """

    busy_when_ringing: bool = False
    do_not_disturb: bool = False
    quiet: tuple[Window, ...] = ()
    allow: frozenset[str] = frozenset()

    @classmethod
    def make(
        cls,
        *,
        busy_when_ringing: bool = False,
        do_not_disturb: bool = False,
        quiet: Iterable[str] = (),
        allow: Iterable[str] = (),
    ) -> Self:
        """A policy from plain values; raises :class:`InvalidArgument` naming what is off."""
        for name, value in (("quiet", quiet), ("allow", allow)):
            if isinstance(value, str):
                raise InvalidArgument(name, "a list of strings, not one string")
        try:
            windows = tuple(parse_window(text) for text in quiet)
        except ValueError as error:
            raise InvalidArgument("quiet", str(error)) from None
        peers = frozenset(check_peer_id(peer, "allow") for peer in allow)
        return cls(bool(busy_when_ringing), bool(do_not_disturb), windows, peers)

    def screen(
        self, caller: str, *, open_calls: int, occupied: bool, now: datetime | None
    ) -> AnswerReason | None:
        """None to ring, or why not; ``occupied``: the app said busy, or has not said free.

        ``now`` is local time; None where there are no quiet hours to compare it with.
        """
        if occupied or (self.busy_when_ringing and open_calls):
            return AnswerReason.BUSY
        quiet = self.do_not_disturb or (now is not None and is_quiet(self.quiet, now))
        return AnswerReason.DO_NOT_DISTURB if quiet and caller not in self.allow else None
