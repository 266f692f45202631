"""Plays the scenes of the small profile (docs/vectors), under MicroPython and CPython.

    micropython play.py FOLDER      # of docs/vectors; 1 and the differences if there are any

The peer is the one that ships, whole: it writes MQTT to a socket that is not there, by a clock that
the scene moves. What it wrote is read from the packets.
"""

import binascii
import json
import sys

ME = "me"
EPOCH = b"epoch-me"

#: What the app is told here, for the vectors' words; None: this peer has no word for it.
EVENTS = {
    "local_invitation_received_by_peer": "received",
    "local_invitation_accepted": "accepted",
    "local_invitation_refused": "refused",
    "local_invitation_canceled": "canceled",
    "local_invitation_failure": "failed",
    "remote_invitation_received": "ring",
    "remote_invitation_accepted": "accepted",
    "remote_invitation_refused": "refused",
    "remote_invitation_canceled": "canceled",
    "remote_invitation_failure": "failed",
    "missed_call": "missed",
    "local_invitation_peer_lost": "lost",
    "call_message": "message",
    "call_ended": "over",
}


class Clock:
    """Milliseconds, as the scene says."""

    now = 1000

    def ticks(self):
        return self.now


class Broker:
    """The other end of the peer's socket: what it writes is taken apart, what it reads is given."""

    def __init__(self):
        self.written = b""
        self.to_read = b""
        self.up = False
        self.unacked = []
        self.asked = []
        self.out = []
        self.number = 0

    # as a socket, the module `socket`, and its poll object
    AF_INET = SOCK_STREAM = 1

    def getaddrinfo(self, *_):
        return [(0, 0, 0, "", ("", 0))]

    def socket(self, *_):
        return self

    def connect(self, _):
        if not self.up:
            raise OSError(111)

    def nothing(self, *_):
        return None

    settimeout = setblocking = setsockopt = register = close = collect = nothing

    def poll(self, *_):
        return self if not _ else []

    def recv(self, n):
        if not self.up:
            return b""
        if not self.to_read:
            raise OSError(11)
        data, self.to_read = self.to_read[:n], self.to_read[n:]
        return data

    def send(self, data):
        self.written += bytes(data)
        while len(self.written) > 1:
            size = shift = 0
            at = 1
            while True:
                if at >= len(self.written):
                    return len(data)
                byte = self.written[at]
                size |= (byte & 127) << shift
                shift += 7
                at += 1
                if byte < 128:
                    break
            if len(self.written) < at + size:
                break
            kind, body = self.written[0], self.written[at : at + size]
            self.written = self.written[at + size :]
            self.take(kind, body)
        return len(data)

    def packet(self, kind, body):
        head, n = bytes((kind,)), len(body)
        while n > 127:
            head += bytes((n & 127 | 128,))
            n >>= 7
        self.to_read += head + bytes((n,)) + body

    def take(self, kind, body):
        """A packet of the peer."""
        if kind == 0x10:
            self.packet(0x20, b"\0\0")
        elif kind >> 4 == 3:
            n = body[0] << 8 | body[1]
            if kind != 0x33:
                raise AssertionError("a publish that is not retained, with QoS 1")
            self.unacked.append(body[n + 2 : n + 4])
            topic = str(body[2 : n + 2], "utf-8")
            self.out.append(("publish", topic, str(binascii.hexlify(body[n + 4 :]), "ascii")))
        elif kind in (0x82, 0xA2):
            at, filters = 2, []
            while at < len(body):
                n = body[at] << 8 | body[at + 1]
                filters.append(str(body[at + 2 : at + 2 + n], "utf-8"))
                at += n + (3 if kind == 0x82 else 2)
            if kind == 0x82:
                self.asked.append((body[:2], filters))
            self.out += [("subscribe" if kind == 0x82 else "unsubscribe", f) for f in filters]
        elif kind == 0xE0:
            self.out.append(("disconnect",))

    def deliver(self, topic, payload, retained):
        self.number += 1
        raw = topic.encode()
        head = len(raw).to_bytes(2, "big") + raw + self.number.to_bytes(2, "big")
        self.packet(0x32 | retained, head + payload)


