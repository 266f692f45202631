"""The calls of a service that go on: by their ids, for decisions that know no client."""

from __future__ import annotations

from typing import Any

from ...client.logs import Log
from ...errors import BellwireError, InvitationApiCallError

log = Log("bellwire.pi")


class Talks:
    """What the loop holds of calls that are up; not thread-safe."""

    def __init__(self) -> None:
        # A client's own class of a call: Any here, as with invitations.
        self._calls: dict[str, Any] = {}

    def add(self, call: Any) -> None:
        """That call goes on."""
        self._calls[call.call_id] = call

    def remove(self, call_id: str) -> None:
        """That call is over."""
        self._calls.pop(call_id, None)

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
