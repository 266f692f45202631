"""The callee's policy: which of its calls ring, and who runs a policy that is the app's own code.

A :class:`Policy` itself is pure and quick: it decides where the call comes in. A subclass with a
``screen`` of its own is the application's code, which may block or raise: its call waits, and it
runs on a daemon thread of its own, under no lock, for both kinds of client. The core asks about one
call at a time, so there is never a second such thread for a client, and whoever blocks holds up
nothing but the calls that wait for it; each of them ends by itself when its caller's time is over.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import Any

from ..core.admission import Held
from ..core.callee import CalleeCall
from ..core.connection import LoginSession
from ..core.effects import AskPolicy, Input, LinkInput, PolicyVerdict
from ..core.wire import reasons
from ..core.wire.cells import AnswerReason
from ..errors import InvalidArgument
from .dispatch import L, R
from .policy import Policy
from .supervisor import Supervised

#: What a callee may refuse with, and our word for it.
REFUSAL_WORDS = {row.reason: row.word for row in reasons.REFUSALS}
_TAKES_ALL = Policy()


class Screening(Supervised[L, R]):
    """The part of a client that asks its policy."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id)
        self._policy = _TAKES_ALL
        self._occupied = False
        self._wall_now: int | None = None  # the time of day when it was last wanted

    # --- for the two clients to fill in ------------------------------------------------------

    def _time(self) -> float:
        """What time it is; runs the application's clock, so hold no guard."""
        raise NotImplementedError

    def _feed(
        self, session: LoginSession, what: Input | LinkInput, now: float, wall: int | None = None
    ) -> None:
        """Feed the session and sort its effects; hold the guard, then :meth:`_perform`."""
        raise NotImplementedError

    def _perform(self) -> None:
        """Do what is to be done; hold the guard."""
        raise NotImplementedError

    # --- the application's calls -------------------------------------------------------------

    def set_policy(self, policy: Policy) -> None:
        """Take invitations by ``policy`` from now on; what rings already rings on.

        Raises :class:`InvalidArgument`. From any thread.
        """
        if not isinstance(policy, Policy):
            raise InvalidArgument("policy", f"a Policy, not {policy!r}")
        self._policy = policy

    def busy(self) -> None:
        """Refuse new invitations with *busy* until :meth:`free`; from any thread."""
        self._occupied = True

    def free(self) -> None:
        """Take new invitations again: what was accepted here is over, as only the app can know.

        From any thread.
        """
        self._occupied = False

    def _accepted_here(self) -> None:
        if self._policy.busy_when_ringing:
            self._occupied = True  # until the app says free(): only it knows when the talk is over

    # --- inside ------------------------------------------------------------------------------

    def _screen(self, call: CalleeCall, open_calls: int) -> AnswerReason | Held | None:
        """For the core: decide at once, where that runs no code of the application."""
        policy = self._policy
        if type(policy) is not Policy:
            return Held.HELD
        if policy == _TAKES_ALL and not self._occupied:
            return None
        return policy.screen(
            call.caller, open_calls=open_calls, occupied=self._occupied, now=self._local_time()
        )

    def _ask_policy(self, session: LoginSession, asked: AskPolicy) -> None:
        """Have the policy asked on a thread of its own; as :meth:`_feed`."""
        policy = self._policy
        arguments = {
            "open_calls": asked.open_calls,
            "occupied": self._occupied,
            "now": self._local_time(),
        }

        def run() -> None:
            refusal = self._verdict(policy, asked.call, arguments)
            self._records.flush()
            self.pulse(lambda: self._take_verdict(session, asked.call, refusal))

        try:
            threading.Thread(
                target=run, name=f"bellwire-{self.peer_id}-policy", daemon=True
            ).start()
        except RuntimeError as error:  # no thread to be had: rather heard too often than not heard
            self._records.add(logging.ERROR, "call %s: the policy could not be asked; it rings",
                              asked.call.call_id, error=error)  # fmt: skip
            self.pulse(lambda: self._take_verdict(session, asked.call, None))

    def _verdict(
        self, policy: Policy, call: CalleeCall, arguments: dict[str, Any]
    ) -> AnswerReason | None:
        try:
            said: object = policy.screen(call.caller, **arguments)
            if said is None:
                return None
            if isinstance(said, AnswerReason) and said in REFUSAL_WORDS:
                return said
            raise ValueError(f"a policy gives None or a reason to refuse, not {said!r}")
        except BaseException as error:  # noqa: BLE001 - to ring is what a policy makes exceptions from
            self._records.add(logging.ERROR, "call %s: the policy %r raised; it rings",
                              call.call_id, type(policy).__name__, error=error)  # fmt: skip
            return None

    def _take_verdict(
        self, session: LoginSession, call: CalleeCall, refusal: AnswerReason | None
    ) -> None:
        """In a turn of the owner's; hold no guard."""
        now = self._time()
        with self._guard:
            if session is self._session and not session.closed:
                self._feed(session, PolicyVerdict(call.caller, call.call_id, refusal), now)
                self._perform()

    def _local_time(self) -> datetime | None:
        """Local time for quiet hours; None where there are none, or no clock to be believed."""
        if not self._policy.quiet or self._wall_now is None:
            return None
        try:
            return datetime.fromtimestamp(self._wall_now, UTC).astimezone()
        except (OverflowError, OSError, ValueError):  # a year that there is not
            return None
