"""The part of the broker that remembers: sessions between connections, wills, old cells."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from amqtt.session import Session

from device_sdk.topics import CallTopic, PresenceTopic, parse

from .handler import SignalingHandler
from .routing import Retained, RoutingBroker
from .seldom import short
from .session import Burst, Outgoing, SignalingSession, device_of
from .store import CLOCK_IS_SET, OWED
from .wire import encode_topic

logger = logging.getLogger(__name__)

#: Seconds between two looks for sessions and call cells past their time.
_ROUND = 60.0
#: Seconds after a restart in which a client may come back before its will is published.
WILL_GRACE = 15.0
#: Retained messages looked at before others have their turn.
_SWEPT = 500


class KeepingBroker(RoutingBroker):
    """What outlives a connection, and for how long."""

    #: Call cells of the realm are cleared when older than ``cell_keep`` seconds.
    cell_keep = 86400.0
    will_grace = WILL_GRACE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stopping = False
        self._orphans: dict[str, SignalingSession] = {}
        #: Client ids of the sessions that outlive their connection, by device.
        self._persistent: dict[str, dict[str, None]] = {}
        self._grace: asyncio.TimerHandle | None = None
        self._publishing: set[asyncio.Task[None]] = set()

    # --- sessions -------------------------------------------------------------------------------

    async def _room_for(self, asked: SignalingSession) -> bool:
        """Whether one more session may outlive its connection.

        A device that has its share gives up the one that was longest without a connection.
        """
        client_id, limits = asked.client_id or "", self.limits
        if client_id in self._sessions and not self._sessions[client_id][0].clean_session:
            return True
        mine = self._persistent.get(asked.device, {})
        if len(mine) >= limits.persistent_sessions_per_device and self._known(asked):
            unused = [each for each in mine if self._kept(each).handler is None]
            if not unused:
                return False
            oldest = min(unused, key=lambda each: self._kept(each).left or 0.0)
            self.seldom.warning(
                ("sessions", asked.device),
                "%s has limits.persistent_sessions_per_device = %d; %s was forgotten for another",
                short(asked.device), limits.persistent_sessions_per_device, short(oldest),
            )  # fmt: skip
            await self._delete_session(oldest)
            self.stats.dropped["persistent session"] += 1
        if self._known(asked) and not self._persistent.get(asked.device):
            return True  # its first: not refused for the greed of others
        return sum(map(len, self._persistent.values())) < limits.persistent_sessions

    async def _take_session(self, asked: SignalingSession) -> SignalingSession:
        """The session to serve: the kept one with its new will, or ``asked`` itself."""
        client_id = asked.client_id or ""
        self._returned(asked)
        old = self._sessions.get(client_id)
        session = asked
        if old is not None:
            kept = old[0]
            if asked.clean_session or kept.clean_session or not isinstance(kept, SignalingSession):
                await self._delete_session(client_id)  # [MQTT-3.1.2-6]
            else:
                # [MQTT-3.1.2-4]; everything that CONNECT says anew, the will's retain flag included
                for name in (
                    "will_flag", "will_retain", "will_qos", "will_topic", "will_message",
                    "username", "keep_alive", "is_anonymous", "ssl_object", "attributes",
                ):  # fmt: skip
                    setattr(kept, name, getattr(asked, name))
                kept.parent = 1
                session = kept
        if not session.clean_session:
            self._persistent.setdefault(session.device, {})[client_id] = None
        if self.store is not None:
            if not session.clean_session:
                session.stored = True
                self.store.session(session, connected=True)
            if session.will_flag:
                self.store.will(session)
            if session.owner is not None:
                self.store.came(session.owner)
        return session

    async def _delete_session(self, client_id: str) -> None:
        """Forget a session with its subscriptions and messages."""
        session = self._sessions.pop(client_id, (None, None))[0]
        if session is None:
            return
        mine = self._persistent.get(getattr(session, "device", ""), {})
        mine.pop(client_id, None)
        if not mine:
            self._persistent.pop(getattr(session, "device", ""), None)
        await self._del_all_subscriptions(session)
        session.clear_queues()
        if isinstance(session, SignalingSession) and session.stored and self.store is not None:
            self.store.drop(client_id)
            session.stored = False

    async def _publish_session_retained_messages(self, session: Session) -> None:
        """Send what waited for this session while it had no connection."""
        if isinstance(session, SignalingSession) and session.handler is not None:
            session.handler.fill_window()

    # --- wills ----------------------------------------------------------------------------------

    async def _settle_will(self, session: SignalingSession, publish: bool) -> None:
        session.will_flag = False
        if publish and not self._will_stands(session):
            publish = False
        if publish and self.stopping:
            return  # stored, it is published after the restart if the client does not come back
        if publish:
            await self._publish_will(session)
        if self.store is not None:
            self.store.no_will(session.client_id or "")

    async def _publish_will(self, session: SignalingSession) -> None:
        topic, data = session.will_topic or "", session.will_message or b""
        if session.will_retain and data:
            full = self._no_share(session, topic, data)
            if full is not None:
                self.stats.refused["will, too many retained"] += 1
                self._say_dropped(session, f"the will of {short(session.client_id)}", topic, full)
                return
        self.stats.wills += 1
        if session.will_retain:
            await self.retain_message(session, topic, data, session.will_qos)
        await self._broadcast_message(None, topic, data, session.will_qos)

    def _returned(self, session: SignalingSession) -> None:
        """Forget the wills that the broker's end left of who is back, under whatever client id.

        A device may take a new client id for each login (``kitchen.x7Fq``): it is back when one
        of its own has the same will again.
        """
        self._orphans.pop(session.client_id or "", None)
        for client_id, orphan in list(self._orphans.items()):
            if (
                session.will_flag
                and orphan.will_topic == session.will_topic
                and orphan.device == session.device
            ):
                del self._orphans[client_id]
                if self.store is not None:
                    self.store.no_will(client_id)

    def _will_stands(self, session: SignalingSession) -> bool:
        """Whether the rules of today let the will be published: it may be a call that rings.

        That somebody is gone may always be said.
        """
        topic = session.will_topic or ""
        return isinstance(parse(self.realm, topic), PresenceTopic) or self.stands(topic)

    def _bury(self) -> None:
        """Publish the wills of those who were connected before the restart and did not return."""
        orphans, self._orphans = list(self._orphans.values()), {}
        if orphans:
            task = self.loop.create_task(self._publish_wills(orphans))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)

    async def _publish_wills(self, orphans: list[SignalingSession]) -> None:
        for session in orphans:
            await self._settle_will(session, not self.stopping)

    # --- what the rules of today do not allow ---------------------------------------------------

    def stands(self, topic: str) -> bool:
        """Whether every plugin with an opinion lets a retained message of ``topic`` stand."""
        return all(
            plugin.stands(topic) for plugin in self._topic_plugins if hasattr(plugin, "stands")
        )

    async def sweep(self, cleared: Collection[str] = ()) -> int:
        """After a change of rules: clear what may stand no longer; gives how much that was.

        Cells of removed devices, those addressed to them, those of calls no longer allowed, and
        all cells of the devices ``cleared``. Subscribers are told by the empty message; what waits
        for somebody's connection is not delivered any more, and such a will is not published.
        """
        verdicts: dict[str, bool] = {}

        def stays(topic: str) -> bool:
            known = verdicts.get(topic)
            if known is None:
                cell = parse(self.realm, topic) if cleared else None
                known = verdicts[topic] = self.stands(topic) and not (
                    isinstance(cell, CallTopic)
                    and (cell.owner in cleared or cell.writer in cleared)
                )
            return known

        for orphan in [each for each in self._orphans.values() if not self._will_stands(each)]:
            del self._orphans[orphan.client_id or ""]
            if self.store is not None:
                self.store.no_will(orphan.client_id or "")
        for session, _ in list(self._sessions.values()):
            if not isinstance(session, SignalingSession):
                continue
            if session.will_flag and not self._will_stands(session):
                session.will_flag = False
                if self.store is not None:
                    self.store.no_will(session.client_id or "")
            self._drop_waiting(session, stays)
        gone = 0
        for count, topic in enumerate(list(self._retained_messages)):
            if not stays(topic):
                gone += 1
                await self.retain_message(None, topic, b"")
                await self._broadcast_message(None, topic, b"", 1)
            if count % _SWEPT == _SWEPT - 1:
                await asyncio.sleep(0)  # others have their turn
        if gone:
            logger.info("%d cells that may stand no longer are cleared", gone)
        return gone

    def _drop_waiting(self, session: SignalingSession, stays: Callable[[str], bool]) -> None:
        """Forget what has not been sent to ``session`` and is not to be said any more.

        Retained messages still to be looked for are found, or not, when their turn comes.
        """
        waiting = list(session.pending)
        session.pending.clear()
        for entry in waiting:
            if isinstance(entry, Burst) or stays(entry.topic):
                session.pending.put(entry)
            elif entry.row is not None and self.store is not None:
                self.store.done(entry.row)

    # --- from the store -------------------------------------------------------------------------

    def _load(self) -> None:
        """Take up what the store kept."""
        if self.store is None:
            return
        loaded = self.store.open()
        now, wall = self.clock(), time.time()
        for topic, data, qos, at in loaded.retained:
            # What was written under an unset clock, or is read under one, counts as new.
            age = max(0.0, wall - at) if min(at, wall) > CLOCK_IS_SET else 0.0
            self._order += 1
            device = self._writer(None, topic)
            self._keep(Retained(topic, data, qos, self._order, now - age, device))
        for client_id, owner, gone in loaded.sessions:
            session = self._offline(client_id, owner)
            session.stored = True
            # How long it was unused before; one that was connected then is unused from now on.
            known = min(gone, wall) > CLOCK_IS_SET
            session.left = now - (max(0.0, wall - gone) if known else 0.0)
            if not known:
                self.store.session(session)
            self._persistent.setdefault(session.device, {})[client_id] = None
            self._sessions[client_id] = (session, SignalingHandler(self))
        for client_id, topic_filter, qos in loaded.subscriptions:
            session = self._kept(client_id)
            session.filters[topic_filter] = qos
            self._index.add(topic_filter, session, qos)
        for row, client_id, topic, data, qos, retain, packet_id, received in loaded.queue:
            session = self._kept(client_id)
            if retain == OWED:
                burst = Burst(topic, qos, self._retained_tree.walk(topic))
                burst.row = row
                session.pending.put(burst)
                continue
            message = Outgoing(topic, encode_topic(topic), qos, data, bool(retain))
            message.row = row
            if packet_id is None:
                session.pending.put(message)
                continue
            message.packet_id, message.sent, message.received = packet_id, True, bool(received)
            session.inflight_out[packet_id] = message
        for client_id, packet_id in loaded.incoming:
            session = self._kept(client_id)
            session.inflight_in[packet_id] = None  # type: ignore[assignment] # only its key counts
        for client_id, topic, data, qos, retain in loaded.wills:
            orphan = self._offline(client_id, device_of(client_id))
            orphan.will_flag = True
            orphan.will_topic, orphan.will_message = topic, data
            orphan.will_qos, orphan.will_retain = qos, bool(retain)
            self._orphans[client_id] = orphan
        self.store.start(self.loop)
        if self._orphans:
            self._grace = self.loop.call_later(self.will_grace, self._bury)

    def _kept(self, client_id: str) -> SignalingSession:
        session = self._sessions[client_id][0]
        assert isinstance(session, SignalingSession)  # noqa: S101 - _load() has put it there
        return session

    @staticmethod
    def _offline(client_id: str, owner: str | None) -> SignalingSession:
        session = SignalingSession()
        session.client_id = client_id
        session.clean_session = False
        session.username = owner
        session.is_anonymous = owner is None
        session.transitions.disconnect()
        return session

    # --- housekeeping ---------------------------------------------------------------------------

    async def _session_monitor(self) -> None:
        """Once a minute, not at every client's expense each second as in amqtt."""
        while True:
            try:
                await self._expire_sessions()
                await self.clear_old_cells()
            except Exception:  # the next round may do better; without one, memory would grow
                logger.exception("housekeeping failed")
            await asyncio.sleep(_ROUND)

    async def _expire_sessions(self) -> None:
        expiry = self.limits.session_expiry
        if not expiry:
            return
        now = self.clock()
        for client_id, (session, _) in list(self._sessions.items()):
            left = session.left if isinstance(session, SignalingSession) else None
            if left is not None and left < now - expiry:
                logger.info("session %r was not used for %.0f s: forgotten", client_id, expiry)
                await self._delete_session(client_id)

    async def clear_old_cells(self) -> int:
        """Clear call cells older than ``cell_keep``; gives how many. Subscribers are told."""
        before = self.clock() - self.cell_keep
        old = [
            topic
            for topic, kept in self._retained_messages.items()
            if isinstance(kept, Retained)
            and kept.at < before
            and isinstance(parse(self.realm, topic), CallTopic)
        ]
        for topic in old:
            await self.retain_message(None, topic, b"")
            await self._broadcast_message(None, topic, b"", 1)
        self.stats.janitor_cleared += len(old)
        return len(old)
