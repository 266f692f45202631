"""A link is opened on a thread of its own: timers and commands do not wait for a far broker."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...core.effects import LinkFailed
from ...errors import LoginError
from .factory import GuardedLink


class Opening:
    """One attempt to open ``link``; its owner keeps the latest, and closes the link of any other.

    The thread is a daemon that nothing waits for: it may be stuck in a look-up, which nothing ends.
    One of an executor would be joined when the loop, or the interpreter, ends.
    """

    def __init__(
        self, link: GuardedLink, peer_id: str, done: Callable[[Opening, LinkFailed | None], None]
    ) -> None:
        self.link = link
        self._done = done
        self._thread = threading.Thread(
            target=self._run, name=f"bellwire-{peer_id}-connect", daemon=True
        )

    def start(self) -> None:
        """Begin; ``done`` is called on the thread, with why it failed or None, and must not raise.

        Raises ``RuntimeError`` where there is no thread to be had.
        """
        self._thread.start()

    def _run(self) -> None:
        failure: LinkFailed | None = None
        try:
            self.link.open()
        except LoginError as error:
            failure = LinkFailed(error)
        self._done(self, failure)
