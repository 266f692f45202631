"""Where a service's figures are served: ``/metrics`` over HTTP."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import socket
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ...client.display import say
from ..config.metrics import MetricsSettings
from ..config.toml_reader import SettingsError
from .http_server import HttpServer, answer

log = logging.getLogger("bellwire.pi")


class OtherLink(NamedTuple):
    """A connection beside the client's: its gauge's name and meaning, and whether it is up."""

    name: str
    what: str
    online: Callable[[], bool]


def check_installed() -> None:
    """:class:`SettingsError` with the command that installs what it takes."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise SettingsError(
            "metrics: prometheus-client is not installed: pip install 'bellwire[metrics]'"
        )


@contextlib.contextmanager
def serving(
    settings: MetricsSettings | None, client: Any, links: Iterable[OtherLink] = ()
) -> Iterator[None]:
    """Serve ``client``'s figures while the block runs; nothing without ``settings``.

    ``links``: what else the service is connected to.
    A port that cannot be had is said, and no more: a doorbell rings without its figures.
    """
    if settings is None:
        yield
        return
    try:
        server = HttpServer(settings.host, settings.port, application(client, links))
    except OSError as error:
        log.error("no metrics: cannot listen on %s: %s", settings, error.strerror or error)
        yield
        return
    say(f"metrics at {settings.url(server.port)}")
    try:
        yield
    finally:
        server.close()


def application(
    client: Any, links: Iterable[OtherLink] = ()
) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """``/metrics`` of ``client`` and of this process, as a WSGI application."""
    from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

    from .collector import ClientCollector, LinkCollector

    registry = CollectorRegistry()
    registry.register(ClientCollector(client))
    for link in links:
        registry.register(LinkCollector(link.name, link.what, client.peer_id, link.online))
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
