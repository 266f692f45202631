"""A call is brought into the state in which the fault is to find it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from device_sdk.core.wire import codec
from device_sdk.core.wire.cells import Answer, AnswerState, Invite, InviteState
from tests.faults.faults import ENDS, TALKS
from tests.faults.inject import Injecting
from tests.faults.process import ProcessPeer
from tests.faults.stage import ATTEMPTS, SETUP
from tests.peers import Peer
from tests.proxy import CONNECT, DOWN, PUBLISH, UP, Proxy

STEP = 8.0
DECODE: dict[str, Callable[[bytes], Invite | Answer]] = {
    "invite": codec.decode_invite,
    "answer": codec.decode_answer,
}
MESSAGE = "with a message"


class Reaching(Injecting):
    """A stage that gets into its state: what is lost on the way is lost from there."""

    def _into_the_state(self, stack: contextlib.ExitStack) -> None:
        """Reach the state; on a machine with more to do a held link may break before: try again."""
        for self.attempt in range(ATTEMPTS):
            with contextlib.ExitStack() as this_time:
                try:
                    self._set_up(this_time)
                    self._reach()
                except Exception:
                    if self.attempt < ATTEMPTS - 1:
                        self.injected_at = None
                        continue
                    if self.world.meet is not None:
                        with contextlib.suppress(threading.BrokenBarrierError):
                            self.world.meet.wait(SETUP * 4)  # the others shall not wait for ever
                    raise
                stack.push(this_time.pop_all())
                return

    def _log_in(self, *ends: str) -> None:
        for end in ends:
            self.peer[end].login(SETUP)

    def _act(self, end: str, action: Callable[[], Any], seen: Callable[[], None]) -> None:
        """The step into the state, by ``end``; a publish that gets lost is lost from here."""
        if self.fault.name == "lost-up" and self.end == end:
            self._inject()
            action()
            self.proxy[end].wait(lambda p: bool(p.swallowed), "a lost publish", SETUP)
        else:
            action()
            seen()

    def _held(self, end: str, said: InviteState | AnswerState | str) -> Callable[[], None]:
        """Waits until the proxy of ``end`` has a cell for it in that state, or with a message.

        Not only one more publish: a cell may be said again (an ``ask``) before it goes on.
        """
        name = "answer" if end == "caller" else "invite"

        def there(proxy: Proxy) -> bool:
            for direction, packet in list(proxy.packets):
                if (direction, packet.kind) != (DOWN, PUBLISH) or not packet.payload:
                    continue
                if packet.topic.split("/")[3] != name:
                    continue
                cell: Invite | Answer = DECODE[name](packet.payload)
                if cell.state == said or (
                    said == MESSAGE and cell.talk is not None and cell.talk.count > 0
                ):
                    return True
            return False

        what = f"{name} {getattr(said, 'name', said)} at the proxy of the {end}"
        return lambda: self.proxy[end].wait(there, what, STEP)

    def _ring(self) -> None:
        self._press()
        self.theirs = self._rings(SETUP)
        self.caller.expect("local_invitation_received_by_peer", self.call.call_id, timeout=SETUP)

    @property
    def _says(self) -> str:
        """Who says the message that is underway, or hangs up."""
        return self.end if self.end != "both" else ENDS[self.number % 2]

    def _reach_talk(self) -> None:
        """A call that goes on; in it something of the end's is held before the other."""
        self._ring()
        self.callee.accept(self.theirs)
        self._held("caller", AnswerState.TALKING)()  # before that it has only accepted
        self.talks = {
            end: self.peer[end].expect("call_started", self.call.call_id, timeout=SETUP).args[0]
            for end in ENDS
        }
        if self.state == "in a call":
            return
        says, call = self._says, self.talks[self._says]
        other = ENDS[1 - ENDS.index(says)]
        self.proxy[other].hold(DOWN)
        if self.state == "message underway":
            said: InviteState | AnswerState | str = MESSAGE
        else:
            said = InviteState.OVER if says == "caller" else AnswerState.OVER

        def action() -> None:
            if self.state == "hanging up":
                self.peer[says].hang_up(call)
                # What is killed next has told its own end before.
                self.peer[says].expect("call_ended", self.call.call_id, timeout=SETUP)
            else:
                self.peer[says].send_message(call, "underway")

        self._act(says, action, self._held(other, said))

    def _reach(self) -> None:
        caller, callee = self.proxy["caller"], self.proxy["callee"]
        match self.state:
            case "logging in":
                end = self.end if self.end != "both" else ENDS[self.number % 2]
                other = ENDS[1 - ENDS.index(end)]
                self._log_in(other)
                self.proxy[end].hold(DOWN)
                self.logging_in = threading.Thread(
                    target=self._log_in_anyhow, args=(self.peer[end],), daemon=True
                )
                if not isinstance(self.peer[end], ProcessPeer):
                    self.logging_in.start()
                else:
                    self.peer[end].tell("login")
                self.proxy[end].wait(lambda p: p.came[UP, CONNECT] > 0, "CONNECT", SETUP)
                return
            case "probing":
                self._log_in("caller")
                self._press()
                caller.wait(lambda p: p.came[DOWN, 4] >= 2, "the broker's PUBACKs", SETUP)
                caller.hold(DOWN)
                if self.fault.dies and self.end == "caller":
                    # Unheard it says again that it rings: a living caller, and so a ring.
                    caller.hold(UP)
                self._act(
                    "callee",
                    lambda: self._log_in("callee"),
                    self._held("caller", AnswerState.RECEIVED),
                )
                return
        self._log_in("caller", "callee")
        if self.state in TALKS:
            self._reach_talk()
            return
        match self.state:
            case "sent, unseen":
                callee.hold(DOWN)
                self._act("caller", self._press, self._held("callee", InviteState.RINGING))
            case "ringing":
                self._ring()
            case "accepting":
                self._ring()
                caller.hold(DOWN)
                self._act(
                    "callee",
                    lambda: self.callee.accept(self.theirs),
                    self._held("caller", AnswerState.ACCEPTED),
                )
            case "accepted, unseen":
                self._ring()
                callee.hold(DOWN)

                def accept() -> None:
                    self.callee.accept(self.theirs)
                    self.caller.expect(
                        "local_invitation_accepted", self.call.call_id, timeout=SETUP
                    )

                self._act("caller", accept, self._held("callee", InviteState.ACCEPTED))
            case "refused, uncleared":
                self._ring()
                caller.hold(DOWN)

                def refuse() -> None:
                    self.callee.refuse(self.theirs)
                    self.callee.expect(
                        "remote_invitation_refused", self.call.call_id, timeout=SETUP
                    )

                self._act("callee", refuse, self._held("caller", AnswerState.REFUSED))
            case "canceled, unseen":
                self._ring()
                callee.hold(DOWN)

                def cancel() -> None:
                    self.caller.cancel(self.call)
                    self.caller.expect(
                        "local_invitation_canceled", self.call.call_id, timeout=SETUP
                    )

                self._act("caller", cancel, self._held("callee", InviteState.ENDED))

    def _log_in_anyhow(self, peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            peer.login(SETUP, keep_trying=True)
