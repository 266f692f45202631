"""A WSGI application on a thread of its own: for figures that are asked for every few seconds."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: Seconds that a client may take for its request: one that says nothing holds no thread.
PATIENCE = 2.0


class _Quiet(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """A scrape each few seconds is no news."""

    def address_string(self) -> str:
        """The address alone: looking its name up may take seconds."""
        return str(self.client_address[0])


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class HttpServer:
    """Serves ``application`` at once, until it is closed; raises ``OSError`` where it cannot."""

    def __init__(self, host: str, port: int, application: Application) -> None:
        kind = _Server6 if ":" in host else _Server
        self._server = make_server(host, port, application, kind, _Quiet)
        #: The one it got, where ``port`` was 0.
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="bellwire-metrics",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answer(
    start: Callable[..., Any],
    body: str,
    status: str = "200 OK",
    kind: str = "text/plain; charset=utf-8",
) -> Iterable[bytes]:
    """One line of text, or of JSON."""
    data = (body + "\n").encode()
    start(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
    return [data]
