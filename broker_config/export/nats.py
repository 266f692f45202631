"""NATS with JetStream: a cluster that speaks MQTT (docs.nats.io, MQTT and authorization)."""

from __future__ import annotations

import json

from .site import FAIL_OVER, LARGEST_PAYLOAD, BrokerNode, Site, check_nodes

_CONF = """\
# Written by `bellwire-broker export`; what is changed here is lost at the next export.
# Started in this directory: all paths are relative to it.
server_name: "bellwire-{number}"
# NATS's own protocol is not used, and has to listen somewhere.
listen: "127.0.0.1:-1"
max_payload: {payload}
write_deadline: "5s"
# A node that no longer answers the others is noticed in some seconds.
ping_interval: "3s"
ping_max: 2
jetstream {{ store_dir: "data", max_memory_store: 256MB, max_file_store: 4GB }}
mqtt {{
  listen: "{bound}:{port}"
  # Retained messages and wills are on three nodes, and outlive the loss of any one.
  stream_replicas: 3
  consumer_memory_storage: true
  consumer_inactive_threshold: "5m"
  # What is asked while there is no leader is never answered: given up, it is asked anew.
  js_api_timeout: "2s"
  ack_wait: "30s"
  max_ack_pending: 1000
{mqtt_tls}}}
cluster {{
  name: "bellwire"
  listen: "{bound}:{cluster_port}"
  routes: [{routes}]
  authorization {{ user: "node", password: "{secret}", timeout: 5 }}
{cluster_tls}}}
"""
_MQTT_TLS = """\
  tls { cert_file: "tls/server.crt", key_file: "tls/server.key", timeout: 5 }
"""
_CLUSTER_TLS = """\
  tls { cert_file: "tls/server.crt", key_file: "tls/server.key", ca_file: "tls/ca.crt", timeout: 5 }
"""


def nats(site: Site) -> dict[str, str]:
    """The files of a cluster, by their names."""
    check_nodes("nats", site.nodes, (3, 5))
    secured = site.users is not None
    files = {
        "README.md": "Copy each node's directory to its host, and run all, as the files' owner:\n\n"
        "    cd nodeN && nats-server -c nats.conf\n\n"
        "Devices: what account.toml says.\n",
        "account.toml": site.account(subscribe_qos=0, accept_timeout=FAIL_OVER),
    }
    for number, node in enumerate(site.nodes, 1):
        conf = _CONF.format(
            number=number,
            bound=node.bound,
            port=node.port,
            cluster_port=node.port + 1,
            payload=2 * LARGEST_PAYLOAD,
            routes=", ".join(_route(site, each) for each in site.nodes),
            secret=site.peer_secret,
            mqtt_tls=_MQTT_TLS if secured else "",
            cluster_tls=_CLUSTER_TLS if secured else "",
        )
        files[f"node{number}/data/"] = ""
        if secured:
            conf += 'include "users.conf"\n'
            files[f"node{number}/users.conf"] = _users(site)
        files[f"node{number}/nats.conf"] = conf
    return files


def _route(site: Site, node: BrokerNode) -> str:
    return json.dumps(f"nats-route://node:{site.peer_secret}@{node.host}:{node.port + 1}")


def _users(site: Site) -> str:
    lines = ["authorization { users: ["]
    for user in site.users or ():
        subscribe = [*user.subscribe, "$MQTT/sub/#"]  # of the server itself, for QoS 1
        lines.append(
            f"  {{ user: {json.dumps(user.name)}, password: {json.dumps(user.bcrypt)}, "
            'allowed_connection_types: ["MQTT"], permissions: {\n'
            f"    publish: {{ allow: {_subjects(user.publish)} }}\n"
            f"    subscribe: {{ allow: {_subjects(subscribe)} }} }} }}"
        )
    return "\n".join([*lines, "] }", ""])


def _subjects(filters: tuple[str, ...] | list[str]) -> str:
    """MQTT filters as NATS subjects; what ``a/#`` is there is ``a`` and ``a.>``."""
    found = []
    for each in filters:
        subject = each.replace("/", ".").replace("+", "*")
        if subject.endswith(".#"):
            found.append(subject.removesuffix(".#"))
            subject = subject.removesuffix("#") + ">"
        found.append(subject)
    return json.dumps(found)