def peers(bellwire):
    """The class of the peer, with ids and epoch that are given instead of random ones."""

    class Given(bellwire.Peer):
        given = EPOCH + b"12345678"

        def _fresh(self):
            return self.given

    return Given


def value(bellwire, encoded):
    """A body's value, from its hex."""
    return bellwire._Reader(bytes.fromhex(encoded)).item()


class Player:
    def __init__(self, bellwire, setup):
        self.bellwire, self.talk = bellwire, setup.get("talk", False)
        self.broker, self.clock, self.told, self.faults = Broker(), Clock(), [], []
        bellwire.socket = bellwire.select = self.broker
        bellwire.gc = self.broker  # a test's process holds more than a microcontroller's
        bellwire._now = self.clock.ticks
        bellwire._diff = lambda a, b: a - b
        bellwire._add = lambda a, b: a + b
        # It reads nothing for a day where a scene says so: that is not the link's fault here.
        self.peer = peers(bellwire)(ME, "broker", on_event=self.event, keepalive=65535)

    def event(self, name, call, value):
        self.told.append((name, call, value))
        if isinstance(value, Exception) and self.broker.up:
            self.faults.append("loses its link by " + repr(value))

    def until(self, at):
        self.clock.now = 1000 + round(at * 1000)
        self.peer.poll(0)
        out, self.broker.out = self.broker.out, []
        return out

    def value(self, encoded):
        return value(self.bellwire, encoded)

    def call(self, what):
        peer = what.get("callee") or what.get("caller") or what.get("peer")
        for call in self.peer.calls.values():
            if call.peer == peer and call.id == what["call_id"]:
                return call
        return None

    def do(self, what):
        """Let it happen; whether the app's command was an error."""
        ((kind, how),) = what.items()
        peer, broker = self.peer, self.broker
        if kind == "connected":
            broker.up, broker.unacked, broker.asked, broker.to_read = True, [], [], b""
            peer._retry = None
            peer.poll(0)
        elif kind == "disconnected":
            broker.up = False
        elif kind == "message":
            broker.deliver(how["topic"], bytes.fromhex(how["payload"]), how["retained"])
        elif kind == "acked":
            n = how.get("first", len(broker.unacked))
            for number in broker.unacked[:n]:
                broker.packet(0x40, number)
            broker.unacked = broker.unacked[n:]
        elif kind == "subscribed":
            for number, filters in broker.asked:
                broker.packet(0x90, number + b"\1" * len(filters))
            broker.asked = []
        elif kind == "send":
            call_id = how["call_id"].replace("-", "+").replace("_", "/") + "=="
            peer.given = binascii.a2b_base64(call_id.encode())
            content = self.value(how["content"]) if "content" in how else None
            peer.call(how["callee"], content, round(how.get("ring_timeout", 60) * 1000), self.talk)
        elif kind == "logout":
            peer.close()
        elif kind != "time":
            call = self.call(how)
            if call is None:
                return True
            if kind == "accept":
                response = self.value(how["response"]) if "response" in how else None
                peer.accept(call, response, self.talk)
            elif kind == "say":
                return not peer.send(call, self.value(how["message"]))
            elif kind == "hang_up":
                if not call.talk:
                    return True
                peer.hang_up(call, how.get("reason", 7))
            elif kind == "refuse":
                peer.refuse(call, how.get("reason", 1))
            else:
                getattr(peer, kind)(call)
        peer.poll(0)
        return False


# --- comparing -----------------------------------------------------------------------------------


def essence(topic, payload):
    """What is compared of a cell: all but its seq; of a presence whether it is there, and which."""
    if topic.endswith("/presence"):
        return payload[2:30]
    if payload[30:32] != "03":
        return payload
    info = int(payload[32:34], 16)
    return payload[:30] + payload[34 + (2 << (info - 24) if info > 23 else 0) :]


