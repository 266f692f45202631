"""``SignalingBroker``: amqtt's broker with its faults mended (docs/broker.md, docs/upstream/).

What replaces a method of amqtt has that method's name; tests/contract/ names every private thing
of amqtt that is relied on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
from collections import Counter
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

import websockets
import websockets.asyncio.server
from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Server
from amqtt.contexts import Action, ListenerConfig, ListenerType
from amqtt.errors import BrokerError, MQTTError
from amqtt.events import BrokerEvents
from amqtt.mqtt.connack import (
    CONNECTION_ACCEPTED,
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    ConnackPacket,
)
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session
from websockets.http11 import Request, Response

from .adapters import (
    LINGER,
    Reader,
    SignalingStreamReader,
    SignalingStreamWriter,
    SignalingWebSocketsReader,
    SignalingWebSocketsWriter,
    Writer,
)
from .handler import Ended, SignalingHandler
from .keeping import KeepingBroker
from .limits import Allowances
from .origins import WEBSOCKET_PATHS, may_come_from
from .seldom import short
from .session import SignalingSession
from .store import StoreError

logger = logging.getLogger(__name__)

#: Connections that the kernel completes before they are accepted: all devices after a power cut.
_BACKLOG = 2048
#: Turns of the event loop in which an accepted socket becomes a connection, or a closed one ends.
_ACCEPT_TURNS = 5
#: Refusals of an address that cost nothing, and how fast they are forgiven; the longest wait for
#: the next in seconds, and how many of an address may wait at once.
_REFUSALS, _REFUSALS_PER_SECOND, _REFUSED_WAIT, _HELD = 10, 0.5, 30.0, 64
#: Seconds that a device which has sent more than its rate waits at most for its CONNACK.
_LATER = 5.0


def _not_twice(record: logging.LogRecord) -> bool:
    return record.msg != "Broker startup failed"


class SignalingBroker(KeepingBroker):
    """An MQTT 3.1.1 broker that may be trusted with a door.

    Takes amqtt's configuration and plugins; ``limits`` bounds everything, ``store`` makes it
    durable. Nobody may do anything that no plugin allows.
    """

    #: Whose pages may open WebSockets, see :func:`origins.may_come_from`.
    origins = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tasks: dict[SignalingHandler, asyncio.Task[Any]] = {}
        self._addresses: Counter[str] = Counter()
        #: Connections of each device, the oldest first.
        self._devices: dict[str, dict[SignalingHandler, None]] = {}
        #: How often each address was refused, and how many of it wait to hear so.
        self._refusals = Allowances(
            _REFUSALS_PER_SECOND, _REFUSALS, self.limits.failures_remembered
        )
        self._held: Counter[str] = Counter()
        #: Open, or ended and still sending their last words.
        self._writers: set[Writer] = set()
        self._contexts: list[tuple[ListenerConfig, ssl.SSLContext]] = []
        self._making: ListenerConfig | None = None
        #: What this broker should go by and could not read, for /healthz and `doctor`.
        self.troubles: list[str] = []

    # --- listeners ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what was kept, then serve; raises BrokerError and leaves nothing open otherwise."""
        # Raised too: a traceback beside the one line that says it helps nobody.
        self.logger.addFilter(_not_twice)
        try:
            await super().start()
        except BrokerError:
            for server in self._servers.values():
                server.instance.close()
            if self.store is not None:
                await self.store.close()
            raise

    async def _start_listeners(self) -> None:
        self._load()
        await self.recheck()  # the rules may have changed while nobody served
        await super()._start_listeners()

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        """TLS 1.2 or newer; client certificates of our own CA only, if any is shown."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(str(listener.certfile), str(listener.keyfile))
            # Not of WebSockets: Chromium cancels every handshake that asks for a certificate.
            if listener.cafile and listener.type != ListenerType.WS:
                # amqtt starts from the system's trust: any public CA could then make a device.
                context.load_verify_locations(str(listener.cafile))
                context.verify_mode = ssl.CERT_OPTIONAL
        except (OSError, ssl.SSLError) as error:
            raise BrokerError(
                f"cannot use the certificate {listener.certfile} with {listener.keyfile}: {error}; "
                "`bellwire-broker renew DIR` makes both anew"
            ) from error
        return context

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> asyncio.Server | websockets.asyncio.server.Server:
        """Listen, with room for a storm of connects and no patience for slow handshakes."""
        if ssl_context is not None:
            self._contexts.append((self.listeners_config[listener_name], ssl_context))
        host = address.strip("[]") if address else address
        tls: dict[str, Any] = {}
        if ssl_context is not None:
            tls = {
                "ssl": ssl_context,
                "ssl_handshake_timeout": self.limits.connect_timeout,
                "ssl_shutdown_timeout": LINGER,
            }
        try:
            return await self._listen(listener_name, listener_type, host, port, tls)
        except OSError as error:
            where = f"{f'[{host}]' if host and ':' in host else host or 'every address'}:{port}"
            why = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                why = (
                    "the port is in use: another broker or program listens there; end that one, "
                    "or choose another port"
                )
            raise OSError(
                error.errno, f"cannot listen on {where} ({listener_name}): {why}"
            ) from error

    async def _listen(
        self,
        listener_name: str,
        listener_type: ListenerType,
        host: str | None,
        port: int,
        tls: dict[str, Any],
    ) -> asyncio.Server | websockets.asyncio.server.Server:
        if listener_type == ListenerType.TCP:

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self.stream_connected(reader, writer, listener_name)

            return await asyncio.start_server(connected, host, port, backlog=_BACKLOG, **tls)

        async def ws_connected(websocket: websockets.asyncio.server.ServerConnection) -> None:
            await self.ws_connected(websocket, listener_name)

        return await websockets.serve(
            ws_connected,
            host,
            port,
            subprotocols=[websockets.Subprotocol("mqtt")],  # [MQTT-6.0.0-3]
            compression=None,
            process_request=self._may_open,
            max_size=self.limits.packet_bytes + 8,
            max_queue=2,
            open_timeout=self.limits.connect_timeout,
            ping_interval=None,  # MQTT's own keep-alive is the one that counts
            backlog=_BACKLOG,
            **tls,
        )

    def _may_open(
        self, connection: websockets.asyncio.server.ServerConnection, request: Request
    ) -> Response | None:
        """Refuse what is asked of another path than MQTT's, or by a page of somewhere else."""
        if request.path.partition("?")[0] not in WEBSOCKET_PATHS:
            self.stats.refused["WebSocket path"] += 1
            return connection.respond(HTTPStatus.NOT_FOUND, "MQTT is at /mqtt\n")
        origin = request.headers.get("Origin")
        if not may_come_from(origin, request.headers.get("Host", ""), self.origins):
            self.stats.refused["WebSocket origin"] += 1
            self.seldom.warning(
                ("origin", origin),
                "a page of %s opens a WebSocket: refused; listen.origins in broker.toml names "
                "whose pages may", short(origin),
            )  # fmt: skip
            return connection.respond(
                HTTPStatus.FORBIDDEN, "pages of this origin may not; see listen.origins\n"
            )
        return None

    def reload_certificates(self) -> None:
        """Read the certificates again: new connections get them, old ones stay."""
        for listener, context in self._contexts:
            # First for nobody: a context that takes half a pair serves no one any more.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                str(listener.certfile), str(listener.keyfile)
            )
            context.load_cert_chain(str(listener.certfile), str(listener.keyfile))

    def bound(self) -> dict[str, tuple[str, int]]:
        """Where each listener listens: its name to host and port."""
        found: dict[str, tuple[str, int]] = {}
        for name, server in self._servers.items():
            for socket in server.instance.sockets or ():
                found.setdefault(name, socket.getsockname()[:2])
        return found

    # --- a connection ---------------------------------------------------------------------------

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """A TCP connection."""
        await self._client_connected(
            listener_name, SignalingStreamReader(reader), SignalingStreamWriter(writer)
        )

    async def ws_connected(
        self, websocket: websockets.asyncio.server.ServerConnection, listener_name: str
    ) -> None:
        """A WebSocket connection."""
        writer = SignalingWebSocketsWriter(websocket)
        await self._client_connected(listener_name, SignalingWebSocketsReader(websocket), writer)
        await writer.ended()

    async def _client_connected(
        self, listener_name: str, reader: ReaderAdapter, writer: WriterAdapter
    ) -> None:
        """Serve one connection from its first byte to its end; what fails in it stays in it."""
        if not isinstance(reader, Reader) or not isinstance(writer, Writer):
            raise BrokerError("external listeners are not served")
        peer = writer.get_peer_info()
        address = peer[0] if peer else "an unknown address"
        limits, stats = self.limits, self.stats
        if self.stopping:
            writer.end(abort=True)
            return
        if len(self._tasks) >= limits.connections:
            stats.refused["too many connections"] += 1
            writer.end(abort=True)
            return
        if 0 < limits.connections_per_address <= self._addresses[address]:
            stats.refused["too many connections from one address"] += 1
            writer.end(abort=True)
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        handler = SignalingHandler(self)
        handler.address = address
        handler.writer = writer
        self._tasks[handler] = task
        self._writers.add(writer)
        self._addresses[address] += 1
        stats.connections += 1
        try:
            await self._serve(handler, reader, writer, listener_name)
        except Ended as ended:
            stats.refused[str(ended)] += 1
        except TimeoutError:
            logger.debug("no CONNECT from %s within %s s", handler, limits.connect_timeout)
            stats.refused["no CONNECT in time"] += 1
        except MQTTError as violation:
            self.seldom.warning(("MQTT", address), "%s broke MQTT: %s", handler, violation)
            stats.cut["protocol"] += 1
        except asyncio.CancelledError:
            # Cancelled by shutdown() alone, which waits for this task: it ends here.
            handler.end("", abort=True)
        except Exception:  # whatever it is, it is this client's alone
            logger.exception("serving %s failed; its connection is closed", handler)
            stats.cut["error"] += 1
        finally:
            # Its place is free again first: nothing that its transport does may keep it taken.
            del self._tasks[handler]
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
            self.loop.call_later(LINGER, self._writers.discard, writer)
            handler.end("")

    async def _serve(
        self, handler: SignalingHandler, reader: Reader, writer: Writer, listener_name: str
    ) -> None:
        async with asyncio.timeout(self.limits.connect_timeout):
            session = await handler.read_connect(reader, writer)
        await self._handle_client_session(
            reader, writer, session, handler, self._servers[listener_name], listener_name
        )

    async def _handle_client_session(
        self,
        reader: ReaderAdapter,
        writer: WriterAdapter,
        client_session: Session,
        handler: BrokerProtocolHandler,
        server: Server,  # noqa: ARG002 - amqtt's signature
        listener_name: str,
    ) -> None:
        """Authenticate before anything is touched, then take the session and serve it."""
        if not isinstance(client_session, SignalingSession) or not isinstance(
            handler, SignalingHandler
        ):
            raise BrokerError("not a session of this broker")
        began = self.loop.time()
        code = await handler.meanwhile(
            self._let_in(handler, client_session, listener_name), abandon=True
        )
        client_session.password = None  # no longer needed, and nobody's to read
        if code is None or handler.over():
            return
        if code != CONNECTION_ACCEPTED:
            await self._hold(handler, began)
            # [MQTT-3.2.2-4] [MQTT-3.2.2-5]
            handler.send(ConnackPacket.build(0, code).to_bytes())
            handler.end("")
            return
        client_id = client_session.client_id or ""
        if not client_session.clean_session and self.store is not None:
            # What it is sent again goes under ids that are kept.
            with contextlib.suppress(StoreError):
                await self.store.kept()
        while (old := self._sessions.get(client_id)) is not None:
            old_handler = old[1]
            if not isinstance(old_handler, SignalingHandler) or old_handler.session is None:
                break
            # [MQTT-3.1.4-2]; its will is published, as its end is not a clean one.
            logger.info("%r connects again from %s: taken over", client_id, handler.address)
            self.stats.takeovers += 1
            old_handler.end("taken over", abort=True)
            await self._ended(old_handler, None)
        if handler.over():
            return
        await self._make_room(client_session)
        if not self._still_known(client_session):
            # Removed while it waited for this: its connection is not one that could be cut.
            handler.send(ConnackPacket.build(0, NOT_AUTHORIZED).to_bytes())
            handler.end("")
            return
        session = await self._take_session(client_session)
        handler.attach(session, reader, writer)
        self._devices.setdefault(session.device, {})[handler] = None
        self._sessions[client_id] = (session, handler)
        session.left = None
        session.transitions.connect()
        await handler.mqtt_connack_authorize(True)
        try:
            await self.fire(
                BrokerEvents.CLIENT_CONNECTED, client_id=client_id, client_session=session
            )
            await handler.start()
            await self._publish_session_retained_messages(session)
            await self._client_message_loop(session, handler)
        finally:
            mine = self._devices.get(session.device, {})
            mine.pop(handler, None)
            if not mine:
                self._devices.pop(session.device, None)
            handler.end("")
            await self._ended(handler, handler.disconnect)

    async def _let_in(
        self, handler: SignalingHandler, session: SignalingSession, listener_name: str
    ) -> int:
        """The CONNACK code for a client; one whose device has sent too much is let in later."""
        if not await self._authenticate(session, self.listeners_config[listener_name]):
            self.stats.refused["not authenticated"] += 1
            self.seldom.warning(
                ("not authenticated", handler.address),
                "%s as %s is not who it says", handler, short(session.username),
            )  # fmt: skip
            return NOT_AUTHORIZED
        code = await self._admit(handler, session)
        allowance = self.allowance(session) if code == CONNECTION_ACCEPTED else None
        if allowance is not None:
            # A will is a message like another, and goes out without a word more.
            owed = allowance.take(self.loop.time(), 1.0 + bool(session.will_flag))
            await asyncio.sleep(min(owed, _LATER))
        return code

    async def _hold(self, handler: SignalingHandler, began: float) -> None:
        """Have a refused client wait for its answer, the longer the more its address was refused.

        The wait ends with the client; those above a number of an address get no answer at all.
        """
        address, now = handler.address, self.loop.time()
        wait = min(self._refusals.of(address, now).take(now), _REFUSED_WAIT) - (now - began)
        if wait <= 0:
            return
        if self._held[address] >= _HELD:
            handler.end("", abort=True)
            return
        self._held[address] += 1
        try:
            await handler.meanwhile(asyncio.sleep(wait), abandon=True)
        finally:
            self._held[address] -= 1
            if not self._held[address]:
                del self._held[address]

    async def _make_room(self, session: SignalingSession) -> None:
        """Have a device's oldest connection give way when it has its share of them."""
        mine = self._devices.get(session.device, {})
        while self._known(session) and len(mine) >= self.limits.connections_per_device > 0:
            oldest = next(iter(mine))
            del mine[oldest]
            self.seldom.warning(
                ("connections", session.device),
                "%s has limits.connections_per_device = %d connections; the oldest gives way",
                short(session.device), self.limits.connections_per_device,
            )  # fmt: skip
            oldest.end("too many connections of one device", abort=True)
            await self._ended(oldest, None)

    async def _admit(self, handler: SignalingHandler, session: SignalingSession) -> int:
        """The CONNACK code for somebody who is who he says."""
        user = session.owner
        if user is not None and session.attributes.get("bellwire.generated_id"):
            session.client_id = f"{user}.{(session.client_id or '').rpartition('/')[2]}"
        client_id = session.client_id or ""
        if not client_id or len(client_id) > self.limits.topic_bytes:
            self.stats.refused["client id"] += 1
            return IDENTIFIER_REJECTED  # [MQTT-3.1.3-8] [MQTT-3.1.3-9]
        # '.' is in no escaped peer id: 'kitchen.tool' can be nobody's but kitchen's.
        if user is not None and client_id != user and not client_id.startswith(f"{user}."):
            self.seldom.warning(
                ("client id", handler.address, user),
                "%s is %s and asks for the client id %s", handler, short(user), short(client_id),
            )  # fmt: skip
            self.stats.refused["client id of another"] += 1
            return IDENTIFIER_REJECTED
        old = self._sessions.get(client_id)
        if old is not None and isinstance(old[0], SignalingSession) and old[0].owner != user:
            self.seldom.warning(
                ("session", handler.address),
                "%s asks for the session %s of another user", handler, short(client_id),
            )  # fmt: skip
            self.stats.refused["client id of another"] += 1
            return IDENTIFIER_REJECTED
        if session.will_flag:
            topic = session.will_topic or ""
            if self._unfit_topic(topic) or not await self._topic_filtering(
                session, topic, Action.PUBLISH
            ):
                # Dropped like what may not be published: refused, it could never log in.
                self._say_dropped(
                    session, f"the will of {short(client_id)}", topic, "which it may not"
                )
                self.stats.denied["will"] += 1
                session.will_flag = False
        if not session.clean_session and not await self._room_for(session):
            self.stats.refused["too many persistent sessions"] += 1
            return SERVER_UNAVAILABLE
        return CONNECTION_ACCEPTED

    async def _authenticate(self, session: Session, _: ListenerConfig) -> bool:
        """Whether every plugin with an opinion says yes, and at least one has an opinion."""
        known = False
        for plugin in self.plugins_manager._auth_plugins:
            try:
                verdict = await plugin.authenticate(session=session)
            except Exception:  # a plugin that fails must never let anybody in
                logger.exception(
                    "%s failed on %r: refused", type(plugin).__name__, session.username
                )
                return False
            if verdict is not None:
                if not verdict:
                    return False
                known = True
        return known

    async def _client_message_loop(
        self,
        client_session: Session,  # noqa: ARG002 - amqtt's signature
        handler: BrokerProtocolHandler,
    ) -> None:
        """Handle what the client sends, in this one task, until the connection ends."""
        await handler._reader_loop()

    async def _ended(self, handler: SignalingHandler, goodbye: DisconnectPacket | None) -> None:
        session = handler.session
        if session is None:
            return  # somebody took over and has done this
        waiter: asyncio.Future[Any] = self.loop.create_future()
        waiter.set_result(goodbye)
        await self._handle_disconnect(session, handler, waiter)

    async def _handle_disconnect(
        self,
        client_session: Session,
        handler: BrokerProtocolHandler,
        disconnect_waiter: asyncio.Future[Any],
    ) -> None:
        """Part session and connection; publish the will unless the end was clean [MQTT-3.1.2-8]."""
        if not isinstance(client_session, SignalingSession):
            return
        handler.detach()
        client_session.handler = None
        client_session.left = self.clock()
        client_session.transitions.disconnect()
        client_id = client_session.client_id or ""
        if self.store is not None and client_session.owner is not None:
            self.store.went(client_session.owner)
        if client_session.clean_session:
            await self._delete_session(client_id)
        elif client_session.stored and self.store is not None:
            self.store.session(client_session)
        if client_session.will_flag:
            await self._settle_will(client_session, disconnect_waiter.result() is None)
        await self.fire(
            BrokerEvents.CLIENT_DISCONNECTED, client_id=client_id, client_session=client_session
        )

    def _still_known(self, session: Session) -> bool:
        """Whether every plugin that can say so knows the session's device as it was."""
        return all(
            plugin.valid(session)
            for plugin in self.plugins_manager._auth_plugins
            if hasattr(plugin, "valid")
        )

    async def recheck(self, cleared: Collection[str] = ()) -> None:
        """After a change of rules: cut who is no longer known, drop what is no longer allowed.

        Of the devices ``cleared`` all cells are cleared.
        """
        for client_id, (session, handler) in list(self._sessions.items()):
            if not isinstance(session, SignalingSession):
                continue
            if not self._still_known(session):
                logger.warning("%r is no longer registered as it was: cut off", client_id)
                if isinstance(handler, SignalingHandler) and handler.session is session:
                    handler.end("no longer registered", abort=True)
                    await self._ended(handler, None)
                await self._delete_session(client_id)
                continue
            for topic_filter in list(session.filters):
                if not await self._topic_filtering(session, topic_filter, Action.SUBSCRIBE):
                    logger.warning("%r may no longer subscribe to %r", client_id, topic_filter)
                    self._del_subscription(topic_filter, session)
        if cleared or any(hasattr(plugin, "stands") for plugin in self._topic_plugins):
            await self.sweep(cleared)

    # --- the end --------------------------------------------------------------------------------

    async def shutdown(self) -> None:
        """Stop: no new connections, the present ones closed, everything noted written."""
        if self.transitions.state != "started":
            return
        await self.fire(BrokerEvents.PRE_SHUTDOWN)
        self.transitions.shutdown()
        self.stopping = True
        # What has just been accepted becomes a connection first: closing a server in between
        # makes asyncio drop the socket without closing it.
        for _ in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)
        for server in self._servers.values():
            server.instance.close()
        for _ in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)
        writers = set(self._writers)
        for handler in list(self._tasks):
            handler.end("shutdown")
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks.values()), timeout=LINGER)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        for writer in self._writers | writers:
            writer.abandon()  # what a client has not read by now it will not read
        for _ in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)
        for server in self._servers.values():
            if hasattr(server.instance, "abort_clients"):
                server.instance.abort_clients()  # Python 3.13: those within a TLS handshake
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.instance.wait_closed(), LINGER)
        self._servers.clear()
        await self._shutdown_broadcast_loop()
        if self._session_monitor_task is not None:
            self._session_monitor_task.cancel()
            await asyncio.gather(self._session_monitor_task, return_exceptions=True)
        if self.store is not None:
            await self.store.close()
        await self.plugins_manager.wait_fired_events()
        if BrokerEvents.POST_SHUTDOWN in self.listened:
            await self.plugins_manager.fire_event(BrokerEvents.POST_SHUTDOWN, wait=True)
        await self.plugins_manager.close()
        self.transitions.stopping_success()

    @property
    def connection_count(self) -> int:
        """Connections at this moment, those without a CONNECT included."""
        return len(self._tasks)
