"""A Bellwire peer for microcontrollers: MicroPython, and CPython too. One file, nothing else.

    peer = Peer("front-door", "broker.local", 1883, on_event=print)
    call = peer.call("kitchen", {"button": 1})
    while not call.over:
        peer.poll(100)

It keeps to "What a small peer may leave out" of docs/protocol.md, and to its Talk with one message
underway. Events: `on_event(name, call, value)`, called from `poll` only; call is None for what
concerns no call. Nothing that comes from the wire, and no fault of the link, is raised.

Bounded: MAX_PACKET bytes are kept of a packet (the rest is read away), MAX_CALLS calls ring, talk
or are underway, twice as many are held with those that only wait to be seen by the other, and
REMEMBERED are known after that.
"""

import binascii
import gc
import hashlib
import os
import select
import socket
import struct
import sys
import time

try:
    from micropython import const
except ImportError:
    const = int

MAX_PACKET = 1024
MAX_CALLS = 4
REMEMBERED = 16
# Until the broker has answered a connection, or taken what is written.
_LINK_MS = const(5000)

# States of a call: those of its own cell (Cells), and those that have none.
_RINGING = const(0)
_ENDED = const(2)
_CALLER_OVER = const(3)
_RECEIVED = const(0)
_ACCEPTED = const(1)
_REFUSED = const(2)
_FAILED = const(3)
_SEEN = const(4)
_TALKING = const(5)
_OVER = const(6)
_ASKED = const(8)
_CLEARED = const(9)
# Reasons (Reasons, Talk).
_CANCELED = const(1)
_EXPIRED = const(3)
_PEER_OFFLINE = const(4)
_NO_RESPONSE = const(5)
_RESTARTED = const(6)
_DECLINED = const(1)
_BUSY = const(2)
_ACCEPT_FAILURE = const(4)
_CALLEE_EXPIRED = const(5)
_CALLER_LOST = const(6)
_HUNG_UP = const(7)
_PEER_LOST = const(8)
_TALK_RESTARTED = const(9)
_TIME_IS_UP = const(10)
_LOGGED_OUT = const(11)

# What kind of value each key has, and which keys each kind of cell: 0 is a number, 8 and 16 are
# that many bytes, and else:
_TEXT = const(1)
_BOOL = const(2)
_BODY = const(3)
_TALK = const(4)
_TYPES = b"\x00\x00\x08\x00\x00\x03\x01\x00\x10\x00\x02\x04\x00\x00\x00\x00\x08"
_KEYS = {
    "invite": b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0b\x0c\x0d\x10",
    "answer": b"\x00\x01\x02\x03\x05\x07\x0a\x0b\x0c\x0d",
    "presence": b"\x00\x01\x02\x09\x0a\x0e\x0f",
}
_VALUES = (False, True, None)
_COMPOUND = (bytes, str, list, dict)
_SIMPLE = (False, b"\xf4"), (True, b"\xf5"), (None, b"\xf6")
# The last of its states.
_STATES = {"invite": 2, "answer": 4, "presence": 1}
_STATES_OF_A_TALK = {"invite": 3, "answer": 6}

if hasattr(time, "ticks_ms"):
    _ms, _ticks = 0, time.ticks_ms()

    def _now():
        """Milliseconds that only grow; the port's own begin again after some days."""
        global _ms, _ticks  # noqa: PLW0603 - an object of its own would cost memory
        ticks = time.ticks_ms()
        _ms += time.ticks_diff(ticks, _ticks)
        _ticks = ticks
        return _ms

else:

    def _now():
        return int(time.monotonic() * 1000)


def _head(major, n):
    info, size = 24, 1
    if n < 24:
        return bytes((major << 5 | n,))
    while n >> 8 * size:
        info, size = info + 1, 2 * size
    if size > 8:
        raise ValueError("too large")
    return bytes((major << 5 | info,)) + n.to_bytes(size, "big")


def encode(value):
    """CBOR (Cells) of None, bool, int, float, bytes, str, list, dict; ValueError for any other."""
    for simple, byte in _SIMPLE:
        if value is simple:
            return byte
    kind = type(value)
    if kind is int:
        return _head(0, value) if value >= 0 else _head(1, ~value)
    if kind is float:
        return b"\xfb" + struct.pack(">d", value)
    if kind not in _COMPOUND:
        raise ValueError("no CBOR for %s" % kind)
    major = 2 + _COMPOUND.index(kind)
    if kind is str:
        value = value.encode()
    n = len(value)
    if kind is list:
        value = b"".join([encode(each) for each in value])
    elif kind is dict:
        pairs = sorted([(encode(key), encode(value[key])) for key in value])
        value = b"".join([key + each for key, each in pairs])
    return _head(major, n) + value


def _fits(value, most=8192, depth=1):
    """ValueError for what no reader would take: it is read back, at its depth in the cell."""
    data = encode(value)
    _Reader(data).item(depth)
    if len(data) > most:
        raise ValueError("too large")


def _text(raw):
    """UTF-8, and nothing else; MicroPython's own decoder takes more."""
    text = str(raw, "utf-8")
    for c in text:
        if 0xD800 <= ord(c) < 0xE000 or chr(ord(c)) != c:
            raise ValueError
    return text


