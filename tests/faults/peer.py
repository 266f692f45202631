"""A peer in a process of its own, told what to do on standard input, saying what it was told.

``python -m tests.faults.peer PEER_ID URL OPTIONS_AS_JSON``; one JSON object a line, both ways.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import device_sdk.client.link.paho  # noqa: F401 - else imported by the first login, which is timed
from device_sdk import CallEventListener, SignalingClient
from device_sdk.core.events import Name

_writing = threading.Lock()
_calls: dict[str, Any] = {}


def say(**what: Any) -> None:
    with _writing:
        print(json.dumps(what), flush=True)


class Speaker(CallEventListener):
    """Says everything it is told."""


def _speak(name: str) -> Any:
    def method(_self: Any, first: Any, *more: Any) -> None:
        if name == Name.CALL_STARTED:
            _calls[first.call_id] = first
        say(
            message=more[0] if name == Name.CALL_MESSAGE else None,
            event=name,
            call_id=getattr(first, "call_id", ""),
            state=getattr(getattr(first, "state", None), "name", ""),
            reason=str(getattr(first, "reason", "") or ""),
            peer=getattr(first, "caller_id", getattr(first, "callee_id", "")),
        )

    return method


for _name in Name:
    if _name is not Name.CONNECTION_STATE_CHANGED:
        setattr(Speaker, f"on_{_name}", _speak(str(_name)))


def main() -> None:
    peer_id, url, options = sys.argv[1:4]
    client = SignalingClient(peer_id, url, **json.loads(options))
    client.call_manager.add_event_listener(Speaker())
    held: dict[str, Any] = {}
    say(done="start")
    for line in sys.stdin:
        command = json.loads(line)
        call_id = command.get("call_id", "")
        try:
            match command["do"]:
                case "login":
                    client.login(60, keep_trying=True)
                case "press":
                    invitation = client.call_manager.create_local_invitation(command["callee"])
                    held[invitation.call_id] = invitation
                    client.call_manager.send_local_invitation(invitation)
                    call_id = invitation.call_id
                case "cancel":
                    client.call_manager.cancel_local_invitation(held[call_id])
                case "accept":
                    client.call_manager.accept_remote_invitation(client.call_manager.get(call_id))
                case "refuse":
                    client.call_manager.refuse_remote_invitation(client.call_manager.get(call_id))
                case "say":
                    _calls[call_id].send(command["message"])
                case "hang up":
                    _calls[call_id].hang_up()
                case "logout":
                    client.logout()
            say(done=command["do"], call_id=call_id)
        except Exception as error:  # noqa: BLE001 - whoever drives this process is told
            say(done=command["do"], error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
