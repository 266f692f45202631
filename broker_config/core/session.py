"""A client's connection and its session: what is on its way to it, what waits, what came from it.

What is sent is put into the link's ``out``, and the link into ``changed``: who does the I/O takes
it from there. What has to be kept is noted in the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from . import packets as mqtt
from .delivery import Burst, Out
from .journal import OWED, Journal
from .limits import BrokerStats, Limits, short, user_of
from .packets import Connect, Frames, Publish, encode_publish
from .retained import Retained

#: Messages sent to one client before others get their turn.
_SENT = 64
#: Bytes that a waiting message takes beside its topic and payload, about.
_OVERHEAD = 200
_ACKNOWLEDGE = frozenset((mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP))
#: How many times ``queued_bytes`` a client may send itself ahead of what it takes.
_OWN = 4


class Shared:
    """What links and sessions have in common."""

    __slots__ = ("changed", "journal", "limits", "stats")

    def __init__(self, limits: Limits, journal: Journal) -> None:
        self.limits = limits
        self.journal = journal
        self.stats = BrokerStats()
        #: Links with something to be done: bytes to send, reading to stop or go on, an end.
        self.changed: list[ClientLink] = []


class ClientLink:
    """One connection. ``peer`` is whatever the I/O needs to find its own end of it."""

    __slots__ = (
        "abort", "address", "aside", "aside_bytes", "closed", "connect", "frames", "gone", "heard",
        "held", "marked", "open", "order", "out", "peer", "reading", "refused", "session",
        "shared", "timer", "unsent", "waits",
    )  # fmt: skip

    def __init__(self, shared: Shared, peer: Any, address: str, now: float) -> None:
        self.shared = shared
        self.peer = peer
        self.address = address
        self.frames = Frames(shared.limits.packet_bytes)
        self.heard = now
        self.connect: Connect | None = None
        #: Which CONNECT of all it was.
        self.order = 0
        self.session: Session | None = None
        self.out: list[bytes] = []
        #: Bytes sent and not yet taken by the other side.
        self.unsent = 0
        #: What may be sent once the journal is kept up to the mark before it.
        self.held: deque[tuple[int, bytes]] | None = None
        #: Why its packets wait: bits of the router's; and those that were read meanwhile.
        self.waits = 0
        self.aside: deque[tuple[int, bytes]] | None = None
        self.aside_bytes = 0
        self.reading = True
        self.open = self.closed = self.abort = self.gone = self.marked = self.refused = False
        self.timer = 0.0

    def __str__(self) -> str:
        who = self.session.client_id if self.session else None
        return f"{short(who)} at {self.address}" if who else f"a client at {self.address}"

    @property
    def unheard(self) -> int:
        """Bytes in which there may be packets that were not handled."""
        return self.frames.ahead + self.aside_bytes

    def next(self) -> tuple[int, bytes] | None:
        """The next packet to handle.

        While it waits that is an acknowledgement, and the others are put aside: two clients that
        wait for each other's would never go on else.
        """
        if not self.waits:
            if self.aside is None:
                return self.frames.next()
            if self.aside:
                frame = self.aside.popleft()
                self.aside_bytes -= len(frame[1]) + _OVERHEAD
                return frame
            self.aside = None
        while (frame := self.frames.next()) is not None and self.waits:  # type: ignore[assignment]
            if frame[0] >> 4 in _ACKNOWLEDGE:
                return frame
            self.aside = self.aside or deque()
            self.aside.append(frame)
            self.aside_bytes += len(frame[1]) + _OVERHEAD
        return frame

    def mark(self) -> None:
        """Have it looked at by who does the I/O."""
        if not self.marked:
            self.marked = True
            self.shared.changed.append(self)

    def send(self, data: bytes) -> None:
        """Send ``data`` now."""
        if not self.marked:
            self.marked = True
            self.shared.changed.append(self)
        self.out.append(data)
        self.unsent += len(data)

    def hold(self, data: bytes, mark: int) -> None:
        """Send ``data`` once the journal is kept up to ``mark``, in order [MQTT-4.6.0-2]."""
        if not self.held:
            if mark <= self.shared.journal.done:
                self.send(data)
                return
            self.held = deque()
        else:
            mark = max(mark, self.held[-1][0])
        self.held.append((mark, data))

    def let_go(self) -> None:
        """Send what was held, as far as the journal is kept."""
        done, held, kept = self.shared.journal.done, self.held, []
        while held and held[0][0] <= done:
            kept.append(held.popleft()[1])
        self.held = held or None
        if kept:
            self.send(b"".join(kept))


class Session:
    """What lives as long as the client wants [MQTT-4.1.0-1]: with its connection, or beyond."""

    __slots__ = (
        "blocked", "bursts", "clean", "client_id", "device", "filters", "gone", "incoming",
        "inflight", "last_id", "last_row", "link", "others", "others_bytes", "own_bytes", "owner",
        "pending", "seen", "shared", "stored", "will",
    )  # fmt: skip

    def __init__(self, shared: Shared, client_id: str, owner: str | None, *, clean: bool) -> None:
        self.shared = shared
        self.client_id = client_id
        #: The user to whom it belongs; None for anonymous ones.
        self.owner = owner
        #: Whose share it takes of: its user, or what its client id names where nobody is known.
        self.device = owner or user_of(client_id)
        self.clean = clean
        #: Whether the journal has it.
        self.stored = False
        self.link: ClientLink | None = None
        #: As whom plugins know it: theirs who ask them.
        self.seen: Any = None
        self.will: Publish | None = None
        #: When it lost its connection.
        self.gone = 0.0
        #: Topic filters with the QoS granted.
        self.filters: dict[str, int] = {}
        #: Sent and not acknowledged, by packet id; received and not released (QoS 2).
        self.inflight: dict[int, Out] = {}
        self.incoming: set[int] | None = None
        self.last_id = 0
        #: The row that was sent last: a restart sends again in the order of the rows.
        self.last_row = 0
        #: What its own SUBSCRIBE called for, and then what was published since (None: nothing).
        self.bursts: deque[Burst] | None = None
        self.pending: deque[Out] | None = None
        #: How much of that others have sent, how much it has itself.
        self.others = self.others_bytes = self.own_bytes = 0
        #: Publishers that wait for room here.
        self.blocked: dict[ClientLink, None] | None = None

    def note(self, operation: str, *values: Any) -> None:
        """Have something about it kept, if it is one that is."""
        if self.stored:
            self.shared.journal.note(operation, self.client_id, *values)

    def _keep(self, out: Out) -> None:
        """Have a message kept until the client has it, if it is owed over a restart."""
        if out.qos and self.stored:
            out.row = self.shared.journal.queue(
                self.client_id, out.topic, out.data, out.qos, int(out.retain)
            )

    def crowded(self, part: float = 1.0) -> bool:
        """Whether that ``part`` of its queue is full."""
        limits = self.shared.limits
        return (
            self.others >= max(1, limits.queued * part)
            or self.others_bytes >= limits.queued_bytes * part
            or self.drowning
        )

    @property
    def drowning(self) -> bool:
        """Whether more waits than publishers who cannot wait may be forgiven for."""
        most = self.shared.limits.queued_bytes * _OWN
        return self.own_bytes >= most or self.others_bytes >= most

    # --- what others publish ------------------------------------------------------------------

    def deliver(self, message: Publish, qos: int, publisher: Session | None) -> bool:
        """Send ``message``, or queue it; whether its publisher should wait."""
        link, shared = self.link, self.shared
        if link is None or not link.open:
            if qos and not self.clean:
                self._put_by(Out(message.topic, message.wire_topic, message.data, qos, False))
            return False
        slow = link.unsent > shared.limits.write_buffer // 2
        if not qos and not self.bursts:
            if slow:
                shared.stats.dropped["slow client, QoS 0"] += 1
            else:
                link.send(encode_publish(message.wire_topic, message.data, 0, 0, retain=False))
                shared.stats.messages_out += 1
            return False
        out = Out(message.topic, message.wire_topic, message.data, qos, False)
        self._keep(out)
        if self.pending or self.bursts or slow or len(self.inflight) >= shared.limits.inflight:
            out.own = self is publisher
            self.put(out)
            return self.crowded()
        self._launch(link, out)
        return False

    def put(self, out: Out) -> None:
        """Have a message wait, behind the others."""
        self.pending = self.pending or deque()
        self.pending.append(out)
        self._count(out, 1)

    def _take(self, pending: deque[Out]) -> Out:
        out = pending.popleft()
        self._count(out, -1)
        if not pending:
            self.pending = None  # an empty deque is 600 bytes
        return out

    def _count(self, out: Out, sign: int) -> None:
        size = sign * (len(out.data) + len(out.wire_topic) + _OVERHEAD)
        if out.own:
            self.own_bytes += size
        else:
            self.others += sign
            self.others_bytes += size

    def _put_by(self, out: Out) -> None:
        """Queue for a session without a connection; the oldest gives way when full."""
        shared, size = self.shared, len(out.data) + len(out.wire_topic) + _OVERHEAD
        while self.pending and (
            self.crowded() or self.others_bytes + size > shared.limits.queued_bytes
        ):
            oldest = self._take(self.pending)
            shared.journal.finish(oldest.row)
            shared.stats.dropped["offline queue full"] += 1
        self._keep(out)
        self.put(out)

    def drop(self, stays: Any) -> None:
        """Forget what waits on topics that ``stays`` says no to."""
        left: deque[Out] = deque()
        for out in self.pending or ():
            if stays(out.topic):
                left.append(out)
                continue
            self._count(out, -1)
            self.shared.journal.finish(out.row)
        self.pending = left or None

    # --- what it subscribed to -----------------------------------------------------------------

    def call_for(
        self,
        topic_filter: str,
        qos: int,
        search: Iterator[Retained | None],
        row: int = 0,
        *,
        asked: bool,
    ) -> None:
        """Send the retained messages of a subscription [MQTT-3.3.1-6], before what comes later."""
        self.bursts = self.bursts or deque()
        for burst in self.bursts:
            if burst.filter == topic_filter and not burst.begun:
                burst.qos = qos  # they are still to come
                self.shared.journal.finish(row)
                return
        if not row and qos and self.stored:
            row = self.shared.journal.queue(self.client_id, topic_filter, b"", qos, OWED)
        self.bursts.append(Burst(topic_filter, qos, search, row, asked=asked))

    def abandon(self, topic_filter: str) -> None:
        """Send no further retained messages of a filter that ended."""
        for burst in list(self.bursts or ()):
            if burst.filter == topic_filter:
                self._end(burst)

    def _end(self, burst: Burst) -> None:
        self.bursts = deque(each for each in self.bursts or () if each is not burst) or None
        self.shared.journal.finish(burst.row)

    # --- the window -----------------------------------------------------------------------------

    def pump(self) -> bool:
        """Send what waits, as far as the client's window reaches; whether to go on later.

        Retained messages that a subscription called for come first, then what others sent since.
        """
        link, limits = self.link, self.shared.limits
        if link is None or not link.open:
            return False
        for _ in range(_SENT):
            room = len(self.inflight) < limits.inflight
            if link.unsent > limits.write_buffer // 2:
                return False
            if self.bursts:
                burst = self.bursts[0]
                if not burst.asked or not burst.look():
                    return burst.asked
                if not burst.found:
                    self._end(burst)
                    continue
                kept = burst.found[0]
                qos = min(burst.qos, kept.qos)
                if qos and not room:
                    return False
                burst.found.popleft()
                if not kept.data:
                    continue  # it was cleared meanwhile, and that is on its way
                out = Out(kept.topic, kept.wire_topic, kept.data, qos, True)  # [MQTT-3.3.1-8]
                self._keep(out)
            elif self.pending and (room or not self.pending[0].qos):
                out = self._take(self.pending)
            else:
                return False
            self._launch(link, out)
        return True

    def _launch(self, link: ClientLink, out: Out) -> None:
        shared = self.shared
        shared.stats.messages_out += 1
        if not out.qos:
            link.hold(encode_publish(out.wire_topic, out.data, 0, 0, retain=out.retain), 0)
            return
        number = self.last_id % 65535 + 1
        while number in self.inflight:
            number = number % 65535 + 1
        self.last_id = number
        self.inflight[number] = out
        data = encode_publish(out.wire_topic, out.data, out.qos, number, retain=out.retain)
        if out.row:
            if out.row < self.last_row:  # it waited for retained messages, which got later rows
                shared.journal.finish(out.row)
                self._keep(out)
            self.last_row = out.row
            shared.journal.note("sent", number, out.row)
        link.hold(data, self._mark(out))

    def _mark(self, out: Out) -> int:
        """Kept before ``out`` is sent: no restart may give a QoS 2 message's id to another."""
        return self.shared.journal.noted if out.row and out.qos == 2 else 0

    def resume(self, link: ClientLink) -> None:
        """Send again, with DUP and the same ids, what was not acknowledged [MQTT-4.4.0-1]."""
        for number, out in self.inflight.items():
            if out.received:
                data = mqtt.encode_ack(mqtt.PUBREL, number)
            else:
                data = encode_publish(
                    out.wire_topic, out.data, out.qos, number, retain=out.retain, dup=True
                )
            link.hold(data, self._mark(out))

    def acknowledged(self, packet_id: int, qos: int) -> None:
        """The client has a QoS 1 message, or has finished a QoS 2 message: forget it."""
        out = self.inflight.get(packet_id)
        if out is None or out.qos != qos:
            self.shared.stats.dropped["acknowledgement of nothing"] += 1
            return
        del self.inflight[packet_id]
        self.shared.journal.finish(out.row)

    def released(self, packet_id: int) -> int:
        """The client has a QoS 2 message: never send it again; the mark for its PUBREL."""
        out = self.inflight.get(packet_id)
        if out is None or out.qos != 2:
            return 0  # the client waits for it all the same, and PUBREL is all that ends that
        out.received = True
        if out.row:
            self.shared.journal.note("released", out.row)
        return self._mark(out)
