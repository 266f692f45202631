"""A call that goes on after *accepted*: what each side has said, and when it must end; pure.

Theory (docs/protocol.md, Talk). Each side's cell is a register: how many messages it has said
(``count``), how many of the other's it has handled (``got``), and those of its own that the other
has not acknowledged. So a lost, repeated or late cell changes nothing: a message is handled once,
in order, or it comes again. :class:`Messages` is that register, :class:`Talk` what a call's record
holds of it besides: who the other is, and until when it may be gone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..states import EndReason
from .settings import Settings
from .values import evolver
from .wire import keys
from .wire.cells import Said
from .wire.talk_cells import ARRAY_HEAD, MAX_MESSAGE, MAX_MESSAGES


class News(NamedTuple):
    """What a cell of the other's brought."""

    messages: tuple[bytes, ...] = ()  # to be handled, in order
    repeated: bool = False  # its writer missed my word: say it again, not too often
    gap: bool = False  # messages before these are missing: nothing was handled


class Messages(NamedTuple):
    """One side's register: a value.

    ``waiting``: said and not acknowledged, or not yet said, the last of them number ``count``;
    ``got``: of the other's messages, those that were handled here.
    """

    count: int = 0  # type: ignore[assignment]  # no one counts the fields of a register
    got: int = 0
    waiting: tuple[bytes, ...] = ()

    @property
    def acknowledged(self) -> int:
        """How many of mine the other has handled."""
        return self.count - len(self.waiting)

    def send(self, message: bytes) -> Messages:
        """One message more.

        Raises ``ValueError`` for one that is too large, ``OverflowError`` when too many wait.
        """
        if len(message) > MAX_MESSAGE:
            raise ValueError(f"{len(message)} bytes encoded; at most {MAX_MESSAGE} are allowed")
        if len(self.waiting) >= MAX_MESSAGES:
            raise OverflowError(f"{MAX_MESSAGES} messages wait for the other side")
        return Messages(self.count + 1, self.got, (*self.waiting, message))

    @property
    def fits(self) -> bool:
        """Whether one cell carries all that wait."""
        return ARRAY_HEAD + sum(map(len, self.waiting)) <= keys.MAX_BODY

    def said(self, *, heard: bool = True) -> Said:
        """What my cell says now: the oldest that wait, as many as fit."""
        got = self.got if heard else None
        if self.fits:
            return Said(self.count, got, self.waiting)
        size, carried = ARRAY_HEAD, 0
        while (size := size + len(self.waiting[carried])) <= keys.MAX_BODY:
            carried += 1
        return Said(self.acknowledged + carried, got, self.waiting[:carried])

    def read(self, said: Said) -> tuple[Messages, News]:
        """Take in what the other's cell says."""
        waiting, got = self.waiting, said.got or 0
        if self.acknowledged < got <= self.count:
            waiting = waiting[got - self.acknowledged :]
        first, new = said.count - len(said.messages) + 1, said.count - self.got
        if new > 0 and said.messages and first <= self.got + 1:
            return Messages(self.count, said.count, waiting), News(said.messages[-new:])
        repeated = new <= 0 and bool(said.messages)
        return Messages(self.count, self.got, waiting), News(repeated=repeated, gap=new > 0)


class Talk(NamedTuple):
    """What the record of a call holds of its talk: a value. Times are the engine's seconds.

    ``can``: both have said so far that they can stay; ``up``: the call goes on here; ``epoch``: the
    other's login; ``heard``: the other is known to be in it (its *talking* was read; a callee knows
    it at once). ``limit_at``: when its time is up; ``lost_at``: when it ends if its peer does not
    come back before; ``cut_at``: the same of my own link. ``reason``: why it is over.
    """

    can: bool = False
    up: bool = False
    epoch: bytes = b""
    heard: bool = False
    messages: Messages = Messages()
    limit_at: float | None = None
    lost_at: float | None = None
    cut_at: float | None = None
    quiet_until: float = 0.0
    reason: EndReason | None = None

    @property
    def due(self) -> float | None:
        """The earliest of its deadlines."""
        at = self.limit_at
        for due in (self.lost_at, self.cut_at):
            if due is not None and (at is None or due < at):
                at = due
        return at

    @property
    def waits(self) -> bool:
        """Whether something of mine is not acknowledged."""
        return bool(self.messages.waiting)

    def saying(self, messages: Messages) -> Talk:
        """The same with that register."""
        return _evolve(self, messages=messages)

    def begun(self, epoch: bytes, now: float, settings: Settings, *, heard: bool) -> Talk:
        """The call is up from now on, with that login of the other."""
        lost_at = None if heard else now + settings.link_lost_grace
        limit_at = now + settings.talk_limit
        return Talk(True, True, epoch, heard, limit_at=limit_at, lost_at=lost_at)

    def shown(self, *, there: bool) -> Talk:
        """The other has shown that it is in it; and ``there``, as its presence says."""
        return self._replace(heard=True, lost_at=None if there else self.lost_at)

    def ended(self, reason: EndReason) -> Talk:
        """The call is over; what was not acknowledged is still said."""
        return self._replace(up=False, reason=reason, limit_at=None, lost_at=None, cut_at=None)

    def spent(self) -> Talk:
        """Nothing of it is handled any more: let its messages go."""
        return self._replace(messages=self.messages._replace(waiting=()))

    def due_reason(self, now: float) -> EndReason | None:
        """Why it must end by ``now``, if it must."""
        if self.limit_at is not None and self.limit_at <= now:
            return EndReason.TIME_UP
        return EndReason.PEER_LOST if self.due is not None and self.due <= now else None

    def seen(self, now: float, settings: Settings, *, online: bool | None, same: bool) -> Talk:
        """Take in what the other's presence says.

        ``online`` None: the broker knows nothing of it; ``same``: it is of the login of this call.
        Another login online is doubt, not proof: a broker's store may be older, and a bridge hands
        on what it says without the RETAIN flag. A newer login that lives says itself that it is
        over.
        """
        if online and same:
            # It is there, but may not know that the call goes on.
            return self if self.lost_at is None or not self.heard else self._replace(lost_at=None)
        if online is False and not same:
            return self  # a late will of another login
        grace = settings.link_lost_grace if online is None else settings.peer_lost_grace
        at = now + grace
        if self.lost_at is not None and self.lost_at <= at:
            return self
        return self._replace(lost_at=at)


_evolve = evolver(Talk)

#: Of a call that ends with *accepted*; and of one that may go on.
NO_TALK: Final = Talk()
OFFERED: Final = Talk(can=True)
