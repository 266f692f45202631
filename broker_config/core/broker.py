"""The whole machine: connections, their packets, and who is let in.

In: bytes that came, verdicts of who may do what, marks up to which the journal is kept, time.
Out: links in ``shared.changed`` (bytes to send, reading to stop or go on, an end), links in
``asked`` whose clients are to be authenticated, operations in ``journal``, events in ``told``.
``deadline`` says when time alone will change something. Everything is called from one thread.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from . import packets as mqtt
from .groups import Groups
from .limits import Allowances, Limits, short, user_of
from .packets import Connect, ProtocolViolation, Subscribe, UnsupportedProtocol
from .rules import Rules
from .session import ClientLink, Session
from .sessions import Sessions
from .turns import ASKING, Steps

logger = logging.getLogger(__name__)

#: Packets of one client handled before others get their turn.
_TURN = 32
#: Bytes read ahead of a client whose packets have to wait.
_AHEAD = 65536
#: Seconds after which a connection's keep-alive is looked at again, at the latest.
_LOOK = 60.0
#: Refusals of an address that cost nothing, and how fast they are forgiven; the longest wait for
#: the next in seconds, and how many of an address may wait at once.
_REFUSALS, _REFUSALS_PER_SECOND, _REFUSED_WAIT, _HELD = 10, 0.5, 30.0, 64
#: Seconds that a device which has sent more than its rate waits at most for its CONNACK.
_LATER = 5.0


class Core(Sessions):
    """An MQTT 3.1.1 broker without I/O."""

    def __init__(self, limits: Limits, rules: Rules, now: float, **options: Any) -> None:
        super().__init__(limits, rules, now, **options)
        self.links: set[ClientLink] = set()
        #: Links whose CONNECT came: they wait for :meth:`admit` or :meth:`refuse`.
        self.asked: list[ClientLink] = []
        self._connects = 0
        #: Those that are not let in yet, by the client id that they ask for.
        self._waiting: Groups[str, ClientLink] = Groups()
        #: Connections of each known device, the oldest first.
        self._connected: Groups[str, ClientLink] = Groups()
        #: How often each address was refused, and how many of it wait to hear so.
        self._refusals = Allowances(_REFUSALS_PER_SECOND, _REFUSALS, limits.failures_remembered)
        self._kept_waiting: Counter[str] = Counter()

    # --- links --------------------------------------------------------------------------------

    def opened(self, peer: Any, address: str, now: float) -> ClientLink:
        """A connection is there."""
        self.now = now
        link = ClientLink(self.shared, peer, address, now)
        self.links.add(link)
        self.stats.connections += 1
        self.at(self.limits.connect_timeout, self._no_connect, link)
        return link

    def _no_connect(self, link: ClientLink) -> None:
        if not link.closed and link.connect is None:
            self.stats.refused["no CONNECT in time"] += 1
            self.end(link, "")

    def received(self, link: ClientLink, data: bytes, now: float) -> None:
        """Bytes came."""
        self.now = link.heard = now
        if link.closed:
            return
        self.stats.bytes_in += len(data)
        if link.connect is None and not len(link.frames) and data[0] >> 4 != mqtt.CONNECT:
            # Said at once: what follows may be no MQTT at all, and its "length" never come.
            why = "[MQTT-3.1.0-1] the first packet is no CONNECT"
            self.broke(link, ProtocolViolation(why))
            return
        link.frames.feed(data)
        self._work(link)

    def lost(self, link: ClientLink, now: float) -> None:
        """The connection is over, whatever its transport says; what came is still handled."""
        self.now = now
        if not link.closed and link.session is None:
            cause = "nothing said" if link.connect is None else "gone before it was let in"
            self.stats.refused[cause] += 1
        link.gone = True
        if not link.open or not link.unheard:
            self.end(link, "")

    def written(self, link: ClientLink, unsent: int, now: float) -> None:
        """What was sent is written; ``unsent`` bytes are not yet taken by the other side."""
        self.now = now
        link.unsent = unsent
        if link.closed:
            return
        if unsent > self.limits.write_buffer:
            who = link.session.device if link.session else link.address
            self.seldom.warning(
                now, ("slow", who), "%s does not read what it is sent; cut off", link
            )
            self.end(link, "does not read", abort=True)
        elif link.session is not None and (link.session.bursts or link.session.pending):
            self.later(link)

    def end(self, link: ClientLink, cause: str, *, abort: bool = False) -> None:
        """End a connection, counted by ``cause``; ``abort``: what is unsent is thrown away.

        Its will is published unless it said goodbye [MQTT-3.1.2-8].
        """
        if link.closed:
            return
        link.closed, link.open, link.abort = True, False, abort
        link.mark()
        self.links.discard(link)
        self.forget(link)
        if cause:
            self.stats.cut[cause] += 1
        if link.refused:
            self._kept_waiting[link.address] -= 1
            if not self._kept_waiting[link.address]:
                del self._kept_waiting[link.address]
        session = link.session
        if session is None and link.connect is not None:
            self._waiting.leave(link.connect.client_id, link)
        if session is None or session.link is not link:
            return
        session.link = None
        session.gone = self.now
        self.unblock(session)
        if session.owner is not None:
            self._connected.leave(session.owner, link)
            self.journal.note("went", session.owner)
        will, session.will = session.will, None
        if session.clean:
            self.forget_session(session)
        else:
            session.note("session", session.owner, False)
        if will is not None and not self.stopping:
            # One that the broker's own end leaves is published in its next life.
            self.settle(session.client_id, will, session)
        self.tell("broker_client_disconnected", session)

    def shut_down(self, now: float) -> None:
        """End all connections."""
        self.now = now
        self.stopping = True
        for link in list(self.links):
            self.end(link, "shutdown")

    def broke(self, link: ClientLink | None, error: Exception) -> None:
        """It failed, or the client broke MQTT: that ends its connection [MQTT-4.8.0-1]."""
        if link is None or not isinstance(error, ProtocolViolation):
            super().broke(link, error)
            return
        if isinstance(error, UnsupportedProtocol):
            link.send(mqtt.encode_connack(mqtt.UNACCEPTABLE_PROTOCOL))
        self.seldom.warning(self.now, ("MQTT", link.address), "%s broke MQTT: %s", link, error)
        self.end(link, "protocol")

    # --- packets --------------------------------------------------------------------------------

    def turn(self, link: ClientLink) -> None:
        """Send what waits for it, and handle what came, as far as others' turns allow."""
        self.pump(link)
        self._work(link)

    def _work(self, link: ClientLink) -> None:
        """Handle whole packets until none is left, the link has to wait, or others have a turn."""
        left = _TURN
        try:
            while left and not link.closed and (link.open or not (link.waits or link.refused)):
                frame = link.next()
                if frame is None:
                    break
                self._handle(link, frame[0], frame[1])
                left -= 1
            if not left and link.unheard:
                self.later(link)
        except Exception as error:  # noqa: BLE001 - told, and its connection ends
            self.broke(link, error)
        # Also one that waits is read, to hear of its end; but not for ever.
        if link.reading != (link.unheard <= _AHEAD):
            link.reading = not link.reading
            link.mark()
        if link.gone and not link.unheard:
            self.end(link, "")

    def _handle(self, link: ClientLink, first: int, body: bytes) -> None:
        kind, flags, session = first >> 4, first & 15, link.session
        if self.tells:
            self.tell("mqtt_packet_received", session, first, body)
        if session is None:
            link.connect = mqtt.decode_connect(flags, body)  # received() takes nothing else first
            self._connects += 1
            link.order = self._connects
            self._waiting.join(link.connect.client_id, link)
            link.waits |= ASKING
            self.asked.append(link)
        elif kind == mqtt.PUBLISH:
            self.stats.messages_in += 1
            message = mqtt.decode_publish(flags, body)
            self.run(link, self.publish(link, session, message, len(body)))
        elif len(body) > self.limits.packet_bytes:
            raise ProtocolViolation(f"a packet of {len(body)} bytes")
        elif kind in (mqtt.PUBACK, mqtt.PUBCOMP):
            session.acknowledged(
                mqtt.decode_ack(kind, flags, body), 1 if kind == mqtt.PUBACK else 2
            )
            if session.pending is not None or session.bursts is not None:
                self.pump(link)
        elif kind == mqtt.PUBREC:
            number = mqtt.decode_ack(kind, flags, body)
            link.hold(mqtt.encode_ack(mqtt.PUBREL, number), session.released(number))
            self.held(link)
        elif kind == mqtt.PUBREL:
            number, since = mqtt.decode_ack(kind, flags, body), self.journal.noted
            if session.incoming and number in session.incoming:
                session.incoming.discard(number)
                session.note("freed", number)
            # Not before it is kept: else the next message under this id counts as seen.
            self.acknowledge(link, mqtt.encode_ack(mqtt.PUBCOMP, number), since)
        else:
            packet = mqtt.decode(first, body)
            if isinstance(packet, Subscribe):
                if kind == mqtt.SUBSCRIBE:
                    self.run(link, self.subscribe(link, session, packet))
                else:
                    self.unsubscribe(link, session, packet)
            elif kind == mqtt.PINGREQ:
                link.send(mqtt.PINGRESP_BYTES)
            elif kind == mqtt.DISCONNECT:
                self.drop_will(session)  # [MQTT-3.14.4-3]
                self.end(link, "")
            else:
                raise ProtocolViolation("[MQTT-3.1.0-2] a second CONNECT")

    # --- CONNECT --------------------------------------------------------------------------------

    def refuse(self, link: ClientLink, code: int, cause: str, now: float) -> None:
        """Say no to a CONNECT [MQTT-3.2.2-4] [MQTT-3.2.2-5].

        The later, the more its address was refused; those above a number get no answer at all.
        """
        self.now = now
        if link.closed:
            return
        self.stats.refused[cause] += 1
        owed = self._refusals.take(link.address, now)
        wait = min(owed, _REFUSED_WAIT) - (now - link.heard)
        if wait <= 0:
            self._refuse((link, code))
        elif self._kept_waiting[link.address] >= _HELD:
            self.end(link, "", abort=True)
        else:
            self._kept_waiting[link.address] += 1
            link.refused = True
            self.at(wait, self._refuse, (link, code))

    def _refuse(self, refused: tuple[ClientLink, int]) -> None:
        link, code = refused
        if not link.closed:
            link.send(mqtt.encode_connack(code))
            self.end(link, "")

    def admit(
        self, link: ClientLink, owner: str | None, seen: Any, spare_id: str, now: float
    ) -> None:
        """Let in who is who it says: ``owner``, None for nobody in particular.

        ``spare_id`` is the client id of one that wants none [MQTT-3.1.3-6].
        """
        self.now = now
        asked = link.connect
        if link.closed or asked is None or link.session is not None:
            return
        asked.password = None  # no longer needed, and nobody's to read
        client_id = asked.client_id
        if not client_id and asked.clean:
            client_id = spare_id if owner is None else f"{owner}:{spare_id}"
        session = Session(self.shared, client_id, owner, clean=asked.clean)
        session.seen, session.will = seen, asked.will
        if self.run(link, self._admit(link, asked, session)):
            self.go_on(link, ASKING)

    def _admit(self, link: ClientLink, asked: Connect, session: Session) -> Steps:
        client_id, will = session.client_id, session.will
        if will is not None:
            allowed: bool | None = self.unfit(will.topic) is None
            if allowed:
                allowed = self.rules.may(link, session, "publish", will.topic)
            if allowed is None:
                allowed = yield
            if not allowed:
                # Dropped like what may not be published: refused, it could never log in.
                self.stats.denied["will"] += 1
                self.say_dropped(session, will.topic, "a will that it may not leave")
                session.will = will = None
        if self.limits.publishes_per_second:
            # A will is a message like another, and goes out without a word more.
            owed = self._rates.take(session.device, self.now, 1.0 + (will is not None))
            if owed:
                self.at(min(owed, _LATER), lambda _: self.verdict(link, True, self.now), None)
                yield
        if not self.rules.valid(session):  # no longer: it was asked some time ago
            self.refuse(link, mqtt.NOT_AUTHORIZED, "not authenticated", self.now)
            return
        refused = self.identity(link, session)
        if refused is not None:
            self.refuse(link, mqtt.IDENTIFIER_REJECTED, refused, self.now)
            return
        old = self.sessions.get(client_id)
        if not asked.clean and (old is None or old.clean) and not self.room_for(session):
            self.refuse(link, mqtt.UNAVAILABLE, "too many persistent sessions", self.now)
            return
        if old is not None and old.link is not None:
            # [MQTT-3.1.4-2]; its will is published, as its end is not a clean one.
            logger.info("%s connects again from %s: taken over", short(client_id), link.address)
            self.stats.takeovers += 1
            self.end(old.link, "taken over", abort=True)
            old = self.sessions.get(client_id)
        present = old is not None and not old.clean and not asked.clean
        if old is not None and present:
            old.seen, old.will = session.seen, will  # [MQTT-3.1.2-4]
            session = old
        elif old is not None:
            self.forget_session(old)  # [MQTT-3.1.2-6]
        self._waiting.leave(asked.client_id, link)
        self._enter(link, session)
        if not self.journal.refusing and not self.is_kept(link):
            # What CONNACK promises is kept: a will above all, and the ids of a former connection.
            kept = yield
            if not kept:
                self.drop_will(session)
                self.refuse(link, mqtt.UNAVAILABLE, "not storable", self.now)
                return
        link.send(mqtt.encode_connack(mqtt.ACCEPTED, session_present=present))
        link.open = True
        link.frames.limit = self.limits.packet_bytes_dropped
        if asked.keep_alive:
            link.timer = asked.keep_alive * 1.5
            self.at(min(link.timer, _LOOK), self._alive, link)
        self.tell("broker_client_connected", session)
        session.resume(link)
        if self.rules.receivers:
            yield from self.ask_for(link, session)
        self.pump(link)

    def _enter(self, link: ClientLink, session: Session) -> None:
        """Give a session its connection."""
        note, client_id, will = self.journal.note, session.client_id, session.will
        # Who asked for it before is the older one, however long it takes to be let in: else its
        # will would be the last word even where the newer one has come and gone by then.
        for older in list(self._waiting.get(client_id, ())):
            if older.order < link.order:
                self.end(older, "taken over", abort=True)
        link.session, session.link = session, link
        self.sessions[client_id] = session
        # A device may take a new client id for each login: the wills that the broker's end left
        # of it are settled when one of its own has the same will again.
        for orphan, left in list(self.orphans.items()):
            mine = will is not None and left.topic == will.topic
            if orphan == client_id or (mine and user_of(orphan) == session.device):
                del self.orphans[orphan]
                note("no will", orphan)
        if not session.clean:
            self.persistent.join(session.device, session)
            session.stored = self.journal.keeps
            session.note("session", session.owner, True)
        if will is not None:
            note("will", client_id, will.topic, will.data, will.qos, int(will.retain))
        if session.owner is not None:
            note("came", session.owner)
            links = self._connected.get(session.owner, {})
            if len(links) >= self.limits.connections_per_device > 0:
                self.seldom.warning(
                    self.now, ("connections", session.device),
                    "%s has limits.connections_per_device = %d connections; the oldest gives way",
                    short(session.device), self.limits.connections_per_device,
                )  # fmt: skip
                cause = "too many connections of one device"
                self.end(next(iter(links)), cause, abort=True)
            self._connected.join(session.owner, link)

    def _alive(self, link: ClientLink) -> None:
        """Cut a client off when nothing came for 1.5 times its keep-alive [MQTT-3.1.2-24]."""
        if link.closed:
            return
        if link.waits:
            link.heard = self.now  # it is not read: its silence is ours
        left = link.heard + link.timer - self.now
        if left > 0:
            self.at(min(left, _LOOK), self._alive, link)
            return
        self.stats.keepalive_timeouts += 1
        logger.info("nothing from %s within 1.5 times its keep-alive; cut off", link)
        self.end(link, "keep-alive", abort=True)
