"""A peer written from docs/protocol.md alone, with bare paho and cbor2: it calls and is called.

It imports nothing of this project. It shows what another implementation has to do at least; the
numbers in the comments are the protocol's rules.
"""

from __future__ import annotations

import base64
import os
import queue
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import cbor2
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

# Keys and states (Cells).
VERSION, STATE, EPOCH, SEQ, TTL, BODY, REASON, ASK, ASKER = 0, 1, 2, 3, 4, 5, 7, 10, 16
RINGING, INVITE_ACCEPTED, ENDED = 0, 1, 2
RECEIVED, ACCEPTED, REFUSED, FAILED, SEEN = range(5)
CANCELED, EXPIRED, CALLER_RESTARTED = 1, 3, 6
DECLINED, ACCEPT_FAILURE = 1, 4


def escape(peer: str) -> str:
    """A peer id as a topic level (Topics)."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), peer)


def unescape(level: str) -> str:
    """And back."""
    raw = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), level.encode())
    return raw.decode()


@dataclass
class Call:
    """One call, as either end: what my cell says, and whether it still has to be said."""

    peer: str
    call_id: str
    mine: dict[int, Any]
    over: bool = False
    deadline: float = 0.0


class BarePeer:
    """Events come out of :attr:`events` as tuples: name, call id, detail."""

    def __init__(self, me: str, host: str, port: int, realm: str = "sig") -> None:
        self.me, self.realm, self.epoch = me, realm, os.urandom(8)
        self.events: queue.Queue[tuple[str, str, Any]] = queue.Queue()
        self.outgoing: dict[str, Call] = {}
        self.incoming: dict[str, Call] = {}
        self.presences: dict[str, bool | None] = {}
        self._lock = threading.RLock()
        self._settled = self._killed = False
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=escape(me),
            clean_session=True,
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(escape(me))
        self._client.will_set(self._presence(me), self._cell(0), qos=1, retain=True)
        self._client.on_socket_open = lambda _c, _u, sock: sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._client.connect(host, port, keepalive=15)
        self._client.loop_start()

    # --- topics and cells ------------------------------------------------------------------

    def _presence(self, peer: str) -> str:
        return f"{self.realm}/v1/{escape(peer)}/presence"

    def _topic(self, kind: str, peer: str, call_id: str) -> str:
        return f"{self.realm}/v1/{escape(peer)}/{kind}/{escape(self.me)}/{call_id}"

    def _cell(self, state: int, **fields: Any) -> bytes:
        cell = {VERSION: 1, STATE: state, EPOCH: self.epoch}
        cell |= {int(key[1:]): value for key, value in fields.items()}
        return cbor2.dumps(dict(sorted(cell.items())))

    def _say(self, kind: str, call: Call, asker: bytes | None = None, **changes: Any) -> None:
        call.mine[SEQ] = call.mine.get(SEQ, 0) + 1
        call.mine |= {int(key[1:]): value for key, value in changes.items()}
        cell = dict(call.mine)
        if kind == "invite" and cell[STATE] == RINGING:
            cell[TTL] = max(0, round((call.deadline - time.monotonic()) * 1000))
            if asker is not None:
                cell[ASKER] = asker
        payload = self._cell(cell.pop(STATE), **{f"k{k}": v for k, v in cell.items()})
        self._client.publish(self._topic(kind, call.peer, call.call_id), payload, 1, True)

    def _clear(self, kind: str, call: Call) -> None:
        self._client.publish(self._topic(kind, call.peer, call.call_id), b"", 1, True)
        call.over = True

    # --- connecting ------------------------------------------------------------------------

    def _connected(self, *_: Any) -> None:
        own, out = self._presence(self.me), f"{self.realm}/v1/+"
        self._outbox = [f"{out}/{kind}/{escape(self.me)}/+" for kind in ("invite", "answer")]
        self._settled = False  # Connecting 1, on every connection: simpler, and as right
        self._client.subscribe([(topic, 1) for topic in (own, *self._outbox)])
        self._client.publish(own, self._cell(1), 1, True)

    def _settle(self) -> None:
        self._settled = True  # Connecting 2
        self._client.unsubscribe(self._outbox)
        base = f"{self.realm}/v1/{escape(self.me)}"
        self._client.subscribe([(f"{base}/invite/+/+", 1), (f"{base}/answer/+/+", 1)])
        for kind, calls in (("invite", self.outgoing), ("answer", self.incoming)):
            for call in calls.values():
                if not call.over:
                    self._say(kind, call)
        self.events.put(("ready", "", None))

    # --- what the app does -----------------------------------------------------------------

    def call(self, callee: str, content: Any = None, ring_timeout: float = 60) -> str:
        """Caller 1."""
        call_id = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()
        with self._lock:
            call = Call(callee, call_id, {STATE: RINGING}, False, time.monotonic() + ring_timeout)
            if content is not None:
                call.mine[BODY] = content
            self.outgoing[call_id] = call
            self._client.subscribe(self._presence(callee), 1)
            self._say("invite", call)
        return call_id

    def cancel(self, call_id: str) -> None:
        """Caller 3: decided once, so only while it rings."""
        self._decide(self.outgoing[call_id], ENDED, CANCELED)

    def _decide(self, call: Call, state: int, reason: int | None = None) -> None:
        with self._lock:
            if not call.over and call.mine[STATE] == RINGING:
                self._say("invite", call, k1=state, **({"k7": reason} if reason else {}))

    def accept(self, call_id: str, response: Any = None) -> None:
        """Callee 3."""
        with self._lock:
            body = {} if response is None else {"k5": response}
            self._say("answer", self.incoming[call_id], k1=ACCEPTED, **body)

    def refuse(self, call_id: str, reason: int = DECLINED) -> None:
        """Callee 4."""
        with self._lock:
            self._say("answer", self.incoming[call_id], k1=REFUSED, k7=reason)

    def logout(self) -> None:
        """Presence offline, then DISCONNECT."""
        if self._killed or not self._client.is_connected():
            return
        said = self._client.publish(self._presence(self.me), self._cell(0), 1, True)
        said.wait_for_publish(5)
        self._client.disconnect()
        self._client.loop_stop()

    def kill(self) -> None:
        """Break the connection, so that the broker publishes the will."""
        self._killed = True
        self._client.socket().shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    # --- what comes in ---------------------------------------------------------------------

    def _message(self, _client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        _, _, owner, kind, *rest = message.topic.split("/")
        try:
            cell = cbor2.loads(message.payload) if message.payload else None
            if cell is not None and cell[VERSION] != 1:
                return
        except Exception:  # noqa: BLE001 - whatever it is, it is no cell
            return
        with self._lock:
            if kind == "presence":
                self._heard_presence(unescape(owner), cell, message.retain)
            elif owner != escape(self.me):
                self._found(unescape(owner), kind, rest[1], cell)
            elif kind == "invite":
                self._invited(unescape(rest[0]), rest[1], cell, message.retain)
            elif cell is not None:
                self._answered(unescape(rest[0]), rest[1], cell)

    def _heard_presence(self, peer: str, cell: Any, retained: bool) -> None:
        if peer != self.me:
            self.presences[peer] = cell and bool(cell[STATE])
            self.events.put(("presence", peer, self.presences[peer]))
        elif cell and cell[EPOCH] == self.epoch and cell[STATE] == 1:
            if not retained and not self._settled:
                self._settle()
        elif not retained:
            self._client.publish(self._presence(self.me), self._cell(1), 1, True)

    def _found(self, peer: str, kind: str, call_id: str, cell: Any) -> None:
        if cell is None or cell[EPOCH] == self.epoch or kind != "invite":
            return  # of an answer the caller is asked when its invite comes, retained
        call = Call(peer, call_id, {k: v for k, v in cell.items() if k in (STATE, SEQ, REASON)})
        self.outgoing[call_id] = call  # Caller 7
        if call.mine[STATE] == RINGING:
            self._say("invite", call, k1=ENDED, k7=CALLER_RESTARTED)

    def _answered(self, peer: str, call_id: str, cell: Any) -> None:
        state = cell[STATE]
        call = self.outgoing.get(call_id)
        if call is None:  # Caller 6
            call = Call(peer, call_id, {STATE: ENDED, REASON: CALLER_RESTARTED}, over=True)
            (self._clear if state >= REFUSED else self._say)("invite", call)
            return
        if call.over:
            return
        before = call.mine[STATE]
        if before == RINGING:
            self.events.put(("received by peer", call_id, None))
        if state >= REFUSED:  # Caller 5
            self._clear("invite", call)
            self.events.put(
                (("refused", "failed", "seen")[state - REFUSED], call_id, cell.get(REASON))
            )
        elif state == ACCEPTED and before == RINGING:
            self._decide(call, INVITE_ACCEPTED)
            self.events.put(("accepted", call_id, cell.get(BODY)))
        elif cell.get(ASK):
            self._say("invite", call, cell[EPOCH])  # Caller 6

    def _invited(self, peer: str, call_id: str, cell: Any, retained: bool) -> None:
        call = self.incoming.get(call_id)
        if cell is None:  # Callee 5 and 7
            if call and not call.over:
                self._clear("answer", call)
                self.events.put(("cleared", call_id, None))
            return
        known = call is not None and call.mine[STATE] != RECEIVED
        if call is None:
            call = self.incoming[call_id] = Call(peer, call_id, {STATE: RECEIVED})
        final = call.mine[STATE] >= REFUSED
        if final or (known and cell[STATE] == RINGING):
            self._say("answer", call)
        elif cell[STATE] == RINGING:
            # Callee 1, and What a small peer may leave out (b): it always asks.
            live = not retained and cell[TTL] > 0 and cell.get(ASKER) == self.epoch
            rang = call.deadline > 0
            if live:
                call.deadline = time.monotonic() + cell[TTL] / 1000 + 2
            self._say("answer", call, k10=not live)
            if live and not rang:
                self.events.put(("ringing", call_id, (peer, cell.get(BODY))))
        elif cell[STATE] == ENDED:
            self._say("answer", call, k1=SEEN, k10=False)
            self.events.put(("ended" if call.deadline else "missed", call_id, cell.get(REASON)))
        elif known:
            self._say("answer", call, k1=SEEN, k10=False)
            self.events.put(("connected", call_id, None))
        else:
            self._say("answer", call, k1=FAILED, k7=ACCEPT_FAILURE)
