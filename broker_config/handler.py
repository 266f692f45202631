"""One client's connection: amqtt's protocol handler with its message flows mended.

amqtt runs about seven tasks for each QoS 1 message. Here a connection is one task: it reads what
has come, cuts it into packets and handles them in the order they came [MQTT-4.6.0-2]. Nothing in
it waits for another client: what is sent goes into a buffer that the broker flushes once in each
turn of the event loop, and what does not fit a client's window waits in its session. While it has
to wait all the same (a rate, a receiver whose queue is full), it reads on and takes
acknowledgements: two clients that wait for each other would otherwise never go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from amqtt.errors import AMQTTError, MQTTError
from amqtt.events import MQTTEvents
from amqtt.mqtt.connack import UNACCEPTABLE_PROTOCOL_VERSION, ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.constants import QOS_0, QOS_1, QOS_2
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.packet import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
)
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler, Subscription, UnSubscription
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from amqtt.session import (
    ApplicationMessage,
    IncomingApplicationMessage,
    OutgoingApplicationMessage,
    Session,
)
from amqtt.utils import gen_client_id

from .adapters import Reader, Writer
from .limits import Allowance
from .seldom import short
from .session import Burst, Outgoing, SignalingSession
from .wire import (
    OVERSIZE,
    Frame,
    FrameBuffer,
    Packet,
    ProtocolViolation,
    UnsupportedProtocol,
    decode,
    encode_ack,
    encode_publish,
    encode_topic,
)

if TYPE_CHECKING:
    from .keeping import KeepingBroker

logger = logging.getLogger(__name__)

_PINGRESP = b"\xd0\x00"
#: Packets handled before other clients get their turn.
_TURN = 32
#: Messages sent from a queue, or places looked at for retained ones times 8, before others do.
_SLICE = 16
#: Seconds until a client is looked at again that has not taken what was written to it.
_LOOK = 0.05
#: Bytes read ahead while the connection's own turn waits for something.
_AHEAD = 1 << 20
#: Bytes that a packet read ahead takes beside its own.
_FRAME = 100
_ACKNOWLEDGE = frozenset((PUBACK, PUBREC, PUBCOMP))
#: The most that a subscription's retained messages count against its device's rate.
_BURST_COSTS = 250.0
#: What one message may have in bytes to count once against its device's rate.
_COSTS_ONE = 4096

T = TypeVar("T")


def _done(loop: asyncio.AbstractEventLoop, result: object) -> asyncio.Future[Any]:
    """A future that is already there: amqtt's broker methods take what they handle as one."""
    future: asyncio.Future[Any] = loop.create_future()
    future.set_result(result)
    return future


class Ended(Exception):
    """The connection ended before it was one; nothing is to be said to the client."""


