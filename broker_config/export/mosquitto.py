"""mosquitto 2: one alone, or two with a bridge (mosquitto.conf(5))."""

from __future__ import annotations

from ..access.hashes import pbkdf2_sha512
from .site import FAIL_OVER, LARGEST_PAYLOAD, BrokerNode, Site, check_nodes

#: The bridge's user on the first node; no escaped peer id has a dot.
_BRIDGE = "bridge.2"
_CONF = """\
# Written by `bellwire-broker export`; what is changed here is lost at the next export.
# Started in this directory: all paths are relative to it.
user {owner}
listener {port} {bound}
{access}
# Without it Nagle's algorithm adds 44 ms to every QoS 1 hop.
set_tcp_nodelay true
message_size_limit {largest}
max_inflight_messages 0
max_queued_messages {queue}
max_keepalive 3600
# Retained messages are kept; the newest seconds may be lost, and are said again by the devices.
persistence true
persistence_location data/
autosave_interval 10
persistent_client_expiration 1d
log_dest stderr
log_type error
log_type warning
log_type notice
"""
_TLS = """\
certfile tls/server.crt
keyfile tls/server.key
allow_anonymous false
password_file passwords
acl_file acl"""
_BRIDGED = """
# In both directions; each node holds all retained messages. With QoS 0, for mosquitto sets no
# TCP_NODELAY on the connection that it makes itself, and Nagle's algorithm holds up for 40 ms what
# follows a PUBACK there. A break loses what is on its way with either: devices say it again.
connection bellwire
address {host}:{port}
topic {topics} both 0
bridge_protocol_version mqttv311
cleansession true
try_private true
notifications false
keepalive_interval 5
restart_timeout 1 2
remote_clientid {user}
local_clientid {user}.local
"""
_BRIDGE_TLS = """\
remote_username {user}
remote_password {secret}
bridge_cafile tls/ca.crt
"""


def mosquitto(site: Site) -> dict[str, str]:
    """The files of one mosquitto, by their names."""
    check_nodes("mosquitto", site.nodes, (1,))
    return {
        **_node(site, site.nodes[0], "node1/"),
        "README.md": "Run it as the user whose these files are (`user` in mosquitto.conf):\n\n"
        "    cd node1 && mosquitto -c mosquitto.conf\n\n"
        "Devices: what account.toml says; after another export: kill -HUP.\n",
        "account.toml": site.account(),
    }


def bridge(site: Site) -> dict[str, str]:
    """The files of two mosquittos, the second of which has a bridge to the first."""
    check_nodes("mosquitto-bridge", site.nodes, (2,))
    first, second = site.nodes
    shared = "#" if site.users is None else f"{site.realm}/#"
    link = _BRIDGED.format(host=first.host, port=first.port, topics=shared, user=_BRIDGE)
    if site.users is not None:
        link += _BRIDGE_TLS.format(user=_BRIDGE, secret=site.peer_secret)
    files = {
        **_node(site, first, "node1/", bridged=True),
        **_node(site, second, "node2/", link, bridged=True),
        "README.md": "Copy each node's directory to its host, and run it as the files' owner:\n\n"
        "    cd nodeN && mosquitto -c mosquitto.conf\n\n"
        "Devices: what account.toml says; after another export: kill -HUP.\n",
        "account.toml": site.account(accept_timeout=FAIL_OVER),
    }
    if site.users is not None:
        files["node1/passwords"] += f"{_BRIDGE}:{pbkdf2_sha512(site.peer_secret)}\n"
        files["node1/acl"] += f"\nuser {_BRIDGE}\ntopic readwrite {site.realm}/#\n"
    return files


def _node(
    site: Site, node: BrokerNode, folder: str, more: str = "", *, bridged: bool = False
) -> dict[str, str]:
    conf = _CONF.format(
        owner=site.owner,
        port=node.port,
        bound=node.bound,
        access="allow_anonymous true" if site.users is None else _TLS,
        largest=LARGEST_PAYLOAD,
        queue=100_000 if bridged else 1000,  # of QoS 0 more than that would be dropped
    )
    files = {f"{folder}mosquitto.conf": conf + more, f"{folder}data/": ""}
    if site.users is not None:
        files[f"{folder}passwords"] = "".join(f"{u.name}:{u.pbkdf2}\n" for u in site.users)
        # mosquitto grants every SUBSCRIBE and goes by `read` at each delivery.
        files[f"{folder}acl"] = "\n".join(
            "\n".join(
                [
                    f"user {user.name}",
                    *(f"topic write {each}" for each in user.publish),
                    *(f"topic read {each}" for each in user.subscribe),
                    "",
                ]
            )
            for user in site.users
        )
    return files
