"""What two peers do with each other, written once: which program plays which end is the table's.

Each end is a process (:class:`Peer`) that takes the same commands and tells the same events.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.commands import CommandedPeer
from tests.servers import BrokerProcess

_SCRIPT = Path(__file__).parents[1] / "integration" / "javascript_peer.mjs"
PROGRAMS: dict[str, tuple[str, ...]] = {
    "JavaScript": (shutil.which("node") or "node", str(_SCRIPT)),
    "Python": (sys.executable, "-m", "tests.interop.python_peer"),
}


class Peer(CommandedPeer):
    """One end, logged in; what it told stays readable after its death."""

    def __init__(self, program: str, url: str, name: str, realm: str) -> None:
        words = (url, name, realm, "talk")
        super().__init__(*words, program=PROGRAMS[program])


class Two:
    """``door``, which calls, and ``kitchen``, at one broker; both may begin again."""

    def __init__(
        self, broker: BrokerProcess, realm: str, programs: tuple[str, str], stack: Any
    ) -> None:
        self.broker, self._realm, self._stack = broker, realm, stack
        self._caller, self._callee = programs

    def caller(self, name: str = "door") -> Peer:
        return self._peer(self._caller, name)

    def callee(self, name: str = "kitchen") -> Peer:
        return self._peer(self._callee, name)

    def _peer(self, program: str, name: str) -> Peer:
        peer = Peer(program, self.broker.url, name, self._realm)
        self._stack.enter_context(contextlib.closing(_Closing(peer)))
        peer.told_of("ready")
        return peer

    def ringing(self, **options: Any) -> tuple[Peer, Peer, str]:
        """Both logged in, and a call that rings."""
        kitchen, door = self.callee(), self.caller()
        call = door.call("kitchen", **options)
        kitchen.told_of("ring", callId=call)
        return door, kitchen, call

    def talking(self) -> tuple[Peer, Peer, str]:
        """A call that goes on."""
        door, kitchen, call = self.ringing()
        kitchen.do("accept", callId=call)
        for peer in (door, kitchen):
            peer.told_of("up", callId=call)
        return door, kitchen, call


class _Closing:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def close(self) -> None:
        die(self._peer)


def die(peer: Peer) -> None:
    """SIGKILL: no goodbye."""
    if peer.process.poll() is None:
        peer.process.kill()
    peer.end()


def ends(peer: Peer, call: str, state: str, *reasons: str) -> None:
    """It is told one end of the call, that one."""
    told = peer.told_of("ended", callId=call)
    assert told["state"] == state, told
    assert not reasons or told["reason"] in reasons, told
    assert len(peer.all("ended", callId=call)) == 1, peer.told


def accept(two: Two) -> None:
    door, kitchen, call = two.ringing(content={"who": "a door", "n": [1, 2.5, None]}, channel="c")
    assert kitchen.told_of("ring")["content"] == {"who": "a door", "n": [1, 2.5, None]}
    door.told_of("received", callId=call)
    kitchen.do("accept", callId=call, response={"text": "coming"})
    for peer in (door, kitchen):
        peer.told_of("up", callId=call)
    door.do("hangUp", callId=call)
    for peer in (door, kitchen):
        ends(peer, call, "over", "hung up")
    assert door.told_of("ended")["response"] == {"text": "coming"}


def refuse(two: Two) -> None:
    door, kitchen, call = two.ringing()
    kitchen.do("refuse", callId=call, reason="busy")
    for peer in (door, kitchen):
        ends(peer, call, "refused", "busy")


def cancel(two: Two) -> None:
    door, kitchen, call = two.ringing()
    door.do("cancel", callId=call)
    for peer in (door, kitchen):
        ends(peer, call, "canceled", "canceled")


def expire(two: Two) -> None:
    door, kitchen, call = two.ringing(ringTimeout=1)
    for peer in (door, kitchen):
        ends(peer, call, "failed", "expired")


def caller_restarts(two: Two) -> None:
    door, kitchen, call = two.ringing()
    die(door)
    two.caller()
    ends(kitchen, call, "failed", "caller restarted", "caller lost")


def callee_restarts(two: Two) -> None:
    door, kitchen, call = two.ringing(content="still here")
    die(kitchen)
    again = two.callee()
    assert again.told_of("ring", callId=call)["content"] == "still here"
    again.do("accept", callId=call)
    door.told_of("up", callId=call)


def ghost(two: Two) -> None:
    """A dead caller rings nobody: the next call, of one that lives, rings, and it alone."""
    door = two.caller()
    call = door.call("kitchen")
    kitchen = two.callee()
    kitchen.told_of("ring", callId=call)
    die(kitchen)
    die(door)
    kitchen, hall = two.callee(), two.caller("hall")
    living = hall.call("kitchen")
    kitchen.told_of("ring", callId=living)
    kitchen.do("accept", callId=living)
    hall.told_of("up", callId=living)
    assert not kitchen.all("ring", callId=call)


def crossing(two: Two) -> None:
    door, kitchen, one = two.ringing()
    other = kitchen.call("door")
    door.told_of("ring", callId=other)
    door.do("accept", callId=other)
    kitchen.do("accept", callId=one)
    for peer in (door, kitchen):
        for call in (one, other):
            peer.told_of("up", callId=call)


def ring_group(two: Two) -> None:
    kitchen, hall, door = two.callee(), two.callee("hall"), two.caller()
    door.do("group", peers=["kitchen", "hall"])
    here = str(door.told_of("calling", to="kitchen")["callId"])
    there = str(door.told_of("calling", to="hall")["callId"])
    hall.told_of("ring", callId=there)
    kitchen.told_of("ring", callId=here)
    kitchen.do("accept", callId=here)
    door.told_of("up", callId=here)
    for peer in (door, hall):
        ends(peer, there, "canceled", "answered elsewhere")


def newer_login(two: Two) -> None:
    older, newer = two.callee(), two.callee()
    assert older.told_of("over")["state"] == "aborted"
    door = two.caller()
    call = door.call("kitchen")
    newer.told_of("ring", callId=call)
    newer.do("accept", callId=call)
    door.told_of("up", callId=call)
    assert not older.all("ring")


def broker_killed(two: Two) -> None:
    door, kitchen, call = two.ringing()
    two.broker.kill()
    for peer in (door, kitchen):
        peer.told_of("state", state="reconnecting")
    two.broker.start()
    kitchen.do("accept", callId=call)
    for peer in (door, kitchen):
        peer.told_of("up", callId=call)


def talk(two: Two) -> None:
    """Messages go both ways, in order, each once."""
    door, kitchen, call = two.talking()
    messages = [{"n": number, "text": "x" * 50} for number in range(30)]
    for message in messages:
        for peer in (door, kitchen):
            peer.do("say", callId=call, message=message)
    for peer in (door, kitchen):
        peer.told_of("message", nth=len(messages))
        assert [told["message"] for told in peer.all("message")] == messages


def hang_up(two: Two) -> None:
    """What was said before is handled before the end; the end is one, whoever hangs up."""
    door, kitchen, call = two.talking()
    kitchen.do("say", callId=call, message="last words")
    kitchen.do("hangUp", callId=call)
    for peer in (door, kitchen):
        ends(peer, call, "over", "hung up")
    assert [told["message"] for told in door.all("message")] == ["last words"]


def hang_up_crossing(two: Two) -> None:
    door, kitchen, call = two.talking()
    for peer in (door, kitchen):
        peer.do("hangUp", callId=call)
    for peer in (door, kitchen):
        ends(peer, call, "over", "hung up")


def restart_in_call(two: Two) -> None:
    """Of each side: the other is told one end, and the next life knows nothing of the call."""
    door, kitchen, call = two.talking()
    die(kitchen)
    again = two.callee()
    ends(door, call, "over", "restarted", "peer lost")
    second = door.call("kitchen")
    again.told_of("ring", callId=second)
    again.do("accept", callId=second)
    for peer in (door, again):
        peer.told_of("up", callId=second)
    die(door)
    two.caller()
    ends(again, second, "over", "restarted", "peer lost")
    assert not again.all("ring", callId=call)


def broker_killed_in_call(two: Two) -> None:
    """What is said meanwhile is handled once the broker is back; the call goes on."""
    door, kitchen, call = two.talking()
    two.broker.kill()
    for peer in (door, kitchen):
        peer.told_of("state", state="reconnecting")
        peer.do("say", callId=call, message="meanwhile")
    two.broker.start()
    for peer in (door, kitchen):
        peer.told_of("message", callId=call, message="meanwhile")
    kitchen.do("hangUp", callId=call)
    for peer in (door, kitchen):
        ends(peer, call, "over", "hung up")
        assert len(peer.all("message")) == 1


SCENARIOS: dict[str, Callable[[Two], None]] = {
    "accept": accept,
    "refuse": refuse,
    "cancel": cancel,
    "expire": expire,
    "the caller restarts": caller_restarts,
    "the callee restarts": callee_restarts,
    "a dead caller": ghost,
    "calls that cross": crossing,
    "ring group": ring_group,
    "newer login": newer_login,
    "broker killed": broker_killed,
    "talk": talk,
    "hang-up": hang_up,
    "hang-ups that cross": hang_up_crossing,
    "restarts in a call": restart_in_call,
    "broker killed in a call": broker_killed_in_call,
}
