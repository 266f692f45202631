"""Links: how a face comes by one, and what it does with one."""

from __future__ import annotations

from . import topics
from .effects import Publish, Subscribe, Unsubscribe
from .errors import InvalidArgument
from .session import SessionEffect
from .transport import BrokerUrl, Link, LinkFactory, Tls, Will


def paho_links(
    peer_id: str,
    broker: str,
    username: str | None,
    password: str | None,
    tls: Tls | None,
    keepalive: int,
) -> LinkFactory:
    """What makes links to ``broker`` by paho-mqtt; raises :class:`InvalidArgument`."""
    url = BrokerUrl.parse(broker)
    for name, value in (("username", username), ("password", password)):
        if value is not None and not isinstance(value, str):
            raise InvalidArgument(name, f"a string, not {type(value).__name__}")
    if tls is not None and not url.tls:
        raise InvalidArgument("tls", f"{url} is not encrypted: say mqtts:// or wss://")
    client_id = topics.escape(peer_id)
    if username is None and password is not None:
        username = client_id
    context = (tls or Tls()).make_context() if url.tls else None

    def make(will: Will) -> Link:
        from .paho_transport import PahoLink

        return PahoLink(
            url,
            client_id,
            will,
            keepalive=keepalive,
            username=username,
            password=password,
            context=context,
        )

    return make


def carry_out(effect: SessionEffect, link: Link | None) -> bool:
    """Do what concerns the link alone; whether it was that. Without a link it is dropped."""
    if isinstance(effect, Publish):
        if link is not None:
            link.publish(effect.topic, effect.payload, effect.token)
    elif isinstance(effect, Subscribe):
        if link is not None:
            link.subscribe(effect.filters)
    elif isinstance(effect, Unsubscribe):
        if link is not None:
            link.unsubscribe(effect.filters)
    else:
        return False
    return True
