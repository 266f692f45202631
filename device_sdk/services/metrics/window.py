"""Where a service's figures are served: ``/metrics`` over HTTP."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import socket
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ...client.display import say
from ..config.metrics import MetricsSettings
from ..config.toml_reader import SettingsError
from .http_server import HttpServer, answer

log = logging.getLogger("bellwire.pi")


def check_installed() -> None:
    """:class:`SettingsError` with the command that installs what it takes."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise SettingsError(
            "metrics: prometheus-client is not installed: pip install 'bellwire[metrics]'"
        )


@contextlib.contextmanager
def serving(settings: MetricsSettings | None, client: Any) -> Iterator[None]:
    """Serve ``client``'s figures while the block runs; nothing without ``settings``.

    A port that cannot be had is said, and no more: a doorbell rings without its figures.
    """
    if settings is None:
        yield
        return
    try:
        server = HttpServer(settings.host, settings.port, application(client))
    except OSError as error:
        log.error("no metrics: cannot listen on %s: %s", settings, error.strerror or error)
        yield
        return
    say(f"metrics at {settings.url(server.port)}")
    try:
        yield
    finally:
        server.close()


def application(client: Any) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """``/metrics`` of ``client`` and of this process, as a WSGI application."""
    from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

    from .collector import ClientCollector

    registry = CollectorRegistry()
    registry.register(ClientCollector(client))
    ProcessCollector(registry=registry)
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            start("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return [b""]
        if environ.get("PATH_INFO") != "/metrics":
            return answer(start, "there is /metrics", "404 Not Found")
        return metrics(environ, start)  # type: ignore[no-any-return]  # a WSGI app's body

    return app


def problem(settings: MetricsSettings, *, runs: bool) -> str | None:
    """What keeps the figures from being served; ``runs``: the service does, and should answer."""
    if runs:
        try:
            with urllib.request.urlopen(settings.url(), timeout=5) as page:  # noqa: S310 - http
                told = page.read(4096)
        except (OSError, ValueError) as error:
            return f"nothing answers at {settings.url()}: {error}"
        ours = b"bellwire_peer_" in told
        return None if ours else f"what answers at {settings.url()} is something else"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            return f"{settings} cannot be listened on: {error.strerror or error}; change `listen`"
    return None
