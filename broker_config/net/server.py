"""``SignalingBroker``: amqtt's configuration, listeners and plugins around our own core."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from amqtt.contexts import BrokerConfig
from amqtt.errors import BrokerError
from amqtt.events import BrokerEvents, MQTTEvents
from amqtt.utils import gen_client_id

from ..core.broker import Core
from ..core.limits import BrokerStats, Limits, short
from ..core.packets import NOT_AUTHORIZED, message
from ..core.session import ClientLink
from ..core.sessions import WILL_GRACE
from ..store.journal import Store
from .connection import LINGER, Connection
from .listeners import ListeningBroker
from .plugins import PluginRules, arguments, packets, seen, session_of

logger = logging.getLogger(__name__)

#: Turns of the event loop in which an accepted socket becomes a connection, or a closed one ends.
_ACCEPT_TURNS = 5


class SignalingBroker(ListeningBroker):
    """An MQTT 3.1.1 broker that may be trusted with a door.

    Takes amqtt's configuration and plugins; ``limits`` bounds everything, ``store`` makes it
    durable. Nobody may do anything that no plugin allows.
    """

    def __init__(
        self,
        config: BrokerConfig | dict[str, Any] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        plugin_namespace: str | None = None,
        *,
        limits: Limits | None = None,
        store: Store | None = None,
        clock: Callable[[], float] | None = None,
        realm: str = "sig",
        origins: str = "",
        cell_keep: float = 86400.0,
        will_grace: float = WILL_GRACE,
    ) -> None:
        super().__init__(config, loop, plugin_namespace, limits or Limits(), origins)
        self.store = store
        self.clock = clock or self.loop.time
        self.rules = PluginRules(self.plugins_manager, self.loop, self._verdict)
        self.core = Core(
            self.limits,
            self.rules,
            self.clock(),
            keeps=store is not None,
            realm=realm,
            cell_keep=cell_keep,
            will_grace=will_grace,
        )
        callbacks = self.plugins_manager._event_plugin_callbacks
        self.core.tells = frozenset(
            event.value for event in (*BrokerEvents, *MQTTEvents) if callbacks.get(event)
        )
        #: What this broker should go by and could not read, for /healthz and `doctor`.
        self.troubles: list[str] = []
        self._connections: set[Connection] = set()
        self._addresses: Counter[str] = Counter()
        self._dispatching: set[asyncio.Task[None]] = set()
        self._turning = False
        self._timer: asyncio.TimerHandle | None = None

    # --- amqtt's: start and stop --------------------------------------------------------------

    async def start(self) -> None:
        """Load what was kept, then serve; raises BrokerError and leaves nothing open otherwise."""
        self.transitions.start()
        await self.plugins_manager.fire_event(BrokerEvents.PRE_START, wait=True)
        try:
            if self.store is not None:
                self.core.load(self.store.open(), self.clock())
                self.store.start(self.loop, self)
            await self._start_listeners()
        except Exception as error:
            self.transitions.starting_fail()
            for server in self._servers.values():
                server.instance.close()
            if self.store is not None:
                await self.store.close()
            if isinstance(error, BrokerError):
                raise
            raise BrokerError(f"the broker cannot be started: {error}") from error
        await self.recheck()  # the rules may have changed while nobody served
        self.transitions.starting_success()
        self._turn()
        await self.plugins_manager.fire_event(BrokerEvents.POST_START, wait=True)

    async def shutdown(self) -> None:
        """Stop: no new connections, the present ones closed, everything noted written."""
        if self.transitions.state != "started":
            return
        await self.plugins_manager.fire_event(BrokerEvents.PRE_SHUTDOWN, wait=True)
        self.transitions.shutdown()
        self.core.stopping = True
        # What has just been accepted becomes a connection first: closing a server in between
        # makes asyncio drop the socket without closing it.
        await self._turns()
        for server in self._servers.values():
            server.instance.close()
        await self._turns()
        self.core.shut_down(self.clock())
        self._turn()
        until = self.loop.time() + LINGER
        while self._connections and self.loop.time() < until:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.drop()  # what a client has not read by now it will not read
        await self._turns()
        for server in self._servers.values():
            if hasattr(server.instance, "abort_clients"):
                server.instance.abort_clients()  # Python 3.13: those within a TLS handshake
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.instance.wait_closed(), LINGER)
        self._servers.clear()
        self._turn()
        if self._timer is not None:
            self._timer.cancel()
        if self.store is not None:
            await self.store.close()
        await self.plugins_manager.wait_fired_events()
        await self.plugins_manager.fire_event(BrokerEvents.POST_SHUTDOWN, wait=True)
        await self.plugins_manager.close()
        self.transitions.stopping_success()

    @staticmethod
    async def _turns() -> None:
        for _ in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)

    # --- connections --------------------------------------------------------------------------

    def arrived(self, connection: Connection, address: str) -> ClientLink | None:
        """A connection is there: its link, or None when there is no room for it."""
        limits, refused = self.limits, self.stats.refused
        if self.core.stopping:
            return None
        if len(self._connections) >= limits.connections:
            refused["too many connections"] += 1
            return None
        if 0 < limits.connections_per_address <= self._addresses[address]:
            refused["too many connections from one address"] += 1
            return None
        self._connections.add(connection)
        self._addresses[address] += 1
        link = self.core.opened(connection, address, self.clock())
        self._soon()
        return link

    def read(self, connection: Connection, data: bytes) -> None:
        """Bytes came."""
        if connection.link is not None:
            self.core.received(connection.link, data, self.clock())
            self._soon()

    def drained(self, connection: Connection) -> None:
        """The other side has taken what was written."""
        if connection.link is not None:
            self.core.written(connection.link, connection.unsent, self.clock())
            self._soon()

    def departed(self, connection: Connection) -> None:
        """A connection is over, whatever its transport says."""
        link = connection.link
        if link is None or connection not in self._connections:
            return
        self._connections.discard(connection)
        self._addresses[link.address] -= 1
        if not self._addresses[link.address]:
            del self._addresses[link.address]
        self.core.lost(link, self.clock())
        self._soon()

    async def _login(self, connection: Connection, link: ClientLink) -> None:
        assert link.connect is not None  # noqa: S101 - that is why it is asked
        who = session_of(link.connect, link.address, connection.ssl_object)
        known = await self.rules.authenticate(who)
        who.password = None
        connection.task = None
        if known:
            owner = None if who.is_anonymous else who.username
            spare = gen_client_id().rpartition("/")[2]
            self.core.admit(link, owner, who, spare, self.clock())
        else:
            self.core.seldom.warning(
                self.clock(), ("not authenticated", link.address),
                "%s as %s: authentication failed (user name, secret or certificate)", link,
                "nobody (no user name)" if who.username is None else short(who.username),
            )  # fmt: skip
            self.core.refuse(link, NOT_AUTHORIZED, "not authenticated", self.clock())
        self._soon()

    # --- the router's turn --------------------------------------------------------------------

    def _soon(self) -> None:
        """Do what the router wants done at the end of this turn of the event loop."""
        if not self._turning:
            self._turning = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        core = self.core
        while core.shared.changed:
            changed, core.shared.changed = core.shared.changed, []
            for link in changed:
                try:
                    self._perform(link)
                except Exception:  # one client's broken transport must not stop the others' writes
                    logger.exception("could not write to %s", link)
                    core.end(link, "write failed", abort=True)
                    self.departed(link.peer)
                    with contextlib.suppress(OSError):
                        link.peer.drop()
        for link in core.asked:
            link.peer.task = self.loop.create_task(self._login(link.peer, link))
        core.asked.clear()
        if self.store is not None and core.journal.operations:
            self.store.write(core.journal.take())
        if core.told:
            told, core.told = core.told, []
            for event, values in told:
                self._background(self._tell(event, values))
        self._arm()

    def _perform(self, link: ClientLink) -> None:
        connection: Connection = link.peer
        if MQTTEvents.PACKET_SENT in self.core.tells and link.out:
            self.core.told.append(("mqtt_packet_sent", (link.session, b"".join(link.out))))
        written = connection.perform(link)
        if written:
            self.stats.bytes_out += written
            self.core.written(link, connection.unsent, self.clock())

    def _arm(self) -> None:
        """Come back when time alone changes something."""
        due = self.core.deadline()
        wait = max(0.0, due - self.clock())
        if self._timer is not None:
            if self._timer.when() <= self.loop.time() + wait and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = self.loop.call_later(wait, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.core.tick(self.clock())
        self._turn()

    def _verdict(self, key: object, fits: bool) -> None:
        self.core.verdict(key, fits, self.clock())
        self._soon()

    def committed(self, mark: int) -> None:
        """The store has kept this much."""
        self.core.committed(mark, self.clock())
        self._turn()

    def failed(self) -> None:
        """The store could not keep what was noted."""
        self.core.failed(self.clock())
        self._soon()

    # --- for plugins --------------------------------------------------------------------------

    def _background(self, coroutine: Any) -> None:
        task = self.loop.create_task(coroutine)
        self._dispatching.add(task)
        task.add_done_callback(self._dispatching.discard)

    async def _tell(self, event: str, values: tuple[Any, ...]) -> None:
        if event.startswith("mqtt_packet"):
            session, *rest = values
            data = rest[0] if len(rest) == 1 else bytes((rest[0], len(rest[1]))) + rest[1]
            for packet in await packets(data):
                await self.plugins_manager.fire_event(
                    MQTTEvents(event), packet=packet, session=seen(session) if session else None
                )
            return
        await self.plugins_manager.fire_event(BrokerEvents(event), **arguments(event, values))

    @property
    def sessions(self) -> dict[str, Any]:
        """All sessions as amqtt shows them to plugins; made anew at each call."""
        return {name: (seen(each), None) for name, each in self.core.sessions.items()}

    @property
    def retained_messages(self) -> dict[str, Any]:
        """Retained messages by topic: to be read only."""
        return self.core.retained.messages

    @property
    def subscriptions(self) -> dict[str, list[tuple[Any, int]]]:
        """All subscriptions as amqtt shows them to plugins; made anew at each call."""
        return {
            topic_filter: [(seen(session), qos) for session, qos in found.items()]
            for topic_filter, found in self.core.subscriptions.items()
        }

    async def retain_message(
        self,
        source_session: Any,  # noqa: ARG002 - amqtt's signature
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        """Retain a message in the broker's name."""
        if topic_name:
            self.core.now = self.clock()
            self.core.keep(topic_name, bytes(data or b""), qos or 0)
            self._soon()

    async def _broadcast_message(
        self,
        session: Any,  # noqa: ARG002 - amqtt's signature
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        """Send a message in the broker's name."""
        if topic:
            qos = 2 if force_qos is None else force_qos
            self.core.now = self.clock()
            self.core.say(message(topic, bytes(data or b""), qos, retain=False), "")
            self._soon()

    async def add_subscription(self, subscription: tuple[str, int], session: Any) -> int:
        """Subscribe in a session's name, without asking anybody; the QoS granted."""
        topic_filter, qos = subscription
        self.core.subscribe_for(self.core.sessions[session.client_id], topic_filter, qos)
        self._soon()
        return qos

    # --- for what is built around it ------------------------------------------------------------

    async def recheck(self, cleared: Collection[str] = ()) -> None:
        """After a change of rules: see Core.recheck."""
        self.core.recheck(self.clock(), cleared)
        self._soon()

    def applied(self, digest: str) -> None:
        """Note which registry the broker goes by, for who has changed it and waits."""
        self.core.journal.note("applied", digest)
        self._soon()

    @property
    def stats(self) -> BrokerStats:
        """The counters."""
        return self.core.stats

    @property
    def connection_count(self) -> int:
        """Connections at this moment, those without a CONNECT included."""
        return len(self._connections)

    @property
    def subscription_count(self) -> int:
        """How many subscriptions there are."""
        return len(self.core.subscriptions)
