"""What the commands print: one line for each event, for people or (``--json``) for scripts."""

from __future__ import annotations

import json
import sys
import time
from typing import IO, Any

from ..client.display import at_time, jsonable, plain, shown, write
from ..client.invitations import Event
from ..core.events import Name
from ..core.wire.talk_cells import MAX_MESSAGE
from ..states import (
    ConnectionChange,
    ConnectionState,
    EndReason,
    LocalInvitationError,
    RemoteInvitationError,
)

#: Style by name: SGR numbers of ECMA-48.
_STYLES = {"good": "32", "bad": "31", "ring": "1;33", "dim": "2", "bold": "1"}


class Say:
    """Writes to standard output, flushing each line; ``t`` counts from its making."""

    def __init__(
        self, *, as_json: bool, out: IO[str] | None = None, environ_no_color: bool = False
    ) -> None:
        self.as_json = as_json
        self.start = time.monotonic()
        self._out = sys.stdout if out is None else out
        self.color = not as_json and not environ_no_color and _is_terminal(self._out)

    def style(self, name: str, text: str) -> str:
        """``text`` in a style, where the terminal has it."""
        return f"\x1b[{_STYLES[name]}m{text}\x1b[0m" if self.color and name else text

    def raw(self, line: str) -> None:
        """One line as it is."""
        write(line + "\n", self._out)

    def line(self, text: str, *, style: str = "", at: float | None = None) -> None:
        """A line for people: seconds since the start, then ``text``; nothing with ``--json``."""
        if not self.as_json:
            t = (time.monotonic() if at is None else at) - self.start
            self.raw(f"{self.style('dim', f'{t:9.3f}')}  {self.style(style, text)}")

    def fields(self, name: str, *, at: float | None = None, **more: Any) -> None:
        """A line for scripts; nothing without ``--json``."""
        if not self.as_json:
            return
        t = (time.monotonic() if at is None else at) - self.start
        known: dict[str, Any] = {
            "event": name, "call_id": None, "peer": None, "state": None, "reason": None,
            "error": None,
        }  # fmt: skip
        self.raw(json.dumps({**known, **jsonable(more), "t": round(t, 4)}))

    def logged_in(self, peer: str, broker: str, doing: str) -> None:
        """The first event of every command."""
        self.line(f"{peer} at {broker}: {doing}", style="dim")
        self.fields("logged_in", peer=peer, state="CONNECTED")

    def event(self, event: Event, at: float) -> None:
        """Whatever the client told."""
        name = event.name
        if self.as_json:
            answered = name.startswith(("local_", "ring_"))
            body = {"response": event.response} if answered else {"content": event.content}
            self.fields(
                str(name), at=at, call_id=event.call_id or None, peer=event.peer or None,
                state=event.state.name if event.state is not None else None, **body,
                reason=None if event.reason is None else str(event.reason),
                error=event.error.name if event.error else None,
            )  # fmt: skip
        elif (told := human(event)) is not None:
            self.line(told[1], style=told[0], at=at)


def _is_terminal(out: IO[str] | None) -> bool:
    try:
        return out is not None and out.isatty()
    except ValueError:  # closed
        return False


def reason_of(event: Event) -> str:
    """Why it ended, for a person."""
    return "" if event.reason is None else str(event.reason)


_LOCAL_FAILURES = {
    LocalInvitationError.PEER_OFFLINE: "{peer} is offline",
    LocalInvitationError.PEER_NO_RESPONSE: "{peer} does not respond ({reason})",
    LocalInvitationError.INVITATION_EXPIRE: "{peer} did not answer",
    LocalInvitationError.NOT_LOGGEDIN: "this login is over: another one of mine took its place",
}
#: It was let in, and is not any more: the secret is read once, when a command begins.
_REFUSED = (
    "was its secret changed there (`bellwire-broker device rotate`)?"
    " Then end this, and start it with the new one in --secret-file"
)
_REMOTE_FAILURES = {
    RemoteInvitationError.PEER_OFFLINE: "{peer} is gone ({reason}): the ringing ends",
    RemoteInvitationError.ACCEPT_FAILURE: "{peer} did not confirm that it was accepted",
    RemoteInvitationError.INVITATION_EXPIRE: "nobody answered {peer}: the ringing ends",
}


