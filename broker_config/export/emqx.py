"""EMQX 5: written by its documentation, and never started here: it is in no package list.

docs.emqx.com: Configuration Manual; Use Built-in Database; File (authorization).
"""

from __future__ import annotations

from .site import FAIL_OVER, LARGEST_PAYLOAD, Site, check_nodes

_CONF = """\
# Written by `bellwire-broker export`, by EMQX's documentation; NOT TESTED with an EMQX.
# Its directory is /etc/emqx on each node; node.name there is emqx@HOST.
node {{ name = "emqx@{host}", cookie = "{secret}", data_dir = "/var/lib/emqx" }}
cluster {{ name = bellwire, discovery_strategy = static, static {{ seeds = [{seeds}] }} }}
listeners.tcp.default {{ {plain} }}
listeners.ws.default {{ enable = false }}
listeners.wss.default {{ enable = false }}
listeners.ssl.default {{
  {secure}
}}
mqtt {{
  max_packet_size = "{packet}KB"
  max_inflight = 1024
  retain_available = true
  wildcard_subscription = true
}}
retainer {{
  enable = true
  max_payload_size = "{packet}KB"
  msg_expiry_interval = "0s"
  backend {{ type = built_in_database, storage_type = disc, max_retained_messages = 0 }}
}}
dashboard {{ listeners.http {{ bind = "127.0.0.1:18083" }} }}
{access}"""
_ACCESS = """\
authentication = [
  {
    mechanism = password_based
    backend = built_in_database
    user_id_type = username
    password_hash_algorithm { name = bcrypt, salt_rounds = 5 }
    bootstrap_file = "/etc/emqx/users.csv"
    bootstrap_type = hash
  }
]
authorization {
  sources = [ { type = file, enable = true, path = "/etc/emqx/acl.conf" } ]
  no_match = deny
  # What is dropped is acknowledged: closing would end the sender's link at each of its reconnects.
  deny_action = ignore
}
"""
_TLS = """\
enable = true
  bind = "{bound}:{port}"
  tcp_options {{ nodelay = true }}
  ssl_options {{ certfile = "/etc/emqx/tls/server.crt", keyfile = "/etc/emqx/tls/server.key" }}"""
#: Of a bcrypt hash, what EMQX wants apart as its salt: version, cost and 22 characters.
_SALT = 29


def emqx(site: Site) -> dict[str, str]:
    """The files of a cluster, by their names."""
    check_nodes("emqx", site.nodes, (1, 3, 5))
    files = {
        "README.md": "Written by EMQX's documentation and never run by us: try it before you trust "
        "it.\n\n    cp -r nodeN/. /etc/emqx/ && systemctl restart emqx\n\n"
        "On each host its own nodeN. Devices: what account.toml says. EMQX reads users.csv for "
        "users that it does not know: after `device rotate` or `device remove` delete the user in "
        "its dashboard (Authentication) before the restart, or the old secret still opens.\n",
        "account.toml": site.account(accept_timeout=FAIL_OVER),
    }
    seeds = ", ".join(f'"emqx@{node.host}"' for node in site.nodes)
    for number, node in enumerate(site.nodes, 1):
        listener = (
            f'enable = true, bind = "{node.bound}:{node.port}", tcp_options {{ nodelay = true }}'
        )
        open_to_all = site.users is None
        files[f"node{number}/emqx.conf"] = _CONF.format(
            host=node.host,
            secret=site.peer_secret,
            seeds=seeds,
            packet=2 * LARGEST_PAYLOAD // 1024,
            plain=listener if open_to_all else "enable = false",
            secure="enable = false"
            if open_to_all
            else _TLS.format(bound=node.bound, port=node.port),
            access="" if open_to_all else _ACCESS,
        )
        if site.users is not None:
            files[f"node{number}/users.csv"] = (
                "user_id,password_hash,salt,is_superuser\n"
                + "".join(
                    f"{user.name},{user.bcrypt},{user.bcrypt[:_SALT]},false\n"
                    for user in site.users
                )
            )
            files[f"node{number}/acl.conf"] = _acl(site)
    return files


def _acl(site: Site) -> str:
    lines = []
    for user in site.users or ():
        for action, filters in (("publish", user.publish), ("subscribe", user.subscribe)):
            topics = ", ".join(f'"{each}"' for each in filters)
            lines.append(f'{{allow, {{username, "{user.name}"}}, {action}, [{topics}]}}.')
    return "\n".join([*lines, "{deny, all}.", ""])