class _Reader:
    """Reads strict CBOR; what is wrong is a ValueError, or an error of reading past the end."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, n):
        raw = bytes(self.data[self.at : self.at + n])
        if len(raw) < n:
            raise ValueError
        self.at += n
        return raw

    def item(self, depth=1, pairs=None):
        """The next value; of a map `pairs` has {key as it stands: (value, value as it stands)}."""
        first = self.data[self.at]
        self.at += 1
        major, n = first >> 5, first & 31
        raw = b""
        if n > 23:
            if n > 27:
                raise ValueError
            raw = self.take(1 << n - 24)
            least = 24 if n == 24 else 1 << 4 * len(raw)
            n = int.from_bytes(raw, "big")
            if major < 7 and n < least:
                raise ValueError
        if major < 2:
            return ~n if major else n
        if major == 7:
            if len(raw) > 2:
                return struct.unpack(">f" if len(raw) == 4 else ">d", raw)[0]
            if len(raw) == 2:
                return _half(n)
            return _VALUES[first - 0xF4 if first >= 0xF4 else 3]
        if n > len(self.data):
            raise ValueError
        if major < 4:
            raw = self.take(n)
            return raw if major == 2 else _text(raw)
        if major == 6 or depth > 15:
            raise ValueError
        if major == 4:
            return [self.item(depth + 1) for _ in range(n)]
        found = {}
        pairs = {} if pairs is None else pairs
        for _ in range(n):
            start = self.at
            key = self.item(16)  # where nothing else goes in, so no array or map is a key
            raw = bytes(self.data[start : self.at])
            if raw in pairs:
                raise ValueError
            start = self.at
            value = self.item(depth + 1)
            pairs[raw] = value, bytes(self.data[start : self.at])
            found[key] = value
        return found


def _half(n):
    sign = -1 if n & 0x8000 else 1
    exp = n >> 10 & 31
    n &= 1023
    if exp == 31:
        return float("nan") if n else sign * float("inf")
    return sign * ((n + 1024) * 2.0 ** (exp - 25) if exp else n * 2.0**-24)


def decode(kind, data):
    """A cell as {key: value}, its body encoded; ValueError, LookupError or TypeError if none."""
    reader, pairs, cell = _Reader(data), {}, {}
    state = talks = 0
    if data[0] >> 5 != 5 or len(data) > 20480:
        raise ValueError
    reader.item(0, pairs)
    for key, type_ in enumerate(_TYPES):
        value, raw = pairs.get(bytes((key,)), (None, b""))
        if not raw or key not in _KEYS[kind] and type_ != _BODY or key in (12, 13) and not talks:
            continue
        if type_ == _BODY:
            value = raw
            good = len(raw) <= 8192
        elif type_ == 0:
            good = raw[0] < 0x20 and value < 1 << 53
        elif type_ == _TEXT:
            good = raw[0] >> 5 == 3 and len(value.encode()) <= 64
        elif type_ == _BOOL:
            good = raw in b"\xf4\xf5"
        elif type_ == _TALK:
            if raw != b"\x01":
                continue
            good = True
        else:
            good = raw[0] >> 5 == 2 and len(value) == type_
        if not good:
            raise ValueError
        if key in _KEYS[kind]:
            cell[key] = value
        state = cell.get(1, 0)
        talks = 11 in cell and state in ((1, 3) if kind == "invite" else (5, 6))
    for key in range(3 if kind == "presence" else 5 if kind == "invite" and state == 0 else 4):
        cell[key]  # is required
    if reader.at != len(data) or cell[0] != 1 or cell.get(4, 0) > 86400000:
        raise ValueError
    if state > (_STATES_OF_A_TALK if talks else _STATES)[kind]:
        raise ValueError
    if talks and 5 in cell:
        messages = pairs[b"\5"][0]
        if type(messages) is not list or len(messages) > min(64, cell.get(12, 0)):
            raise ValueError
    return cell


def _body(cell):
    return _Reader(cell[5]).item() if 5 in cell else None


def escape(peer):
    """A peer id as a topic level; ValueError if it is no peer id (Topics)."""
    level = ""
    for c in peer:
        if not 31 < ord(c) < 127 and ord(c) < 160:
            raise ValueError("no peer id")
        for b in c.encode():
            plain = b < 128 and (c.isalpha() or c.isdigit() or c in "-_")
            level += c if plain else "%%%02X" % b
    if not 0 < len(peer) <= 64 or len(level) > 192:
        raise ValueError("no peer id")
    return level


def unescape(level):
    """And back; ValueError for any other spelling than `escape` gives."""
    parts = level.split("%")
    raw = parts[0].encode()
    for part in parts[1:]:
        raw += bytes((int(part[:2], 16),)) + part[2:].encode()
    peer = _text(raw)
    if escape(peer) != level:
        raise ValueError
    return peer


class Call:
    """One call, at either end: `peer`, `id`, `out`, `content`, `response`, `reason`, `over`."""

    seq = count = acked = 0
    content = response = reason = got = epoch = None
    body = message = due = end = said = asked = fresh = None
    delay = first = 2000
    # Whether the other offers to talk; whether there is a talk now; its end for the app; whether
    # the other was heard, and has asked.
    mine = offer = talk = over = heard = was_asked = False
    # Rings here, and can be accepted or refused.
    ringing = False

    def __init__(self, peer, call_id, out, state):
        self.peer, self.id, self.out, self.state = peer, call_id, out, state


class Peer:
    """One login. Call `poll` again and again; everything else only notes what is to be said."""

    ready = aborted = False
    # Bytes of all packets, both ways: what a press costs.
    bytes = 0
    generation = _said_generation = _drawn = 0
    _sock = _retry = _born = None
    _wait = 500

    def __init__(
        self, me, host, port=1883, password=None, realm="sig", tls=None, on_event=None,
        counter=None, keepalive=15, user=None,
    ):  # fmt: skip
        """`tls`: an ssl.SSLContext. `counter`: a file in flash, where random numbers repeat."""
        self.me, self.host, self.port, self.tls = escape(me), host, port, tls
        self.user, self.password = user or self.me, password
        self.realm, self.keepalive = realm, keepalive
        self.on_event = on_event or (lambda *_: None)
        self._salt = b""
        if counter:
            try:
                with open(counter) as file:
                    n = int(file.read())
            except (OSError, ValueError):
                n = 0
            with open(counter, "w") as file:
                file.write(str(n + 1))
            self._salt = b"%d" % (n + 1)
        self.epoch = self._fresh()[:8]
        self._client = self.me + ":" + str(binascii.hexlify(self._fresh()[:8]), "ascii")
        self.calls = {}
        self._done = []
        self._online = {}
        self._buffer = bytearray(MAX_PACKET)
        self._lost = _now()

    def _fresh(self):
        self._drawn += 1
        return hashlib.sha256(self._salt + b".%d." % self._drawn + os.urandom(16)).digest()

    # --- what the app does -------------------------------------------------------------------

    def call(self, peer, content=None, ring_ms=60000, talk=False):
        """Ring; the call, whose end is told as an event and by `over`. ValueError (each here)."""
        ring_ms = int(ring_ms)
        if escape(peer) == self.me or not 0 < ring_ms <= 86400000:
            raise ValueError("peer or ring_ms")
        _fits(content, MAX_PACKET // 2)
        call_id = str(binascii.b2a_base64(self._fresh()[:16])[:22], "ascii")
        call_id = call_id.replace("+", "-").replace("/", "_")
        call = Call(peer, call_id, True, _RINGING)
        call.content = call.body = content
        call.mine = talk
        self._room()
        call.end = _now() + ring_ms
        call.quiet = _now() + min(30000, ring_ms * 9 // 10)
        self.calls[(True, peer, call_id)] = call
        self._watch(peer)
        self._say(call)
        return call

    def cancel(self, call):
        """Nothing if it was decided before."""
        if call.out and call.state == _RINGING:
            self._decide(call, _ENDED, _CANCELED, "canceled")

    def accept(self, call, response=None, talk=False):
        """The call is accepted once its caller says so: the event `accepted`."""
        if not call.out and call.state == _RECEIVED:
            _fits(response)
            call.body = response
            call.mine = talk
            call.end = _now() + 5000
            self._set(call, _ACCEPTED)

    def refuse(self, call, reason=_DECLINED):
        if not 0 < reason < 4:
            raise ValueError("reason")
        if not call.out and call.state == _RECEIVED:
            call.body = None
            self._decide(call, _REFUSED, reason, "refused")

    def send(self, call, value):
        """Whether it was taken: one message at a time, while the call goes on."""
        if not call.talk or call.message is not None:
            return False
        _fits(value, 8190, 2)
        call.message = [value]
        call.count += 1
        self._set(call, call.state)
        return True

    def hang_up(self, call, reason=_HUNG_UP):
        if call.talk:
            self._decide(call, _CALLER_OVER if call.out else _OVER, reason, "over")

    def close(self):
        """End what goes on, wait a second at most until the others know, disconnect."""
        for call in list(self.calls.values()):
            self.cancel(call)
            self.hang_up(call, _LOGGED_OUT)
            if not call.out and call.state == _ACCEPTED:
                self._decide(call, _FAILED, _ACCEPT_FAILURE, "failed")
        until = _now() + 1000
        while self.ready and until > _now():
            if not [c for c in self.calls.values() if c.out or c.state not in (_ASKED, _RECEIVED)]:
                break
            self.poll(50)
        try:
            if self._sock:
                self._publish(self._presence(self.me), self._cell(0, {}))
                self._write(b"\xe0\x00")
        except OSError:
            pass
        self._drop()
        self.aborted = True

    # --- the loop ----------------------------------------------------------------------------

    def poll(self, wait_ms=0):
        """One turn: connect, take what came, say what is due; waits that long at most."""
        if self.aborted:
            return
        try:
            if self._sock is None:
                if self._retry is None or _now() >= self._retry:
                    self._connect()
                else:
                    time.sleep(min(wait_ms, max(0, self._retry - _now()), 50) / 1000)
            if self._sock is not None and not self._receive() and wait_ms:
                self._poller.poll(min(wait_ms, 100))
                self._receive()
            self._timers()
        except Exception as error:
            # A link that broke, no memory, a broker that speaks no MQTT: the next one may do.
            gc.collect()
            self._drop()
            self._event("offline", None, error)

    def _event(self, name, call=None, value=None):
        try:
            self.on_event(name, call, value)
        except Exception as error:
            # A listener's fault is shown, and ends nothing.
            getattr(sys, "print_exception", print)(error)

    def _connect(self):
        self._retry = _now() + self._wait
        self._wait = min(self._wait * 2, 5000)
        info = socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM)[0]
        sock = socket.socket(info[0], info[1], info[2])
        self._sock = sock
        sock.settimeout(_LINK_MS / 1000)
        try:
            sock.setsockopt(6, 1, 1)  # TCP_NODELAY
        except (OSError, AttributeError):
            pass
        sock.connect(info[-1])
        if self.tls:
            sock = self._sock = self.tls.wrap_socket(sock, server_hostname=self.host)
        sock.setblocking(False)
        self._poller = select.poll()
        self._poller.register(sock, 1)
        self._next = 0
        self._left = -1
        self._kind = None
        self._acks = {}
        self._online = {}
        self._found = 0
        self.ready = self._connected = False
        self._heard = self._spoke = self._began = _now()
        flags = 0x2E | (0x40 if self.password else 0) | 0x80
        body = b"\x00\x04MQTT\x04" + struct.pack(">BH", flags, self.keepalive)
        fields = [self._client, self._presence(self.me), self._cell(0, {}), self.user]
        if self.password:
            fields.append(self.password)
        self._packet(0x10, body + b"".join([_field(f) for f in fields]))

    def _drop(self):
        sock, self._sock = self._sock, None
        if self.ready:
            self._lost = _now()
        self.ready = False
        if sock:
            try:
                sock.close()
            except OSError:
                pass
        if self._retry is None:
            self._retry = _now() + self._wait

    def _timers(self):
        now = _now()
        if self._sock is not None:
            silent = now - self._heard
            if silent > self.keepalive * 1500 or not self._connected and silent > _LINK_MS:
                raise OSError(110)
            if now - self._spoke > self.keepalive * 500:
                self._write(b"\xc0\x00")
            if self._connected and not self.ready and now - self._began >= 2000:
                self._settle()
        for call in list(self.calls.values()):
            if call.end is not None and now >= call.end:
                self._expire(call)
            elif call.out and call.state == _RINGING and not call.heard and now >= call.quiet:
                gone = self.ready and not self._online.get(call.peer)
                self._decide(call, _ENDED, _PEER_OFFLINE if gone else _NO_RESPONSE, "failed")
            elif call.talk and not self.ready and now - self._lost > 30000:
                self.hang_up(call, _PEER_LOST)
            elif call.due is None or not self.ready or now < call.due:
                pass
            elif not call.out or call.state == _RINGING or self._online.get(call.peer) is not None:
                call.delay = min(call.delay * 2, 30000)
                self._say(call)

    def _expire(self, call):
        call.end = None
        if call.talk:
            self.hang_up(call, call.lost)
        elif call.out:
            if call.state == _RINGING:
                self._decide(call, _ENDED, _EXPIRED, "failed")
        elif call.state == _ACCEPTED:
            self._decide(call, _FAILED, _ACCEPT_FAILURE, "failed")
        elif call.state == _ASKED:
            call.over = True  # it never rang
            self._decide(call, _FAILED, _CALLEE_EXPIRED, "missed")
        elif call.state == _RECEIVED:
            lost = (self._online.get(call.peer) or call.epoch) != call.epoch
            self._decide(call, _FAILED, _CALLER_LOST if lost else _CALLEE_EXPIRED, "failed")

    # --- MQTT --------------------------------------------------------------------------------

    def _write(self, data):
        self.bytes += len(data)
        self._spoke = start = _now()
        send = getattr(self._sock, "send", None) or self._sock.write
        view = memoryview(data)
        while view:
            try:
                n = send(view)
            except OSError as error:
                if error.args[0] not in (2, 3, 11, 35):
                    raise
                n = 0
            if n:
                view = view[n:]
            elif _now() - start > _LINK_MS:
                raise OSError(110)
            else:
                time.sleep(0.005)

    def _packet(self, kind, body):
        n = len(body)
        head = bytes((kind,))
        while n > 127:
            head += bytes((n & 127 | 128,))
            n >>= 7
        self._write(head + bytes((n,)) + body)

    def _number(self):
        self._next = self._next % 65535 + 1
        return struct.pack(">H", self._next)

    def _publish(self, topic, payload):
        if self._sock is None:
            return 0
        self._packet(0x33, _field(topic) + self._number() + payload)
        return self._next

    def _subscribe(self, filters, kind=0x82):
        body = self._number()
        for each in filters:
            body += _field(each) + (b"\x01" if kind == 0x82 else b"")
        self._packet(kind, body)

    def _read(self, n):
        try:
            data = (getattr(self._sock, "recv", None) or self._sock.read)(n)
        except OSError as error:
            if error.args[0] in (2, 3, 11, 35):
                return None
            raise
        if data == b"":
            raise OSError(104)
        if data:
            self.bytes += len(data)
            self._heard = _now()
        return data

    def _receive(self):
        """Take packets while there are some, sixteen at most; whether there was one."""
        took = 0
        while took < 16 and self._sock is not None:
            if self._left < 0:
                data = self._read(1)
                if not data:
                    break
                if self._kind is None:
                    self._kind, self._size, self._shift = data[0], 0, 0
                    continue
                self._size |= (data[0] & 127) << self._shift
                self._shift += 7
                if data[0] > 127:
                    if self._shift > 21:
                        raise OSError(71)
                    continue
                self._left, self._have = self._size, 0
            while self._left:
                data = self._read(min(self._left, 256))
                if not data:
                    return took
                keep = min(len(data), MAX_PACKET - self._have)
                self._buffer[self._have : self._have + keep] = data[:keep]
                self._have += keep
                self._left -= len(data)
            self._left = -1
            kind, self._kind = self._kind, None
            took += 1
            self._take(kind, memoryview(self._buffer)[: self._have])
        return took

    def _take(self, kind, data):
        if kind == 0x20:
            if data[1]:
                raise OSError("refused by the broker: %d" % data[1])
            self._connected = True
            out = self.realm + "/v1/+/"
            self._outbox = [out + kind + "/" + self.me + "/+" for kind in ("invite", "answer")]
            self._subscribe([self._presence(self.me)] + self._outbox)
            self._present()
        elif kind == 0x40:
            call = self._acks.pop(data[0] << 8 | data[1], None)
            if call is not None and call.state == _CLEARED:
                self._forget(call)
        elif kind == 0x90:
            if 0x80 in bytes(data[2:]) and len(data) > 3:
                raise OSError("not allowed to subscribe")
            for peer in self._online:
                self._online[peer] = self._online[peer] or None  # absent, unless it is read
        elif kind >> 4 == 3:
            n = data[0] << 8 | data[1]
            if n + 4 > len(data):
                raise OSError(71)
            at = n + 2
            if kind & 6:
                self._write(b"\x40\x02" + bytes(data[at : at + 2]))
                at += 2
            topic, data = bytes(data[2 : n + 2]), data[at:]
            for cut in (self._size > self._have, True):
                try:
                    self._heard_cell(topic, data, kind & 1, cut)
                    break
                except MemoryError:
                    gc.collect()  # once more, as one that is too large
                except (ValueError, LookupError, TypeError):
                    break  # no cell, or no topic of this protocol: dropped (Cells)

    # --- connecting --------------------------------------------------------------------------

    def _presence(self, level):
        return self.realm + "/v1/" + level + "/presence"

    def _cell(self, state, more):
        """A cell of mine, with those of `more` that are not None."""
        cell = {0: 1, 1: state, 2: self.epoch}
        for key in more:
            if more[key] is not None:
                cell[key] = more[key]
        return encode(cell)

    def _present(self):
        if self._born is None:
            self._born = _now()
        age = _now() - self._born
        self._said_generation = self.generation
        more = {14: self.generation or None, 15: age or None}
        self._publish(self._presence(self.me), self._cell(1, more))

    def _settle(self):
        self.ready = True
        self._wait = 500
        base = self.realm + "/v1/" + self.me
        self._subscribe(self._outbox, 0xA2)
        self._subscribe([base + "/invite/+/+", base + "/answer/+/+"])
        for call in list(self.calls.values()):
            self._watch(call.peer)
            if call.state == _CLEARED:
                self._clear(call)
            else:
                self._say(call, ask=not call.out and call.state == _RECEIVED)
        self._event("online")

    def _watch(self, peer):
        """Read its presence: its epoch, None if it is away, b"" before anything was read."""
        if not self.ready or peer in self._online:
            return
        if len(self._online) >= 2 * MAX_CALLS:
            busy = [call.peer for call in self.calls.values()]
            for old in self._online:
                if old not in busy:
                    del self._online[old]
                    self._subscribe([self._presence(escape(old))], 0xA2)
                    break
        self._online[peer] = b""
        self._subscribe([self._presence(escape(peer))])

    # --- what comes in -----------------------------------------------------------------------

    def _heard_cell(self, topic, data, retained, cut):
        levels = _text(topic).split("/")
        if len(levels) < 4 or levels[0] != self.realm or levels[1] != "v1":
            return
        kind = levels[3]
        owner = unescape(levels[2])
        if kind == "presence":
            if len(levels) == 4 and not cut:
                self._heard_presence(
                    levels[2], owner, decode(kind, data) if len(data) else {}, retained
                )
            return
        if len(levels) != 6 or kind not in ("invite", "answer"):
            return
        writer, call_id = unescape(levels[4]), levels[5]
        if len(call_id) != 22 or escape(call_id) != call_id or call_id[-1] not in "AQgw":
            return
        if writer == owner:
            return
        if cut:
            if levels[2] == self.me:
                self._too_large(kind == "answer", writer, call_id, data)
            return
        cell = decode(kind, data) if len(data) else {}
        if levels[4] == self.me:
            self._find(kind, owner, call_id, cell)
        elif levels[2] == self.me:
            heard = self._invited if kind == "invite" else self._answered
            heard(writer, call_id, cell, retained)

    def _too_large(self, out, peer, call_id, data):
        """What is not held is answered by its first bytes: a map, version 1, its state."""
        state = data[4]
        if bytes(data[1:4]) != b"\x00\x01\x01":
            return
        if (out, peer, call_id) in self.calls:
            if state in (2, 3, _SEEN, _OVER):  # an end is one, whatever it carries
                heard = self._answered if out else self._invited
                heard(peer, call_id, {1: state, 2: b"", 11: 1}, True)
        elif not out and state == _RINGING:
            self._once(peer, call_id, _REFUSED, _BUSY)
        elif not out:
            self._final(peer, call_id, state)

    def _final(self, peer, call_id, state):
        if state == _ACCEPTED:
            self._once(peer, call_id, _FAILED, _ACCEPT_FAILURE)
        else:
            self._once(peer, call_id, _SEEN)

    def _once(self, peer, call_id, state, reason=None):
        """Answer a call that is not held, and remember that."""
        known = self._known(peer, call_id)
        if known:
            state, reason = known[0]
        else:
            self._remember(peer, call_id, state, reason)
        cell = self._cell(state, {3: 1, 7: reason})
        self._publish(self._topic(False, peer, call_id), cell)

    def _heard_presence(self, level, peer, cell, retained):
        online = cell.get(1) == 1
        if level != self.me:
            if peer in self._online:
                before = self._online[peer]
                self._online[peer] = cell[2] if online else None
                for call in list(self.calls.values()):
                    if call.peer == peer:
                        self._peer_is(call, cell, online and before != cell[2] and not retained)
            return
        mine = cell.get(2) == self.epoch
        if mine and online:
            if not retained:
                if self._said_generation != self.generation:
                    self._present()
                if not self.ready:
                    self._settle()
            return
        if mine and cell.get(10):
            return
        theirs = cell.get(14, 0)
        higher = (theirs, cell.get(2, b"")) > (self.generation, self.epoch)
        if not self.ready or retained:
            if higher:
                self.generation = min(theirs + 1, (1 << 53) - 1)
            if not cell and not retained:
                self._present()
            return
        if (online or cell.get(10)) and higher:
            if cell.get(15, 0) > _now() - self._born:
                self.generation = theirs + 1
            else:
                self._write(b"\xe0\x00")
                self._drop()
                self.aborted = True
                self._event("aborted")
                return
        self._present()

    def _find(self, kind, peer, call_id, cell):
        """A cell that a former life left (f)."""
        if not cell or cell[2] == self.epoch or (kind == "invite", peer, call_id) in self.calls:
            return
        out, state, reason, talk = kind == "invite", cell[1], None, None
        if out and state == _RINGING:
            state, reason = _ENDED, _RESTARTED
        elif not out and state == _ACCEPTED:
            state, reason = _FAILED, _ACCEPT_FAILURE
        elif state == _TALKING or out and state == _ACCEPTED and 11 in cell:
            state, reason, talk = _CALLER_OVER if out else _OVER, _TALK_RESTARTED, 1
        topic = self._topic(out, peer, call_id)
        if reason:
            more = {3: min(cell[3] + 1, (1 << 53) - 1), 7: reason, 11: talk}
            self._publish(topic, self._cell(state, more))
            return
        self._found += out
        if not out or self._found > 8:
            self._publish(topic, b"")

    # --- calls -------------------------------------------------------------------------------

    def _topic(self, out, peer, call_id):
        """Of my cell of a call."""
        kind = "invite" if out else "answer"
        return "/".join((self.realm, "v1", escape(peer), kind, self.me, call_id))

    def _room(self):
        """Whether a further call may ring; those that wait to be seen give way to new ones."""
        old = [call for call in self.calls.values() if call.over]
        if old and len(self.calls) >= 2 * MAX_CALLS:
            if not old[0].out:
                self._remember(old[0].peer, old[0].id, old[0].state, old[0].reason)
            self._forget(old[0])
        if len(self.calls) - len(old) >= MAX_CALLS:
            raise ValueError("too many calls")

    def _forget(self, call):
        self.calls.pop((call.out, call.peer, call.id), None)

    def _known(self, peer, call_id):
        return [done[2:] for done in self._done if done[:2] == (peer, call_id)]

    def _remember(self, *done):
        self._done.append(done)
        del self._done[:-REMEMBERED]

    def _say(self, call, ask=False, asker=None):
        call.seq += 1
        call.said = _now()
        state = call.state
        if not call.out:
            rests = state == _RECEIVED or state == _TALKING and call.message is None
        elif state == _RINGING:
            rests = call.heard
        else:
            rests = call.talk and call.got is not None and call.message is None
        call.due = None if rests else call.said + call.delay  # unless nothing is to be said again
        if state == _ASKED:
            state, ask = _RECEIVED, True
        up = call.talk or state == (_CALLER_OVER if call.out else _OVER)
        ringing = call.out and state == _RINGING
        offers = call.mine and (ringing or call.offer and state == _ACCEPTED and not call.out)
        cell = {
            3: call.seq,
            4: max(0, call.end - call.said) if ringing else None,
            5: call.message if up else call.body,
            7: call.reason if state in (2, 3, _OVER) else None,
            10: ask or None,
            11: 1 if up or offers else None,
            12: call.count or None if up else None,
            13: call.got if up else None,
            16: asker,
        }
        if self.ready:
            self._publish(self._topic(call.out, call.peer, call.id), self._cell(state, cell))

    def _set(self, call, state):
        call.state = state
        call.ringing = False
        call.delay = call.first = 1000 if state in (_ACCEPTED, _ASKED) and not call.out else 2000
        self._say(call)

    def _reply(self, call, ask=False, asker=None):
        """Say it again, once a second at most: what comes too soon is answered then."""
        now = _now()
        if call.asked is None or now - call.asked >= 1000:
            call.asked = now
            call.delay = call.first
            self._say(call, ask, asker)

    def _decide(self, call, state, reason, event):
        call.reason, call.end, call.talk = reason, None, False
        self._set(call, state)
        self._tell(call, event)

    def _tell(self, call, event, value=None):
        """Its end for the app, once."""
        if not call.over or event == "missed":
            call.over = True
            self._event(event, call, call.reason if value is None else value)

    def _clear(self, call):
        call.state, call.due, call.end = _CLEARED, None, None
        call.ringing = False
        call.talk = False
        number = self.ready and self._publish(self._topic(call.out, call.peer, call.id), b"")
        if number:
            self._acks[number] = call

    def _peer_is(self, call, cell, came):
        """What is read of a peer's presence."""
        online = cell.get(1) == 1
        now = _now()
        if call.out and came and call.due is not None:
            self._reply(call)
        if call.talk:
            end = now + (10000 if cell else 30000)
            if online and cell[2] == call.epoch:
                call.end, call.lost = call.limit, _TIME_IS_UP
            elif (online or cell.get(2) == call.epoch or not cell) and call.end > end:
                call.end, call.lost = end, _PEER_LOST
        elif call.out:
            pass
        elif call.state == _ASKED:
            if online and cell[2] == call.epoch and call.fresh and now - call.fresh <= 2000:
                self._ring(call, call.fresh + call.ttl + 2000)
            elif came:
                self._reply(call)
        elif call.state == _RECEIVED:
            doubt = cell and online != (cell[2] == call.epoch)
            if doubt:
                call.end = min(call.end, now + 10000)
            if doubt or came:
                self._reply(call, True)

    def _ring(self, call, end):
        call.end, call.due = end, None
        call.state = _RECEIVED
        call.ringing = True
        self._event("ring", call, call.content)

    def _invited(self, peer, call_id, cell, retained):
        call = self.calls.get((False, peer, call_id))
        if not cell:
            if call is None or call.state == _CLEARED:
                self._publish(self._topic(False, peer, call_id), b"")
                return
            if call.talk:
                call.reason = _PEER_LOST
                self._tell(call, "over")
            elif call.state != _ASKED:
                call.reason = call.reason or _CANCELED
                self._tell(call, "canceled")
            state = call.state if _REFUSED <= call.state <= _SEEN or call.state == _OVER else _SEEN
            self._remember(peer, call_id, state, call.reason if state != _SEEN else None)
            self._clear(call)
            return
        state = cell[1]
        if call is None or call.state == _CLEARED:
            self.calls.pop((False, peer, call_id), None)
            known = self._known(peer, call_id)
            if known or state != _RINGING:
                self._final(peer, call_id, state)
                if not known and state == _ENDED and cell.get(7, _EXPIRED) != 2:
                    content = _body(cell)
                    self._event("missed", None, (peer, content))
                return
            try:
                self._room()
            except ValueError:
                self._once(peer, call_id, _REFUSED, _BUSY)
                return
            call = Call(peer, call_id, False, _ASKED)
            call.fresh = None if retained else _now()
            call.end = _now() + 86400000
            self.calls[(False, peer, call_id)] = call
        if state == _RINGING:
            call.epoch, call.ttl = cell[2], cell[4]
            call.offer = call.offer or 11 in cell
            if call.state == _ASKED:
                call.content = _body(cell)
            known = self._online.get(peer) == cell[2]
            live = not retained and cell[4] and (cell.get(16) == self.epoch or known)
            if call.state == _ASKED:
                if live:
                    self._ring(call, _now() + cell[4] + 2000)
                    self._say(call)
                elif call.said is None:
                    call.delay = call.first = 1000
                    self._say(call)
                    self._watch(peer)
                else:
                    self._reply(call)
            else:
                if live and call.state == _RECEIVED:
                    call.end = _now() + cell[4] + 2000
                self._reply(call, call.state == _RECEIVED and not live)
        elif call.talk:
            if state == _ENDED or 11 not in cell:
                call.reason = _TALK_RESTARTED
            else:
                if cell[2] == call.epoch:
                    self._messages(call, cell)
                if state != _CALLER_OVER or not call.talk:
                    return
                call.reason = cell.get(7, _HUNG_UP)
            self._seen(call, "over")
        elif call.state == _ACCEPTED:
            if state == _ENDED:
                self._ended(call, cell)
                return
            if call.mine and call.offer and 11 in cell:
                self._up(call, cell[2])
                call.got = 0
                call.state = _TALKING
            else:
                call.over = True
                call.end = None
                self._set(call, _SEEN)
            self._event("accepted", call)
            if not call.talk:
                return  # or the listener hung up
            if not self._messages(call, cell):
                self._set(call, _TALKING)
            if state == _CALLER_OVER:
                call.reason = cell.get(7, _HUNG_UP)
                self._seen(call, "over")
        elif call.state in (_ASKED, _RECEIVED):
            if state == _ACCEPTED:
                self._decide(call, _FAILED, _ACCEPT_FAILURE, "failed")
            else:
                self._ended(call, cell)
        else:
            self._reply(call)

    def _ended(self, call, cell):
        call.reason = cell.get(7, _EXPIRED)
        call.body = None
        if call.state == _ASKED:
            self._seen(call, "missed" if call.reason != 2 and cell[1] == _ENDED else "")
        else:
            self._seen(call, "canceled" if call.reason in (1, 2) else "failed")

    def _seen(self, call, event):
        call.talk, call.end, call.body = False, None, None
        self._set(call, _SEEN)
        if event:
            self._tell(call, event)
        call.over = True

    def _up(self, call, epoch):
        call.talk, call.epoch = True, epoch
        call.limit = call.end = _now() + 7200000
        call.lost = _TIME_IS_UP

    def _messages(self, call, cell):
        """Handle what is new (Talk 4); whether the cell was said."""
        got = cell.get(13)
        if got is not None and call.acked < got <= call.count:
            call.acked = got
            call.message = None
            call.due = None
            self._event("sent", call, got)
        body = _body(cell) or []
        last = cell.get(12, 0)
        first = last - len(body) + 1
        handled = False
        if first <= (call.got or 0) + 1:
            for n, value in enumerate(body):
                if first + n > (call.got or 0):
                    call.got = first + n
                    handled = True
                    self._event("message", call, value)
                    if not call.talk:
                        return True  # the listener hung up: what follows is not handled
        if handled:
            self._set(call, call.state)
        elif (body and last <= (call.got or 0)) or (not call.out and got is None):
            self._reply(call)
        return handled

    def _answered(self, peer, call_id, cell, _retained):
        call = self.calls.get((True, peer, call_id))
        if not cell:
            if call is not None and call.talk:  # it goes on there no more, or was taken away
                call.reason = _PEER_LOST
                self._clear(call)
                self._tell(call, "over")
            return
        state = cell[1]
        final = state not in (_RECEIVED, _ACCEPTED, _TALKING)
        if call is None:
            said = b""
            if state == _TALKING:
                said = self._cell(_CALLER_OVER, {3: 1, 7: _TALK_RESTARTED, 11: 1, 13: 0})
            elif not final:
                said = self._cell(_ENDED, {3: 1, 7: _RESTARTED})
            self._publish(self._topic(True, peer, call_id), said)
            return
        if call.state == _CLEARED:
            return
        if call.state == _RINGING:
            if state in (_SEEN, _TALKING):
                return
            if not call.heard:
                call.heard = True
                call.due = None
                self._event("received", call)
            if call.state != _RINGING:  # the listener canceled it
                self._answered(peer, call_id, cell, _retained)
            elif state == _RECEIVED:
                if cell.get(10):
                    if call.was_asked:
                        self._present()
                    call.was_asked = True
                    self._reply(call, False, cell[2])
            elif state == _ACCEPTED:
                call.response = _body(cell)
                call.end = call.body = None
                if call.mine and 11 in cell:
                    self._up(call, cell[2])
                    call.end, call.lost = _now() + 30000, _PEER_LOST
                    self._set(call, _ACCEPTED)
                    self._event("accepted", call, call.response)
                else:
                    self._set(call, _ACCEPTED)
                    self._tell(call, "accepted", call.response)
            else:
                call.reason = cell.get(7)
                call.response = _body(cell)
                self._clear(call)
                self._tell(call, "refused" if state == _REFUSED else "failed")
        elif call.talk:
            if state in (_TALKING, _OVER):
                if cell[2] != call.epoch and state == _TALKING:
                    return
                if call.got is None:
                    call.got = 0
                    call.end, call.lost = call.limit, _TIME_IS_UP
                    call.delay = 2000
                    call.due = None if call.message is None else _now() + 2000
                self._messages(call, cell)
                final = state == _OVER and call.talk
            if final:
                call.reason = cell.get(7, _HUNG_UP) if state == _OVER else _PEER_LOST
                self._clear(call)
                self._tell(call, "over")
            elif state == _RECEIVED and cell.get(10):
                self._reply(call)
        elif final:
            if call.state == _ACCEPTED and state != _SEEN:
                self._event("lost", call, cell.get(7))
            self._clear(call)
        elif cell.get(10):
            self._reply(call)


def _field(value):
    if isinstance(value, str):
        value = value.encode()
    return struct.pack(">H", len(value)) + value
