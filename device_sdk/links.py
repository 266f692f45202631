"""Links: how a face comes by one, and what it does with one."""

from __future__ import annotations

import os
from pathlib import Path

from . import topics
from .effects import Publish, Subscribe, Unsubscribe
from .errors import InvalidArgument
from .session import SessionEffect
from .text_file import TextFileError, read_secret
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
        if value is not None and not _fits(value):
            raise InvalidArgument(name, "at most 65535 bytes of UTF-8, no NUL (MQTT 3.1.1, 1.5.3)")
    if tls is not None and not url.tls:
        file = next((n for n in Tls._fields if n != "context" and getattr(tls, n)), "tls")
        raise InvalidArgument(file, f"{url} is not encrypted: say mqtts:// or wss://")
    if username is None and password is not None:
        username = topics.escape(peer_id)
    context = (tls or Tls()).make_context() if url.tls else None

    def make(will: Will) -> Link:
        from .paho_transport import PahoLink

        return PahoLink(
            url,
            will.client_id,
            will,
            keepalive=keepalive,
            username=username,
            password=password,
            context=context,
        )

    return make


def _fits(value: str) -> bool:
    try:
        return len(value.encode()) <= 65535 and "\0" not in value
    except UnicodeEncodeError:
        return False


FileName = str | os.PathLike[str]


def chosen_secret(password: str | None, secret_file: FileName | None) -> str | None:
    """The secret itself, or that in the file, read now; raises :class:`InvalidArgument`."""
    if secret_file is None:
        return password
    if password is not None:
        raise InvalidArgument("secret_file", "password is given, too: one of the two")
    try:
        return read_secret(Path(secret_file))
    except (TextFileError, TypeError) as error:
        raise InvalidArgument("secret_file", str(error)) from None


def chosen_tls(
    ca_file: FileName | None, cert_file: FileName | None, key_file: FileName | None, tls: Tls | None
) -> Tls | None:
    """What the files say, or ``tls``; raises :class:`InvalidArgument` for both."""
    files = {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
    given = [name for name, value in files.items() if value is not None]
    if not given:
        return tls
    if tls is not None:
        raise InvalidArgument(given[0], "tls is given, too: name the files there, or all here")
    for name in given:
        if not isinstance(files[name], str | os.PathLike):
            raise InvalidArgument(name, f"a file name, not {type(files[name]).__name__}")
    ca, cert, key = (None if value is None else os.fspath(value) for value in files.values())
    return Tls(ca, cert, key)


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
