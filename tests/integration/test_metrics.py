"""`/metrics` of the services and of the broker, and the dashboard that shows them."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import ProcessCollector
from prometheus_client.registry import Collector

from broker_config.admin.metrics import BrokerCollector
from device_sdk.client.threaded import SignalingClient
from device_sdk.services.config.account import Account
from device_sdk.services.config.metrics import MetricsSettings
from device_sdk.services.doctor.check import examine
from device_sdk.services.doctor.fault import Fault
from device_sdk.services.doctor.patient import Patient
from device_sdk.services.metrics.collector import ClientCollector
from device_sdk.services.metrics.window import serving
from tests.broker_support.running import Running
from tests.integration.test_pi_services import BUTTON, PANEL, make_service  # noqa: F401 - a fixture
from tests.servers import free_port

DASHBOARD = Path(__file__).resolve().parents[2] / "examples" / "grafana.json"
METRICS = '[metrics]\nlisten = "0"\n'


def read(url: str, method: str = "GET") -> str:
    request = urllib.request.Request(url, method=method)  # noqa: S310 - http, of this machine
    with urllib.request.urlopen(request, timeout=10) as page:  # noqa: S310 - as above
        return str(page.read().decode())


def samples(text: str) -> dict[str, float]:
    """Values by name and labels, as the format has them."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_a_press_is_seen(make_service):  # noqa: F811
    """How long until it rang, how it ended, and the link, at both ends; nothing but /metrics."""
    panel = make_service("panel", "kitchen", PANEL + METRICS)
    at_panel = panel.expect("metrics at http://127.0.0.1:").split()[-1]
    panel.expect("online as kitchen")
    bell = make_service("doorbell", "front-door", BUTTON + METRICS)
    at_bell = bell.expect("metrics at http://127.0.0.1:").split()[-1]
    bell.expect("online as front-door")
    bell.key()
    panel.expect("front-door rings")
    panel.key("refuse")
    bell.expect("door: refused by kitchen")
    panel.expect("call of front-door: refused")
    made, rang = samples(read(at_bell)), samples(read(at_panel))
    door = '{peer="front-door"}'
    assert made[f"bellwire_peer_online{door}"] == 1
    assert made[f"bellwire_peer_sent_total{door}"] == 1
    assert made[f"bellwire_peer_ring_seconds_count{door}"] == 1
    assert 0 < made[f"bellwire_peer_ring_seconds_sum{door}"] < 10
    assert made['bellwire_peer_ring_seconds_bucket{le="+Inf",peer="front-door"}'] == 1
    ended = 'bellwire_peer_calls_ended_total{end="declined",peer="%s",side="%s"}'
    assert made[ended % ("front-door", "local")] == 1
    assert rang[ended % ("kitchen", "remote")] == 1
    assert rang['bellwire_peer_rang_total{peer="kitchen"}'] == 1
    with pytest.raises(urllib.error.HTTPError, match="404"):
        read(at_bell.removesuffix("metrics"))
    with pytest.raises(urllib.error.HTTPError, match="405"):
        read(at_bell, "POST")


def test_a_port_that_is_taken_stops_no_doorbell(make_service):  # noqa: F811
    """It is said, and it rings."""
    panel = make_service("panel", "kitchen", PANEL + METRICS)
    port = panel.expect("metrics at ").rpartition(":")[2].partition("/")[0]
    panel.expect("online as kitchen")
    bell = make_service("doorbell", "front-door", f'{BUTTON}[metrics]\nlisten = "{port}"\n')
    bell.expect(f"no metrics: cannot listen on 127.0.0.1:{port}: Address already in use")
    bell.expect("online as front-door")
    bell.key()
    panel.expect("front-door rings")


def test_the_doctor_looks_for_them(bundled_broker):
    """Whether the port is free before the service runs, and that it answers when it does."""
    account = Account("front-door", bundled_broker.url)
    port = free_port()
    metrics = MetricsSettings("127.0.0.1", port)

    def told(runs: bool) -> str:
        service = (lambda: ("bellwire-doorbell", "online as x")) if runs else lambda: None
        asked = Patient(account, metrics=metrics, browse=list, service=service)
        return list(examine(asked))[-1]

    assert told(False) == f"metrics: http://127.0.0.1:{port}/metrics, once the service runs"
    with pytest.raises(Fault, match=f"metrics: nothing answers at http://127.0.0.1:{port}/metrics"):
        told(True)
    with serving(metrics, SignalingClient("front-door", bundled_broker.url)):
        assert told(True) == f"metrics: http://127.0.0.1:{port}/metrics"
        with pytest.raises(Fault, match=f"metrics: 127.0.0.1:{port} cannot be listened on"):
            told(False)


def asked_for() -> set[str]:
    """The figures in the dashboard's questions, those of its variables among them."""
    dashboard = json.loads(DASHBOARD.read_text())
    questions = [each["expr"] for panel in dashboard["panels"] for each in panel.get("targets", ())]
    questions += [str(each.get("definition", "")) for each in dashboard["templating"]["list"]]
    return {name for text in questions for name in re.findall(r"\b(?:bellwire|process)_\w+", text)}


def names_of(collector: Collector) -> set[str]:
    """The names of all samples that its families have, or will have."""
    suffixes = {
        "counter": ("_total",),
        "histogram": ("_bucket", "_sum", "_count"),
        "gauge": ("",),
    }
    return {
        family.name + suffix for family in collector.collect() for suffix in suffixes[family.type]
    }


def test_every_figure_of_the_dashboard_is_there(tmp_path):
    """A panel that asks for a name that nobody has is empty for ever, and nobody is told."""
    with (
        Running(store=tmp_path / "kept.sqlite3") as broker,
        SignalingClient("kitchen", f"mqtt://127.0.0.1:{broker.port}") as client,
    ):
        there = names_of(ClientCollector(client)) | names_of(BrokerCollector(broker.broker))
    there |= names_of(ProcessCollector(registry=None))
    asked = asked_for()
    assert {"bellwire_peer_ring_seconds_bucket", "bellwire_store_refusing"} <= asked
    assert asked <= there
    documented = (DASHBOARD.parents[1] / "docs" / "metrics.md").read_text()
    assert (
        set(re.findall(r"`(bellwire_peer_\w+)`", documented)) - {"bellwire_peer_ring_seconds"}
        <= there
    )
