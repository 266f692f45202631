"""``bellwire talk``: ring a peer, and stay in the call: a line is a message.

What is typed in a call, there and in ``bellwire listen --talk``, goes through
:class:`Conversation`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from typing import Any

from ..client.display import complain, plain
from ..client.invitations import Event
from ..client.threaded import Call
from ..core.events import Name
from ..errors import InvalidArgument, InvitationApiCallError, TooManyMessages
from ..states import EndReason
from .client import QueueClient
from .errors import ExitCode

#: So often a line that found no room, or a hang-up that waits for what was said, is tried again.
_LOOK = 0.05
#: A hang-up waits so long for what was said before it, at most; seconds.
FLUSH = 5.0
HELP = (
    'In the call a line is a message: {"text": …}; one that begins with { is JSON, and sent as it'
    " is. /hangup ends the call, and so does Ctrl-C, or Ctrl-D on a terminal. Where the input is no"
    " terminal, it is read once the call has begun; at its end the call goes on until the other"
    " side ends it: say /hangup last if it is to end."
)
_LOST = (EndReason.PEER_LOST, EndReason.RESTARTED)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    from .call import add_flags

    parser = commands.add_parser(
        "talk",
        help="ring a peer and stay in the call: a line is a message",
        description="Ring a peer (or several: the first to accept has the call) and stay in the"
        " call. " + HELP,
        epilog="exit: 0 the call went on and was ended, 1 it was accepted, but does not go on"
        " there, or not all lines could be said, 10 refused, 11 not answered, 12 offline, no"
        " response, or lost during the call, 13 canceled, 14 broker unreachable or refused, 15 not"
        " allowed or too large for the broker, 2 wrong usage",
        allow_abbrev=False,
    )
    add_flags(parser)
    parser.set_defaults(talk=True)


def is_terminal() -> bool:
    """Whether somebody types the input."""
    return sys.stdin is not None and sys.stdin.isatty()


def message_of(text: str) -> Any:
    """The message that a line is; raises ``ValueError`` saying what is wrong with it."""
    if text.startswith("/"):
        raise ValueError(
            f"{text.split(maxsplit=1)[0]} is no command; /hangup ends the call, and"
            ' {"text": "/…"} says a text that begins so'
        )
    if not text.startswith("{"):
        return {"text": text}
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a line that begins with {{ has to be JSON: {error}") from None


class Conversation:
    """What is typed in one call: said in order, and the end after it."""

    def __init__(self, client: QueueClient, call: Call) -> None:
        self.call = call
        self._client = client
        self._waiting: deque[Any] = deque()  # messages for which there was no room yet
        self._end_at: float | None = None  # to be hung up by then

    @property
    def unsaid(self) -> int:
        """How many lines were taken, and found no room before the call was over."""
        return len(self._waiting)

    def typed(self, text: str) -> None:
        """Take a line. What cannot be said is complained of, and nothing is sent."""
        if not text:
            return
        if self._end_at is not None or self.call.ended:
            complain("bellwire: not said, the call is over: " + text)
        elif text == "/hangup":
            self.finish()
        else:
            try:
                self._waiting.append(message_of(text))
            except ValueError as error:
                complain(f"bellwire: not said: {error}")

    def finish(self) -> None:
        """Hang up once all is said and handled, or after :data:`FLUSH`."""
        if self._end_at is None:
            self._end_at = time.monotonic() + FLUSH

    def step(self) -> float | None:
        """Say what there is room for, hang up if it is time; seconds until the next look."""
        try:
            while self._waiting and not self.call.ended:
                try:
                    self.call.send(self._waiting[0])
                except TooManyMessages:
                    break
                except InvalidArgument as error:
                    complain(f"bellwire: not said: {error}")
                self._waiting.popleft()
            if self._end_at is not None and not self.call.ended:
                said = not self._waiting and not self._client.unheard(self.call)
                if said or time.monotonic() >= self._end_at:
                    self.call.hang_up()
                    return None
        except InvitationApiCallError:
            return None  # it ended at that moment: its event is on the way
        busy = self._waiting or self._end_at is not None
        return _LOOK if busy and not self.call.ended else None

    def hang_up(self) -> None:
        """Hang up now."""
        self._end_at = time.monotonic()
        self.step()

    def over(self) -> None:
        """The call is over: complain of what could not be said."""
        if self.unsaid:
            peer = plain(self.call.peer)
            complain(f"bellwire: {self.unsaid} lines were not said: the call with {peer} was over")


def end_code(event: Event) -> ExitCode:
    """What a command ends with after a call that went on."""
    if event.reason is EndReason.NOT_ALLOWED:
        return ExitCode.NOT_ALLOWED
    return ExitCode.NOT_REACHED if event.reason in _LOST else ExitCode.OK


def is_end(event: Event, call: Call) -> bool:
    """Whether it says that this call is over."""
    return event.name is Name.CALL_ENDED and event.call_id == call.call_id
