"""paho's client on a socket of ours: what it reads is bounded, and what calls wait for quick."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable

from paho.mqtt.client import Client
from paho.mqtt.enums import MessageType, MQTTErrorCode

from . import dialing

#: What is kept of a packet; a cell has 20 KiB, a topic at most 64. The rest is read and dropped.
LARGEST_PACKET = 128 * 1024
_PUBLISH, _PUBACK = int(MessageType.PUBLISH), int(MessageType.PUBACK)
#: What is asked of the socket at once, in bytes: some 30 cells.
READ_AHEAD = 4096
#: Over WebSocket paho keeps a frame until its last byte is there: a larger one ends the link. Few
#: brokers let a packet be so large, and each puts one packet in a frame.
LARGEST_FRAME = 16 * 1024 * 1024


class _Dropped(bytes):
    """What paho is told that it has read, and has not to keep: it has a length and no bytes."""

    def __new__(cls, _length: int) -> _Dropped:
        return super().__new__(cls)

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


class LinkClient(Client):
    """paho's client on a socket of ours, which keeps no more of a packet than may be in one.

    A publish that is too large comes out cut off: no cell, so it is dropped, counted and
    acknowledged, and a broker that retains it does not hand it out for ever.
    """

    #: What each step may take, in seconds, below the bounds that it has.
    at_most = math.inf
    #: What is dialed: ``_host`` is the name that the certificate has to be for.
    dialed = ""

    def _create_socket_connection(self) -> socket.socket:
        sock = dialing.connect(self.dialed, self._port, self.at_most)
        sock.settimeout(self._connect_timeout)
        return sock

    #: The broker does not speak 3.1.1: paho hangs up on that without a word to anybody.
    version_refused = False

    def _handle_connack(self) -> MQTTErrorCode:
        self.version_refused = bytes(self._in_packet["packet"][1:2]) == b"\x01"
        return super()._handle_connack()

    # A publish that comes in goes straight to the link, and so does the id of one that was
    # acknowledged (MQTT 3.1.1, 3.3 and 3.4). There are no filters to match, nobody who waits for a
    # publish, for whom paho would make a lock, and nothing to send again, for the next link is a
    # new client. A ring takes 60 µs of 650 less.
    noted: Callable[[bytes, bytes, bool, int | None], None]
    acked: Callable[[int], None]

    def _handle_publish(self) -> MQTTErrorCode:
        self._published(self._in_packet["command"], bytes(self._in_packet["packet"]))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_pubackcomp(self, _packet: str) -> MQTTErrorCode:
        self._acknowledged(self._in_packet["packet"])
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _published(self, head: int, data: bytes) -> None:
        qos, at = head >> 1 & 3, 2 + int.from_bytes(data[:2], "big")
        body = at + 2 * qos
        if qos > 1 or at == 2 or len(data) < body:  # QoS 2 is not subscribed
            raise ConnectionError("a PUBLISH that is malformed, or that nobody asked for")
        mid = int.from_bytes(data[at:body], "big") if qos else None
        self.noted(data[2:at], data[body:], bool(head & 1), mid)

    def _acknowledged(self, mid: bytes | bytearray) -> None:
        if len(mid) != 2:
            raise ConnectionError("a PUBACK that is malformed")
        self.acked(int.from_bytes(mid, "big"))

    def _sock_recv(self, bufsize: int) -> bytes:
        packet = self._in_packet
        if self._transport != "tcp":
            frame = getattr(self._sock, "_readbuffer", b"")  # of paho's WebSocket
            if len(frame) > LARGEST_FRAME:
                raise ConnectionError(f"a WebSocket frame of more than {LARGEST_FRAME} bytes")
        if not packet["have_remaining"] or packet["remaining_length"] <= LARGEST_PACKET:
            return self._take(bufsize)
        left = LARGEST_PACKET - len(packet["packet"])
        if left > 0:
            return self._take(min(bufsize, left))
        read = self._take(min(bufsize, LARGEST_PACKET))
        return _Dropped(len(read)) if read else read

    # paho asks the socket for a byte, another one, and the rest, of one packet at a time. Here one
    # look gives all that has come, and what every call waits for is read from that at once; paho
    # reads from it what is left, and what came in pieces. A ring takes 45 µs of 700 less.
    _ahead = b""
    _looked = False

    def read(self) -> None:
        """Read every packet that one look at the socket gives."""
        self._looked = False
        while True:
            if self._in_packet["command"] or not self._read_one():
                self.loop_read()
            if not self._ahead or self._sock is None:
                return

    def _read_one(self) -> bool:
        """Read a PUBLISH or a PUBACK, if one is there from its first byte to its last."""
        if not self._ahead and self._transport == "tcp":
            try:
                self._look(READ_AHEAD)
            except OSError:  # paho finds out, and says it in its way
                return False
        data = self._ahead
        if len(data) < 4 or data[0] & 0xF0 not in (_PUBLISH, _PUBACK):
            return False
        length, start = data[1], 2
        if length > 127:
            length, start = length - 128 + (data[2] << 7), 3
        end = start + length
        if data[start - 1] > 127 or end > len(data):
            return False
        self._ahead = data[end:]
        if data[0] & 0xF0 == _PUBACK:
            self._acknowledged(data[start:end])
        else:
            self._published(data[0], data[start:end])
        return True

    # What goes out is written at once, too, where nothing waits before it: paho makes a record of
    # each packet, queues it and takes it out again. A ring takes 25 µs of 670 less.
    def send_publish(
        self, mid: int, topic: bytes, payload: bytes, *, retain: bool
    ) -> MQTTErrorCode:
        """Publish, QoS 1 (MQTT 3.1.1, 3.3); what the socket does not take goes out later."""
        length = 4 + len(topic) + len(payload)
        if self._sock is None or self._transport != "tcp" or self.want_write() or length >> 14:
            return self._send_publish(mid, topic, payload, 1, retain)
        kind = _PUBLISH | 2 | retain
        head = (kind, length) if length < 128 else (kind, length & 127 | 128, length >> 7)
        size = len(topic).to_bytes(2, "big")
        packet = b"".join((bytes(head), size, topic, mid.to_bytes(2, "big"), payload))
        try:
            sent = self._sock.send(packet)
        except OSError:  # it would block, or is broken: paho finds out which, and goes on
            sent = 0
        if sent == len(packet):
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return self._packet_queue(_PUBLISH, packet[sent:], mid, 1)

    def _look(self, size: int) -> None:
        self._ahead = super()._sock_recv(size)
        self._looked = bool(self._ahead)  # else it is the end, which paho shall see

    def _take(self, size: int) -> bytes:
        if self._transport != "tcp":  # paho has read ahead, and knows where a frame ends
            return super()._sock_recv(size)
        if not self._ahead:
            if self._looked:  # who sends without end leaves time for other things
                raise BlockingIOError
            self._look(max(size, READ_AHEAD))
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data