class Side:
    """What one side did, moment by moment, as the profile compares it."""

    def __init__(self):
        self.last = {}

    def moment(self, at, out):
        """The cells that stand, but those said again within a second; the filters."""
        cells, filters = {}, set()
        for kind, name, *payload in out:
            if kind == "publish":
                cells[name] = essence(name, payload[0])
            elif kind == "subscribe":
                filters.add(name)
        for topic in list(cells):
            what, then = self.last.get(topic, (None, 0))
            if what == cells[topic] and at - then < 1:
                del cells[topic]
            else:
                self.last[topic] = (cells[topic], at)
        return cells, filters


def wanted(out):
    """What a scene wants of one moment, and the events among it."""
    flat, told = [], []
    for each in out:
        if "publish" in each:
            flat.append(("publish", each["publish"], each["payload"]))
        for kind in ("subscribe", "unsubscribe"):
            flat += [(kind, name) for name in each.get(kind, ())]
        name = EVENTS.get(each.get("tell", {}).get("event"))
        if name:
            told.append((name, each["tell"]))
    return flat, told


class Difference(Exception):
    pass


def play(bellwire, scene):
    """A scene; Difference at the first one."""
    player = Player(bellwire, scene.get("setup") or {})
    theirs, mine = Side(), Side()
    told, early = [], [[], []]
    ours = set()  # the peers of calls that the app made or was told of: their presence is read
    subscribed = [set(), set()]

    def compare(at, want, is_, do):
        flat, events = wanted(want)
        told.extend(events)
        for _, tell in events:
            ours.add(tell["peer"])
        (cells, filters), (has, got) = theirs.moment(at, flat), mine.moment(at, is_)
        subscribed[0].update(filters)
        subscribed[1].update(got)
        if cells != has:
            raise Difference("at %s, %s: says %s, not %s" % (at, do, has, cells))

    now = 0
    for step in scene["steps"]:
        at, do = step["at"], step["do"]
        for due in sorted({out["at"] for out in step["out"] if out["at"] < at}):
            compare(due - 0.001, [], player.until(due - 0.001), "early")
            compare(due, [o for o in step["out"] if o["at"] == due], player.until(due), "due")
        if at > now:
            compare(at - 0.001, [], player.until(at - 0.001), "early")
        now = at
        is_ = player.until(at)
        ours.update(do[kind].get("callee") for kind in do if kind == "send")
        refused = player.do(do)
        is_ += player.until(at)
        want = [o for o in step["out"] if o["at"] == at]
        if not player.peer.ready:
            # What it finds of a former life it may end at once, or with the echo.
            early[0] += [o for o in want if o.get("publish", "").count("/") > 4]
            early[1] += [o for o in is_ if o[0] == "publish" and o[1].count("/") > 4]
            want = [o for o in want if o not in early[0]]
            is_ = [o for o in is_ if o not in early[1]]
        elif early[0] or early[1]:
            want, is_, early = early[0] + want, early[1] + is_, [[], []]
        compare(at, want, is_, do)
        if refused != any("raises" in o for o in want):
            raise Difference("at %s, %s: %s" % (at, do, "refused" if refused else "not refused"))
    events(player, told)
    for name in subscribed[0] - subscribed[1]:
        level = name.split("/")[2]
        if not name.endswith("/presence") or player.bellwire.unescape(level) in ours:
            raise Difference("never subscribes to " + name)
    if player.faults:
        raise Difference(player.faults[0])


def events(player, want):
    """What the app was told, in that order, with content, response and message."""
    told = [each for each in player.told if each[0] not in ("online", "offline", "sent", "aborted")]
    names = [name for name, _ in want]
    if [each[0] for each in told] != names:
        raise Difference("tells %s, not %s" % ([each[0] for each in told], names))
    for (name, call, value), (_, tell) in zip(told, want):
        if call is None:  # missed
            peer, value = value
        else:
            peer = call.peer
            value = call.content if name == "missed" else value
            if call.id != tell["call_id"]:
                raise Difference("tells %s of another call" % name)
        if peer != tell["peer"]:
            raise Difference("tells %s of another peer" % name)
        for key in ("content", "response", "message"):
            if key in tell and value != player.value(tell[key]):
                raise Difference("tells %s with %r" % (name, value))


