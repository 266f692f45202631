"""The calls of a service that go on: by their ids, for decisions that know no client."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...client.logs import Log
from ...errors import BellwireError, InvitationApiCallError
from ...states import EndReason

log = Log("bellwire.pi")


class EndedTalk(NamedTuple):
    """A call that went on, and is over: how long it did, and what ``[on.call_ended]`` hears."""

    seconds: float
    facts: dict[str, object]


class Talks:
    """What the loop holds of calls that are up; not thread-safe."""

    def __init__(self) -> None:
        # A client's own class of a call: Any here, as with invitations.
        self._calls: dict[str, Any] = {}
        #: Since when each goes on, and the button that rang for it.
        self._since: dict[str, tuple[float, str]] = {}

    def add(self, call: Any, now: float, button: str = "") -> None:
        """That call goes on; ``button``: the one that rang for it, if one did."""
        self._calls[call.call_id] = call
        self._since[call.call_id] = now, button

    def end(self, call: Any, reason: EndReason, now: float) -> EndedTalk:
        """That call is over."""
        self._calls.pop(call.call_id, None)
        since, button = self._since.pop(call.call_id, (now, ""))
        seconds = now - since
        facts: dict[str, object] = {"button": button} if button else {}
        facts |= {
            "call_id": call.call_id,
            "peer": call.peer,
            "reason": str(reason),
            "seconds": round(seconds, 1),
        }
        return EndedTalk(seconds, facts)

    def underway(self) -> list[Any]:
        """Those that go on."""
        return list(self._calls.values())

    def send(self, call_id: str, message: Any) -> str:
        """Say ``message`` in that call; why it could not be said, else "". Never raises."""
        call = self._calls.get(call_id)
        if call is None:
            return "the call is over"
        try:
            call.send(message)
        except InvitationApiCallError:
            return "the call is over"  # a moment ago; its end is on its way
        except BellwireError as error:
            log.warning("in the call with %s: %s", call.peer, error)
            return str(error)
        return ""

    def hang_up(self, call_id: str) -> None:
        """End that call. Never raises."""
        call = self._calls.get(call_id)
        if call is None:
            return
        try:
            call.hang_up()
        except InvitationApiCallError:
            return  # as above
        except BellwireError as error:
            log.warning("the call with %s cannot be hung up: %s", call.peer, error)
