"""One life of a broker's core: bytes, verdicts, commits and time in; bytes out."""

from __future__ import annotations

import copy
from typing import Any

from broker_config.core import packets as mqtt
from broker_config.core.broker import Core
from broker_config.core.limits import Limits
from broker_config.core.session import ClientLink, Session
from tests.bench.broker_wire import remaining, subscribe, text

from .memory import Anybody, taken
from .simulation import Image

LIMITS = Limits(inflight=3, queued=5, stall=1.0)
HELLO = mqtt.encode_connack(0)
BACK = mqtt.encode_connack(0, session_present=True)
RING = "sig/v1/kitchen/invite/front-door/c"


def puback(number: int) -> bytes:
    return mqtt.encode_ack(mqtt.PUBACK, number)


def hello(name: str, *, clean: bool = True, will: bytes | None = None, keep: int = 0) -> bytes:
    """A CONNECT; its will is retained at QoS 1 on ``p/NAME``."""
    flags = (2 if clean else 0) | (0x2C if will is not None else 0)
    tail = text(f"p/{name}") + len(will).to_bytes(2, "big") + will if will is not None else b""
    body = b"\0\4MQTT\4" + bytes((flags,)) + keep.to_bytes(2, "big") + text(name) + tail
    return b"\x10" + remaining(len(body)) + body


class Asked(Anybody):
    """Rules that answer when they are told to."""

    def __init__(self) -> None:
        self.later = False
        self.asked: list[tuple[object, str, str]] = []

    def may(self, key: object, _session: Session, action: str, topic: str) -> bool | None:
        if not self.later:
            return "forbidden" not in topic
        self.asked.append((key, action, topic))
        return None


class Life:
    """One life of a broker, from what the one before left on the disk."""

    def __init__(
        self, disk: Image | None = None, limits: Limits = LIMITS, *, keeps: bool = True
    ) -> None:
        self.disk = disk or Image()
        self.rules = Asked()
        self.core = Core(limits, self.rules, 100.0, keeps=keeps)
        self.core.load(copy.deepcopy(self.disk).kept(), 100.0)

    def at(self, seconds: float) -> None:
        """Time passes."""
        self.core.tick(100.0 + seconds)

    def commit(self) -> None:
        """All that was noted is kept, and the core hears of it."""
        for operation in self.core.journal.take():
            self.disk.apply(operation)
        self.core.committed(self.core.journal.noted, self.core.now)
        self.turn()

    def turn(self) -> None:
        while self.core.asked:
            self.core.admit(self.core.asked.pop(0), None, None, "spare", self.core.now)
        while self.core.deadline() <= self.core.now:
            self.core.tick(self.core.now)

    def link(self, first: bytes) -> ClientLink:
        link = self.core.opened(None, "somewhere", self.core.now)
        self.send(link, first)
        return link

    def send(self, link: ClientLink, data: bytes) -> None:
        self.core.received(link, data, self.core.now)
        self.turn()

    def client(self, name: str, **options: Any) -> ClientLink:
        """One that is let in, with all that belongs to it kept."""
        link = self.link(hello(name, **options))
        self.commit()
        assert taken(link)[:2] == b"\x20\x02"
        return link

    def subscriber(
        self, name: str, topic_filter: str = "#", qos: int = 1, **options: Any
    ) -> ClientLink:
        link = self.client(name, **options)
        self.send(link, subscribe(topic_filter, qos=qos))
        self.commit()
        assert taken(link)[0] == 0x90
        return link


def kinds(data: bytes) -> list[int]:
    """The kinds of the packets in ``data``."""
    frames = mqtt.Frames(1 << 20)
    frames.feed(data)
    return [first >> 4 for first, _ in iter(frames.next, None)]


def payloads(link: ClientLink) -> list[bytes]:
    """What came over ``link`` since, acknowledged by nobody."""
    frames = mqtt.Frames(1 << 20)
    frames.feed(taken(link))
    return [
        mqtt.decode_publish(first & 15, body).data
        for first, body in iter(frames.next, None)
        if first >> 4 == mqtt.PUBLISH
    ]


def known(life: Life, owner: str, client_id: str | None = None, **options: Any) -> ClientLink:
    """A client whose owner was found out, on its way in."""
    link = life.core.opened(None, "somewhere", life.core.now)
    life.core.received(link, hello(client_id or owner, **options), life.core.now)
    life.core.admit(life.core.asked.pop(), owner, None, "spare", life.core.now)
    life.commit()
    return link


def unsubscribe(topic_filter: str) -> bytes:
    body = b"\0\5" + text(topic_filter)
    return b"\xa2" + remaining(len(body)) + body
