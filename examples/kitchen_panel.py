"""A kitchen panel: rings when somebody is at the door; type a to accept, r to refuse."""

import contextlib
import os
import sys

from device_sdk import (
    CallEventListener,
    MissedCall,
    RemoteInvitation,
    RemoteInvitationError,
    SignalingClient,
)

BROKER = os.environ.get("BELLWIRE_BROKER", "mqtt://127.0.0.1:1883")


class Panel(CallEventListener):
    ringing: RemoteInvitation | None = None

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        self.ringing = invitation
        print(f"♪ {invitation.caller_id}: {invitation.content} - a)ccept or r)efuse?", flush=True)

    def on_remote_invitation_accepted(self, invitation: RemoteInvitation) -> None:
        print(f"talking to {invitation.caller_id}", flush=True)

    def on_remote_invitation_canceled(self, invitation: RemoteInvitation) -> None:
        print(f"{invitation.caller_id} went away", flush=True)

    def on_remote_invitation_failure(
        self, invitation: RemoteInvitation, error: RemoteInvitationError
    ) -> None:
        print(f"no call with {invitation.caller_id}: {error.name.lower()}", flush=True)

    def on_missed_call(self, missed: MissedCall) -> None:
        print(f"missed: {missed.caller_id}", flush=True)


def main() -> None:
    client, panel = SignalingClient("kitchen", BROKER), Panel()
    client.call_manager.add_event_listener(panel)
    with client:
        print("waiting for calls, Ctrl-C to leave", flush=True)
        for line in sys.stdin:
            invitation, panel.ringing = panel.ringing, None
            if invitation is None or invitation.ended:
                print("nobody rings", flush=True)
            elif line.startswith("a"):
                client.call_manager.accept_remote_invitation(invitation, "come in")
            else:
                client.call_manager.refuse_remote_invitation(invitation, "not now")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C leaves
        main()
