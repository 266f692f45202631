"""amqtt's listeners: TCP, TLS and WebSocket, with certificates that can be read again."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import websockets
import websockets.asyncio.server
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import BrokerError
from websockets.http11 import Request, Response

from ..core.broker import Core
from ..core.limits import Limits, short
from .connection import LINGER, Host, StreamConnection, WebSocketConnection
from .origins import WEBSOCKET_PATHS, may_come_from

#: Connections that the kernel completes before they are accepted, all devices after a power cut: as
#: many as Linux lets (net.core.somaxconn). Who is turned away comes again after 1, 3, 7 s.
_BACKLOG = 4096


class CertificateError(BrokerError):
    """A file of TLS cannot be used; the text names it, which the cause ("PEM lib") does not."""


def _load_chain(context: ssl.SSLContext, listener: ListenerConfig) -> None:
    """Take the certificate and its key; raises :class:`CertificateError`."""
    try:
        context.load_cert_chain(str(listener.certfile), str(listener.keyfile))
    except OSError as error:  # SSLError is one
        raise CertificateError(
            f"cannot use the certificate {listener.certfile} with {listener.keyfile}: {error}; "
            "`bellwire-broker renew DIR` makes both anew"
        ) from error


class ListeningBroker(Broker, Host):
    """amqtt's broker with its listeners' set-up replaced; what connects is the heir's to serve."""

    core: Core
    clock: Callable[[], float]

    def __init__(
        self,
        config: BrokerConfig | dict[str, Any] | None,
        loop: asyncio.AbstractEventLoop | None,
        plugin_namespace: str | None,
        limits: Limits,
        origins: str,
    ) -> None:
        super().__init__(config, loop, plugin_namespace)
        self.loop = self._loop
        self.limits = limits
        #: Whose pages may open WebSockets, see :func:`origins.may_come_from`.
        self.origins = origins
        self._contexts: list[tuple[ListenerConfig, ssl.SSLContext]] = []

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        """TLS 1.2 or newer; client certificates of our own CA only, if any is shown.

        None is asked for over WebSocket: a browser that has none cancels the handshake.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load_chain(context, listener)
        if listener.cafile and listener.type != ListenerType.WS:
            # amqtt starts from the system's trust: any public CA could then make a device.
            try:
                context.load_verify_locations(str(listener.cafile))
            except OSError as error:
                raise CertificateError(
                    f"no certificate of an authority in {listener.cafile}: {error}"
                ) from error
            context.verify_mode = ssl.CERT_OPTIONAL
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
        host = address.strip("[]") if address else address
        tls: dict[str, Any] = {}
        if ssl_context is not None:
            self._contexts.append((self.listeners_config[listener_name], ssl_context))
            tls = {
                "ssl": ssl_context,
                "ssl_handshake_timeout": self.limits.connect_timeout,
                "ssl_shutdown_timeout": LINGER,
            }
        try:
            return await self._listen(listener_type, host, port, tls)
        except OSError as error:
            where = f"{f'[{host}]' if host and ':' in host else host or 'every address'}:{port}"
            why = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                why = (
                    "the port is in use: another broker or program listens there; end that one, "
                    "or choose another (--port, or listen in broker.toml)"
                )
            raise OSError(
                error.errno, f"cannot listen on {where} ({listener_name}): {why}"
            ) from error

    async def _listen(
        self, kind: ListenerType, host: str | None, port: int, tls: dict[str, Any]
    ) -> asyncio.Server | websockets.asyncio.server.Server:
        if kind == ListenerType.TCP:
            return await self.loop.create_server(
                lambda: StreamConnection(self), host, port, backlog=_BACKLOG, **tls
            )

        async def connected(socket: websockets.asyncio.server.ServerConnection) -> None:
            await WebSocketConnection(self, socket).serve()

        return await websockets.serve(
            connected,
            host,
            port,
            subprotocols=[websockets.Subprotocol("mqtt")],  # [MQTT-6.0.0-3]
            process_request=self._may_open,
            compression=None,
            max_size=self.limits.packet_bytes + 8,
            open_timeout=self.limits.connect_timeout,
            max_queue=2,
            ping_interval=None,  # MQTT's own keep-alive is the one that counts
            backlog=_BACKLOG,
            **tls,
        )

    def _may_open(
        self, connection: websockets.asyncio.server.ServerConnection, request: Request
    ) -> Response | None:
        """Refuse what is asked of another path than MQTT's, or by a page of somewhere else."""
        if request.path.partition("?")[0] not in WEBSOCKET_PATHS:
            self.core.stats.refused["WebSocket path"] += 1
            return connection.respond(HTTPStatus.NOT_FOUND, "MQTT is at /mqtt\n")
        origin = request.headers.get("Origin")
        if may_come_from(origin, request.headers.get("Host", ""), self.origins):
            return None
        self.core.stats.refused["WebSocket origin"] += 1
        self.core.seldom.warning(
            self.clock(), ("origin", origin),
            "a page of %s opens a WebSocket: refused; listen.origins in broker.toml names "
            "whose pages may", short(origin),
        )  # fmt: skip
        return connection.respond(
            HTTPStatus.FORBIDDEN, "pages of this origin may not; see listen.origins\n"
        )

    def reload_certificates(self) -> None:
        """Read the certificates again: new connections get them, old ones stay."""
        for listener, context in self._contexts:
            # First for nobody: a context that takes half a pair serves no one any more.
            _load_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), listener)
            _load_chain(context, listener)

    def bound(self) -> dict[str, tuple[str, int]]:
        """Where each listener listens: its name to host and port."""
        found: dict[str, tuple[str, int]] = {}
        for name, server in self._servers.items():
            for socket in server.instance.sockets or ():
                found.setdefault(name, socket.getsockname()[:2])
        return found
