"""What the core asks of who knows the rules."""

from __future__ import annotations

from typing import Protocol

from .session import Session


class Rules(Protocol):
    """Who may do what; ``action`` is "publish", "subscribe" or "receive"."""

    #: Whether receivers have to be asked, too.
    receivers: bool

    def may(self, key: object, session: Session, action: str, topic: str) -> bool | None:
        """The verdict; None when it comes later, by :meth:`Turns.verdict` with ``key``."""

    def why_not(self, session: Session, action: str, topic: str) -> str:
        """What is wrong, and the command that cures it, for the log."""

    def valid(self, session: Session) -> bool:
        """Whether its owner is still known, and as it was when it connected."""

    def stands(self, topic: str) -> bool:
        """Whether a message may stay retained."""
