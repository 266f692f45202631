"""What outlives a connection: sessions and wills, also over a restart; and what becomes old."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import cache

from device_sdk.core.wire.topics import CallTopic, PresenceTopic, parse

from .delivery import Out
from .groups import Groups
from .journal import OWED, Kept
from .limits import Limits, short, user_of
from .packets import Publish, encode_topic, message
from .router import Router
from .rules import Rules
from .session import ClientLink, Session
from .turns import Steps

logger = logging.getLogger(__name__)

#: Seconds between two looks for sessions and cells past their time, and how many at once.
_ROUND, _PORTION = 60.0, 500
#: Seconds after a restart in which a client may come back before its will is published.
WILL_GRACE = 15.0


class Sessions(Router):
    """A router with all that it remembers of its clients."""

    def __init__(
        self,
        limits: Limits,
        rules: Rules,
        now: float,
        *,
        keeps: bool = False,
        realm: str = "sig",
        cell_keep: float = 86400.0,
        will_grace: float = WILL_GRACE,
    ) -> None:
        super().__init__(limits, rules, now, keeps=keeps, realm=realm)
        #: Call cells are cleared when older, in seconds.
        self.cell_keep = cell_keep
        self.will_grace = will_grace
        self.stopping = False
        #: The sessions of each device that outlive their connections.
        self.persistent: Groups[str, Session] = Groups()
        #: Wills that a former broker left, by client id.
        self.orphans: dict[str, Publish] = {}
        self.at(_ROUND, self._round, None)

    # --- sessions and wills -----------------------------------------------------------------------

    def forget_session(self, session: Session) -> None:
        """Forget a session with its subscriptions and messages."""
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
        for topic_filter in session.filters:
            self.subscriptions.remove(topic_filter, session)
        self.persistent.leave(session.device, session)
        session.note("forget")
        session.stored = False

    def identity(self, link: ClientLink, session: Session) -> str | None:
        """Why it may not have its client id; the cause to be counted."""
        client_id, owner = session.client_id, session.owner
        if not client_id or len(client_id) > self.limits.topic_bytes:
            return "client id"  # [MQTT-3.1.3-8]
        # So 'kitchen:tool' and 'kitchen.tool' can be nobody's but kitchen's.
        mine = owner is None or user_of(client_id) == owner
        old = self.sessions.get(client_id)
        if mine and (old is None or old.owner == owner):
            return None
        self.seldom.warning(
            self.now, ("client id", link.address, owner),
            "%s is %s and asks for the client id %s", link, short(owner), short(client_id),
        )  # fmt: skip
        return "client id of another"

    def room_for(self, session: Session) -> bool:
        """Whether one more session may outlive its connection.

        A device that has its share gives up the one that was longest without a connection.
        """
        limits, mine = self.limits, self.persistent.get(session.device, {})
        known = session.owner is not None
        if known and len(mine) >= limits.persistent_sessions_per_device:
            unused = [each for each in mine if each.link is None]
            if not unused:
                return False
            oldest = min(unused, key=lambda each: each.gone)
            self.seldom.warning(
                self.now, ("sessions", session.device),
                "%s has limits.persistent_sessions_per_device = %d; %s was forgotten for another",
                short(session.device), limits.persistent_sessions_per_device,
                short(oldest.client_id),
            )  # fmt: skip
            self.forget_session(oldest)
            self.stats.dropped["persistent session"] += 1
        if known and not mine:
            return True  # its first: not refused for the greed of others
        return sum(map(len, self.persistent.values())) < limits.persistent_sessions

    def drop_will(self, session: Session) -> None:
        """Forget a session's will."""
        if session.will is not None:
            session.will = None
            self.journal.note("no will", session.client_id)

    def _will_stands(self, will: Publish) -> bool:
        """Whether today's rules let it be published; that somebody is gone may always be said."""
        presence = isinstance(parse(self.realm, will.topic), PresenceTopic)
        return presence or self.rules.stands(will.topic)

    def settle(self, client_id: str, will: Publish, session: Session | None = None) -> None:
        """Publish a will, if it may be, and forget it; ``session`` is whose it is, if known."""
        if self._will_stands(will):
            device = self.writer(will.topic) if session is None else session.device
            full = self.no_share(will, device, known=session is None or bool(session.owner))
            if full is None:
                self.stats.wills += 1
                self.say(will, device)
            else:
                self.stats.refused["will, too many retained"] += 1
        self.journal.note("no will", client_id)

    def _bury(self, _: None) -> None:
        """Publish the wills of those who were connected before the restart and did not return."""
        orphans, self.orphans = self.orphans, {}
        for client_id, will in orphans.items() if not self.stopping else ():
            self.settle(client_id, will)

    # --- what was kept, what is old, what is allowed no more --------------------------------------

    def load(self, kept: Kept, now: float) -> None:
        """Take up what a former broker left; before anything else."""
        self.now = now
        for topic, data, qos, age in kept.retained:
            self.retained.set(topic, data, qos, self.writer(topic), now - age)
        for client_id, owner, age in kept.sessions:
            session = Session(self.shared, client_id, owner, clean=False)
            session.stored = True
            session.gone = now - age
            if not age:  # it was connected then, or nobody knows: it is unused from now on
                self.journal.note("session", client_id, owner, False)
            self.sessions[client_id] = session
            self.persistent.join(session.device, session)
        for client_id, topic_filter, qos in kept.filters:
            session = self.sessions[client_id]
            session.filters[topic_filter] = qos
            self.subscriptions.add(topic_filter, session, qos)
        for row, client_id, topic, data, qos, retain, packet_id, received in kept.queue:
            session = self.sessions[client_id]
            self.journal.row = max(row, self.journal.row)
            if retain == OWED:
                search = self.retained.search(topic)
                session.call_for(topic, qos, search, row, asked=not self.rules.receivers)
                continue
            out = Out(topic, encode_topic(topic), data, qos, bool(retain), row)
            if packet_id is None:
                session.put(out)
            else:
                out.received = bool(received)
                session.inflight[packet_id] = out
                session.last_id = packet_id
                session.last_row = row
        for client_id, packet_id in kept.incoming:
            session = self.sessions[client_id]
            session.incoming = (session.incoming or set()) | {packet_id}
        for client_id, topic, data, qos, retain in kept.wills:
            self.orphans[client_id] = message(topic, data, qos, retain=bool(retain))
        if self.orphans:
            self.at(self.will_grace, self._bury, None)

    def _round(self, _: None) -> None:
        """Once a minute: forget sessions and clear cells past their time."""
        self.at(_ROUND, self._round, None)
        before = self.now - self.limits.session_expiry
        for client_id, session in list(self.sessions.items()):
            if self.limits.session_expiry and session.link is None and session.gone < before:
                logger.info("session %s was not used for long: forgotten", short(client_id))
                self.forget_session(session)
        self._clear(None)

    def _clear(self, _: None) -> None:
        if self.clear_old_cells() == _PORTION:
            self.at(0.1, self._clear, None)

    def clear_old_cells(self) -> int:
        """Clear some call cells that are too old; gives how many. Subscribers are told."""
        before = self.now - self.cell_keep
        old: list[str] = []
        for topic, kept in self.retained.messages.items():
            if kept.at >= before or len(old) == _PORTION:
                break  # they are in the order of publishing
            if isinstance(parse(self.realm, topic), CallTopic):
                old.append(topic)
        for topic in old:
            self.clear(topic)
        self.stats.janitor_cleared += len(old)
        return len(old)

    def recheck(self, now: float, cleared: Collection[str] = ()) -> None:
        """After a change of rules: cut who is no longer known, drop what is no longer allowed.

        Of the devices ``cleared`` all call cells are cleared.
        """
        self.now = now
        key = object()
        self.run(key, self._recheck(key, cleared))

    def _recheck(self, key: object, cleared: Collection[str]) -> Steps:
        for client_id, session in list(self.sessions.items()):
            if not self.rules.valid(session):
                logger.warning("%s is no longer registered as it was: cut off", short(client_id))
                if session.link is not None:
                    self.end(session.link, "no longer registered", abort=True)
                self.forget_session(session)
                continue
            for topic_filter in list(session.filters):
                allowed = self.rules.may(key, session, "subscribe", topic_filter)
                if allowed is None:
                    allowed = yield
                if not allowed:
                    logger.warning(
                        "%s may no longer subscribe to %s", short(client_id), short(topic_filter)
                    )
                    self.end_subscription(session, topic_filter)
        self.sweep(cleared)

    def sweep(self, cleared: Collection[str] = ()) -> None:
        """Clear what today's rules let stand no longer, in portions.

        Subscribers are told by the empty message; what waits for somebody's connection is not
        delivered any more, and such a will is not published.
        """

        def stays(topic: str) -> bool:
            cell = parse(self.realm, topic) if cleared else None
            return self.rules.stands(topic) and not (
                isinstance(cell, CallTopic) and (cell.owner in cleared or cell.writer in cleared)
            )

        remembered = cache(stays)  # for this turn: by a later portion the rules may be others
        for client_id, will in list(self.orphans.items()):
            if not self._will_stands(will):
                del self.orphans[client_id]
                self.journal.note("no will", client_id)
        for session in self.sessions.values():
            if session.will is not None and not self._will_stands(session.will):
                self.drop_will(session)
            session.drop(remembered)
        self._sweep((list(self.retained.messages), stays))

    def _sweep(self, left: tuple[list[str], Callable[[str], bool]]) -> None:
        topics, stays = left
        portion, rest = topics[:_PORTION], topics[_PORTION:]
        gone = [topic for topic in portion if not stays(topic)]
        for topic in gone:
            self.clear(topic)
        if gone:
            logger.info("%d cells that may stand no longer are cleared", len(gone))
        if rest:
            self.at(0.0, self._sweep, (rest, stays))
