"""Metrics, health and status over HTTP, and logs: what is seen of a broker from outside."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from device_sdk.services.metrics.http_server import HttpServer, answer

from ..core.retained import NEARLY
from ..net.server import SignalingBroker

logger = logging.getLogger(__name__)

#: Seconds that the event loop may take to answer before it counts as stuck.
_PATIENCE = 2.0


def nearly_full(broker: SignalingBroker) -> list[str]:
    """A line for each share that is nearly full, of the whole or of a device."""
    limits = broker.limits
    kept = sum(not session.clean_session for session, _ in list(broker.sessions.values()))
    lines = [
        f"{used} of {limit} {what}"
        for used, limit, what in (
            (broker.connection_count, limits.connections, "connections"),
            (kept, limits.persistent_sessions, "persistent sessions"),
        )
        if used >= limit * NEARLY
    ]
    return lines + broker.core.retained.nearly_full()


def status(broker: SignalingBroker) -> dict[str, Any]:
    """The broker in figures."""
    stats, store = broker.stats, broker.store
    sessions = list(broker.sessions.values())
    return {
        "connections": broker.connection_count,
        "sessions": len(sessions),
        "persistent_sessions": sum(not session.clean_session for session, _ in sessions),
        "subscriptions": broker.subscription_count,
        "retained": len(broker.retained_messages),
        "retained_bytes": broker.core.retained.bytes,
        "nearly_full": nearly_full(broker),
        "messages_received": stats.messages_in,
        "messages_sent": stats.messages_out,
        "bytes_received": stats.bytes_in,
        "bytes_sent": stats.bytes_out,
        "accepted_connections": stats.connections,
        "takeovers": stats.takeovers,
        "wills_published": stats.wills,
        "keepalive_timeouts": stats.keepalive_timeouts,
        "janitor_cleared": stats.janitor_cleared,
        "refused": dict(stats.refused),
        "cut": dict(stats.cut),
        "dropped": dict(stats.dropped),
        "denied": dict(stats.denied),
        "store": None
        if store is None
        else {
            "commits": store.commits,
            "failures": store.failures,
            "seconds": round(store.seconds, 3),
            "refusing": store.refusing,
        },
    }


_GAUGES = ("connections", "sessions", "persistent_sessions", "subscriptions", "retained")
_COUNTERS = (
    "messages_received", "messages_sent", "bytes_received", "bytes_sent", "accepted_connections",
    "takeovers", "wills_published", "keepalive_timeouts", "janitor_cleared",
)  # fmt: skip
_BY_CAUSE = ("refused", "cut", "dropped", "denied")


class BrokerCollector(Collector):
    """The figures as Prometheus wants them, read when asked: no message pays for it."""

    def __init__(self, broker: SignalingBroker) -> None:
        self._broker = broker

    def collect(self) -> Iterable[Metric]:
        """One family for each figure."""
        figures = status(self._broker)
        for name in _GAUGES:
            yield GaugeMetricFamily(f"bellwire_{name}", name.replace("_", " "), figures[name])
        for name in _COUNTERS:
            yield CounterMetricFamily(f"bellwire_{name}", name.replace("_", " "), figures[name])
        for name in _BY_CAUSE:
            family = CounterMetricFamily(f"bellwire_{name}", f"{name}, by cause", labels=["cause"])
            for cause, count in figures[name].items():
                family.add_metric([cause], count)
            yield family
        store = figures["store"]
        if store is not None:
            for name in ("commits", "failures", "seconds"):
                yield CounterMetricFamily(f"bellwire_store_{name}", f"store {name}", store[name])
            yield GaugeMetricFamily(
                "bellwire_store_refusing", "1 while the disk takes nothing", store["refusing"]
            )


class MetricsServer:
    """An HTTP server in a thread: /metrics, /healthz, /status."""

    def __init__(self, broker: SignalingBroker, host: str, port: int) -> None:
        self._broker = broker
        registry = CollectorRegistry()
        registry.register(BrokerCollector(broker))
        ProcessCollector(registry=registry)
        self._metrics: Callable[..., Any] = make_wsgi_app(registry)
        self._server = HttpServer(host, port, self._answer)
        self.port = self._server.port

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    def _healthy(self) -> str | None:
        """What is wrong, if anything: asked of the event loop itself."""
        turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._broker.loop)
        try:
            turn.result(_PATIENCE)
        except TimeoutError:
            turn.cancel()
            return f"the event loop did not turn within {_PATIENCE:.0f} s"
        store = self._broker.store
        if store is not None and store.refusing:
            return f"{store.path} cannot be written"
        if self._broker.troubles:
            return "; ".join(self._broker.troubles)
        return None

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            start("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return [b""]
        if path == "/metrics":
            return self._metrics(environ, start)  # type: ignore[no-any-return] # a WSGI app's body
        kind, line = "text/plain; charset=utf-8", "200 OK"
        if path == "/healthz":
            wrong = self._healthy()
            line, body = ("200 OK", "ok") if wrong is None else ("503 Service Unavailable", wrong)
            if wrong is None and (full := nearly_full(self._broker)):
                body = "ok, but nearly full: " + "; ".join(full)  # it serves: no reason to restart
        elif path == "/status":
            kind, body = "application/json", json.dumps(status(self._broker))
        else:
            line, body = "404 Not Found", "there are /metrics, /healthz and /status"
        return answer(start, body, line, kind)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with its time in UTC."""
        moment = time.gmtime(record.created)
        line: dict[str, Any] = {
            "t": f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _in_one_line(record: logging.LogRecord) -> bool:
    """A browser or a scanner at the WebSocket port is no fault of ours: a line, no traceback."""
    if record.exc_info:
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg = "what came to the WebSocket port is no WebSocket client: %s"
        record.args = (record.exc_info[1],)
        record.exc_info = record.exc_text = None
        return logging.getLogger().isEnabledFor(logging.INFO)
    return True


def start_logging(form: str, level: str) -> None:
    """Log to standard error. Payloads, passwords and CONNECT packets are never logged."""
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # amqtt's own debug lines show CONNECT with its password: never below info.
    for name in ("amqtt", "websockets", "transitions"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("websockets.server").addFilter(_in_one_line)
    # It warns of what others send, which is not ours to mend; mdns says what matters.
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