# --- all of them ---------------------------------------------------------------------------------


def scenes(folder):
    """The scenes of the profile."""
    for file in ("calls", "talk", "small"):
        with open("%s/%s.json" % (folder, file)) as text:
            found = json.loads(text.read())
        for scene in found if isinstance(found, list) else found["calls"]:
            if file == "small" or scene.get("small"):
                yield scene


#: Where what is read of a cell stands, for the vectors' words.
KEYS = {"epoch": 2, "seq": 3, "ttl": 4, "reason": 7, "count": 12, "got": 13, "asker": 16}
#: What the peer raises for what is no cell, or no peer id; nothing of it leaves `poll`.
REFUSES = (ValueError, LookupError, TypeError)


def read(bellwire, vector):
    """A cell of the vectors, as this peer reads it."""
    cell = bellwire.decode(vector["kind"], bytes.fromhex(vector["hex"]))
    means = vector["means"]
    for name in KEYS:
        if name in means:
            is_ = cell[KEYS[name]]
            is_ = is_ if isinstance(is_, int) else str(binascii.hexlify(is_), "ascii")
            if is_ != means[name]:
                raise Difference("%s is %s" % (name, is_))
    for name in ("content", "response"):
        if name in means:
            body = bytes.fromhex(means[name])
            has = bellwire._body(cell)
            # It may write each float in eight bytes.
            if cell[5] != body or bellwire.encode(has) != body and not isinstance(has, float):
                raise Difference("its body")
    if "messages" in means:
        messages = [value(bellwire, each) for each in means["messages"]]
        if bellwire._body(cell) != messages:
            raise Difference("its messages")
    if bool(cell.get(10)) != means.get("ask", False) or "talk" in means and 11 not in cell:
        raise Difference("ask or talk")


def refuses(what, *given):
    """It has to raise what it raises for what it cannot read."""
    try:
        what(*given)
    except REFUSES:
        return
    raise Difference("not refused")


def alone(bellwire, folder):
    """(name, check) of cells, malformed ones and peer ids."""

    def load(file):
        with open("%s/%s.json" % (folder, file)) as text:
            return json.loads(text.read())

    cells, talk, topics = load("cells"), load("talk"), load("topics")
    for vector in cells["cells"] + cells["tolerated"] + talk["cells"] + talk["tolerated"]:
        yield vector["name"], lambda vector=vector: read(bellwire, vector)
    for vector in load("malformed") + talk["malformed"]:
        data = bytes.fromhex(vector["hex"])
        yield (
            vector["name"],
            lambda vector=vector, data=data: refuses(bellwire.decode, vector["kind"], data),
        )
    for each in topics["peers"]:
        yield each["level"], lambda each=each: same(bellwire, each)
    for level in topics["no_levels"]:
        yield "level " + level, lambda level=level: refuses(bellwire.unescape, level)


def same(bellwire, each):
    """A peer id and its level."""
    if bellwire.escape(each["peer"]) != each["level"]:
        raise Difference("escape")
    if bellwire.unescape(each["level"]) != each["peer"]:
        raise Difference("unescape")


def all_of(bellwire, folder):
    """(name, check) of the whole profile."""
    yield from alone(bellwire, folder)
    for scene in scenes(folder):
        yield scene["name"], lambda scene=scene: play(bellwire, scene)


def differences(bellwire, folder, first=False):
    """(how many were tried, [(name, what differs)]); the first only, if that is enough."""
    count, found = 0, []
    for name, check in all_of(bellwire, folder):
        count += 1
        try:
            check()
        except Difference as error:
            found.append((name, str(error)))
        except Exception as error:
            found.append((name, repr(error)))
        if found and first:
            break
    return count, found


def main(folder):
    import bellwire

    count, found = differences(bellwire, folder)
    for name, what in found:
        print("DIFFERS", name + ":", what)
    print("the small profile: %d vectors, %d differ" % (count, len(found)))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
