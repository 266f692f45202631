"""A page that rings: broker, panel and doorbell on loopback, and your browser.

Open the address that it prints, then press Enter here: the page rings, with a picture. Answer,
open the door, hang up. Ctrl-C ends it. ``--port N`` for another port than 8080.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from device_sdk import BellwireError, Call, CallEventListener, LocalInvitation, SignalingClient
from device_sdk.states import EndReason, LocalInvitationError

PICTURE = Path(__file__).parent / "door.png"
BROKER = """
import sys
from broker_config.cli import main
sys.exit(main(["run", "--anonymous", "--port", "0"]))
"""
SETTINGS = """
[account]
peer = "kitchen"
broker = "{broker}"

[answer]
response = "coming"

[web]
peers = ["front-door"]
"""


class Door(CallEventListener):
    """Says what becomes of a call, and opens for whoever is in it and asks."""

    def on_local_invitation_received_by_peer(self, invitation: LocalInvitation) -> None:
        print(f"{invitation.callee_id} rings")

    def on_local_invitation_accepted(self, invitation: LocalInvitation, response: Any) -> None:
        print(f"accepted: {response}")

    def on_local_invitation_refused(self, invitation: LocalInvitation, response: Any) -> None:
        print(f"refused: {invitation.reason}")

    def on_local_invitation_failure(
        self, invitation: LocalInvitation, error: LocalInvitationError
    ) -> None:
        print(f"nobody answered: {invitation.reason}")

    def on_call_message(self, call: Call, message: Any) -> None:
        if isinstance(message, dict) and message.get("do") == "open":
            print("the door is open")
            call.send({"done": "open", "ok": True})

    def on_call_ended(self, call: Call, reason: EndReason) -> None:
        print(f"the call is over: {reason}")


@contextlib.contextmanager
def started(*words: str | Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A process of the project's own, ended at the end."""
    process = subprocess.Popen(  # noqa: S603 - the project's own commands
        [sys.executable, *words], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        start_new_session=True, **more,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=10)


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """The first line with these words in it."""
    for line in process.stdout or ():
        if words in line:
            return line.strip()
    raise SystemExit("demo-web: that did not start; see above")


def port_to_use(wanted: int) -> int:
    """``wanted`` if it is free, else one that is."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as free:
            return int(free.getsockname()[1])
    raise SystemExit("demo-web: no port is free")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=8080, help="the page's (%(default)s)")
    wanted = parser.parse_args().port
    if not 0 <= wanted <= 65535:
        parser.error(f"argument --port: expected 0 to 65535, not {wanted}")
    # A script's background commands ignore Ctrl-C, which ends this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(started("-c", BROKER))
        url = f"mqtt://{line_with(broker, 'listening on').split()[-1]}"
        settings = home / "panel.toml"
        settings.write_text(SETTINGS.format(broker=url))
        words = ("-m", "device_sdk.cli", "panel", "--settings", settings, "--web")
        environ = {**os.environ, "STATE_DIRECTORY": str(home)}
        panel = stack.enter_context(started(*words, str(port_to_use(wanted)), env=environ))
        address = line_with(panel, "page: ").removeprefix("page: ")
        line_with(panel, "online as kitchen")
        door = stack.enter_context(SignalingClient("front-door", broker=url, talk=True))
        door.call_manager.add_event_listener(Door())
        print(f"open {address} in a browser")
        media = [{"kind": "snapshot", "data": PICTURE.read_bytes()}]
        while True:
            print("Enter rings it, Ctrl-C ends this", flush=True)
            if not sys.stdin.readline():
                return 0
            invitation = door.call_manager.create_local_invitation("kitchen")
            invitation.content = {"text": "A parcel for you", "media": media}
            door.call_manager.send_local_invitation(invitation)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the way to end it, as it says
        sys.exit(0)
    except BellwireError as error:
        sys.exit(f"demo-web: {error}")
