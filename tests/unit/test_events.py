"""The events' names, which a listener's methods are called after."""

from __future__ import annotations

from device_sdk.core import events
from device_sdk.core.caller import CallerCall
from device_sdk.core.events import Name
from device_sdk.states import ConnectionChange, ConnectionState, EndReason


def test_the_names_are_agoras_in_snake_case_and_ours() -> None:
    """AGORA's ten, then those it lacks."""
    assert [name.value for name in Name] == [
        "local_invitation_received_by_peer",
        "local_invitation_accepted",
        "local_invitation_refused",
        "local_invitation_canceled",
        "local_invitation_failure",
        "local_invitation_peer_lost",
        "local_invitation_peer_offline",
        "remote_invitation_received",
        "remote_invitation_accepted",
        "remote_invitation_refused",
        "remote_invitation_canceled",
        "remote_invitation_failure",
        "ring_group_ended",
        "missed_call",
        "call_started",
        "call_message",
        "call_ended",
        "presence_changed",
        "connection_state_changed",
    ]


def test_which_events_end_an_invitation() -> None:
    """Four on each side; receiving and losing a peer end nothing."""
    assert {name.value.split("_")[0] for name in events.ENDS} == {"local", "remote"}
    assert {name.value.split("_")[-1] for name in events.ENDS} == {
        "accepted", "refused", "canceled", "failure",
    }  # fmt: skip
    assert len(events.ENDS) == 8


def test_events_with_one_meaning_know_their_name() -> None:
    """Nobody has to repeat it."""
    lost = events.PeerLost(CallerCall("id", "kitchen"), EndReason.ACCEPT_FAILURE)
    assert lost.name is Name.LOCAL_PEER_LOST
    assert events.PresenceChanged("kitchen", True).name is Name.PRESENCE_CHANGED
    changed = events.ConnectionStateChanged(ConnectionState.ABORTED, ConnectionChange.REMOTE_LOGIN)
    assert changed.name is Name.CONNECTION_STATE_CHANGED
