"""What comes of it: people go on, and in the end all of it is as the protocol says.

Nothing may ring twice in one life of a callee, no side may be told two ends, both ends have to
agree, every cell of the call has to be cleared, and the next press has to ring.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from typing import Any

from device_sdk.errors import InvitationApiCallError
from tests.faults.expected import expected, expected_talk
from tests.faults.faults import ENDS, TALKS
from tests.faults.inject import WRITES
from tests.faults.process import ProcessPeer
from tests.faults.registered import RegisteredBroker
from tests.faults.stage import SETUP
from tests.faults.states import Reaching
from tests.peers import Heard, ThreadedPeer
from tests.proxy import PINGREQ, UP, Proxy

LOCAL_ENDS = {
    "local_invitation_accepted": "ACCEPTED",
    "local_invitation_refused": "REFUSED",
    "local_invitation_canceled": "CANCELED",
    "local_invitation_failure": "FAILURE",
}
REMOTE_ENDS = {
    "remote_invitation_accepted": "ACCEPTED",
    "remote_invitation_refused": "REFUSED",
    "remote_invitation_canceled": "CANCELED",
    "remote_invitation_failure": "FAILURE",
}
#: So often one cell that is not taken closes the link: once, then at each of two trials. A caller's
#: is said once more when an answer to it comes ("What the broker does not take", 4): all again.
CLOSES = {"caller": 6, "callee": 3}
RINGS_IF_AT_ALL = 6.0


class Judging(Reaching):
    """A stage on which the call is seen to its end."""

    def _go_on(self) -> None:
        """What the people at both ends do next."""
        if self.state in TALKS:
            self._go_on_talking()
            return
        if self.state in ("logging in", "idle") and self.call is None:
            if self.state == "logging in":
                for peer in self.peer.values():
                    if isinstance(peer, ProcessPeer):
                        if not self.fault.dies:
                            peer.done(self.left)
                    else:
                        peer.expect_state("CONNECTED", timeout=self.left)
            self._press()
        caller_dead = self.fault.dies and self.end == "caller"
        here = self.state in ("logging in", "idle")
        if self.state == "ringing":
            if self.fault.name in ("killed", "taken-over") and self.end == "callee":
                self.theirs = self._rings(self.left)  # again, in its next life
            if not caller_dead and self.fault.name != "removed":
                self.callee.accept(self.theirs)
        elif self.fault.name == "removed":
            pass  # nobody is called, or heard, any more
        elif self.fault.name == "kills-always":
            if here or self.state in ("sent, unseen", "probing"):
                self._accept_if_it_rings()
        elif here or (self.state in ("sent, unseen", "probing") and not caller_dead):
            self.callee.accept(self._rings(self.left))
        want_caller, want_callee = expected(self.fault.name, self.state, self.end)
        for end, want, outcome in (
            ("caller", want_caller, self._caller_outcome),
            ("callee", want_callee, self._callee_outcome),
        ):
            heard: Heard = self.peer[end].heard

            def settled(_told: Any, want: set[str] = want, outcome: Any = outcome) -> bool:
                return outcome() in want

            what = f"{end} ends as {sorted(want)}"
            heard.wait_until(settled, self.left, what)
        assert self.injected_at is not None
        self.result.seconds = time.monotonic() - self.injected_at

    def _go_on_talking(self) -> None:
        """Where the call has outlived the fault both say something, and the other end hangs up."""
        gone = self.fault.dies or self.fault.name == "removed"
        if not gone and self.state != "hanging up":
            for end in ENDS:
                self.peer[end].send_message(self.talks[end], f"of the {end}")
            for end, other in (ENDS, ENDS[::-1]):
                said = ["underway"] * (self.state == "message underway" and self._says == other)
                said.append(f"of the {other}")
                wait = self.peer[end].heard.wait_until
                wait(lambda _told, e=end, s=said: self._messages(e) == s, self.left, f"{said}")
            other = ENDS[1 - ENDS.index(self._says)]
            self.peer[other].hang_up(self.talks[other])
        want = expected_talk(self.fault.name, self.state, self.end)
        wanted = dict(zip(ENDS, want, strict=True))
        while not all(self._talk_end(end) in wanted[end] for end in ENDS):
            found = {end: self._talk_end(end) for end in ENDS}
            assert self.left > 0.01, f"the call is over as {found}, not {wanted}"
            threading.Event().wait(0.02)  # of two lives there is no one place that tells of both
        assert self.injected_at is not None
        self.result.seconds = time.monotonic() - self.injected_at

    def _messages(self, end: str) -> list[Any]:
        told = [t for life in self._lives(end) for t in life.told]
        return [t.args[1] for t in told if t.name == "call_message"]

    def _talk_end(self, end: str) -> str:
        told = [t for life in self._lives(end) for t in life.told]
        return " and ".join(str(t.args[0].reason) for t in told if t.name == "call_ended") or "-"

    def _check_talk(self) -> None:
        """One end as expected, nothing after it or twice, and nothing of it in a next life."""
        want = expected_talk(self.fault.name, self.state, self.end)
        for end, reasons in zip(ENDS, want, strict=True):
            assert self._talk_end(end) in reasons, f"{end}: {self._talk_end(end)}"
            assert len(set(self._messages(end))) == len(self._messages(end)), self._messages(end)
            lives = [life.names(self.call.call_id) for life in self._lives(end)]
            assert "call_ended" not in lives[0][:-1], f"{end}: told after the end: {lives}"
            assert not any(name.startswith("call_") for life in lives[1:] for name in life), lives

    def _accept_if_it_rings(self) -> None:
        """It need not, and may be over again before it is accepted."""
        with contextlib.suppress(AssertionError, InvitationApiCallError):
            self.callee.accept(self._rings(RINGS_IF_AT_ALL))

    def _lives(self, end: str) -> list[Heard]:
        peer = self.peer[end]
        if self.fault.name == "taken-over" and end == self.end:
            return [self.older.heard, peer.heard]
        return peer.lives if isinstance(peer, ProcessPeer) else [peer.heard]

    def _caller_outcome(self) -> str:
        names = [n for life in self._lives("caller") for n in life.names(self.call.call_id)]
        ends = [LOCAL_ENDS[n] for n in names if n in LOCAL_ENDS]
        lost = " + lost" if "local_invitation_peer_lost" in names else ""
        return (" and ".join(ends) or "-") + lost

    def _callee_outcome(self) -> str:
        names = [n for life in self._lives("callee") for n in life.names(self.call.call_id)]
        ends = [REMOTE_ENDS[n] for n in names if n in REMOTE_ENDS]
        if "missed_call" in names:
            ends.append("MISSED")
        return " and ".join(ends) or "-"

    def _check(self) -> None:
        """Nothing is left, nothing came twice, and everything works again."""
        if self.fault.name in ("blocks", "raises"):
            self._check_keep_alive()
        if self.fault.name == "kills-always":
            # What may not be said may not be cleared: that has to wait for the end's next login.
            self._check_forbidden()
        else:
            self.standing.until_none(30, self._find)
        if self.state in TALKS:
            self._check_talk()
        want_caller, want_callee = expected(self.fault.name, self.state, self.end)
        assert self._caller_outcome() in want_caller, f"caller: {self._caller_outcome()}"
        assert self._callee_outcome() in want_callee, f"callee: {self._callee_outcome()}"
        for life in self._lives("callee"):
            rings = life.names(self.call.call_id).count("remote_invitation_received")
            assert rings <= 1, f"rang {rings} times in one life: {life.told}"
        # What was killed after its end was told: no ring of that call in a life after it.
        if self.fault.name == "killed" and self.end == "callee" and "refused" in self.state:
            assert not self._lives("callee")[-1].names(self.call.call_id)
        if isinstance(self.world.broker, RegisteredBroker):
            self._register_again(self.world.broker)
        again = self.caller.press(self.callee.peer_id)
        told = self.callee.expect("remote_invitation_received", again.call_id, timeout=20)
        self.callee.refuse(told.invitation)
        self.caller.expect("local_invitation_refused", again.call_id, timeout=20)

    def _register_again(self, broker: RegisteredBroker) -> None:
        """Who was not removed kept its link all the time; a new device of the old name gets in."""
        other = ENDS[1 - ENDS.index(self.end)]
        assert self.proxy[other].accepted == 1, f"connected {self.proxy[other].accepted} times"
        old = self.peer[self.end]
        old.logout()
        broker.add(old.peer_id)
        new = ThreadedPeer(
            old.peer_id,
            self.proxy[self.end].url,
            realm=self.world.realm,
            password=broker.secrets[old.peer_id],
            **self.timers,
        )
        self.more.callback(self._log_out, new)
        new.login(SETUP, keep_trying=True)
        self.peer[self.end] = new
        self.caller, self.callee = self.peer["caller"], self.peer["callee"]

    def _check_forbidden(self) -> None:
        """The link holds; what is forbidden fails, alone; once it is allowed, the next rings."""
        proxy = self.proxy[self.end]
        self.peer[self.end].expect_state("CONNECTED")
        # First what the call before left to say: each close makes the next connection wait longer.
        self._check_link_holds(proxy)
        if self.end == "caller":
            refused = self.caller.press(self.callee.peer_id)
            told = self.caller.expect("local_invitation_failure", refused.call_id, timeout=20)
            assert str(told.invitation.reason) == "not allowed", told.invitation.reason
            assert not self.callee.names(refused.call_id)
        self._check_link_holds(proxy)
        proxy.forbid(WRITES[self.end], 0)

    def _check_link_holds(self, proxy: Proxy) -> None:
        """No cell closes the link more than :data:`CLOSES` times; then the link holds."""
        deadline = time.monotonic() + SETUP
        while True:
            before = len(proxy.killed)
            threading.Event().wait(3 * self.timers["resend_max"])  # that nothing comes takes time
            if len(proxy.killed) == before:
                break
            assert time.monotonic() < deadline, f"closed on and on: {proxy.killed}"
        for topic, times in Counter(proxy.killed).items():
            assert times <= CLOSES[self.end], f"{topic} closed the link {times} times"

    def _check_keep_alive(self) -> None:
        """While the listener blocks, or after it raised, the link is kept as before."""
        proxy = self.proxy[self.end]
        wanted = 5 if self.fault.name == "blocks" else 2  # five: it blocks for 10 s
        proxy.wait(lambda p: p.came[UP, PINGREQ] >= self.pings + wanted, "pings", 20)
        assert proxy.accepted == 1, f"connected {proxy.accepted} times"

    def _find(self, left: list[str]) -> None:
        """What NATS gives out though it was cleared ends as it does for anybody (docs/brokers.md).

        Its owner finds it at the next connection and says so, and it is cleared again.
        """
        if self.world.broker.name != "nats":
            return
        # Twice in a row, with nothing said of it since: else it is on its way.
        before, self.given_out = self.given_out, set() if self.standing.followed() else set(left)
        again = before & self.given_out
        self.result.given_out = max(self.result.given_out, len(again))
        for end in {"callee" if "/invite/" in topic else "caller" for topic in again}:
            way = self.newer_way if end == self.end else None
            (way or self.proxy[end]).reset()