class SignalingHandler(BrokerProtocolHandler):
    """The server's side of one connection (MQTT 3.1.1, chapters 3 and 4).

    Methods with amqtt's names replace amqtt's; those that amqtt has as coroutines stay coroutines
    but never wait for the network.
    """

    # amqtt's constructor is not called: it makes an event, a lock, two queues and four
    # dictionaries for each connection, none of which is used here.
    def __init__(self, broker: KeepingBroker) -> None:
        self.broker = broker
        self.plugins_manager = broker.plugins_manager
        self.logger = logger
        self.session: SignalingSession | None = None
        self.reader: Any = None
        self.writer: Any = None
        self._loop = broker.loop
        self._keepalive_task: asyncio.TimerHandle | None = None
        self.keepalive_timeout = None
        self.last_received = 0.0
        self.closed = False
        #: The DISCONNECT of a clean end; without it the will is published [MQTT-3.1.2-8].
        self.disconnect: DisconnectPacket | None = None
        self.address = ""
        self._packets = FrameBuffer(broker.limits.packet_bytes)
        #: What was read ahead and is to be handled before anything else.
        self._later: deque[Frame] = deque()
        self._later_bytes = 0
        self._eof = False
        #: Done when the connection ends; only while something is waited for.
        self._closing: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._looking: asyncio.TimerHandle | None = None
        #: Acknowledgements that wait for a commit, in the order of their packets.
        self._unacknowledged: deque[tuple[int, bytes]] = deque()
        self._relief: asyncio.Future[None] | None = None
        self._allowance: Allowance | None = None

    def __str__(self) -> str:
        who = self.session.client_id if self.session else None
        return f"{short(who)} at {self.address}" if who else f"a client at {self.address}"

    # --- the connection -----------------------------------------------------------------------

    async def read_connect(self, reader: Reader, writer: Writer) -> SignalingSession:
        """The session that the client's CONNECT asks for; the first half of `init_from_connect`.

        Raises :class:`Ended` when nothing came, MQTTError when the first packet is no good
        CONNECT; a client of another protocol version has then been told [MQTT-3.1.2-2].
        """
        self.reader = reader
        while (frame := self._packets.cut()) is None:
            data = await reader.read_some()
            if not data:
                raise Ended("nothing said")
            if not len(self._packets) and data[0] >> 4 != CONNECT:
                # Said at once: what follows may be no MQTT at all, and its "length" never come.
                raise ProtocolViolation("[MQTT-3.1.0-1] the first packet is no CONNECT")
            self._packets.feed(data)
        try:
            connect = decode(*frame)
        except UnsupportedProtocol:
            writer.write(ConnackPacket.build(0, UNACCEPTABLE_PROTOCOL_VERSION).to_bytes())
            raise
        if not isinstance(connect, ConnectPacket):  # pragma: no cover - decode() gives just that
            raise ProtocolViolation("no CONNECT")
        await self.broker.fire(MQTTEvents.PACKET_RECEIVED, packet=connect)
        session = SignalingSession()
        session.client_id = connect.client_id
        session.clean_session = connect.clean_session_flag
        session.will_flag = connect.will_flag
        session.will_retain = connect.will_retain_flag
        session.will_qos = connect.will_qos
        session.will_topic = connect.will_topic
        session.will_message = connect.will_message
        session.username = connect.username
        session.password = connect.password
        session.keep_alive = connect.keep_alive
        session.remote_address = self.address
        session.ssl_object = writer.get_ssl_info()
        if not session.client_id and session.clean_session:
            # [MQTT-3.1.3-6]; made of the user's name where clients are bound to their users.
            session.client_id = gen_client_id()
            session.attributes["bellwire.generated_id"] = True
        return session

    def attach(self, session: Session, reader: Any, writer: Any) -> None:
        """Give the connection its session."""
        if not isinstance(session, SignalingSession):
            raise TypeError("a SignalingHandler serves SignalingSessions")
        self.session = session
        self.reader = reader
        self.writer = writer
        session.handler = self
        self._allowance = self.broker.allowance(session)
        self._packets.dropped = self.broker.limits.packet_bytes_dropped
        reader.allow(self.broker.limits.packet_bytes_dropped)

    async def start(self) -> None:
        """Watch the keep-alive and send again what a former connection left open."""
        assert self.session is not None  # noqa: S101 - attached before it is started
        self.last_received = self._loop.time()
        if self.session.keep_alive > 0:
            self._keepalive_task = self._loop.call_later(
                self.session.keep_alive * 1.5, self.handle_read_timeout
            )
        await self._retry_deliveries()

    async def stop(self) -> None:
        """End the connection; does not wait for the client."""
        self.end("stopped")

    def end(self, cause: str, *, abort: bool = False) -> None:
        """Close the connection now, counted by ``cause``; its task then finishes by itself.

        Never raises: what a transport does in its end is nobody else's matter.
        """
        if self.closed:
            return
        try:
            self.flush()
        except Exception:  # it is at an end in any case
            logger.debug("%s could not be sent its last words", self, exc_info=True)
        self.closed = True
        if cause:
            self.broker.stats.cut[cause] += 1
        if self._keepalive_task is not None:
            self._keepalive_task.cancel()
            self._keepalive_task = None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(None)
        self._relieve()
        if self.writer is not None:
            try:
                self.writer.end(abort=abort)
            except Exception:  # a transport that cannot even be closed
                logger.exception("%s could not be closed", self)
                self.broker.stats.cut["error"] += 1

    def over(self) -> bool:
        """Whether the connection has ended, possibly while its task waited for something."""
        return self.closed

    def handle_read_timeout(self) -> None:
        """Cut the client off when nothing came for 1.5 times its keep-alive [MQTT-3.1.2-24]."""
        if self.closed or self.session is None:
            return
        due = self.last_received + self.session.keep_alive * 1.5
        if self._loop.time() < due:
            self._keepalive_task = self._loop.call_at(due, self.handle_read_timeout)
            return
        self.broker.stats.keepalive_timeouts += 1
        logger.info("nothing from %s within 1.5 times its keep-alive; cut off", self)
        self.end("keep-alive", abort=True)

    async def _reader_loop(self) -> None:
        """Handle the client's packets in the order they come, until the connection ends."""
        turn = 0
        while not self.closed:
            frame = self._later.popleft() if self._later else self._packets.cut()
            if frame is not None:
                await self._handle_packet(frame)
                turn += 1
                if turn >= _TURN:
                    turn = 0
                    await asyncio.sleep(0)
                continue
            self._later_bytes = 0
            if self._eof or not await self._read():
                return
            turn = 0

    async def _read(self) -> int:
        """Read what has come; gives its length, 0 at the end."""
        data = await self.reader.read_some()
        if not data:
            self._eof = True
            return 0
        self.last_received = self._loop.time()
        self.broker.stats.bytes_in += len(data)
        self._packets.feed(data)
        return len(data)

    async def meanwhile(
        self, waiting: Coroutine[Any, Any, T], *, abandon: bool = False
    ) -> T | None:
        """Wait for something, and read on: acknowledgements are taken, the rest is for later.

        Gives up and returns None when the connection is ended. ``abandon``: raises
        :class:`Ended` then, and as soon as the client has gone.
        """
        task = self._loop.create_task(waiting)
        self._closing = self._loop.create_future()
        reading: asyncio.Task[int] | None = None
        try:
            while not task.done():
                if abandon and (self._eof or self.closed):
                    raise Ended("gone before it was let in")
                if self.closed:
                    return None
                if reading is None and not self._eof and self._later_bytes < _AHEAD:
                    reading = self._loop.create_task(self._read())
                await asyncio.wait(
                    [each for each in (task, reading, self._closing) if each is not None],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if reading is not None and reading.done():
                    self._later_bytes += reading.result()
                    reading = None
                    await self._look_ahead()
            return task.result()
        finally:
            self._closing = None
            for each in (task, reading):
                if each is not None and not each.done():
                    each.cancel()
                    # Gone before the next one reads: a stream has one reader.
                    await asyncio.wait({each})

    async def _look_ahead(self) -> None:
        """Take the acknowledgements among what was read, and keep the rest."""
        if self.session is None:
            return  # before CONNACK nothing is acknowledged
        turn = 0
        while not self.closed and self._later_bytes < _AHEAD:
            try:
                frame = self._packets.cut()
                if frame is None:
                    return
                if frame[0] in _ACKNOWLEDGE:
                    await self._handle_packet(frame)
                else:
                    self._later.append(frame)
                    self._later_bytes += _FRAME
            except ProtocolViolation as violation:
                logger.debug("%s: %s", self, violation)
                self._later_bytes = _AHEAD  # read no further; it is raised in its turn
                return
            turn += 1
            if turn % _TURN == 0:
                await asyncio.sleep(0)

    async def _handle_packet(self, frame: Frame) -> None:
        packet_type, flags, body = frame
        oversize = packet_type == OVERSIZE
        if oversize:
            packet_type = PUBLISH
        packet: Any = decode(packet_type, flags, body)
        if MQTTEvents.PACKET_RECEIVED in self.broker.listened:
            await self.broker.fire(MQTTEvents.PACKET_RECEIVED, packet=packet, session=self.session)
        if packet_type == PUBLISH:
            if oversize:
                await self._handle_oversize(packet)
            else:
                await self.handle_publish(packet)
            if self._allowance is not None:
                cost = 1 + len(body) // _COSTS_ONE
                await self.slow_down(self._allowance.take(self._loop.time(), cost))
        elif packet_type == PUBACK:
            await self.handle_puback(packet)
        elif packet_type == PINGREQ:
            await self.handle_pingreq(packet)
        elif packet_type == SUBSCRIBE:
            await self.handle_subscribe(packet)
        elif packet_type == UNSUBSCRIBE:
            await self.handle_unsubscribe(packet)
        elif packet_type == DISCONNECT:
            await self.handle_disconnect(packet)
        elif packet_type == PUBREC:
            await self.handle_pubrec(packet)
        elif packet_type == PUBREL:
            await self.handle_pubrel(packet)
        elif packet_type == PUBCOMP:
            await self.handle_pubcomp(packet)
        else:
            raise ProtocolViolation("[MQTT-3.1.0-2] a second CONNECT")

    async def slow_down(self, seconds: float) -> None:
        """Handle nothing more of this client's for a while: the only brake of MQTT 3.1.1."""
        if seconds and not self.closed:
            await self.meanwhile(asyncio.sleep(seconds))
            self.last_received = self._loop.time()

    async def charge(self, cost: float) -> None:
        """Have this client's device pay for work that it has caused."""
        if self._allowance is not None and cost > 0:
            await self.slow_down(self._allowance.take(self._loop.time(), cost))

    # --- sending ------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send ``data`` at the end of this turn of the event loop, in one write with its like."""
        if not self._out:
            self.broker.flush_soon(self)
        self._out.append(data)
        self._out_bytes += len(data)

    def flush(self) -> None:
        """Write what was sent."""
        out = self._out
        if not out or self.closed:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        self._out, self._out_bytes = [], 0
        self.broker.stats.bytes_out += len(data)
        self.writer.write(data)
        if self.writer.unsent > self.broker.limits.write_buffer:
            self.broker.seldom.warning(
                ("does not read", self.session and self.session.device),
                "%s does not read what it is sent; cut off", self,
            )  # fmt: skip
            self.end("does not read", abort=True)

    async def _send_packet(self, packet: Packet) -> None:
        """Send one of amqtt's packets."""
        self.send(packet.to_bytes())
        if MQTTEvents.PACKET_SENT in self.broker.listened:
            await self.broker.fire(MQTTEvents.PACKET_SENT, packet=packet, session=self.session)

    def acknowledge(self, data: bytes, ticket: int | None) -> None:
        """Send an acknowledgement once what it answers is kept, in order [MQTT-4.6.0-2]."""
        waiting = self._unacknowledged
        store = self.broker.store
        if store is None or (ticket is None and not waiting):
            self.send(data)
            return
        if ticket is None:
            ticket = waiting[-1][0]
        waiting.append((ticket, data))
        store.tell(self, ticket)

    def committed(self, ticket: int) -> None:
        """The store has kept everything up to ``ticket``."""
        waiting = self._unacknowledged
        while waiting and waiting[0][0] <= ticket:
            self.send(waiting.popleft()[1])

    def refused(self) -> None:
        """The store could not keep what was sent: no acknowledgement, the connection ends."""
        self._unacknowledged.clear()
        self.end("not stored")

    async def mqtt_publish(
        self,
        topic: str,
        data: bytes | bytearray,
        qos: int | None,
        retain: bool,
        ack_timeout: int | None = None,  # noqa: ARG002 - amqtt's signature; nothing is waited for
    ) -> OutgoingApplicationMessage:
        """Send a message, or queue it behind the client's window; does not wait for its receipt."""
        message = Outgoing(topic, encode_topic(topic), qos or QOS_0, data, retain)
        self.deliver(message)
        return message

    def deliver(self, message: Outgoing) -> None:
        """Send ``message`` to this connected client in its turn [MQTT-4.6.0-6]."""
        session = self.session
        if session is None:
            return
        if session.pending and (message.qos or session.pending.bursts):
            session.pending.put(message)
        elif message.qos == QOS_0:
            if self.closed or self._behind():
                self.broker.stats.dropped["slow client, QoS 0"] += 1
                return
            self._launch(session, message)
        elif self._no_room(session):
            session.pending.put(message)
            self._look_again(session)
        else:
            self._launch(session, message)

    def _behind(self) -> bool:
        """Whether the client has not taken half of what may be written to it."""
        return bool(self.writer.unsent + self._out_bytes > self.broker.limits.write_buffer // 2)

    def _no_room(self, session: SignalingSession) -> bool:
        return len(session.inflight_out) >= self.broker.limits.inflight or self._behind()

    def _look_again(self, session: SignalingSession) -> None:
        """Where no acknowledgement will come to go on with, look whether the client has read."""
        if self._looking is None and len(session.inflight_out) < self.broker.limits.inflight:
            self._looking = self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._looking = None
        self.fill_window()

    def _launch(self, session: SignalingSession, message: Outgoing) -> None:
        packet_id = None
        store = self.broker.store
        ticket = None
        if message.qos:
            packet_id = message.packet_id = session.next_packet_id
            session.inflight_out[packet_id] = message
            message.sent = True
            if message.row is not None and store is not None:
                ticket = store.sent(message.row, packet_id)
        data = encode_publish(
            message.wire_topic,
            bytes(message.data),
            message.qos or QOS_0,
            packet_id,
            retain=message.retain,
        )
        if message.qos == QOS_2:
            # Its receiver remembers the id until it is released. Not committed, the broker would
            # give it to another message after a kill, and that one be taken for a repetition.
            self.acknowledge(data, ticket)
        else:
            self.send(data)
        self.broker.stats.messages_out += 1

    def fill_window(self) -> None:
        """Send what waits, as far as the client's window reaches; long work in slices."""
        if self.pump():
            self.broker.turns.want(self.pump)

    def pump(self) -> bool:
        """A slice of what waits; whether there is more to do at once."""
        session = self.session
        if session is None or self.closed:
            return False
        pending, budget = session.pending, _SLICE
        while pending and budget > 0:
            budget -= 1
            head = pending[0]
            if self._no_room(session):
                self._look_again(session)
                break
            if isinstance(head, Burst):
                if not head.gather(8):
                    continue
                if self._allowance is not None and not head.paid:
                    # Asking for everything again and again is paid like sending.
                    head.paid = True
                    self._allowance.take(self._loop.time(), min(len(head) / 16, _BURST_COSTS))
                message = head.next()
                if message is None:
                    pending.take()
                    if head.row is not None and self.broker.store is not None:
                        self.broker.store.done(head.row)
                    continue
                if message.qos and session.stored and self.broker.store is not None:
                    message.row = self.broker.store.enqueue(session, message)
            else:
                message = head
                pending.take()
            self._launch(session, message)
        else:
            if pending:
                return True
        if self._relief is not None and not self.broker.crowded(session, 0.5):
            self._relieve()
        return False

    async def relief(self) -> None:
        """Wait until this client has taken half of its full queue, or is gone."""
        if self._relief is None:
            self._relief = self._loop.create_future()
        await asyncio.shield(self._relief)

    def _relieve(self) -> None:
        if self._relief is not None and not self._relief.done():
            self._relief.set_result(None)
        self._relief = None

    async def _retry_deliveries(self) -> None:
        """Send again, with DUP and the same ids, what was not acknowledged [MQTT-4.4.0-1]."""
        session = self.session
        if session is None:
            return
        for packet_id, message in session.inflight_out.items():
            if not isinstance(message, Outgoing):  # pragma: no cover - only those are put there
                continue
            if message.received:
                self.send(encode_ack(PUBREL, packet_id))
            else:
                self.send(
                    encode_publish(
                        message.wire_topic,
                        bytes(message.data),
                        message.qos or QOS_1,
                        packet_id,
                        retain=message.retain,
                        dup=True,
                    )
                )

    # --- receiving ----------------------------------------------------------------------------

    async def handle_publish(self, publish_packet: PublishPacket) -> None:
        """Pass a message on, then acknowledge it."""
        header, payload = publish_packet.variable_header, publish_packet.payload
        if header is None or payload is None:  # pragma: no cover - decode() sets both
            return
        message = IncomingApplicationMessage(
            header.packet_id,
            header.topic_name,
            publish_packet.qos,
            payload.data or b"",
            publish_packet.retain_flag,
        )
        message.publish_packet = publish_packet
        self.broker.stats.messages_in += 1
        await self._handle_message_flow(message)

    async def _handle_message_flow(
        self, app_message: IncomingApplicationMessage | OutgoingApplicationMessage
    ) -> None:
        if not isinstance(app_message, IncomingApplicationMessage):
            raise AMQTTError("outgoing messages go through deliver()")
        if app_message.qos == QOS_1:
            await self._handle_qos1_message_flow(app_message)
        elif app_message.qos == QOS_0:
            await self._handle_qos0_message_flow(app_message)
        else:
            await self._handle_qos2_message_flow(app_message)

    async def _handle_qos0_message_flow(
        self, app_message: IncomingApplicationMessage | OutgoingApplicationMessage
    ) -> None:
        await self._receive(app_message)

    async def _handle_oversize(self, publish_packet: PublishPacket) -> None:
        """Acknowledge and drop what is larger than may be: its sender's link lives on.

        MQTT 3.1.1 could only close, and the sender would try the same again after each reconnect.
        """
        header, session = publish_packet.variable_header, self.session
        if header is None or session is None:  # pragma: no cover - decode() sets it
            return
        self.broker.refuse_publish(
            self, header.topic_name, "packet too large",
            f"a packet of over limits.packet_bytes = {self.broker.limits.packet_bytes}",
        )  # fmt: skip
        packet_id = header.packet_id or 0
        if publish_packet.qos == QOS_1:
            self.acknowledge(encode_ack(PUBACK, packet_id), None)
        elif publish_packet.qos == QOS_2:
            if len(session.inflight_in) >= self.broker.limits.inflight_incoming:
                raise ProtocolViolation("too many QoS 2 messages are not released")
            message = IncomingApplicationMessage(packet_id, header.topic_name, QOS_2, b"", False)
            self._remember(session, packet_id, message, None)

    def _remember(
        self,
        session: SignalingSession,
        packet_id: int,
        message: IncomingApplicationMessage,
        ticket: int | None,
    ) -> None:
        """Note a QoS 2 message's id until PUBREL, then PUBREC [MQTT-4.3.3-2]."""
        session.inflight_in[packet_id] = message
        if session.stored and self.broker.store is not None:
            ticket = self.broker.store.received(session, packet_id)
        self.acknowledge(encode_ack(PUBREC, packet_id), ticket)

    async def _receive(self, message: ApplicationMessage) -> int | None:
        """Hand a message to the broker; gives the commit to wait for, if something was stored.

        A message that may not be passed on ends the connection: MQTT 3.1.1 has no other answer.
        """
        broker, session = self.broker, self.session
        if session is None:
            return None
        mark = broker.store.mark if broker.store is not None else 0
        if not await broker._handle_message_delivery(session, self, _done(self._loop, message)):
            self.end("")
        if broker.store is None or broker.store.mark == mark:
            return None
        return broker.store.ticket

    async def _handle_qos1_message_flow(
        self, app_message: IncomingApplicationMessage | OutgoingApplicationMessage
    ) -> None:
        """Pass on, then PUBACK [MQTT-4.3.2-2], once it is stored."""
        ticket = await self._receive(app_message)
        if not self.closed:
            self.acknowledge(encode_ack(PUBACK, app_message.packet_id or 0), ticket)

    async def _handle_qos2_message_flow(
        self, app_message: IncomingApplicationMessage | OutgoingApplicationMessage
    ) -> None:
        """Pass on at the first PUBLISH, remember its id until PUBREL (method B) [MQTT-4.3.3-2]."""
        session, packet_id = self.session, app_message.packet_id or 0
        if session is None or not isinstance(app_message, IncomingApplicationMessage):
            return
        if packet_id in session.inflight_in:
            self.acknowledge(encode_ack(PUBREC, packet_id), None)
            return
        if len(session.inflight_in) >= self.broker.limits.inflight_incoming:
            raise ProtocolViolation("too many QoS 2 messages are not released")
        ticket = await self._receive(app_message)
        if self.closed:
            return
        app_message.publish_packet = None
        app_message.data = b""
        self._remember(session, packet_id, app_message, ticket)

    async def handle_puback(self, puback: PubackPacket) -> None:
        """The client has a QoS 1 message: forget it."""
        self._finish(puback.packet_id, QOS_1)

    async def handle_pubrec(self, pubrec: PubrecPacket) -> None:
        """The client has a QoS 2 message: never send it again, release it [MQTT-4.3.3-1]."""
        session = self.session
        if session is None:
            return
        packet_id = pubrec.packet_id
        message = session.inflight_out.get(packet_id)
        ticket = None
        if isinstance(message, Outgoing) and message.qos == QOS_2:
            message.received = True
            if message.row is not None and self.broker.store is not None:
                ticket = self.broker.store.released(message.row)
        # Also for an unknown id: the client waits for it, and PUBREL is all that ends that.
        self.acknowledge(encode_ack(PUBREL, packet_id), ticket)

    async def handle_pubcomp(self, pubcomp: PubcompPacket) -> None:
        """The client has finished a QoS 2 message: forget it."""
        self._finish(pubcomp.packet_id, QOS_2)

    def _finish(self, packet_id: int, qos: int) -> None:
        session = self.session
        if session is None:
            return
        message = session.inflight_out.get(packet_id)
        if not isinstance(message, Outgoing) or message.qos != qos:
            self.broker.stats.dropped["acknowledgement of nothing"] += 1
            return
        del session.inflight_out[packet_id]
        if message.row is not None and self.broker.store is not None:
            self.broker.store.done(message.row)
        if session.pending:
            self.fill_window()

    async def handle_pubrel(self, pubrel: PubrelPacket) -> None:
        """The client will not send that QoS 2 message again: its id is free [MQTT-4.3.3-2]."""
        session = self.session
        if session is None:
            return
        packet_id, ticket = pubrel.packet_id, None
        if packet_id in session.inflight_in:
            del session.inflight_in[packet_id]
            if session.stored and self.broker.store is not None:
                ticket = self.broker.store.forgotten(session, packet_id)
        # After the commit: else a kill makes the id known again, and its next message unheard.
        self.acknowledge(encode_ack(PUBCOMP, packet_id), ticket)

    async def handle_pingreq(self, pingreq: Any) -> None:  # noqa: ARG002 - amqtt's signature
        """Answer [MQTT-3.12.4-1]."""
        self.send(_PINGRESP)

    async def handle_subscribe(self, subscribe: SubscribePacket) -> None:
        """Subscribe, SUBACK, retained messages: all before this client's next packet."""
        if subscribe.variable_header is None or subscribe.payload is None or not self.session:
            raise MQTTError("SUBSCRIBE without its parts")
        wanted = Subscription(subscribe.variable_header.packet_id, subscribe.payload.topics)
        await self.broker._handle_subscription(self.session, self, _done(self._loop, wanted))

    async def handle_unsubscribe(self, unsubscribe: UnsubscribePacket) -> None:
        """Unsubscribe, UNSUBACK."""
        if unsubscribe.variable_header is None or unsubscribe.payload is None or not self.session:
            raise MQTTError("UNSUBSCRIBE without its parts")
        gone = UnSubscription(unsubscribe.variable_header.packet_id, unsubscribe.payload.topics)
        await self.broker._handle_unsubscription(self.session, self, _done(self._loop, gone))

    async def mqtt_acknowledge_subscription(self, packet_id: int, return_codes: list[int]) -> None:
        """SUBACK: a code for each filter, in order [MQTT-3.8.4-5]."""
        await self._send_packet(SubackPacket.build(packet_id, return_codes))

    async def mqtt_acknowledge_unsubscription(self, packet_id: int) -> None:
        """UNSUBACK, also when nothing was subscribed [MQTT-3.10.4-5]."""
        self.send(encode_ack(UNSUBACK, packet_id))

    async def handle_disconnect(self, disconnect: DisconnectPacket | None) -> None:
        """The client says goodbye: its will is discarded [MQTT-3.14.4-3]."""
        self.disconnect = disconnect
        self.end("")

    async def handle_connection_closed(self) -> None:
        """The connection is gone without a goodbye."""
        self.end("connection closed")
