"""A client's figures as Prometheus wants them, read when asked: no call pays for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ...states import ConnectionState

_COUNTERS = {
    "sent": "invitations sent",
    "rang": "invitations that rang here",
    "missed": "calls missed",
    "turned_away": "invitations that were too many",
    "resends": "cells said again",
    "connects": "connections to a broker",
}


class Client(Protocol):
    """What is asked of a client: either face has it."""

    peer_id: str

    @property
    def connection_state(self) -> ConnectionState:
        """How it stands with its broker."""

    @property
    def broker(self) -> str:
        """Which one that is."""

    @property
    def stats(self) -> dict[str, Any]:
        """What it counted since its login."""


class ClientCollector(Collector):
    """``bellwire_peer_…``: link, calls by end, and how long until it rang; each with the peer.

    Counters begin anew with each login, which Prometheus takes for a restart.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def collect(self) -> Iterable[Metric]:
        """One family for each figure; those of calls once it has logged in."""
        client = self._client
        peer = client.peer_id
        yield _gauge("online", "1 while it is logged in and linked", [peer],
                     client.connection_state is ConnectionState.CONNECTED)  # fmt: skip
        info = GaugeMetricFamily(
            "bellwire_peer_info", "which broker it is at", labels=["peer", "broker"]
        )
        info.add_metric([peer, client.broker], 1)
        yield info
        stats = client.stats
        if not stats:
            return
        for name, what in _COUNTERS.items():
            family = CounterMetricFamily(f"bellwire_peer_{name}", what, labels=["peer"])
            family.add_metric([peer], stats[name])
            yield family
        ends = CounterMetricFamily(
            "bellwire_peer_calls_ended",
            "calls by how they ended; local: made here",
            labels=["peer", "side", "end"],
        )
        for side, counted in stats["calls"].items():
            for end, count in counted.items():
                ends.add_metric([peer, side, end], count)
        yield ends
        drops = CounterMetricFamily(
            "bellwire_peer_dropped", "messages that were dropped", labels=["peer", "cause"]
        )
        for cause, count in stats["drops"].items():
            drops.add_metric([peer, cause], count)
        yield drops
        yield _until_it_rang(peer, stats)


class LinkCollector(Collector):
    """A gauge ``name`` of another link that a service has: 1 while ``online`` says so."""

    def __init__(self, name: str, what: str, peer: str, online: Callable[[], bool]) -> None:
        self._name, self._what, self._peer, self._online = name, what, peer, online

    def collect(self) -> Iterable[Metric]:
        """One figure."""
        family = GaugeMetricFamily(self._name, self._what, labels=["peer"])
        family.add_metric([self._peer], self._online())
        yield family


def _gauge(name: str, what: str, labels: list[str], value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"bellwire_peer_{name}", what, labels=["peer"])
    family.add_metric(labels, value)
    return family


def _until_it_rang(peer: str, stats: dict[str, Any]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "bellwire_peer_ring_seconds",
        "from an invitation's sending to the callee's first word: it rings",
        labels=["peer"],
    )
    counted = stats["round_trip_ms"]
    bounds = [*(str(int(bound) / 1000) for bound in counted if bound != "inf"), "+Inf"]
    buckets = zip(bounds, accumulate(counted.values()), strict=True)
    family.add_metric([peer], list(buckets), stats["round_trip_seconds"])
    return family
