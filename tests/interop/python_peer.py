"""A peer as a process, as ``javascript_peer.mjs`` is one: the same commands, the same events.

Commands are lines of JSON on standard input, events on standard output.
``python -m tests.interop.python_peer URL PEER REALM [talk]``
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from device_sdk import AnswerReason, CallEventListener, ConnectionState, SignalingClient

_REASONS = {"declined": AnswerReason.DECLINED, "busy": AnswerReason.BUSY}
_write = threading.Lock()


def say(event: str, **fields: Any) -> None:
    """One event, as a line."""
    with _write:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()


class Tell(CallEventListener):
    """Tells what happens to each call in the words of the other script."""

    def __init__(self) -> None:
        self.calls: dict[str, Any] = {}
        self.over = threading.Event()

    def _decided(self, invitation: Any, state: str) -> None:
        if invitation.call is None:
            self._ended(invitation, state, invitation.reason)

    def _ended(self, invitation: Any, state: str, reason: Any) -> None:
        response = getattr(invitation, "response", None)
        said = {"state": state, "reason": str(reason), "response": response}
        say("ended", callId=invitation.call_id, **said)

    def on_local_invitation_received_by_peer(self, invitation: Any) -> None:
        say("received", callId=invitation.call_id)

    def on_local_invitation_accepted(self, invitation: Any, response: Any) -> None:
        self._decided(invitation, "accepted")

    def on_local_invitation_refused(self, invitation: Any, response: Any) -> None:
        self._decided(invitation, "refused")

    def on_local_invitation_canceled(self, invitation: Any) -> None:
        self._decided(invitation, "canceled")

    def on_local_invitation_failure(self, invitation: Any, error: Any) -> None:
        self._decided(invitation, "failed")

    def on_local_invitation_peer_lost(self, invitation: Any, reason: Any) -> None:
        say("lost", callId=invitation.call_id, reason=str(reason))

    def on_remote_invitation_received(self, invitation: Any) -> None:
        self.calls[invitation.call_id] = invitation
        said = {"callId": invitation.call_id, "content": invitation.content}
        say("ring", peer=invitation.caller_id, **said)

    def on_remote_invitation_accepted(self, invitation: Any) -> None:
        self._decided(invitation, "accepted")

    def on_remote_invitation_refused(self, invitation: Any) -> None:
        self._decided(invitation, "refused")

    def on_remote_invitation_canceled(self, invitation: Any) -> None:
        self._decided(invitation, "canceled")

    def on_remote_invitation_failure(self, invitation: Any, error: Any) -> None:
        self._decided(invitation, "failed")

    def on_call_started(self, call: Any) -> None:
        say("up", callId=call.call_id, state="accepted")

    def on_call_message(self, call: Any, message: Any) -> None:
        say("message", callId=call.call_id, message=message)

    def on_call_ended(self, call: Any, reason: Any) -> None:
        self._ended(call.invitation, "over", reason)

    def on_connection_state_changed(self, state: Any, reason: Any) -> None:
        say("state", state=state.name.lower())
        if state is ConnectionState.ABORTED:
            say("over", state="aborted")
            self.over.set()


def main() -> None:
    """Log in, then do what comes in until it ends."""
    url, peer, realm, *options = sys.argv[1:]
    client = SignalingClient(peer, url.split(","), realm=realm, talk="talk" in options)
    tell, manager = Tell(), client.call_manager
    manager.add_event_listener(tell)
    client.login(30)
    say("ready", url=client.broker)
    for line in sys.stdin:
        command = json.loads(line)
        what, call = command.pop("do"), tell.calls.get(command.get("callId", ""))
        match what:
            case "call":
                call = manager.create_local_invitation(command["to"])
                call.content, call.channel_id = command.get("content"), command.get("channel")
                tell.calls[call.call_id] = call
                say("calling", callId=call.call_id, to=command["to"])
                manager.send_local_invitation(call, command.get("ringTimeout"))
            case "group":
                for to, leg in manager.ring(command["peers"]).legs.items():
                    tell.calls[leg.call_id] = leg
                    say("calling", callId=leg.call_id, to=to)
            case "accept":
                call.accept(command.get("response"))
            case "refuse":
                call.refuse(reason=_REASONS[command["reason"]])
            case "cancel":
                call.cancel()
            case "say":
                call.call.send(command["message"])
            case "hangUp":
                call.call.hang_up()
            case "logout":
                break
    client.logout()


if __name__ == "__main__":
    main()
