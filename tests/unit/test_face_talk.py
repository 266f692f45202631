"""Calls that go on, with both clients on a broker in memory."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Iterator
from typing import Any

import pytest

from device_sdk import (
    CallEventListener,
    CallState,
    EndReason,
    InvalidArgument,
    InvitationApiCallError,
    RemoteInvitation,
    SignalingClient,
    aio,
)
from device_sdk.client.threaded import Call
from device_sdk.testing import MemoryBroker


class Kitchen(CallEventListener):
    """Accepts, and opens the door to whoever asks for it in the call."""

    def __init__(self) -> None:
        self.told: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def on_remote_invitation_received(self, invitation: RemoteInvitation) -> None:
        invitation.accept("coming")

    def on_call_started(self, call: Call) -> None:
        self.told.put(("started", call.peer))

    def on_call_message(self, call: Call, message: Any) -> None:
        self.told.put(("message", message))
        call.send({"done": message["do"], "ok": True})

    def on_call_ended(self, call: Call, reason: EndReason) -> None:
        self.told.put(("ended", reason, call.state))


class Heard(CallEventListener):
    """What the door is told in its calls."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()

    def on_call_message(self, call: Call, message: Any) -> None:
        self.messages.put(message)


@contextlib.contextmanager
def clients(*, door_talks: bool = True) -> Iterator[tuple[SignalingClient, Kitchen, Heard]]:
    broker, kitchen, heard = MemoryBroker(), Kitchen(), Heard()
    with (
        SignalingClient("kitchen", broker=broker, talk=True) as answering,
        SignalingClient("door", broker=broker, talk=door_talks) as door,
    ):
        answering.call_manager.add_event_listener(kitchen)
        door.call_manager.add_event_listener(heard)
        yield door, kitchen, heard
    assert [topic for topic in broker.retained if not topic.endswith("presence")] == []


def test_a_call_goes_on_and_is_hung_up() -> None:
    """From accept to the end, each thing told once, with threads."""
    with clients() as (door, kitchen, heard):
        call = door.call("kitchen").call
        assert kitchen.told.get(timeout=5) == ("started", "door")
        call.send({"do": "open"})
        assert kitchen.told.get(timeout=5) == ("message", {"do": "open"})
        assert heard.messages.get(timeout=5) == {"done": "open", "ok": True}
        assert (call.state, call.reason, call.ended) == (CallState.UP, None, False)
        call.hang_up()
        assert call.wait(5)
        assert (call.state, call.reason) == (CallState.OVER, EndReason.HUNG_UP)
        assert kitchen.told.get(timeout=5) == ("ended", EndReason.HUNG_UP, CallState.OVER)


def test_without_talk_there_is_no_call() -> None:
    """The invitation ends with accepted, as in the original."""
    with clients(door_talks=False) as (door, kitchen, _):
        outcome = door.call("kitchen")
        assert outcome.accepted
        assert outcome.call is None
        assert kitchen.told.empty()


def test_what_cannot_be_said_is_an_error_that_changes_nothing() -> None:
    """It says what would do; the call goes on."""
    with clients() as (door, _, heard):
        call = door.call("kitchen").call
        for bad, why in ((object(), "not encodable"), (bytes(8190), "at most 8190")):
            with pytest.raises(InvalidArgument, match=why):
                call.send(bad)
        with pytest.raises(InvalidArgument, match="'hung up' or 'time is up', not 'bored'"):
            call.hang_up("bored")
        call.send({"do": "open"})
        assert heard.messages.get(timeout=5)["ok"]
        call.hang_up("time is up")
        for late in (lambda: call.send(1), call.hang_up):
            with pytest.raises(InvitationApiCallError, match="ALREADY_END"):
                late()


def test_talk_is_a_choice() -> None:
    """True or False."""
    with pytest.raises(InvalidArgument, match="talk"):
        SignalingClient("door", talk=1)  # type: ignore[arg-type]  # that is the point


def test_the_same_with_asyncio() -> None:
    """Events in their order, and what a call is asked is awaited."""

    async def run() -> list[tuple[str, Any]]:
        broker, told = MemoryBroker(), []
        async with (
            aio.SignalingClient("kitchen", broker=broker, talk=True) as kitchen,
            aio.SignalingClient("door", broker=broker, talk=True) as door,
        ):
            events = kitchen.events()
            calling = asyncio.create_task(door.call("kitchen"))
            async for event in events:
                if event.name == "remote_invitation_received":
                    await event.invitation.accept()
                elif event.name == "call_started":
                    call = (await calling).call
                    await call.send("hello")
                elif event.name == "call_message":
                    await call.hang_up()
                    assert await call.wait(5)
                if event.name.startswith("call_"):
                    told.append((str(event.name), event.content))
                if event.name == "call_ended":
                    break
        return told

    assert asyncio.run(run()) == [
        ("call_started", None), ("call_message", "hello"), ("call_ended", None),
    ]  # fmt: skip