def said(message: Any) -> str:
    """A message of a call for a person, whole: of a map with a text alone the text."""
    if isinstance(message, dict) and message.keys() == {"text"}:
        text = message["text"]
        message = text if isinstance(text, str) else message
    return shown(message, MAX_MESSAGE)


def human(event: Event) -> tuple[str, str] | None:
    """Style and text of an event; None where a person need not hear of it."""
    peer, reason = plain(event.peer), reason_of(event)
    answer = "" if event.response is None else f": {shown(event.response)}"
    content = "" if event.content is None else f": {shown(event.content)}"
    match event.name:
        case Name.LOCAL_RECEIVED_BY_PEER:
            return "ring", f"♪ {peer} rings"
        case Name.LOCAL_ACCEPTED:
            return "good", f"✔ {peer} accepted{answer}"
        case Name.LOCAL_REFUSED:
            why = "" if event.reason is EndReason.DECLINED else f" ({reason})"
            return "bad", f"✘ {peer} refused{why}{answer}"
        case Name.LOCAL_CANCELED if event.reason is EndReason.ANSWERED_ELSEWHERE:
            return "dim", f"  {peer} stops ringing: {reason}"
        case Name.LOCAL_CANCELED:
            return "bad", f"✘ canceled; {peer} is told ({reason})"
        case Name.LOCAL_FAILURE if event.reason is EndReason.NOT_ALLOWED:
            return "bad", f"✘ {peer} is not called: not allowed, or too large for this broker"
        case Name.REMOTE_FAILURE if event.reason is EndReason.NOT_ALLOWED:
            return "bad", f"✘ {peer} is not answered: not allowed, or too large for this broker"
        case Name.LOCAL_FAILURE if event.reason is EndReason.NO_RESPONSE:
            return (
                "bad",
                f"✘ {peer} does not respond; the broker's log says if it may not be called",
            )
        case Name.LOCAL_FAILURE:
            text = _LOCAL_FAILURES.get(LocalInvitationError(event.error or 0), "failed ({reason})")
            return "bad", "✘ " + text.format(peer=peer, reason=reason)
        case Name.REMOTE_FAILURE:
            text = _REMOTE_FAILURES.get(RemoteInvitationError(event.error or 0), "failed: {reason}")
            return "bad", "✘ " + text.format(peer=peer, reason=reason)
        case Name.LOCAL_PEER_OFFLINE:
            return "dim", f"  {peer} is offline; it rings should it come back"
        case Name.LOCAL_PEER_LOST:
            return "bad", f"✘ {peer} accepted, but is lost ({reason})"
        case Name.RING_GROUP_ENDED if peer:
            return "good", f"✔ {peer} has the call{answer}"
        case Name.RING_GROUP_ENDED:
            return "bad", f"✘ nobody has it ({reason})"
        case Name.REMOTE_RECEIVED:
            return "ring", f"♪ {peer} rings{content}"
        case Name.REMOTE_ACCEPTED:
            return "good", f"✔ accepted {peer}"
        case Name.REMOTE_REFUSED:
            return "bad", f"✘ refused {peer} ({reason})"
        case Name.REMOTE_CANCELED:
            return "bad", f"✘ {peer} no longer rings ({reason})"
        case Name.CALL_STARTED:
            return "good", f"☎ in a call with {peer}"
        case Name.CALL_MESSAGE:
            return "", f"  {peer}: {said(event.content)}"
        case Name.CALL_ENDED:
            return "dim", f"✘ the call with {peer} is over ({reason})"
        case Name.MISSED_CALL:
            when = at_time(event.missed.time if event.missed is not None else None)
            return "bad", f"✘ missed call from {peer}{when}{content}"
        case Name.CONNECTION_STATE_CHANGED if event.state is ConnectionState.CONNECTED:
            return "dim", f"connected again: {plain(event.detail)}".removesuffix(": ")
        case Name.CONNECTION_STATE_CHANGED:
            state = event.state.name.lower() if event.state is not None else ""
            text = f"connection {state}: {plain(event.detail) or reason}"
            if event.reason is ConnectionChange.REFUSED:
                return "bad", f"{text}; {_REFUSED}"
            return "dim", text
        case _:
            return None
