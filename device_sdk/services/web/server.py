"""uvicorn on a thread of its own: a socket that is bound before anything starts, and one end.

What ends the thread is told once to ``on_end``; nothing here dies in silence.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from ...errors import BellwireError
from .bounds import BoundedProtocol, Entrance
from .hub import Hub

STOP_TIMEOUT = 3.0


class WebError(BellwireError, OSError):
    """The page cannot be served; the message says what to do."""


def bind(host: str, port: int) -> Entrance:
    """A socket that listens there; :class:`WebError` if it is taken, or no address of ours."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = infos[0]
        sock = Entrance(family, socket.SOCK_STREAM)
    except OSError as error:
        raise WebError(f"web: {host}: {error.strerror or error}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(128)
    except OSError as error:
        sock.close()
        hint = "; below 1024 they are root's: 8080, or 8443 for https"
        why = f"{error.strerror}{hint if isinstance(error, PermissionError) else ''}"
        raise WebError(f"web: {host}:{port} cannot be listened on: {why}") from None
    return sock


class WebServer:
    """Serves ``app`` on ``sock`` from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        app: ASGIApp,
        hub: Hub,
        sock: Entrance,
        on_end: Callable[[str], None],
        *,
        cert_file: Path | None = None,
        key_file: Path | None = None,
    ) -> None:
        self._hub, self._sock, self._on_end = hub, sock, on_end

        class Protocol(BoundedProtocol):
            entrance = sock

        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # whatever strangers send is no news for the journal
            backlog=64,  # so many are let in before those that gave way are gone
            access_log=False,
            server_header=False,
            proxy_headers=False,  # an address is whose it is, whatever a header says
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=16 * 1024,
            ssl_certfile=cert_file,
            ssl_keyfile=key_file,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise WebError(f"web: certificate or key cannot be used: {error}") from None
        self._server = uvicorn.Server(config)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="bellwire-web", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End: pages are told by the end of their stream. Waits for it, bounded."""
        self._stopping = True
        self._server.should_exit = True
        self._hub.close()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT)
        self._sock.close()

    def _run(self) -> None:
        problem = "it ended by itself"
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - this thread's supervisor
            problem = f"{type(error).__name__}: {error}"
        if not self._stopping:
            self._on_end(problem)

    async def _serve(self) -> None:
        self._hub.attach(asyncio.get_running_loop())
        await self._server.serve(sockets=[self._sock])
