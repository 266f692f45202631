"""The core without a socket: bytes in, bytes out, in one thread and one turn."""

from __future__ import annotations

from broker_config.core.broker import Core
from broker_config.core.limits import Limits
from broker_config.core.session import ClientLink, Session


class Anybody:
    """May do anything."""

    receivers = False

    def may(self, _key: object, _session: Session, _action: str, _topic: str) -> bool | None:
        return True

    def why_not(self, _session: Session, _action: str, _topic: str) -> str:
        return ""

    def valid(self, _session: Session) -> bool:
        return True

    def stands(self, _topic: str) -> bool:
        return True


def unserved(limits: Limits | None = None) -> Core:
    """A core that nobody has connected to."""
    return Core(limits or Limits(), Anybody(), 0.0)


def settle(core: Core) -> None:
    """Let everybody in who asks, and give all their turns; time stands still."""
    while core.asked or core.deadline() <= core.now:
        while core.asked:
            core.admit(core.asked.pop(0), None, None, "spare", core.now)
        core.tick(core.now)


def taken(link: ClientLink) -> bytes:
    """What was sent over a link since."""
    data, link.out = b"".join(link.out), []
    link.unsent, link.marked = 0, False
    if link in link.shared.changed:
        link.shared.changed.remove(link)
    return data


def converse(core: Core, chunks: list[bytes]) -> bytes:
    """Serve one connection from these bytes to its end; gives what it answered."""
    link = core.opened(None, "memory", core.now)
    for chunk in chunks:
        if chunk:
            core.received(link, chunk, core.now)
            settle(core)
    core.lost(link, core.now)
    settle(core)
    return taken(link)
