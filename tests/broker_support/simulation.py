"""The core in a world of chance: links break, commits lag, the process dies, and what it promised.

``python -m tests.broker_support.simulation [STEPS] [SEED]``. Clients speak MQTT over links that
carry bytes when chance says so; the journal is kept in batches, late; a crash leaves what was
committed and perhaps more, never less, and the next life begins from there. Whatever was
acknowledged must hold.
"""

from __future__ import annotations

import copy
import random
import sys
from collections import Counter, defaultdict
from typing import Any

from broker_config.core import packets as mqtt
from broker_config.core.broker import Core
from broker_config.core.journal import Kept, Operation
from broker_config.core.limits import Limits
from broker_config.core.session import ClientLink, Session
from tests.bench.broker_wire import publish, remaining, subscribe, text

from .memory import Anybody

LIMITS = Limits(inflight=3, queued=1 << 30, queued_bytes=1 << 40, write_buffer=1 << 40)
ROOMY = 1 << 40


class Broken(AssertionError):
    """A promise was broken; the text says which."""


class Image:
    """The journal as tables in memory: what SQLite does, in the plainest way."""

    def __init__(self) -> None:
        self.retained: dict[str, tuple[str, bytes, int]] = {}
        self.sessions: dict[str, str | None] = {}
        self.filters: dict[tuple[str, str], int] = {}
        self.queue: dict[int, list[Any]] = {}
        self.incoming: set[tuple[str, int]] = set()
        self.wills: dict[str, tuple[str, bytes, int, int]] = {}

    def apply(self, operation: Operation) -> None:
        name, *values = operation
        key = values[0]
        if name == "retain":
            self.retained.pop(key, None)
            self.retained[key] = (key, values[1], values[2])
        elif name == "clear":
            self.retained.pop(key, None)
        elif name == "session":
            self.sessions[key] = values[1]
        elif name == "forget":
            self.sessions.pop(key, None)
            self.filters = {each: qos for each, qos in self.filters.items() if each[0] != key}
            self.queue = {row: each for row, each in self.queue.items() if each[0] != key}
            self.incoming = {each for each in self.incoming if each[0] != key}
        elif name == "subscribe":
            self.filters[key, values[1]] = values[2]
        elif name == "unsubscribe":
            self.filters.pop((key, values[1]), None)
        elif name == "queue":
            self.queue[key] = [*values[1:], None, 0]
        elif name == "sent":
            if values[1] in self.queue:
                self.queue[values[1]][5] = key
        elif name == "released":
            if key in self.queue:
                self.queue[key][6] = 1
        elif name == "finished":
            self.queue.pop(key, None)
        elif name == "received":
            self.incoming.add((key, values[1]))
        elif name == "freed":
            self.incoming.discard((key, values[1]))
        elif name == "will":
            self.wills[key] = (values[1], values[2], values[3], values[4])
        elif name == "no will":
            self.wills.pop(key, None)
        elif name not in ("came", "went"):
            raise Broken(f"an operation nobody knows: {name}")

    def kept(self) -> Kept:
        return Kept(
            [(*each, 0.0) for each in self.retained.values()],
            [(client, owner, 0.0) for client, owner in self.sessions.items()],
            [(*key, qos) for key, qos in self.filters.items()],
            [(row, *each) for row, each in sorted(self.queue.items())],  # type: ignore[misc]
            sorted(self.incoming),
            [(client, *will) for client, will in self.wills.items()],
        )


class Client:
    """An MQTT client that does as it should, with what it remembers over its connections."""

    def __init__(self, number: int) -> None:
        self.id = f"c{number}"
        self.clean = number >= 4
        self.qos = 1 + number % 2
        self.life = 0
        self.promised_session = False
        #: What it has sent and the broker has not acknowledged: id to (topic, value, QoS, stage).
        self.unacknowledged: dict[int, list[Any]] = {}
        self.held: set[int] = set()
        self.got: list[tuple[str, int, int]] = []
        self.subscribed = False
        #: Lives in which it was let in, and in which it said goodbye; what it read last of each.
        self.let_in = self.goodbye = 0
        self.registers: dict[str, int] = {}
        self.drop_link()

    def drop_link(self) -> None:
        self.link: ClientLink | None = None
        self.up = False
        self.said_goodbye = False
        self.to_broker = b""
        self.to_client = b""
        self.closing = False
        self.frames = mqtt.Frames(1 << 20)


