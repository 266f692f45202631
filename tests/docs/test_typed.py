"""What is shown to a reader passes ``mypy --strict`` as an application's own code.

Examples are in mypy's ``files`` (``make lint``); here: the documents' Python snippets, listeners
written out with all their types on either face, and what is to be an error.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from device_sdk import Settings, SignalingClient, aio
from tests.docs.test_snippets import ALL, ROOT

#: Every method, with the types that each face's users know.
LISTENER = """
from typing import Any

from device_sdk import (
    CallEventListener, ConnectionChange, ConnectionState, EndReason, LocalInvitationError,
    MissedCall, RemoteInvitationError, SignalingClient as Threaded,
)
from {module} import LocalInvitation, RemoteInvitation, RingGroup, SignalingClient


class Panel(CallEventListener):
    {define} on_local_invitation_received_by_peer(self, invitation: LocalInvitation) -> None: ...
    {define} on_local_invitation_accepted(
        self, invitation: LocalInvitation, response: Any) -> None: ...
    {define} on_local_invitation_refused(
        self, invitation: LocalInvitation, response: object) -> None: ...
    {define} on_local_invitation_canceled(self, invitation: LocalInvitation) -> None: ...
    {define} on_local_invitation_failure(
        self, invitation: LocalInvitation, error: LocalInvitationError) -> None: ...
    {define} on_local_invitation_peer_lost(
        self, invitation: LocalInvitation, reason: EndReason) -> None: ...
    {define} on_local_invitation_peer_offline(self, invitation: LocalInvitation) -> None: ...
    {define} on_ring_group_ended(self, group: RingGroup) -> None:
        print(group.outcome)
    {define} on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        print(invitation.caller_id, invitation.content)
    {define} on_remote_invitation_accepted(self, invitation: RemoteInvitation) -> None: ...
    {define} on_remote_invitation_refused(self, invitation: RemoteInvitation) -> None: ...
    {define} on_remote_invitation_canceled(self, invitation: RemoteInvitation) -> None: ...
    {define} on_remote_invitation_failure(
        self, invitation: RemoteInvitation, error: RemoteInvitationError) -> None: ...
    {define} on_missed_call(self, missed: MissedCall) -> None: ...
    {define} on_presence_changed(self, peer: str, online: bool | None) -> None: ...
    {define} on_connection_state_changed(
        self, state: ConnectionState, change: ConnectionChange) -> None: ...


client = SignalingClient("kitchen", ring_timeout=20, max_calls=3)
client.call_manager.add_event_listener(Panel())
"""
WRONG = """
from device_sdk import CallEventListener, SignalingClient


class Panel(CallEventListener):
    def on_missed_call(self, missed: int) -> None: ...


SignalingClient("kitchen", ring_timout=20)
"""


def test_what_is_shown_is_typed(tmp_path: Path) -> None:
    """One run of mypy over all; what is wrong is told, so it has looked."""
    shown = [s for s in ALL if s.language == "python" and not s.exempt]
    programs = {f"{s.document}_{s.line}".replace("/", "_"): s.code for s in shown}
    programs["on_threads"] = LISTENER.format(module="device_sdk", define="def")
    programs["on_a_loop"] = LISTENER.format(module="device_sdk.aio", define="async def")
    programs["on_a_loop_plain"] = LISTENER.format(module="device_sdk.aio", define="def")
    programs["wrong"] = WRONG
    for name, code in programs.items():
        (tmp_path / f"{name.replace('.', '_').replace('-', '_')}.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context",
         "--config-file", "", "--cache-dir", ROOT / ".mypy_cache" / "shown", tmp_path],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    told = [line for line in done.stdout.splitlines() if "error:" in line]
    assert [line for line in told if "wrong.py" not in line] == [], done.stderr
    assert len(told) == 2, done.stdout
    assert "on_missed_call" in told[0]
    assert "ring_timout" in told[1]


@pytest.mark.parametrize("client", [SignalingClient, aio.SignalingClient])
def test_help_shows_each_setting_with_its_default(client: type) -> None:
    """By name: nothing hides behind two asterisks, which are for what does not exist."""
    shown = inspect.signature(client).parameters
    assert shown["unknown"].annotation == "Never"
    assert {name: shown[name].default for name in Settings._fields} == Settings()._asdict()
