"""Whether Home Assistant hears what is said now, as far as its birth and will tell; pure.

They are not retained, so a bridge that has just connected knows nothing. What is said while it is
not known is said for both cases: at once, and again at the birth of a Home Assistant that was away.
"""

from __future__ import annotations

from enum import Enum

#: After a link that was lost: Home Assistant may have lost its own, too. It tries again after 10 s,
#: and says so (its birth) 5.5 s after it is back; seconds.
WAIT_FOR_BIRTH = 20.0
#: A machine that lost its power is missed for one and a half keep-alives of 60 s: until then the
#: will of a former life may come, after the birth of the next; seconds.
LATE_WILL = 120.0


class HaStatus(Enum):
    """What is known of it."""

    #: It was born, and has not gone.
    ONLINE = 1
    #: It has gone.
    OFFLINE = 2
    #: It may be there.
    UNKNOWN = 3


class HaAvailability:
    """What the bridge knows of Home Assistant, while its own link is up."""

    def __init__(self) -> None:
        self.status = HaStatus.OFFLINE
        #: The last that was heard of it, in this life or a former one, is that it went.
        self.went = False
        self._lost_before = False
        self._wait_until: float | None = None
        self._late_will_until = 0.0

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do."""
        return self._wait_until

    def link_up(self, now: float) -> None:
        """My own link is up."""
        self._late_will_until = 0.0
        if self._lost_before:
            self.status, self._wait_until = HaStatus.OFFLINE, now + WAIT_FOR_BIRTH
        else:
            self.status = HaStatus.UNKNOWN

    def link_down(self) -> None:
        """My own link is lost: whatever it hears, it does not hear me."""
        self.status, self._wait_until, self._lost_before = HaStatus.OFFLINE, None, True

    def birth(self, now: float) -> None:
        """It says that it is there."""
        if self.status is HaStatus.ONLINE:
            self._late_will_until = now + LATE_WILL
        self.status, self._wait_until, self.went = HaStatus.ONLINE, None, False

    def will(self, now: float) -> bool:
        """It says that it is gone, or its broker does; whether it was there until now."""
        was, self._wait_until = self.status, None
        late, self._late_will_until = now < self._late_will_until, 0.0
        self.status, self.went = (HaStatus.UNKNOWN, False) if late else (HaStatus.OFFLINE, True)
        return was is not HaStatus.OFFLINE and not late

    def proven(self) -> None:
        """It has asked for something."""
        if self.status is HaStatus.UNKNOWN:
            self.status, self.went = HaStatus.ONLINE, False

    def tick(self, now: float) -> bool:
        """Whether it is to be spoken to from now on, though it was not born."""
        if self._wait_until is None or now < self._wait_until:
            return False
        self.status, self._wait_until = HaStatus.UNKNOWN, None
        return True