class Rules(Anybody):
    """Allows everything, now or later."""

    def __init__(self, chance: random.Random, lag: float, receivers: bool) -> None:
        self.chance, self.lag, self.receivers = chance, lag, receivers
        self.pending: list[object] = []

    def may(self, key: object, _session: Session, _action: str, _topic: str) -> bool | None:
        if self.chance.random() < self.lag:
            self.pending.append(key)
            return None
        return True


class World:
    """One run: some lives of a broker and what its clients were promised."""

    def __init__(self, seed: int, clients: int = 6) -> None:
        self.chance = random.Random(seed)
        self.steps = 0
        self.now = 0.0
        self.value = 0
        self.figures: Counter[str] = Counter()
        self.lag = self.chance.choice((0.0, 0.0, 0.2))
        self.asks_receivers = self.chance.random() < 0.25
        self.disk = Image()
        self.clients = [Client(number) for number in range(clients)]
        #: Registers: what was sent last, and what was acknowledged last.
        self.sent: dict[str, int] = {}
        self.acknowledged: dict[str, int] = {}
        #: Subscriber to the values that it is owed, and the QoS each was published with.
        self.owed: dict[str, dict[int, str]] = defaultdict(dict)
        self.audience: dict[int, list[str]] = {}
        self.actions = [
            (self.carry, 40), (self.answer, 25), (self.say, 14), (self.commit, 10),
            (self.connect, 8), (self.verdict, 6), (self.leave, 0.5), (self.snap, 0.7),
            (self.wait, 2), (self.crash, 0.5),
        ]  # fmt: skip
        self.begin()

    # --- the broker's life ------------------------------------------------------------------------

    def begin(self) -> None:
        self.rules = Rules(self.chance, self.lag, self.asks_receivers)
        self.core = Core(LIMITS, self.rules, self.now, keeps=True, will_grace=5.0)
        self.core.load(copy.deepcopy(self.disk).kept(), self.now)
        self.batches: list[list[Operation]] = []
        self.written = 0
        self.told = 0
        for topic, value in self.acknowledged.items():
            kept = self.core.retained.messages.get(topic)
            found = int(kept.data) if kept is not None else -1
            if not value <= found <= self.sent[topic]:
                raise Broken(f"{topic}: {value} was acknowledged, {found} is kept")

    def crash(self) -> None:
        """The process dies: some batches are written of which it never heard, none in part."""
        self.figures["crashes"] += 1
        self.one_link_each()
        for _ in range(self.chance.randint(0, len(self.batches))):
            self._write()
        for client in self.clients:
            client.drop_link()
        self.begin()

    def _write(self) -> None:
        for operation in self.batches.pop(0):
            self.disk.apply(operation)
            self.written += 1

    def commit(self) -> None:
        """A batch is written; the broker hears of it now, or later together with others."""
        if self.batches:
            self._write()
        if self.written > self.told and self.chance.random() < 0.7:
            self.told = self.written
            self.core.committed(self.told, self.now)
            self.harvest()

    def harvest(self) -> None:
        """What the core wants done, done as the net would."""
        core = self.core
        while core.shared.changed:
            changed, core.shared.changed = core.shared.changed, []
            for link in changed:
                link.marked = False
                client: Client = link.peer
                data, link.out = b"".join(link.out), []
                if client.link is not link:
                    continue
                client.to_client += data
                if link.closed:
                    client.closing = True
                    if link.abort:
                        client.to_client = b""
                if data:
                    core.written(link, 0, self.now)
        if core.journal.operations:
            self.batches.append(core.journal.take())
        for cause in ("error", "protocol"):
            if core.stats.cut[cause]:
                raise Broken(f"a connection was cut: {cause}")
        if core.stats.dropped["delivery failed"]:
            raise Broken("a delivery failed")

    def wait(self) -> None:
        self.now += self.chance.choice((0.0, 0.1, 3.0))
        self.tick()

    def tick(self) -> None:
        if self.core.deadline() <= self.now:
            self.core.tick(self.now)
        self.harvest()

    def verdict(self) -> None:
        asked, self.core.asked = self.core.asked, []
        self.chance.shuffle(asked)
        for link in asked:
            if self.chance.random() < 0.3:
                self.core.asked.append(link)
            else:
                self.core.admit(link, None, None, "spare", self.now)
        pending = self.rules.pending
        if pending:
            key = pending.pop(self.chance.randrange(len(pending)))
            self.core.verdict(key, True, self.now)
        self.harvest()

    # --- the clients ------------------------------------------------------------------------------

    def pick(self, has: str = "id") -> Client:
        """One of the clients, if possible one that ``has`` something."""
        some = [client for client in self.clients if getattr(client, has)] or self.clients
        return some[int(self.chance.random() * len(some))]

    def connect(self) -> None:
        """A client connects; again, too, while its former connection is still there."""
        client = self.pick()
        if client.link is not None and (client.up and self.chance.random() < 0.8):
            return
        client.drop_link()
        client.life += 1
        client.link = self.core.opened(client, "somewhere", self.now)
        will = text(f"p/{client.id}") + text(f"off {client.life}")
        body = b"\0\4MQTT\4" + bytes((0x2C | (2 if client.clean else 0), 0, 0)) + text(client.id)
        client.to_broker = b"\x10" + remaining(len(body + will)) + body + will
        self.figures["connects"] += 1

    def carry(self) -> None:
        """Some bytes reach the broker, packets cut wherever."""
        client = self.pick("to_broker")
        if client.link is None or not client.to_broker:
            return
        size = len(client.to_broker)
        if self.chance.random() < 0.3:
            size = self.chance.randint(1, size)
        data, client.to_broker = client.to_broker[:size], client.to_broker[size:]
        self.core.received(client.link, data, self.now)
        self.harvest()
        self.tick()

    def answer(self) -> None:
        """Some bytes reach a client, and it answers."""
        client = self.pick("to_client")
        if client.link is None:
            return
        size = len(client.to_client)
        if size and self.chance.random() < 0.3:
            size = self.chance.randint(1, size)
        data, client.to_client = client.to_client[:size], client.to_client[size:]
        if data:
            client.frames.feed(data)
            while (frame := client.frames.next()) is not None:
                self.on_packet(client, *frame)
        if client.closing and not client.to_client:
            client.drop_link()

    def on_packet(self, client: Client, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == mqtt.CONNACK:
            if body[1]:
                raise Broken(f"{client.id} was refused with {body[1]}")
            if client.promised_session and not body[0]:
                raise Broken(f"the session of {client.id} is gone")
            client.promised_session = not client.clean
            client.up = True
            client.let_in = client.life
            if not body[0]:
                client.unacknowledged.clear()
                client.held.clear()
            for number, each in client.unacknowledged.items():
                topic, value, qos, stage = each
                if stage == "released":
                    client.to_broker += mqtt.encode_ack(mqtt.PUBREL, number)
                else:
                    packet = bytearray(self.packet(topic, value, number, qos))
                    packet[0] |= 8
                    client.to_broker += bytes(packet)
            client.to_broker += publish(
                f"p/{client.id}", b"on %d" % client.life, 0, qos=0, retain=True
            )
            if not client.subscribed:
                client.to_broker += subscribe("q/#", "r/#", qos=client.qos, packet_id=60000)
        elif kind == mqtt.SUBACK:
            client.subscribed = not client.clean
        elif kind == mqtt.PUBLISH:
            message = mqtt.decode_publish(first & 15, body)
            if message.qos == 2 and message.packet_id in client.held:
                self.figures["duplicates"] += 1
            elif message.topic.startswith("q/"):
                client.got.append((message.topic, int(message.data), message.qos))
            else:
                client.registers[message.topic] = int(message.data or b"0")
            if message.qos == 2:
                client.held.add(message.packet_id)
            if message.qos:
                answer = mqtt.PUBACK if message.qos == 1 else mqtt.PUBREC
                client.to_broker += mqtt.encode_ack(answer, message.packet_id)
        elif kind == mqtt.PUBREL:
            number = mqtt.packet_id(body)
            client.held.discard(number)
            client.to_broker += mqtt.encode_ack(mqtt.PUBCOMP, number)
        elif kind in (mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP):
            number = mqtt.packet_id(body)
            known = client.unacknowledged.get(number)
            if known is None:
                return
            if kind != mqtt.PUBCOMP:
                self.on_acknowledged(known)
            if kind == mqtt.PUBREC:
                known[3] = "released"
                client.to_broker += mqtt.encode_ack(mqtt.PUBREL, number)
            else:
                del client.unacknowledged[number]

    def on_acknowledged(self, known: list[Any]) -> None:
        topic, value, qos, stage = known
        if stage == "released":
            return
        self.figures["acknowledged"] += 1
        if topic.startswith("r/"):
            self.acknowledged[topic] = max(value, self.acknowledged.get(topic, 0))
        for name in self.audience.pop(value, ()):
            self.owed[name][value] = topic
        _ = qos

    def packet(self, topic: str, value: int, number: int, qos: int) -> bytes:
        return publish(topic, b"%d" % value, number, qos=qos, retain=topic.startswith("r/"))

    def say(self) -> None:
        """A client publishes: to a register of its own, or to all who subscribed."""
        client = self.pick()
        free = [number for number in range(1, 5) if number not in client.unacknowledged]
        if not client.up or client.said_goodbye or not free:
            return
        self.value += 1
        number, qos = self.chance.choice(free), self.chance.choice((1, 2))
        if self.chance.random() < 0.4:
            topic = f"r/{client.id}"
            # Always the same: what is sent again at one QoS may come after a later one of another.
            qos = client.qos
            self.sent[topic] = self.value
        else:
            topic = f"q/{client.id}/{qos}"
            self.audience[self.value] = [each.id for each in self.clients if each.subscribed]
        client.unacknowledged[number] = [topic, self.value, qos, "sent"]
        client.to_broker += self.packet(topic, self.value, number, qos)
        self.figures["published"] += 1

    def leave(self) -> None:
        """A client says goodbye: what it has sent before arrives with it."""
        client = self.pick()
        if client.up and client.link is not None and not client.said_goodbye:
            client.said_goodbye = True
            client.goodbye = client.life
            client.to_broker += b"\xe0\0"

    def snap(self) -> None:
        """A connection breaks: what is under way is lost, both ways."""
        client = self.pick()
        if client.link is not None:
            link = client.link
            client.drop_link()
            self.core.lost(link, self.now)
            self.harvest()
            self.figures["breaks"] += 1

    # --- a run ------------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        actions = [action for action, _ in self.actions]
        weights = [weight for _, weight in self.actions]
        for action in self.chance.choices(actions, weights, k=steps):
            action()
        self.steps += steps
        self.settle()

    def settle(self) -> None:
        """All persistent clients are back, everything arrives; then accounts are made up."""
        gone = self.chance.random() < 0.5
        if gone:
            self.crash()
        for client in self.clients:
            if client.clean and client.link is not None:
                link = client.link
                client.drop_link()
                self.core.lost(link, self.now)
        quiet = 0
        for _ in range(5000):
            for client in self.clients:
                if client.clean:
                    continue
                if client.link is None or client.said_goodbye:
                    client.drop_link()
                    client.life += 1
                    client.link = self.core.opened(client, "somewhere", self.now)
                    will = text(f"p/{client.id}") + text(f"off {client.life}")
                    body = b"\0\4MQTT\4\x2c\0\0" + text(client.id) + will
                    client.to_broker = b"\x10" + remaining(len(body)) + body
            before = (len(self.batches), self.core.stats.bytes_in, self.core.stats.messages_out)
            chance, self.chance = self.chance, _Always()  # type: ignore[assignment]
            for client in self.clients:
                self.pick = lambda _has="", client=client: client  # type: ignore[method-assign, misc]
                self.carry()
                self.answer()
            del self.pick  # type: ignore[method-assign]
            self.verdict()
            self.commit()
            self.chance = chance
            self.now += 1.0
            self.tick()
            moved = before != (
                len(self.batches), self.core.stats.bytes_in, self.core.stats.messages_out,
            )  # fmt: skip
            quiet = 0 if moved or self.batches or self.rules.pending else quiet + 1
            if quiet > 12:
                break
        else:
            raise Broken("it never comes to rest")
        self.account()

    def one_link_each(self) -> None:
        for link in self.core.links:
            if link.open and (link.session is None or link.session.link is not link):
                raise Broken("a client has two connections")

    def account(self) -> None:
        for client in self.clients:
            values = Counter(value for _, value, _ in client.got)
            exactly = {value for _, value, qos in client.got if qos == 2}
            for value, topic in self.owed[client.id].items():
                if not values[value]:
                    raise Broken(f"{client.id} never got {value} of {topic}")
            for value in exactly:
                if values[value] != 1 and not client.clean:
                    raise Broken(f"{client.id} got {value} {values[value]} times at QoS 2")
            latest: dict[tuple[str, int], int] = {}
            seen: set[int] = set()
            for topic, value, qos in client.got:
                # What was published before it subscribed may come again, later.
                if value in seen or value not in self.owed[client.id]:
                    continue
                seen.add(value)
                if value < latest.get((topic, qos), 0):
                    raise Broken(f"{client.id} got {value} of {topic} after a later one")
                latest[topic, qos] = value
            self.figures["delivered"] += len(client.got)
            kept = self.core.retained.messages.get(f"p/{client.id}")
            said = kept.data.decode().split() if kept is not None else []
            session = self.core.sessions.get(client.id)
            if (client.id in self.disk.wills) != (
                session is not None and session.link is not None and session.link.open
            ):
                raise Broken(f"the will of {client.id} is kept wrongly")
            if client.up and said != ["on", str(client.life)]:
                raise Broken(f"{client.id} is there in its life {client.life}, but {said}")
            if not client.up and client.life == client.let_in != client.goodbye:
                self.figures["wills"] += 1
                if said != ["off", str(client.life)]:
                    raise Broken(f"{client.id} is gone since its life {client.life}, but {said}")
            for topic, each in self.core.retained.messages.items():
                # Of who begins anew at each connect, what it never said again may be lost.
                if client.subscribed and topic in ("r/c0", "r/c1", "r/c2", "r/c3"):
                    read = client.registers.get(topic)
                    if read != int(each.data):
                        raise Broken(f"{client.id} read {read} of {topic}, it is {each.data!r}")
        self.one_link_each()
        if self.disk.queue:
            raise Broken(f"{len(self.disk.queue)} messages are kept that all have")
        for topic, value in self.acknowledged.items():
            kept = self.core.retained.messages.get(topic)
            if kept is None or int(kept.data) < value:
                raise Broken(f"{topic}: {value} was acknowledged, {kept and kept.data!r} is kept")


class _Always(random.Random):
    """Chance that always lets everything through."""

    def random(self) -> float:
        return 0.5


def simulate(steps: int, seed: int, episode: int = 2000) -> Counter[str]:
    """``steps`` in worlds of ``episode`` steps each; gives what happened, or raises Broken."""
    figures: Counter[str] = Counter()
    for number in range(max(1, steps // episode)):
        world = World(seed * 1_000_003 + number)
        try:
            world.run(episode)
        except Broken as broken:
            raise Broken(f"seed {seed}, world {number}: {broken}") from None
        figures += world.figures
        figures["steps"] += world.steps
        figures["worlds"] += 1
    return figures


def main() -> None:
    """Print what happened."""
    import logging

    logging.disable(logging.CRITICAL)
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 30)
    figures = simulate(steps, seed)
    print(f"seed {seed}: " + ", ".join(f"{count:,} {name}" for name, count in figures.items()))


if __name__ == "__main__":
    main()
